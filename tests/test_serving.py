"""The routes of the service, with a real registry, ledger and models."""

import gc
import json
import math
import re
import resource
import shutil
import sqlite3
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd
import pytest
import tiny
from fastapi.testclient import TestClient
from mlflow.exceptions import MlflowException
from serving_project import PARAMETERS, client, settings

from forecastlib.data import calendars
from forecastlib.errors import ConfigError
from forecastlib.forecaster import Forecaster
from forecastlib.ledger import Ledger
from forecastlib.paths import file_lock
from forecastlib.serving import create_app, predictions, routes, serve
from forecastlib.serving.predictions import Predictor
from forecastlib.serving.problems import without_paths
from forecastlib.serving.schemas import PredictRequest, TrainRequest
from forecastlib.serving.service import is_loopback
from forecastlib.serving.settings import KeyFile, Settings
from forecastlib.tracking import registry, runs

SYMBOL = "^IXIC"


def predict(served, **body):
    return served.post("/predict", json={"symbol": SYMBOL} | body)


def problem(answer, status, error):
    """Check that a response reports this problem completely, with the id of its request; return its message."""
    content = answer.json()
    assert (answer.status_code, content["error"]) == (status, error), answer.text
    assert set(content) == {"error", "message", "details", "request_id"}
    assert content["request_id"] == answer.headers["X-Request-ID"] != ""
    return content["message"]


