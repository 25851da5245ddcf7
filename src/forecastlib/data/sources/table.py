"""A table as it was written, before its cells are read as dates or numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

MOST_ROWS = 1_000_000
"""Rows beyond which a table is refused, so that memory stays bounded: 100 years of sessions are 25,000."""


@dataclass(frozen=True)
class Column:
    """The cells of one column, and where each of them stands.

    Parameters
    ----------
    name
        The column's name as the table has it.
    cells
        Texts; or numbers or time stamps, where the table holds these.
    lines
        The line of each cell in its file, or its row in a table without lines; counted from 1.
    """

    name: str
    cells: Sequence[str] | np.ndarray | pd.DatetimeIndex
    lines: Sequence[int] | np.ndarray

    def texts(self) -> Sequence[str]:
        """Return the cells as texts."""
        if isinstance(self.cells, (np.ndarray, pd.DatetimeIndex)):
            return list(map(str, self.cells))
        return self.cells

    def at(self, position: int) -> str:
        """Word where a cell stands, with its content, for a message.

        Examples
        --------
        >>> Column("Open", ["1.5", "x"], [2, 3]).at(1)
        "line 3, column 'Open': 'x'"
        """
        text = str(self.cells[position])
        shown = text if len(text) <= 40 else text[:40] + "..."
        return f"line {self.lines[position]}, column {self.name!r}: {shown!r}"

    def keep(self, mask: np.ndarray) -> Column:
        """Return the column with only those cells whose mask is true."""
        positions = np.flatnonzero(mask)
        lines = np.asarray(self.lines)[positions]
        if isinstance(self.cells, (np.ndarray, pd.DatetimeIndex)):
            return Column(self.name, self.cells[positions], lines)
        return Column(self.name, [self.cells[position] for position in positions.tolist()], lines)


@dataclass(frozen=True)
class Table:
    """The columns of prices of a table.

    Parameters
    ----------
    columns
        The fields that are there: ``date open high low close``, and perhaps ``adjusted volume symbol``.
    delimiter
        What separates the columns in a text file; empty for other tables.
    notes
        What is to be known about how the table was read, one sentence each.
    dropped
        Number of rows already left out, which the notes explain.
    """

    columns: dict[str, Column]
    delimiter: str = ""
    notes: list[str] = field(default_factory=list)
    dropped: int = 0
