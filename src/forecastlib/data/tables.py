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
    "date": (
        "date", "datetime", "timestamp", "time", "day", "trade date", "tradedate", "trading date", "open time",
        "날짜", "일자", "일시", "日付", "日期", "交易日期", "data", "datum", "fecha",
    ),
    "open": (
        "open", "open price", "시가", "오픈", "始値", "开盘", "開盤", "开盘价", "開盤價", "otwarcie",
        "abertura", "apertura", "eröffnung", "eröffn", "erster", "ouverture", "ouv",
    ),
    "high": (
        "high", "high price", "고가", "高値", "最高", "最高价", "最高價", "najwyższy",
        "najwyzszy", "máxima", "máximo", "máx", "massimo", "hoch", "tageshoch", "plus haut", "+ haut", "haut",
    ),
    "low": (
        "low", "low price", "저가", "安値", "最低", "最低价", "最低價", "najniższy",
        "najnizszy", "mínima", "mínimo", "mín", "minimo", "tief", "tagestief", "plus bas", "+ bas", "bas",
    ),
    "close": (
        "close", "close price", "close/last", "price", "last", "종가", "終値", "收盘", "收盤", "收盘价", "收盤價",
        "zamknięcie", "zamkniecie", "fechamento", "cierre", "chiusura", "schluss", "schlusskurs", "clôture", "cloture",
        "último", "ultimo", "zuletzt", "dernier",
    ),
    "adjusted": (
        "adj close", "adjclose", "adjusted close", "close adj", "수정종가", "수정 종가", "調整後終値",
        "fechamento ajustado", "cierre ajustado",
    ),
    "volume": (
        "volume", "vol", "거래량", "出来高", "成交量", "wolumen", "volumen", "shares traded", "total traded quantity",
        "traded volume",
    ),
    "adjusted volume": ("adj volume", "adjusted volume", "volume adj"),
    "tick volume": ("tickvol", "tick volume", "tickvolume"),
    "symbol": (
        "symbol", "ticker", "ts code", "code", "종목코드", "股票代码", "代码", "コード", "銘柄コード", "instrument",
        "contract", "index", "name", "종목명", "名称", "銘柄",
    ),
}  # fmt: skip
"""Names of each field, the most specific first: of ``Close`` and ``Last`` in one table, ``Close`` is the close."""

REQUIRED = ("date", "open", "high", "low", "close")

CONTINENTAL = frozenset(
    {
        *("otwarcie", "najwyższy", "najwyzszy"),
        *("abertura", "máxima", "fechamento", "último", "ultimo"),
        *("apertura", "máximo", "cierre", "chiusura"),
        *("eröffnung", "eröffn", "erster", "hoch", "schluss", "schlusskurs", "zuletzt"),
        *("ouverture", "ouv", "haut", "plus haut", "+ haut", "clôture", "cloture", "dernier"),
    }
)
"""Names from where the comma is the decimal sign."""

KLINES = ("date", "open", "high", "low", "close", "volume")
"""What the first columns of Binance's klines are, which have no header; twelve in all."""

EXPECTED = (
    "a header with date, open, high, low, close and perhaps volume, as Yahoo, yfinance, Investing.com and others "
    "write it, in English, Korean, Japanese, Chinese or a European language"
)

MAX_ROWS = 1_000_000
"""Rows beyond which a table is refused, so that memory stays bounded: 100 years of sessions are 25,000."""


@dataclass(frozen=True)
class Table:
    """The columns of a table of prices, before their cells are read.

    Attributes
    ----------
    columns : dict
        The fields that are present: ``date open high low close``, and perhaps others of :data:`COLUMN_NAMES`.
    others : list of Column
        The columns that are none of these.
    continental : bool
        Whether it seems to be written where the comma is the decimal sign.
    notes : list of str
        What should be known about how the table was read, one sentence each.
    dropped : int
        Number of rows already left out, which the notes explain.
    """

    columns: dict[str, Column]
    others: list[Column] = field(default_factory=list)
    continental: bool = False
    notes: list[str] = field(default_factory=list)
    dropped: int = 0


