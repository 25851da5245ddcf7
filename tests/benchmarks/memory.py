"""Peak memory of training, and memory growth over many forecasts; on Linux only."""

from __future__ import annotations

import ctypes
import gc
from pathlib import Path

from benchmarks.comparisons import Measured
from benchmarks.forecasting import trained
from benchmarks.inputs import BATCH, FEATURES, HORIZONS, SESSIONS, prices, run_config, windows_of
from forecastlib.models.lstm import TrainingData, build_network, compile_network, output_name
from forecastlib.recipe import Recipe

SHORT = 1600  # sessions of a training whose peak consists of TensorFlow and of its own features


def resident(field: str = "VmRSS") -> float:
    """Return the memory of this process in MB, or with ``VmHWM`` its peak since :func:`reset_peak`."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    (value,) = (line.split()[1] for line in lines if line.startswith(field))
    return int(value) * 1024 / 1e6


def reset_peak() -> float:
    """Return unused memory to the system, reset the peak, and return the memory of this process in MB."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return resident()


def training_peak(lookback: int, windows: str) -> Measured:
    """Measure the peak of training on a long history, minus that on a short one and minus the additional features.

    Windows are gathered batch by batch, or given to ``fit`` as a view, which it copies.
    """
    config = run_config(lookback=lookback)
    network = build_network(FEATURES, config.window, config.model)
    compile_network(network, HORIZONS, config.train)

    def train(sessions: int) -> None:
        data = TrainingData.of(Recipe().prepare(prices(sessions), config).train)
        if windows == "gathered":
            batches = data.shuffled_batches(BATCH, seed=0)
            network.fit(batches, steps_per_epoch=data.steps(BATCH), epochs=1, shuffle=False, verbose=0)
        else:
            first = int(data.rows[0]) - lookback + 1
            view = windows_of(data.matrix, lookback)[first : first + len(data.rows)]
            by_name = {output_name(h): values for h, values in data.targets.items()}
            network.fit(view, by_name, batch_size=BATCH, epochs=1, verbose=0)

    def peak(sessions: int) -> float:
        before = reset_peak()
        train(sessions)
        return resident("VmHWM") - before

    for _ in range(2):
        train(SHORT)
    prices()

    def measure() -> float:
        short = peak(SHORT)
        return peak(SESSIONS) - short - (SESSIONS - SHORT) * FEATURES * 8 / 1e6

    return measure


def growth(calls: int) -> Measured:
    """Forecast with 1 to 8 origins from histories of different lengths."""
    forecaster, history = trained(), prices(1000)

    def forecast(times: int) -> None:
        for number in range(times):
            newest = history.iloc[number % 300 :]
            forecaster.predict(newest, newest.index[-1 - number % 8 :].to_list())

    forecast(300)

    def measure() -> float:
        before = reset_peak()
        forecast(calls)
        gc.collect()
        return resident() - before

    return measure
