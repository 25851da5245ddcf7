"""What a source is, and what all sources share: the range asked for and the note of where prices came from."""

from __future__ import annotations

import datetime as dt
from typing import Any, Protocol, runtime_checkable

import pandas as pd

from forecastlib.data.prices import to_prices
from forecastlib.errors import ConfigError, SourceError

Day = str | dt.date | pd.Timestamp | None
"""A first or last session: ISO text, a date or a time stamp; None leaves that side open."""


@runtime_checkable
class Source(Protocol):
    """Where prices come from.

    Anything with a name and a ``fetch`` is a source, and may stand in a chain beside the ones of this package.
    """

    @property
    def name(self) -> str:
        """What the source is called in messages and in ``attrs["source"]``; it never holds a password."""

    def fetch(self, symbol: str, start: Day = None, end: Day = None) -> pd.DataFrame:
        """Return the daily prices of one symbol.

        Parameters
        ----------
        symbol
            The symbol as the source knows it.
        start, end
            First and last session wanted, both included; None leaves that side open.

        Returns
        -------
        DataFrame
            Prices, with ``attrs["symbol"]``, ``attrs["source"]`` (the name of the source that served them) and
            ``attrs["failures"]`` (one text for each source that failed before it; empty if none did).

        Raises
        ------
        SourceError
            If the source has no prices of this symbol in this range, or cannot be read.
        """


def symbols_of(source: Source) -> list[str]:
    """List the symbols a source has, if it can tell.

    Raises
    ------
    SourceError
        If it cannot, as no network source can.
    """
    listed = getattr(source, "symbols", None)
    if listed is None:
        raise SourceError(f"{source.name} cannot list its symbols; name them")
    symbols: list[str] = listed()
    return symbols


def day(value: Day, parameter: str) -> pd.Timestamp | None:
    """Read a first or last session as a time stamp at midnight without a time zone.

    Examples
    --------
    >>> day("2018-12-31", "end")
    Timestamp('2018-12-31 00:00:00')
    """
    if value is None:
        return None
    try:
        stamp = pd.Timestamp(value)
        if not pd.isna(stamp):
            return stamp.tz_localize(None).normalize()
    except (ValueError, TypeError, OverflowError):
        pass  # worded below, for all that is no date alike
    raise ConfigError(f"{parameter} must be a date such as '2018-12-31'; got {value!r}")


def day_range(start: Day, end: Day) -> tuple[pd.Timestamp | None, pd.Timestamp | None]:
    """Read the first and the last session wanted; raise :class:`ConfigError` where they contradict each other."""
    first, last = day(start, "start"), day(end, "end")
    if first is not None and last is not None and first > last:
        raise ConfigError(f"start must not be after end; got start={first:%Y-%m-%d}, end={last:%Y-%m-%d}")
    return first, last


def served(frame: pd.DataFrame, symbol: str, source: str, *, start: Day, end: Day, **notes: Any) -> pd.DataFrame:
    """Give a source's rows the exact shape of prices, cut to the range asked for, with a note of their origin.

    Parameters
    ----------
    frame
        Columns ``open high low close volume`` on a tz-naive DatetimeIndex.
    symbol, source
        Go to ``attrs``.
    start, end
        First and last session wanted, both included.
    **notes
        What else is to be known about these rows; goes to ``attrs`` under its own name.

    Raises
    ------
    SourceError
        If no row is left, naming the range that there is.
    DataQualityError
        If the rows cannot be brought into the shape of prices.
    """
    first, last = day_range(start, end)
    prices = to_prices(frame, symbol)
    cut = prices.loc[first:last]
    if cut.empty:
        raise SourceError(
            f"{source} has {symbol} from {prices.index[0]:%Y-%m-%d} to {prices.index[-1]:%Y-%m-%d}, "
            f"but nothing from {_word(first, 'its beginning')} to {_word(last, 'its end')}; ask for another range"
        )
    cut.attrs.update({"source": source, "failures": []} | notes)
    return cut


def _word(stamp: pd.Timestamp | None, otherwise: str) -> str:
    return otherwise if stamp is None else f"{stamp:%Y-%m-%d}"
