"""MLflow runs: where they are kept and what is logged to them."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import mlflow
import numpy as np
import pandas as pd
from mlflow.data.pandas_dataset import from_pandas
from mlflow.entities import Metric

from forecastlib.config import RunConfig
from forecastlib.data.prices import fingerprint
from forecastlib.paths import file_lock, project_root

if TYPE_CHECKING:
    from matplotlib.figure import Figure

EXPERIMENT = "forecastlib"
RUN_VARIABLE = "MLFLOW_RUN_ID"
URI_VARIABLE = "MLFLOW_TRACKING_URI"


def connect() -> mlflow.MlflowClient:
    """Point MLflow at the project's store, creating it once, and return a client.

    ``MLFLOW_TRACKING_URI`` names any server or database. Without it runs go to ``mlruns/mlflow.db`` of the project and
    their artifacts to ``mlruns/artifacts``. These locations are kept relative, so that the project can be moved as a
    whole; for them to be found, this enters the project's root folder (:func:`project_root`).
    """
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    given = os.environ.get(URI_VARIABLE)
    if given:
        return _open_store(given, movable=False)
    root = project_root()
    (root / "mlruns").mkdir(parents=True, exist_ok=True)
    os.chdir(root)
    client = _open_store(f"sqlite:///{root / 'mlruns' / 'mlflow.db'}", movable=True)
    # MLflow writes it to the environment as well, where it would look like the user's wish the next time.
    os.environ.pop(URI_VARIABLE, None)
    return client


def _open_store(uri: str, *, movable: bool) -> mlflow.MlflowClient:
    mlflow.set_tracking_uri(uri)
    with _only_one_creates(uri):
        client = mlflow.MlflowClient(uri)  # makes the tables of a new database
        if client.get_experiment_by_name(EXPERIMENT) is None:
            created = client.create_experiment(EXPERIMENT)
            if movable:
                _keep_artifacts_relative(uri, created)
    mlflow.set_experiment(EXPERIMENT)
    return client


def experiment_id(client: mlflow.MlflowClient) -> str:
    """Return the id of the experiment that all runs belong to."""
    experiment = client.get_experiment_by_name(EXPERIMENT)
    assert experiment is not None, "connect() creates it"
    return experiment.experiment_id


def _keep_artifacts_relative(uri: str, experiment: str) -> None:
    """Write the place of artifacts as it is seen from the root: MLflow makes every path absolute when it is given."""
    with contextlib.closing(sqlite3.connect(uri.removeprefix("sqlite:///"))) as database, database:
        change = "UPDATE experiments SET artifact_location = 'mlruns/artifacts' WHERE experiment_id = ?"
        database.execute(change, (experiment,))


_made: set[tuple[str, int]] = set()
"""Local databases that this process has seen whole, each with the number that the file system knows it by."""


@contextlib.contextmanager
def _only_one_creates(uri: str) -> Iterator[None]:
    """Let one process at a time look at a local database for the first time: creating its tables twice at once fails.

    Later looks wait for nobody, so that a process which is stopped, or has little of the processor, stops no other.
    """
    if not uri.startswith("sqlite:"):
        yield
        return
    file = Path(uri.removeprefix("sqlite:///"))
    if _as_seen(uri, file) in _made:
        yield
        return
    with file_lock(file.with_suffix(".lock")):
        yield
    _made.add(_as_seen(uri, file))


def _as_seen(uri: str, file: Path) -> tuple[str, int]:
    return uri, file.stat().st_ino if file.is_file() else 0


@contextlib.contextmanager
def run(name: str, tags: Mapping[str, str]) -> Iterator[str]:
    """Work inside a run, and yield its id: the one ``MLFLOW_RUN_ID`` names if a runner opened one, else a new one.

    A new run is nested in the active one, if there is one. A run that ends by an exception is left FAILED.
    """
    connect()
    opened = os.environ.get(RUN_VARIABLE)
    try:
        with mlflow.start_run(run_name=None if opened else name, nested=True) as active:
            mlflow.set_tags(dict(tags))
            yield active.info.run_id
    finally:
        if opened:  # MLflow forgets it, but figures are still to come
            os.environ[RUN_VARIABLE] = opened


def log_config(config: RunConfig) -> None:
    """Log every setting flat, text as it is and the rest as JSON, and the configuration whole."""
    flat = config.flat()
    mlflow.log_params({name: value if isinstance(value, str) else json.dumps(value) for name, value in flat.items()})
    mlflow.log_dict(config.model_dump(mode="json"), "config.json")


def log_history(run_id: str, history: pd.DataFrame) -> None:
    """Log the losses of every epoch, in as few calls as MLflow takes."""
    now = int(pd.Timestamp.now("UTC").timestamp() * 1000)
    metrics = [
        Metric(str(name), float(value), now, epoch)
        for name, column in history.items()
        for epoch, value in zip(history.index.tolist(), column, strict=True)
        if np.isfinite(value)
    ]
    client = mlflow.MlflowClient()
    for start in range(0, len(metrics), 1000):
        client.log_batch(run_id, metrics=metrics[start : start + 1000])


def log_data(prices: pd.DataFrame, quality: pd.DataFrame) -> None:
    """Log which prices a run has used, by fingerprint, and the report of their quality."""
    symbol, source = str(prices.attrs.get("symbol", "")), str(prices.attrs.get("source", ""))
    dataset = from_pandas(prices, name=symbol or None, digest=fingerprint(prices))
    mlflow.log_input(dataset, context="training", tags={"source": source})
    mlflow.set_tags({"data_fingerprint": fingerprint(prices), "data_source": source})
    mlflow.log_text(quality.to_csv(index=False), "quality.csv")


def log_tables(tables: Mapping[str, pd.DataFrame]) -> None:
    """Attach tables as CSV to the run that a runner opened for this notebook; interactively they are only shown."""
    run_id = os.environ.get(RUN_VARIABLE)
    if run_id:
        client = connect()
        for name, table in tables.items():
            client.log_text(run_id, table.to_csv(index=False), f"tables/{name}.csv")


def log_metrics(metrics: Mapping[str, float]) -> None:
    """Log figures to the run that a runner opened for this notebook; interactively they are only shown."""
    run_id = os.environ.get(RUN_VARIABLE)
    if run_id:
        client = connect()
        for name, value in metrics.items():
            client.log_metric(run_id, name, value)


def log_figures(figures: Mapping[str, Figure]) -> None:
    """Attach figures to the run that a runner opened for this notebook; interactively they are only shown."""
    run_id = os.environ.get(RUN_VARIABLE)
    if run_id:
        client = connect()
        for name, figure in figures.items():
            client.log_figure(run_id, figure, f"figures/{name}.png")
