"""Registered models in a real MLflow store, and loading them without the source tree."""

import contextlib
import dataclasses
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
import tiny

from forecastlib.errors import DataQualityError, ModelNotFoundError
from forecastlib.tracking import registry, runs

SYMBOL = "^IXIC"


def registered(version, symbol=SYMBOL):
    """Register the tiny forecaster in a new run, with this version."""
    forecaster = tiny.forecaster()
    renamed = type(forecaster).__new__(type(forecaster))
    renamed.__dict__.update(forecaster.__dict__)
    renamed.metadata = dataclasses.replace(forecaster.metadata, version=version)
    with runs.run("register", {}):
        return registry.register(renamed, tiny.prices(), symbol=symbol)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Create a store with two versions: the first is champion, the second challenger."""
    with tiny.home(tmp_path_factory.mktemp("project")) as folder:
        first = registered("v1.0.0_20190102_030405")
        registry.promote(first, "the first version")
        registry.challenge(registered("v1.0.0_20190103_030405"), "no better")
        yield folder


@pytest.fixture(scope="module")
def served(store):
    return mlflow.pyfunc.load_model("models:/^IXIC_lstm@champion")


# Names and versions


def test_models_are_named_after_their_symbols():
    assert registry.model_name("^IXIC") == "^IXIC_lstm"
    assert registry.model_name("BTC-USD") == "BTC-USD_lstm"


def test_different_configurations_have_different_digests():
    assert registry.config_digest(tiny.config()) == registry.config_digest(tiny.config())
    assert registry.config_digest(tiny.config()) != registry.config_digest(tiny.config(seed=1))


@pytest.mark.parametrize(
    ("version", "number"),
    [
        ("champion", 1),
        ("challenger", 2),
        ("1", 1),
        ("2", 2),
        ("v1.0.0_20190102_030405", 1),
        ("v1.0.0_20190103_030405", 2),
    ],
)
def test_a_version_is_found_by_alias_number_and_tag(store, version, number):
    found = registry.find(SYMBOL, version)
    assert (found.name, found.number) == ("^IXIC_lstm", number)
    assert found.tags["symbol"] == SYMBOL
    assert found.tags["config"] == registry.config_digest(tiny.config())
    assert found.tags["data_fingerprint"] == tiny.forecaster().metadata.fingerprint
    assert mlflow.get_run(found.run_id).info.status == "FINISHED"
    loaded = registry.load(SYMBOL, version)
    assert loaded.metadata.version == found.tags["version"]
    assert loaded.config == tiny.config()


def test_versions_trained_in_the_same_second_get_different_tags(store):
    tags = [registered("v1.0.0_20181231_235959", "^KS11").tags["version"] for _ in range(3)]
    assert tags == ["v1.0.0_20181231_235959", "v1.0.0_20190101_000000", "v1.0.0_20190101_000001"]
    for number, tag in enumerate(tags, start=1):
        assert registry.find("^KS11", tag).number == number
        assert registry.load("^KS11", str(number)).predict(tiny.prices())["model_version"].unique().tolist() == [tag]


@pytest.mark.parametrize("version", ["9", "v1.0.0_20200101_000000", "validated", "no such alias", "v1' or '1'='1"])
def test_a_version_that_does_not_exist_is_not_found(store, version):
    assert registry.find(SYMBOL, version) is None
    with pytest.raises(ModelNotFoundError, match=r"registered versions: .*1 \(v1\.0\.0_20190102_030405\).*make train"):
        registry.load(SYMBOL, version)


def test_a_symbol_without_models_is_not_found(store):
    assert registry.find("^GSPC") is None
    with pytest.raises(
        ModelNotFoundError, match=r"registered versions: none; train one with: make train SYMBOL=\^GSPC"
    ):
        registry.load("^GSPC")


def test_the_size_of_the_model_is_logged(store):
    metrics = mlflow.get_run(registry.find(SYMBOL).run_id).data.metrics
    assert metrics["parameters"] == tiny.forecaster().model.lstm.network.count_params()
    assert 10_000 < metrics["bundle_bytes"] < 1_000_000


def test_promoting_moves_the_champion_alias_and_removes_the_challenger(tmp_path, store):
    client = runs.connect()
    second = registry.find(SYMBOL, "2")
    try:
        registry.promote(second, "better by 50 %")
        aliases = client.get_registered_model("^IXIC_lstm").aliases
        assert {alias: int(number) for alias, number in aliases.items()} == {"champion": 2}
        tags = registry.find(SYMBOL).tags
        assert tags["reason"] == "better by 50 %"
        assert pd.Timestamp(tags["champion_since"]) > pd.Timestamp("2020", tz="UTC")
    finally:
        registry.promote(registry.find(SYMBOL, "1"), "the first version")
        registry.challenge(second, "no better")


def test_a_version_whose_files_are_missing_raises(store):
    source = Path(mlflow.artifacts.download_artifacts("models:/^IXIC_lstm/2"))
    hidden = source.with_name("hidden")
    source.rename(hidden)
    try:
        with pytest.raises(ModelNotFoundError, match=r"version 2, in .*; they are missing; restore"):
            registry.load(SYMBOL, "2")
    finally:
        hidden.rename(source)


# The model as loaded by MLflow


def expected(sessions: int | None = None) -> pd.DataFrame:
    """Return the forecast of the registered model from the newest sessions, or from all of them."""
    prices = tiny.prices() if sessions is None else tiny.prices().tail(sessions)
    return tiny.numbers(tiny.forecaster().predict(prices)).assign(model_version="v1.0.0_20190102_030405")


def as_index(prices):
    return prices


def as_column(prices):
    return prices.reset_index()


def as_text(prices):
    return prices.reset_index().astype({"date": str})


def with_whole_volume(prices):
    return prices.astype({"volume": np.int64})


def newest_first(prices):
    return prices.iloc[::-1]


@pytest.mark.parametrize("form", [as_index, as_column, as_text, with_whole_volume, newest_first])
def test_a_served_model_takes_raw_prices_in_any_form(served, form):
    forecast = served.predict(form(tiny.prices()))
    pd.testing.assert_frame_equal(tiny.numbers(forecast), expected(), check_exact=True)


def test_a_served_model_takes_a_date_and_a_symbol(served):
    forecast = served.predict(tiny.prices(), params={"as_of": "2018-06-30", "symbol": "OTHER"})
    assert forecast["origin"].unique().tolist() == [pd.Timestamp("2018-06-29")]
    assert forecast["symbol"].unique().tolist() == ["OTHER"]


def test_a_served_model_refuses_prices_without_dates(served):
    with pytest.raises(DataQualityError, match="dates as the index or as a column 'date'"):
        served.predict(tiny.prices().reset_index(drop=True))
    with pytest.raises(DataQualityError, match="expected dates such as 2018-12-31"):
        served.predict(tiny.prices().reset_index().assign(date="some day"))


def test_the_model_has_a_signature_and_an_input_example(served):
    signature = served.metadata.signature
    assert signature.inputs.input_names() == ["date", "open", "high", "low", "close", "volume"]
    assert signature.inputs.required_input_names() == ["open", "high", "low", "close", "volume"]
    assert signature.outputs.input_names() == list(tiny.forecaster().predict(tiny.prices()).columns)
    assert [parameter.name for parameter in signature.params.params] == ["as_of", "symbol"]
    example = served.input_example
    assert len(example) == tiny.forecaster().sessions_needed
    pd.testing.assert_frame_equal(tiny.numbers(served.predict(example)), expected(len(example)), check_exact=True)


ELSEWHERE = """
import sys
from pathlib import Path
sys.path[:] = [path for path in sys.path if not Path(path, "forecastlib", "py.typed").exists()]
sys.meta_path[:] = [finder for finder in sys.meta_path if "editable" not in repr(finder).lower()]
try:
    import forecastlib
