"""Reading the cells of a column as people write them: numbers such as ``1,234.56`` or ``3.33B``, and dates.

What is ambiguous is decided by a whole column, or by all columns of a table, never cell by cell: ``1,234`` is a
thousand or a little more than one, and ``03/05/2021`` the 3rd of May or the 5th of March, depending on the other
cells. Where they leave more than one possibility, nothing is guessed: the error names the option that settles it.

To read another notation, extend the tables at the top of the two sections: :data:`MISSING`, :data:`MULTIPLIERS`,
:data:`IGNORED` for numbers; :data:`DATE_SHAPES`, :data:`MONTHS` for dates.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pandas as pd

from forecastlib.errors import SourceError

Mask = npt.NDArray[np.bool_]
Days = npt.NDArray[np.datetime64]


@dataclass(frozen=True)
class Column:
    """The cells of one column, and where each of them is.

    Attributes
    ----------
    name : str
        The name of the column in the table.
    cells : sequence of str, or ndarray, or DatetimeIndex
        Texts; or numbers or time stamps, where the table stores these.
    lines : sequence of int
        The line of each cell in its file, or its row in a table without lines, counted from 1.
    """

    name: str
    cells: Sequence[str] | npt.NDArray[np.float64] | pd.DatetimeIndex
    lines: Sequence[int] | npt.NDArray[np.int64]

    @cached_property
    def texts(self) -> list[str]:
        """The cells as texts without surrounding spaces."""
        return [str(cell).strip() for cell in self.cells]

    def describe(self, position: int) -> str:
        """Return where a cell is, and its content, for a message.

        Examples
        --------
        >>> Column("Open", ["1.5", "x"], [2, 3]).describe(1)
        "line 3, column 'Open': 'x'"
        """
        text = str(self.cells[position])
        shown = text if len(text) <= 40 else text[:40] + "..."
        return f"line {self.lines[position]}, column {self.name!r}: {shown!r}"

    def select(self, mask: Mask) -> Column:
        """Return the column with only those cells whose mask is true."""
        if mask.all():
            return self
        positions = np.flatnonzero(mask)
        lines = np.asarray(self.lines)[positions]
        if isinstance(self.cells, (np.ndarray, pd.DatetimeIndex)):
            return Column(self.name, self.cells[positions], lines)
        return Column(self.name, [self.cells[position] for position in positions.tolist()], lines)


# Numbers

MISSING = frozenset({"", "-", "--", "—", "–", ".", "n/a", "#n/a", "na", "nan", "null", "none"})
"""What a cell without a value contains, in lower case."""

MULTIPLIERS = {"k": "e3", "m": "e6", "b": "e9", "t": "e12"}
"""Letters behind a number, in lower case, and the exponent each stands for."""

IGNORED = " \t\xa0\u202f\u2009'’$€£¥₩원"
"""Spaces and apostrophes between groups of digits, and currencies."""

_CLEANED = str.maketrans(
    dict.fromkeys(IGNORED, "") | MULTIPLIERS | {letter.upper(): power for letter, power in MULTIPLIERS.items()}
)

# What shows that a sign is the decimal one: groups of thousands before it, or other than three digits after it, or no
# group of thousands before it. Patterns that begin with the sign are searched ten times faster.
_SHOWS_DECIMAL = {
    ".": (
        re.compile(r",\d+[.,]", re.ASCII),
        re.compile(r"\.(?:\d{1,2}(?!\d)|\d{4}|(?<=\d{4}\.)\d|(?<=\D0\.)\d)", re.ASCII),
    ),
    ",": (
        re.compile(r"\.\d+[.,]", re.ASCII),
        re.compile(r",(?:\d{1,2}(?![\d,])|\d{4}|(?<=\d{4},)\d|(?<=\D0,)\d)", re.ASCII),
    ),
}
_COMMA = (re.compile(","),)


def parse_numbers(column: Column, decimal: str = ".") -> npt.NDArray[np.float64]:
    """Read a column of numbers.

    Parameters
    ----------
    column
        Texts, or an array of numbers.
    decimal
        The decimal sign, ``"."`` or ``","``; the other one separates thousands.

    Returns
    -------
    ndarray of float64
        One number per cell; NaN where the cell has none.

    Raises
    ------
    SourceError
        If a cell is neither a number nor missing, or too large for float64.

    Examples
    --------
    >>> parse_numbers(Column("Vol.", ["3.33B", "12.3M", "-", "1,234"], [2, 3, 4, 5])).tolist()
    [3330000000.0, 12300000.0, nan, 1234.0]
    """
    if isinstance(column.cells, np.ndarray):
        values = column.cells.astype(np.float64)
    else:
        thousands = "," if decimal == "." else "."
        texts = [text.replace(thousands, "").replace(decimal, ".") for text in column.texts]
        numbers = list(map(_read_number, texts))
        if None in numbers:
            raise SourceError(
                f"{column.describe(numbers.index(None))} is not a number; expected for instance 1234.5, 1,234.5, 3.33B "
                "or -"
            )
        values = np.array(numbers, dtype=np.float64)
    if np.isinf(values).any():
        raise SourceError(f"{column.describe(int(np.flatnonzero(np.isinf(values))[0]))} is not a finite number")
    return values


def _read_number(text: str) -> float | None:
    """Read a number with a decimal point; NaN if it is missing, None if it is not a number."""
    try:
        return float(text) if "_" not in text else None  # Python allows underscores, but nothing exports them
    except ValueError:
        if text.lower() in MISSING:
            return np.nan
    cleaned = text.translate(_CLEANED)
    return _read_number(cleaned) if cleaned != text else None


def find_decimal(columns: Iterable[Column], *, delimiter: str) -> str:
    """Find the decimal sign from all the numbers of a table.

    ``1,234.5`` and ``12,34`` decide, ``1,234`` alone does not. If nothing decides, a comma separates thousands, as in
    English and Asian exports; but not in a file whose columns are separated by semicolons, which is written where the
    comma is the decimal sign: there the caller must say.

    Parameters
    ----------
    columns
        All columns of numbers of one table.
    delimiter
        What separates its columns.

    Returns
    -------
    str
        ``"."`` or ``","``.

    Raises
    ------
    SourceError
        If cells contradict each other, or nothing decides, naming ``decimal``.

    Examples
    --------
    >>> find_decimal([Column("Open", ["1.234", "1.234,5"], [2, 3])], delimiter=";")
    ','
    """
    texts = [(column, _join_cells(column)) for column in columns if not isinstance(column.cells, np.ndarray)]
    comma_anywhere = _first_match(texts, _COMMA)
    if not comma_anywhere:
        return "."
    point, comma = (_first_match(texts, patterns) for patterns in _SHOWS_DECIMAL.values())
    if point and comma:
        raise SourceError(
            f"{point} has a point as its decimal sign, but {comma} has a comma; set decimal='.' or decimal=','"
        )
    if not point and not comma and delimiter == ";":
        raise SourceError(
            f"{comma_anywhere} can be read with thousands or with decimals; set decimal='.' or decimal=','"
        )
    return "," if comma else "."


def _join_cells(column: Column) -> str:
    """Return the cells as lines, a line end before each, because one text is searched much faster than many."""
    return "\n".join(["", *(text.replace("\n", " ") for text in column.texts)])


def _first_match(texts: Iterable[tuple[Column, str]], patterns: Iterable[re.Pattern[str]]) -> str:
    """Describe the first cell that matches one of the patterns; empty if none does."""
    for column, text in texts:
        for pattern in patterns:
            match = pattern.search(text)
            if match is not None:
                return column.describe(text.count("\n", 0, match.start()) - 1)
    return ""


# Dates

MONTHS = {
    "jan": 1, "feb": 2, "mar": 3, "apr": 4, "may": 5, "jun": 6,
    "jul": 7, "aug": 8, "sep": 9, "oct": 10, "nov": 11, "dec": 12,
}  # fmt: skip
"""The first three letters of each month's name, in lower case, and its number."""

