"""Letting one process at a time do something, on one machine."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

PATIENCE = 600.0
"""Seconds to wait for another process."""


@contextlib.contextmanager
def alone(file: Path, patience: float = PATIENCE) -> Iterator[None]:
    """Work while no other process or thread works under the same lock file.

    The file is an empty SQLite database: its lock is the one kind that the standard library offers on every system
    and that ends with the process, however it ends.

    Parameters
    ----------
    file
        The lock file; it and its folder are made if they are not there, and stay.
    patience
        Seconds to wait for another one to finish.

    Raises
    ------
    TimeoutError
        If the other one has not finished by then.
    OSError
        If the file cannot be made or written.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as held:
        try:
            connection = sqlite3.connect(file, timeout=patience, isolation_level=None)
            held.callback(connection.close)
            connection.execute("BEGIN EXCLUSIVE")
        except sqlite3.DatabaseError as error:
            if error.sqlite_errorcode == sqlite3.SQLITE_BUSY:
                raise TimeoutError(f"another process has worked under {file} for more than {patience:g} s") from None
            raise OSError(f"{file} cannot be used as a lock: {error}") from None
        yield
