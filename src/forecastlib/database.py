"""Databases, SQLite or PostgreSQL: their URLs without secrets, and transactions that begin when they should."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, quote_plus

from forecastlib.errors import ConfigError

if TYPE_CHECKING:
    from sqlalchemy import URL, Connection, Engine

_DRIVERS = {"sqlite": "sqlite", "postgresql": "postgresql+psycopg", "postgres": "postgresql+psycopg"}
_SECRET = re.compile(r"pass|secret|token|key", re.IGNORECASE)
_CONNECT_SECONDS = 30

PATIENCE = 30.0
"""Seconds to wait for others who write."""


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


def file_of(url: URL) -> str | None:
    """Return the file of an SQLite database; None for one in memory, or for another kind of database."""
    file = url.database if url.get_backend_name() == "sqlite" else None
    return file if file and file != ":memory:" and not file.startswith("file:") else None


def open_engine(url: URL, *, keep_connections: bool = False, patience: float = PATIENCE) -> Engine:
    """Return an engine whose transactions begin at their beginning; those of :func:`writing` with the lock.

    Parameters
    ----------
    url
        Of :func:`parse_url`.
    keep_connections
        Whether to pool connections, for an engine that is used again and again, by several threads.
    patience
        Seconds to wait for others who hold a lock; what was to be done then fails, and can be tried again.

    Raises
    ------
    ModuleNotFoundError
        If the driver of PostgreSQL is not installed; the message says how to.
    """
    import sqlalchemy as sa

    options: dict[str, Any] = {} if keep_connections else {"poolclass": sa.NullPool}
    if url.get_backend_name() == "postgresql":
        # What the URL says of these itself is the operator's wish.
        usual = {"connect_timeout": _CONNECT_SECONDS, "options": f"-c lock_timeout={int(1000 * patience)}"}
        waiting = {name: value for name, value in usual.items() if name not in url.query}
        try:
            # A server may have closed what was kept: look before each use.
            return sa.create_engine(url, connect_args=waiting, pool_pre_ping=keep_connections, **options)
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(f"{error}; pip install 'forecastlib[postgres]'") from None
    if keep_connections and file_of(url) is None:  # in memory: what another connection would not see
        options["poolclass"] = sa.StaticPool
    engine = sa.create_engine(url, connect_args={"timeout": patience, "check_same_thread": False}, **options)

    # Python's sqlite3 begins a transaction late, and none around CREATE TABLE: begin it here; to write, with the lock.
    @sa.event.listens_for(engine, "connect")
    def _no_implicit_begin(connection: Any, _: Any) -> None:
        connection.isolation_level = None

    @sa.event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        options = connection.get_execution_options()
        if options.get("isolation_level") != "AUTOCOMMIT":
            connection.exec_driver_sql("BEGIN IMMEDIATE" if options.get("write") else "BEGIN")

    return engine


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """Open a transaction that will write: on SQLite it waits for others at its beginning, not half-way."""
    with engine.execution_options(write=True).begin() as connection:
        yield connection


def reason_of(error: Exception, url: URL) -> str:
    """Return what a driver had to say, without the secrets of the URL."""
    text = str(getattr(error, "orig", None) or error).strip()
    values = [str(url.password or "")]
    for name, value in url.query.items():
        if _SECRET.search(name):
            values += [value] if isinstance(value, str) else value
    for secret in values:
        for form in {secret, quote(secret, safe=""), quote_plus(secret)} - {""}:
            text = text.replace(form, "***")
    return text
