"""The shape of prices, checked once at the boundary, and the protocol of the sources that return them.

Prices are a DataFrame with a tz-naive, increasing, unique DatetimeIndex named ``date`` (microseconds, at midnight) and
the float64 columns ``open high low close volume``; ``attrs["symbol"]`` names the series. Every source returns this
shape by way of :func:`serve_prices`; the public functions of the library check it with :func:`require_prices`, and the
functions below them rely on it.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import pandas as pd

from forecastlib.errors import ConfigError, DataQualityError, NotEnoughDataError, SourceError

COLUMNS = ("open", "high", "low", "close", "volume")
"""The columns of prices, in order."""

PRICE_COLUMNS = COLUMNS[:4]
"""Those that hold prices."""

Day = str | dt.date | pd.Timestamp | None
"""A first or last session: ISO text, a date or a time stamp; None leaves that side open."""


@runtime_checkable
class Source(Protocol):
    """Where prices come from.

    Anything with a name and a ``fetch`` is a source and can be part of a chain, beside the ones of this package.
    """

    @property
    def name(self) -> str:
        """The name used in messages and in ``attrs["source"]``; it never contains a password."""

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


def list_symbols(source: Source) -> list[str]:
    """List the symbols of a source, if it can.

    Raises
    ------
    SourceError
        If it cannot list them, as no network source can.
    """
    symbols = getattr(source, "symbols", None)
    if symbols is None:
        raise SourceError(f"{source.name} cannot list its symbols; name them")
    listed: list[str] = symbols()
    return listed


def require_prices(prices: pd.DataFrame, *, complete: bool = True) -> None:
    """Raise unless a frame has the shape of prices.

    Parameters
    ----------
    prices
        The frame to check; it is not changed. Name and resolution of its index may differ, as nothing depends on them.
    complete
        Whether every value must be present and every price positive, which computing with them needs. A source may
        return rows that lack a value, for the quality checks to report.

    Raises
    ------
    DataQualityError
        If the frame has another shape, naming the first difference.
    NotEnoughDataError
        If it has no rows.
    """
    if not isinstance(prices, pd.DataFrame):
        raise DataQualityError(f"expected prices as a pandas DataFrame; got {type(prices).__name__}")
    _require_columns(prices)
    if prices.empty:
        raise NotEnoughDataError("expected prices of at least one session; got an empty frame")
    _require_index(prices.index)
    series = [prices[column] for column in COLUMNS]  # one by one: selecting a list of columns takes ten times longer
    for column, values in zip(COLUMNS, series, strict=True):
        if values.dtype != np.float64:
            raise DataQualityError(f"expected float64 in column {column!r}; got {values.dtype}; convert it first")
    if complete:
        _require_values(np.column_stack([values.to_numpy() for values in series]), prices.index)


def _require_columns(frame: pd.DataFrame) -> None:
    present = list(frame.columns)
    missing = [column for column in COLUMNS if column not in present]
    if missing:
        raise DataQualityError(
            f"expected the columns {', '.join(COLUMNS)}; {', '.join(missing)} missing from {present}"
        )
    repeated = [column for column in COLUMNS if present.count(column) > 1]
    if repeated:
        raise DataQualityError(f"expected each column once; {', '.join(repeated)} is repeated; drop one of them")


def _require_index(index: pd.Index) -> None:
    if not isinstance(index, pd.DatetimeIndex):
        raise DataQualityError(f"expected a DatetimeIndex of sessions; got {type(index).__name__}")
    if index.tz is not None:
        raise DataQualityError(f"expected dates without a time zone; got {index.tz}; use index.tz_localize(None)")
    if index.hasnans:
        raise DataQualityError("expected a date in every row; some are missing (NaT)")
    if not index.is_unique:
        repeated = index[index.duplicated()][0]
        raise DataQualityError(f"expected each session once; {repeated:%Y-%m-%d} is repeated")
    if not index.is_monotonic_increasing:
        late = index[1:][np.diff(index.to_numpy()) < np.timedelta64(0)][0]
        raise DataQualityError(
            f"expected sessions from oldest to newest; {late:%Y-%m-%d} is out of order; sort_index() first"
        )
    if not index.is_normalized:
        timed = index[index != index.normalize()]
        raise DataQualityError(f"expected dates at midnight, one per session; got {timed[0]}; use index.normalize()")


def _require_values(values: npt.NDArray[np.float64], dates: pd.Index) -> None:
    not_positive = values <= 0
    not_positive[:, 4] = values[:, 4] < 0
    for expected, wrong in (("a finite number", ~np.isfinite(values)), ("a positive price", not_positive)):
        if wrong.any():
            row, column = np.argwhere(wrong)[0]
            raise DataQualityError(
                f"expected {expected} in every row; got {values[row, column]} for {COLUMNS[column]} on "
                f"{dates[row]:%Y-%m-%d} ({int(wrong.any(axis=1).sum())} such rows); see check_quality(prices)"
            )


def to_prices(frame: pd.DataFrame, symbol: str) -> pd.DataFrame:
    """Bring a frame that has the right columns into the exact shape of prices.

    Parameters
    ----------
    frame
        Columns ``open high low close volume`` of numbers, on a tz-naive DatetimeIndex of any resolution.
    symbol
        Becomes ``attrs["symbol"]``.

    Returns
    -------
    DataFrame
        A new frame, sorted by date; rows are neither dropped nor changed.

    Raises
    ------
    DataQualityError, NotEnoughDataError
        If it cannot be brought into this shape, for instance because dates are repeated.
    """
    _require_columns(frame)
    if not isinstance(frame.index, pd.DatetimeIndex):
        raise DataQualityError(f"expected a DatetimeIndex of sessions; got {type(frame.index).__name__}")
    try:
        prices = frame.loc[:, list(COLUMNS)].astype(np.float64).sort_index()
    except (ValueError, TypeError) as error:
        raise DataQualityError(
            f"expected numbers in the columns {', '.join(COLUMNS)}; {error}; turn text into numbers first"
        ) from error
    prices.index = pd.DatetimeIndex(prices.index).as_unit("us").rename("date")
    prices.columns.name = None
    prices.attrs = {"symbol": symbol}
    require_prices(prices, complete=False)
    return prices


def serve_prices(frame: pd.DataFrame, symbol: str, source: str, *, start: Day, end: Day, **notes: Any) -> pd.DataFrame:
    """Return the rows of a source as prices, cut to the requested range, with a record of their origin.

    Parameters
    ----------
    frame
        Columns ``open high low close volume`` on a tz-naive DatetimeIndex.
    symbol, source
        Go to ``attrs``.
    start, end
        First and last session wanted, both included.
    **notes
        Anything else to be known about these rows; goes to ``attrs`` under the same name.

    Raises
    ------
    SourceError
        If no row is left, naming the range that is available.
    DataQualityError
        If the rows cannot be brought into the shape of prices.
    """
    first, last = read_range(start, end)
    prices = to_prices(frame, symbol)
    cut = prices.loc[first:last]
    if cut.empty:
        wanted_from = "its beginning" if first is None else f"{first:%Y-%m-%d}"
        wanted_to = "its end" if last is None else f"{last:%Y-%m-%d}"
        raise SourceError(
            f"{source} has {symbol} from {prices.index[0]:%Y-%m-%d} to {prices.index[-1]:%Y-%m-%d}, "
            f"but nothing from {wanted_from} to {wanted_to}; ask for another range"
        )
    cut.attrs.update({"source": source, "failures": []} | notes)
    return cut


def read_range(start: Day, end: Day) -> tuple[pd.Timestamp | None, pd.Timestamp | None]:
    """Return the first and last session wanted as time stamps at midnight without a time zone.

    Raises
    ------
    ConfigError
        If one of them is not a date, or the first is after the last.

    Examples
    --------
    >>> read_range("2018-12-28", None)
    (Timestamp('2018-12-28 00:00:00'), None)
    """
    first, last = _read_day(start, "start"), _read_day(end, "end")
    if first is not None and last is not None and first > last:
        raise ConfigError(f"start must not be after end; got start={first:%Y-%m-%d}, end={last:%Y-%m-%d}")
    return first, last


def _read_day(value: Day, parameter: str) -> pd.Timestamp | None:
    if value is None:
        return None
    try:
        stamp: pd.Timestamp | None = pd.Timestamp(value)
    except (ValueError, TypeError, OverflowError):
        stamp = None
    if stamp is None or pd.isna(stamp):
        raise ConfigError(f"{parameter} must be a date such as '2018-12-31'; got {value!r}")
    return stamp.tz_localize(None).normalize()


def fingerprint(prices: pd.DataFrame) -> str:
    """Return a short digest of dates and values: equal data has equal fingerprints, whatever its source.

    Returns
    -------
    str
        The first 16 hexadecimal digits of the SHA-256 of the dates and of all values, bit for bit.
    """
    digest = hashlib.sha256(prices.index.to_numpy().astype("datetime64[us]").tobytes())
    digest.update(np.ascontiguousarray(prices[list(COLUMNS)].to_numpy()).tobytes())
    return digest.hexdigest()[:16]
