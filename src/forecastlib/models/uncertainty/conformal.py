"""Conformal ranges: from the residuals of a validation set to the distribution of a new forecast, and on over time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from forecastlib.errors import ConfigError, NotEnoughDataError
from forecastlib.models.distribution import LEVELS, Distribution

Floats = npt.NDArray[np.float64]

SMALLEST_CALIBRATION_SET = 19
"""Residuals needed for a 95 % range: the 0.95 quantile of 19 is their largest, that of fewer is infinite."""


@dataclass(frozen=True, eq=False)
class Conformal:
    """Quantiles of scaled residuals for each horizon, by split conformal prediction.

    The size of a residual over the volatility at its origin is a score; the quantiles of the scores of the
    validation set, multiplied by the volatility at a new origin, are the half-widths of its ranges (Vovk,
    Gammerman and Shafer, *Algorithmic Learning in a Random World*, 2005; Lei et al., "Distribution-Free
    Predictive Inference for Regression", JASA 113 (2018), section 5.2, for the scaling). Ranges of every
    coverage, centred on the forecast, make up the predictive distribution. Its median is the forecast, so that
    the probabilities never contradict the call.

    Both tails are calibrated together. Each on its own, they follow where prices happened to go during the validation
    set, of which a few years hold little evidence: on ^GSPC before 2013, such ranges of the random walk over 30
    sessions held 74 % of what followed where 80 % were meant, and their CRPS was 16 % higher.

    The guarantee behind it holds for exchangeable residuals. Those of neighbouring origins are not: labels that
    overlap by h - 1 sessions make n residuals worth about n / h independent ones. Coverage is right on average
    over long stretches and drifts with the regime; measure it on the test set, and let
    :func:`adaptive_widening` follow it in use.

    Attributes
    ----------
    horizons : tuple of int
        Sessions ahead, one for each row of ``scores``.
    count : int
        Residuals that each quantile was taken from.
    levels : ndarray, shape (Q,)
        Probability levels.
    scores : ndarray, shape (horizons, Q)
        Residual over volatility at each level: antisymmetric about the median, corrected for the finite sample.
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


def split_conformal(residuals: npt.ArrayLike, scale: npt.ArrayLike, horizons: Sequence[int]) -> Conformal:
    """Fit ranges on residuals that the model was not trained on.

    The half-width of the range with coverage c is the ``ceil(c (n + 1))``-th smallest score: rounding up makes
    it hold at least its share of new values for any n, if residuals are exchangeable. A coverage too large for
    n takes the largest score.

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
    Conformal

    Raises
    ------
    NotEnoughDataError
        If there are fewer than :data:`SMALLEST_CALIBRATION_SET` residuals.
    ConfigError
        If shapes do not fit, a residual is missing, or a scale is not positive.

    Examples
    --------
    Of 19 scores the 95 % range takes the 19th smallest (0.95 x 20 = 19), the largest of all; of 99 scores the
    95th. The 80 % range takes the 16th and the 80th.
    """
    errors, width = _forecasts_and_scale(residuals, scale, len(horizons))
    count = len(errors)
    if count < SMALLEST_CALIBRATION_SET:
        raise NotEnoughDataError(
            f"expected at least {SMALLEST_CALIBRATION_SET} validation residuals for a 95 % range; got {count}; "
            "use a longer history or a larger validation_share"
        )
    ordered = np.sort(np.abs(errors / width), axis=0)
    # Rounded first: 0.95 * 20 must be 19, not the 19.000000000000004 whose ceiling is 20.
    ranks = np.ceil(np.round(np.abs(2.0 * LEVELS - 1.0) * (count + 1), 9)).astype(np.int64)
    half_widths = ordered[np.clip(ranks, 1, count) - 1]
    scores = np.sign(np.round(2.0 * LEVELS - 1.0, 9))[:, None] * half_widths
    return Conformal(tuple(int(h) for h in horizons), count, LEVELS, np.ascontiguousarray(scores.T))


def adaptive_widening(scores: npt.ArrayLike, coverage: float, horizon: int, *, rate: float = 0.1) -> Floats:
    """Return the factor by which to widen the range at each origin, from how the ranges before it have fared.

    A range that was missed makes the later ones wider, one that held makes them narrower, in proportion 1 : c /
    (1 - c), so that in the long run the share c holds whatever the market does: the quantile tracker of
    Angelopoulos, Candès and Tibshirani, "Conformal PID Control for Time Series Prediction", NeurIPS (2023), on
    logarithms, after Gibbs and Candès, "Adaptive Conformal Inference Under Distribution Shift", NeurIPS (2021).
    A range is judged when its label is known, ``horizon`` sessions later.

    Parameters
    ----------
    scores
        ``|actual - forecast| / half-width of the calibrated range``, in log returns, shape (n,), one origin a
        session, oldest first. The newest ``horizon`` are not looked at and may be NaN.
    coverage
        What the range is meant to hold, 0.80 for instance.
    horizon
        Sessions after which an outcome is known.
    rate
        How fast to learn, for each independent label: neighbouring origins share theirs, so that each counts for
        ``rate / horizon``. Faster learning pays in coverage and costs in width: on the bundled indices before 2013
        a rate of 0.1 brought the 80 % ranges over 30 sessions from 85 and 87 % to 81 % at the same interval score,
        0.8 brought them to 80 % at scores 13 and 19 % higher.

    Returns
    -------
    ndarray, shape (n,)
        Factors, the first ``horizon`` of them 1.

    Raises
    ------
    ConfigError
        If a setting is out of range, or a score that is needed is missing or negative.

    Examples
    --------
    With ``horizon=2``, the factor of origin 5 has taken in the ranges of origins 0-3, the label of origin 3
    being known at 5:

    >>> adaptive_widening([2.0, 0.5, 9.0, 9.0], coverage=0.5, horizon=2, rate=0.4).round(3).tolist()
    [1.0, 1.0, 1.105, 1.0]
    """
    values = np.asarray(scores, dtype=np.float64)
    if not 0.0 < coverage < 1.0 or horizon < 1 or rate <= 0.0:
        raise ConfigError(
            "expected a coverage between 0 and 1, a horizon of at least 1 and a positive rate; "
            f"got coverage={coverage}, horizon={horizon}, rate={rate}"
        )
    known = values[: max(len(values) - horizon, 0)]
    if values.ndim != 1 or not (np.isfinite(known) & (known >= 0)).all():
        raise ConfigError(f"expected scores of shape (n,), known and not negative up to the newest {horizon}")
    logs = np.zeros(len(values))
    for origin in range(horizon, len(values)):
        judged = origin - horizon
        missed = math.log(known[judged]) > logs[judged] if known[judged] > 0 else False
        logs[origin] = logs[origin - 1] + rate / horizon * (missed - (1.0 - coverage))
    return np.exp(logs)


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