class TestPredict:
    def test_a_forecast_is_that_of_the_registered_model(self, served):
        answer = predict(served, date="2018-06-30", closes=3)
        assert answer.status_code == 200
        content = answer.json()
        expected = registry.load(SYMBOL).predict(tiny.prices(), "2018-06-29")
        got = pd.DataFrame(content["forecasts"])
        for name in ("horizon", "predicted_price", "change_pct", "lower_80", "upper_95", "p_up", "confidence"):
            assert got[name].tolist() == expected[name].tolist(), name
        assert got["target_date"].tolist() == [f"{date:%Y-%m-%d}" for date in expected["target_date"]]
        assert (content["symbol"], content["origin"]) == (SYMBOL, "2018-06-29")
        assert content["model_version"] == tiny.forecaster().metadata.version
        assert (content["model_number"], content["source"]) == (1, "bundled")
        closes = tiny.prices()["close"].loc[:"2018-06-29"].tail(3)
        assert content["closes"] == [{"date": f"{day:%Y-%m-%d}", "close": close} for day, close in closes.items()]

    def test_without_a_date_the_newest_session_is_the_origin(self, served):
        assert predict(served).json()["origin"] == "2018-12-31"

    @pytest.mark.parametrize("version", ["champion", "1"])
    def test_a_version_is_found_by_alias_number_and_tag(self, served, version):
        tag = tiny.forecaster().metadata.version
        assert predict(served, version=version).json()["model_version"] == tag
        assert predict(served, version=tag).json()["model_number"] == 1

    def test_a_forecast_is_recorded_for_its_caller(self, served):
        predict(served, date="2018-05-02")
        rows = Ledger().history(since="2018-05-02", until="2018-05-02", requested_by="local")
        assert len(rows) == len(PARAMETERS["horizons"])

    def test_concurrent_requests_load_the_model_once_and_get_the_same_response(self, served, monkeypatch):
        loads = []
        service = served.app.state.service
        service.predictor.load_model.cache_clear()
        real = registry.load
        monkeypatch.setattr(registry, "load", lambda *key: loads.append(key) or real(*key))
        with ThreadPoolExecutor(16) as threads:
            answers = list(threads.map(lambda _: predict(served, date="2018-07-02"), range(32)))
        assert {answer.status_code for answer in answers} == {200}
        assert len({json.dumps(answer.json()["forecasts"]) for answer in answers}) == 1
        assert loads == [(SYMBOL, "1")]

    def test_a_batch_of_origins_gives_the_forecasts_of_each_origin(self, served):
        dates = ["2018-05-02", "2014-03-05", "2018-05-02", "1990-01-01", None]
        service = served.app.state.service
        single = [predict(served, date=date) for date in dates]
        batch = service.predictor.predict_batch(
            (SYMBOL, "champion"),
            [(PredictRequest(symbol=SYMBOL, date=date), name) for date, name in zip(dates, "ababa", strict=True)],
        )
        for prediction, answer in zip(batch, single, strict=True):
            if answer.status_code == 400:
                assert str(prediction) == answer.json()["message"]
                continue
            got, expected = (
                pd.DataFrame([row.model_dump() for row in prediction.forecasts]),
                pd.DataFrame(answer.json()["forecasts"]),
            )
            for name in ("predicted_price", "lower_95", "p_up", "confidence"):
                assert got[name].tolist() == pytest.approx(expected[name].tolist(), rel=1e-5)
        for name in "ab":
            assert Ledger().count(requested_by=name) > 0

    @pytest.mark.parametrize(
        ("body", "error"),
        [
            ({"symbol": "^GSPC"}, "model_not_found"),
            ({"symbol": "IXIC"}, "model_not_found"),
            ({"version": "challenger"}, "model_not_found"),
            ({"version": "2"}, "model_not_found"),
            ({"version": "999999999"}, "model_not_found"),
            ({"version": "v1.0.0_20000101_000000"}, "model_not_found"),
        ],
    )
    def test_an_unregistered_model_is_not_found(self, served, body, error):
        problem(predict(served, **body), 404, error)

    def test_a_date_without_enough_history_is_a_bad_request(self, served):
        assert "2013-01-18" in problem(predict(served, date="2013-01-20"), 400, "not_enough_data")
        problem(predict(served, date="1990-01-01"), 400, "not_enough_data")

    @pytest.mark.parametrize(
        "body",
        [
            {"symbol": "../../etc/passwd"},
            {"symbol": "models:/^IXIC_lstm"},
            {"symbol": "^IXIC\n"},
            {"symbol": "^IXIC' OR ''='"},
            {"symbol": ""},
            {"symbol": "x" * 33},
            {"symbol": "\N{FULLWIDTH LATIN CAPITAL LETTER A}"},
            {"version": "../1"},
            {"version": "1/../2"},
            {"version": "latest"},
            {"version": "\N{ARABIC-INDIC DIGIT ONE}"},
            {"version": "1" * 10},
            {"version": 1},
            {"date": "yesterday"},
            {"date": 20180629},
            {"date": "2018-06-31"},
            {"date": "2018-06-29T00:00:00"},
            {"date": "-2018-06-29"},
            {"closes": 251},
            {"closes": "3"},
            {"closes": True},
            {"source": "csv:/etc"},
        ],
    )
    def test_a_body_that_does_not_match_the_schema_is_refused(self, served, body):
        answer = predict(served, **body)
        problem(answer, 422, "invalid")
        assert answer.json()["details"][0]["where"].startswith(f"body.{next(iter(body))}")

    @pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b"1e999", b'{"symbol": "\\ud800"}'])
    def test_a_body_that_is_not_a_json_object_is_refused(self, served, body):
        answer = served.post("/predict", content=body, headers={"Content-Type": "application/json"})
        problem(answer, 422, "invalid")

    def test_a_body_that_is_not_text_is_refused(self, served):
        answer = served.post("/predict", content=b"\xff", headers={"Content-Type": "application/json"})
        problem(answer, 400, "bad_request")

    def test_a_damaged_bundle_is_a_conflict_without_paths_in_the_message(self, served):
        (bundle,) = Path("mlruns").rglob("network.keras")
        whole = bundle.read_bytes()
        bundle.write_bytes(whole[:-100])
        served.app.state.service.predictor.load_model.cache_clear()
        try:
            message = problem(predict(served), 409, "model_unusable")
        finally:
            bundle.write_bytes(whole)
        assert "damaged" in message
        assert "mlruns" not in message
        assert predict(served).status_code == 200

    def test_an_unreachable_source_is_a_temporary_error(self, served, monkeypatch):
        from forecastlib.errors import SourceError

        def fail(_):
            raise SourceError("yahoo: no route to host 10.0.0.1")

        predictor = served.app.state.service.predictor
        monkeypatch.setattr(predictions, "fetch_prices", fail)
        predictor.prices_of.cache_clear()
        answer = predict(served)
        assert "10.0.0.1" not in problem(answer, 503, "prices_unavailable")
        assert int(answer.headers["Retry-After"]) > 0


