"""MLflow runs: the store they are in, and what is logged to them."""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import mlflow
import numpy as np
import pandas as pd
from mlflow.data.pandas_dataset import from_pandas
from mlflow.entities import Experiment, LifecycleStage, Metric
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from forecastlib.config import RunConfig
from forecastlib.data.prices import fingerprint
from forecastlib.database import parse_url, sqlite_file
from forecastlib.errors import TrackingError
from forecastlib.paths import file_lock, project_root

if TYPE_CHECKING:
    from matplotlib.figure import Figure

EXPERIMENT = "forecastlib"
RUN_VARIABLE = "MLFLOW_RUN_ID"
URI_VARIABLE = "MLFLOW_TRACKING_URI"

_BESIDE_THE_DATABASE = {"forecastlib.artifacts": "beside the database"}
"""Tag of experiments whose artifact location this module has chosen."""

_log = logging.getLogger(__name__)


def connect() -> mlflow.MlflowClient:
    """Point MLflow at the project's store, create the store if it does not exist, and return a client.

    ``MLFLOW_TRACKING_URI`` may name any server or database; without it, runs go to ``mlruns/mlflow.db`` in
    :func:`~forecastlib.paths.project_root`. The artifacts of an SQLite store are in the folder ``artifacts`` beside the
    database, and MLflow stores their absolute locations: runs and models are found from any working directory.

    Notes
    -----
    **Moving a project.** MLflow cannot change a stored location. When the database is found in another folder than
    before, the experiment ``forecastlib`` is renamed to ``forecastlib (OLD LOCATION)`` and a new one is created, whose
    artifacts are written beside the database. Registered models stay registered, and
    :func:`forecastlib.tracking.registry.load` finds their files beside the database. MLflow's own loaders
    (``models:/...``) and pages look for them at the old location: leave a symbolic link to the new folder there, or
    train again. The same is done with a store of the first edition, whose locations are relative; MLflow itself finds
    its models from the project's root only.

    Raises
    ------
    TrackingError
        If the store cannot be reached, has the schema of another version of MLflow, or the experiment was deleted.
    """
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    given = os.environ.get(URI_VARIABLE)
    uri = given or f"sqlite:///{project_root() / 'mlruns' / 'mlflow.db'}"
    mlflow.set_tracking_uri(uri)
    if not given:  # MLflow has set it, and the next call would take it for the user's choice
        os.environ.pop(URI_VARIABLE, None)
    try:
        with _creation_lock():
            client = mlflow.MlflowClient(uri)  # creates the tables of a new database
            _ensure_experiment(client, artifacts_folder())
        mlflow.set_experiment(EXPERIMENT)
    except (MlflowException, SQLAlchemyError, OSError) as error:
        raise _unusable(uri, error) from error
    return client


def _unusable(uri: str, error: Exception) -> TrackingError:
    """Return the error for a store that cannot be used, which says in one line what to do."""
    parts = urlsplit(uri)
    shown = uri.replace(f"{parts.username or ''}:{parts.password}@", "***@") if parts.password else uri
    reason = " ".join(str(error).split())
    if parts.password:
        reason = reason.replace(parts.password, "***")
    if "out-of-date database schema" in reason:
        remedy = (
            "the database was written by another version of MLflow; if by an older one, copy the database and run "
            f"'mlflow db upgrade {shown}', otherwise install the version that wrote it"
        )
    else:
        remedy = f"check that it is running and can be reached, or set or unset {URI_VARIABLE}"
    return TrackingError(f"MLflow's store {shown} cannot be used: {reason[:300]}; {remedy}")


def experiment_id(client: mlflow.MlflowClient) -> str:
    """Return the id of the experiment that new runs belong to."""
    experiment = client.get_experiment_by_name(EXPERIMENT)
    assert experiment is not None, "connect() creates it"
    return str(experiment.experiment_id)


def experiment_ids(client: mlflow.MlflowClient) -> list[str]:
    """Return the ids of all experiments with runs of this project, those from before a move included."""
    found = client.search_experiments(filter_string=f"name LIKE '{EXPERIMENT}%'")
    return [
        str(experiment.experiment_id)
        for experiment in found
        if experiment.name in {EXPERIMENT, _name_by_location(experiment.artifact_location)}
    ]


def store_file() -> Path | None:
    """Return the SQLite database that MLflow uses; None for a server or another database."""
    uri = mlflow.get_tracking_uri()
    file = sqlite_file(parse_url(uri)) if uri.startswith("sqlite:") else None
    return Path(file).resolve() if file else None


def artifacts_folder() -> Path | None:
    """Return the folder of the artifacts of an SQLite store; None for a server or another database."""
    file = store_file()
    return file.parent / "artifacts" if file else None


def moved_artifacts(client: mlflow.MlflowClient, run_id: str, location: str) -> Path | None:
    """Return where artifacts of an SQLite store are now, if the store has been moved since they were written.

    Parameters
    ----------
    client
        As returned by :func:`connect`.
    run_id
        The run that wrote them.
    location
        Where they were written: a path or ``file:`` URI below the artifact location of the run's experiment.

    Returns
    -------
    Path or None
        The same place below :func:`artifacts_folder`, which need not exist; None if there is no such folder.
    """
    folder = artifacts_folder()
    experiment = client.get_experiment(client.get_run(run_id).info.experiment_id)
    before = _local_path(experiment.artifact_location)
    after = _local_path(location)
    if folder is None or before is None or after is None or not after.is_relative_to(before):
        return None
    return folder / after.relative_to(before)


