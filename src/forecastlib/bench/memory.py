"""Contenders in memory: what preparing and training take at their peak, and what many forecasts leave behind."""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from forecastlib.bench.data import SESSIONS, prices, run_config
from forecastlib.bench.forecasting import trained
from forecastlib.bench.works import Turn
from forecastlib.errors import ForecastError
from forecastlib.models.lstm import TrainingData, build_network, compile_network
from forecastlib.samples.dataset import prepare
from forecastlib.samples.scaling import Scaling

HORIZONS = (7, 14, 30)


def resident(peak: bool = False) -> float:
    """Return the memory that this process occupies, or its peak since :func:`forget_peak`, in MB (Linux alone)."""
    if not sys.platform.startswith("linux"):
        raise ForecastError("expected Linux to measure memory; leave out the works named memory and growth")
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    found = next(line for line in lines if line.startswith("VmHWM:" if peak else "VmRSS:"))
    return int(found.split()[1]) * 1024 / 1e6


def forget_peak() -> float:
    """Return unused memory to the system, begin a new peak, and return what is occupied now, in MB."""
    gc.collect()
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return resident()


def _prepared(lookback: int, sessions: int) -> TrainingData:
    config = run_config(lookback=lookback)
    dataset = prepare(prices(sessions), config)
    windows, train = dataset.windows, dataset.split.train
    scaling = Scaling(config.model).fit(windows, train)
    return TrainingData.of(windows.take(train), scaling, scaling.features(windows.matrix))


SHORT = 1600
"""Sessions of a training whose steps take as much memory: what it takes is TensorFlow's own, but for its few rows."""


def _peak_of(train: Callable[[int], None]) -> Turn:
    """Measure how much higher the peak of a training is than that of a short one, more rows of features left out."""
    for _ in range(2):
        train(SHORT)
    prices()

    def peak(sessions: int) -> float:
        before = forget_peak()
        train(sessions)
        return resident(peak=True) - before

    def turn() -> float:
        short = peak(SHORT)
        return peak(SESSIONS) - short - (SESSIONS - SHORT) * 152 * 8 / 1e6

    return turn


def ours(lookback: int) -> Turn:
    """Prepare and train for an epoch."""
    config = run_config(lookback=lookback)
    network = build_network(152, config.window, config.model)
    compile_network(network, HORIZONS, config.train)

    def train(sessions: int) -> None:
        data = _prepared(lookback, sessions)
        batches, steps = data.shuffled_batches(32, seed=0), data.steps(32)
        network.fit(batches, steps_per_epoch=steps, epochs=1, verbose=0)

    return _peak_of(train)


def copied_windows(lookback: int) -> Turn:
    """Do the same, but give ``fit`` an array of windows; it is only a view, and ``fit`` copies it."""
    config = run_config(lookback=lookback)
    network = build_network(152, config.window, config.model)
    compile_network(network, HORIZONS, config.train)

    def train(sessions: int) -> None:
        data = _prepared(lookback, sessions)
        view = np.lib.stride_tricks.sliding_window_view(data.matrix, lookback, axis=0).transpose(0, 2, 1)
        first = int(data.rows[0]) - lookback + 1
        keyed = {f"price_prediction_{h}d": values for h, values in data.targets.items()}
        network.fit(view[first : first + len(data.rows)], keyed, batch_size=32, epochs=1, verbose=0)

    return _peak_of(train)


def growth(calls: int) -> Turn:
    """Forecast again and again, with 1 to 8 origins and histories of changing lengths."""
    forecaster, history = trained(), prices(1000)

    def forecast(number: int) -> None:
        newest = history.iloc[number % 300 :]
        forecaster.predict(newest, newest.index[-1 - number % 8 :].to_list())

    for number in range(300):
        forecast(number)

    def turn() -> float:
        before = forget_peak()
        for number in range(calls):
            forecast(number)
        gc.collect()
        return resident() - before

    return turn
