"""Rolling windows whose values depend on the content of the window only, to the last bit.

The usual rolling sum adds the newest value and subtracts the oldest. It is fast, but its rounding errors come from
every row since the first, so the same window has different last bits in a longer or a shorter history. Here a window
is merged from two shorter, adjacent ones,

    window of 6 ending at t  =  window of 3 ending at t-3  +  window of 3 ending at t,

and those likewise, down to single rows. How a window is split depends on its length only (:func:`split_window`), so
each result is one fixed expression of the window's values: neither where the history starts nor where a row lies in
memory can change it. A window of w rows takes about log2(w) vector operations, and windows share their parts.

Any quantity of a window that follows from those of its two parts can be computed this way: sums, extremes, central
moments (Chan, Golub and LeVeque 1983; Pébay 2008: without the cancellation of sums of powers), exponentially weighted
sums over a bounded memory, the maximum drawdown.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import cache, cached_property, wraps
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Merge = Callable[[Array, Array, int, int], Array]

ROUNDING = 1e-10
"""A spread below this share of the level is rounding error and counts as zero."""

MEMORY_IN_SPANS = 4
"""Rows that an exponential average looks back, in spans: the weights cut off sum to e**-8 = 0.03 %."""


def lag(values: Array, rows: int) -> Array:
    """Return the value some rows earlier, NaN in the first rows."""
    lagged = np.empty(len(values))
    lagged[:rows] = np.nan
    lagged[rows:] = values[: len(values) - rows]
    return lagged


def change(values: Array, rows: int) -> Array:
    """Return the change from some rows earlier, NaN in the first rows."""
    return values - lag(values, rows)


def ratio(numerator: Array, denominator: Array, at_zero: float) -> Array:
    """Divide, with a given value where the denominator is zero; NaN stays NaN."""
    with np.errstate(divide="ignore", invalid="ignore"):
        quotient = numerator / denominator
    quotient[denominator == 0.0] = at_zero
    return quotient


def sign(difference: Array, level: Array) -> Array:
    """Return -1, 0 or 1; a difference that is rounding error at this level counts as 0; NaN stays NaN."""
    return np.sign(difference) * (np.abs(difference) > level * ROUNDING)


def without_rounding(spread: Array, level: Array | float, share: float = ROUNDING) -> Array:
    """Set a spread to zero where it is so small a share of the level that it is rounding error; NaN stays NaN."""
    cleaned = spread.copy()
    cleaned[spread <= level * share] = 0.0
    return cleaned


@cache
def split_window(window: int) -> tuple[int, int]:
    """Return the lengths of the earlier and the later part of a window.

    Examples
    --------
    >>> split_window(126), split_window(63), split_window(21), split_window(5)
    ((63, 63), (42, 21), (14, 7), (4, 1))
    """
    if window % 2 == 0:
        return window // 2, window // 2
    if window % 3 == 0:
        return 2 * window // 3, window // 3
    return window - 1, 1


@cache
def merge_steps(window: int) -> tuple[tuple[int, int, int], ...]:
    """Return the merges that make up a window, shortest first, each as (length, earlier part, later part).

    Examples
    --------
    >>> merge_steps(6)
    ((2, 1, 1), (3, 2, 1), (6, 3, 3))
    """
    if window == 1:
        return ()
    earlier, later = split_window(window)
    return tuple(dict.fromkeys((*merge_steps(later), *merge_steps(earlier), (window, earlier, later))))


class Fold:
    """One quantity of windows of any length, each merged from two shorter windows and cached.

    Parameters
    ----------
    leaf
        The quantity in windows of one row.
    merge
        Function of the quantity in the earlier parts, in the later parts, and the lengths of both.

    Examples
    --------
    >>> import numpy as np
    >>> total = Fold(np.array([1.0, 2.0, 3.0, 4.0]), lambda earlier, later, before, after: earlier + later)
    >>> total(3)  # of rows 0-2 and of rows 1-3
    array([6., 9.])
    """

    def __init__(self, leaf: Array, merge: Merge) -> None:
        self._merge = merge
        self._by_length = {1: leaf}

    def __call__(self, window: int) -> Array:
        """Return the quantity in all windows of this length, starting with the window that begins in row 0."""
        by_length = self._by_length
        if window not in by_length:
            merge = self._merge
            for length, before, after in merge_steps(window):
                if length not in by_length:
                    later = by_length[after]
                    by_length[length] = merge(by_length[before][: len(later) - before], later[before:], before, after)
        return by_length[window]

    def parts(self, before: int, after: int) -> tuple[Array, Array]:
        """Return the quantity in the earlier and in the later parts, of these lengths, of all windows."""
        later = self(after)
        return self(before)[: len(later) - before], later[before:]


class _Caching(Protocol):
    cache: dict[Hashable, Any]


P = ParamSpec("P")
T = TypeVar("T")
C = TypeVar("C", bound=_Caching)


def shared(function: Callable[Concatenate[C, P], T]) -> Callable[Concatenate[C, P], T]:
    """Compute a series once per history or :class:`Rolling` and arguments, however many features use it."""

    @wraps(function)
    def cached(source: C, /, *args: P.args, **kwargs: P.kwargs) -> T:
        key = (function, args, tuple(kwargs.items()))
        if key not in source.cache:
            source.cache[key] = function(source, *args, **kwargs)
        series: T = source.cache[key]
        return series

    return cached


class Rolling:
    """One series and the statistics of its trailing windows.

    Every method returns an array as long as the series, whose value at row t describes the ``window`` rows that end
    with t. Rows whose window begins before the first row, or contains a NaN, are NaN.

    Parameters
    ----------
    values
        float64, contiguous; leading NaN are allowed and propagate.
    """

    def __init__(self, values: Array) -> None:
        self.values = values
        self.cache: dict[Hashable, Any] = {}

    @cached_property
    def squared(self) -> Rolling:
        """The series of squared values."""
        return Rolling(np.square(self.values))

    @cached_property
    def absolute(self) -> Rolling:
        """The series of absolute values."""
        return Rolling(np.abs(self.values))

    def sum(self, window: int) -> Array:
        """Return the rolling sum."""
        return self._pad(self._sums(window))

    def mean(self, window: int) -> Array:
        """Return the simple moving average."""
        return self._pad(self._sums(window) / window)

    def maximum(self, window: int) -> Array:
        """Return the largest value."""
        return self._pad(self._maxima(window))

    def minimum(self, window: int) -> Array:
        """Return the smallest value."""
        return self._pad(self._minima(window))

    def linear_mean(self, window: int) -> Array:
        """Return the linearly weighted average: the newest row has weight ``window``, the oldest 1."""
        newest = window * self._sums(window) - self._aged(window)
        return self._pad(newest / (window * (window + 1) / 2))

    @shared
    def exponential_mean(self, span: float) -> Array:
        """Return the exponential average of a span, over a memory of 4 spans.

        Weights decay by ``(span - 1) / (span + 1)`` per row and sum to 1 over :func:`memory` rows, like those of
        pandas' ``ewm(span=span)`` in a window of that length.
        """
        decay, window = (span - 1) / (span + 1), memory(span)
        weighted = Fold(self.values, lambda earlier, later, before, after: _add_to(earlier * decay**after, later))
        return self._pad(weighted(window) * ((1 - decay) / (1 - decay**window)))

    def wilder_mean(self, period: int) -> Array:
        """Return Wilder's smoothed average, which is the exponential one of span ``2 * period - 1``."""
        return self.exponential_mean(2 * period - 1)

    def variance(self, window: int) -> Array:
        """Return the population variance."""
        return self._pad(self._squares(window) / window)

    @shared
    def deviation(self, window: int) -> Array:
        """Return the population standard deviation."""
        return np.sqrt(self.variance(window))

    def z_score(self, window: int) -> Array:
        """Return the distance from the mean in standard deviations, 0 where there is no spread."""
        return ratio(self.values - self.mean(window), self.deviation(window), 0.0)

    def skewness(self, window: int) -> Array:
        """Return the population skewness, 0 where there is no spread."""
        squares = self._squares(window)
        return self._pad(ratio(self._third(window) * np.sqrt(window), squares * np.sqrt(squares), 0.0))

    def kurtosis(self, window: int) -> Array:
        """Return the population excess kurtosis, 0 where there is no spread."""
        squares = self._squares(window)
        return self._pad(ratio(self._fourth(window) * window, squares * squares, 3.0) - 3.0)

    def slope(self, window: int) -> Array:
        """Return the slope of the least-squares line, per row."""
        return self._pad(self._trend(window) / _spread_of_rows(window))

    def r_squared(self, window: int) -> Array:
        """Return the share of variance that the least-squares line explains, 0 where there is no spread."""
        explained = np.square(self._trend(window)) / _spread_of_rows(window)
        return self._pad(np.minimum(ratio(explained, self._squares(window), 0.0), 1.0))

    def worst_ratio(self, window: int) -> Array:
        """Return the smallest ratio of a value to an earlier one: 1 minus the maximum drawdown."""
        return self._pad(self._worst(window))

    def rank(self, window: int) -> Array:
        """Return the share of the window's other values that are below the newest one: 0 lowest, 1 highest.

        At most 128 rows: they are counted in 8 bits, which is several times as fast as in wider integers.
        """
        if window > 128:
            raise ValueError(f"expected a window of at most 128 rows, which are counted in 8 bits; got {window}")
        count = len(self.values) - window + 1
        others = np.lib.stride_tricks.sliding_window_view(self.values, count)[: window - 1]
        below = np.add.reduce((others < self.values[window - 1 :]).view(np.int8), axis=0, dtype=np.int8)
        share = below / (window - 1.0)
        share[np.isnan(self.values[:count])] = np.nan  # comparisons with NaN give False
        return self._pad(share)

    def _pad(self, values: Array) -> Array:
        """Prepend NaN to values that start with the first complete window."""
        padded = np.empty(len(self.values))
        first = len(padded) - len(values)
        padded[:first] = np.nan
        padded[first:] = values
        return padded

    # Merge functions refer to the folds they need, never to self: a reference cycle would hold half of the features'
    # memory until the garbage collector runs.

    @cached_property
    def _sums(self) -> Fold:
        return Fold(self.values, lambda earlier, later, before, after: earlier + later)

    @cached_property
    def _maxima(self) -> Fold:
        return Fold(self.values, lambda earlier, later, before, after: np.maximum(earlier, later))

    @cached_property
    def _minima(self) -> Fold:
        return Fold(self.values, lambda earlier, later, before, after: np.minimum(earlier, later))

    @cached_property
    def _worst(self) -> Fold:
        minima, maxima = self._minima, self._maxima

        def merge(earlier: Array, later: Array, before: int, after: int) -> Array:
            across = minima.parts(before, after)[1] / maxima.parts(before, after)[0]
            return np.minimum(across, np.minimum(earlier, later))

        return Fold(np.ones_like(self.values), merge)

    @cached_property
    def _aged(self) -> Fold:
        """Sums of values weighted by their age in rows."""
        sums = self._sums

        def merge(earlier: Array, later: Array, before: int, after: int) -> Array:
            return _add_to(sums.parts(before, after)[0] * after, earlier, later)

        return Fold(self._zeros, merge)

    @cached_property
    def _trend(self) -> Fold:
        """Sums of the products of the deviations of values and row numbers from their means."""
        sums = self._sums

        def merge(earlier: Array, later: Array, before: int, after: int) -> Array:
            return _add_to(_step(sums, before, after) * (after / 2), earlier, later)

        return Fold(self._zeros, merge)

    @cached_property
    def _second(self) -> Fold:
        """Sums of squared deviations from the mean."""
        sums = self._sums

        def merge(earlier: Array, later: Array, before: int, after: int) -> Array:
            square = _step(sums, before, after)
            square *= square
            square *= after / (before * (before + after))
            if before > 1:  # a single row has no deviation
                square += earlier
            if after > 1:
                square += later
            return square

        return Fold(self._zeros, merge)

    @cached_property
    def _third(self) -> Fold:
        """Sums of cubed deviations from the mean."""
        sums, second = self._sums, self._second

        def merge(earlier: Array, later: Array, before: int, after: int) -> Array:
            window = before + after
            older, newer = before / window, after / window
            step = _step(sums, before, after)
            step /= before
            earlier_second, later_second = second.parts(before, after)
            inner = older * later_second
            inner -= newer * earlier_second
            inner *= 3.0
            if before != after:
                inner += np.square(step) * (older * newer * (older - newer) * window)
            inner *= step
            return _add_to(inner, earlier, later)

        return Fold(self._zeros, merge)

    @cached_property
    def _fourth(self) -> Fold:
        """Sums of the fourth powers of deviations from the mean."""
        sums, second, third = self._sums, self._second, self._third

        def merge(earlier: Array, later: Array, before: int, after: int) -> Array:
            window = before + after
            older, newer = before / window, after / window
            step = _step(sums, before, after)
            step /= before
            earlier_second, later_second = second.parts(before, after)
            earlier_third, later_third = third.parts(before, after)
            inner = np.square(step)
            inner *= older * newer * (older**2 - older * newer + newer**2) * window
            inner += 6.0 * (older**2 * later_second + newer**2 * earlier_second)
            inner *= step
            inner += 4.0 * (older * later_third - newer * earlier_third)
            inner *= step
            return _add_to(inner, earlier, later)

        return Fold(self._zeros, merge)

    @cached_property
    def _zeros(self) -> Array:
        """Deviations from the mean in windows of one row."""
        return np.zeros_like(self.values)

    @shared
    def _squares(self, window: int) -> Array:
        """Return the sums of squared deviations, zero where they are rounding errors of equal values."""
        return without_rounding(self._second(window), np.square(self._sums(window)), ROUNDING**2 / window)


