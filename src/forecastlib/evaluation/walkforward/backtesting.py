"""The use case: walk forward, compute what is not there yet, and judge all of it together."""

from __future__ import annotations

import contextlib
import hashlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import mlflow
import pandas as pd
from tqdm import tqdm

from forecastlib.bundle import git_commit
from forecastlib.config import RunConfig
from forecastlib.data.prices import require_prices
from forecastlib.data.quality import check_quality
from forecastlib.errors import ConfigError, ForecastError
from forecastlib.evaluation.evaluate import RANDOM_WALK, evaluate
from forecastlib.evaluation.walkforward import kept, scoring
from forecastlib.evaluation.walkforward.pooling import pool
from forecastlib.evaluation.walkforward.processes import compute_all, default_workers
from forecastlib.evaluation.walkforward.result import BacktestResult
from forecastlib.evaluation.walkforward.runs import DIGEST_TAG, TaskRuns, log_result
from forecastlib.evaluation.walkforward.tasks import AS_TRAINED, LSTM, MC_DROPOUT, Folds, Task, key, tasks_of
from forecastlib.forecasts import COLUMNS
from forecastlib.paths import file_lock, project_root, slug
from forecastlib.samples.splits import Split
from forecastlib.samples.windows import Windows
from forecastlib.tracking import runs


def backtest(
    prices: pd.DataFrame,
    config: RunConfig | None = None,
    *,
    folds: int = 5,
    seeds: int | Sequence[int] = (0, 1, 2),
    test_size: int | None = None,
    expanding: bool = True,
    workers: int | None = None,
    progress: bool = True,
) -> BacktestResult:
    """Refit the model and every baseline along time, and judge their forecasts of what came after.

    Each fold's training, validation and test set are purged by label dates as in a single training run; the network is
    fitted once for each seed. Each of these tasks is an MLflow run, nested in one for the whole, and what it leads to
    is kept in ``reports/SYMBOL/backtest/`` of the project: calling again after an interruption computes only what is
    missing, and after a change of anything that matters everything that it matters for. Delete the folder to begin
    anew.

    Parameters
    ----------
    prices
        Prices of one symbol.
    config
        The run. Of ``split``, the embargo and how training and validation share what is before a test set are used.
    folds
        Test sets; they follow one another to the end of the data.
    seeds
        Seeds of the network, all different; the seed of ``config`` is that of the baselines.
    test_size
        Origins in a test set; None: the data divided by ``folds + 1``.
    expanding
        True: every fold trains from the beginning. False: the training set rolls, and stays as long as in the first.
    workers
        Processes, of one thread each; None: one a core, four at most. The result does not depend on their number.
    progress
        Whether to show a bar over tasks.

    Returns
    -------
    BacktestResult

    Raises
    ------
    ConfigError
        If folds, seeds or workers make no sense.
    DataQualityError, NotEnoughDataError
        If the prices are not usable, or too few for so many folds.
    ForecastError
        If a task fails, which leaves its run FAILED and keeps the others; or another process is at the same backtest.

    Examples
    --------
    >>> result = backtest(prices, RunConfig(), folds=5, seeds=(0, 1, 2))     # doctest: +SKIP
    >>> result.scores.loc["lstm", ["skill", "skill_low", "skill_high"]]      # doctest: +SKIP
    >>> result.verdicts.loc[("lstm", 7), "verdict"]                          # doctest: +SKIP
    """
    config = config or RunConfig()
    chosen = (seeds,) if isinstance(seeds, int) else tuple(seeds)
    count = default_workers() if workers is None else workers
    if not chosen or len(set(chosen)) < len(chosen) or min(chosen) < 0 or count < 1:
        raise ConfigError(
            f"expected at least one seed, all different, none negative, and at least one worker; got seeds={seeds}, "
            f"workers={workers}"
        )
    require_prices(prices)
    division = Folds(folds, test_size, expanding)
    windows, splits = division.of(prices, config)
    symbol = str(prices.attrs.get("symbol", config.data.symbol))
    runs.connect()
    folder = project_root() / "reports" / slug(symbol) / "backtest"
    places = {
        task: kept.place(folder, task, key(task, prices, windows, splits[task.fold - 1], config))
        for task in tasks_of(folds, chosen)
    }
    digest = hashlib.sha256("\n".join(path.name for path in places.values()).encode()).hexdigest()[:16]
    tags = {"symbol": symbol, DIGEST_TAG: digest, "git_commit": git_commit() or "unknown"}
    with _only_one(folder / f".{digest}.lock"), runs.run(f"{slug(symbol)}_backtest", tags) as run_id:
        mlflow.log_params({"folds": folds, "seeds": str(list(chosen)), "test_size": test_size, "expanding": expanding})
        mlflow.log_dict(config.model_dump(mode="json"), "backtest/config.json")
        runs.log_data(prices, check_quality(prices, calendar=config.data.calendar).checks)
        found = {task: kept.find(path) for task, path in places.items()}
        missing = {task: places[task] for task, frame in found.items() if frame is None}
        task_runs = TaskRuns(run_id, digest, config, symbol)
        task_runs.close_left_open()
        run_ids: dict[Task, str] = {}
        with tqdm(total=len(found), initial=len(found) - len(missing), desc=f"{slug(symbol)} backtest",
                  unit="task", disable=not progress, file=sys.stderr, mininterval=0) as bar:  # fmt: skip
            computing = compute_all(missing, prices, config, division, min(count, max(len(missing), 1)))
            with contextlib.closing(computing), _abandoning(task_runs):
                for event in computing:
                    if event.done:
                        frame = found[event.task] = _require(kept.find(places[event.task]))
                        scores = _scores_of_task(frame, prices)
                        if frame.attrs["network_weight"] is not None:
                            scores["network_weight"] = frame.attrs["network_weight"]
                        run_ids[event.task] = task_runs.finish(event.task, frame.attrs["history"], scores)
                        bar.update()
                    else:
                        task_runs.begin(event.task)
        whole = {task: _require(frame) for task, frame in found.items()}
        result = _judge(whole, prices, windows, splits, config, symbol=symbol, run_id=run_id, run_ids=run_ids)
        _log(result)
    return result