except ModuleNotFoundError:
    pass
else:
    raise SystemExit("the library can be imported without the model")
import mlflow, pandas as pd
model = mlflow.pyfunc.load_model("models:/^IXIC_lstm@champion")
forecast = model.predict(pd.read_csv("prices.csv", parse_dates=["date"], index_col="date"))
import forecastlib
print(forecastlib.__file__)
print(forecast.drop(columns="batch_id").to_json(date_format="iso", double_precision=15))
"""


@pytest.mark.slow
def test_mlflow_loads_the_champion_from_any_directory_without_the_source_tree(store, tmp_path):
    tiny.prices().to_csv(tmp_path / "prices.csv")
    environment = os.environ | {
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "MLFLOW_TRACKING_URI": f"sqlite:///{store}/mlruns/mlflow.db",
    }
    for name in ("PYTHONPATH", "FORECASTLIB_HOME"):
        environment.pop(name, None)
    command = [sys.executable, "-P", "-c", ELSEWHERE]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    code, forecast = done.stdout.strip().splitlines()[-2:]
    assert Path(code).is_relative_to(store / "mlruns")
    assert code.endswith("code/forecastlib/__init__.py")
    assert forecast == expected().to_json(date_format="iso", double_precision=15)


def test_the_registry_loads_the_champion_from_any_directory(store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pd.testing.assert_frame_equal(
        tiny.numbers(registry.load(SYMBOL).predict(tiny.prices())), expected(), check_exact=True
    )
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{store}/mlruns/mlflow.db")
    monkeypatch.delenv("FORECASTLIB_HOME")
    assert registry.load(SYMBOL).metadata.version == "v1.0.0_20190102_030405"
    assert registry.config_of(SYMBOL) == tiny.config()
    assert not any(tmp_path.iterdir())


@contextlib.contextmanager
def moved(store, folder):
    """Move the project, and move it back at the end."""
    os.chdir(folder.parent)
    store.rename(folder)
    try:
        with tiny.home(folder):
            yield
    finally:
        folder.rename(store)
        os.chdir(store)


def test_the_registry_finds_the_models_of_a_moved_project(store, tmp_path):
    with moved(store, tmp_path / "moved"):
        os.chdir(tmp_path)
        assert registry.load(SYMBOL).metadata.version == "v1.0.0_20190102_030405"
        second = registered("v1.0.0_20190103_030406")
        assert registry.load(SYMBOL, str(second.number)).metadata.version == "v1.0.0_20190103_030406"
        assert not store.exists()
        runs.connect().delete_model_version(second.name, str(second.number))


def test_the_registry_finds_the_models_of_the_first_edition(store, tmp_path, monkeypatch):
    copy = shutil.copytree(store, tmp_path / "first edition")
    with tiny.home(copy):
        tiny.make_locations_relative(copy / "mlruns" / "mlflow.db", store / "mlruns" / "artifacts")
        assert Path(mlflow.artifacts.download_artifacts("models:/^IXIC_lstm@champion")).is_dir()  # only from the root
        monkeypatch.chdir(tmp_path)
        assert registry.load(SYMBOL).metadata.version == "v1.0.0_20190102_030405"
        assert registry.config_of(SYMBOL) == tiny.config()


@contextlib.contextmanager
def model_server(folder, uri):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "models", "serve", "--model-uri", uri, "--env-manager", "local"]
    environment = os.environ | {
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlruns/mlflow.db",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    with (folder / "server.log").open("w") as log:
        server = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port)],
            cwd=folder.parent,
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield server, f"http://127.0.0.1:{port}"
    finally:
        os.killpg(server.pid, 15)
        server.wait(30)


def wait_until_it_answers(server, address, log, seconds=150):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        assert server.poll() is None, log.read_text()[-3000:]
        not_yet = contextlib.suppress(urllib.error.URLError, ConnectionError, TimeoutError)
        with not_yet, urllib.request.urlopen(f"{address}/ping", timeout=5) as answer:
            assert answer.status == 200
            return
        time.sleep(0.2)  # between two checks; the deadline decides
    raise AssertionError(f"no answer within {seconds} s: {log.read_text()[-3000:]}")


@pytest.mark.slow
def test_mlflows_model_server_gives_the_same_forecast(store):
    frame = as_text(with_whole_volume(tiny.prices()))
    body = json.dumps({"dataframe_split": frame.to_dict(orient="split", index=False), "params": {"as_of": ""}}).encode()
    with model_server(store, "models:/^IXIC_lstm@champion") as (server, address):
        wait_until_it_answers(server, address, store / "server.log")
        request = urllib.request.Request(
            f"{address}/invocations", body, headers={"Content-Type": "application/json"}, method="POST"
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            rows = pd.DataFrame(json.load(answer)["predictions"])
    assert list(rows.columns) == list(tiny.forecaster().predict(tiny.prices()).columns)
    wanted = expected()
    for name in wanted.columns:
        if pd.api.types.is_float_dtype(wanted[name]):
            np.testing.assert_array_equal(rows[name].astype(float), wanted[name])
        elif pd.api.types.is_datetime64_any_dtype(wanted[name]):
            assert pd.to_datetime(rows[name]).tolist() == wanted[name].tolist()
        else:
            assert rows[name].tolist() == wanted[name].tolist()


# Champions


class TestChampions:
    """The history of champions. It needs only aliases and tags, no models."""

    @pytest.fixture
    def symbol(self, request):
        """Return a symbol that only this test uses."""
        return request.node.name

    @pytest.fixture
    def versions(self, store, symbol):
        """Register three versions without a model, none of them champion."""
        return bare_versions(symbol, 3)

    def test_history_lists_champions_with_times_and_reasons(self, symbol, versions):
        assert registry.history(symbol).empty
        before = pd.Timestamp.now("UTC")
        registry.promote(versions[0], "the first version")
        registry.challenge(versions[1], "no better")
        registry.promote(versions[2], "better")
        history = registry.history(symbol)
        assert history[["number", "version", "change", "reason"]].to_numpy().tolist() == [
            [1, "v1.0.0_20190101_000000", "promoted", "the first version"],
            [3, "v1.0.0_20190103_000000", "promoted", "better"],
        ]
        assert history["since"].is_monotonic_increasing
        assert history["since"].between(before, pd.Timestamp.now("UTC")).all()
        assert history["until"].tolist()[0] == history["since"].tolist()[1]
        assert pd.isna(history["until"].tolist()[1])

    def test_an_empty_history_has_the_same_columns_and_types(self, symbol, versions):
        empty = registry.history(symbol)
        registry.promote(versions[0], "the first version")
        full = registry.history(symbol)
        numbers = ["number", "since", "until"]
        assert list(empty) == list(full)
        assert empty[numbers].dtypes.equals(full[numbers].dtypes)

    def test_each_rollback_returns_to_the_previous_champion(self, symbol, versions):
        for version in versions:
            registry.promote(version, "better")
        registry.challenge(versions[0], "for this test")
        for number in (2, 1):
            assert registry.roll_back(symbol, "it was wrong").number == number
            assert registry.find(symbol).number == number
        with pytest.raises(ModelNotFoundError, match=r"expected an earlier champion of .* to roll back to; "):
            registry.roll_back(symbol, "once more")
        assert registry.history(symbol)["number"].tolist() == [1, 2, 3, 2, 1]
        assert registry.history(symbol)["change"].tolist() == ["promoted"] * 3 + ["rolled back"] * 2
        assert runs.connect().get_registered_model(registry.model_name(symbol)).aliases.keys() == {"champion"}
        registry.promote(versions[2], "repaired")
        assert registry.roll_back(symbol, "it was not").number == 1

    def test_a_rollback_may_name_the_champion_to_return_to(self, symbol, versions):
        for version in versions:
            registry.promote(version, "better")
        assert registry.roll_back(symbol, "it was better", to="v1.0.0_20190101_000000").number == 1
        assert registry.roll_back(symbol, "and again", to="3").number == 3

    def test_a_version_that_was_never_champion_cannot_be_rolled_back_to(self, symbol, versions):
        registry.promote(versions[0], "the first version")
        registry.promote(versions[1], "better")
        for to in ("3", "2", "9", "v1.0.0_20190103_000000"):
            with pytest.raises(ModelNotFoundError, match=rf"to roll back to, {to}; earlier champions: 1 \(v1\.0\.0"):
                registry.roll_back(symbol, "why not", to=to)
        assert registry.find(symbol).number == 2
        with pytest.raises(ModelNotFoundError, match="earlier champions: none"):
            registry.roll_back("^GSPC", "there is none")

    def test_a_deleted_champion_cannot_be_rolled_back_to(self, symbol, versions):
        registry.promote(versions[0], "the first version")
        registry.promote(versions[1], "better")
        runs.connect().delete_model_version(registry.model_name(symbol), "1")
        with pytest.raises(ModelNotFoundError, match="expected an earlier champion"):
            registry.roll_back(symbol, "it was better after all")

    def test_symbols_with_the_same_letters_have_models_of_their_own(self, symbol, versions):
        registry.promote(versions[0], "the first version")
        for other in (f"^{symbol}", f"{symbol}.", f" {symbol}"):
            assert registry.find(other) is None
        for other in ("가나다", "日本", "O'X", 'A"B', "A&B.NS", "A/B", "A%2FB"):
            registry.promote(bare_versions(other, 1)[0], "the first version")
            assert registry.find(other).tags["symbol"] == other

    def test_a_model_named_by_the_letters_of_its_symbol_alone_is_renamed(self, symbol):
        client, earlier = runs.connect(), f"{symbol}_lstm"
        client.create_registered_model(earlier)
        tags = {"version": "v1.0.0_20190101_000000", "symbol": f"^{symbol}"}
        client.create_model_version(earlier, "nowhere", tags=tags)
        client.set_registered_model_alias(earlier, "champion", "1")
        assert registry.find(symbol) is None
        assert registry.find(f"^{symbol}").name == f"^{symbol}_lstm"

    def test_the_contest_lock_lets_one_thread_decide_at_a_time(self, symbol, versions):
        inside, arrived, seen = threading.Event(), threading.Event(), []

        def decide(number):
            if number == 2:
                inside.wait()
                arrived.set()
            with registry.contest_lock(symbol):
                inside.set()
                arrived.wait()
                champion = registry.find(symbol)
                seen.append(champion and champion.number)
                registry.promote(versions[number], "the next one")

        threads = [threading.Thread(target=decide, args=(number,)) for number in (1, 2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert seen == [None, 2]
        assert registry.history(symbol)["number"].tolist() == [2, 3]


def bare_versions(symbol, count):
    client, name = runs.connect(), registry.model_name(symbol)
    client.create_registered_model(name)
    found = []
    for number in range(1, count + 1):
        tags = {"version": f"v1.0.0_2019010{number}_000000", "symbol": symbol}
        client.create_model_version(name, "nowhere", tags=tags)
        found.append(registry.Registered(name, number, tags, ""))
    return found
