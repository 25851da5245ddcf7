"""Walk-forward backtest: models are refitted along time and scored on the sessions that followed.

A fold is a split of :func:`forecastlib.samples.splits.walk_forward`. In each, every model is fitted once, and once per
seed if its results depend on the seed: these are the tasks, which :mod:`forecastlib.engine` distributes over processes.
Their forecasts are stored as Parquet, so that an interrupted backtest continues where it stopped.

===========================  ==========================================================================================
``random_walk``, ``har`` ..  a model, by its name
``combination_0``, ...       a model that depends on the seed, per seed
``combination``              the mean of its seeds: of their quantiles
``lstm``, ``mc_dropout``     its components, the mean of the seeds; ``mc_dropout`` at every fifth origin
``combination_as_trained``   for a model that recalibrates: with the intervals of its training
``combination_adaptive``     and with intervals widened or narrowed by the coverage of earlier ones
===========================  ==========================================================================================
"""

from __future__ import annotations

import hashlib
import inspect
import json
import logging
import os
import sys
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa  # type: ignore[import-untyped]
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from forecastlib.config import RunConfig
from forecastlib.data.prices import fingerprint, require_prices
from forecastlib.errors import ConfigError, ForecastError
from forecastlib.evaluation.backtest_result import BacktestResult, Task, positions_in_interval
from forecastlib.evaluation.evaluate import scored_rows
from forecastlib.evaluation.score_table import RANDOM_WALK
from forecastlib.forecasts import COVERAGES, Forecast
from forecastlib.models import BASELINES, Distribution, Model, create
from forecastlib.models.base import (
    Factory,
    as_trained,
    components_of,
    factory_of,
    is_built_in,
    is_stochastic,
    thinning_of,
)
from forecastlib.models.conformal import adaptive_widening
from forecastlib.paths import file_name, project_root
from forecastlib.recipe import Recipe
from forecastlib.samples.splits import Split, walk_forward
from forecastlib.samples.windows import Windows

_log = logging.getLogger(__name__)

RESULT_VERSION = 1
"""Raise this when a change to the library alters the forecasts of a backtest: stored ones are then computed again."""

QUANTILE = "quantile_"
"""Prefix of the columns with the distribution of forecasts that are averaged over seeds."""


@dataclass(frozen=True)
class ModelSpec:
    """A model of a backtest, as it is sent to worker processes.

    Attributes
    ----------
    factory : callable
    stochastic : bool
        Whether it is fitted once per seed.
    identity : str
        Distinguishes the model from others of the same name in the keys of stored results.
    """

    factory: Factory
    stochastic: bool
    identity: str


