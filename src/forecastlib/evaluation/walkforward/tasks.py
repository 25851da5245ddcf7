"""What is computed for one fold: the baselines, or the network of one seed."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

import forecastlib
from forecastlib.bundle import LIBRARIES
from forecastlib.config import RunConfig
from forecastlib.data.calendars import resolve_calendar, target_dates
from forecastlib.data.prices import fingerprint
from forecastlib.evaluation.evaluate import crps
from forecastlib.forecaster import Forecaster
from forecastlib.forecasts import forecast_frame
from forecastlib.models.distribution import LEVELS, Distribution, quantiles_of_samples
from forecastlib.pipeline import baseline_forecasts
from forecastlib.samples.dataset import Dataset, all_windows
from forecastlib.samples.splits import Split, walk_forward
from forecastlib.samples.windows import Windows

Floats = npt.NDArray[np.float64]

LSTM, AS_TRAINED, MC_DROPOUT = "lstm", "lstm_as_trained", "mc_dropout"

THINNED = 5
"""MC dropout is asked at every so many origins: a hundred passes each take their time."""

QUANTILES = [f"quantile_{level:.3f}" for level in LEVELS]
"""Columns that a kept network's frame has beyond those of forecasts: its distribution, of which seeds are averaged."""


@dataclass(frozen=True)
class Folds:
    """How the data is divided, in the words of :func:`forecastlib.samples.splits.walk_forward`."""

    folds: int
    test_size: int | None
    expanding: bool

    def of(self, prices: pd.DataFrame, config: RunConfig) -> tuple[Windows, list[Split]]:
        """Return the windows and the splits; training and validation share what is before a test set as configured."""
        windows = all_windows(prices, config)
        shares = config.split
        splits = walk_forward(
            windows,
            folds=self.folds,
            test_size=self.test_size,
            expanding=self.expanding,
            embargo=shares.embargo,
            validation_share=shares.validation_share / (shares.train_share + shares.validation_share),
        )
        return windows, list(splits)


@dataclass(frozen=True, order=True)
class Task:
    """One piece of work.

    Attributes
    ----------
    fold : int
        From 1.
    seed : int or None
        Of the network; None: the baselines.
    dropout : bool
        Whether MC dropout is asked beside the network.
    """

    fold: int
    seed: int | None = None
    dropout: bool = False

    def __str__(self) -> str:
        """Name it for people."""
        return f"fold {self.fold}, {'baselines' if self.seed is None else f'seed {self.seed}'}"


def tasks_of(folds: int, seeds: Sequence[int]) -> list[Task]:
    """Return the tasks of a backtest; the last folds, which take longest, come first."""
    return [
        task
        for fold in range(folds, 0, -1)
        for task in (*(Task(fold, seed, dropout=seed == seeds[0]) for seed in seeds), Task(fold))
    ]


def together(tasks: Iterable[Task]) -> list[tuple[Task, ...]]:
    """Put tasks together that are computed in one go, in the order in which each first comes: a fold's networks.

    Examples
    --------
    >>> [len(group) for group in together(tasks_of(2, seeds=(0, 1, 2)))]
    [3, 1, 3, 1]
    """
    groups: dict[tuple[int, bool], list[Task]] = {}
    for task in tasks:
        groups.setdefault((task.fold, task.seed is None), []).append(task)
    return [tuple(group) for group in groups.values()]


def compute(
    tasks: Sequence[Task], prices: pd.DataFrame, windows: Windows, split: Split, config: RunConfig
) -> Iterator[tuple[Task, pd.DataFrame]]:
    """Fit what some tasks of a fold are about on training and validation set, and forecast the test set.

    Parameters
    ----------
    tasks
        The baselines alone, or networks, which are trained one after the other; see :func:`together`.
    prices
        Prices of one symbol.
    windows, split
        All its windows, and the fold.
    config
        The run; a task's seed replaces its own.

    Yields
    ------
    tuple of Task and DataFrame
        A forecast frame with the columns ``crps`` and, for networks, :data:`QUANTILES`: with ranges renewed each month
        as ``lstm_SEED``, with those of the end of training as ``lstm_as_trained_SEED``. Its ``attrs`` have the
        ``seconds`` it took (of training, its share) and, for networks, the ``history`` of losses and the
        ``network_weight`` that the validation set supported, see :class:`forecastlib.models.uncertainty.Calibration`.
    """
    start = time.perf_counter()
    seeds = [task.seed for task in tasks if task.seed is not None]
    if not seeds:
        (task,) = tasks
        frame = baseline_forecasts(prices, Dataset(windows, split), config)
        frame.attrs = {"history": {}, "network_weight": None, "seconds": time.perf_counter() - start}
        yield task, frame
        return
    forecasters = [Forecaster(config.replace(seed=seed)).fit(prices, split=split, progress=False) for seed in seeds]
    share = (time.perf_counter() - start) / len(tasks)
    test = windows.take(split.test)
    for task, forecaster in zip(tasks, forecasters, strict=True):
        start = time.perf_counter()
        frames = [_with_quantiles(forecaster, test, prices, renew=renew) for renew in (True, False)]
        if task.dropout:
            frames.append(_dropout_forecasts(forecaster, windows.take(split.test[::THINNED]), prices))
        frame = pd.concat(frames, ignore_index=True)
        frame.attrs = {
            "history": {str(name): column.tolist() for name, column in forecaster.history.items()},
            "network_weight": float(forecaster.calibration.network_weight),
            "seconds": share + time.perf_counter() - start,
        }
        yield task, frame