def memory(span: float) -> int:
    """Return the number of rows that the exponential average of a span looks at.

    Examples
    --------
    >>> memory(12)
    48
    """
    return int(np.ceil(MEMORY_IN_SPANS * span))


def correlation(x: Rolling, y: Rolling, window: int, delay: int = 0) -> Array:
    """Return Pearson's correlation of x with y some rows earlier in each window, 0 where either has no spread.

    Computed from sums of products, which is accurate enough here: the means of returns and volumes are not large
    against their spread.
    """
    earlier, mean, deviation = (lag(series, delay) for series in (y.values, y.mean(window), y.deviation(window)))
    covariance = Rolling(x.values * earlier).mean(window) - x.mean(window) * mean
    return np.clip(ratio(covariance, x.deviation(window) * deviation, 0.0), -1.0, 1.0)


def _step(sums: Fold, before: int, after: int) -> Array:
    """Return the change of the mean from the earlier to the later part, times the earlier length, as a new array."""
    earlier, later = sums.parts(before, after)
    if before == after:
        return later - earlier
    step = later * (before / after)
    step -= earlier
    return step


def _add_to(total: Array, *terms: Array) -> Array:
    """Add in place, which avoids allocating a new array."""
    for term in terms:
        total += term
    return total


def _spread_of_rows(window: int) -> float:
    """Return the sum of squared deviations of 0, 1, ... window - 1 from their mean."""
    return window * (window * window - 1) / 12