@dataclass(frozen=True)
class Layout:
    """Which column of a table holds which field.

    Attributes
    ----------
    columns : dict
        Position of each field that is present: ``date open high low close``, and perhaps others of
        :data:`COLUMN_NAMES`.
    names : list of str
        The names of all columns of the table.
    first_row : int
        Number of rows up to the end of the header.
    """

    columns: dict[str, int]
    names: list[str]
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
        if columns.get("date") == 0 and not row[0].strip() and _ROW_NUMBER.fullmatch(_first_cell(rows[position + 1 :])):
            continue
        if all(field in columns for field in REQUIRED):
            return _layout(row, position + 1)
    if rows and len(rows[0]) == 12 and all(map(_NUMBER.fullmatch, rows[0])) and len(rows[0][0].strip()) in (13, 16):
        return Layout({name: column for column, name in enumerate(KLINES)}, [*KLINES, *[""] * 6], 0)
    return None


_ROW_NUMBER = re.compile(r"\s*\d{1,7}\s*", re.ASCII)
_NUMBER = re.compile(r"\s*\d+(?:\.\d*)?\s*", re.ASCII)


def _first_cell(rows: Sequence[Sequence[str]]) -> str:
    return rows[0][0] if rows and rows[0] else ""


def describe_missing(rows: Sequence[Sequence[str]]) -> str:
    """Say which fields the row that looks most like a header lacks; empty if none looks like one."""
    best = max(rows, key=lambda row: len(_known_columns(row)), default=[])
    columns = _known_columns(best)
    named = [field for field in columns if field != "date" or best[columns["date"]].strip()]
    missing = [field for field in REQUIRED if field not in named]
    return f"the header {', '.join(best)[:200]!r} lacks {', '.join(missing)}" if named and missing else ""


def normalize_name(name: str) -> str:
    """Bring the name of a column into the form in which names are compared.

    Examples
    --------
    >>> normalize_name(' "Adj_Close" '), normalize_name("Vol.")
    ('adj close', 'vol')
    """
    plain = re.sub(r"[\s_.]+", " ", name.strip().strip("\"'").strip("<>").lower()).strip()
    return re.sub(r"^\d+ (?=[a-z])", "", plain)  # Alpha Vantage numbers its columns: "1. open"


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
    return Layout(columns, [name.strip() for name in row], first_row)


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
    notes, dropped = list(table.notes), table.dropped
    columns = _rows_of_symbol(table.columns, symbol, notes)
    numeric = {name: column for name, column in columns.items() if name not in ("date", "symbol")}
    if decimal is None:
        continental = table.continental or (
            isinstance(columns["date"].cells, Sequence) and all(map(_DOTTED_DATE.match, columns["date"].texts))
        )
        decimal = find_decimal(numeric, continental=continental)
    values = pd.DataFrame({name: parse_numbers(column, decimal) for name, column in numeric.items()})

    priced = values[list(PRICE_COLUMNS)].notna().any(axis=1).to_numpy()
    if not priced.any():
        raise SourceError(f"looked for rows with a price; found {len(priced)} rows without any")
    if not priced.all():
        notes.append(f"{(~priced).sum()} rows without any price were dropped")
    dates = columns["date"].select(priced)
    frame = values.loc[priced].set_index(parse_dates(dates, date_format, notes))
    _require_one_series(frame, [other.select(priced) for other in table.others] if "symbol" not in columns else [])

    rows = len(frame)
    frame, repeated = _drop_repetitions(frame, dates, notes)
    dropped += rows - len(frame)
    if repeated:
        notes.append(f"{repeated} exact repetitions of a row were dropped")
    frame, was_adjusted = adjust_prices(frame, adjust)
    _choose_volume(frame, columns, table.others, was_adjusted, notes)
    dropped += int((~priced).sum())
    return frame[list(COLUMNS)], {"dropped": dropped, "adjusted": was_adjusted, "notes": notes}


_DOTTED_DATE = re.compile(r"\d{1,2}\.\s*\d{1,2}\.\s*\d{2,4}", re.ASCII)


