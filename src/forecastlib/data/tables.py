"""From a table of prices as somebody wrote it to prices: find the columns, read the cells, adjust.

A reader of files returns a :class:`Table`, whose columns :func:`find_layout` has chosen by their names;
:func:`read_prices` then reads its cells. To know another name for a column, extend :data:`COLUMN_NAMES`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from forecastlib.config import Adjust
from forecastlib.data.cells import Column, find_decimal, parse_dates, parse_numbers
from forecastlib.data.prices import COLUMNS, PRICE_COLUMNS
from forecastlib.errors import DataQualityError, SourceError

COLUMN_NAMES = {
    "date": ("date", "datetime", "timestamp", "time", "day", "날짜", "일자", "일시"),
    "open": ("open", "open price", "시가", "오픈"),
    "high": ("high", "high price", "고가"),
    "low": ("low", "low price", "저가"),
    "close": ("close", "close price", "close/last", "price", "last", "종가"),
    "adjusted": ("adj close", "adjclose", "adjusted close", "close adj", "수정종가", "수정 종가"),
    "volume": ("volume", "vol", "거래량"),
    "symbol": ("symbol", "ticker"),
}
"""Names of each field, the most specific first: of ``Close`` and ``Last`` in one table, ``Close`` is the close."""

REQUIRED = ("date", "open", "high", "low", "close")

EXPECTED = (
    "a header with date, open, high, low, close and perhaps volume, as Yahoo, yfinance, Investing.com and others "
    "write it, in English or Korean"
)

MAX_ROWS = 1_000_000
"""Rows beyond which a table is refused, so that memory stays bounded: 100 years of sessions are 25,000."""


@dataclass(frozen=True)
class Table:
    """The columns of a table of prices, before their cells are read.

    Attributes
    ----------
    columns : dict
        The fields that are present: ``date open high low close``, and perhaps ``adjusted volume symbol``.
    delimiter : str
        What separates the columns in a text file; empty for other tables.
    notes : list of str
        What should be known about how the table was read, one sentence each.
    dropped : int
        Number of rows already left out, which the notes explain.
    """

    columns: dict[str, Column]
    delimiter: str = ""
    notes: list[str] = field(default_factory=list)
    dropped: int = 0


@dataclass(frozen=True)
class Layout:
    """Which column of a table holds which field.

    Attributes
    ----------
    columns : dict
        Position of each field that is present: ``date open high low close``, and perhaps ``adjusted volume symbol``.
    names : dict
        The name of each of these fields in the table.
    width : int
        Number of columns of the table.
    first_row : int
        Number of rows up to the end of the header.
    """

    columns: dict[str, int]
    names: dict[str, str]
    width: int
    first_row: int


# Which column is what


def find_layout(rows: Sequence[Sequence[str]], symbol: str) -> Layout | None:
    """Find the header among the first rows of a table.

    Parameters
    ----------
    rows
        The first rows, as texts.
    symbol
        Whose columns to take, where the header has those of several symbols (yfinance's three-line header).

    Returns
    -------
    Layout or None
        None if no row is a header of prices.

    Raises
    ------
    SourceError
        If the header does not have this symbol, or has a field twice.
    """
    for position, row in enumerate(rows):
        levels = _two_levels(rows[position : position + 3])
        if levels is not None:
            fields, tickers = levels
            return _layout(_columns_of_symbol(fields, tickers, symbol), position + 3)
        columns = _known_columns(row)
        if all(field in columns for field in REQUIRED):
            return _layout(row, position + 1)
    return None


def describe_missing(rows: Sequence[Sequence[str]]) -> str:
    """Say which fields the row that looks most like a header lacks; empty if none looks like one."""
    best = max(rows, key=lambda row: len(_known_columns(row)), default=[])
    columns = _known_columns(best)
    missing = [field for field in REQUIRED if field not in columns]
    named = [field for field in columns if field != "date" or best[columns["date"]].strip()]
    return f"the header {', '.join(best)[:200]!r} lacks {', '.join(missing)}" if named and missing else ""


def normalize_name(name: str) -> str:
    """Bring the name of a column into the form in which names are compared.

    Examples
    --------
    >>> normalize_name(' "Adj_Close" '), normalize_name("Vol.")
    ('adj close', 'vol')
    """
    return re.sub(r"[\s_.]+", " ", name.strip().strip("\"'").strip("<>").lower()).strip()


def _known_columns(row: Sequence[str]) -> dict[str, int]:
    """Find the position of each field; a first column without a name is an index, and so the date."""
    names = [normalize_name(name) for name in row]
    found = {}
    for field_name, known in COLUMN_NAMES.items():
        column = next((names.index(name) for name in known if name in names), None)
        if column is not None:
            found[field_name] = column
    if "date" not in found and names and names[0] == "":
        found["date"] = 0
    return found


def _layout(row: Sequence[str], first_row: int) -> Layout:
    columns = _known_columns(row)
    names = [normalize_name(name) for name in row]
    for field_name, column in columns.items():
        if names.count(names[column]) > 1:
            raise SourceError(
                f"expected one column for the {field_name}; the header has {row[column]!r} more than once; drop one"
            )
    return Layout(columns, {name: row[column].strip() for name, column in columns.items()}, len(row), first_row)


def _two_levels(rows: Sequence[Sequence[str]]) -> tuple[list[str], list[str]] | None:
    """Return the fields and the tickers of a three-line header, as yfinance's frames have when written to a file.

    Its lines are ``Price,Close,High`` / ``Ticker,AAPL,AAPL`` / ``Date,,``; the first two change places where columns
    are grouped by ticker, and older versions do not name them.
    """
    if len(rows) < 3 or len({len(row) for row in rows}) != 1 or any(cell.strip() for cell in rows[2][1:]):
        return None
    if normalize_name(rows[2][0]) not in COLUMN_NAMES["date"]:
        return None
    for fields, tickers in ((rows[0], rows[1]), (rows[1], rows[0])):
        if all(name in _known_columns(["Date", *fields[1:]]) for name in REQUIRED):
            return [rows[2][0], *fields[1:]], list(tickers)
    return None


def _columns_of_symbol(fields: list[str], tickers: list[str], symbol: str) -> list[str]:
    known = sorted(set(tickers[1:]))
    if symbol not in known:
        raise SourceError(f"expected columns of {symbol!r}; the columns are those of {', '.join(known)[:200]}")
    names = [name if ticker == symbol else "" for name, ticker in zip(fields[1:], tickers[1:], strict=True)]
    missing = [name for name in REQUIRED if name not in _known_columns(["Date", *names])]
    if missing:
        raise SourceError(f"the columns of {symbol} lack {', '.join(missing)}; got {', '.join(filter(None, names))}")
    return [fields[0], *names]


# Reading the cells


def read_prices(
    table: Table, symbol: str, *, date_format: str | None = None, decimal: str | None = None, adjust: Adjust = "auto"
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Read the cells of a table as daily prices of one symbol.

    Rows without any price, which exports write for holidays, and exact repetitions of a row are dropped and counted;
    rows that lack some values stay, for the quality checks to report.

    Parameters
    ----------
    table
        The columns of prices, as written.
    symbol
        Which rows to take, where the table has a column of symbols.
    date_format, decimal
        How dates and decimals are written; None: the columns decide.
    adjust
        See :func:`adjust_prices`.

    Returns
    -------
    frame : DataFrame
        Columns ``open high low close volume``, float64, on a DatetimeIndex of unique dates in the table's order.
    notes : dict
        For ``attrs``: ``dropped``, the number of rows left out; ``adjusted``, whether prices were scaled; and
        ``notes``, one sentence for everything that should be known.

    Raises
    ------
    SourceError
        If a cell cannot be read, or no row has a price.
    DataQualityError
        If two rows contradict each other about the same session.
    """
    columns = _rows_of_symbol(table.columns, symbol)
    numeric = {name: column for name, column in columns.items() if name not in ("date", "symbol")}
    decimal = decimal or find_decimal(numeric.values(), delimiter=table.delimiter)
    values = pd.DataFrame({name: parse_numbers(column, decimal) for name, column in numeric.items()})
    notes, dropped = list(table.notes), table.dropped

    priced = values[list(PRICE_COLUMNS)].notna().any(axis=1).to_numpy()
    if not priced.any():
        raise SourceError(f"looked for rows with a price; found {len(priced)} rows without any")
    if not priced.all():
        notes.append(f"{(~priced).sum()} rows without any price were dropped")
    dates = columns["date"].select(priced)
    frame = values.loc[priced].set_index(parse_dates(dates, date_format))

    frame, repeated = _drop_repetitions(frame, dates)
    if repeated:
        notes.append(f"{repeated} exact repetitions of a row were dropped")
    frame, was_adjusted = adjust_prices(frame, adjust)
    if "volume" not in frame or frame["volume"].isna().all():
        frame["volume"] = 0.0
        notes.append("there is no volume; it was set to zero")
    dropped += int((~priced).sum()) + repeated
    return frame[list(COLUMNS)], {"dropped": dropped, "adjusted": was_adjusted, "notes": notes}


def _rows_of_symbol(columns: dict[str, Column], symbol: str) -> dict[str, Column]:
    if "symbol" not in columns:
        return columns
    names = np.array(columns["symbol"].texts, dtype=object)
    wanted = names == symbol
    if not wanted.any():
        raise SourceError(f"expected rows of {symbol!r}; the rows are those of {', '.join(sorted(set(names)))[:200]}")
    return {name: column.select(wanted) for name, column in columns.items()}


def _drop_repetitions(frame: pd.DataFrame, dates: Column) -> tuple[pd.DataFrame, int]:
    """Drop exact repetitions of a row; raise if rows of the same day differ."""
    if frame.index.is_unique:
        return frame, 0
    repeated = frame.reset_index().duplicated().to_numpy()
    frame, dates = frame.loc[~repeated], dates.select(~repeated)
    conflicting = frame.index.duplicated()
    if conflicting.any():
        second = int(np.flatnonzero(conflicting)[0])
        first = int(np.flatnonzero(frame.index == frame.index[second])[0])
        intraday = conflicting.mean() > 0.5
        remedy = "these look like intraday bars; aggregate them to one row per day" if intraday else "keep one of them"
        raise DataQualityError(
            f"expected one row per session; {dates.describe(first)} and {dates.describe(second)} are the same day "
            f"with different prices ({int(conflicting.sum())} such rows); {remedy}"
        )
    return frame, int(repeated.sum())


def adjust_prices(frame: pd.DataFrame, adjust: Adjust) -> tuple[pd.DataFrame, bool]:
    """Scale open, high, low and close by the adjusted close, so that splits and dividends leave no jump.

    Each price is multiplied by ``adjusted / close`` of its row, as yfinance's ``auto_adjust`` does. The volume is not
    changed.

    Parameters
    ----------
    frame
        Prices and perhaps a column ``adjusted``, the adjusted close.
    adjust
        ``"auto"``: if there is an adjusted close that differs from the close; ``"none"``: never, prices stay as quoted;
        ``"close"``: always, and a missing adjusted close is an error.

    Returns
    -------
    frame : DataFrame
        Without the column ``adjusted``.
    was_adjusted : bool
        Whether any price changed.

    Raises
    ------
    SourceError
        If ``adjust="close"`` and there is no adjusted close.

    Examples
    --------
    >>> frame = pd.DataFrame({"open": [9.0], "high": [12.0], "low": [8.0], "close": [10.0], "adjusted": [5.0]})
    >>> adjust_prices(frame, "auto")
    (   open  high  low  close
    0   4.5   6.0  4.0    5.0, True)
    """
    available = "adjusted" in frame and bool(frame["adjusted"].notna().any())
    if adjust == "close" and not available:
        raise SourceError("adjust='close' needs an adjusted close, such as a column 'Adj Close'; there is none")
    prices = frame.drop(columns="adjusted", errors="ignore")
    if adjust == "none" or not available or frame["adjusted"].equals(frame["close"]):
        return prices, False
    close, target = frame["close"].to_numpy(), frame["adjusted"].to_numpy()
    with np.errstate(divide="ignore", invalid="ignore"):
        factor = np.where(target == close, 1.0, target / close)
    factor[~np.isfinite(factor)] = np.nan  # a price that cannot be adjusted is missing, and the quality checks say so
    prices[list(PRICE_COLUMNS)] = prices[list(PRICE_COLUMNS)].mul(factor, axis=0)
    prices["close"] = np.where(np.isfinite(factor), target, np.nan)
    return prices, True
