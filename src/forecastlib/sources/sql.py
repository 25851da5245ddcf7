"""Prices in a database: the table ``prices(symbol, date, open, high, low, close, volume)`` of SQLite or PostgreSQL."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, quote_plus

import numpy as np
import pandas as pd

from forecastlib.errors import ConfigError, SourceError
from forecastlib.prices import COLUMNS, require_prices
from forecastlib.sources.base import Day, served
from forecastlib.sources.dates import parse_dates
from forecastlib.sources.table import Column

if TYPE_CHECKING:
    from sqlalchemy import URL, Connection, Engine, Table

_DRIVERS = {"sqlite": "sqlite", "postgresql": "postgresql+psycopg", "postgres": "postgresql+psycopg"}
_SECRET = re.compile(r"pass|secret|token|key", re.IGNORECASE)
_WRITE_IT = "write it with `forecastlib import SOURCE --into sql:URL`"
_WAIT_SECONDS = 30
_ROWS_AT_ONCE = 1_000
_LOCK = 0x666F7265  # any constant of our own: imports into one PostgreSQL database go one after the other


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

        # Columns are named, not reflected: a table of another origin may hold dates as text or as time stamps.
        wanted: list[sa.ColumnClause[Any]] = [sa.column(name) for name in ("date", *COLUMNS)]
        query = sa.select(*wanted).select_from(sa.table("prices")).where(sa.column("symbol") == symbol)
        with connected(self._url) as connection:
            rows = connection.execute(query).all()
            known = [] if rows else _symbols(connection, most=10)
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
        return served(frame, symbol, self.name, start=start, end=end)

    def version(self) -> str:
        """Tell one state of an SQLite file from another; a server's state is not known, and the answer is empty."""
        if self._url.get_backend_name() != "sqlite" or not self._url.database:
            return ""
        files = [Path(self._url.database + suffix) for suffix in ("", "-wal")]
        states = [file.stat() for file in files if _exists(str(file))]
        return ",".join(f"{state.st_mtime_ns}:{state.st_size}" for state in states)

    def symbols(self) -> list[str]:
        """List the symbols that have rows."""
        with connected(self._url) as connection:
            return _symbols(connection)


def import_prices(prices: pd.DataFrame | Iterable[pd.DataFrame], url: str) -> int:
    """Write prices into the table ``prices`` of a database, which is made if it is not there.

    A session that is there already gets the new values, so an import can be repeated. All of it is one transaction:
    whatever ends it early, even the end of the process, leaves the table as it was.

    Parameters
    ----------
    prices
        Prices of one symbol, or several such frames; ``attrs["symbol"]`` says of which symbol each is. Missing values
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
            raise SourceError("expected attrs['symbol'] to say of which symbol prices are; set it")
    rows = (row for frame in frames for row in _rows(frame))
    written = 0
    with connected(parse_url(url), write=True) as connection:
        table = _table()
        table.create(connection, checkfirst=True)
        statement = _upsert(connection, table)
        while batch := list(islice(rows, _ROWS_AT_ONCE)):
            connection.execute(statement, batch)
            written += len(batch)
    return written


def parse_url(url: str) -> URL:
    """Read a database's URL and name its driver.

    Raises
    ------
    ConfigError
        If it is none of SQLite or PostgreSQL; the URL is not repeated, as it may hold a password.
    """
    import sqlalchemy as sa

    try:
        parsed = sa.make_url(url.removeprefix("sql:"))
        driver = _DRIVERS.get(parsed.drivername, parsed.drivername)
        backend = driver.partition("+")[0]
    except (sa.exc.ArgumentError, ValueError):
        backend = ""
    if backend not in _DRIVERS:
        raise ConfigError(
            "expected a database as sqlite:///FILE or postgresql://USER:PASSWORD@HOST/DATABASE; "
            f"got {f'one of {backend}' if backend else 'something else'}"
        )
    return parsed.set(drivername=driver)


def masked(url: URL) -> str:
    """Write a database's URL without its secrets.

    Examples
    --------
    >>> masked(parse_url("postgresql://ann:hunter2@db/prices?sslpassword=x"))
    'postgresql://ann:***@db/prices?sslpassword=***'
    """
    query = {name: "***" if _SECRET.search(name) else value for name, value in url.query.items()}
    shown = url.set(query=query, drivername=url.drivername.partition("+")[0])
    return shown.render_as_string(hide_password=True).replace("%2A%2A%2A", "***")


@contextmanager
def connected(url: URL, *, write: bool = False) -> Iterator[Connection]:
    """Open a connection with one transaction around its use, wording what the driver raises without secrets.

    Raises
    ------
    SourceError
        If the database cannot be reached, read or written.
    """
    import sqlalchemy as sa

    name = masked(url)
    file = url.database if url.get_backend_name() == "sqlite" else None
    if not write and file and file != ":memory:" and not file.startswith("file:") and not _exists(file):
        raise SourceError(f"sql:{name}: there is no such file; {_WRITE_IT}")
    try:
        engine = _engine(url, write=write)
    except ModuleNotFoundError as error:
        raise SourceError(f"sql:{name}: {error}; pip install 'forecastlib[postgres]'") from None
    try:
        with engine.begin() as connection:
            if write and url.get_backend_name() == "postgresql":
                connection.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
            yield connection
    except sa.exc.SQLAlchemyError as error:
        reason = str(getattr(error, "orig", None) or error).strip()
        hint = f"; {_WRITE_IT}" if _no_table(reason) else ""
        raise SourceError(f"sql:{name}: {_without_secrets(reason, url)}{hint}") from None
    finally:
        engine.dispose()


def _exists(file: str) -> bool:
    try:
        return Path(file).is_file()
    except (OSError, ValueError):
        return False


def _no_table(reason: str) -> bool:
    return "no such table" in reason or 'relation "prices" does not exist' in reason


def _without_secrets(text: str, url: URL) -> str:
    values = [str(url.password or "")]
    for name, value in url.query.items():
        if _SECRET.search(name):
            values += [value] if isinstance(value, str) else value
    for secret in values:
        for form in {secret, quote(secret, safe=""), quote_plus(secret)} - {""}:
            text = text.replace(form, "***")
    return text


def _engine(url: URL, *, write: bool) -> Engine:
    import sqlalchemy as sa

    if url.get_backend_name() == "postgresql":
        waiting: dict[str, Any] = {} if "connect_timeout" in url.query else {"connect_timeout": _WAIT_SECONDS}
        return sa.create_engine(url, poolclass=sa.NullPool, connect_args=waiting)
    engine = sa.create_engine(url, poolclass=sa.NullPool, connect_args={"timeout": _WAIT_SECONDS})

    # Python's sqlite3 begins a transaction late, and none around CREATE TABLE: begin it here; to write, with the lock.
    @sa.event.listens_for(engine, "connect")
    def _no_implicit_begin(connection: Any, _: Any) -> None:
        connection.isolation_level = None

    @sa.event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")

    return engine


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


def _symbols(connection: Connection, most: int | None = None) -> list[str]:
    import sqlalchemy as sa

    symbol: sa.ColumnClause[Any] = sa.column("symbol")
    query = sa.select(symbol).distinct().select_from(sa.table("prices")).order_by(symbol).limit(most)
    return [str(name) for name in connection.execute(query).scalars()]


def _text(date: object) -> str:
    """Write what a driver returns for a date: text, a date, or a time stamp."""
    return date.isoformat() if isinstance(date, dt.date) else str(date)