def _rows_of_symbol(columns: dict[str, Column], symbol: str, notes: list[str]) -> dict[str, Column]:
    """Return the rows of a symbol; the only series of a table may be named differently, which is noted."""
    if "symbol" not in columns:
        return columns
    column = columns["symbol"]
    names = np.array(column.texts, dtype=object)
    known = sorted(set(names))
    wanted = names == symbol
    if wanted.any():
        return {name: each.select(wanted) for name, each in columns.items()}
    if len(known) == len(names) > 1:  # numbers of rows
        return {name: each for name, each in columns.items() if name != "symbol"}
    identifies = normalize_name(column.name) in ("symbol", "ticker")
    if len(known) <= 1 and (not identifies or _bare(known[0] if known else "") in ("", _bare(symbol))):
        notes.extend(f"the only series is called {name!r}; it was taken for {symbol!r}" for name in known if name)
        return columns
    raise SourceError(
        f"expected rows of {symbol!r}; the rows are those of {', '.join(known)[:200]}, distinguished by the column "
        f"{column.name!r}; ask for one of them"
    )


def _bare(symbol: str) -> str:
    """Return a symbol without the caret of an index and the suffix of an exchange."""
    return symbol.lstrip("^").partition(".")[0].upper()


def _require_one_series(frame: pd.DataFrame, others: Sequence[Column]) -> None:
    """Refuse several series below or between each other that an unknown column of text distinguishes.

    Below each other: the column has one value for each block of rows, and prices jump by more than half where it
    changes. Between each other: dates repeat, but not for the same value of the column.

    Raises
    ------
    SourceError
        Naming the column.
    """
    for column in others:
        texts = np.array(column.texts, dtype=object)
        values = set(texts)
        if not 1 < len(values) <= len(texts) / 2 or all(map(_NUMBER_OR_PERCENT.fullmatch, values)):
            continue
        changes = np.flatnonzero(texts[1:] != texts[:-1]) + 1
        closes = frame["close"].to_numpy()
        with np.errstate(divide="ignore", invalid="ignore"):
            jumps = np.abs(np.log(closes[changes] / closes[changes - 1]))
        below = len(changes) == len(values) - 1 and bool((jumps > np.log(2)).all())
        between = not frame.index.is_unique and not pd.MultiIndex.from_arrays([frame.index, texts]).has_duplicates
        if below or between:
            raise SourceError(
                f"expected one series; found {len(values)}, distinguished by the column {column.name!r}: "
                f"{', '.join(sorted(values))[:200]}; cut the table to one of them, or call the column 'symbol'"
            )


_NUMBER_OR_PERCENT = re.compile(r"\s*[-+]?[\d.,\s]*\s*[%KMBT]?\s*", re.ASCII)


def _choose_volume(
    frame: pd.DataFrame, columns: dict[str, Column], others: Sequence[Column], was_adjusted: bool, notes: list[str]
) -> None:
    """Set the column ``volume`` from the columns of volumes that there are, or to zero; note which."""
    order = (
        ["adjusted volume", "volume", "tick volume"] if was_adjusted else ["volume", "adjusted volume", "tick volume"]
    )
    chosen = next((name for name in order if name in frame and (frame[name].fillna(0.0) != 0.0).any()), None)
    if chosen is not None:
        frame["volume"] = frame[chosen]
        if normalize_name(columns[chosen].name) not in COLUMN_NAMES["volume"]:
            notes.append(f"the volume is the column {columns[chosen].name!r}")
    elif "volume" not in frame or frame["volume"].isna().all():
        frame["volume"] = 0.0
        passed_over = ", ".join(repr(column.name) for column in others if column.name)
        notes.append(
            "there is no volume; it was set to zero" + (f"; columns passed over: {passed_over}" if passed_over else "")
        )


def _drop_repetitions(frame: pd.DataFrame, dates: Column, notes: list[str]) -> tuple[pd.DataFrame, int]:
    """Drop exact repetitions of a row and all but the last of rows with the same prices; raise if prices differ."""
    if frame.index.is_unique:
        return frame, 0
    repeated = frame.reset_index().duplicated().to_numpy()
    frame, dates = frame.loc[~repeated], dates.select(~repeated)
    corrected = frame[list(PRICE_COLUMNS)].reset_index().duplicated(keep="last").to_numpy()
    if corrected.any():
        notes.append(
            f"{corrected.sum()} rows have the same prices as a later one of the same day, only the volume differs; the "
            "last was kept"
        )
        frame, dates = frame.loc[~corrected], dates.select(~corrected)
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
    changed; where there is an adjusted one too, :func:`read_prices` takes that.

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