class TestHistory:
    def test_forecasts_are_listed_newest_first_in_pages(self, served):
        for day in ("2018-03-01", "2018-03-02", "2018-03-05"):
            predict(served, date=day)
        of = {"since": "2018-03-01", "until": "2018-03-05", "symbol": SYMBOL}
        pages = [served.get("/predictions", params=of | {"limit": 4, "offset": offset}).json() for offset in (0, 4)]
        assert [page["total"] for page in pages] == [6, 6]
        assert [len(page["predictions"]) for page in pages] == [4, 2]
        origins = [row["origin"] for page in pages for row in page["predictions"]]
        assert origins == ["2018-03-05"] * 2 + ["2018-03-02"] * 2 + ["2018-03-01"] * 2

    def test_outcomes_are_recorded_and_scored_together_with_the_random_walk(self, served):
        frame = tiny.forecaster().predict(tiny.prices().loc[:"2018-02-01"])  # as known on that day
        Ledger().record(frame.assign(model_version="v1.0.0_20180201_000000"), "local")
        predict(served)  # of the newest session: the outcome is not known
        answer = served.get("/scorecard", params={"symbol": SYMBOL}).json()
        by_version = {score["model_version"]: score for score in answer["scores"] if score["horizon"] == 7}
        row, newest = by_version["v1.0.0_20180201_000000"], by_version[tiny.forecaster().metadata.version]
        assert (row["n"], row["pending"], newest["n"], newest["pending"]) == (1, 0, 0, 1)
        assert row["skill"] == pytest.approx(1 - row["mae"] / row["mae_random_walk"])
        settled = served.get("/predictions", params={"settled": True, "until": "2018-02-01", "since": "2018-02-01"})
        closes = tiny.prices()["close"]
        for row in settled.json()["predictions"]:
            assert row["actual_price"] == closes[row["target_date"]]

    def test_hindsight_forecasts_are_marked_and_scored_separately(self, served):
        predict(served, date="2018-02-05")
        predict(served)
        that_day = {"since": "2018-02-05", "until": "2018-02-05"}
        (row, *_) = served.get("/predictions", params=that_day).json()["predictions"]
        assert row["known_until"] == "2018-12-31"
        only = {"symbol": SYMBOL, "version": tiny.forecaster().metadata.version}
        usual = served.get("/scorecard", params=only).json()
        separate = served.get("/scorecard", params=only | {"hindsight": True}).json()
        assert {score["n"] for score in usual["scores"]} == {0}
        assert {score["n"] > 0 for score in separate["scores"]} == {True}
        assert usual["left_out"] == sum(score["n"] + score["pending"] for score in separate["scores"])
        assert separate["left_out"] == sum(score["n"] + score["pending"] for score in usual["scores"])

    def test_a_symbol_without_prices_is_reported_as_not_settled(self, served):
        frame = tiny.forecaster().predict(tiny.prices()).assign(symbol="OTHER")
        Ledger().record(frame)
        assert served.get("/scorecard").json()["problems"] == ["OTHER: its prices cannot be fetched at present"]
        assert served.get("/scorecard", params={"symbol": SYMBOL}).json()["problems"] == []

    @pytest.mark.parametrize(
        "query",
        ["limit=0", "limit=501", "offset=-1", "since=x", "settled=maybe", "symbol=a/b", "limit=1e2", "version="],
    )
    def test_invalid_filters_are_refused(self, served, query):
        problem(served.get(f"/predictions?{query}"), 422, "invalid")


