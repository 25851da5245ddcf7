"""Forecasting with a model that is loaded and warm."""

from __future__ import annotations

import time
from functools import cache

import numpy as np
import numpy.typing as npt
import pandas as pd

from benchmarks.comparisons import Measured
from benchmarks.inputs import FEATURES, HORIZONS, matrix_and_targets, prices, run_config, windows_of
from benchmarks.training import keras_network
from forecastlib import Forecaster
from forecastlib.models.lstm import NetworkCaller, build_network

SAMPLES = 100


@cache
def trained() -> Forecaster:
    """Return a forecaster of the default size, trained for one epoch."""
    return Forecaster(run_config(epochs=1)).fit(prices(1000), progress=False)


def single_forecast() -> Measured:
    """Forecast from raw prices."""
    forecaster, newest = trained(), prices(400)
    return lambda: forecaster.predict(newest)


def many_origins() -> Measured:
    """Forecast from 500 origins at once."""
    forecaster, newest = trained(), prices(1000)
    origins = pd.DatetimeIndex(newest.index[-500:])
    return lambda: forecaster.predict(newest, origins)


def dropout_samples() -> Measured:
    """Draw all samples in one compiled call."""
    config = run_config()
    matrix, _ = matrix_and_targets()
    caller = NetworkCaller(build_network(FEATURES, config.window, config.model), HORIZONS)
    row = np.array([100])
    return lambda: caller.sample(matrix, row, SAMPLES)


def keras_eager_samples() -> Measured:
    """Call the model on 100 copies of the window, whose statistics batch normalisation then uses."""
    network, copies = keras_network(), np.repeat(_window(), SAMPLES, axis=0)
    return lambda: network(copies, training=True)


def keras_looped_samples() -> Measured:
    """Call the model once per sample, as is common; a tenth of the calls is timed."""
    network, window = keras_network(), _window()
    network(window, training=True)

    def sample() -> float:
        start = time.perf_counter()
        for _ in range(SAMPLES // 10):
            network(window, training=True)
        return 10.0 * 1000.0 * (time.perf_counter() - start)

    return sample


def keras_predict() -> Measured:
    """Call ``model.predict`` on a window."""
    network, window = keras_network(), _window()
    return lambda: network.predict(window, verbose=0)


def _window() -> npt.NDArray[np.float32]:
    return np.ascontiguousarray(windows_of(matrix_and_targets()[0])[:1])
