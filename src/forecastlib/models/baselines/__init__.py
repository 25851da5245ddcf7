"""Baselines: what a network has to beat, on the same origins and with the same data to learn from.

Every baseline is fitted and asked in the same way, and gives a point forecast and a predictive distribution::

    for baseline in all_baselines(seed=0):
        baseline.fit(windows.take(split.train), windows.take(split.validation), prices)
        forecast = baseline.predict(windows.take(split.test), prices)
        forecast.log_returns                      # (n, horizons)
        forecast.distribution.interval(0.80)      # as for the network

=====================  ===================================================================================
``random_walk``        the last close
``drift``              and the mean return of the training samples
``ridge``              ridge regression on the last row's features
``gradient_boosting``  histogram gradient boosting on them
``ewma``               RiskMetrics variance, simulated with its own past shocks
``garch_t``            GARCH(1,1) with Student's t, likewise
``gjr_skewt``          GJR-GARCH with a skewed t, likewise
``har``                heterogeneous autoregression of range-based variance
=====================  ===================================================================================

The ranges of the first four are calibrated on the validation set, as the network's are.
"""

from forecastlib.models.baselines.interface import Baseline, BaselineForecast
from forecastlib.models.baselines.point import Drift, GradientBoosting, RandomWalk, Ridge
from forecastlib.models.baselines.volatility import Ewma, Garch, GjrGarch, Har

__all__ = [
    "Baseline",
    "BaselineForecast",
    "Drift",
    "Ewma",
    "Garch",
    "GjrGarch",
    "GradientBoosting",
    "Har",
    "RandomWalk",
    "Ridge",
    "all_baselines",
    "point_baselines",
    "volatility_baselines",
]


def point_baselines(seed: int = 0) -> tuple[Baseline, ...]:
    """Return new point baselines, not fitted, the random walk first."""
    return RandomWalk(), Drift(), Ridge(), GradientBoosting(seed)


def volatility_baselines(seed: int = 0) -> tuple[Baseline, ...]:
    """Return new volatility baselines, not fitted."""
    return Ewma(seed), Garch(seed), GjrGarch(seed), Har()


def all_baselines(seed: int = 0) -> tuple[Baseline, ...]:
    """Return all baselines, not fitted, the random walk first."""
    return point_baselines(seed) + volatility_baselines(seed)
