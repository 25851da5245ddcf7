"""The MLflow runs of a backtest: one for the whole, and one nested in it for each task."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import mlflow
import numpy as np
import pandas as pd
from mlflow.entities import Metric, Param, Run

from forecastlib.bundle import git_commit
from forecastlib.config import RunConfig
from forecastlib.data.quality import check_quality
from forecastlib.evaluation.backtest_result import BacktestResult
from forecastlib.evaluation.score_table import flat_scores, score_table
from forecastlib.paths import file_name
from forecastlib.tracking import runs

KEY_TAG, TASK_TAG = "backtest_key", "backtest_task"
PARENT_TAG, NAME_TAG = "mlflow.parentRunId", "mlflow.runName"

TABLES = ("scores", "verdicts", "by_year", "by_period", "calibration", "folds", "tasks")


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
    tags = {"symbol": result.symbol, "git_commit": git_commit() or "unknown"}
    with runs.run(f"{file_name(result.symbol)}_backtest", tags) as run_id:
        models, seeds = (result.tasks.index.unique(level).tolist() for level in ("model", "seed"))
        mlflow.log_params(
            {
                "folds": len(result.folds),
                "models": ",".join(models),
                "seeds": json.dumps([seed for seed in seeds if seed >= 0]),
            }
        )
        mlflow.log_dict(config.model_dump(mode="json"), "backtest/config.json")
        runs.log_data(prices, check_quality(prices, **config.data.quality).checks)
        logged = replace(result, run_id=run_id, tasks=result.tasks.assign(run_id=_log_tasks(result, run_id, config)))
        _log_result(logged)
    return logged


def _log_tasks(result: BacktestResult, parent: str, config: RunConfig) -> list[str]:
    """Log the tasks that have no run yet, and return the runs of all."""
    client = runs.connect()
    known = _known_runs(client, result)
    by_fold = {fold: score_table(rows) for fold, rows in result.forecasts.groupby("fold")}
    tasks: list[dict[Any, Any]] = result.tasks.reset_index().to_dict("records")
    for task in tasks:
        if task["key"] not in known:
            row = task["model"] if task["seed"] < 0 else f"{task['model']}_{task['seed']}"
            scores = flat_scores(by_fold[task["fold"]], row)
            weights = {name: value for name, value in task.items() if name.startswith("weight_")}
            known[task["key"]] = _log_task(client, result, parent, config, task, scores | weights)
    return [known[task["key"]] for task in tasks]


def _known_runs(client: mlflow.MlflowClient, result: BacktestResult) -> dict[str, str]:
    """Return the runs of tasks that were logged before, by key."""
    wanted = f"tags.symbol = '{result.symbol}' and tags.{KEY_TAG} != '' and attributes.status = 'FINISHED'"
    found: list[Run] = []
    token: str | None = None
    while True:
        page = client.search_runs([runs.experiment_id(client)], wanted, page_token=token)
        found += page
        token = page.token
        if not token:
            return {run.data.tags[KEY_TAG]: run.info.run_id for run in found}


def _log_task(
    client: mlflow.MlflowClient,
    result: BacktestResult,
    parent: str,
    config: RunConfig,
    task: Mapping[str, Any],
    scores: Mapping[str, float],
) -> str:
    index = fold, model, seed = task["fold"], task["model"], task["seed"]
    name = f"fold {fold}, {model}" + ("" if seed < 0 else f", seed {seed}")
    run_name = f"{file_name(result.symbol)}_backtest: {name}"
    tags = {PARENT_TAG: parent, NAME_TAG: run_name, KEY_TAG: task["key"], TASK_TAG: name, "symbol": result.symbol}
    ended = int(time.time() * 1000)
    started = ended - int(1000 * task["seconds"])
    run_id: str = client.create_run(runs.experiment_id(client), start_time=started, tags=tags).info.run_id
    flat = config.flat() | {"model": model, "fold": fold} | ({} if seed < 0 else {"seed": seed})
    params = [Param(name, value if isinstance(value, str) else json.dumps(value)) for name, value in flat.items()]
    metrics = [Metric(name, float(value), ended, 0) for name, value in scores.items() if np.isfinite(value)]
    client.log_batch(run_id, metrics=metrics, params=params)
    if index in result.histories:
        runs.log_history(run_id, result.histories[index])
    client.set_terminated(run_id, "FINISHED", end_time=ended)
    return run_id


def _log_result(result: BacktestResult) -> None:
    """Log the scores of the first model and all tables.

    Names begin with ``backtest``: the run may be that of notebooks, in which a training was logged too.
    """
    scores = flat_scores(result.scores, result.main_model)
    mlflow.log_metrics({f"backtest/{name}": value for name, value in scores.items()})
    for name in TABLES:
        mlflow.log_text(getattr(result, name).to_csv(), f"backtest/{name}.csv")
