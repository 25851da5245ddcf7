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
=======================================================  ==================================================

A forecaster uses them so::

    calibration = calibrate(actual - predicted, scale, horizons)           # validation set, log returns
    distribution = calibration.distribution(predicted, scale)              # new origins
    lower_80, upper_80 = (last_close[:, None] * np.exp(end) for end in distribution.interval(0.80))
    p_up = distribution.probability_above(0.0)                             # p_down = 1 - p_up
    directions = direction(np.expm1(predicted), threshold)
    confidence(distribution, directions, threshold)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from forecastlib.distribution import LEVELS, Distribution
from forecastlib.errors import ConfigError, IncompatibleModelError, NotEnoughDataError

Floats = npt.NDArray[np.float64]
Texts = npt.NDArray[np.str_]

SMALLEST_CALIBRATION_SET = 39
"""Residuals needed for a 95 % range: the 0.975 quantile of 39 is their largest, that of fewer is infinite."""


@dataclass(frozen=True, eq=False)
class Calibration:
    """Quantiles of scaled residuals for each horizon, by split conformal prediction.

    A residual divided by the volatility at its origin is a score; the quantiles of the scores of the validation
    set, multiplied by the volatility at a new origin and added to its forecast, are the predictive distribution
    (Vovk, Gammerman and Shafer, *Algorithmic Learning in a Random World*, 2005; Lei et al., "Distribution-Free
    Predictive Inference for Regression", JASA 113 (2018), section 5.2, for the scaling). The two tails are
    calibrated each on its own: an index falls faster than it rises.

    The guarantee behind it holds for exchangeable residuals. Those of neighbouring origins are not: labels that
    overlap by h - 1 sessions make n residuals worth about n / h independent ones. Coverage is right on average
    over long stretches and drifts with the regime; measure it on the test set, and let
    :class:`AdaptiveCoverage` follow it in use.

    Attributes
    ----------
    horizons : tuple of int
        Sessions ahead, one for each row of ``scores``.
    count : int
        Residuals that each quantile was taken from.
    levels : ndarray, shape (Q,)
        Probability levels.
    scores : ndarray, shape (horizons, Q)
        Quantiles of the scores, corrected for the finite sample.
    """

    horizons: tuple[int, ...]
    count: int
    levels: Floats
    scores: Floats

    def distribution(self, log_returns: npt.ArrayLike, scale: npt.ArrayLike) -> Distribution:
        """Return the predictive distributions around forecasts.

        Parameters
        ----------
        log_returns
            Forecasts, shape (n, horizons).
        scale
            Volatility over each horizon at the origin, same shape, positive.

        Returns
        -------
        Distribution
            ``log_returns + scale * scores``, quantile by quantile.

        Raises
        ------
        ConfigError
            If the shapes do not fit the horizons, or a scale is not positive.
        """
        centre, width = _forecasts_and_scale(log_returns, scale, len(self.horizons))
        return Distribution(self.levels, centre[:, :, None] + width[:, :, None] * self.scores)

    def to_dict(self) -> dict[str, Any]:
        """Return the calibration in JSON's types; :meth:`from_dict` takes it back to the last bit."""
        return {
            "horizons": list(self.horizons),
            "count": self.count,
            "levels": self.levels.tolist(),
            "scores": self.scores.tolist(),
        }

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any]) -> Self:
        """Rebuild a calibration from its saved form.

        Raises
        ------
        IncompatibleModelError
            If a part is missing or the shapes do not fit each other.
        """
        missing = sorted({"horizons", "count", "levels", "scores"} - set(saved))
        if missing:
            raise IncompatibleModelError(f"the saved calibration lacks {', '.join(missing)}; train the model again")
        horizons = tuple(int(h) for h in saved["horizons"])
        levels = np.asarray(saved["levels"], dtype=np.float64)
        scores = np.asarray(saved["scores"], dtype=np.float64)
        if scores.shape != (len(horizons), len(levels)) or not np.isfinite(scores).all():
            raise IncompatibleModelError(
                f"expected finite scores of shape {(len(horizons), len(levels))} in the saved calibration; "
                f"got {scores.shape}; train the model again"
            )
        return cls(horizons, int(saved["count"]), levels, scores)


