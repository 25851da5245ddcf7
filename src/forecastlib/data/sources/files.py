"""Prices from files: a CSV or Parquet file, or a folder with one for each symbol."""

from __future__ import annotations

from pathlib import Path, PurePosixPath, PureWindowsPath

import pandas as pd

from forecastlib.config import Adjust
from forecastlib.data.sources.assembly import assemble
from forecastlib.data.sources.base import Day, served
from forecastlib.data.sources.parquet import read_parquet
from forecastlib.data.sources.table import Table
from forecastlib.data.sources.tabular import read_table
from forecastlib.errors import DataQualityError, SourceError

SUFFIXES = (".csv", ".parquet")
_MOST_BYTES = 64 * 2**20


class FileSource:
    """Daily prices from a CSV or Parquet file, or from a folder of ``SYMBOL.csv`` and ``SYMBOL.parquet``.

    Parameters
    ----------
    path
        The file or the folder.
    date_format
        How dates are written, as ``strptime`` has it; None: the column decides.
    decimal
        The sign in front of decimals, ``"."`` or ``","``; None: the columns decide.
    adjust
        Whether prices are scaled by the adjusted close: ``"auto"``, ``"none"`` or ``"close"``, see
        :func:`forecastlib.data.sources.assembly.adjusted`.
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
            table = _read(path, symbol)
            frame, notes = assemble(
                table, symbol, date_format=self._date_format, decimal=self._decimal, adjust=self._adjust
            )
        except (SourceError, DataQualityError) as error:
            raise type(error)(f"{path}: {error}") from error
        return served(frame, symbol, self.name, start=start, end=end, **notes)

    def symbols(self) -> list[str]:
        """List the symbols that the folder has a file of."""
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
            files = [self.path / f"{symbol}{suffix}" for suffix in SUFFIXES]
            there = [file for file in files if file.is_file()]
        except (OSError, ValueError) as error:  # a name that no file system takes
            raise SourceError(f"{self.name}: {symbol!r} cannot be looked up: {error}") from error
        if len(there) == 1:
            return there[0]
        names = " and ".join(file.name for file in there or files)
        if there:
            raise SourceError(f"{self.name} has both {names}; remove the one that is not meant")
        known = self.symbols()
        listed = f"{', '.join(known[:10])}{', ...' if len(known) > 10 else ''}" if known else "no such file at all"
        raise SourceError(f"{self.name}: looked for {names.replace(' and ', ' or ')}; the folder has {listed}")


def _read(path: Path, symbol: str) -> Table:
    try:
        size = path.stat().st_size
        if size > _MOST_BYTES:
            raise SourceError(
                f"looked for daily prices of one symbol; found {size / 2**20:.0f} MB, more than "
                f"{_MOST_BYTES / 2**20:.0f}; cut the file to one symbol's daily rows"
            )
        data = path.read_bytes()
    except OSError as error:
        raise SourceError(f"the file cannot be read: {error.strerror}") from error
    if data.startswith(b"PAR1") or path.suffix.lower() == ".parquet":
        return read_parquet(data, symbol)
    return read_table(data, symbol)