class TestTrain:
    def test_a_training_is_started_and_its_job_can_be_read(self, served):
        answer = served.post("/train", json={"symbol": SYMBOL, "training_days": 1500, "epochs": 1})
        assert answer.status_code == 201
        job = answer.json()
        assert answer.headers["Location"] == f"/jobs/{job['id']}"
        assert (job["status"], job["sessions"], job["start"]) == ("started", 1500, "2013-01-16")
        found = served.get(answer.headers["Location"]).json()
        assert (found["symbol"], found["requested_by"]) == (SYMBOL, "local")
        assert job["id"] in {listed["id"] for listed in served.get("/jobs", params={"symbol": SYMBOL}).json()["jobs"]}

    def test_a_training_is_skipped_if_the_champion_has_the_same_configuration_and_prices(self, served):
        answer = served.post("/train", json={"symbol": SYMBOL, "training_days": 1500})
        assert (answer.status_code, answer.json()["status"]) == (201, "skipped")
        assert answer.json()["result"]["version"] == tiny.forecaster().metadata.version
        forced = served.post("/train", json={"symbol": SYMBOL, "training_days": 1500, "force_retrain": True})
        assert forced.json()["status"] in ("started", "queued")

    def test_a_training_with_other_prices_is_not_skipped(self, served):
        assert served.post("/train", json={"symbol": SYMBOL, "training_days": 1501}).json()["status"] != "skipped"

    def test_a_symbol_without_a_source_is_a_bad_request(self, served):
        problem(served.post("/train", json={"symbol": "NOPE", "training_days": 500}), 400, "prices_not_found")

    @pytest.mark.parametrize(
        "body",
        [
            {"training_days": 99},
            {"training_days": 5001},
            {"training_days": "500"},
            {"training_days": 500.5},
            {"epochs": 0},
            {"force_retrain": 1},
            {"force_retrain": "yes"},
            {"source": "csv:/etc"},
            {"lookback": 10},
        ],
    )
    def test_parameters_that_callers_may_not_set_are_refused(self, served, body):
        problem(served.post("/train", json={"symbol": SYMBOL} | body), 422, "invalid")

    def test_an_unknown_job_is_not_found(self, served):
        problem(served.get(f"/jobs/{'0' * 32}"), 404, "job_not_found")
        problem(served.get("/jobs/..%2f..%2fetc"), 404, "not_found")
        problem(served.get("/jobs/1"), 422, "invalid")

    def test_losses_that_are_not_finite_are_shown_as_none(self, served):
        job = served.post("/train", json={"symbol": SYMBOL, "training_days": 1400}).json()
        folder = served.app.state.service.settings.jobs_folder / job["id"]
        folder.mkdir(parents=True, exist_ok=True)
        event = {"event": "epoch", "epoch": 1, "epochs": 2, "loss": math.nan, "val_loss": math.inf}
        (folder / "progress.jsonl").write_text(json.dumps(event) + "\n")
        shown = served.get(f"/jobs/{job['id']}").json()["progress"]
        assert shown == [{"epoch": 1, "epochs": 2, "loss": None, "val_loss": None}]


class TestModels:
    def test_models_are_listed_with_their_champion(self, served):
        (model,) = served.get("/models").json()["models"]
        assert (model["symbol"], model["name"]) == (SYMBOL, "^IXIC_lstm")
        (version,) = model["versions"]
        assert (version["number"], version["aliases"], version["reason"]) == (1, ["champion"], "the first version")
        assert version["version"] == tiny.forecaster().metadata.version

    def test_a_new_champion_is_used_when_the_cache_is_cleared(self, served):
        predictor = served.app.state.service.predictor
        assert predict(served).status_code == 200
        client = runs.connect()
        client.delete_registered_model_alias("^IXIC_lstm", "champion")
        try:
            assert predict(served).status_code == 200  # for champion_fresh_for seconds
            predictor.version_of.cache_clear()
            problem(predict(served), 404, "model_not_found")
        finally:
            client.set_registered_model_alias("^IXIC_lstm", "champion", "1")
            predictor.version_of.cache_clear()


@pytest.mark.slow
def test_models_beyond_the_bound_are_released_with_their_memory(served, monkeypatch):
    (folder,) = (path for path in Path("mlruns").rglob("bundle") if path.is_dir())
    loaded = []

    def load(*_):
        forecaster = Forecaster.load(folder)
        loaded.append(weakref.ref(forecaster))
        return forecaster

    monkeypatch.setattr(registry, "load", load)
    predictor = Predictor(settings(cached_models=4), Ledger())
    resident, objects = [], []
    for number in range(50):
        predictor.load_model(SYMBOL, number).predict(tiny.prices())
        if number in (9, 49):
            gc.collect()
            resident.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
            objects.append(len(gc.get_objects()))
    assert [number for number, model in enumerate(loaded) if model() is not None] == [46, 47, 48, 49]
    # If TensorFlow keeps the gradients of models, forty of them leave 6,000 objects and 5 MB each.
    assert objects[1] - objects[0] < 40 * 500, objects
    assert resident[1] - resident[0] < 100, resident


def test_calendars_are_loaded_before_the_first_request(served):
    calendars._load.cache_clear()
    with TestClient(served.app):
        assert calendars._load.cache_info().currsize == 1  # that of the only model


