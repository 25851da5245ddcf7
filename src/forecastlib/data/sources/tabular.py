"""From the text of a table to its columns: encoding, delimiter and header, whoever wrote it."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from forecastlib.data.sources.header import EXPECTED, Layout, find_layout, lacking
from forecastlib.data.sources.table import MOST_ROWS, Column, Table
from forecastlib.errors import SourceError

DELIMITERS = (",", ";", "\t", "|")
_HEADER_WITHIN = 20
_LONGEST_LINE = 65_536
_BYTE_ORDER_MARKS = {b"\xef\xbb\xbf": "utf-8-sig", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}


def read_table(data: bytes, symbol: str) -> Table:
    """Read the columns of prices from the bytes of a delimited text file.

    Parameters
    ----------
    data
        The whole file.
    symbol
        Which symbol's columns to take, where there are several.

    Returns
    -------
    Table

    Raises
    ------
    SourceError
        If this is no table of prices, saying what was looked for and what was found.
    """
    lines, numbers = _lines(decode(data))
    head = lines[:_HEADER_WITHIN]
    lacks = ""
    for delimiter in DELIMITERS:
        rows = [next(csv.reader([line], delimiter=delimiter, skipinitialspace=True), []) for line in head]
        layout = find_layout(rows, symbol)
        if layout is not None:
            return _read_below(lines[layout.first_row :], numbers[layout.first_row :], delimiter, layout)
        lacks = lacks or lacking(rows)
    found = lacks or (f"the first line {head[0].strip()[:200]!r}" if head else "an empty file")
    raise SourceError(f"looked for {EXPECTED}; found {found}")


def decode(data: bytes) -> str:
    """Decode a text file whose encoding is not known: by its byte order mark, else UTF-8, Korean, or Western."""
    for mark, encoding in _BYTE_ORDER_MARKS.items():
        if data.startswith(mark):
            candidates = [encoding]
            break
    else:
        nul = data[:2000].count(0)
        halves = data[:2000:2].count(0), data[1:2000:2].count(0)
        if nul and min(halves) == 0:  # every other byte of Western text in UTF-16 is zero
            candidates = ["utf-16-be" if halves[0] else "utf-16-le"]
        else:
            candidates = ["utf-8", "cp949", "latin-1"]
    for encoding in candidates:
        try:
            text = data.decode(encoding)
        except UnicodeDecodeError:
            continue
        if "\0" in text:
            raise SourceError(f"looked for a text file with {EXPECTED}; found binary data beginning {data[:8]!r}")
        return text
    raise SourceError(f"the file says that it is {candidates[0]}, but cannot be decoded so; it may be cut off")


def _lines(text: str) -> tuple[list[str], list[int]]:
    """Split a text into lines that are not blank, and their numbers; refuse more or longer ones than prices have."""
    ends = max(text.count("\n"), text.count("\r"))
    if ends > MOST_ROWS:
        raise SourceError(f"looked for daily prices of one symbol; found {ends} lines; cut them")
    lines = io.StringIO(text, newline=None).readlines()
    longest = max(map(len, lines), default=0)
    if longest > _LONGEST_LINE:
        raise SourceError(f"looked for {EXPECTED}; found a line of {longest} characters")
    numbers = [number for number, line in enumerate(lines, 1) if not line.isspace()]
    return [lines[number - 1] for number in numbers], numbers


def _read_below(lines: list[str], numbers: list[int], delimiter: str, layout: Layout) -> Table:
    """Read the columns below the header."""
    notes = []
    if lines and _is_cut_off(lines[-1], delimiter, layout.width):
        notes.append(f"line {numbers[-1]}, the last one, is cut off; it was dropped")
        lines, numbers = lines[:-1], numbers[:-1]
    cells = _cells_at_once(lines, delimiter, layout.width)
    if cells is None:
        rows = _rows(lines, numbers, delimiter, layout.width)
        cells = list(zip(*rows, strict=True)) or [()] * layout.width
    columns = {field: Column(layout.names[field], cells[column], numbers) for field, column in layout.columns.items()}
    return Table(columns, delimiter, notes, dropped=len(notes))


def _cells_at_once(lines: list[str], delimiter: str, width: int) -> list[Sequence[str]] | None:
    """Split lines that all have the same number of fields, and quotes around none or all of them, twice as fast."""
    text = "".join(lines)
    between = delimiter
    if '"' in text:
        between = f'"{delimiter}"'
        if {line.count('"') for line in lines} != {2 * width} or not text.startswith('"'):
            return None
        text = text.strip()[1:-1].replace('"\n"', between)
    else:
        text = text.rstrip("\n").replace("\n", between)
    flat = text.split(between)
    if {line.count(between) for line in lines} != {width - 1} or len(flat) != width * len(lines):
        return None
    return [flat[column::width] for column in range(width)]


def _rows(lines: list[str], numbers: list[int], delimiter: str, width: int) -> list[list[str]]:
    """Split lines into fields, telling apart rows that are short from rows that cannot be read."""
    reader = csv.reader(lines, delimiter=delimiter, skipinitialspace=True)
    rows = []
    try:
        for position, row in enumerate(reader):
            if reader.line_num != position + 1:
                raise SourceError(f"line {numbers[position]} opens a quote that it does not close: {str(row)[:80]}")
            rows.append(row if len(row) == width else _of_width(row, numbers[position], delimiter, width))
    except csv.Error as error:
        raise SourceError(f"line {numbers[reader.line_num - 1]} is no row of a table: {error}") from None
    return rows


def _of_width(row: list[str], number: int, delimiter: str, width: int) -> list[str]:
    if any(map(str.strip, row[width:])):
        raise SourceError(
            f"line {number} has {len(row)} fields where the header has {width}: {delimiter.join(row)[:80]!r}; "
            "numbers with thousands separators need quotes"
        )
    return row[:width] + [""] * (width - len(row))


def _is_cut_off(last_line: str, delimiter: str, width: int) -> bool:
    """Whether the last line has neither an end nor all its fields: its last number may lack digits."""
    if last_line.endswith("\n"):
        return False
    return len(next(csv.reader([last_line], delimiter=delimiter), [])) < width
