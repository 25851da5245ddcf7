"""Reading a column of dates as people write them.

Whether ``03/05/2021`` is the 3rd of May or the 5th of March is decided by the whole column, never row by row: an
order counts only if it makes a date of every cell. Where more than one does, nothing is guessed.

A time of day and a time zone may follow, in some rows or in all; the session is the date as it is written, which
is the exchange's own date in what the common exports write.
"""

from __future__ import annotations

import calendar
import datetime as dt
import re

import numpy as np
import numpy.typing as npt
import pandas as pd

from forecastlib.data.sources.table import Column
from forecastlib.errors import SourceError

Days = npt.NDArray[np.datetime64]

_TIME = (
    r"(?:[T,]?\s*(?P<hour>\d{1,2}):\d{2}(?::\d{2}(?:[.,]\d+)?)?(?:\s*[AaPp][Mm])?"
    r"\s*(?P<zone>Z|UTC|GMT|[+-]\d{2}:?\d{2})?)?"
)
_WEEKDAY = r"(?:(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)[a-z]*,?\s+)?"
_MONTHS = {name.lower(): number for number, name in enumerate(calendar.month_abbr) if number}

# Three numbers of two digits or four at the end; which of them is what, the column decides.
_NUMERIC = r"(?P<a>\d{1,2})\s*[-/.]\s*(?P<b>\d{1,2})\s*[-/.]\s*(?P<c>\d{4}|\d{2})"
_SHAPES = {
    "ymd": re.compile(
        r"(?P<a>\d{4})\s*[-/.년]\s*(?P<b>\d{1,2})\s*[-/.월]\s*(?P<c>\d{1,2})\s*[.일]?\s*" + _TIME, re.ASCII
    ),
    "numeric": re.compile(_NUMERIC + _TIME, re.ASCII),
    "mdy": re.compile(_WEEKDAY + r"(?P<a>[A-Za-z]{3,9})\.?\s+(?P<b>\d{1,2}),?\s+(?P<c>\d{4})" + _TIME, re.ASCII),
    "dmy": re.compile(
        _WEEKDAY + r"(?P<a>\d{1,2})[\s-]+(?P<b>[A-Za-z]{3,9})\.?[\s,-]+(?P<c>\d{4}|\d{2})" + _TIME, re.ASCII
    ),
    "compact": re.compile(r"(?P<a>\d{4})(?P<b>\d{2})(?P<c>\d{2})(?P<hour>)(?P<zone>)", re.ASCII),
}
_ISO = re.compile(r"(?:\d{4}-\d{2}-\d{2})+", re.ASCII)
_BETWEEN = "\x1f"  # the unit separator, which no shape allows: joins cells, so that a column is read at once
_UTC = frozenset({"Z", "UTC", "GMT", "+00:00", "+0000"})
_FORMATS = {"dmy": "%d/%m/%Y", "mdy": "%m/%d/%Y", "ymd": "%y/%m/%d"}


def parse_dates(column: Column, date_format: str | None = None) -> pd.DatetimeIndex:
    """Read a whole column of dates.

    Parameters
    ----------
    column
        Texts, or time stamps with a time zone or without.
    date_format
        How the dates are written, as :func:`datetime.datetime.strptime` has it (``"%d/%m/%Y"``); None: the column
        decides.

    Returns
    -------
    DatetimeIndex
        Dates at midnight, without a time zone, in the order of the column.

    Raises
    ------
    SourceError
        If a cell is no date; or if the order of day and month fits in more than one way, naming ``date_format``.

    Examples
    --------
    The second row settles the first:

    >>> parse_dates(Column("Date", ["03/05/2021", "14/05/2021"], [2, 3])).strftime("%Y-%m-%d").to_list()
    ['2021-05-03', '2021-05-14']
    """
    if isinstance(column.cells, pd.DatetimeIndex):
        return _index(_written_days(column.cells))
    texts = list(map(str.strip, column.texts()))
    if date_format is not None:
        return _by_format(column, texts, date_format)
    return _index(_by_shape(column, texts))


def _index(days: Days) -> pd.DatetimeIndex:
    return pd.DatetimeIndex(days.astype("datetime64[us]"))


def _written_days(stamps: pd.DatetimeIndex) -> Days:
    """Take the date of each time stamp in its own time zone."""
    if stamps.hasnans:
        raise SourceError("expected a date in every row with a price; some have none")
    days: Days = stamps.tz_localize(None).to_numpy().astype("datetime64[D]")
    if stamps.tz is not None and stamps[0].utcoffset() == dt.timedelta(0):
        _require_local(days, np.asarray(stamps.hour >= 12))
    return days


def _by_format(column: Column, texts: list[str], date_format: str) -> pd.DatetimeIndex:
    try:
        stamps = pd.to_datetime(pd.Series(texts, dtype=object), format=date_format, errors="coerce", utc=True)
    except (ValueError, TypeError) as error:
        raise SourceError(f"date_format={date_format!r} is no format of strptime ({error})") from None
    if stamps.isna().any():
        misfit = int(np.flatnonzero(stamps.isna())[0])
        raise SourceError(f"{column.at(misfit)} does not fit date_format={date_format!r}")
    if "%z" in date_format:  # the date as it is written, not as it is in UTC
        return _index(_by_shape(column, texts))
    return _index(stamps.dt.tz_localize(None).to_numpy().astype("datetime64[D]"))


