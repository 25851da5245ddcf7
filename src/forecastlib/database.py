"""SQLite and PostgreSQL databases: URLs, engines with well-defined transactions, errors without secrets."""

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

LOCK_SECONDS = 30.0
"""Seconds to wait for other writers by default."""


def parse_url(url: str) -> URL:
    """Parse the URL of a database and set its driver.

    Raises
    ------
    ConfigError
        If the database is neither SQLite nor PostgreSQL. The message does not repeat the URL, which may contain a
        password.
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
            f"got {f'a URL of {backend}' if backend else 'something else'}"
        )
    return parsed.set(drivername=driver)


def masked(url: URL) -> str:
    """Return the URL of a database as text, without its secrets.

    Examples
    --------
    >>> masked(parse_url("postgresql://ann:hunter2@db/prices?sslpassword=x"))
    'postgresql://ann:***@db/prices?sslpassword=***'
    """
    query = {name: "***" if _SECRET.search(name) else value for name, value in url.query.items()}
    shown = url.set(query=query, drivername=url.drivername.partition("+")[0])
    return shown.render_as_string(hide_password=True).replace("%2A%2A%2A", "***")


def sqlite_file(url: URL) -> str | None:
    """Return the file of an SQLite database; None for a database in memory or of another kind."""
    file = url.database if url.get_backend_name() == "sqlite" else None
    return file if file and file != ":memory:" and not file.startswith("file:") else None


def open_engine(url: URL, *, pooled: bool = False, timeout: float = LOCK_SECONDS) -> Engine:
    """Create an engine whose transactions begin when they are opened; see also :func:`write_transaction`.

    Parameters
    ----------
    url
        As returned by :func:`parse_url`.
    pooled
        Whether to keep connections open between transactions, for an engine that is used repeatedly or by several
        threads.
    timeout
        Seconds to wait for a lock held by another connection. A transaction that waits longer fails and can be
        retried.

    Raises
    ------
    ModuleNotFoundError
        If the PostgreSQL driver is not installed; the message says how to install it.
    """
    import sqlalchemy as sa

    options: dict[str, Any] = {} if pooled else {"poolclass": sa.NullPool}
    if url.get_backend_name() == "postgresql":
        # Settings in the URL itself take precedence.
        defaults = {"connect_timeout": _CONNECT_SECONDS, "options": f"-c lock_timeout={int(1000 * timeout)}"}
        arguments = {name: value for name, value in defaults.items() if name not in url.query}
        try:
            # The server may have closed a pooled connection in the meantime: check each one before use.
            return sa.create_engine(url, connect_args=arguments, pool_pre_ping=pooled, **options)
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(f"{error}; pip install 'forecastlib[postgres]'") from None
    if pooled and sqlite_file(url) is None:  # each new connection would open another, empty database in memory
        options["poolclass"] = sa.StaticPool
    engine = sa.create_engine(url, connect_args={"timeout": timeout, "check_same_thread": False}, **options)

    # Python's sqlite3 begins a transaction late, and none for CREATE TABLE. Begin it explicitly instead.
    @sa.event.listens_for(engine, "connect")
    def _disable_implicit_begin(connection: Any, _: Any) -> None:
        connection.isolation_level = None

    @sa.event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        options = connection.get_execution_options()
        if options.get("isolation_level") != "AUTOCOMMIT":
            connection.exec_driver_sql("BEGIN IMMEDIATE" if options.get("write") else "BEGIN")

    return engine


@contextmanager
def write_transaction(engine: Engine) -> Iterator[Connection]:
    """Open a transaction that will write. On SQLite it takes the write lock at its beginning, not half-way."""
    with engine.execution_options(write=True).begin() as connection:
        yield connection


def driver_message(error: Exception, url: URL) -> str:
    """Return the message of a database driver's error, without the secrets of the URL."""
    text = str(getattr(error, "orig", None) or error).strip()
    values = [str(url.password or "")]
    for name, value in url.query.items():
        if _SECRET.search(name):
            values += [value] if isinstance(value, str) else value
    for secret in values:
        for form in {secret, quote(secret, safe=""), quote_plus(secret)} - {""}:
            text = text.replace(form, "***")
    return text
