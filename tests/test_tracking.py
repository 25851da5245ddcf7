"""Runs in a real MLflow store."""

import contextlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import mlflow
import numpy as np
import pandas as pd
import pytest
import tiny

from forecastlib.config import RunConfig
from forecastlib.data.prices import fingerprint
from forecastlib.errors import TrackingError
from forecastlib.paths import file_lock
from forecastlib.tracking import runs


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Create one store for all tests that can share it: creating one takes seconds."""
    with tiny.home(tmp_path_factory.mktemp("project")) as folder:
        runs.connect()
        yield folder


@pytest.fixture(scope="module")
def empty_database(tmp_path_factory):
    """Return a database with MLflow's tables and without our experiment: creating the tables takes seconds."""
    file = tmp_path_factory.mktemp("empty") / "mlflow.db"
    mlflow.MlflowClient(f"sqlite:///{file}").search_experiments()
    return file


@pytest.fixture
def project(empty_database):
    """Return a function that works in a project with an empty store."""

    def make(folder):
        (folder / "mlruns").mkdir(parents=True)
        shutil.copy(empty_database, folder / "mlruns" / "mlflow.db")
        return tiny.home(folder)

    return make


@pytest.fixture
def home(tmp_path):
    with tiny.home(tmp_path):
        yield tmp_path


def get(run_id):
    return mlflow.MlflowClient().get_run(run_id)


# The store


def test_the_store_is_created_in_a_root_that_does_not_exist_yet(tmp_path):
    (tmp_path / "new").mkdir()
    with tiny.home(tmp_path / "new") as folder:
        os.chdir(tmp_path)
        folder.rmdir()
        client = runs.connect()
        assert (folder / "mlruns" / "mlflow.db").is_file()
        experiment = client.get_experiment_by_name(runs.EXPERIMENT)
        assert experiment.artifact_location == (folder / "mlruns" / "artifacts").as_uri()
        assert runs.experiment_id(client) == experiment.experiment_id
        assert runs.experiment_ids(client) == [experiment.experiment_id]


def test_connecting_leaves_the_working_directory_as_it_is(project, tmp_path, monkeypatch):
    (tmp_path / "work").mkdir()
    with project(tmp_path / "my project #1") as folder:
        monkeypatch.chdir(tmp_path / "work")
        with runs.run("some", {}) as run_id:
            mlflow.log_text("hello", "note.txt")
        assert Path.cwd() == tmp_path / "work"
        assert not any(Path.cwd().iterdir())
        assert [path.read_text() for path in (folder / "mlruns" / "artifacts").rglob("note.txt")] == ["hello"]
        monkeypatch.chdir(tmp_path)
        assert mlflow.artifacts.load_text(f"{get(run_id).info.artifact_uri}/note.txt") == "hello"


def note(text):
    with runs.run("some", {}) as run_id:
        mlflow.log_text(text, "note.txt")
    return run_id


def names_of_experiments():
    return {experiment.name for experiment in mlflow.MlflowClient().search_experiments()} - {"Default"}


def test_a_moved_store_writes_new_artifacts_beside_the_database(project, tmp_path, caplog):
    before, after = tmp_path / "before", tmp_path / "after"
    with project(before):
        first = note("one")
        location = runs.artifacts_folder().as_uri()
        os.chdir(tmp_path)
        before.rename(after)
    with tiny.home(after):
        second = note("two")
        assert names_of_experiments() == {"forecastlib", f"forecastlib ({location})"}
        assert f"earlier runs are in the experiment 'forecastlib ({location})'" in caplog.text
        assert sorted(path.read_text() for path in after.rglob("note.txt")) == ["one", "two"]
        assert not before.exists()
        client = runs.connect()
        found = client.search_runs(runs.experiment_ids(client))
        assert {run.info.run_id for run in found} == {first, second}
        moved = runs.moved_artifacts(client, first, f"{get(first).info.artifact_uri}/note.txt")
        assert moved.read_text() == "one"
        os.chdir(tmp_path)
        after.rename(before)
    with tiny.home(before):
        note("three")  # back again, so in the first experiment
        assert {run.info.run_name for run in client.search_runs([runs.experiment_id(runs.connect())])} == {"some"}
        assert runs.connect().get_experiment_by_name("forecastlib").artifact_location == location
        assert len(names_of_experiments()) == 2


def test_a_symbolic_link_at_the_old_path_keeps_a_moved_store_unchanged(project, tmp_path):
    before, after = tmp_path / "before", tmp_path / "after"
    with project(before):
        first = note("one")
        os.chdir(tmp_path)
        before.rename(after)
        before.symlink_to(after)
    with tiny.home(after):
        note("two")
        assert names_of_experiments() == {"forecastlib"}
        assert mlflow.artifacts.load_text(f"{get(first).info.artifact_uri}/note.txt") == "one"
        assert len(list(after.rglob("note.txt"))) == 2


