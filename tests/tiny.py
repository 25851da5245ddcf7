"""Forecasters that are trained in seconds, shared by the test modules that only look at them."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import cache
from pathlib import Path

import pandas as pd
import pytest

from forecastlib.config import RunConfig
from forecastlib.data.sources import open_source
from forecastlib.forecaster import Forecaster

PARAMETERS = {
    "start": "2013-01-16",
    "epochs": 2,
    "lookback": 10,
    "horizons": [7, 14],
    "groups": ["bar"],
    "lstm_units": [4],
    "dense_units": [4],
    "branch_units": 4,
}
"""Settings of a small network on the newest 1,500 bundled sessions."""


def config(symbol: str = "^IXIC", **parameters: object) -> RunConfig:
    return RunConfig.from_parameters(**(PARAMETERS | {"symbol": symbol} | parameters))


@cache
def _prices(symbol: str) -> pd.DataFrame:
    return open_source("bundled").fetch(symbol, PARAMETERS["start"])


def prices(symbol: str = "^IXIC") -> pd.DataFrame:
    return _prices(symbol).copy()


@cache
def forecaster(symbol: str = "^IXIC") -> Forecaster:
    """Return a fitted forecaster; do not change it."""
    return Forecaster(config(symbol)).fit(prices(symbol), progress=False)


def numbers(forecast: pd.DataFrame) -> pd.DataFrame:
    """Leave out what differs between two calls by intent."""
    return forecast.drop(columns="batch_id")


@contextmanager
def home(folder: Path) -> Iterator[Path]:
    """Work in a new project, whose store does not exist yet, and return at the end."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FORECASTLIB_HOME", str(folder))
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.delenv("MLFLOW_RUN_ID", raising=False)
        patch.chdir(folder)
        yield folder


def make_locations_relative(database: Path, artifacts: Path) -> None:
    """Turn an MLflow store into one of the first edition, with locations relative to the project and no tag."""
    columns = {"experiments": "artifact_location", "runs": "artifact_uri", "logged_models": "artifact_location"}
    with closing(sqlite3.connect(database)) as connection, connection:
        for table, column in columns.items():
            change = f"UPDATE {table} SET {column} = replace({column}, ?, 'mlruns/artifacts')"
            connection.execute(change, (artifacts.as_uri(),))
        connection.execute("DELETE FROM experiment_tags")
