"""Python, notebook, command line, service and the MLflow model give the same forecast, to the last bit."""

import json
import os
import shutil
import subprocess
import sys

import mlflow
import pandas as pd
import pytest
import serving_project
import tiny

from forecastlib import Ledger
from forecastlib.runner import find_notebooks, read_parameters, run_notebooks
from forecastlib.tracking import registry

pytestmark = pytest.mark.slow

AS_OF = "2018-11-30"
NUMBERS = [
    *("last_close", "predicted_price", "change_pct", "lower_80", "upper_80", "lower_95", "upper_95"),
    *("p_up", "p_down", "confidence"),
]


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    with tiny.home(tmp_path_factory.mktemp("project")) as home:
        shutil.copytree(serving_project.NOTEBOOKS, home / "notebooks")
        serving_project.register()
        yield home


@pytest.fixture(scope="module")
def expected(project):
    return numbers(registry.load("^IXIC").predict(tiny.prices(), AS_OF))


@pytest.fixture
def ledger(project, tmp_path, monkeypatch):
    """An empty ledger, so that each interface records its own forecast."""
    monkeypatch.setenv("FORECASTLIB_LEDGER", f"sqlite:///{tmp_path / 'ledger.db'}")
    with Ledger() as ledger:
        yield ledger


def numbers(frame: pd.DataFrame) -> dict[int, dict[str, str]]:
    """Return the exact numbers of each horizon."""
    rows = frame.set_index("horizon")[NUMBERS].astype("float64")
    return {int(horizon): {name: float(value).hex() for name, value in row.items()} for horizon, row in rows.iterrows()}


def test_recalibration_matters_for_this_origin(expected):
    as_trained = registry.load("^IXIC").predict(tiny.prices(), AS_OF, recalibrate=False)
    assert numbers(as_trained) != expected


def test_the_notebook_gives_the_same_forecast(ledger, expected):
    notebooks = find_notebooks(["forecast"])
    given = read_parameters({"symbol": "^IXIC", "as_of": AS_OF}, notebooks)
    run_notebooks(notebooks, given, progress=False)
    assert numbers(ledger.history()) == expected


def test_the_command_line_gives_the_same_forecast(ledger, expected):
    command = [sys.executable, "-m", "forecastlib.cli", "forecast", "^IXIC", "--as-of", AS_OF, "--format", "json"]
    done = subprocess.run(command, env=os.environ.copy(), capture_output=True, text=True, check=True)
    answer = json.loads(done.stdout)
    frame = pd.DataFrame(answer["forecasts"]).assign(last_close=answer["last_close"])
    assert numbers(frame) == expected
    assert numbers(ledger.history()) == expected


def test_the_service_gives_the_same_forecast(ledger, expected):
    with serving_project.client() as client:
        answer = client.post("/predict", json={"symbol": "^IXIC", "date": AS_OF}).json()
    frame = pd.DataFrame(answer["forecasts"]).assign(last_close=answer["last_close"])
    assert numbers(frame) == expected


def test_the_mlflow_model_gives_the_same_forecast(project, expected):
    model = mlflow.pyfunc.load_model(f"models:/{registry.model_name('^IXIC')}@champion")
    raw = tiny.prices().reset_index()
    assert numbers(model.predict(raw, params={"as_of": AS_OF})) == expected