def run_backtest(
    prices: pd.DataFrame,
    config: RunConfig | None = None,
    *,
    models: Sequence[str | Model] | None = None,
    folds: int = 5,
    seeds: int | Sequence[int] = (0, 1, 2),
    test_size: int | None = None,
    expanding: bool = True,
    scheduler: str | None = None,
    workers: int | None = None,
    progress: bool = True,
) -> BacktestResult:
    """Refit models along time, and score their forecasts of the sessions that followed.

    The training, validation and test set of each fold are purged by label dates, as in a single training. The forecasts
    of each task are stored in ``reports/SYMBOL/backtest/`` of the project: calling again after an interruption computes
    only what is missing, and after a change of prices, configuration or models what they affect. Delete the folder to
    start over.

    Parameters
    ----------
    prices
        Prices of one symbol.
    config
        The run. Of its section ``split``, the embargo and the proportion of training and validation are used.
    models
        Names or models, the most interesting one first; None: ``combination`` and all baselines. The random walk is
        added if it is not among them. A model given as an object is fitted as it is, once per fold; one given by name
        is fitted once per seed if its results depend on it.
    folds
        Test sets; they follow one another to the end of the data.
    seeds
        Different seeds. Models that do not depend on them use the seed of ``config``.
    test_size
        Origins in a test set; None: the data divided by ``folds + 1``.
    expanding
        True: every fold trains from the beginning. False: the training set rolls, and stays as long as in the first.
    scheduler, workers
        Where tasks are computed, see :func:`forecastlib.engine.connect`. The result does not depend on it.
    progress
        Whether to show a progress bar over tasks, on a terminal.

    Raises
    ------
    ConfigError
        If folds, seeds, models or workers make no sense.
    DataQualityError, NotEnoughDataError
        If the prices are not usable, or too few for that many folds.
    ForecastError
        If a task fails, with the class of the original error; the results of other tasks stay stored.

    Examples
    --------
    >>> result = run_backtest(prices, RunConfig(), models=["har", "ridge"], folds=5)     # doctest: +SKIP
    >>> result.scores.loc["har", ["crps_skill", "crps_skill_low", "crps_skill_high"]]    # doctest: +SKIP
    """
    config = config or RunConfig()
    chosen = (seeds,) if isinstance(seeds, int) else tuple(seeds)
    if not chosen or len(set(chosen)) < len(chosen) or min(chosen) < 0 or (workers is not None and workers < 1):
        raise ConfigError(
            f"expected at least one seed, all different, none negative, and at least one worker; got seeds={seeds}, "
            f"workers={workers}"
        )
    require_prices(prices)
    specs = _model_specs(models, config)
    windows = Recipe().all_windows(prices, config)
    splits = divide(windows, config, folds=folds, test_size=test_size, expanding=expanding)
    symbol = str(prices.attrs.get("symbol", config.data.symbol))
    folder = project_root() / "reports" / file_name(symbol) / "backtest"
    shared = _shared_facts(prices, windows, config)
    keys = {
        task: _key(task, specs[task.model], shared, windows, splits[task.fold - 1])
        for task in _tasks(folds, specs, chosen)
    }
    paths = {task: folder / _file_name(task, key) for task, key in keys.items()}
    frames = {task: frame for task, path in paths.items() if (frame := _read(path)) is not None}
    missing = [task for task in keys if task not in frames]
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("tasks"))
    console = Console(stderr=True)
    hidden = not progress or not console.is_terminal  # in a notebook, a live bar needs ipywidgets
    computing = _compute_all(missing, specs, windows, splits, config, scheduler, workers)
    with Progress(*columns, TimeElapsedColumn(), console=console, disable=hidden) as bar, closing(computing):
        shown = bar.add_task(f"backtest of {symbol}", total=len(keys), completed=len(frames))
        for task, frame in computing:
            _write(frame, paths[task])
            frames[task] = frame
            bar.advance(shown)
    return BacktestResult.of(
        _assemble(frames, list(specs), prices),
        prices,
        folds=_describe_folds(windows, splits),
        tasks=_describe_tasks(frames, keys, computed=set(missing)),
        histories=_histories(frames),
    )


def divide(
    windows: Windows, config: RunConfig, *, folds: int, test_size: int | None = None, expanding: bool = True
) -> list[Split]:
    """Return the sets of each fold; training and validation share what precedes a test set as configured."""
    shares = config.split
    return list(
        walk_forward(
            windows,
            folds=folds,
            test_size=test_size,
            expanding=expanding,
            embargo=shares.embargo,
            validation_share=shares.validation_share / (shares.train_share + shares.validation_share),
        )
    )


def compute(task: Task, spec: ModelSpec, windows: Windows, split: Split, config: RunConfig) -> pd.DataFrame:
    """Fit a model on the training and validation set of a fold, and forecast its test set.

    Parameters
    ----------
    task, spec
        The fold, the model, and the seed, which replaces that of ``config``.
    windows, split
        All samples, and the sets of the fold.
    config
        The run.

    Returns
    -------
    DataFrame
        Rows as :func:`~forecastlib.evaluation.evaluate.scored_rows` makes them, of the model, its components, and,
        named ``MODEL_as_trained``, the model with the intervals of its training. With a seed they have their quantiles
        too. Its ``attrs`` have the ``seconds`` of the task, the ``history`` of losses and the ``weights``.
    """
    start = time.perf_counter()
    if task.seeded:
        config = config.replace(seed=task.seed)
    recipe = Recipe()
    samples = recipe.divide(windows, config, split)
    model = spec.factory(config).fit(samples.train, samples.validation)
    variants = {task.model: model} | dict(components_of(model))
    if hasattr(model, "as_trained"):
        variants[f"{task.model}_as_trained"] = as_trained(model)
    prices = windows.prices[0]
    test = samples.test.until(samples.test.origins.max())
    parts = []
    for name, variant in variants.items():
        origins = test.take(np.arange(0, len(test), thinning_of(variant)))
        targets = prices.index.get_indexer(origins.origins)[:, None] + np.asarray(config.window.horizons)
        forecast = Forecast.of(
            origins,
            prices.index.to_numpy()[targets],
            recipe.predict(variant, origins),
            model=name,
            direction_threshold=config.model.direction_threshold,
        )
        rows = scored_rows(forecast, prices)
        if task.seeded:
            names = [f"{QUANTILE}{level!r}" for level in forecast.distribution.levels.tolist()]
            quantiles = forecast.distribution.quantiles.reshape(len(rows), -1).astype(np.float32)
            rows = pd.concat([rows, pd.DataFrame(quantiles, columns=names)], axis=1)
        parts.append(rows)
    frame = pd.concat(parts, ignore_index=True)
    history: pd.DataFrame = getattr(model, "history", pd.DataFrame())
    weights: Mapping[str, float] = getattr(model, "weights", {})
    frame.attrs = {
        "seconds": time.perf_counter() - start,
        "history": {str(name): column.tolist() for name, column in history.items()},
        "weights": {name: float(weight) for name, weight in weights.items()},
    }
    if "keras" in sys.modules:  # the next task in this process starts from the same state, and memory does not grow
        sys.modules["keras"].utils.clear_session()
    return frame


