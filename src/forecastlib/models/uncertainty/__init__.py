"""Uncertainty of forecasts: calibrated ranges and probabilities, the call of a direction, and its confidence.

Arrays have one row an origin and one column a horizon, (n, H). Log returns run from the origin's close to the
horizon's; ``scale`` is the volatility over the horizon at the origin,
``horizon_volatility(ewma_volatility(prices)[rows], horizons)``.

=======================================================  ==================================================
``known_past(prices, until, horizons)``                  -> :class:`Past`, what was known of a symbol on a date
``past_at_the_end_of(validation, prices)``                the same, when the last validation label is known
``calibrate(pasts, answers, horizons, config)``          -> :class:`Calibration`, the network's
``Calibration.scale(predictors)``                        (n, H), the volatility expected ahead
``Calibration.renewed(past, config)``                    -> :class:`Calibration`, with ranges of what is known by now
``Calibration.distribution(network, scale)``             -> :class:`~forecastlib.models.distribution.Distribution`
``Calibration.to_dict()``, ``Calibration.from_dict(d)``  JSON's types, for the bundle's ``calibration.json``
``split_conformal(residuals, scale, horizons)``          -> :class:`Conformal`, that of the point baselines
``direction(change, threshold)``                         -> "up", "neutral", "down", same shape
``consistency(directions)``                              (n, H) -> (n,), agreement of neighbouring horizons
``confidence(distribution, directions, threshold)``      (n, H), probability of the called direction
``call_came_true(directions, change, threshold)``        (n, H) of bool, the event that confidence speaks of
``mc_dropout_confidence(mean, std)``                     (n, H), from the spread of stochastic passes
``adaptive_widening(scores, coverage, horizon)``         (n,), factors for the ranges of later origins
=======================================================  ==================================================

A forecaster uses them so::

    calibration = calibrate(pasts, answers_on_the_validation_set, horizons, config.calibration)
    distribution = calibration.distribution(answers, calibration.scale(predictors[rows]))      # new origins
    lower_80, upper_80 = (last_close[:, None] * np.exp(end) for end in distribution.interval(0.80))
    p_up = distribution.probability_above(0.0)                             # p_down = 1 - p_up
    directions = direction(np.expm1(distribution.median()), threshold)
    confidence(distribution, directions, threshold)
"""

from forecastlib.models.uncertainty.calibration import OUTCOMES_TO_RENEW, Calibration, NetworkAnswers, calibrate
from forecastlib.models.uncertainty.calls import (
    call_came_true,
    confidence,
    consistency,
    direction,
    mc_dropout_confidence,
)
from forecastlib.models.uncertainty.conformal import (
    SMALLEST_CALIBRATION_SET,
    Conformal,
    adaptive_widening,
    split_conformal,
)
from forecastlib.models.uncertainty.past import Past, known_past, past_at_the_end_of

__all__ = [
    "OUTCOMES_TO_RENEW",
    "SMALLEST_CALIBRATION_SET",
    "Calibration",
    "Conformal",
    "NetworkAnswers",
    "Past",
    "adaptive_widening",
    "calibrate",
    "call_came_true",
    "confidence",
    "consistency",
    "direction",
    "known_past",
    "mc_dropout_confidence",
    "past_at_the_end_of",
    "split_conformal",
]
