"""Accuracy of point forecasts, and calibration and sharpness of intervals, distributions and probabilities.

Arrays have one row per origin: shape (n, horizons), which gives one number per horizon, or (n,), which gives one
number. Units are those of the input: prices, or log returns, in which errors at different price levels compare.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from forecastlib.errors import ConfigError, NotEnoughDataError

Floats = npt.NDArray[np.float64]


def errors(actual: npt.ArrayLike, predicted: npt.ArrayLike) -> Floats:
    """Return ``predicted - actual``, after checking that shapes agree and no value is missing.

    Raises
    ------
    ConfigError
        If shapes differ or a value is missing or infinite.
    NotEnoughDataError
        If there are no rows.
    """
    a, p = np.asarray(actual, dtype=np.float64), np.asarray(predicted, dtype=np.float64)
    if a.shape != p.shape or a.ndim not in (1, 2):
        raise ConfigError(
            f"expected actual and predicted values of one shape, (n,) or (n, horizons); got {a.shape} and {p.shape}"
        )
    if len(a) == 0:
        raise NotEnoughDataError("expected at least one forecast to score; got none")
    if not (np.isfinite(a).all() and np.isfinite(p).all()):
        raise ConfigError("expected finite values to score; leave out the rows whose outcome is not known yet")
    return p - a


# Point forecasts


def mae(actual: npt.ArrayLike, predicted: npt.ArrayLike) -> Any:
    """Mean absolute error, in the units of the prices."""
    return np.abs(errors(actual, predicted)).mean(axis=0)


def rmse(actual: npt.ArrayLike, predicted: npt.ArrayLike) -> Any:
    """Root of the mean squared error, in the units of the prices."""
    return np.sqrt((errors(actual, predicted) ** 2).mean(axis=0))


def mape(actual: npt.ArrayLike, predicted: npt.ArrayLike) -> Any:
    """Mean absolute error relative to the actual price, in per cent."""
    return 100.0 * np.abs(errors(actual, predicted) / np.asarray(actual)).mean(axis=0)


def bias(actual: npt.ArrayLike, predicted: npt.ArrayLike) -> Any:
    """Mean of predicted minus actual: positive where forecasts are too high."""
    return errors(actual, predicted).mean(axis=0)


def r2(actual: npt.ArrayLike, predicted: npt.ArrayLike) -> Any:
    """Share of the variance of the actual prices that is explained.

    Near 1 for any forecast of a trending price, including the random walk: never read it without :func:`skill`.
    NaN if the actual prices do not vary.
    """
    prices = np.asarray(actual, dtype=np.float64)
    residual = (errors(actual, predicted) ** 2).sum(axis=0)
    return 1.0 - _ratio(residual, ((prices - prices.mean(axis=0)) ** 2).sum(axis=0))


def correlation(actual: npt.ArrayLike, predicted: npt.ArrayLike) -> Any:
    """Correlation of predicted and actual prices: as close to 1 as :func:`r2` for any forecast of a trending price."""
    predicted_prices = np.asarray(actual, dtype=np.float64) + errors(actual, predicted)
    a, p = (values - values.mean(axis=0) for values in (np.asarray(actual, dtype=np.float64), predicted_prices))
    return _ratio((a * p).sum(axis=0), np.sqrt((a**2).sum(axis=0) * (p**2).sum(axis=0)))


def mase(
    actual: npt.ArrayLike, predicted: npt.ArrayLike, history: npt.ArrayLike, steps: int | Sequence[int] = 1
) -> Any:
    """Mean absolute error, scaled by that of the random walk on earlier prices.

    Hyndman and Koehler, "Another Look at Measures of Forecast Accuracy", International Journal of Forecasting
    22 (2006).

    Parameters
    ----------
    actual, predicted
        Prices, (n,) or (n, horizons).
    history
        Closes before the forecasts, oldest first.
    steps
        Sessions over which the random walk is scored on them: 1 as in the paper, or the horizons, so that a value
        near 1 means as accurate as the random walk over the same horizon.

    Raises
    ------
    NotEnoughDataError
        If the history is not longer than the largest of ``steps``.
    """
    close = np.asarray(history, dtype=np.float64)
    sessions = np.atleast_1d(np.asarray(steps, dtype=np.int64))
    if len(close) <= sessions.max():
        raise NotEnoughDataError(f"expected more than {sessions.max()} closes for the scale; got {len(close)}")
    scale = np.array([np.abs(close[step:] - close[:-step]).mean() for step in sessions])
    return mae(actual, predicted) / (scale if np.ndim(steps) else scale[0])


def skill(actual: npt.ArrayLike, predicted: npt.ArrayLike, last_close: npt.ArrayLike) -> Any:
    """Skill against the random walk: 1 - MAE / MAE of the last close. Above 0 is better than the random walk.

    ``last_close`` has one close per origin, shape (n,). NaN if the prices did not move.
    """
    return 1.0 - _ratio(mae(actual, predicted), mae(actual, random_walk(actual, last_close)))


def squared_skill(actual: npt.ArrayLike, predicted: npt.ArrayLike, last_close: npt.ArrayLike) -> Any:
    """Skill against the random walk in squared errors: 1 - MSE / MSE of the last close (out-of-sample R2)."""
    return 1.0 - _ratio(rmse(actual, predicted) ** 2, rmse(actual, random_walk(actual, last_close)) ** 2)


def random_walk(actual: npt.ArrayLike, last_close: npt.ArrayLike) -> Floats:
    """Return the forecasts of the random walk in the shape of the actual prices: the last close for every horizon."""
    shape = np.shape(actual)
    close = np.asarray(last_close, dtype=np.float64)
    if close.shape != shape[:1]:
        raise ConfigError(f"expected one last close for each of {shape[0]} origins; got shape {close.shape}")
    return np.broadcast_to(close.reshape(-1, *[1] * (len(shape) - 1)), shape)


# Intervals and distributions


def coverage(actual: npt.ArrayLike, lower: npt.ArrayLike, upper: npt.ArrayLike) -> Any:
    """Share of actual values inside their interval, its ends included."""
    return ((errors(actual, lower) <= 0) & (errors(actual, upper) >= 0)).mean(axis=0)


def mean_width(lower: npt.ArrayLike, upper: npt.ArrayLike) -> Any:
    """Mean width of intervals: among those with the right coverage, narrower is better."""
    return errors(lower, upper).mean(axis=0)


def interval_score(actual: npt.ArrayLike, lower: npt.ArrayLike, upper: npt.ArrayLike, nominal: float) -> Any:
    """Mean width, plus ``2 / (1 - nominal)`` times the distance by which values miss their interval; lower is better.

    Winkler, "A Decision-Theoretic Approach to Interval Estimation", JASA 67 (1972); Gneiting and Raftery,
    "Strictly Proper Scoring Rules, Prediction, and Estimation", JASA 102 (2007), equation 43.

    Parameters
    ----------
    actual, lower, upper
        Shape (n,) or (n, horizons).
    nominal
        The nominal coverage of the interval, 0.80 for instance.

    Examples
    --------
    >>> float(interval_score([12.0], [0.0], [10.0], nominal=0.50))  # 10 wide, missed by 2: 10 + 2 / 0.5 * 2
    18.0
    """
    if not 0.0 < nominal < 1.0:
        raise ConfigError(f"expected a nominal coverage between 0 and 1; got {nominal}")
    below = np.maximum(errors(actual, lower), 0.0)
    above = np.maximum(-errors(actual, upper), 0.0)
    return (errors(lower, upper) + 2.0 / (1.0 - nominal) * (below + above)).mean(axis=0)


# Probabilities of events


def reliability(probabilities: npt.ArrayLike, outcomes: npt.ArrayLike, bins: int = 10) -> pd.DataFrame:
    """Compare stated probabilities with the observed frequency of their events.

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
        One row per bin that is not empty: ``lower``, ``upper`` (edges of the bin), ``count``, ``stated`` (mean
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
    (2015). With few rows it is large by chance: it describes a sample and tests nothing.
    """
    table = reliability(probabilities, outcomes, bins)
    return float(np.average((table["stated"] - table["observed"]).abs(), weights=table["count"]))


def _ratio(numerator: Any, denominator: Any) -> Any:
    """Divide; NaN where the denominator is 0."""
    positive = np.asarray(denominator) > 0
    return np.where(positive, numerator / np.where(positive, denominator, 1.0), np.nan)[()]
