"""Honesty and sharpness of ranges, distributions and probabilities.

Units are those of what comes in: prices, or log returns, in which errors at different price levels compare. As
with points, arrays have one row an origin, shape (n, horizons) or (n,), and every mean runs over the rows. All
scores are proper and negative in sense: a forecaster who says what he believes gets the lowest expected score,
and lower is better.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from forecastlib.errors import ConfigError
from forecastlib.evaluation.metrics.point import errors

Floats = npt.NDArray[np.float64]


def coverage(actual: npt.ArrayLike, lower: npt.ArrayLike, upper: npt.ArrayLike) -> Any:
    """Share of actual values inside their range, its ends included."""
    return ((errors(actual, lower) <= 0) & (errors(actual, upper) >= 0)).mean(axis=0)


def mean_width(lower: npt.ArrayLike, upper: npt.ArrayLike) -> Any:
    """Mean width of ranges: among those with right coverage the narrower is the better."""
    return errors(lower, upper).mean(axis=0)


def interval_score(actual: npt.ArrayLike, lower: npt.ArrayLike, upper: npt.ArrayLike, nominal: float) -> Any:
    """Mean width, plus ``2 / (1 - nominal)`` times the distance by which values miss their range.

    Winkler, "A Decision-Theoretic Approach to Interval Estimation", JASA 67 (1972); Gneiting and Raftery,
    "Strictly Proper Scoring Rules, Prediction, and Estimation", JASA 102 (2007), equation 43.

    Parameters
    ----------
    actual, lower, upper
        Shape (n,) or (n, horizons).
    nominal
        The probability that the range is said to have, 0.80 for instance.

    Examples
    --------
    >>> float(interval_score([12.0], [0.0], [10.0], nominal=0.50))  # 10 wide, missed by 2: 10 + 2 / 0.5 * 2
    18.0
    """
    _require_probability(nominal)
    below = np.maximum(errors(actual, lower), 0.0)
    above = np.maximum(-errors(actual, upper), 0.0)
    return (errors(lower, upper) + 2.0 / (1.0 - nominal) * (below + above)).mean(axis=0)


def pinball(actual: npt.ArrayLike, quantile: npt.ArrayLike, level: float) -> Any:
    """Mean quantile loss at a level: ``level`` times the shortfall, ``1 - level`` times the excess.

    Koenker and Bassett, "Regression Quantiles", Econometrica 46 (1978).
    """
    _require_probability(level)
    excess = errors(actual, quantile)
    return np.maximum(-level * excess, (1.0 - level) * excess).mean(axis=0)


def crps_of_samples(actual: npt.ArrayLike, samples: npt.ArrayLike) -> Floats:
    """Continuous ranked probability score of equally likely samples, one a forecast.

    ``mean |x - y| - mean |x - x'| / 2`` over samples x, x' (Gneiting and Raftery, 2007, equation 21), computed from
    the sorted samples as ``2 / m^2 sum_i (x_i - y) (m [y < x_i] - i + 1/2)``: O(m log m) instead of O(m^2), exact.

    Parameters
    ----------
    actual
        Any shape.
    samples
        The same shape with one more axis at the end, m samples.

    Returns
    -------
    ndarray, shape of ``actual``
        Not yet averaged, in units of ``actual``: the losses that a Diebold-Mariano test compares.
    """
    y, x = np.asarray(actual, dtype=np.float64)[..., None], np.sort(np.asarray(samples, dtype=np.float64), axis=-1)
    if x.ndim != y.ndim or x.shape[:-1] != y.shape[:-1]:
        raise ConfigError(f"expected samples of shape {y.shape[:-1]} and one more axis; got {x.shape}")
    m = x.shape[-1]
    score: Floats = 2.0 / m**2 * ((x - y) * (m * (y < x) - np.arange(1, m + 1) + 0.5)).sum(axis=-1)
    return score


def crps_of_quantiles(actual: npt.ArrayLike, quantiles: npt.ArrayLike, levels: npt.ArrayLike) -> Floats:
    """Continuous ranked probability score of distributions given by their quantiles, one a forecast.

    The score is twice the integral of the pinball loss over all levels (Laio and Tamea, "Verification Tools for
    Probabilistic Forecasts of Continuous Hydrological Variables", HESS 11 (2007)). Each level here stands for those
    nearest to it; with 199 of them the score of a normal distribution is right to 0.2 per cent at any outcome.

    Parameters
    ----------
    actual
        Any shape.
    quantiles
        The same shape with one more axis at the end, one quantile a level.
    levels
        Probability levels, increasing, inside (0, 1).

    Returns
    -------
    ndarray, shape of ``actual``
        Not yet averaged, in units of ``actual``.
    """
    y, q = np.asarray(actual, dtype=np.float64)[..., None], np.asarray(quantiles, dtype=np.float64)
    p = np.asarray(levels, dtype=np.float64)
    if q.shape != (*y.shape[:-1], len(p)):
        raise ConfigError(f"expected quantiles of shape {(*y.shape[:-1], len(p))}; got {q.shape}")
    edges = np.concatenate([[0.0], (p[1:] + p[:-1]) / 2.0, [1.0]])
    score: Floats = 2.0 * (np.maximum(p * (y - q), (1.0 - p) * (q - y)) * np.diff(edges)).sum(axis=-1)
    return score


def brier(probabilities: npt.ArrayLike, outcomes: npt.ArrayLike) -> Any:
    """Mean squared difference of stated probabilities and what happened, 1 or 0; 0.25 for saying one half always."""
    return (errors(outcomes, probabilities) ** 2).mean(axis=0)


def reliability(probabilities: npt.ArrayLike, outcomes: npt.ArrayLike, bins: int = 10) -> pd.DataFrame:
    """Compare stated probabilities with how often the events happened.

    Parameters
    ----------
    probabilities
        Stated probabilities, shape (n,), in [0, 1].
    outcomes
        Whether the event happened, shape (n,).
    bins
        Bins of equal width over [0, 1]; a probability on an edge belongs to the bin above it.

    Returns
    -------
    DataFrame
        One row a bin that is not empty: ``lower``, ``upper`` (edges of the bin), ``count``, ``stated`` (mean
        probability) and ``observed`` (share of events that happened).

    Raises
    ------
    ConfigError
        If shapes differ, or a probability is outside [0, 1].
    """
    p, happened = np.asarray(probabilities, dtype=np.float64), np.asarray(outcomes, dtype=np.float64)
    if p.ndim != 1 or errors(happened, p).shape != p.shape or p.min() < 0 or p.max() > 1:
        raise ConfigError(f"expected probabilities in [0, 1] of shape (n,); got shape {p.shape}")
    edges = np.linspace(0.0, 1.0, bins + 1)
    position = np.minimum(np.digitize(p, edges) - 1, bins - 1)
    count = np.bincount(position, minlength=bins)
    filled = count > 0
    sums = (np.bincount(position, weights=values, minlength=bins)[filled] for values in (p, happened))
    stated, observed = (total / count[filled] for total in sums)
    columns = {"lower": edges[:-1][filled], "upper": edges[1:][filled], "count": count[filled]}
    return pd.DataFrame(columns | {"stated": stated, "observed": observed})


def expected_calibration_error(probabilities: npt.ArrayLike, outcomes: npt.ArrayLike, bins: int = 10) -> float:
    """Mean distance between stated and observed frequency over the bins of :func:`reliability`, weighted by count.

    Naeini, Cooper and Hauskrecht, "Obtaining Well Calibrated Probabilities Using Bayesian Binning", AAAI
    (2015). Few rows make it large by chance alone: it is a description, not a test.
    """
    table = reliability(probabilities, outcomes, bins)
    return float(np.average((table["stated"] - table["observed"]).abs(), weights=table["count"]))


def _require_probability(value: float) -> None:
    if not 0.0 < value < 1.0:
        raise ConfigError(f"expected a probability between 0 and 1; got {value}")
