"""Reading columns of numbers as people write them: ``1,234.56``, ``3.33B``, ``$12``, ``-`` for nothing."""

from __future__ import annotations

import re
from collections.abc import Iterable
from math import nan

import numpy as np
import numpy.typing as npt

from forecastlib.data.sources.table import Column
from forecastlib.errors import SourceError

MISSING = frozenset({"", "-", "--", "—", "–", ".", "n/a", "#n/a", "na", "nan", "null", "none"})
"""What stands, in lower case, for a value that is not there."""

_BETWEEN = "\x1f"  # the unit separator: joins cells, so that a column is searched and cleaned at once
_IGNORED = dict.fromkeys(" \t\xa0\u202f\u2009'’$€£¥₩원", "")  # spaces between groups of digits, currencies
_POWERS = {"K": "e3", "M": "e6", "B": "e9", "T": "e12"}
_CLEANED = str.maketrans(_IGNORED | _POWERS | {letter.lower(): power for letter, power in _POWERS.items()})
_UNUSUAL = re.compile(f"[^0-9.{_BETWEEN}-]")

# What decides that a sign is the decimal one. Each pattern begins with a sign, which makes the search ten times faster.
_SHOWS_DECIMAL = {
    ".": (
        re.compile(r",\d+[.,]", re.ASCII),  # groups of thousands are in front of it
        re.compile(r"\.(?:\d{1,2}(?!\d)|\d{4}|(?<=\d{4}\.)\d|(?<=\D0\.)\d)", re.ASCII),  # no group of three is behind
    ),
    ",": (
        re.compile(r"\.\d+[.,]", re.ASCII),
        re.compile(r",(?:\d{1,2}(?![\d,])|\d{4}|(?<=\d{4},)\d|(?<=\D0,)\d)", re.ASCII),
    ),
}


def parse_numbers(column: Column, decimal: str = ".") -> npt.NDArray[np.float64]:
    """Read a column of numbers.

    Parameters
    ----------
    column
        Texts, or an array of numbers.
    decimal
        The sign in front of decimals, ``"."`` or ``","``; the other one groups thousands.

    Returns
    -------
    ndarray of float64
        One number a cell; NaN where the cell says that there is none.

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
        cleaned = _joined(column).replace(thousands, "").replace(decimal, ".")
        if _UNUSUAL.search(cleaned):
            cleaned = cleaned.translate(_CLEANED)
        values = np.array(_numbers(column, cleaned), dtype=np.float64)
    if np.isinf(values).any():
        raise SourceError(f"{column.at(int(np.flatnonzero(np.isinf(values))[0]))} is not a finite number")
    return values


def _joined(column: Column) -> str:
    """Write each cell with the sign in front of it."""
    cells = column.texts()
    joined = _BETWEEN.join(["", *cells])
    if joined.count(_BETWEEN) != len(cells):  # a cell holds the sign itself: it is no number, and that will be said
        joined = _BETWEEN.join(["", *(cell.replace(_BETWEEN, "?") for cell in cells)])
    return joined


def _numbers(column: Column, cleaned: str) -> list[float]:
    texts = cleaned.split(_BETWEEN)[1:]
    if "_" not in cleaned:  # Python's literals allow it, nobody's exports do
        try:
            return [nan if text in MISSING else float(text) for text in texts]
        except ValueError:
            pass  # below, the cell is named; or it is missing in capitals
    return [_number(column, position, text) for position, text in enumerate(texts)]


def _number(column: Column, position: int, text: str) -> float:
    if text.lower() in MISSING:
        return nan
    try:
        if "_" not in text:
            return float(text)
    except ValueError:
        pass  # worded below, with what is no number by our own rule
    raise SourceError(f"{column.at(position)} is not a number; expected for instance 1234.5, 1,234.5, 3.33B or -")


def decide_decimal(columns: Iterable[Column], *, delimiter: str) -> str:
    """Find the sign in front of decimals from all the numbers of a table.

    ``1,234.5`` and ``12,34`` decide, ``1,234`` alone does not. Where nothing decides, a comma groups thousands, as it
    does in English and Asian exports; but not in a file that separates its columns by semicolons, which is written
    where the comma is the decimal sign: there it must be said.

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
    >>> decide_decimal([Column("Open", ["1.234", "1.234,5"], [2, 3])], delimiter=";")
    ','
    """
    texts = [(column, _joined(column)) for column in columns if not isinstance(column.cells, np.ndarray)]
    unclear = next(((column, text) for column, text in texts if "," in text), None)
    if unclear is None:
        return "."
    evidence: dict[str, str] = {}
    for column, text in texts:
        for sign, patterns in _SHOWS_DECIMAL.items():
            match = patterns[0].search(text) or patterns[1].search(text)
            if match is not None:
                evidence.setdefault(sign, column.at(text.count(_BETWEEN, 0, match.start()) - 1))
    if len(evidence) == 2:
        raise SourceError(
            f"{evidence['.']} has a point in front of its decimals, but {evidence[',']} has a comma; "
            "say which is meant by decimal='.' or decimal=','"
        )
    if not evidence and delimiter == ";":
        column, text = unclear
        raise SourceError(
            f"{column.at(text.count(_BETWEEN, 0, text.index(',')) - 1)} can be read with thousands and with decimals; "
            "say which by decimal='.' or decimal=','"
        )
    return next(iter(evidence), ".")
