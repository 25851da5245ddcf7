"""Progress of a run, reported to another process."""

import json

from forecastlib.processes import PROGRESS_VARIABLE, read_progress, report_progress


def test_nothing_is_written_without_the_environment_variable(tmp_path, monkeypatch):
    monkeypatch.delenv(PROGRESS_VARIABLE, raising=False)
    monkeypatch.chdir(tmp_path)
    report_progress("epoch", epoch=1)
    assert list(tmp_path.iterdir()) == []


def test_events_are_read_in_the_order_in_which_they_were_reported(tmp_path, monkeypatch):
    file = tmp_path / "progress.jsonl"
    monkeypatch.setenv(PROGRESS_VARIABLE, str(file))
    assert read_progress(file) == []
    report_progress("run", run_id="abc")
    report_progress("epoch", epoch=1, epochs=2, loss=0.5)
    assert read_progress(file) == [
        {"event": "run", "run_id": "abc"},
        {"event": "epoch", "epoch": 1, "epochs": 2, "loss": 0.5},
    ]


def test_an_incomplete_last_line_is_ignored(tmp_path):
    file = tmp_path / "progress.jsonl"
    file.write_text(json.dumps({"event": "run"}) + '\n{"event": "ep', encoding="utf-8")
    assert read_progress(file) == [{"event": "run"}]
    file.write_text(json.dumps({"event": "run"}), encoding="utf-8")
    assert read_progress(file) == []