def test_the_service_starts_even_if_the_registry_cannot_be_reached(served, monkeypatch):
    def unreachable():
        raise MlflowException("the server is down")

    monkeypatch.setattr(predictions, "registered_models", unreachable)
    with client() as opened:
        assert opened.get("/health").json()["status"] == "ok"
    (line,) = (json.loads(text) for text in Path("service.log").read_text().splitlines() if "not warmed up" in text)
    assert line["exception"][0]["exc_value"] == "the server is down"


def test_an_application_can_be_stopped_and_started_again(served):
    app = served.app
    with TestClient(app) as again:
        predict(again).raise_for_status()
    with TestClient(app) as again:
        predict(again).raise_for_status()
        assert again.post("/train", json={"symbol": SYMBOL, "training_days": 800}).json()["status"] == "started"


class TestEveryAnswer:
    @pytest.mark.parametrize("path", ["/", "/docs", "/health", "/models", "/nowhere", "/page.js", "/openapi.json"])
    def test_every_response_has_a_request_id(self, served, path):
        first, second = (served.get(path).headers["X-Request-ID"] for _ in range(2))
        assert first != second
        assert re.fullmatch(r"[0-9a-f]{32}", first)

    def test_a_valid_request_id_of_the_caller_is_used(self, served):
        assert served.get("/health", headers={"X-Request-ID": "my-id.1"}).headers["X-Request-ID"] == "my-id.1"
        for bad in ("a b", "x" * 65, '{"a"', "é"):
            got = served.get("/health", headers={"X-Request-ID": bad.encode("latin-1")}).headers["X-Request-ID"]
            assert re.fullmatch(r"[0-9a-f]{32}", got)

    def test_the_log_has_a_line_with_the_request_id(self, served):
        predict(served, date="2018-04-03").raise_for_status()
        served.get("/health", headers={"X-Request-ID": "look-for-me"})
        lines = [json.loads(line) for line in Path("service.log").read_text().splitlines()]
        (line,) = [line for line in lines if line.get("request_id") == "look-for-me"]
        assert (line["method"], line["path"], line["status"]) == ("GET", "/health", 200)
        assert [line["caller"] for line in lines if line.get("path") == "/predict"][-1] == "local"

    def test_unknown_paths_and_methods_are_refused(self, served):
        problem(served.get("/nowhere"), 404, "not_found")
        answer = served.put("/train", json={})
        problem(answer, 405, "method_not_allowed")
        assert answer.headers["Allow"] == "POST"

    def test_an_unexpected_error_is_a_500_without_internals(self, served, monkeypatch):
        def fail(**_):
            raise RuntimeError("the password is hunter2")

        monkeypatch.setattr(served.app.state.service.ledger, "history", fail)
        answer = served.get("/predictions")
        assert "hunter2" not in answer.text
        problem(answer, 500, "internal")
        last = [json.loads(line) for line in Path("service.log").read_text().splitlines()]
        (logged,) = [
            line
            for line in last
            if line.get("request_id") == answer.headers["X-Request-ID"] and line["event"] == "unexpected error"
        ]
        assert "hunter2" in json.dumps(logged["exception"])

    def test_a_locked_database_of_jobs_is_a_temporary_error(self, served):
        other = sqlite3.connect(Path("mlruns") / "jobs.db", isolation_level=None)
        other.execute("BEGIN EXCLUSIVE")
        try:
            answers = [served.get("/jobs"), served.get("/health")]
        finally:
            other.close()
        for answer in answers:
            assert "jobs.db" not in problem(answer, 503, "store_unavailable")
            assert int(answer.headers["Retry-After"]) > 0
        assert served.get("/health").json()["status"] == "ok"

    def test_a_locked_ledger_is_a_temporary_error(self, served):
        """A forecast that could not be recorded is not returned; read-only requests are served."""
        other = sqlite3.connect(Path("mlruns") / "ledger.db", isolation_level=None)
        other.execute("BEGIN EXCLUSIVE")
        try:
            with ThreadPoolExecutor(8) as threads:
                began = time.monotonic()
                answers = list(threads.map(lambda day: predict(served, date=f"2016-03-{day:02}"), range(7, 15)))
                seconds = time.monotonic() - began
            assert served.get("/predictions").status_code == 200
            assert served.get("/health").status_code == 200
        finally:
            other.close()
        for answer in answers:
            assert "ledger.db" not in problem(answer, 503, "store_unavailable")
            assert int(answer.headers["Retry-After"]) > 0
        assert seconds < 15
        assert Ledger().count(since="2016-03-07", until="2016-03-14") == 0
        predict(served, date="2016-03-07").raise_for_status()
        assert Ledger().count(since="2016-03-07", until="2016-03-14") == len(PARAMETERS["horizons"])

    def test_the_service_waits_for_a_ledger_that_is_locked_briefly(self, served):
        with client(settings(database_seconds=30.0)) as patient:
            predict(patient, date="2016-04-01").raise_for_status()  # loads the model
            other = sqlite3.connect(Path("mlruns") / "ledger.db", isolation_level=None, check_same_thread=False)
            other.execute("BEGIN EXCLUSIVE")
            with ThreadPoolExecutor(1) as thread:
                asked = thread.submit(predict, patient, date="2016-04-04")
                with pytest.raises(TimeoutError):
                    asked.result(timeout=1.0)
                other.close()
                asked.result(timeout=30).raise_for_status()
        assert Ledger().count(since="2016-04-04", until="2016-04-04") == len(PARAMETERS["horizons"])

    def test_a_training_that_blocks_while_opening_the_registry_does_not_delay_requests(self, served):
        with file_lock(Path("mlruns") / "mlflow.lock"):
            served.app.state.service.predictor.version_of.cache_clear()
            predict(served, date="2016-05-02").raise_for_status()
            assert served.get("/models").status_code == 200


