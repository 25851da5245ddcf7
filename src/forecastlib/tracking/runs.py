"""MLflow runs: the store they are in, and what is logged to them.

A backtest is a run with one run nested in it for each task.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import mlflow
import numpy as np
import pandas as pd
from mlflow.data.pandas_dataset import from_pandas
from mlflow.entities import Experiment, LifecycleStage, Metric, Param
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from forecastlib.config import RunConfig
from forecastlib.data.prices import fingerprint
from forecastlib.database import parse_url, sqlite_file
from forecastlib.errors import TrackingError
from forecastlib.paths import file_lock, file_name, project_root

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from forecastlib.evaluation.backtest_result import BacktestResult

EXPERIMENT = "forecastlib"
RUN_VARIABLE = "MLFLOW_RUN_ID"
URI_VARIABLE = "MLFLOW_TRACKING_URI"

KEY_TAG, TASK_TAG = "backtest_key", "backtest_task"
PARENT_TAG = "mlflow.parentRunId"

BACKTEST_TABLES = ("scores", "verdicts", "by_year", "by_period", "calibration", "folds", "tasks")

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
    TimeoutError
        If another process does not finish creating the store.
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
    except TimeoutError:
        raise  # another process is creating the store, and the message says so
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
    """Return where artifacts of an SQLite store are now, if the store has been moved since a run wrote them.

    Parameters
    ----------
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
    mlflow.log_params(_as_params(config.flat()))
    mlflow.log_dict(config.model_dump(mode="json"), "config.json")


def _as_params(values: Mapping[str, object]) -> dict[str, str]:
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in values.items()}


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
    if run_id := os.environ.get(RUN_VARIABLE):
        client = connect()
        for name, table in tables.items():
            client.log_text(run_id, table.to_csv(index=False), f"tables/{name}.csv")


def log_metrics(metrics: Mapping[str, float]) -> None:
    """Log metrics to the run of this notebook; without a notebook runner, do nothing."""
    if run_id := os.environ.get(RUN_VARIABLE):
        client = connect()
        for name, value in metrics.items():
            client.log_metric(run_id, name, value)


def log_figures(figures: Mapping[str, Figure]) -> None:
    """Log figures to the run of this notebook; without a notebook runner, do nothing."""
    if run_id := os.environ.get(RUN_VARIABLE):
        client = connect()
        for name, figure in figures.items():
            client.log_figure(run_id, figure, f"figures/{name}.png")


def log_backtest(result: BacktestResult, prices: pd.DataFrame, config: RunConfig) -> BacktestResult:
    """Log a backtest as a run with its scores and tables, and each of its tasks as a run nested in it.

    A task has one run, which is found by its key: tasks that an earlier backtest has logged are not logged again.

    Parameters
    ----------
    result
        Of :func:`forecastlib.evaluation.backtest.run_backtest`.
    prices, config
        What it was computed from.

    Returns
    -------
    BacktestResult
        The result with its ``run_id``, and with those of its ``tasks``.
    """
    from forecastlib.bundle import git_commit  # here: whoever only reads runs need not load the models
    from forecastlib.data.quality import check_quality
    from forecastlib.evaluation.score_table import flat_scores

    tags = {"symbol": result.symbol, "git_commit": git_commit() or "unknown"}
    with run(f"{file_name(result.symbol)}_backtest", tags) as run_id:
        models, seeds = (result.tasks.index.unique(level).tolist() for level in ("model", "seed"))
        seeds = [seed for seed in seeds if seed >= 0]
        mlflow.log_params({"folds": len(result.folds), "models": ",".join(models), "seeds": json.dumps(seeds)})
        mlflow.log_dict(config.model_dump(mode="json"), "backtest/config.json")
        log_data(prices, check_quality(prices, **config.data.quality).checks)
        logged = replace(result, run_id=run_id, tasks=result.tasks.assign(run_id=_log_tasks(result, run_id, config)))
        # With a prefix: the run may be that of notebooks, in which a training was logged too.
        scores = flat_scores(result.scores, result.main_model)
        mlflow.log_metrics({f"backtest/{name}": value for name, value in scores.items()})
        for name in BACKTEST_TABLES:
            mlflow.log_text(getattr(logged, name).to_csv(), f"backtest/{name}.csv")
    return logged


def _log_tasks(result: BacktestResult, parent: str, config: RunConfig) -> list[str]:
    """Log the tasks that have no run yet, and return the runs of all."""
    from forecastlib.evaluation.backtest_result import Task
    from forecastlib.evaluation.score_table import flat_scores, score_table

    client = connect()
    experiment = experiment_id(client)
    known = _runs_by_key(client, experiment, result.symbol)
    by_fold = {fold: score_table(part) for fold, part in result.forecasts.groupby("fold")}
    rows: list[dict[Any, Any]] = result.tasks.to_dict("records")
    for index, row in zip(result.tasks.index, rows, strict=True):
        if row["key"] in known:
            continue
        task = Task(*index)
        name = f"{file_name(result.symbol)}_backtest: {task}"
        tags = {PARENT_TAG: parent, KEY_TAG: row["key"], TASK_TAG: str(task), "symbol": result.symbol}
        ended = int(time.time() * 1000)
        started = ended - int(1000 * row["seconds"])
        run_id = str(client.create_run(experiment, start_time=started, tags=tags, run_name=name).info.run_id)
        scores = flat_scores(by_fold[task.fold], f"{task.model}_{task.seed}" if task.seeded else task.model)
        scores |= {key: value for key, value in row.items() if key.startswith("weight_") and np.isfinite(value)}
        own = {"model": task.model, "fold": task.fold} | ({"seed": task.seed} if task.seeded else {})
        client.log_batch(
            run_id,
            metrics=[Metric(key, float(value), ended, 0) for key, value in scores.items()],
            params=[Param(key, value) for key, value in _as_params(config.flat() | own).items()],
        )
        if task in result.histories:
            log_history(run_id, result.histories[task])
        client.set_terminated(run_id, "FINISHED", end_time=ended)
        known[row["key"]] = run_id
    return [known[key] for key in result.tasks["key"]]


def _runs_by_key(client: mlflow.MlflowClient, experiment: str, symbol: str) -> dict[str, str]:
    """Return the runs of tasks that were logged before, by key."""
    wanted = f"tags.symbol = '{symbol}' and tags.{KEY_TAG} != '' and attributes.status = 'FINISHED'"
    found: dict[str, str] = {}
    token: str | None = ""
    while token is not None:
        page = client.search_runs([experiment], wanted, page_token=token or None)
        found |= {each.data.tags[KEY_TAG]: each.info.run_id for each in page}
        token = page.token or None
    return found