_TIME = (
    r"(?:[T,]?\s*(?P<hour>\d{1,2}):\d{2}(?::\d{2}(?:[.,]\d+)?)?(?:\s*[AaPp][Mm])?"
    r"\s*(?P<zone>Z|UTC|GMT|[+-]\d{2}:?\d{2})?)?"
)
_WEEKDAY = r"(?:(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)[a-z]*,?\s+)?"

DATE_SHAPES = {
    "ymd": r"(\d{4})\s*[-/.년]\s*(\d{1,2})\s*[-/.월]\s*(\d{1,2})\s*[.일]?\s*" + _TIME,
    # Three numbers whose order the whole column decides.
    "?": r"(\d{1,2})\s*[-/.]\s*(\d{1,2})\s*[-/.]\s*(\d{4}|\d{2})" + _TIME,
    "mdy": _WEEKDAY + r"([A-Za-z]{3,9})\.?\s+(\d{1,2}),?\s+(\d{4})" + _TIME,
    "dmy": _WEEKDAY + r"(\d{1,2})[\s-]+([A-Za-z]{3,9})\.?[\s,-]+(\d{4}|\d{2})" + _TIME,
    "yyyymmdd": r"(\d{4})(\d{2})(\d{2})(?P<hour>)(?P<zone>)",
}
"""How dates are written, most frequent first. The three first groups are year, month and day in the order of the name.

A time of day and a time zone may follow; the session is the date as it is written, which in the common exports is the
date at the exchange.
"""

