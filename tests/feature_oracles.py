"""Shared by the tests of features: real bars, and slow, obvious definitions as references for the fast ones."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import pandas as pd
import pytest

from forecastlib.config import FeatureConfig
from forecastlib.data.sources import open_source
from forecastlib.features import compute_features

FORMS = ("relative", "level")


@dataclass(frozen=True)
class Bars:
    """The bars up to one session, the last one, whose features are compared."""

    open: np.ndarray
    high: np.ndarray
    low: np.ndarray
    close: np.ndarray
    volume: np.ndarray
    date: pd.Timestamp

    @property
    def typical(self):
        return (self.high + self.low + self.close) / 3

    @property
    def returns(self):
        return np.log(self.close[1:] / self.close[:-1])

    @property
    def changes(self):
        return np.diff(self.close)

    @property
    def true_range(self):
        before = self.close[:-1]
        return np.maximum(self.high[1:], before) - np.minimum(self.low[1:], before)

    @property
    def overnight(self):
        return np.log(self.open[1:] / self.close[:-1])

    @property
    def intraday(self):
        return np.log(self.close / self.open)


Oracle = Callable[[Bars], float]


def plain(oracle: Oracle) -> tuple[Oracle, Oracle]:
    """Expect the same in both forms."""
    return oracle, oracle


def price(oracle: Oracle) -> tuple[Oracle, Oracle]:
    """Expect a price, and over the close minus 1 in the relative form."""
    return (lambda bars: oracle(bars) / bars.close[-1] - 1), oracle


def span(oracle: Oracle) -> tuple[Oracle, Oracle]:
    """Expect a difference of prices, and a share of the close in the relative form."""
    return (lambda bars: oracle(bars) / bars.close[-1]), oracle


def averages(values: np.ndarray, span: float) -> np.ndarray:
    """Return the exponential mean at every row, by its definition: weights over 4 spans, summing to 1."""
    rows = int(np.ceil(4 * span))
    weights = ((span - 1) / (span + 1)) ** np.arange(rows)[::-1]
    means = [np.average(values[i - rows + 1 : i + 1], weights=weights) for i in range(rows - 1, len(values))]
    return np.array(means)


def wilder(values: np.ndarray, period: int) -> np.ndarray:
    """Return Wilder's average at every row: the weight of each row is 1 - 1/period times that of the next."""
    return averages(values, 2 * period - 1)


def means(values: np.ndarray, window: int) -> np.ndarray:
    """Return the simple mean at every row."""
    return np.array([np.mean(values[i - window : i]) for i in range(window, len(values) + 1)])


def linear_means(values: np.ndarray, window: int) -> np.ndarray:
    """Return the linearly weighted mean at every row."""
    weights = np.arange(1, window + 1)
    return np.array([np.average(values[i - window : i], weights=weights) for i in range(window, len(values) + 1)])


def bundled(symbol: str) -> pd.DataFrame:
    """Return the bundled prices of a symbol."""
    return _fetched(symbol).copy()


@cache
def _fetched(symbol: str) -> pd.DataFrame:
    return open_source("bundled").fetch(symbol)


@cache
def computed(symbol: str, form: str) -> pd.DataFrame:
    """Return all features of a symbol's bundled prices."""
    return compute_features(bundled(symbol), FeatureConfig(form=form))


@cache
def samples() -> tuple[tuple[str, Bars], ...]:
    """Return bars up to chosen sessions: early ones, the crash of 2008, days after ^IXIC had no volume, the last."""
    days = {
        "^IXIC": ("2000-04-14", "2008-10-10", "2015-05-12", "2015-05-20", "2018-12-31"),
        "^GSPC": ("2000-01-03", "2008-11-20", "2017-12-29"),
    }
    found = []
    for symbol, dates in days.items():
        prices = bundled(symbol)
        for date in pd.DatetimeIndex(dates):
            past = prices.loc[:date].iloc[-600:]
            columns = [past[column].to_numpy() for column in ("open", "high", "low", "close", "volume")]
            found.append((symbol, Bars(*columns, date)))
    return tuple(found)


def assert_equal_to_definition(name: str, forms: tuple[Oracle, Oracle]) -> None:
    """Compare a feature in both forms with its slow definition on all samples."""
    for form, oracle in zip(FORMS, forms, strict=True):
        for symbol, bars in samples():
            value = computed(symbol, form).at[bars.date, name]
            expected = pytest.approx(float(oracle(bars)), rel=1e-8, abs=1e-11)
            assert value == expected, f"{form} {name} of {symbol} on {bars.date:%Y-%m-%d}"