def _identity(windows: Windows) -> Windows:
    return windows


def _compute_all(
    tasks: Sequence[Task],
    specs: Mapping[str, ModelSpec],
    windows: Windows,
    splits: Sequence[Split],
    config: RunConfig,
    scheduler: str | None,
    workers: int | None,
) -> Generator[tuple[Task, pd.DataFrame]]:
    """Yield the forecasts of each task as it is completed."""
    if not tasks:
        return
    from distributed import KilledWorker, as_completed, wait  # here: a backtest that is complete does not load Dask

    from forecastlib import engine

    with engine.connect(scheduler, min(workers or engine.default_workers(), len(tasks))) as client:
        # A part of the graph rather than scattered data: it is not lost with the worker that holds it.
        shared = client.submit(_identity, windows, pure=False)
        with client.as_current():
            wait(shared)  # type: ignore[no-untyped-call]  # else tasks do not start in the order of submission
        futures = {
            client.submit(compute, task, specs[task.model], shared, splits[task.fold - 1], config, pure=False): task
            for task in tasks
        }
        for future in as_completed(futures, loop=client.loop):  # type: ignore[no-untyped-call]
            task = futures.pop(future)
            try:
                frame = future.result()
            except KilledWorker as error:
                raise ForecastError(
                    f"{task}: the workers that computed it died several times; if memory ran out, use fewer workers"
                ) from error
            except ForecastError as error:
                raise type(error)(f"{task}: {error}") from error
            except Exception as error:
                error.add_note(f"raised in {task} of the backtest")
                raise
            yield task, frame
            future.release()


def _model_specs(models: Sequence[str | Model] | None, config: RunConfig) -> dict[str, ModelSpec]:
    """Return the models by name, in the order given, with the random walk."""
    specs: dict[str, ModelSpec] = {}
    for model in ("combination", *BASELINES) if models is None else models:
        stochastic = isinstance(model, str) and is_stochastic(model, config)
        if isinstance(model, str) and is_built_in(model):
            name = identity = model
        else:
            created = create(model, config)
            name, identity = created.name, _identity_of(created)
        if name in specs:
            raise ConfigError(f"expected models with different names; {name!r} is given twice")
        specs[name] = ModelSpec(factory_of(model), stochastic, identity)
    specs.setdefault(RANDOM_WALK, ModelSpec(factory_of(RANDOM_WALK), False, RANDOM_WALK))
    return specs


def _identity_of(model: Model) -> str:
    """Describe a model of the user: its class, the source of the class, and its attributes."""
    from dask.base import tokenize  # here: built-in models do not need it

    kind = type(model)
    try:
        source = inspect.getsource(kind)
    except (OSError, TypeError):  # of a class that was typed at a prompt
        source = ""
    state = {name: value.flat() if isinstance(value, RunConfig) else value for name, value in vars(model).items()}
    return f"{kind.__module__}.{kind.__qualname__} {tokenize(source, state)}"