_SHAPES = {order: re.compile(pattern, re.ASCII) for order, pattern in DATE_SHAPES.items()}
_ISO_DATES = re.compile(r"(?:\d{4}-\d{2}-\d{2})+", re.ASCII)
_STRPTIME = {"dmy": "%d/%m/%Y", "mdy": "%m/%d/%Y", "ymd": "%y/%m/%d"}
_UTC = frozenset({"Z", "UTC", "GMT", "+00:00", "+0000"})


def parse_dates(column: Column, date_format: str | None = None) -> pd.DatetimeIndex:
    """Read a column of dates.

    Parameters
    ----------
    column
        Texts, or time stamps with or without a time zone.
    date_format
        How the dates are written, in the notation of :meth:`datetime.datetime.strptime` (``"%d/%m/%Y"``); None: the
        column decides. An order of day and month counts only if it makes every cell a date.

    Returns
    -------
    DatetimeIndex
        Dates at midnight, without a time zone, in the order of the column.

    Raises
    ------
    SourceError
        If a cell is not a date, or more than one order of day and month is possible, naming ``date_format``.

    Examples
    --------
    The second row settles the first:

    >>> parse_dates(Column("Date", ["03/05/2021", "14/05/2021"], [2, 3])).strftime("%Y-%m-%d").to_list()
    ['2021-05-03', '2021-05-14']
    """
    if isinstance(column.cells, pd.DatetimeIndex):
        days = _days_of_stamps(column.cells)
    else:
        texts = column.texts
        days = _days_by_shape(column, texts) if date_format is None else _days_by_format(column, texts, date_format)
    return pd.DatetimeIndex(days.astype("datetime64[us]"))


def _days_of_stamps(stamps: pd.DatetimeIndex) -> Days:
    """Return the date of each time stamp in its own time zone."""
    if stamps.hasnans:
        raise SourceError("expected a date in every row with a price; some have none")
    days: Days = stamps.tz_localize(None).to_numpy().astype("datetime64[D]")
    if stamps.tz is not None and stamps[0].utcoffset() == dt.timedelta(0):
        _require_local_dates(days, bool((stamps.hour >= 12).all()))
    return days


def _days_by_format(column: Column, texts: list[str], date_format: str) -> Days:
    try:
        stamps = pd.to_datetime(pd.Series(texts, dtype=object), format=date_format, errors="coerce", utc=True)
    except (ValueError, TypeError) as error:
        raise SourceError(f"date_format={date_format!r} is not a format of strptime ({error})") from None
    if stamps.isna().any():
        misfit = int(np.flatnonzero(stamps.isna())[0])
        raise SourceError(f"{column.describe(misfit)} does not match date_format={date_format!r}")
    if "%z" in date_format:  # the date as it is written, not as it is in UTC
        return _days_by_shape(column, texts)
    days: Days = stamps.dt.tz_localize(None).to_numpy().astype("datetime64[D]")
    return days