class TestLimits:
    def test_a_body_that_is_too_large_is_refused(self, served):
        problem(predict(served, version="1" * 70_000), 413, "body_too_large")

    def test_callers_with_too_many_requests_are_refused_with_the_time_to_wait(self, served):
        with client(settings(requests_per_second=0.5, request_burst=2)) as limited:
            answers = [limited.get("/models") for _ in range(3)]
        assert [answer.status_code for answer in answers] == [200, 200, 429]
        problem(answers[2], 429, "too_many_requests")
        assert 1 <= int(answers[2].headers["Retry-After"]) <= 5

    def test_requests_beyond_those_handled_at_once_are_refused_but_forecasts_are_counted_separately(
        self, served, monkeypatch
    ):
        began, finish = threading.Event(), threading.Event()

        def wait():
            began.set()
            assert finish.wait(60)
            return []

        monkeypatch.setattr(routes, "registered_models", wait)
        with client(settings(queued_requests=1)) as busy, ThreadPoolExecutor(1) as thread:
            first = thread.submit(busy.get, "/models")
            assert began.wait(60)
            answer = busy.get("/jobs")
            forecast = predict(busy)
            finish.set()
            assert first.result().status_code == forecast.status_code == 200
            assert busy.get("/jobs").status_code == 200
        problem(answer, 429, "overloaded")
        assert int(answer.headers["Retry-After"]) > 0

    def test_a_training_is_refused_when_the_queue_is_full(self, served):
        waiting = "import time; time.sleep(600)"
        with client(settings(concurrent_trainings=1, queued_trainings=1), program=waiting) as limited:
            answers = [
                limited.post("/train", json={"symbol": SYMBOL, "training_days": 600, "epochs": n}) for n in (1, 2, 3)
            ]
        assert [answer.status_code for answer in answers] == [201, 201, 429]
        assert [answer.json().get("status") for answer in answers[:2]] == ["started", "queued"]
        assert int(answers[2].headers["Retry-After"]) > 0


