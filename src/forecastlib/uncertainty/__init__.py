"""Uncertainty of forecasts: calibrated ranges and probabilities, the call of a direction, and its confidence.

Arrays have one row an origin and one column a horizon, (n, H). Log returns run from the origin's close to the
horizon's; ``scale`` is the volatility over the horizon at the origin,
``horizon_volatility(ewma_volatility(prices)[rows], horizons)``.

=======================================================  ==================================================
``calibrate(residuals, scale, horizons)``                -> :class:`Calibration`, fitted on the validation set
``Calibration.distribution(log_returns, scale)``         -> :class:`~forecastlib.distribution.Distribution`
``Calibration.to_dict()``, ``Calibration.from_dict(d)``  JSON's types, for the bundle's ``calibration.json``
``direction(change, threshold)``                         -> "up", "neutral", "down", same shape
``consistency(directions)``                              (n, H) -> (n,), agreement of neighbouring horizons
``confidence(distribution, directions, threshold)``      (n, H), probability of the called direction
``call_came_true(directions, change, threshold)``        (n, H) of bool, the event that confidence speaks of
``mc_dropout_confidence(mean, std)``                     (n, H), from the spread of stochastic passes
``adaptive_widening(scores, coverage, horizon)``         (n,), factors for the ranges of later origins
=======================================================  ==================================================

A forecaster uses them so::

    calibration = calibrate(actual - predicted, scale, horizons)           # validation set, log returns
    distribution = calibration.distribution(predicted, scale)              # new origins
    lower_80, upper_80 = (last_close[:, None] * np.exp(end) for end in distribution.interval(0.80))
    p_up = distribution.probability_above(0.0)                             # p_down = 1 - p_up
    directions = direction(np.expm1(predicted), threshold)
    confidence(distribution, directions, threshold)
"""

from forecastlib.uncertainty.calibration import (
    SMALLEST_CALIBRATION_SET,
    Calibration,
    adaptive_widening,
    calibrate,
)
from forecastlib.uncertainty.calls import call_came_true, confidence, consistency, direction, mc_dropout_confidence

__all__ = [
    "SMALLEST_CALIBRATION_SET",
    "Calibration",
    "adaptive_widening",
    "calibrate",
    "call_came_true",
    "confidence",
    "consistency",
    "direction",
    "mc_dropout_confidence",
]
