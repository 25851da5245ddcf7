"""From the columns of a table, as they were written, to prices."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from forecastlib.config import Adjust
from forecastlib.data.prices import COLUMNS, PRICE_COLUMNS
from forecastlib.data.sources.dates import parse_dates
from forecastlib.data.sources.numbers import decide_decimal, parse_numbers
from forecastlib.data.sources.table import Column, Table
from forecastlib.errors import DataQualityError, SourceError


def assemble(
    table: Table, symbol: str, *, date_format: str | None = None, decimal: str | None = None, adjust: Adjust = "auto"
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Read the cells of a table as daily prices of one symbol.

    Rows without any price, which exports write for holidays, and exact repetitions of a row are dropped and counted;
    rows that lack some fields stay, for the quality gate to report.

    Parameters
    ----------
    table
        The columns of prices, as written.
    symbol
        Which rows to take, where the table has a column of symbols.
    date_format, decimal
        How dates and decimals are written; None: the columns decide.
    adjust
        See :func:`adjusted`.

    Returns
    -------
    frame : DataFrame
        Columns ``open high low close volume``, float64, on a DatetimeIndex of unique dates in the table's order.
    notes : dict
        For ``attrs``: ``dropped``, the number of rows left out; ``adjusted``, whether prices were scaled; and
        ``notes``, one sentence for everything that is to be known.

    Raises
    ------
    SourceError
        If a cell cannot be read, or no row has a price.
    DataQualityError
        If two rows contradict each other about the same session.
    """
    columns = _of_symbol(table.columns, symbol)
    numeric = {field: column for field, column in columns.items() if field not in ("date", "symbol")}
    sign = decimal or decide_decimal(numeric.values(), delimiter=table.delimiter)
    values = pd.DataFrame({field: parse_numbers(column, sign) for field, column in numeric.items()})
    notes, dropped = list(table.notes), table.dropped

    priced = values[list(PRICE_COLUMNS)].notna().any(axis=1).to_numpy()
    if not priced.any():
        raise SourceError(f"looked for rows with a price; found {len(priced)} rows without any")
    if not priced.all():
        notes.append(f"{(~priced).sum()} rows without any price were dropped")
    dates = columns["date"].keep(priced)
    frame = values.loc[priced].set_index(parse_dates(dates, date_format))

    frame, repeated = _without_repetitions(frame, dates)
    if repeated:
        notes.append(f"{repeated} exact repetitions of a row were dropped")
    frame, was_adjusted = adjusted(frame, adjust)
    if "volume" not in frame or frame["volume"].isna().all():
        frame["volume"] = 0.0
        notes.append("there is no volume; it was set to zero")
    dropped += int((~priced).sum()) + repeated
    return frame[list(COLUMNS)], {"dropped": dropped, "adjusted": was_adjusted, "notes": notes}


def _of_symbol(columns: dict[str, Column], symbol: str) -> dict[str, Column]:
    if "symbol" not in columns:
        return columns
    names = np.array([str(cell).strip() for cell in columns["symbol"].cells], dtype=object)
    mine = names == symbol
    if not mine.any():
        raise SourceError(f"the rows are those of {', '.join(sorted(set(names)))[:200]}; got symbol {symbol!r}")
    return columns if mine.all() else {field: column.keep(mine) for field, column in columns.items()}


def _without_repetitions(frame: pd.DataFrame, dates: Column) -> tuple[pd.DataFrame, int]:
    if frame.index.is_unique:
        return frame, 0
    repeated = frame.reset_index().duplicated().to_numpy()
    kept, left = frame.loc[~repeated], dates.keep(~repeated)
    twice = kept.index.duplicated()
    if twice.any():
        position = int(np.flatnonzero(twice)[0])
        first = int(np.flatnonzero(kept.index == kept.index[position])[0])
        many = "these look like bars within a day; make one row of each day" if twice.mean() > 0.5 else "keep one"
        raise DataQualityError(
            f"expected one row for each session; {left.at(first)} and {left.at(position)} are the same day with "
            f"different prices ({int(twice.sum())} such rows); {many}"
        )
    return kept, int(repeated.sum())


def adjusted(frame: pd.DataFrame, adjust: Adjust) -> tuple[pd.DataFrame, bool]:
    """Scale open, high, low and close by the adjusted close, so that splits and dividends leave no jump.

    Each price is multiplied by ``adjusted / close`` of its row, which is what yfinance's ``auto_adjust`` does. The
    volume stays as it is.

    Parameters
    ----------
    frame
        Prices and perhaps a column ``adjusted``, the adjusted close.
    adjust
        ``"auto"``: where there is an adjusted close that differs from the close; ``"none"``: never, prices stay as
        quoted; ``"close"``: always, and it is an error if there is no adjusted close.

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
    >>> adjusted(frame, "auto")
    (   open  high  low  close
    0   4.5   6.0  4.0    5.0, True)
    """
    there = "adjusted" in frame and bool(frame["adjusted"].notna().any())
    if adjust == "close" and not there:
        raise SourceError("adjust='close' needs an adjusted close, such as a column 'Adj Close'; there is none")
    bare = frame.drop(columns="adjusted", errors="ignore")
    if adjust == "none" or not there or frame["adjusted"].equals(frame["close"]):
        return bare, False
    close, target = frame["close"].to_numpy(), frame["adjusted"].to_numpy()
    with np.errstate(divide="ignore", invalid="ignore"):
        factor = np.where(target == close, 1.0, target / close)
    factor[~np.isfinite(factor)] = np.nan  # a price that cannot be adjusted is not there, and the quality gate says so
    bare[list(PRICE_COLUMNS)] = bare[list(PRICE_COLUMNS)].mul(factor, axis=0)
    bare["close"] = np.where(np.isfinite(factor), target, np.nan)
    return bare, True
