"""What is compared, and the goals.

The code of a side is named as ``module:function``, so that this module imports none of the libraries. The function is
called once, with ``arguments``, in the process of the side. It returns a function that is called in every round. Its
calls are timed, unless it returns a float, which is then the measured value.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Measured = Callable[[], Any]

OURS = "forecastlib"


@dataclass(frozen=True)
class Side:
    """One side of a comparison."""

    name: str  # OURS, or the name of the alternative
    setup: str  # "module:function" in this package
    arguments: tuple[Any, ...] = ()  # of the function
    packages: tuple[str, ...] = ()  # required packages that are not dependencies of forecastlib
    goal: float | None = None  # minimum ratio of the value of this side to ours


@dataclass(frozen=True)
class Comparison:
    """A task, and the sides that do it."""

    title: str
    unit: str  # ms, s or MB
    sides: tuple[Side, ...]  # ours first
    limit: float | None = None  # maximum of our value
    threads: int | None = None  # of numerical libraries; None: their default
    calls: int = 1  # calls per round, of which the mean is taken
    warm_up: int = 1  # rounds that are not counted
    rounds: int | None = None  # counted rounds, if not the requested number


# Twice the size of the features by which the two histories differ, in float64.
MEMORY_LIMIT = 2 * (6300 - 1600) * 152 * 8 / 1e6

COMPARISONS: dict[str, Comparison] = {
    "features": Comparison(
        "152 features x 6,300 sessions, one thread",
        "ms",
        (
            Side(OURS, "preparation:features"),
            Side("ta, its 86 features", "preparation:ta_features", packages=("ta",)),
            Side("pandas rolling and ewm, only 30 columns", "preparation:pandas_features"),
        ),
        limit=20.0,
        threads=1,
        calls=5,
    ),
    "preparation": Comparison(
        "prices to scaled, split, windowed samples, 6,300 sessions",
        "ms",
        (
            Side(OURS, "preparation:samples"),
            Side("only the windows, a pandas loop over rows", "preparation:windows_in_a_loop"),
        ),
        limit=150.0,
    ),
    "memory": Comparison(
        "peak memory of training on 6,300 sessions, minus their features and the peak for 1,600 sessions, lookback 60",
        "MB",
        (
            Side(OURS, "memory:training_peak", (60, "gathered")),
            Side("Keras, fit on a view of windows", "memory:training_peak", (60, "copied")),
        ),
        limit=MEMORY_LIMIT,
        warm_up=0,
        rounds=5,
    ),
    "memory_250": Comparison(
        "the same, lookback 250",
        "MB",
        (Side(OURS, "memory:training_peak", (250, "gathered")),),
        limit=MEMORY_LIMIT,
        warm_up=0,
        rounds=5,
    ),
    "training": Comparison(
        "training, one epoch of 3,300 windows, 60 x 152, LSTM 50 + 50, both dropouts, batch 32",
        "s",
        (
            Side(OURS, "training:forecastlib_epoch"),
            Side("keras.layers.LSTM", "training:keras_epoch", (False,), goal=4.0),
            Side("keras.layers.LSTM, jit_compile=True", "training:keras_epoch", (True,), goal=2.0),
            Side("torch, recurrent dropout in a loop", "torch_training:epoch", (True,), ("torch",), goal=2.8),
            Side("torch nn.LSTM, no recurrent dropout", "torch_training:epoch", (False,), ("torch",), goal=1.0),
        ),
        warm_up=2,
    ),
    "dropout": Comparison(
        "MC dropout, 100 samples of one origin, warm",
        "ms",
        (
            Side(OURS, "forecasting:dropout_samples"),
            Side("Keras, one eager call on 100 rows", "forecasting:keras_eager_samples"),
            Side("Keras, 100 x model(x, training=True)", "forecasting:keras_looped_samples"),
        ),
        limit=15.0,
        warm_up=5,
    ),
    "forecast": Comparison(
        "one forecast from 400 rows of raw prices, warm: features, network, intervals, frame",
        "ms",
        (
            Side(OURS, "forecasting:single_forecast"),
            Side("Keras, only model.predict of the window", "forecasting:keras_predict"),
        ),
        limit=40.0,
        warm_up=5,
        calls=5,
    ),
    "origins": Comparison("500 origins in one call", "ms", (Side(OURS, "forecasting:many_origins"),), warm_up=3),
    "growth": Comparison(
        "memory growth over 5,000 forecasts of changing sizes",
        "MB",
        (Side(OURS, "memory:growth", (5000,)),),
        warm_up=0,
        rounds=1,
    ),
    "import": Comparison("import forecastlib", "s", (Side(OURS, "startup:import_forecastlib"),), limit=0.5),
    "cold": Comparison(
        "forecastlib forecast, from a cold start to the printed result",
        "s",
        (
            Side(OURS, "startup:forecast_command"),
            Side("only import tensorflow", "startup:import_tensorflow", goal=1 / 1.5),
        ),
    ),
}
"""All comparisons, by the name used on the command line."""
