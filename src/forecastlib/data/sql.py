"""Prices in a database: the table ``prices(symbol, date, open, high, low, close, volume)`` of SQLite or PostgreSQL."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from forecastlib.data.cells import Column, parse_dates
from forecastlib.data.prices import COLUMNS, Day, require_prices, serve_prices
from forecastlib.database import driver_message, masked, open_engine, parse_url, sqlite_file, write_transaction
from forecastlib.errors import SourceError

if TYPE_CHECKING:
    from sqlalchemy import URL, Connection, Table

ROWS_PER_STATEMENT = 1_000

_HINT = "write it with `forecastlib import SOURCE --into sql:URL`"
_IMPORT_LOCK = 0x666F7265  # an arbitrary constant of this project: PostgreSQL runs imports one after the other


class SqlSource:
    """Daily prices from the table ``prices`` of a database.

    Parameters
    ----------
    url
        SQLAlchemy's URL: ``sqlite:///prices.db``, ``postgresql://user:password@host/database``.
    """

    def __init__(self, url: str) -> None:
        self._url = parse_url(url)
        self.name = f"sql:{masked(self._url)}"

    def fetch(self, symbol: str, start: Day = None, end: Day = None) -> pd.DataFrame:
        """Return the rows of one symbol; see :meth:`Source.fetch`."""
        import sqlalchemy as sa

        # Columns are named, not reflected: a table that others wrote may hold dates as text or as time stamps.
        columns: list[sa.ColumnClause[Any]] = [sa.column(name) for name in ("date", *COLUMNS)]
        query = sa.select(*columns).select_from(sa.table("prices")).where(sa.column("symbol") == symbol)
        with _transaction(self._url) as connection:
            rows = connection.execute(query).all()
            known = [] if rows else _symbols(connection, limit=10)
        if not rows:
            raise SourceError(f"{self.name} has no rows of {symbol!r}; it has {', '.join(known) or 'no rows at all'}")
        dates, *values = zip(*rows, strict=True)
        try:
            index = parse_dates(Column("date", [_text(date) for date in dates], range(1, len(rows) + 1)))
            frame = pd.DataFrame(
                {name: np.array(column, dtype=np.float64) for name, column in zip(COLUMNS, values, strict=True)},
                index=index,
            )
        except (ValueError, TypeError) as error:
            raise SourceError(f"{self.name}: the prices of {symbol} are not all numbers: {error}") from None
        except SourceError as error:
            raise SourceError(f"{self.name}, symbol {symbol}: {error}") from None
        return serve_prices(frame, symbol, self.name, start=start, end=end)

    def version(self) -> str:
        """Return a text that changes with an SQLite file; empty for a server, whose state is not known."""
        if self._url.get_backend_name() != "sqlite" or not self._url.database:
            return ""
        files = [self._url.database + suffix for suffix in ("", "-wal")]
        states = [Path(file).stat() for file in files if _is_file(file)]
        return ",".join(f"{state.st_mtime_ns}:{state.st_size}" for state in states)

    def symbols(self) -> list[str]:
        """List the symbols that have rows."""
        with _transaction(self._url) as connection:
            return _symbols(connection)


def import_prices(prices: pd.DataFrame | Iterable[pd.DataFrame], url: str) -> int:
    """Write prices into the table ``prices`` of a database, which is created if it does not exist.

    A session that exists already gets the new values, so an import can be repeated. An import is one transaction:
    whatever ends it early, even a killed process, leaves the table as it was.

    Parameters
    ----------
    prices
        Prices of one symbol, or several such frames; ``attrs["symbol"]`` of each names its symbol. Missing values
        become NULL.
    url
        SQLAlchemy's URL of the database.

    Returns
    -------
    int
        Number of rows written.

    Raises
    ------
    DataQualityError
        If a frame does not have the shape of prices.
    SourceError
        If the database cannot be reached or written.
    """
    frames = [prices] if isinstance(prices, pd.DataFrame) else list(prices)
    for frame in frames:
        require_prices(frame, complete=False)
        if not frame.attrs.get("symbol"):
            raise SourceError("expected attrs['symbol'] to name the symbol of the prices; set it")
    rows = (row for frame in frames for row in _rows(frame))
    written = 0
    with _transaction(parse_url(url), write=True) as connection:
        table = _table()
        table.create(connection, checkfirst=True)
        statement = _upsert(connection, table)
        while batch := list(islice(rows, ROWS_PER_STATEMENT)):
            connection.execute(statement, batch)
            written += len(batch)
    return written


@contextmanager
def _transaction(url: URL, *, write: bool = False) -> Iterator[Connection]:
    """Open a connection with one transaction around its use; errors of the driver are reported without secrets.

    Raises
    ------
    SourceError
        If the database cannot be reached, read or written.
    """
    import sqlalchemy as sa

    name, file = masked(url), sqlite_file(url)
    if not write and file and not _is_file(file):
        raise SourceError(f"sql:{name}: there is no such file; {_HINT}")
    try:
        engine = open_engine(url)
    except ModuleNotFoundError as error:
        raise SourceError(f"sql:{name}: {error}") from None
    try:
        with write_transaction(engine) if write else engine.begin() as connection:
            if write and url.get_backend_name() == "postgresql":
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_IMPORT_LOCK)))
            yield connection
    except sa.exc.SQLAlchemyError as error:
        reason = driver_message(error, url)
        hint = f"; {_HINT}" if _no_table(reason) else ""
        raise SourceError(f"sql:{name}: {reason}{hint}") from None
    finally:
        engine.dispose()


def _is_file(file: str) -> bool:
    try:
        return Path(file).is_file()
    except (OSError, ValueError):
        return False


def _no_table(reason: str) -> bool:
    return "no such table" in reason or 'relation "prices" does not exist' in reason


def _table() -> Table:
    import sqlalchemy as sa

    numbers = [sa.Column(name, sa.Double) for name in COLUMNS]
    return sa.Table(
        "prices",
        sa.MetaData(),
        sa.Column("symbol", sa.String(64), primary_key=True),
        sa.Column("date", sa.Date, primary_key=True),
        *numbers,
    )


def _upsert(connection: Connection, table: Table) -> Any:
    from sqlalchemy.dialects import postgresql, sqlite

    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    statement = dialect.insert(table)
    return statement.on_conflict_do_update(
        index_elements=["symbol", "date"], set_={name: statement.excluded[name] for name in COLUMNS}
    )


def _rows(frame: pd.DataFrame) -> Iterator[dict[str, Any]]:
    symbol = frame.attrs["symbol"]
    values = frame[list(COLUMNS)].astype(object).where(frame[list(COLUMNS)].notna(), None)
    for date, row in zip(pd.DatetimeIndex(frame.index).date, values.itertuples(index=False, name=None), strict=True):
        yield {"symbol": symbol, "date": date, **dict(zip(COLUMNS, row, strict=True))}


def _symbols(connection: Connection, limit: int | None = None) -> list[str]:
    import sqlalchemy as sa

    symbol: sa.ColumnClause[Any] = sa.column("symbol")
    query = sa.select(symbol).distinct().select_from(sa.table("prices")).order_by(symbol).limit(limit)
    return [str(name) for name in connection.execute(query).scalars()]


def _text(date: object) -> str:
    """Return as text what a driver returns for a date: text, a date, or a time stamp."""
    return date.isoformat() if isinstance(date, dt.date) else str(date)