def _ensure_experiment(client: mlflow.MlflowClient, artifacts: Path | None) -> None:
    experiment = client.get_experiment_by_name(EXPERIMENT)
    if experiment is not None and experiment.lifecycle_stage == LifecycleStage.DELETED:
        raise TrackingError(
            f"the experiment {EXPERIMENT!r} was deleted in MLflow; restore it with: mlflow experiments restore "
            f"--experiment-id {experiment.experiment_id} (MLFLOW_TRACKING_URI={mlflow.get_tracking_uri()}), or remove "
            "it and its runs permanently with: mlflow gc"
        )
    if experiment is not None and artifacts is not None and _has_moved(experiment, artifacts):
        _log.warning(
            "the MLflow store is now beside %s; earlier runs are in the experiment %r",
            artifacts,
            _name_by_location(experiment.artifact_location),
        )
        client.rename_experiment(experiment.experiment_id, _name_by_location(experiment.artifact_location))
        experiment = client.get_experiment_by_name(_name_by_location(artifacts.as_uri()))
        if experiment is not None:  # moved back
            client.rename_experiment(experiment.experiment_id, EXPERIMENT)
    if experiment is None:
        if artifacts is None:
            client.create_experiment(EXPERIMENT)
        else:
            client.create_experiment(EXPERIMENT, artifacts.as_uri(), tags=_BESIDE_THE_DATABASE)


def _has_moved(experiment: Experiment, artifacts: Path) -> bool:
    """Return whether an experiment's artifacts should be in this folder, but were located elsewhere."""
    location = _local_path(experiment.artifact_location)
    if location is None:
        return False
    if not location.is_absolute():  # written by the first edition
        return True
    # An experiment without the tag was created by the user, who may have chosen any location.
    return location.resolve() != artifacts and experiment.tags.items() >= _BESIDE_THE_DATABASE.items()


def _name_by_location(location: str) -> str:
    return f"{EXPERIMENT} ({location})"


def _local_path(location: str) -> Path | None:
    parts = urlsplit(location)
    if parts.scheme == "file":
        return Path(unquote(parts.path))
    return None if parts.scheme else Path(location)


_opened: set[tuple[Path, int]] = set()
"""SQLite stores that this process has opened, each with the file's inode in case it is replaced."""


@contextlib.contextmanager
def _creation_lock() -> Iterator[None]:
    """Let one process at a time open an SQLite store first: MLflow fails if two create its tables at once.

    Later calls take no lock, so that a process that hangs in its first call does not block those that are working.
    """
    file = store_file()
    if file is None or _opened_key(file) in _opened:
        yield
        return
    with file_lock(file.with_suffix(".lock")):
        yield
    _opened.add(_opened_key(file))


def _opened_key(file: Path) -> tuple[Path, int]:
    return file, file.stat().st_ino if file.is_file() else 0


@contextlib.contextmanager
def run(name: str, tags: Mapping[str, str]) -> Iterator[str]:
    """Open a run and yield its id. A run that a notebook runner has opened (``MLFLOW_RUN_ID``) is resumed instead.

    A new run is nested in the active one, if any. If the block raises, the run ends as FAILED.
    """
    connect()
    opened = os.environ.get(RUN_VARIABLE)
    try:
        with mlflow.start_run(run_name=None if opened else name, nested=True) as active:
            mlflow.set_tags(dict(tags))
            yield active.info.run_id
    finally:
        if opened:  # MLflow removes it, but the notebook has yet to log its figures
            os.environ[RUN_VARIABLE] = opened


def log_config(config: RunConfig) -> None:
    """Log every setting as a parameter (text unchanged, other types as JSON), and the configuration as an artifact."""
    flat = config.flat()
    mlflow.log_params({name: value if isinstance(value, str) else json.dumps(value) for name, value in flat.items()})
    mlflow.log_dict(config.model_dump(mode="json"), "config.json")


def log_history(run_id: str, history: pd.DataFrame) -> None:
    """Log the losses of every epoch, in as few calls as MLflow allows."""
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
    """Log the prices that a run has used, as a data set with their fingerprint, and their quality report."""
    symbol, source = str(prices.attrs.get("symbol", "")), str(prices.attrs.get("source", ""))
    dataset = from_pandas(prices, name=symbol or None, digest=fingerprint(prices))
    mlflow.log_input(dataset, context="training", tags={"source": source})
    mlflow.set_tags({"data_fingerprint": fingerprint(prices), "data_source": source})
    mlflow.log_text(quality.to_csv(index=False), "quality.csv")


def log_tables(tables: Mapping[str, pd.DataFrame]) -> None:
    """Log tables as CSV to the run of this notebook; without a notebook runner, do nothing."""
    run_id = os.environ.get(RUN_VARIABLE)
    if run_id:
        client = connect()
        for name, table in tables.items():
            client.log_text(run_id, table.to_csv(index=False), f"tables/{name}.csv")


def log_metrics(metrics: Mapping[str, float]) -> None:
    """Log metrics to the run of this notebook; without a notebook runner, do nothing."""
    run_id = os.environ.get(RUN_VARIABLE)
    if run_id:
        client = connect()
        for name, value in metrics.items():
            client.log_metric(run_id, name, value)


def log_figures(figures: Mapping[str, Figure]) -> None:
    """Log figures to the run of this notebook; without a notebook runner, do nothing."""
    run_id = os.environ.get(RUN_VARIABLE)
    if run_id:
        client = connect()
        for name, figure in figures.items():
            client.log_figure(run_id, figure, f"figures/{name}.png")
