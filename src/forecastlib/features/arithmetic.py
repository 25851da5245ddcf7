"""Arithmetic on arrays of one value a row, with a stated answer where ordinary division has none."""

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

ROUNDING = 1e-10
"""A spread below this share of the level is rounding error and counts as zero."""


def lag(values: Array, rows: int) -> Array:
    """Return each row's value of some rows earlier, NaN in the first rows."""
    lagged = np.empty(len(values))
    lagged[:rows] = np.nan
    lagged[rows:] = values[: len(values) - rows]
    return lagged


def change(values: Array, rows: int) -> Array:
    """Return each row's value minus that of some rows earlier, NaN in the first rows."""
    changes = np.empty(len(values))
    changes[:rows] = np.nan
    np.subtract(values[rows:], values[: len(values) - rows], out=changes[rows:])
    return changes


def ratio(numerator: Array, denominator: Array, at_zero: float) -> Array:
    """Divide, with a stated value where the denominator is zero; NaN stays NaN."""
    with np.errstate(divide="ignore", invalid="ignore"):
        quotient = numerator / denominator
    quotient[denominator == 0.0] = at_zero
    return quotient


def sign(difference: Array, level: Array) -> Array:
    """Return -1, 0 or 1; a difference that is rounding error at this level counts as 0; NaN stays NaN."""
    return np.sign(difference) * (np.abs(difference) > level * ROUNDING)


def without_rounding(spread: Array, level: Array | float, share: float = ROUNDING) -> Array:
    """Set to zero what is so small a share of the level that it is rounding error; NaN stays NaN."""
    cleaned = spread.copy()
    cleaned[spread <= level * share] = 0.0
    return cleaned