def test_an_experiment_of_the_first_edition_is_renamed_and_a_new_one_created(project, tmp_path, monkeypatch):
    (tmp_path / "work").mkdir()
    with project(tmp_path / "project") as folder:
        first = note("one")
        tiny.make_locations_relative(folder / "mlruns" / "mlflow.db", folder / "mlruns" / "artifacts")
        monkeypatch.chdir(tmp_path / "work")
        second = note("two")
        assert names_of_experiments() == {"forecastlib", "forecastlib (mlruns/artifacts)"}
        assert len(list(folder.rglob("note.txt"))) == 2
        assert not any(Path.cwd().iterdir())
        client = runs.connect()
        found = client.search_runs(runs.experiment_ids(client))
        assert {run.info.run_id for run in found} == {first, second}
        assert runs.moved_artifacts(client, first, f"{get(first).info.artifact_uri}/note.txt").read_text() == "one"


def test_an_experiment_that_the_user_created_stays_where_it_is(project, tmp_path):
    with project(tmp_path):
        mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/mlruns/mlflow.db")
        mlflow.create_experiment(runs.EXPERIMENT, artifact_location=(tmp_path / "elsewhere").as_uri())
        note("here")
        assert names_of_experiments() == {"forecastlib"}
        assert len(list((tmp_path / "elsewhere").rglob("note.txt"))) == 1


def test_connecting_again_opens_the_same_store(store, tmp_path):
    first = runs.experiment_id(runs.connect())
    assert "MLFLOW_TRACKING_URI" not in os.environ
    assert runs.experiment_id(runs.connect()) == first
    assert mlflow.get_tracking_uri() == f"sqlite:///{store}/mlruns/mlflow.db"


def test_connecting_again_takes_no_lock(store, monkeypatch):
    runs.connect()
    monkeypatch.setattr(runs, "file_lock", lambda file: file_lock(file, timeout=0.0))
    with file_lock(store / "mlruns" / "mlflow.lock"):
        runs.connect()
        monkeypatch.setattr(runs, "_opened", set())
        with pytest.raises(TimeoutError):
            runs.connect()


def test_a_tracking_uri_of_the_environment_is_respected(tmp_path, monkeypatch, home):
    uri = f"sqlite:///{tmp_path}/elsewhere/runs.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    with runs.run("some", {}) as run_id:
        mlflow.log_text("hello", "note.txt")
    assert mlflow.get_tracking_uri() == uri
    assert (tmp_path / "elsewhere" / "runs.db").is_file()
    assert not (tmp_path / "mlruns").exists()
    assert list((tmp_path / "elsewhere" / "artifacts").rglob("note.txt"))
    monkeypatch.chdir(tmp_path)  # artifacts are found from anywhere
    assert mlflow.artifacts.load_text(f"{get(run_id).info.artifact_uri}/note.txt") == "hello"


def test_mlflow_sends_no_telemetry():
    code = "import forecastlib.workflows, mlflow.telemetry as t; print(t.get_telemetry_client())"
    environment = {
        k: v for k, v in os.environ.items() if k not in ("MLFLOW_DISABLE_TELEMETRY", "CI", "PYTEST_CURRENT_TEST")
    }
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "None"


