"""Accuracy of point forecasts, in prices.

``actual`` and ``predicted`` have one row an origin: shape (n, horizons), which gives one number a horizon, or
(n,), which gives one number. ``last_close`` is the close of each origin, shape (n,): what the random walk
forecasts for every horizon.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from forecastlib.errors import ConfigError, NotEnoughDataError

Floats = npt.NDArray[np.float64]


def errors(actual: npt.ArrayLike, predicted: npt.ArrayLike) -> Floats:
    """Return ``predicted - actual``, having checked that both have the same shape, rows, and no missing value.

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

    Near 1 for any forecast of a trending price, the random walk's included: never read it without :func:`skill`
    beside it. NaN if the actual prices do not vary.
    """
    residual = (errors(actual, predicted) ** 2).sum(axis=0)
    prices = np.asarray(actual, dtype=np.float64)
    total = ((prices - prices.mean(axis=0)) ** 2).sum(axis=0)
    return np.where(total > 0, 1.0 - residual / np.where(total > 0, total, 1.0), np.nan)[()]


def mase(
    actual: npt.ArrayLike, predicted: npt.ArrayLike, training_close: npt.ArrayLike, steps: int | Sequence[int] = 1
) -> Any:
    """Mean absolute error, scaled by that of the random walk on the training part.

    Hyndman and Koehler, "Another Look at Measures of Forecast Accuracy", International Journal of Forecasting
    22 (2006).

    Parameters
    ----------
    actual, predicted
        Prices, (n,) or (n, horizons).
    training_close
        Closes of the training part, oldest first.
    steps
        Sessions over which the random walk is taken there: 1 as in the paper, or the horizons, so that about 1
        is as good as the random walk over the same horizon.

    Raises
    ------
    NotEnoughDataError
        If the training part is not longer than the largest of ``steps``.
    """
    close = np.asarray(training_close, dtype=np.float64)
    each = np.atleast_1d(np.asarray(steps, dtype=np.int64))
    if len(close) <= each.max():
        raise NotEnoughDataError(f"expected more than {each.max()} training closes for the scale; got {len(close)}")
    scale = np.array([np.abs(close[step:] - close[:-step]).mean() for step in each])
    return mae(actual, predicted) / (scale if np.ndim(steps) else scale[0])


def skill(actual: npt.ArrayLike, predicted: npt.ArrayLike, last_close: npt.ArrayLike) -> Any:
    """Skill against the random walk: 1 - MAE / MAE of the last close. Above 0 is better than the random walk."""
    return 1.0 - mae(actual, predicted) / mae(actual, random_walk(actual, last_close))


def squared_skill(actual: npt.ArrayLike, predicted: npt.ArrayLike, last_close: npt.ArrayLike) -> Any:
    """Skill against the random walk in squared errors: 1 - MSE / MSE of the last close (out-of-sample R2)."""
    return 1.0 - (rmse(actual, predicted) / rmse(actual, random_walk(actual, last_close))) ** 2


def random_walk(actual: npt.ArrayLike, last_close: npt.ArrayLike) -> Floats:
    """Return the random walk's forecasts in the shape of the actual prices: the last close for every horizon."""
    shape = np.shape(actual)
    close = np.asarray(last_close, dtype=np.float64)
    if close.shape != shape[:1]:
        raise ConfigError(f"expected one last close for each of {shape[0]} origins; got shape {close.shape}")
    return np.broadcast_to(close.reshape(-1, *[1] * (len(shape) - 1)), shape)


def directional_accuracy(
    actual: npt.ArrayLike, predicted: npt.ArrayLike, last_close: npt.ArrayLike, threshold: float = 0.0
) -> Any:
    """Share of forecasts whose change from the origin goes the way the price went, in [0, 1].

    Parameters
    ----------
    actual, predicted
        Prices, (n,) or (n, horizons).
    last_close
        Close of each origin, (n,).
    threshold
        0: the signs of both changes are compared, and a forecast of no change is right only if there was none.
        Above 0: the changes count as up (above the threshold), down (below its negative) or neutral, and the
        three-way calls are compared; 0.005 is half a per cent.
    """
    errors(actual, predicted)
    close = random_walk(actual, last_close)

    def call(prices: npt.ArrayLike) -> npt.NDArray[np.int64]:
        change = np.asarray(prices) / close - 1.0
        return (change > threshold).astype(np.int64) - (change < -threshold)

    return (call(actual) == call(predicted)).mean(axis=0)
