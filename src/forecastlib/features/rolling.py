"""Rolling windows whose result depends on the window's content alone, to the last bit.

The usual rolling sum adds the newest value and takes away the oldest. It is fast, but its rounding errors come from
every row since the first, so the same window gives other last bits in a longer or a shorter history. Here a window
is put together from two shorter neighbouring ones,

    window of 6 ending at t  =  window of 3 ending at t-3  +  window of 3 ending at t,

and those likewise, down to single rows. How a length is divided depends on the length alone (:func:`divide`), so
each result is one fixed expression of the window's values: where the history starts, and where the row stands in
memory, cannot matter. A window of w rows takes about log2(w) vector operations, and windows share their parts.

Any quantity that two neighbouring windows determine together can be folded this way: sums, extremes, central moments
(Chan, Golub and LeVeque 1983; Pébay 2008: no cancellation, and exactly zero spread where all values are equal),
exponentially weighted sums over a bounded memory, the largest drawdown.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
State = tuple[Array, ...]
Merge = Callable[[State, State, int, int], State]

MEMORY_IN_SPANS = 4
"""Rows of an exponential average, in spans: what is cut off had e**-8 = 0.03 % of the weight."""

ROUNDING = 1e-10
"""A standard deviation below this share of the mean is rounding error and counts as zero."""


def divide(window: int) -> tuple[int, int]:
    """Return the lengths of the earlier and the later part of a window.

    Examples
    --------
    >>> divide(126), divide(63), divide(21), divide(5)
    ((63, 63), (42, 21), (14, 7), (4, 1))
    """
    if window % 2 == 0:
        return window // 2, window // 2
    if window % 3 == 0:
        return 2 * window // 3, window // 3
    return window - 1, 1


class Fold:
    """Windows of any length over the same rows, each merged from two shorter ones and remembered.

    Parameters
    ----------
    leaf
        The state of a window of one row, for every row: a tuple of arrays of equal length.
    merge
        Gives the state of ``earlier + later`` rows from the states and lengths of both parts.

    Examples
    --------
    >>> total = Fold((np.array([1.0, 2.0, 3.0, 4.0]),), add)
    >>> total(3)[0]  # rows 0-2 and rows 1-3
    array([6., 9.])
    """

    def __init__(self, leaf: State, merge: Merge) -> None:
        self._rows = len(leaf[0])
        self._merge = merge
        self._states = {1: leaf}

    def __call__(self, window: int) -> State:
        """Return the states of all windows of this length, first the one that starts in row 0."""
        if window not in self._states:
            earlier, later = divide(window)
            count = self._rows - window + 1
            left = tuple(array[:count] for array in self(earlier))
            right = tuple(array[earlier:] for array in self(later))
            self._states[window] = self._merge(left, right, earlier, later)
        return self._states[window]


def add(left: State, right: State, earlier: int, later: int) -> State:
    """Merge sums."""
    return (left[0] + right[0],)


def larger(left: State, right: State, earlier: int, later: int) -> State:
    """Merge maxima."""
    return (np.maximum(left[0], right[0]),)


def smaller(left: State, right: State, earlier: int, later: int) -> State:
    """Merge minima."""
    return (np.minimum(left[0], right[0]),)


def merge_variance(left: State, right: State, earlier: int, later: int) -> State:
    """Merge (mean, sum of squared deviations)."""
    count = earlier + later
    step = right[0] - left[0]
    return (
        left[0] + step * (later / count),
        left[1] + right[1] + step * step * (earlier * later / count),
    )


def merge_moments(left: State, right: State, earlier: int, later: int) -> State:
    """Merge (mean, sums of the second, third and fourth powers of deviations)."""
    count = earlier + later
    a, b = earlier / count, later / count
    step = right[0] - left[0]
    square = step * step
    second = left[1] + right[1] + square * (a * later)
    third = left[2] + right[2] + step * (square * (a * later * (a - b)) + 3 * (a * right[1] - b * left[1]))
    fourth = (
        left[3]
        + right[3]
        + square * (square * (a * later * (a * a - a * b + b * b)) + 6 * (a * a * right[1] + b * b * left[1]))
        + 4 * step * (a * right[2] - b * left[2])
    )
    return left[0] + step * b, second, third, fourth


def merge_covariance(left: State, right: State, earlier: int, later: int) -> State:
    """Merge (mean of x, mean of y, sum of the products of deviations)."""
    count = earlier + later
    step, other = right[0] - left[0], right[1] - left[1]
    return (
        left[0] + step * (later / count),
        left[1] + other * (later / count),
        left[2] + right[2] + step * other * (earlier * later / count),
    )


def merge_trend(left: State, right: State, earlier: int, later: int) -> State:
    """Merge (mean, sum of the products of deviations from the mean and from the mean row)."""
    count = earlier + later
    step = right[0] - left[0]
    return left[0] + step * (later / count), left[1] + right[1] + step * (earlier * later / 2)


def merge_linear(left: State, right: State, earlier: int, later: int) -> State:
    """Merge (sum, sum weighted by the age in rows)."""
    return left[0] + right[0], left[1] + right[1] + later * left[0]


def merge_drawdown(left: State, right: State, earlier: int, later: int) -> State:
    """Merge (maximum, minimum, smallest ratio of a value to an earlier or equal one)."""
    return (
        np.maximum(left[0], right[0]),
        np.minimum(left[1], right[1]),
        np.minimum(np.minimum(left[2], right[2]), right[1] / left[0]),
    )


def decaying(decay: float) -> Merge:
    """Return the merge of sums in which each row weighs ``decay`` times the next one."""

    def merge(left: State, right: State, earlier: int, later: int) -> State:
        return (left[0] * decay**later + right[0],)

    return merge


class Rolling:
    """One series, and what windows of it that end at each row say.

    Every method returns an array as long as the series; rows whose window would begin before the first row, or
    reach a NaN, are NaN. Windows count rows, the newest one included.

    Parameters
    ----------
    values
        float64, contiguous; a leading run of NaN is allowed and carried on.
    """

    def __init__(self, values: Array) -> None:
        self.values = values
        self._folds: dict[Hashable, Fold] = {}

    def _windows(self, key: Hashable, window: int, merge: Merge, zeros: int = 0) -> State:
        """Fold under a key; the leaf is the value itself and some zeros."""
        if key not in self._folds:
            self._folds[key] = Fold((self.values, *[np.zeros_like(self.values)] * zeros), merge)
        return self._folds[key](window)

    def _pad(self, values: Array) -> Array:
        """Put NaN in front of values that start with the first whole window."""
        padded = np.empty_like(self.values)
        first = len(padded) - len(values)
        padded[:first] = np.nan
        padded[first:] = values
        return padded

    def sum(self, window: int) -> Array:
        """Return the rolling sum."""
        return self._pad(self._windows("sum", window, add)[0])

    def mean(self, window: int) -> Array:
        """Return the simple moving average."""
        return self._pad(self._windows("sum", window, add)[0] / window)

    def maximum(self, window: int) -> Array:
        """Return the largest value."""
        return self._pad(self._windows("maximum", window, larger)[0])

    def minimum(self, window: int) -> Array:
        """Return the smallest value."""
        return self._pad(self._windows("minimum", window, smaller)[0])

    def linear_mean(self, window: int) -> Array:
        """Return the linearly weighted average: the newest row weighs ``window``, the oldest 1."""
        total, aged = self._windows("linear", window, merge_linear, zeros=1)
        return self._pad((window * total - aged) / (window * (window + 1) / 2))

    def exponential_mean(self, span: float) -> Array:
        """Return the exponential average of a span, over a memory of 4 spans.

        Weights decay by ``(span - 1) / (span + 1)`` a row and sum to 1 over ``ceil(4 * span)`` rows, as pandas' ``ewm``
        has them on a window of that length.
        """
        decay = (span - 1) / (span + 1)
        window = memory(span)
        weight = (1 - decay**window) / (1 - decay)
        return self._pad(self._windows(("decaying", decay), window, decaying(decay))[0] / weight)

    def wilder_mean(self, period: int) -> Array:
        """Return Wilder's smoothed average, which is the exponential one of span ``2 * period - 1``."""
        return self.exponential_mean(2 * period - 1)

    def squared_deviations(self, window: int) -> Array:
        """Return the sum of squared deviations from the window's mean."""
        mean, second = self._windows("variance", window, merge_variance, zeros=1)
        return self._pad(_without_rounding(mean, second, window))

    def variance(self, window: int) -> Array:
        """Return the population variance."""
        return self.squared_deviations(window) / window

    def deviation(self, window: int) -> Array:
        """Return the population standard deviation."""
        return np.sqrt(self.variance(window))

    def centre(self, window: int) -> Array:
        """Return the mean, exactly the value itself where all values are equal."""
        return self._pad(self._windows("variance", window, merge_variance, zeros=1)[0])

    def z_score(self, window: int) -> Array:
        """Return the distance from the mean in standard deviations, 0 where there is no spread."""
        return ratio(self.values - self.centre(window), self.deviation(window), 0.0)

    def skewness(self, window: int) -> Array:
        """Return the population skewness, 0 where there is no spread."""
        mean, second, third, _ = self._windows("moments", window, merge_moments, zeros=3)
        second = _without_rounding(mean, second, window)
        return self._pad(ratio(third * np.sqrt(window), second * np.sqrt(second), 0.0))

    def kurtosis(self, window: int) -> Array:
        """Return the population excess kurtosis, 0 where there is no spread."""
        mean, second, _, fourth = self._windows("moments", window, merge_moments, zeros=3)
        second = _without_rounding(mean, second, window)
        return self._pad(ratio(fourth * window, second * second, 3.0) - 3.0)

    def slope(self, window: int) -> Array:
        """Return the slope of the least-squares line, a row."""
        return self._pad(self._windows("trend", window, merge_trend, zeros=1)[1] / _time_spread(window))

    def r_squared(self, window: int) -> Array:
        """Return the share of variance that the least-squares line explains, 0 where there is no spread."""
        trend = self._windows("trend", window, merge_trend, zeros=1)[1]
        mean, second = self._windows("variance", window, merge_variance, zeros=1)
        explained = ratio(trend * trend / _time_spread(window), _without_rounding(mean, second, window), 0.0)
        return self._pad(np.minimum(explained, 1.0))

    def worst_ratio(self, window: int) -> Array:
        """Return the smallest ratio of a value to an earlier or equal one: 1 minus the largest drawdown."""
        if "drawdown" not in self._folds:
            leaf = (self.values, self.values, np.where(np.isnan(self.values), np.nan, 1.0))
            self._folds["drawdown"] = Fold(leaf, merge_drawdown)
        return self._pad(self._folds["drawdown"](window)[2])

    def rank(self, window: int) -> Array:
        """Return the newest value's place among the window's others: 0 lowest, 1 highest, ties count half.

        At most 128 rows: wins and losses are counted in 8 bits, which makes the count several times as fast.
        """
        if window > 128:
            raise ValueError(f"expected a window of at most 128 rows; got {window}")
        count = len(self.values) - window + 1
        newest = self.values[window - 1 :]
        others = np.lib.stride_tricks.sliding_window_view(self.values, count)[: window - 1]
        score = np.subtract((newest > others).view(np.int8), (newest < others).view(np.int8))
        place = 0.5 + np.add.reduce(score, axis=0, dtype=np.int8) / (2.0 * (window - 1))
        place[np.isnan(self.values[:count])] = np.nan  # a comparison with NaN is merely false
        return self._pad(place)