class TestAccess:
    @pytest.fixture
    def keyed(self, served, tmp_path):
        """Yield a service with keys, and the headers of two callers."""
        keys = KeyFile(tmp_path / "keys.json")
        headers = {name: {"X-API-Key": keys.add(name, may_train=name == "ann")} for name in ("ann", "bob")}
        with client(settings(keys=keys.path)) as opened:
            yield opened, headers, keys

    def test_without_a_valid_key_only_the_page_and_the_health_are_served(self, keyed):
        opened, _, _ = keyed
        for path in ("/jobs", "/models", "/predictions", "/scorecard", f"/jobs/{'0' * 32}"):
            for headers in ({}, {"X-API-Key": "fl_wrong"}, {"X-API-Key": "é".encode()}):
                problem(opened.get(path, headers=headers), 401, "unauthorized")
        for path, body in (("/predict", {"symbol": SYMBOL}), ("/train", {"symbol": SYMBOL})):
            problem(opened.post(path, json=body), 401, "unauthorized")
        assert opened.get("/health").status_code == opened.get("/").status_code == 200

    def test_callers_see_only_the_forecasts_that_they_requested(self, keyed):
        opened, headers, _ = keyed
        for name, day in (("ann", "2017-03-01"), ("ann", "2017-03-02"), ("bob", "2017-03-02")):
            opened.post("/predict", json={"symbol": SYMBOL, "date": day}, headers=headers[name]).raise_for_status()
        seen = {
            name: opened.get("/predictions", headers=headers[name]).json()["predictions"] for name in ("ann", "bob")
        }
        assert {row["origin"] for row in seen["ann"]} == {"2017-03-01", "2017-03-02"}
        assert {row["origin"] for row in seen["bob"]} == {"2017-03-02"}
        assert {row["requested_by"] for row in seen["bob"]} == {"bob"}
        totals = {name: opened.get("/predictions", headers=headers[name]).json()["total"] for name in headers}
        assert totals == {"ann": 4, "bob": 2}
        hindsight = {"hindsight": True}
        scores = {n: opened.get("/scorecard", params=hindsight, headers=headers[n]).json()["scores"] for n in headers}
        assert {name: sum(row["n"] + row["pending"] for row in rows) for name, rows in scores.items()} == totals

    def test_a_key_can_be_denied_training(self, keyed):
        opened, headers, _ = keyed
        body = {"symbol": SYMBOL, "training_days": 700}
        assert opened.post("/train", json=body, headers=headers["ann"]).json()["requested_by"] == "ann"
        problem(opened.post("/train", json=body, headers=headers["bob"]), 403, "forbidden")

    def test_a_revoked_key_is_refused_from_then_on(self, keyed):
        opened, headers, keys = keyed
        assert opened.get("/jobs", headers=headers["bob"]).status_code == 200
        keys.revoke("bob")
        problem(opened.get("/jobs", headers=headers["bob"]), 401, "unauthorized")
        assert opened.get("/jobs", headers=headers["ann"]).status_code == 200

    def test_unreadable_keys_admit_nobody(self, keyed):
        opened, headers, keys = keyed
        keys.path.write_text("{")
        answer = opened.get("/jobs", headers=headers["ann"])
        assert str(keys.path) not in problem(answer, 503, "keys_unavailable")

    def test_guessing_keys_is_limited(self, served, tmp_path):
        keys = KeyFile(tmp_path / "keys.json")
        ann = {"X-API-Key": keys.add("ann")}
        with client(settings(keys=keys.path, requests_per_second=0.1, request_burst=3)) as opened:
            guesses = [opened.get("/jobs", headers={"X-API-Key": f"fl_{n}"}).status_code for n in range(5)]
            assert guesses == [401, 401, 401, 429, 429]
            assert opened.get("/jobs", headers=ann).status_code == 200

    @pytest.mark.parametrize("host", ["192.0.2.7", "2001:db8::1", "::ffff:192.0.2.7"])
    def test_without_keys_only_this_machine_is_served(self, served, host):
        with client(client=(host, 40_000)) as far:
            problem(far.get("/models"), 403, "forbidden")
            problem(far.post("/predict", json={"symbol": SYMBOL}), 403, "forbidden")

    @pytest.mark.parametrize(
        "headers", [{"Host": "evil.example"}, {"Origin": "http://evil.example"}, {"Origin": "null"}]
    )
    def test_without_keys_pages_of_other_sites_are_refused(self, served, headers):
        problem(served.get("/models", headers=headers), 403, "forbidden")

    @pytest.mark.parametrize(
        "headers", [{"Host": "127.0.0.1:8000"}, {"Host": "localhost", "Origin": "http://localhost"}]
    )
    def test_without_keys_the_page_of_the_service_is_served(self, served, headers):
        assert served.get("/models", headers=headers).status_code == 200

    def test_listening_on_a_public_address_needs_keys(self, served, tmp_path):
        with pytest.raises(ConfigError, match=r"expected keys before listening on 0\.0\.0\.0"):
            serve(Settings(host="0.0.0.0", keys=None))
        with pytest.raises(ConfigError, match="expected a file of keys"):
            serve(Settings(keys=tmp_path / "nowhere.json"))

    def test_loopback_addresses_are_recognised(self):
        assert [is_loopback(host) for host in ("127.0.0.1", "127.8.8.8", "::1", "[::1]", "LOCALHOST")] == [True] * 5
        assert [is_loopback(host) for host in ("0.0.0.0", "::", "192.168.1.1", "example.com", "")] == [False] * 5


