"""One series of prices as arrays, and the series that several features derive from them."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

import numpy as np
import pandas as pd
import talib

from forecastlib.data.prices import COLUMNS
from forecastlib.features.arithmetic import Array, change, lag, sign
from forecastlib.features.rolling import Rolling

P = ParamSpec("P")
T = TypeVar("T")


class History:
    """The columns of one series, ready for rolling windows, and a memory for what is derived from them.

    Parameters
    ----------
    prices
        Complete prices of one symbol.
    """

    def __init__(self, prices: pd.DataFrame) -> None:
        self.open, self.high, self.low, self.close, self.volume = (
            Rolling(np.ascontiguousarray(prices[column].to_numpy())) for column in COLUMNS
        )
        self.dates = prices.index.to_numpy()
        self.derived: dict[Hashable, Any] = {}

    def forget(self) -> None:
        """Let go of what has been derived: it takes four times the memory of the features themselves."""
        self.open, self.high, self.low, self.close, self.volume = (
            Rolling(column.values) for column in (self.open, self.high, self.low, self.close, self.volume)
        )
        self.derived.clear()


def shared(function: Callable[Concatenate[History, P], T]) -> Callable[Concatenate[History, P], T]:
    """Compute something once for each history and arguments, however many features ask for it."""

    @wraps(function)
    def remembered(history: History, /, *args: P.args, **kwargs: P.kwargs) -> T:
        key = (function, args, tuple(kwargs.items()))
        if key not in history.derived:
            history.derived[key] = function(history, *args, **kwargs)
        found: T = history.derived[key]
        return found

    return remembered


@shared
def logarithms(history: History) -> tuple[Array, Array, Array, Array]:
    """Return the logs of open, high, low and close: ratios are differences of these, exactly 0 for equal prices."""
    prices = (history.open, history.high, history.low, history.close)
    log_open, log_high, log_low, log_close = (np.log(price.values) for price in prices)
    return log_open, log_high, log_low, log_close


@shared
def log_return(history: History, sessions: int) -> Array:
    """Return the log of the close over the close some sessions earlier."""
    _, _, _, close = logarithms(history)
    return change(close, sessions)


@shared
def price_change(history: History, sessions: int) -> Array:
    """Return the close minus the close some sessions earlier."""
    return change(history.close.values, sessions)


@shared
def returns(history: History) -> Rolling:
    """Return the log returns over one session."""
    return Rolling(log_return(history, 1))


@shared
def squared_returns(history: History) -> Rolling:
    """Return the squared log returns."""
    return Rolling(np.square(returns(history).values))


@shared
def absolute_returns(history: History) -> Rolling:
    """Return the absolute log returns."""
    return Rolling(np.abs(returns(history).values))


@shared
def overnight_returns(history: History) -> Rolling:
    """Return the log of the open over the previous close."""
    log_open, _, _, log_close = logarithms(history)
    return Rolling(log_open - lag(log_close, 1))


@shared
def intraday_returns(history: History) -> Rolling:
    """Return the log of the close over the open of the same session."""
    log_open, _, _, log_close = logarithms(history)
    return Rolling(log_close - log_open)


@shared
def log_range(history: History) -> Rolling:
    """Return the log of the high over the low."""
    _, log_high, log_low, _ = logarithms(history)
    return Rolling(log_high - log_low)


@shared
def bar_range(history: History) -> Rolling:
    """Return the high minus the low."""
    return Rolling(history.high.values - history.low.values)


@shared
def true_range(history: History) -> Rolling:
    """Return the range of the session and the previous close together (Wilder 1978)."""
    return Rolling(talib.TRANGE(history.high.values, history.low.values, history.close.values))


@shared
def average_true_range(history: History, period: int) -> Array:
    """Return Wilder's average of the true range."""
    return true_range(history).wilder_mean(period)


@shared
def typical_price(history: History) -> Rolling:
    """Return the mean of high, low and close."""
    return Rolling((history.high.values + history.low.values + history.close.values) / 3.0)


@shared
def direction(history: History) -> Rolling:
    """Return 1 for a higher close than the one before, -1 for a lower one, 0 for the same."""
    return Rolling(sign(price_change(history, 1), history.close.values))


@shared
def realised_volatility(history: History, window: int) -> Array:
    """Return the root of the mean squared log return over a window, a session."""
    return np.sqrt(squared_returns(history).mean(window))
