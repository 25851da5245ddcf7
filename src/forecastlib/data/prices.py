"""The one shape of prices, and the one guard of it.

Prices are a DataFrame with a tz-naive, increasing, unique DatetimeIndex named ``date`` (microseconds, at midnight) and
the float64 columns ``open high low close volume``; ``attrs["symbol"]`` names the series. Every source returns this
shape and every function of the library takes it, so that the data's shape is learned once.
"""

import hashlib

import numpy as np
import numpy.typing as npt
import pandas as pd

from forecastlib.errors import DataQualityError, NotEnoughDataError

COLUMNS = ("open", "high", "low", "close", "volume")
"""The columns of prices, in order."""

PRICE_COLUMNS = COLUMNS[:4]
"""Those of them that are prices."""


def require_prices(prices: pd.DataFrame, *, complete: bool = True) -> None:
    """Raise unless a frame has the shape of prices.

    Parameters
    ----------
    prices
        The frame to look at; it is not changed. The name and the resolution of its index may differ: nothing depends
        on them.
    complete
        Whether every value must be there too, and every price be positive, as computing with them needs.
        A source may return rows that lack a field, for the quality gate to report.

    Raises
    ------
    DataQualityError
        If the frame has another shape, naming the first thing that is wrong with it.
    NotEnoughDataError
        If it has no rows.
    """
    if not isinstance(prices, pd.DataFrame):
        raise DataQualityError(f"expected prices as a pandas DataFrame; got {type(prices).__name__}")
    _require_columns(prices)
    if prices.empty:
        raise NotEnoughDataError("expected prices of at least one session; got an empty frame")
    _require_index(prices.index)
    series = [prices[column] for column in COLUMNS]  # one by one: choosing several by a list takes ten times longer
    for column, values in zip(COLUMNS, series, strict=True):
        if values.dtype != np.float64:
            raise DataQualityError(f"expected float64 in column {column!r}; got {values.dtype}; convert it first")
    if complete:
        _require_values(np.column_stack([values.to_numpy() for values in series]), prices.index)


def _require_columns(frame: pd.DataFrame) -> None:
    there = list(frame.columns)
    missing = [column for column in COLUMNS if column not in there]
    if missing:
        raise DataQualityError(f"expected the columns {', '.join(COLUMNS)}; {', '.join(missing)} missing from {there}")
    twice = [column for column in COLUMNS if there.count(column) > 1]
    if twice:
        raise DataQualityError(f"expected each column once; {', '.join(twice)} is there more than once; keep one")


def _require_index(index: pd.Index) -> None:
    if not isinstance(index, pd.DatetimeIndex):
        raise DataQualityError(f"expected a DatetimeIndex of sessions; got {type(index).__name__}")
    if index.tz is not None:
        raise DataQualityError(f"expected dates without a time zone; got {index.tz}; use index.tz_localize(None)")
    if index.hasnans:
        raise DataQualityError("expected a date in every row; some are missing (NaT)")
    if not index.is_unique:
        twice = index[index.duplicated()][0]
        raise DataQualityError(f"expected each session once; {twice:%Y-%m-%d} is there more than once")
    if not index.is_monotonic_increasing:
        late = index[1:][np.diff(index.to_numpy()) < np.timedelta64(0)][0]
        raise DataQualityError(
            f"expected sessions from oldest to newest; {late:%Y-%m-%d} is out of order; sort_index() first"
        )
    if not index.is_normalized:
        timed = index[index != index.normalize()]
        raise DataQualityError(f"expected dates at midnight, one a session; got {timed[0]}; use index.normalize()")


def _require_values(values: npt.NDArray[np.float64], dates: pd.Index) -> None:
    not_positive = values <= 0
    not_positive[:, 4] = values[:, 4] < 0
    for problem, bad in (("a finite number", ~np.isfinite(values)), ("a positive price", not_positive)):
        if bad.any():
            row, column = np.argwhere(bad)[0]
            raise DataQualityError(
                f"expected {problem} in every row; got {values[row, column]} for {COLUMNS[column]} on "
                f"{dates[row]:%Y-%m-%d} ({int(bad.any(axis=1).sum())} such rows); see check_quality(prices)"
            )


def to_prices(frame: pd.DataFrame, symbol: str) -> pd.DataFrame:
    """Bring a frame of sessions that has the right columns into the exact shape of prices.

    Parameters
    ----------
    frame
        Columns ``open high low close volume`` of numbers, on a tz-naive DatetimeIndex of any resolution.
    symbol
        Goes to ``attrs["symbol"]``.

    Returns
    -------
    DataFrame
        A new frame, sorted by date; rows are neither dropped nor changed.

    Raises
    ------
    DataQualityError, NotEnoughDataError
        If it cannot be brought into this shape, duplicate dates included.
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