class TestDescription:
    @pytest.fixture
    def openapi(self, served):
        return served.get("/openapi.json").json()

    def test_every_route_is_described(self, openapi):
        assert {(method.upper(), path) for path, one in openapi["paths"].items() for method in one} == {
            ("POST", "/train"),
            ("GET", "/jobs"),
            ("GET", "/jobs/{job_id}"),
            ("POST", "/predict"),
            ("GET", "/predictions"),
            ("GET", "/scorecard"),
            ("GET", "/models"),
            ("GET", "/health"),
        }

    def test_every_response_has_a_schema_a_description_and_the_request_id(self, openapi):
        for path in openapi["paths"].values():
            for operation in path.values():
                assert operation["description"]
                for status, answer in operation["responses"].items():
                    schema = answer["content"]["application/json"]["schema"]["$ref"]
                    assert (schema == "#/components/schemas/ErrorAnswer") == (int(status) >= 400)
                    assert "X-Request-ID" in answer["headers"]
                    assert ("Retry-After" in answer["headers"]) == (status in {"429", "503"})
        assert "Location" in openapi["paths"]["/train"]["post"]["responses"]["201"]["headers"]

    def test_requests_and_errors_have_valid_examples(self, openapi):
        for model in (PredictRequest, TrainRequest):
            (example,) = openapi["components"]["schemas"][model.__name__]["examples"]
            model.model_validate(example)
        fields = openapi["components"]["schemas"]["ErrorAnswer"]["properties"]
        assert all("examples" in fields[name] for name in ("error", "message", "request_id"))

    def test_every_parameter_and_field_of_a_request_has_a_description(self, openapi):
        for path in openapi["paths"].values():
            for operation in path.values():
                assert all(parameter.get("description") for parameter in operation.get("parameters", []))
        for name in ("TrainRequest", "PredictRequest"):
            for field, schema in openapi["components"]["schemas"][name]["properties"].items():
                assert schema.get("description"), (name, field)

    def test_the_documentation_is_complete_and_loads_nothing_from_other_sites(self, served, openapi):
        page = served.get("/docs")
        assert page.headers["Content-Type"].startswith("text/html")
        for path, operations in openapi["paths"].items():
            for method in operations:
                assert f"{method.upper()} {path}" in page.text
        for name in openapi["components"]["schemas"]:
            assert f'id="{name}"' in page.text
        assert re.findall(r'(?:src|href)="(?:https?:)?//', page.text) == []


def test_invalid_settings_are_refused():
    for wrong in ({"concurrent_trainings": 0}, {"port": 70_000}, {"unknown": 1}, {"parameters": {"lookbak": 1}}):
        with pytest.raises(ConfigError):
            Settings(**wrong)
    with pytest.raises(ConfigError, match="must leave source, start to the service"):
        Settings(parameters={"source": "yahoo", "start": "2000-01-01"})


def test_a_ledger_that_cannot_be_opened_is_an_error_at_start(tmp_path, monkeypatch):
    from forecastlib.errors import LedgerError

    monkeypatch.setenv("FORECASTLIB_HOME", str(tmp_path))
    (tmp_path / "file").write_text("")
    with pytest.raises(LedgerError):
        create_app(Settings(ledger_url=f"sqlite:///{tmp_path}/file/ledger.db"))


def test_messages_do_not_contain_paths():
    assert without_paths("csv:/data/x/y.csv is none\nThe notebook: /z") == "csv:y.csv is none"
    assert without_paths("POST /train trains one; MAE / MAE of both") == "POST /train trains one; MAE / MAE of both"


def test_the_files_of_the_page_are_part_of_the_package():
    folder = Path(create_app.__code__.co_filename).parent / "page"
    assert {path.name for path in folder.iterdir()} == {"page.html", "page.js", "page.css"}
    assert shutil.which("nice")
