"""The MLflow runs of a backtest: one for each task, nested in that of the whole."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping

import mlflow
import numpy as np
import pandas as pd
from mlflow.entities import Metric, Param, Run

from forecastlib.config import RunConfig
from forecastlib.evaluation.walkforward.tasks import Task
from forecastlib.paths import slug
from forecastlib.tracking import runs

DIGEST_TAG, TASK_TAG = "backtest", "backtest_task"
PARENT_TAG, NAME_TAG = "mlflow.parentRunId", "mlflow.runName"


class TaskRuns:
    """The runs of tasks that are being computed now.

    Parameters
    ----------
    parent
        The run of the whole.
    digest
        Of the backtest, by which it finds the runs of an earlier attempt.
    config
        The run's configuration.
    symbol
        Symbol.
    """

    def __init__(self, parent: str, digest: str, config: RunConfig, symbol: str) -> None:
        self._client = runs.connect()
        self._experiment = runs.experiment_id(self._client)
        self._parent, self._digest, self._config, self._symbol = parent, digest, config, symbol
        self._open: dict[Task, str] = {}

    def close_left_open(self) -> None:
        """Mark runs of this backtest as KILLED that a process which was killed has left RUNNING.

        Nobody else is at work on it: the caller holds its lock.
        """
        wanted = f"tags.{DIGEST_TAG} = '{self._digest}' and attributes.status = 'RUNNING'"
        left: list[Run] = self._client.search_runs([self._experiment], wanted)
        for run in left:
            if run.info.run_id != self._parent:
                self._client.set_terminated(run.info.run_id, "KILLED")

    def begin(self, task: Task) -> None:
        """Open the run of a task."""
        tags = {PARENT_TAG: self._parent, NAME_TAG: f"{slug(self._symbol)}_backtest: {task}",
                DIGEST_TAG: self._digest, TASK_TAG: str(task), "symbol": self._symbol}  # fmt: skip
        self._open[task] = self._client.create_run(self._experiment, tags=tags).info.run_id

    def finish(self, task: Task, history: Mapping[str, list[float]], scores: Mapping[str, float]) -> str:
        """Log what a task has led to, close its run, and return its id.

        Parameters
        ----------
        task
            One that has begun.
        history
            Losses of each epoch; empty for baselines.
        scores
            Of its test set.
        """
        run_id = self._open[task]
        flat = self._config.flat() | ({} if task.seed is None else {"seed": task.seed}) | {"fold": task.fold}
        params = [Param(name, value if isinstance(value, str) else json.dumps(value)) for name, value in flat.items()]
        now = int(time.time() * 1000)
        metrics = [Metric(name, float(value), now, 0) for name, value in scores.items() if np.isfinite(value)]
        self._client.log_batch(run_id, metrics=metrics, params=params)
        losses = pd.DataFrame(history)
        losses.index += 1
        runs.log_history(run_id, losses)
        self._client.set_terminated(run_id, "FINISHED")
        return self._open.pop(task)

    def abandon(self, error: BaseException) -> None:
        """Close the runs of tasks that will not be finished: KILLED if the user wanted it, else FAILED."""
        status = "KILLED" if isinstance(error, KeyboardInterrupt | GeneratorExit) else "FAILED"
        for run_id in self._open.values():
            self._client.set_terminated(run_id, status)
        self._open.clear()


def log_result(tables: Mapping[str, pd.DataFrame], metrics: Mapping[str, float]) -> None:
    """Log what the whole backtest has found to the active run.

    Names begin with ``backtest``: the run may be that of notebooks, one of which has trained and logged a model.
    """
    mlflow.log_metrics({f"backtest/{name}": value for name, value in metrics.items() if np.isfinite(value)})
    for name, table in tables.items():
        mlflow.log_text(table.to_csv(), f"backtest/{name}.csv")
