"""Judgement of forecasts: accuracy of points, honesty of ranges, and whether a difference is more than luck.

- :mod:`~forecastlib.evaluation.metrics.point` scores point forecasts of prices.
- :mod:`~forecastlib.evaluation.metrics.ranges` scores ranges, distributions and probabilities.
- :mod:`~forecastlib.evaluation.metrics.comparison` tests one forecast against another.
"""

from forecastlib.evaluation.metrics.comparison import DieboldMariano, block_bootstrap, diebold_mariano, verdict
from forecastlib.evaluation.metrics.point import (
    bias,
    directional_accuracy,
    mae,
    mape,
    mase,
    r2,
    random_walk,
    rmse,
    skill,
    squared_skill,
)
from forecastlib.evaluation.metrics.ranges import (
    brier,
    coverage,
    crps_of_quantiles,
    crps_of_samples,
    expected_calibration_error,
    interval_score,
    mean_width,
    pinball,
    reliability,
)

__all__ = [
    "DieboldMariano",
    "bias",
    "block_bootstrap",
    "brier",
    "coverage",
    "crps_of_quantiles",
    "crps_of_samples",
    "diebold_mariano",
    "directional_accuracy",
    "expected_calibration_error",
    "interval_score",
    "mae",
    "mape",
    "mase",
    "mean_width",
    "pinball",
    "r2",
    "random_walk",
    "reliability",
    "rmse",
    "skill",
    "squared_skill",
    "verdict",
]