def _tasks(folds: int, specs: Mapping[str, ModelSpec], seeds: Sequence[int]) -> list[Task]:
    """Return the tasks in the order in which they start: the longest first, so that none is left over at the end."""
    return [
        Task(fold, name, seed)
        for fold in range(folds, 0, -1)
        for name, spec in sorted(specs.items(), key=lambda item: not item[1].stochastic)
        for seed in (seeds if spec.stochastic else (-1,))
    ]


def _shared_facts(prices: pd.DataFrame, windows: Windows, config: RunConfig) -> dict[str, Any]:
    """Return what determines the results of every task."""
    given_by_prices = ("source", "start", "end", "model")  # the model is that of the task
    return {
        "result_version": RESULT_VERSION,
        "prices": [fingerprint(prices), str(prices.attrs.get("symbol", ""))],
        "features": hashlib.sha256(np.ascontiguousarray(windows.matrix).tobytes()).hexdigest(),
        "config": {name: value for name, value in config.flat().items() if name not in given_by_prices},
    }


def _key(task: Task, spec: ModelSpec, shared: Mapping[str, Any], windows: Windows, split: Split) -> str:
    """Return a digest of everything that determines the result of a task."""
    samples = hashlib.sha256()
    for index in split.sets().values():
        samples.update(windows.origins[index].to_numpy().astype("datetime64[us]").tobytes() + b"\0")
    facts = {**shared, "samples": samples.hexdigest(), "model": [task.model, spec.identity]}
    if task.seeded:
        facts["config"] = shared["config"] | {"seed": task.seed}
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def _file_name(task: Task, key: str) -> str:
    seed = f"_seed{task.seed}" if task.seeded else ""
    return f"fold{task.fold}_{file_name(task.model)}{seed}_{key}.parquet"


