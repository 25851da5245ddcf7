"""Rolling windows of one series, folded so that each value depends on its window alone (see :mod:`.fold`)."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from forecastlib.features.arithmetic import ROUNDING, Array, lag, ratio, without_rounding
from forecastlib.features.fold import Fold

MEMORY_IN_SPANS = 4
"""Rows of an exponential average, in spans: what is cut off had e**-8 = 0.03 % of the weight."""


class Rolling:
    """One series, and what the windows of it that end at each row say.

    Every method returns an array as long as the series. Windows count rows, the newest one included; rows whose
    window begins before the first row, or reaches back to a NaN, are NaN.

    Parameters
    ----------
    values
        float64, contiguous; a leading run of NaN is allowed and carried on.
    """

    def __init__(self, values: Array) -> None:
        self.values = values
        self._exponential: dict[float, Array] = {}
        self._deviations: dict[int, Array] = {}
        self._whole_squares: dict[int, Array] = {}

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
        """Return the linearly weighted average: the newest row weighs ``window``, the oldest 1."""
        newest = window * self._sums(window) - self._aged(window)
        return self._pad(newest / (window * (window + 1) / 2))

    def exponential_mean(self, span: float) -> Array:
        """Return the exponential average of a span, over a memory of 4 spans.

        Weights decay by ``(span - 1) / (span + 1)`` a row and sum to 1 over :func:`memory` rows, as those of pandas'
        ``ewm(span=span)`` do in a window of that length.
        """
        if span not in self._exponential:
            decay, window = (span - 1) / (span + 1), memory(span)

            def merge(earlier: Array, later: Array, before: int, after: int) -> Array:
                weighted = earlier * decay**after
                weighted += later
                return weighted

            weighted = Fold(self.values, merge)
            self._exponential[span] = self._pad(weighted(window) * ((1 - decay) / (1 - decay**window)))
        return self._exponential[span]

    def wilder_mean(self, period: int) -> Array:
        """Return Wilder's smoothed average, which is the exponential one of span ``2 * period - 1``."""
        return self.exponential_mean(2 * period - 1)

    def variance(self, window: int) -> Array:
        """Return the population variance."""
        return self._pad(self._squares(window) / window)

    def deviation(self, window: int) -> Array:
        """Return the population standard deviation."""
        if window not in self._deviations:
            self._deviations[window] = np.sqrt(self.variance(window))
        return self._deviations[window]

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
        """Return the slope of the least-squares line, a row."""
        return self._pad(self._trend(window) / _spread_of_rows(window))

    def r_squared(self, window: int) -> Array:
        """Return the share of variance that the least-squares line explains, 0 where there is no spread."""
        explained = np.square(self._trend(window)) / _spread_of_rows(window)
        return self._pad(np.minimum(ratio(explained, self._squares(window), 0.0), 1.0))

    def worst_ratio(self, window: int) -> Array:
        """Return the smallest ratio of a value to an earlier or equal one: 1 minus the deepest drawdown."""
        return self._pad(self._worst(window))

    def rank(self, window: int) -> Array:
        """Return the share of the window's other values that are below the newest one: 0 lowest, 1 highest.

        At most 128 rows: they are counted in 8 bits, which is several times as fast as wider numbers.
        """
        if window > 128:
            raise ValueError(f"expected a window of at most 128 rows; got {window}")
        count = len(self.values) - window + 1
        others = np.lib.stride_tricks.sliding_window_view(self.values, count)[: window - 1]
        below = np.add.reduce((others < self.values[window - 1 :]).view(np.int8), axis=0, dtype=np.int8)
        place = below / (window - 1.0)
        place[np.isnan(self.values[:count])] = np.nan  # a comparison with NaN is merely false
        return self._pad(place)

    def _pad(self, values: Array) -> Array:
        """Put NaN in front of values that start with the first whole window."""
        padded = np.empty(len(self.values))
        first = len(padded) - len(values)
        padded[:first] = np.nan
        padded[first:] = values
        return padded

    # What is remembered must not refer to the series that remembers it: that would be kept until Python looks for
    # cycles, and half of the features' memory with it. Hence the folds here name the folds they are made from.

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
        """Sums of values times their age in rows."""
        sums = self._sums

        def merge(earlier: Array, later: Array, before: int, after: int) -> Array:
            return _add_to(sums.parts(before, after)[0] * after, earlier, later)

        return Fold(self._nothing, merge)

    @cached_property
    def _trend(self) -> Fold:
        """Sums of the products of the deviations of values and of row numbers from their means."""
        sums = self._sums

        def merge(earlier: Array, later: Array, before: int, after: int) -> Array:
            product = _step(sums, before, after)
            product *= after / 2
            return _add_to(product, earlier, later)

        return Fold(self._nothing, merge)

    @cached_property
    def _second(self) -> Fold:
        """Sums of squared deviations from the mean."""
        sums = self._sums

        def merge(earlier: Array, later: Array, before: int, after: int) -> Array:
            square = _step(sums, before, after)
            square *= square
            square *= after / (before * (before + after))
            if before > 1:  # one row deviates from nothing
                square += earlier
            if after > 1:
                square += later
            return square

        return Fold(self._nothing, merge)

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

        return Fold(self._nothing, merge)

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

        return Fold(self._nothing, merge)

    @cached_property
    def _nothing(self) -> Array:
        """What deviates from the mean in a window of one row."""
        return np.zeros_like(self.values)

    def _squares(self, window: int) -> Array:
        """Return the sums of squared deviations, zero where they are rounding errors of equal values."""
        if window not in self._whole_squares:
            level = np.square(self._sums(window))
            self._whole_squares[window] = without_rounding(self._second(window), level, ROUNDING**2 / window)
        return self._whole_squares[window]


def memory(span: float) -> int:
    """Return the number of rows that an exponential average of a span sees.

    Examples
    --------
    >>> memory(12)
    48
    """
    return int(np.ceil(MEMORY_IN_SPANS * span))


def correlation(x: Rolling, y: Rolling, window: int, delay: int = 0) -> Array:
    """Return Pearson's correlation of x with y of some rows earlier in each window, 0 where one has no spread.

    From sums of products, which serve here: the series are returns and volumes, whose means do not dwarf their spread.
    """
    products, mean, deviation = (
        x.values * lag(y.values, delay),
        lag(y.mean(window), delay),
        lag(y.deviation(window), delay),
    )
    together = Rolling(products).mean(window) - x.mean(window) * mean
    return np.clip(ratio(together, x.deviation(window) * deviation, 0.0), -1.0, 1.0)


def _step(sums: Fold, before: int, after: int) -> Array:
    """Return the length of the earlier part times the step of the mean from there to the later part, in a new array."""
    earlier, later = sums.parts(before, after)
    if before == after:
        return later - earlier
    step = later * (before / after)
    step -= earlier
    return step


def _add_to(total: Array, *terms: Array) -> Array:
    """Add in place, which spares the memory of a new array."""
    for term in terms:
        total += term
    return total


def _spread_of_rows(window: int) -> float:
    """Return the sum of squared deviations of 0, 1, ... window - 1 from their mean."""
    return window * (window * window - 1) / 12