def worded(
    windows: Windows, prices: pd.DataFrame, distribution: Distribution, config: RunConfig, name: str
) -> pd.DataFrame:
    """Word labelled origins' distributions as a forecast frame with CRPS."""
    calendar = resolve_calendar(str(prices.attrs.get("symbol", "")), config.data.calendar)
    dates = target_dates(windows.origins, config.window.horizons, pd.DatetimeIndex(prices.index), calendar)
    frame = forecast_frame(windows, np.asarray(dates), distribution, config=config.model, model_version=name)
    return frame.assign(crps=crps(windows, distribution).ravel())


def _with_quantiles(forecaster: Forecaster, test: Windows, prices: pd.DataFrame, *, renew: bool) -> pd.DataFrame:
    """Forecast a test set, and keep whole distributions."""
    _, distribution = forecaster.predict_distribution(prices, test.origins, renew=renew)
    name = f"{LSTM if renew else AS_TRAINED}_{forecaster.config.train.seed}"
    frame = worded(test, prices, distribution, forecaster.config, name)
    flat = distribution.quantiles.reshape(len(frame), -1).astype(np.float32)
    return pd.concat([frame, pd.DataFrame(flat, columns=QUANTILES)], axis=1)


def _dropout_forecasts(forecaster: Forecaster, windows: Windows, prices: pd.DataFrame) -> pd.DataFrame:
    """Forecast with the spread of stochastic passes alone, as MC dropout is often used."""
    passes = np.log(forecaster.sample(prices, windows.origins) / windows.last_close[:, None, None])
    distribution = Distribution(LEVELS, quantiles_of_samples(np.moveaxis(passes, 1, 2)))
    return worded(windows, prices, distribution, forecaster.config, MC_DROPOUT)


def key(task: Task, prices: pd.DataFrame, windows: Windows, split: Split, config: RunConfig) -> str:
    """Return a digest of everything that determines what a task leads to.

    That is the task, the prices, the samples of each set, every setting, the versions of the libraries, and the source
    text of this one but for its modules that only show results: whoever changes the model has to compute it again.
    """
    samples = hashlib.sha256()
    for index in split.sets().values():
        samples.update(windows.origins[index].to_numpy().astype("datetime64[us]").tobytes() + b"\0")
    facts: dict[str, Any] = {
        "task": asdict(task),
        "prices": [fingerprint(prices), str(prices.attrs.get("symbol", ""))],
        "samples": samples.hexdigest(),
        "config": config.flat() | {"source": None, "start": None, "end": None},  # the prices themselves say it
        "libraries": {name: importlib.metadata.version(name) for name in (*LIBRARIES, "arch", "scipy")},
        "library": source_digest(),
    }
    if task.seed is not None:
        facts["config"]["seed"] = task.seed
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


WITHOUT_INFLUENCE = (
    *(f"{package}/" for package in ("cli", "ledger", "leakage", "plots", "registry", "serving")),
    *(f"{name}.py" for name in ("doctor", "progress", "report", "runner", "served_model")),
    *(f"{name}.py" for name in ("showcase", "sweep", "tracking")),
    *(f"walkforward/{name}.py" for name in ("backtesting", "pooling", "processes", "result", "runs", "scoring")),
)
"""Modules and packages that cannot change a forecast; one that is not named here counts as if it could."""


@cache
def source_digest() -> str:
    """Return a digest of the library's source text, :data:`WITHOUT_INFLUENCE` aside, as this process has found it."""
    folder = Path(str(forecastlib.__file__)).parent
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        inside = path.relative_to(folder).as_posix()
        if not inside.startswith(WITHOUT_INFLUENCE):
            digest.update(inside.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()
