"""Judgement of forecasts: accuracy of points, honesty of ranges, and whether a difference is more than luck.

:mod:`~forecastlib.metrics.point` scores point forecasts of prices.
"""

from forecastlib.metrics.point import (
    bias,
    directional_accuracy,
    errors,
    mae,
    mape,
    mase,
    r2,
    random_walk,
    rmse,
    skill,
    squared_skill,
)

__all__ = [
    "bias",
    "directional_accuracy",
    "errors",
    "mae",
    "mape",
    "mase",
    "r2",
    "random_walk",
    "rmse",
    "skill",
    "squared_skill",
]
