"""Recognising the header of a table of prices, whoever wrote it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from forecastlib.errors import SourceError

_NAMES = {
    "date": ("date", "datetime", "timestamp", "time", "day", "날짜", "일자", "일시"),
    "open": ("open", "open price", "시가", "오픈"),
    "high": ("high", "high price", "고가"),
    "low": ("low", "low price", "저가"),
    "close": ("close", "close price", "close/last", "price", "last", "종가"),
    "adjusted": ("adj close", "adjclose", "adjusted close", "close adj", "수정종가", "수정 종가"),
    "volume": ("volume", "vol", "거래량"),
    "symbol": ("symbol", "ticker"),
}
"""Names of each field, the most telling first: where a table has both ``Close`` and ``Last``, the close is meant."""

REQUIRED = ("date", "open", "high", "low", "close")
EXPECTED = (
    "a header with date, open, high, low, close and perhaps volume, as Yahoo, yfinance, Investing.com and others "
    "write it, in English or Korean"
)


@dataclass(frozen=True)
class Layout:
    """Which column of a table holds which field.

    Parameters
    ----------
    columns
        Position of each field that is there: ``date open high low close``, and perhaps ``adjusted volume symbol``.
    names
        The name of each of these fields as the table has it.
    width
        Number of columns of the table.
    first_row
        Number of header rows, the ones above the header included.
    """

    columns: dict[str, int]
    names: dict[str, str]
    width: int
    first_row: int


def normalised(name: str) -> str:
    """Bring a column's name into the form in which names are compared.

    Examples
    --------
    >>> normalised(' "Adj_Close" '), normalised("Vol.")
    ('adj close', 'vol')
    """
    return re.sub(r"[\s_.]+", " ", name.strip().strip("\"'").strip("<>").lower()).strip()


def find_layout(rows: Sequence[Sequence[str]], symbol: str) -> Layout | None:
    """Find the header among the first rows of a table.

    Parameters
    ----------
    rows
        The first rows, as texts.
    symbol
        Which symbol's columns to take, where the header has several (yfinance's three-line header).

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
        several = _levels(rows[position : position + 3])
        if several is not None:
            fields, tickers = several
            return _layout(_of_symbol(fields, tickers, symbol), position + 3)
        columns = _columns(row)
        if all(field in columns for field in REQUIRED):
            return _layout(row, position + 1)
    return None


def lacking(rows: Sequence[Sequence[str]]) -> str:
    """Word what the most header-like of some rows lacks, for a message; empty if none is like a header."""
    best = max(rows, key=lambda row: len(_columns(row)), default=[])
    columns = _columns(best)
    missing = [field for field in REQUIRED if field not in columns]
    named = [field for field in columns if field != "date" or best[columns["date"]].strip()]
    return f"the header {', '.join(best)[:200]!r} lacks {', '.join(missing)}" if named and missing else ""


def _layout(row: Sequence[str], first_row: int) -> Layout:
    columns = _columns(row)
    names = [normalised(name) for name in row]
    for field, column in columns.items():
        if names.count(names[column]) > 1:
            raise SourceError(f"the header has {row[column]!r} more than once; which of them is the {field}?")
    return Layout(columns, {field: row[column].strip() for field, column in columns.items()}, len(row), first_row)


def _columns(row: Sequence[str]) -> dict[str, int]:
    """Find the columns of the fields; a first column without a name is an index, and so the date."""
    names = [normalised(name) for name in row]
    found = {}
    for field, known in _NAMES.items():
        column = next((names.index(name) for name in known if name in names), None)
        if column is not None:
            found[field] = column
    if "date" not in found and names and names[0] == "":
        found["date"] = 0
    return found


def _levels(rows: Sequence[Sequence[str]]) -> tuple[list[str], list[str]] | None:
    """Read the three header lines of a frame with two levels of columns: its fields and its tickers.

    yfinance's frames are written so: ``Price,Close,High`` / ``Ticker,AAPL,AAPL`` / ``Date,,``; the first two lines
    change places where columns are grouped by ticker, and older versions give them no name.
    """
    if len(rows) < 3 or len({len(row) for row in rows}) != 1 or any(cell.strip() for cell in rows[2][1:]):
        return None
    if normalised(rows[2][0]) not in _NAMES["date"]:
        return None
    for fields, tickers in ((rows[0], rows[1]), (rows[1], rows[0])):
        if all(field in _columns(["Date", *fields[1:]]) for field in REQUIRED):
            return [rows[2][0], *fields[1:]], list(tickers)
    return None


def _of_symbol(fields: list[str], tickers: list[str], symbol: str) -> list[str]:
    known = sorted(set(tickers[1:]))
    if symbol not in known:
        raise SourceError(f"the columns are those of {', '.join(known)[:200]}; got symbol {symbol!r}")
    mine = [name if ticker == symbol else "" for name, ticker in zip(fields[1:], tickers[1:], strict=True)]
    lacks = [field for field in REQUIRED if field not in _columns(["Date", *mine])]
    if lacks:
        raise SourceError(f"the columns of {symbol} lack {', '.join(lacks)}; got {', '.join(filter(None, mine))}")
    return [fields[0], *mine]