@contextlib.contextmanager
def _only_one(lock: Path) -> Iterator[None]:
    """Refuse to work on a backtest that another process is at."""
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(file_lock(lock, timeout=1.0))
        except TimeoutError as error:
            raise ForecastError(
                "another process is at this very backtest; wait until it has finished, then call again: what it has "
                "computed is kept"
            ) from error
        yield


@contextlib.contextmanager
def _abandoning(runs: TaskRuns) -> Iterator[None]:
    """Close the runs of unfinished tasks, however computing ends."""
    try:
        yield
    except BaseException as error:
        runs.abandon(error)
        raise


def _require(frame: pd.DataFrame | None) -> pd.DataFrame:
    if frame is None:
        raise ForecastError("the forecasts of a task were there a moment ago, and cannot be read any more; run again")
    return frame


def _scores_of_task(frame: pd.DataFrame, prices: pd.DataFrame) -> dict[str, float]:
    """Score a task's own test set: a network under plain names, baselines each under its own."""
    beside = frame["model_version"].str.startswith((MC_DROPOUT, AS_TRAINED))  # asked at some origins, or the same again
    every_origin = frame[~beside]
    evaluation = evaluate(every_origin[[*COLUMNS, "crps"]], prices)
    models = list(dict.fromkeys(every_origin["model_version"]))
    if RANDOM_WALK not in models:
        return evaluation.flat(models[0])
    return {f"{model}/{name}": value for model in models for name, value in evaluation.flat(model).items()}


def _judge(
    found: Mapping[Task, pd.DataFrame],
    prices: pd.DataFrame,
    windows: Windows,
    splits: Sequence[Split],
    config: RunConfig,
    *,
    symbol: str,
    run_id: str,
    run_ids: Mapping[Task, str],
) -> BacktestResult:
    forecasts = pool(found, prices, windows, splits, config)
    evaluation = scoring.evaluate_all(forecasts, prices)
    return BacktestResult(
        forecasts=forecasts,
        scores=scoring.with_intervals(evaluation.scores, forecasts),
        verdicts=scoring.with_crps_verdicts(evaluation.verdicts, forecasts),
        by_year=scoring.by_year(forecasts, prices),
        by_period=scoring.by_period(forecasts),
        calibration=scoring.calibration_errors(forecasts),
        folds=_describe_folds(windows, splits),
        tasks=_describe_tasks(found, run_ids),
        symbol=symbol,
        run_id=run_id,
    )


def _describe_folds(windows: Windows, splits: Sequence[Split]) -> pd.DataFrame:
    rows = []
    for split in splits:
        row: dict[str, object] = {}
        for name, index in split.sets().items():
            one = windows.take(index)
            row |= {f"{name}_samples": len(one), f"{name}_first": one.origins.min(), f"{name}_last": one.origins.max(),
                    f"{name}_known": one.label_dates.max()}  # fmt: skip
        rows.append(row)
    return pd.DataFrame(rows, index=pd.RangeIndex(1, len(rows) + 1, name="fold"))


def _describe_tasks(found: Mapping[Task, pd.DataFrame], run_ids: Mapping[Task, str]) -> pd.DataFrame:
    rows = {
        (task.fold, -1 if task.seed is None else task.seed): {
            "seconds": frame.attrs["seconds"],
            "epochs": len(frame.attrs["history"].get("loss", [])),
            "network_weight": frame.attrs["network_weight"],
            "computed": task in run_ids,
            "run_id": run_ids.get(task, ""),
        }
        for task, frame in found.items()
    }
    index = pd.MultiIndex.from_tuples(list(rows), names=["fold", "seed"])
    return pd.DataFrame(list(rows.values()), index=index).sort_index()


def _log(result: BacktestResult) -> None:
    names = ("scores", "verdicts", "by_year", "by_period", "calibration", "folds", "tasks")
    scores = result.scores.loc[LSTM]
    metrics = {
        f"{name}_{h}d": float(value) for h, row in scores.iterrows() for name, value in row.items() if name != "n"
    }
    log_result({name: getattr(result, name) for name in names}, metrics)