def _write(frame: pd.DataFrame, path: Path) -> None:
    """Write forecasts with their ``attrs``, completely or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        frame.to_parquet(temporary, index=False)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _read(path: Path) -> pd.DataFrame | None:
    """Read stored forecasts; a damaged file is logged and counts as missing."""
    if not path.is_file():
        return None
    try:
        return pd.read_parquet(path)
    except (pa.ArrowException, OSError) as error:
        _log.warning("%s is damaged (%s); it is computed again", path, error)
        return None


def _assemble(frames: Mapping[Task, pd.DataFrame], listed: Sequence[str], prices: pd.DataFrame) -> pd.DataFrame:
    """Return the forecasts of all tasks fold by fold, with the means of the seeds and the adaptive intervals."""
    assembled = []
    for model in listed:
        own = {
            # A component that is listed itself has rows of its own.
            task: rows[(rows["model"] == model) | ~rows["model"].isin(listed)]
            for task, rows in sorted(frames.items())
            if task.model == model
        }
        folds = sorted({task.fold for task in own})
        means = [
            _mean_of_seeds([rows for task, rows in own.items() if task.fold == fold], prices).assign(fold=fold)
            for fold in folds
        ]
        seeds = [
            rows[rows["model"] == model].assign(fold=task.fold, model=f"{model}_{task.seed}")
            for task, rows in own.items()
            if task.seeded
        ]
        together = pd.concat([*means, *seeds], ignore_index=True)
        if f"{model}_as_trained" in set(together["model"]):
            adaptive = adapted(together[together["model"] == model]).assign(crps=np.nan, model=f"{model}_adaptive")
            together = pd.concat([together, adaptive], ignore_index=True)
        assembled.append(together.drop(columns=_quantile_columns(together)))
    forecasts = pd.concat(assembled, ignore_index=True)
    forecasts["model_version"] = forecasts["model"]
    forecasts.attrs = {}
    # Of a component that several models have, the first one counts.
    return forecasts.drop_duplicates(["model", "origin", "horizon"], ignore_index=True)


def _mean_of_seeds(frames: Sequence[pd.DataFrame], prices: pd.DataFrame) -> pd.DataFrame:
    """Return the mean over seeds of every model in some rows; rows without quantiles are returned as they are."""
    first = frames[0]
    if not _quantile_columns(first):
        return first
    rows = [
        scored_rows(mean_forecast([frame[frame["model"] == model] for frame in frames]), prices)
        for model in first["model"].unique()
    ]
    return pd.concat(rows, ignore_index=True)


def _quantile_columns(rows: pd.DataFrame) -> list[str]:
    return [str(name) for name in rows if str(name).startswith(QUANTILE)]


def mean_forecast(frames: Sequence[pd.DataFrame]) -> Forecast:
    """Average the distributions of models that differ by their seed, quantile by quantile.

    Averaging quantiles preserves the mean width of the intervals. Averaging probabilities would add the disagreement of
    the centres to it, for which the intervals of each model already allow (Lichtendahl, Grushka-Cockayne and Winkler,
    "Is It Better to Average Probabilities or Quantiles?", Management Science 59 (2013)).

    Parameters
    ----------
    frames
        Rows of :func:`compute` with quantiles, of one model; a frame per seed, each of the same origins.
    """
    first = frames[0].dropna(axis=1, how="all")
    names = _quantile_columns(first)
    horizons = tuple(int(h) for h in first["horizon"].unique())
    shape = (-1, len(horizons), len(names))
    quantiles = np.mean([frame[names].to_numpy(dtype=np.float64).reshape(shape) for frame in frames], axis=0)
    origins = first.iloc[:: len(horizons)]
    name = str(first["model"].iloc[0])
    return Forecast(
        symbols=origins["symbol"].to_numpy(dtype=np.str_),
        origins=pd.DatetimeIndex(origins["origin"]),
        horizons=horizons,
        target_dates=first["target_date"].to_numpy().reshape(-1, len(horizons)),
        last_close=origins["last_close"].to_numpy(dtype=np.float64),
        distribution=Distribution(np.array([float(level.removeprefix(QUANTILE)) for level in names]), quantiles),
        model=name,
        model_version=name,
        direction_threshold=float(first["direction_threshold"].iloc[0]),
    )


def adapted(forecasts: pd.DataFrame) -> pd.DataFrame:
    """Widen or narrow intervals by :func:`~forecastlib.models.conformal.adaptive_widening`.

    Parameters
    ----------
    forecasts
        Forecasts of one model with ``actual_price``, one origin per session.

    Returns
    -------
    DataFrame
        The same rows, oldest origin first. The ends of their intervals are moved about the point forecast in log
        returns; an interval depends only on those whose outcome was known at its origin.
    """
    ordered = forecasts.sort_values(["origin", "horizon"], kind="stable", ignore_index=True)
    changed = ordered.copy()
    for horizon, rows in ordered.groupby("horizon"):
        centre = np.log(rows["predicted_price"].to_numpy())
        for coverage in COVERAGES:
            scores = np.abs(positions_in_interval(rows, coverage))
            factors = adaptive_widening(scores, coverage / 100.0, int(str(horizon)))
            for name in (f"lower_{coverage}", f"upper_{coverage}"):
                half_width = np.log(rows[name].to_numpy()) - centre
                changed.loc[rows.index, name] = np.exp(centre + factors * half_width)
    return changed


def _describe_folds(windows: Windows, splits: Sequence[Split]) -> pd.DataFrame:
    rows = []
    for split in splits:
        row: dict[str, object] = {}
        for name, index in split.sets().items():
            samples = windows.take(index)
            row |= {
                f"{name}_samples": len(samples),
                f"{name}_first": samples.origins.min(),
                f"{name}_last": samples.origins.max(),
                f"{name}_known": samples.label_dates.max(),
            }
        rows.append(row)
    return pd.DataFrame(rows, index=pd.RangeIndex(1, len(rows) + 1, name="fold"))


def _describe_tasks(
    frames: Mapping[Task, pd.DataFrame], keys: Mapping[Task, str], *, computed: set[Task]
) -> pd.DataFrame:
    rows = [
        {
            "seconds": frame.attrs["seconds"],
            "epochs": len(frame.attrs["history"].get("loss", [])),
            **{f"weight_{name}": weight for name, weight in frame.attrs["weights"].items()},
            "computed": task in computed,
            "key": keys[task],
            "run_id": "",
        }
        for task, frame in frames.items()
    ]
    return pd.DataFrame(rows, index=pd.MultiIndex.from_tuples(list(frames), names=Task._fields)).sort_index()


def _histories(frames: Mapping[Task, pd.DataFrame]) -> dict[Task, pd.DataFrame]:
    histories = {task: pd.DataFrame(frame.attrs["history"]) for task, frame in frames.items() if frame.attrs["history"]}
    for losses in histories.values():
        losses.index = pd.RangeIndex(1, len(losses) + 1, name="epoch")
    return histories
