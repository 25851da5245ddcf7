"""From the text of a table to its columns: encoding, delimiter and header, whoever wrote it."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from itertools import islice

from forecastlib.errors import SourceError
from forecastlib.sources.header import EXPECTED, Layout, find_layout, lacking
from forecastlib.sources.table import MOST_ROWS, Column, Table

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
    text = decode(data)
    head = [line for line in islice(_lines(text), _HEADER_WITHIN) if line.strip()]
    lacks = ""
    for delimiter in DELIMITERS:
        rows = [next(csv.reader([line], delimiter=delimiter, skipinitialspace=True), []) for line in head]
        layout = find_layout(rows, symbol)
        if layout is not None:
            return _read_below(text, delimiter, layout)
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


def _lines(text: str) -> io.StringIO:
    """Split a text into lines, refusing one that no table of prices has, so that memory stays bounded."""
    longest = max(map(len, io.StringIO(text, newline=None)), default=0)
    if longest > _LONGEST_LINE:
        raise SourceError(f"looked for {EXPECTED}; found a line of {longest} characters")
    return io.StringIO(text, newline=None)


def _rows(text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Yield each row that is not blank with the number of its line."""
    reader = csv.reader(_lines(text), delimiter=delimiter, skipinitialspace=True)
    before = 0
    try:
        for row in reader:
            if reader.line_num != before + 1:
                raise SourceError(f"line {before + 1} opens a quote that it does not close: {str(row)[:80]}")
            before = reader.line_num
            if row and (row[0] or any(cell.strip() for cell in row)):
                yield reader.line_num, row
    except csv.Error as error:
        raise SourceError(f"line {reader.line_num} is no row of a table: {error}") from None


def _read_below(text: str, delimiter: str, layout: Layout) -> Table:
    """Collect the columns below the header, telling apart rows that are short from rows that cannot be read."""
    lines: list[int] = []
    rows: list[list[str]] = []
    for line, row in islice(_rows(text, delimiter), layout.first_row, None):
        if len(row) < layout.width:
            row = row + [""] * (layout.width - len(row))
        elif len(row) > layout.width and any(cell.strip() for cell in row[layout.width :]):
            raise SourceError(
                f"line {line} has {len(row)} fields where the header has {layout.width}: {delimiter.join(row)[:80]!r}; "
                "numbers with thousands separators need quotes"
            )
        if len(rows) == MOST_ROWS:
            raise SourceError(f"looked for daily prices of one symbol; found more than {MOST_ROWS} rows; cut them")
        lines.append(line)
        rows.append(row)
    notes = []
    if rows and _is_cut_off(text, delimiter, layout.width):
        notes.append(f"line {lines[-1]}, the last one, is cut off; it was dropped")
        lines, rows = lines[:-1], rows[:-1]
    cells = list(zip(*rows, strict=False)) or [()] * layout.width
    columns = {field: Column(layout.names[field], cells[column], lines) for field, column in layout.columns.items()}
    return Table(columns, delimiter, notes, dropped=len(notes))


def _is_cut_off(text: str, delimiter: str, width: int) -> bool:
    """Whether the last line has neither an end nor all its fields: its last number may lack digits."""
    if text.endswith(("\n", "\r")):
        return False
    last_line = text[max(text.rfind("\n"), text.rfind("\r")) + 1 :]
    return len(next(csv.reader([last_line], delimiter=delimiter), [])) < width