def _by_shape(column: Column, texts: list[str]) -> Days:
    """Read each cell's three parts, then let the column decide which of them is what."""
    if _ISO.fullmatch("".join(texts)) and set(map(len, texts)) == {10}:  # the most common column, ten times faster
        try:
            return np.array(texts, dtype="datetime64[D]")
        except ValueError:
            pass  # some cell is no day of the calendar; below it is named
    orders, cells = _parts(column, texts)
    first, second, third, hours, zones = zip(*cells, strict=True)
    parts = np.array([list(map(int, part)) for part in (first, second, third)]).T

    days = np.empty(len(texts), dtype="datetime64[D]")
    for order in set(orders):
        rows = np.array([one == order for one in orders])
        chosen = _decide(column.keep(rows), parts[rows]) if order == "numeric" else order.replace("compact", "ymd")
        days[rows] = _days(parts[rows], chosen)
    if np.isnat(days).any():
        raise SourceError(f"{column.at(int(np.flatnonzero(np.isnat(days))[0]))} is not a day of the calendar")
    if set(zones) <= _UTC:
        _require_local(days, np.array([int(hour) >= 12 for hour in hours]))
    return days


def _parts(column: Column, texts: list[str]) -> tuple[list[str], list[tuple[str, ...]]]:
    """Find the shape of each cell, and its three parts, its hour and its zone as texts."""
    order, _ = _match(column, 0, texts[0])
    if order not in ("mdy", "dmy"):  # a column that is written in one way throughout is read at once
        all_cells = re.compile(_BETWEEN + _SHAPES[order].pattern + f"(?={_BETWEEN})", re.ASCII)
        cells = all_cells.findall(_BETWEEN.join(["", *texts, ""]))
        if len(cells) == len(texts):
            return [order] * len(texts), cells
    orders, cells = [], []
    for position, text in enumerate(texts):
        match = _SHAPES[order].fullmatch(text)
        if match is None:
            order, match = _match(column, position, text)
        orders.append(order)
        cells.append(_with_month_number(column, position, match) if order in ("mdy", "dmy") else match.groups(""))
    return orders, cells


def _match(column: Column, position: int, text: str) -> tuple[str, re.Match[str]]:
    for order, pattern in _SHAPES.items():
        match = pattern.fullmatch(text)
        if match is not None:
            return order, match
    raise SourceError(f"{column.at(position)} is not a date as dates are commonly written; set date_format")


def _with_month_number(column: Column, position: int, match: re.Match[str]) -> tuple[str, ...]:
    """Put the month's number in place of its English name."""
    parts = [part if part.isdigit() else str(_MONTHS.get(part[:3].lower(), "")) for part in match.group("a", "b")]
    if "" in parts:
        raise SourceError(f"{column.at(position)} names no month in English; set date_format")
    return (*parts, *match.groups("")[2:])


def _decide(column: Column, parts: npt.NDArray[np.int64]) -> str:
    """Find the one order of day, month and year that makes a date of every cell."""
    two_digit_years = bool((parts[:, 2] < 100).any())
    year_first = two_digit_years and all(re.match(r"\s*\d\d\D", text) for text in column.texts())
    orders = ["dmy", "mdy", *(["ymd"] if year_first else [])]
    fits = {order: ~np.isnat(_days(parts, order)) for order in orders}
    possible = [order for order in orders if fits[order].all()]
    if len(possible) == 1:
        return possible[0]
    if possible:
        choices = " or ".join(f"date_format={_written(order, column, two_digit_years)!r}" for order in possible)
        raise SourceError(
            f"{column.at(0)} and all other dates of this column can be read in more than one way; say which is meant "
            f"by {choices}"
        )
    misfits = {order: column.at(int(np.flatnonzero(~fit)[0])) for order, fit in fits.items()}
    raise SourceError(
        f"no order of day and month fits the whole column: not day first because of {misfits['dmy']}, "
        f"not month first because of {misfits['mdy']}; write all dates in one way"
    )


def _written(order: str, column: Column, two_digit_years: bool) -> str:
    sign = next(sign for sign in "/-." if sign in str(column.cells[0]))
    return _FORMATS[order].replace("/", sign).replace("%Y", "%y" if two_digit_years else "%Y")


def _days(parts: npt.NDArray[np.int64], order: str) -> Days:
    """Make days of three numbers each; NaT where they are no day of the calendar."""
    year, month, day = (parts[:, order.index(letter)] for letter in "ymd")
    year = np.where(year < 100, np.where(year < 69, 2000, 1900) + year, year)  # as strptime has it
    sound = (month >= 1) & (month <= 12) & (day >= 1) & (day <= 31) & (year >= 1600)
    first = ((np.where(sound, year, 1970) - 1970) * 12 + np.where(sound, month, 1) - 1).astype("datetime64[M]")
    days: Days = first.astype("datetime64[D]") + (np.where(sound, day, 1) - 1)
    days[~sound | (days.astype("datetime64[M]") != first)] = np.datetime64("NaT")
    return days


def _require_local(days: Days, in_utc: npt.NDArray[np.bool_]) -> None:
    """Refuse time stamps of UTC that put an eastern exchange's Monday on a Sunday."""
    weekday = (days.astype(np.int64) + 3) % 7  # 1970-01-01 was a Thursday; 0 is Monday
    if in_utc.all() and (weekday == 6).any() and not (weekday == 4).any():
        raise SourceError(
            "the time stamps are in UTC and fall on Sundays but never on a Friday: they belong to an exchange east "
            "of it; write its own dates instead"
        )