def calibrate(residuals: npt.ArrayLike, scale: npt.ArrayLike, horizons: Sequence[int]) -> Calibration:
    """Fit a calibration on residuals that the model was not trained on.

    The quantile of the scores at level p is their ``ceil(p (n + 1))``-th smallest above the median and their
    ``floor(p (n + 1))``-th below it: rounding outwards gives each tail at most its share of misses for any n,
    if residuals are exchangeable. Levels too far out for n stay at the largest or smallest score.

    Parameters
    ----------
    residuals
        Actual minus predicted log return, shape (n, horizons), of the validation set.
    scale
        Volatility over each horizon at the same origins, same shape, positive.
    horizons
        Sessions ahead, one a column.

    Returns
    -------
    Calibration

    Raises
    ------
    NotEnoughDataError
        If there are fewer than :data:`SMALLEST_CALIBRATION_SET` residuals.
    ConfigError
        If shapes do not fit, a residual is missing, or a scale is not positive.

    Examples
    --------
    Of 39 scores the level 0.975 takes the 39th smallest (0.975 x 40 = 39) and 0.025 the first: the 95 % range
    is that of all scores seen. Of 99 scores they are the 98th (97.5 rounded up) and the second (2.5 rounded
    down).
    """
    errors, width = _forecasts_and_scale(residuals, scale, len(horizons))
    count = len(errors)
    if count < SMALLEST_CALIBRATION_SET:
        raise NotEnoughDataError(
            f"expected at least {SMALLEST_CALIBRATION_SET} validation residuals for a 95 % range; got {count}; "
            "use a longer history or a larger validation_share"
        )
    ordered = np.sort(errors / width, axis=0)
    # Rounded first: 0.975 * 40 must be 39, not the 39.00000000000001 whose ceiling is 40.
    exact = np.round(LEVELS * (count + 1), 9)
    ranks = np.where(LEVELS > 0.5, np.ceil(exact), np.floor(exact)).astype(np.int64)
    scores = ordered[np.clip(ranks, 1, count) - 1].T
    scores[:, LEVELS == 0.5] = np.median(ordered, axis=0)[:, None]
    return Calibration(tuple(int(h) for h in horizons), count, LEVELS, np.ascontiguousarray(scores))


def direction(change: npt.ArrayLike, threshold: float) -> Texts:
    """Call the direction of changes: "up" above the threshold, "down" below its negative, else "neutral".

    Parameters
    ----------
    change
        Relative change of price from the origin, as a fraction: 0.01 is one per cent. Any shape.
    threshold
        Change that has to be exceeded, 0.005 by default in :class:`~forecastlib.config.ModelConfig`.

    Returns
    -------
    ndarray of str, same shape

    Examples
    --------
    >>> direction([0.02, 0.005, -0.006], 0.005).tolist()
    ['up', 'neutral', 'down']
    """
    moves = np.asarray(change, dtype=np.float64)
    return np.where(moves > threshold, "up", np.where(moves < -threshold, "down", "neutral"))


def consistency(directions: npt.ArrayLike) -> Floats:
    """Return how far the calls of neighbouring horizons agree, shape (n,), in [0, 1].

    The mean over neighbours of 1 (same call), 0.5 (one of them neutral) or 0 (opposite); 1 for a single horizon.

    Parameters
    ----------
    directions
        Calls, shape (n, horizons), as :func:`direction` gives them.

    Examples
    --------
    >>> consistency([["up", "up", "neutral"], ["up", "down", "down"]]).tolist()
    [0.75, 0.5]
    """
    steps = _as_steps(directions)
    if steps.shape[1] == 1:
        return np.ones(len(steps))
    agreement: Floats = (1.0 - np.abs(np.diff(steps, axis=1)) / 2.0).mean(axis=1)
    return agreement


