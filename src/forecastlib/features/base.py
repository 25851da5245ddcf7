"""What all groups of features are made from: the price history, the series derived from it, and the feature itself."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import talib

from forecastlib.config import FeatureForm
from forecastlib.data.prices import COLUMNS
from forecastlib.features.rolling import Array, Rolling, change, lag, ratio, shared, sign

Values = Callable[..., Array]


class History:
    """The prices of one symbol, ready for rolling windows, with a cache of the series derived from them.

    Parameters
    ----------
    prices
        Complete prices of one symbol.
    """

    def __init__(self, prices: pd.DataFrame) -> None:
        self.prices = prices
        self._columns = [np.ascontiguousarray(prices[column].to_numpy()) for column in COLUMNS]
        self.clear()

    def clear(self) -> None:
        """Discard all derived series, which take several times the memory of the features made from them."""
        self.open, self.high, self.low, self.close, self.volume = (Rolling(column) for column in self._columns)
        self.cache: dict[Hashable, Any] = {}


@dataclass(frozen=True)
class Feature:
    """One feature: its name, its lookback, its meaning, and how it is computed in each form.

    Parameters
    ----------
    name
        Unique; the name of the column in both forms.
    lookback
        Number of earlier sessions that a value needs: rows t - lookback ... t determine the value of row t to the
        last bit, and the first value is in row ``lookback``, counted from 0. The longer one where the forms differ.
    description
        One line, describing the relative form.
    relative, level
        Functions of a history that return one value per row.
    group
        Set by :mod:`forecastlib.features.registry`.
    """

    name: str
    lookback: int
    description: str
    relative: Callable[[History], Array]
    level: Callable[[History], Array]
    group: str = ""

    def compute(self, history: History, form: FeatureForm) -> Array:
        """Return one value per row in the given form, NaN where the lookback reaches beyond the first row."""
        return self.relative(history) if form == "relative" else self.level(history)


def plain(name: str, lookback: int, description: str, values: Values, *args: Any) -> Feature:
    """Return a feature that is free of scale, and so the same in both forms: ``values(history, *args)``."""
    return Feature(name, lookback, description, lambda h: values(h, *args), lambda h: values(h, *args))


def price(name: str, lookback: int, description: str, values: Values, *args: Any) -> Feature:
    """Return a feature that is a price; its relative form is the price over the close, minus 1."""
    return Feature(
        name, lookback, description, lambda h: values(h, *args) / h.close.values - 1.0, lambda h: values(h, *args)
    )


def span(name: str, lookback: int, description: str, values: Values, *args: Any) -> Feature:
    """Return a feature that is a difference of prices; its relative form is a share of the close."""
    return Feature(name, lookback, description, lambda h: values(h, *args) / h.close.values, lambda h: values(h, *args))


def past_change(name: str, sessions: int) -> Feature:
    """Return the feature of the change of the close over some sessions."""
    description = f"Log return over {sessions} sessions"
    return Feature(name, sessions, description, lambda h: log_return(h, sessions), lambda h: price_change(h, sessions))


def over(
    windows: Iterable[int], kind: Callable[..., Feature], name: str, extra: int, description: str, values: Values
) -> tuple[Feature, ...]:
    """Return the same feature over several windows.

    The window takes the place of ``{}`` in the name and the description, is the argument of ``values`` after the
    history, and plus ``extra`` is the lookback.

    Examples
    --------
    >>> [(f.name, f.lookback) for f in over((5, 21), price, "sma_{}", -1, "Mean of {} closes", Rolling.mean)]
    [('sma_5', 4), ('sma_21', 20)]
    """
    return tuple(kind(name.format(w), w + extra, description.format(w), values, w) for w in windows)


@shared
def logarithms(history: History) -> tuple[Array, Array, Array, Array]:
    """Return the logs of open, high, low and close; their differences are exactly 0 for equal prices."""
    prices = (history.open, history.high, history.low, history.close)
    log_open, log_high, log_low, log_close = (np.log(series.values) for series in prices)
    return log_open, log_high, log_low, log_close


@shared
def log_return(history: History, sessions: int) -> Array:
    """Return the log of the close over the close some sessions earlier."""
    _, _, _, close = logarithms(history)
    return change(close, sessions)


@shared
def price_change(history: History, sessions: int) -> Array:
    """Return the change of the close over some sessions."""
    return change(history.close.values, sessions)


@shared
def returns(history: History) -> Rolling:
    """Return the log returns over one session."""
    return Rolling(log_return(history, 1))


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
    """Return Wilder's true range: the range of the session extended to the previous close (1978)."""
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
    """Return 1 where the close is higher than the previous one, -1 where it is lower, 0 where they are equal."""
    return Rolling(sign(price_change(history, 1), history.close.values))


@shared
def realised_volatility(history: History, window: int) -> Array:
    """Return the root of the mean squared log return over a window: the volatility of one session."""
    return np.sqrt(returns(history).squared.mean(window))


@shared
def close_location(history: History) -> Array:
    """Return where the close lies in the bar: -1 at the low, 1 at the high, 0 where they are equal."""
    above, below = history.close.values - history.low.values, history.high.values - history.close.values
    return ratio(above - below, bar_range(history).values, 0.0)