def _days_by_shape(column: Column, texts: list[str]) -> Days:
    """Find the shape of each cell, let the column decide what is ambiguous, and compute the days."""
    if _ISO_DATES.fullmatch("".join(texts)) and set(map(len, texts)) == {10}:  # the most common column, much faster
        with suppress(ValueError):  # a cell that is not a day of the calendar is named below
            return np.array(texts, dtype="datetime64[D]")
    orders, cells = [], []
    order = "ymd"
    for position, text in enumerate(texts):
        match = _SHAPES[order].fullmatch(text)
        if match is None:
            order, match = _match(column, position, text)
        orders.append(order)
        cells.append(match.groups(""))
    first, second, third, hours, zones = zip(*cells, strict=True)
    parts = np.array([_month_numbers(column, part) for part in (first, second, third)]).T

    days = np.empty(len(texts), dtype="datetime64[D]")
    for order in set(orders):
        rows = np.array([other == order for other in orders])
        resolved = _decide_order(column.select(rows), parts[rows]) if order == "?" else order.replace("yyyymmdd", "ymd")
        days[rows] = _days(parts[rows], resolved)
    if np.isnat(days).any():
        raise SourceError(f"{column.describe(int(np.flatnonzero(np.isnat(days))[0]))} is not a day of the calendar")
    if set(zones) <= _UTC:
        _require_local_dates(days, all(int(hour) >= 12 for hour in hours))
    return days


def _match(column: Column, position: int, text: str) -> tuple[str, re.Match[str]]:
    for order, pattern in _SHAPES.items():
        match = pattern.fullmatch(text)
        if match is not None:
            return order, match
    raise SourceError(f"{column.describe(position)} is not a date in a common notation; set date_format")


def _month_numbers(column: Column, parts: Sequence[str]) -> list[int]:
    """Turn parts of dates into numbers, names of months included."""
    try:
        return list(map(int, parts))
    except ValueError:
        numbers = [int(part) if part.isdigit() else MONTHS.get(part[:3].lower(), -1) for part in parts]
    if -1 in numbers:
        raise SourceError(f"{column.describe(numbers.index(-1))} has no month in English; set date_format")
    return numbers


def _decide_order(column: Column, parts: npt.NDArray[np.int64]) -> str:
    """Find the one order of day, month and year that makes every cell a date."""
    two_digit_years = bool((parts[:, 2] < 100).any())
    year_may_be_first = two_digit_years and all(re.match(r"\d\d\D", text) for text in column.texts)
    orders = ["dmy", "mdy", *(["ymd"] if year_may_be_first else [])]
    fits = {order: ~np.isnat(_days(parts, order)) for order in orders}
    possible = [order for order in orders if fits[order].all()]
    if len(possible) == 1:
        return possible[0]
    if possible:
        choices = " or ".join(f"date_format={_strptime(order, column, two_digit_years)!r}" for order in possible)
        raise SourceError(
            f"{column.describe(0)} and all other dates of this column can be read in more than one way; set {choices}"
        )
    misfits = {order: column.describe(int(np.flatnonzero(~fit)[0])) for order, fit in fits.items()}
    raise SourceError(
        f"no order of day and month fits the whole column: not day first because of {misfits['dmy']}, "
        f"not month first because of {misfits['mdy']}; write all dates in one way"
    )


def _strptime(order: str, column: Column, two_digit_years: bool) -> str:
    sign = next(sign for sign in "/-." if sign in str(column.cells[0]))
    return _STRPTIME[order].replace("/", sign).replace("%Y", "%y" if two_digit_years else "%Y")


def _days(parts: npt.NDArray[np.int64], order: str) -> Days:
    """Compute days from three numbers each; NaT where they are not a day of the calendar."""
    year, month, day = (parts[:, order.index(letter)] for letter in "ymd")
    year = np.where(year < 100, np.where(year < 69, 2000, 1900) + year, year)  # as strptime does
    valid = (month >= 1) & (month <= 12) & (day >= 1) & (day <= 31) & (year >= 1600)
    first = ((np.where(valid, year, 1970) - 1970) * 12 + np.where(valid, month, 1) - 1).astype("datetime64[M]")
    days: Days = first.astype("datetime64[D]") + (np.where(valid, day, 1) - 1)
    days[~valid | (days.astype("datetime64[M]") != first)] = np.datetime64("NaT")
    return days


def _require_local_dates(days: Days, all_after_noon: bool) -> None:
    """Refuse time stamps in UTC that put the Monday of an eastern exchange on a Sunday."""
    weekday = (days.astype(np.int64) + 3) % 7  # 1970-01-01 was a Thursday; 0 is Monday
    if all_after_noon and (weekday == 6).any() and not (weekday == 4).any():
        raise SourceError(
            "the time stamps are in UTC and fall on Sundays but never on a Friday, so they belong to an exchange east "
            "of it; write the dates at the exchange instead"
        )
