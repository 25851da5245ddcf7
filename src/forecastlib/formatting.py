"""Prices, and errors in units of the price, as text: with as many digits as their magnitude needs."""

from __future__ import annotations

import math

_MIN_FIXED_POINT = 1e-8
"""Smaller prices are written with an exponent."""


def format_price(price: float, *, significant: int = 5, decimals: int = 2) -> str:
    """Return a price as text, with thousands separators and as many decimals as its magnitude needs.

    Parameters
    ----------
    price
        A price, or a difference of prices such as a mean absolute error.
    significant
        Digits to show from the first one that is not zero.
    decimals
        Decimals to show in any case.

    Returns
    -------
    str
        Prices below 1e-8 get an exponent.

    Examples
    --------
    >>> format_price(2506.85), format_price(1.1445), format_price(0.00001234)
    ('2,506.85', '1.1445', '0.000012340')
    >>> format_price(2394.6, significant=4, decimals=0)
    '2,395'
    """
    if 0.0 < abs(price) < _MIN_FIXED_POINT:
        return f"{price:.{significant - 1}e}"
    return f"{price:,.{_price_decimals(price, significant, decimals)}f}"


def format_error(error: float) -> str:
    """Return an error in price units as text: three significant digits, at least one decimal.

    Examples
    --------
    >>> format_error(166.27), format_error(0.0123)
    ('166.3', '0.0123')
    """
    return format_price(error, significant=3, decimals=1)


def format_interval(lower: float, upper: float) -> str:
    """Return a prediction interval as text, both ends with the decimals that the smaller one needs.

    Examples
    --------
    >>> format_interval(2394.6, 2607.2), format_interval(0.98765, 1.0123)
    ('2,395 to 2,607', '0.9877 to 1.0123')
    """
    smaller = min(abs(lower), abs(upper))
    if 0.0 < smaller < _MIN_FIXED_POINT:
        return f"{format_price(lower, significant=4)} to {format_price(upper, significant=4)}"
    digits = _price_decimals(smaller, 4, 0)
    return f"{lower:,.{digits}f} to {upper:,.{digits}f}"


def _price_decimals(price: float, significant: int, decimals: int) -> int:
    """Return ``decimals``, or more for a price so small that fewer than ``significant`` digits would be left."""
    if price == 0.0 or not math.isfinite(price):
        return decimals
    return max(decimals, significant - 1 - math.floor(math.log10(abs(price))))