def memory(span: float) -> int:
    """Return the rows that an exponential average of this span sees."""
    return int(np.ceil(MEMORY_IN_SPANS * span))


def correlation(x: Rolling, y: Rolling, window: int) -> Array:
    """Return Pearson's correlation of two series in each window, 0 where one has no spread."""
    _, _, together = Fold((x.values, y.values, np.zeros_like(x.values)), merge_covariance)(window)
    missing = np.full(window - 1, np.nan)
    spread = np.sqrt(x.squared_deviations(window)) * np.sqrt(y.squared_deviations(window))
    return np.clip(ratio(np.concatenate([missing, together]), spread, 0.0), -1.0, 1.0)


def lag(values: Array, rows: int) -> Array:
    """Return each row's value of some rows earlier, NaN in the first rows."""
    lagged = np.empty_like(values)
    lagged[:rows] = np.nan
    lagged[rows:] = values[:-rows]
    return lagged


def ratio(numerator: Array, denominator: Array, at_zero: float) -> Array:
    """Divide, with a stated value where the denominator is zero; NaN stays NaN."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        quotient = numerator / denominator
    quotient[denominator == 0.0] = at_zero
    return quotient


def _without_rounding(mean: Array, second: Array, window: int) -> Array:
    """Set a sum of squared deviations that is rounding error of equal values to zero."""
    return np.where(second <= mean * mean * (window * ROUNDING**2), 0.0, second)


def _time_spread(window: int) -> float:
    """Return the sum of squared deviations of 0, 1, ... window - 1."""
    return window * (window * window - 1) / 12
