"""Contenders in forecasting with a model that is loaded and warm."""

from __future__ import annotations

import time
from functools import cache

import numpy as np
import pandas as pd

from forecastlib.bench.data import matrix_and_targets, prices, run_config, windows_of
from forecastlib.bench.training import HORIZONS, plain_network
from forecastlib.bench.works import Turn
from forecastlib.forecaster import Forecaster
from forecastlib.models.lstm import NetworkCaller, build_network

SAMPLES = 100


@cache
def trained() -> Forecaster:
    """Return a forecaster of the default shape, trained for one epoch: speed does not mind what it has learned."""
    return Forecaster(run_config(epochs=1)).fit(prices(1000), progress=False)


def one_forecast() -> Turn:
    """From raw prices to the frame."""
    forecaster, newest = trained(), prices(400)

    def turn() -> None:
        forecaster.predict(newest)

    return turn


def many_origins() -> Turn:
    """Forecast from 500 origins at once."""
    forecaster, newest = trained(), prices(1000)
    origins = pd.DatetimeIndex(newest.index[-500:])

    def turn() -> None:
        forecaster.predict(newest, origins)

    return turn


def dropout_samples() -> Turn:
    """All stochastic passes in one compiled call."""
    config = run_config()
    matrix, _ = matrix_and_targets()
    caller = NetworkCaller(build_network(152, config.window, config.model), HORIZONS)
    row = np.array([100])

    def turn() -> None:
        caller.sample(matrix, row, SAMPLES)

    return turn


def eager_samples() -> Turn:
    """One call of the model on 100 copies of the window; batch normalisation then takes their statistics."""
    network, window = plain_network(), windows_of(matrix_and_targets()[0])[:1]
    copies = np.repeat(window, SAMPLES, axis=0)

    def turn() -> None:
        network(copies, training=True)

    return turn


def looped_samples() -> Turn:
    """One call of the model for each pass, as it is mostly written; a tenth of the passes is timed."""
    network, window = plain_network(), np.ascontiguousarray(windows_of(matrix_and_targets()[0])[:1])
    network(window, training=True)

    def turn() -> float:
        start = time.perf_counter()
        for _ in range(SAMPLES // 10):
            network(window, training=True)
        return 10.0 * 1000.0 * (time.perf_counter() - start)

    return turn


def keras_predict() -> Turn:
    """``model.predict`` of one window that is there already."""
    network, window = plain_network(), np.ascontiguousarray(windows_of(matrix_and_targets()[0])[:1])

    def turn() -> None:
        network.predict(window, verbose=0)

    return turn