def confidence(distribution: Distribution, directions: npt.ArrayLike, threshold: float) -> Floats:
    """Return the probability of the called direction, shape (n, horizons).

    For "up" and "down" it is the probability that the price ends above or below the origin's close, ``p_up`` or
    ``p_down``; for "neutral" that it ends within the threshold of it. :func:`call_came_true` is the same event,
    seen afterwards.

    Parameters
    ----------
    distribution
        Predictive distributions of n origins.
    directions
        Their calls, shape (n, horizons).
    threshold
        What the calls were made with.
    """
    steps = _as_steps(directions)
    above = distribution.probability_above(0.0)
    within = distribution.probability_above(np.log1p(-threshold)) - distribution.probability_above(np.log1p(threshold))
    return np.where(steps > 0, above, np.where(steps < 0, 1.0 - above, within))


def call_came_true(directions: npt.ArrayLike, change: npt.ArrayLike, threshold: float) -> npt.NDArray[np.bool_]:
    """Return whether calls came true, shape (n, horizons), given the actual change of price as a fraction.

    "up" came true if the price ended above the origin's close, "down" if below, "neutral" if within the threshold.
    """
    steps = _as_steps(directions)
    moves = np.asarray(change, dtype=np.float64)
    return np.where(steps > 0, moves > 0, np.where(steps < 0, moves < 0, np.abs(moves) <= threshold))


def mc_dropout_confidence(mean: npt.ArrayLike, std: npt.ArrayLike) -> Floats:
    """Return ``clip(1 - std / |mean|, 0.1, 0.9)`` of stochastic price forecasts, and 0.5 where the mean is 0.

    Parameters
    ----------
    mean, std
        Mean and standard deviation over the passes, in prices, same shape.

    Notes
    -----
    As a price's spread is small beside the price, this is 0.9 nearly always: a convention that says little. The
    calibrated confidence is a probability and is checked as one.
    """
    centre, spread = np.abs(np.asarray(mean, dtype=np.float64)), np.asarray(std, dtype=np.float64)
    zero = centre == 0
    return np.where(zero, 0.5, np.clip(1.0 - spread / np.where(zero, 1.0, centre), 0.1, 0.9))


def _as_steps(directions: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """Turn calls (n, horizons) into -1, 0 and 1."""
    calls = np.asarray(directions)
    steps: npt.NDArray[np.int64] = (calls == "up").astype(np.int64) - (calls == "down").astype(np.int64)
    unknown = calls[(steps == 0) & (calls != "neutral")]
    if calls.ndim != 2 or len(unknown):
        got = f"shape {calls.shape}" if calls.ndim != 2 else repr(unknown[0])
        raise ConfigError(f'expected calls "up", "neutral" or "down" of shape (n, horizons); got {got}')
    return steps


def _forecasts_and_scale(values: npt.ArrayLike, scale: npt.ArrayLike, horizons: int) -> tuple[Floats, Floats]:
    """Check that both are (n, horizons), finite, and the scale positive."""
    centre, width = np.asarray(values, dtype=np.float64), np.asarray(scale, dtype=np.float64)
    if centre.ndim != 2 or centre.shape[1] != horizons or centre.shape != width.shape:
        raise ConfigError(
            f"expected log returns and scales of shape (n, {horizons}), one column a horizon; "
            f"got {centre.shape} and {width.shape}"
        )
    if not (np.isfinite(centre).all() and np.isfinite(width).all() and (width > 0).all()):
        raise ConfigError(
            "expected finite log returns and positive scales; leave out rows whose label is not known, "
            "and take scales from ewma_volatility, which has a floor"
        )
    return centre, width
