"""Prices from files: a CSV or Parquet file, or a folder with one for each symbol.

From top to bottom: :class:`FileSource` finds the file and reads its bytes, :func:`read_csv` or :func:`read_parquet`
splits them into the columns of a table, and :func:`forecastlib.data.tables.read_prices` reads their cells.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from forecastlib.config import Adjust
from forecastlib.data.cells import Column
from forecastlib.data.prices import Day, serve_prices
from forecastlib.data.tables import (
    CONTINENTAL,
    EXPECTED,
    MAX_ROWS,
    Layout,
    Table,
    describe_missing,
    find_layout,
    normalize_name,
    read_prices,
)
from forecastlib.errors import DataQualityError, SourceError

if TYPE_CHECKING:
    import pyarrow as pa  # type: ignore[import-untyped]

SUFFIXES = (".csv", ".parquet")
DELIMITERS = (",", ";", "\t", "|")
ENCODINGS = ("utf-8", "cp949", "cp932", "gb18030", "big5", "latin-1")
"""Encodings tried in order where neither a byte order mark nor zero bytes tell: the first with a known header is it."""

MAX_BYTES = 64 * 2**20
MAX_LINE = 65_536
MAX_HEADER_LINES = 20
"""Lines within which the header must be."""

_BYTE_ORDER_MARKS = {b"\xef\xbb\xbf": "utf-8-sig", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}


class FileSource:
    """Daily prices from a CSV or Parquet file, or from a folder of ``SYMBOL.csv`` and ``SYMBOL.parquet``.

    Parameters
    ----------
    path
        The file or the folder.
    date_format
        How dates are written, in the notation of ``strptime``; None: the column decides.
    decimal
        The decimal sign, ``"."`` or ``","``; None: the columns decide.
    adjust
        Whether prices are scaled by the adjusted close: ``"auto"``, ``"none"`` or ``"close"``, see
        :func:`forecastlib.data.tables.adjust_prices`.
    """

    def __init__(
        self, path: str | Path, *, date_format: str | None = None, decimal: str | None = None, adjust: Adjust = "auto"
    ) -> None:
        self.path = Path(path).expanduser()
        self.name = f"csv:{path}"
        self._date_format = date_format
        self._decimal = decimal
        self._adjust: Adjust = adjust

    def fetch(self, symbol: str, start: Day = None, end: Day = None) -> pd.DataFrame:
        """Return the prices in the file, or in the folder's file of this symbol; see :meth:`Source.fetch`.

        ``attrs`` also has ``dropped`` (number of rows left out), ``adjusted`` and ``notes``.
        """
        path = self._file_of(symbol)
        try:
            table = _read_table(path, symbol)
            frame, notes = read_prices(
                table, symbol, date_format=self._date_format, decimal=self._decimal, adjust=self._adjust
            )
        except (SourceError, DataQualityError) as error:
            raise type(error)(f"{path}: {error}") from error
        return serve_prices(frame, symbol, self.name, start=start, end=end, **notes)

    def symbols(self) -> list[str]:
        """List the symbols for which the folder has a file."""
        if not self.path.is_dir():
            raise SourceError(f"{self.name} is one file and does not name its symbol; name the symbol")
        return sorted({path.stem for path in self.path.iterdir() if path.suffix.lower() in SUFFIXES})

    def _file_of(self, symbol: str) -> Path:
        try:
            if self.path.is_file():
                return self.path
            if not self.path.is_dir():
                raise SourceError(f"{self.name}: expected a file or a folder at {self.path}; there is none")
            if symbol in ("", ".", "..") or any(
                kind(symbol).name != symbol for kind in (PurePosixPath, PureWindowsPath)
            ):
                raise SourceError(f"{self.name}: expected a symbol that can name a file in the folder; got {symbol!r}")
            candidates = [self.path / f"{symbol}{suffix}" for suffix in SUFFIXES]
            present = [file for file in candidates if file.is_file()]
        except (OSError, ValueError) as error:  # a name that the file system does not allow
            raise SourceError(f"{self.name}: {symbol!r} cannot be looked up: {error}") from error
        if len(present) == 1:
            return present[0]
        if present:
            raise SourceError(f"{self.name} has both {' and '.join(file.name for file in present)}; remove one of them")
        known = self.symbols()
        listed = f"{', '.join(known[:10])}{', ...' if len(known) > 10 else ''}" if known else "no such file at all"
        looked_for = " or ".join(file.name for file in candidates)
        raise SourceError(f"{self.name}: looked for {looked_for}; the folder has {listed}")


def _read_table(path: Path, symbol: str) -> Table:
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise SourceError(
                f"looked for daily prices of one symbol; found {size / 2**20:.0f} MB, more than "
                f"{MAX_BYTES / 2**20:.0f}; cut the file to the daily rows of one symbol"
            )
        data = path.read_bytes()
    except OSError as error:
        raise SourceError(f"the file cannot be read: {error.strerror}") from error
    if data.startswith(b"PAR1") or path.suffix.lower() == ".parquet":
        return read_parquet(data, symbol)
    return read_csv(data, symbol)


def read_csv(data: bytes, symbol: str) -> Table:
    """Split a delimited text file into the columns of prices.

    Encoding, delimiter and header are found by trying: the first encoding and delimiter with which one of the first
    lines is a header of prices are the right ones.

    Parameters
    ----------
    data
        The whole file.
    symbol
        Whose columns to take, where there are those of several symbols.

    Raises
    ------
    SourceError
        If this is not a table of prices, saying what was looked for and what was found.
    """
    missing, head = "", []
    for text in decode_text(data):
        lines, numbers = _split_lines(text)
        head = lines[:MAX_HEADER_LINES]
        for delimiter in DELIMITERS:
            rows = [next(csv.reader([line], delimiter=delimiter, skipinitialspace=True), []) for line in head]
            layout = find_layout(rows, symbol)
            if layout is not None:
                return _read_rows(lines[layout.first_row :], numbers[layout.first_row :], delimiter, layout)
            missing = missing or describe_missing(rows)
    if not "".join(head).isascii() and not _is_unicode(data):
        found = f"text that is not UTF-8, with no such header in {', '.join(ENCODINGS[1:])} either; save it as UTF-8"
    else:
        found = missing or (f"the first line {head[0].strip()[:200]!r}" if head else "an empty file")
    raise SourceError(f"looked for {EXPECTED}; found {found}")


def _is_unicode(data: bytes) -> bool:
    with suppress(UnicodeDecodeError):
        data.decode("utf-8")
        return True
    return b"\0" in data or any(map(data.startswith, _BYTE_ORDER_MARKS))


def decode_text(data: bytes) -> Iterator[str]:
    """Decode a text file by its byte order mark, else as UTF-8; failing that, in each of :data:`ENCODINGS`.

    Yields
    ------
    str
        The text in an encoding that fits it; the more likely first.

    Raises
    ------
    SourceError
        If it is binary, or is not in the encoding of its byte order mark.
    """
    mark = next((mark for mark in _BYTE_ORDER_MARKS if data.startswith(mark)), None)
    zeros_even, zeros_odd = data[:2000:2].count(0), data[1:2000:2].count(0)
    encodings: tuple[str, ...] = ENCODINGS
    if mark is not None:
        encodings = (_BYTE_ORDER_MARKS[mark],)
    elif (zeros_even == 0) != (zeros_odd == 0):  # every other byte of Western text in UTF-16 is zero
        encodings = ("utf-16-be" if zeros_even else "utf-16-le",)
    for encoding in encodings:
        try:
            text = data.decode(encoding)
        except UnicodeDecodeError:
            continue
        if "\0" in text:
            raise SourceError(f"looked for a text file with {EXPECTED}; found binary data beginning {data[:8]!r}")
        yield text
        if encoding not in ENCODINGS[1:]:
            return
    if encodings is not ENCODINGS:
        raise SourceError(f"the file seems to be {encodings[0]}, but cannot be decoded as such; it may be cut off")


def _split_lines(text: str) -> tuple[list[str], list[int]]:
    """Split a text into lines that are not blank, and their numbers; refuse more or longer lines than prices have."""
    ends = max(text.count("\n"), text.count("\r"))
    if ends > MAX_ROWS:
        raise SourceError(f"looked for daily prices of one symbol; found {ends} lines; cut the file")
    lines = io.StringIO(text, newline=None).readlines()
    longest = max(map(len, lines), default=0)
    if longest > MAX_LINE:
        raise SourceError(f"looked for {EXPECTED}; found a line of {longest} characters")
    numbers = [number for number, line in enumerate(lines, 1) if not line.isspace()]
    return [lines[number - 1] for number in numbers], numbers


def _read_rows(lines: list[str], numbers: list[int], delimiter: str, layout: Layout) -> Table:
    """Split the lines below the header into the columns of the layout."""
    notes = []
    width = len(layout.names)
    if lines and _is_cut_off(lines[-1], delimiter, width):
        notes.append(f"line {numbers[-1]}, the last one, is cut off; it was dropped")
        lines, numbers = lines[:-1], numbers[:-1]
    reader = csv.reader(lines, delimiter=delimiter, skipinitialspace=True)
    rows = []
    try:
        for position, row in enumerate(reader):
            if reader.line_num != position + 1:
                raise SourceError(f"line {numbers[position]} opens a quote that it does not close: {str(row)[:80]}")
            if len(row) != width:
                row = _fit_width(row, numbers[position], delimiter, width)
            rows.append(row)
    except csv.Error as error:
        raise SourceError(f"line {numbers[reader.line_num - 1]} is not a row of a table: {error}") from None
    cells = list(zip(*rows, strict=True)) or [()] * width
    columns = [Column(*column, numbers) for column in zip(layout.names, cells, strict=True)]
    return Table(
        {field: columns[position] for field, position in layout.columns.items()},
        others=[column for position, column in enumerate(columns) if position not in layout.columns.values()],
        continental=delimiter == ";" or any(normalize_name(name) in CONTINENTAL for name in layout.names),
        notes=notes,
        dropped=len(notes),
    )


def _fit_width(row: list[str], number: int, delimiter: str, width: int) -> list[str]:
    """Fill up a row that is short; refuse one whose surplus fields are not empty."""
    if any(map(str.strip, row[width:])):
        raise SourceError(
            f"line {number} has {len(row)} fields where the header has {width}: {delimiter.join(row)[:80]!r}; "
            "numbers with thousands separators need quotes"
        )
    return row[:width] + [""] * (width - len(row))


def _is_cut_off(last_line: str, delimiter: str, width: int) -> bool:
    """Whether the last line has neither a line end nor all its fields, so that its last number may lack digits."""
    if last_line.endswith("\n"):
        return False
    return len(next(csv.reader([last_line], delimiter=delimiter), [])) < width


def read_parquet(data: bytes, symbol: str) -> Table:
    """Read the columns of prices of a Parquet file, and no others.

    Parameters
    ----------
    data
        The whole file.
    symbol
        Whose columns to take, where there are those of several symbols.

    Raises
    ------
    SourceError
        If the file is damaged, or is not a table of prices.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq  # type: ignore[import-untyped]

    try:
        with pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True) as file:
            names = file.schema_arrow.names
            types = dict(zip(names, file.schema_arrow.types, strict=True))
            header = ["date" if _is_dates(name, types[name]) else name for name in names]
            layout = find_layout([header], symbol)
            if layout is None:
                found = describe_missing([header]) or f"the columns {names}"
                raise SourceError(f"looked for {EXPECTED}; found {found}")
            if file.metadata.num_rows > MAX_ROWS:
                raise SourceError(
                    f"looked for daily prices of one symbol; found {file.metadata.num_rows} rows; cut the file"
                )
            fields = {field: names[column] for field, column in layout.columns.items()}
            arrow = file.read(columns=list(fields.values()))
        rows = range(1, arrow.num_rows + 1)
        cells = {field: _arrow_cells(arrow.column(name), field) for field, name in fields.items()}
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        raise SourceError(f"the Parquet file is damaged, or is none: {str(error)[:200]}") from error
    return Table({field: Column(name, cells[field], rows) for field, name in fields.items()})


def _is_dates(name: str, kind: pa.DataType) -> bool:
    """Return whether a column is the index without a name of a frame, and not its row numbers."""
    import pyarrow as pa

    return name.startswith("__index_level_") and not pa.types.is_integer(kind)


def _arrow_cells(column: pa.ChunkedArray, field: str) -> Sequence[str] | np.ndarray | pd.DatetimeIndex:
    """Return numbers and time stamps as such, and everything else as text."""
    import pyarrow as pa

    kind, is_number = column.type, field not in ("date", "symbol")
    if is_number and (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)):
        return np.asarray(column.cast(pa.float64(), safe=False).to_numpy(), dtype=np.float64)
    if not is_number and (pa.types.is_timestamp(kind) or pa.types.is_date(kind)):
        zone = getattr(kind, "tz", None)
        stamps = pd.DatetimeIndex(column.cast(pa.timestamp("us", tz=zone)).to_pandas())
        return stamps.rename(None)
    return ["" if text is None else text for text in column.cast(pa.string()).to_pylist()]
