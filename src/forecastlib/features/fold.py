"""Windows whose result depends on the window's content alone, to the last bit.

The usual rolling sum adds the newest value and takes away the oldest. It is fast, but its rounding errors come from
every row since the first, so the same window has other last bits in a longer or a shorter history. Here a window is
put together from two shorter neighbouring ones,

    window of 6 ending at t  =  window of 3 ending at t-3  +  window of 3 ending at t,

and those likewise, down to single rows. How a length is divided depends on the length alone (:func:`divide`), so
each result is one fixed expression of the window's values: where the history starts, and where a row stands in
memory, cannot matter. A window of w rows takes about log2(w) vector operations, and windows share their parts.

Whatever two neighbouring windows determine together can be folded this way: sums, extremes, central moments (Chan,
Golub and LeVeque 1983; Pébay 2008: without the cancellation of sums of powers), exponentially weighted sums over a
bounded memory, the deepest drawdown.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from forecastlib.features.arithmetic import Array

Merge = Callable[[Array, Array, int, int], Array]


@cache
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


@cache
def plan(window: int) -> tuple[tuple[int, int, int], ...]:
    """Return every window that a window is put together from, shortest first, as (length, earlier, later).

    Examples
    --------
    >>> plan(6)
    ((2, 1, 1), (3, 2, 1), (6, 3, 3))
    """
    if window == 1:
        return ()
    earlier, later = divide(window)
    steps = dict.fromkeys((*plan(later), *plan(earlier), (window, earlier, later)))
    return tuple(steps)


class Fold:
    """One quantity of windows of any length, each merged from two shorter windows and remembered.

    Parameters
    ----------
    leaf
        The quantity of windows of one row.
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
        self._found = {1: leaf}

    def __call__(self, window: int) -> Array:
        """Return the quantity of all windows of this length, first the one that starts in row 0."""
        found = self._found
        if window not in found:
            merge = self._merge
            for length, before, after in plan(window):
                if length not in found:
                    later = found[after]
                    found[length] = merge(found[before][: len(later) - before], later[before:], before, after)
        return found[window]

    def parts(self, before: int, after: int) -> tuple[Array, Array]:
        """Return the quantity of the earlier and of the later parts, of these lengths, of all windows."""
        later = self(after)
        return self(before)[: len(later) - before], later[before:]