@pytest.mark.slow
def test_four_processes_can_create_a_store_at_once(tmp_path):
    code = (
        "import mlflow; from forecastlib.tracking import runs\n"
        "with runs.run('one', {'of': 'four'}): mlflow.log_metric('x', 1.0)"
    )
    environment = os.environ | {"FORECASTLIB_HOME": str(tmp_path)}
    environment.pop("MLFLOW_TRACKING_URI", None)
    processes = [
        subprocess.Popen([sys.executable, "-c", code], env=environment, stderr=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    errors = [process.communicate(timeout=300)[1] for process in processes]
    assert [process.returncode for process in processes] == [0] * 4, errors
    with sqlite3.connect(tmp_path / "mlruns" / "mlflow.db") as database:
        statuses = database.execute("select status from runs").fetchall()
    assert statuses == [("FINISHED",)] * 4


# Runs


def test_a_run_has_its_name_and_tags_and_ends_finished(store):
    with runs.run("IXIC_train", {"symbol": "^IXIC"}) as run_id:
        assert get(run_id).info.status == "RUNNING"
    run = get(run_id)
    assert (run.info.status, run.info.run_name, run.data.tags["symbol"]) == ("FINISHED", "IXIC_train", "^IXIC")


def test_a_run_that_raises_is_left_failed(store):
    with pytest.raises(KeyError), runs.run("broken", {}) as run_id:
        raise KeyError("x")
    assert get(run_id).info.status == "FAILED"
    assert mlflow.active_run() is None


def test_a_run_inside_another_is_nested(store):
    with runs.run("outer", {}) as outer, runs.run("inner", {}) as inner:
        pass
    assert get(inner).data.tags["mlflow.parentRunId"] == outer
    assert {get(outer).info.status, get(inner).info.status} == {"FINISHED"}


def test_a_run_opened_by_a_notebook_runner_is_resumed(store, monkeypatch):
    client = runs.connect()
    opened = client.create_run(runs.experiment_id(client), run_name="of_the_runner").info.run_id
    monkeypatch.setenv(runs.RUN_VARIABLE, opened)
    with runs.run("another name", {"symbol": "^IXIC"}) as run_id:
        assert run_id == opened
    figure, axes = plt.subplots()
    axes.plot([1, 2])
    runs.log_figures({"line": figure})
    plt.close(figure)
    assert get(opened).info.run_name == "of_the_runner"
    assert [file.path for file in client.list_artifacts(opened, "figures")] == ["figures/line.png"]


def test_without_a_notebook_runner_figures_are_not_logged(store):
    figure = plt.figure()
    runs.log_figures({"nothing": figure})
    plt.close(figure)


def test_every_setting_is_logged_as_a_parameter_and_the_configuration_as_an_artifact(store):
    config = RunConfig.from_parameters(symbol="^GSPC", horizons=[5, 10], start="2010-01-04")
    with runs.run("config", {}) as run_id:
        runs.log_config(config)
    logged = get(run_id).data.params
    assert set(logged) == set(config.flat())
    assert (logged["symbol"], logged["horizons"], logged["start"]) == ("^GSPC", "[5, 10]", "2010-01-04")
    assert (logged["learning_rate"], logged["end"]) == ("0.001", "null")
    whole = json.loads(mlflow.artifacts.load_text(f"{get(run_id).info.artifact_uri}/config.json"))
    assert RunConfig(**whole) == config


def test_losses_are_logged_by_epoch_in_few_calls(store, monkeypatch):
    index = pd.RangeIndex(1, 401, name="epoch")
    history = pd.DataFrame({name: np.linspace(1, 0, 400) for name in ("loss", "val_loss", "other_loss")}, index=index)
    history.iloc[3, 0] = np.nan
    calls = []
    log_batch = mlflow.MlflowClient.log_batch
    with runs.run("history", {}) as run_id:
        monkeypatch.setattr(mlflow.MlflowClient, "log_batch", lambda *a, **k: calls.append(1) or log_batch(*a, **k))
        runs.log_history(run_id, history)
    assert len(calls) == 2
    for name, column in history.items():
        logged = mlflow.MlflowClient().get_metric_history(run_id, name)
        expected = column.dropna()
        assert [(metric.step, metric.value) for metric in logged] == list(expected.items())


def test_prices_are_logged_as_a_data_set_with_their_fingerprint(store):
    prices = tiny.prices()
    quality = pd.DataFrame({"check": ["gaps"], "count": [0]})
    with runs.run("data", {}) as run_id:
        runs.log_data(prices, quality)
    run = get(run_id)
    (used,) = run.inputs.dataset_inputs
    assert (used.dataset.name, used.dataset.digest) == ("^IXIC", fingerprint(prices))
    assert run.data.tags["data_fingerprint"] == fingerprint(prices)
    assert run.data.tags["data_source"] == "bundled"
    assert mlflow.artifacts.load_text(f"{run.info.artifact_uri}/quality.csv").splitlines() == ["check,count", "gaps,0"]


class TestStoresThatCannotBeUsed:
    """Each is reported in one line that says what to do."""

    @pytest.fixture
    def database(self, empty_database, tmp_path, monkeypatch):
        file = Path(shutil.copy(empty_database, tmp_path / "mlflow.db"))
        monkeypatch.setenv(runs.URI_VARIABLE, f"sqlite:///{file}")
        return file

    def test_an_experiment_that_was_deleted_can_be_restored(self, database):
        client = runs.connect()
        experiment = runs.experiment_id(client)
        client.delete_experiment(experiment)
        with pytest.raises(TrackingError, match=f"mlflow experiments restore --experiment-id {experiment} "):
            runs.connect()
        client.restore_experiment(experiment)
        runs.connect()

    def test_a_database_of_another_version_of_mlflow_is_to_be_upgraded(self, database):
        with contextlib.closing(sqlite3.connect(database)) as connection:
            connection.execute("UPDATE alembic_version SET version_num = 'cfd24bdc0731'")
            connection.commit()
        with pytest.raises(TrackingError, match=f"mlflow db upgrade sqlite:///{database}"):
            runs.connect()

    def test_a_server_that_cannot_be_reached_is_named_without_its_password(self, monkeypatch):
        monkeypatch.setenv(runs.URI_VARIABLE, "http://ann:hunter2@127.0.0.1:9")
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        with pytest.raises(
            TrackingError, match=r"store http://\*\*\*@127.0.0.1:9 cannot be used.*can be reached"
        ) as caught:
            runs.connect()
        assert "hunter2" not in str(caught.value) and "\n" not in str(caught.value)
