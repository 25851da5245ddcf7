"""The columns of prices of a Parquet file, with whatever types it has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from forecastlib.data.sources.header import EXPECTED, find_layout, lacking
from forecastlib.data.sources.table import MOST_ROWS, Column, Table
from forecastlib.errors import SourceError

if TYPE_CHECKING:
    import pyarrow as pa  # type: ignore[import-untyped]


def read_parquet(data: bytes, symbol: str) -> Table:
    """Read the columns of prices of a Parquet file, and no others.

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
        If the file is damaged, or is no table of prices.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq  # type: ignore[import-untyped]

    try:
        with pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True) as file:
            names = file.schema_arrow.names
            header = ["date" if name.startswith("__index_level_") else name for name in names]  # an index without name
            layout = find_layout([header], symbol)
            if layout is None:
                raise SourceError(f"looked for {EXPECTED}; found {lacking([header]) or f'the columns {names}'}")
            if file.metadata.num_rows > MOST_ROWS:
                raise SourceError(
                    f"looked for daily prices of one symbol; found {file.metadata.num_rows} rows; cut them"
                )
            fields = {field: names[column] for field, column in layout.columns.items()}
            arrow = file.read(columns=list(fields.values()))
        rows = range(1, arrow.num_rows + 1)
        cells = {field: _cells(arrow.column(name), number=_is_number(field)) for field, name in fields.items()}
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        raise SourceError(f"the Parquet file is damaged, or is none: {str(error)[:200]}") from error
    return Table({field: Column(name, cells[field], rows) for field, name in fields.items()})


def _is_number(field: str) -> bool:
    return field not in ("date", "symbol")


def _cells(column: pa.ChunkedArray, *, number: bool) -> Sequence[str] | np.ndarray | pd.DatetimeIndex:
    """Take numbers and time stamps as they are, and everything else as text."""
    import pyarrow as pa

    kind = column.type
    if number and (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)):
        return np.asarray(column.cast(pa.float64(), safe=False).to_numpy(), dtype=np.float64)
    if not number and (pa.types.is_timestamp(kind) or pa.types.is_date(kind)):
        zone = getattr(kind, "tz", None)
        stamps = pd.DatetimeIndex(column.cast(pa.timestamp("us", tz=zone)).to_pandas())
        return stamps.rename(None)
    return ["" if text is None else text for text in column.cast(pa.string()).to_pylist()]
