"""The ledger: recording, settling and finding forecasts."""

from __future__ import annotations

import datetime as dt
import os
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any, Self

import pandas as pd
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from forecastlib.data.prices import require_prices
from forecastlib.database import (
    LOCK_SECONDS,
    driver_message,
    masked,
    open_engine,
    parse_url,
    sqlite_file,
    write_transaction,
)
from forecastlib.errors import ConfigError, DataQualityError, LedgerError
from forecastlib.forecasts import COVERAGES, require_forecasts
from forecastlib.ledger import scores
from forecastlib.ledger.rows import COLUMNS, frame_from_rows, outcomes, parse_date, rows_from_forecasts
from forecastlib.ledger.tables import FORECASTS, KEY, REQUESTS, migrate
from forecastlib.paths import file_lock, project_root

LEDGER_VARIABLE = "FORECASTLIB_LEDGER"

Day = str | dt.date | None


class Ledger:
    """A database of forecasts and their outcomes; several threads and processes may use it at once.

    A forecast is identified by its symbol, origin, horizon and model version. Making it again gives the same numbers,
    so recording it again changes nothing.

    Parameters
    ----------
    url
        ``sqlite:///FILE`` (a relative path starts at the project's root) or ``postgresql://USER:PASSWORD@HOST/NAME``.
        None: the value of the variable ``FORECASTLIB_LEDGER``, else ``mlruns/ledger.db`` in the project. Opening the
        ledger creates its tables, or migrates those of an earlier version.
    timeout
        Seconds to wait for other writers. After that a call raises :class:`LedgerError`, and nothing has been written.

    Attributes
    ----------
    name : str
        The URL without its secrets.

    Raises
    ------
    ConfigError
        If the URL is of another kind of database.
    LedgerError
        If the database cannot be used, when it is opened or in any later call.

    Examples
    --------
    >>> ledger = Ledger()                                # doctest: +SKIP
    >>> ledger.record(forecaster.predict(prices))        # doctest: +SKIP
    3
    >>> ledger.settle(later_prices)                      # doctest: +SKIP
    3
    >>> ledger.scorecard(symbol="^IXIC")                 # doctest: +SKIP
    """

    def __init__(self, url: str | None = None, *, timeout: float = LOCK_SECONDS) -> None:
        root = project_root()
        self._url = parse_url(url or os.environ.get(LEDGER_VARIABLE) or f"sqlite:///{root / 'mlruns' / 'ledger.db'}")
        self.name = masked(self._url)
        # A database in memory has a single connection, which threads must not use at the same time.
        self._connection_lock: AbstractContextManager[Any] = nullcontext()
        file = sqlite_file(self._url)
        if file:
            path = root / Path(file).expanduser()  # absolute, as the working directory may change
            self._url = self._url.set(database=str(path))
        elif self._url.get_backend_name() == "sqlite":
            self._connection_lock = threading.Lock()
        try:
            # Two processes that switch a new file to write-ahead logging at the same time block each other.
            with file_lock(path.with_suffix(".lock")) if file else nullcontext(), self._driver_errors():
                self._engine = open_engine(self._url, pooled=True, timeout=timeout)
                self._prepare(write_ahead=bool(file))
        except OSError as error:
            raise LedgerError(f"ledger {self.name}: {error}") from None

    def _prepare(self, *, write_ahead: bool) -> None:
        """Prepare the database; if that fails, leave no connection open."""
        with ExitStack() as on_failure:
            on_failure.callback(self._engine.dispose)
            if write_ahead:
                with self._engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
                    connection.exec_driver_sql("PRAGMA journal_mode = WAL")
            migrate(self._engine)
            on_failure.pop_all()

    def record(self, forecasts: pd.DataFrame, requested_by: str | None = None) -> int:
        """Store forecasts. If any row fails, none is stored.

        Parameters
        ----------
        forecasts
            A forecast frame. The columns ``model`` and ``consistency``, ``attrs["direction_threshold"]`` and
            ``attrs["known_until"]`` are stored too if there are any.
        requested_by
            The user who requested them. If several users request the same forecast, each finds it among their own,
            and ``history`` shows the first one unless asked for another.

        Returns
        -------
        int
            Number of forecasts that were not in the ledger before.

        Raises
        ------
        DataQualityError
            If it is not a forecast frame.
        """
        require_forecasts(forecasts)
        rows = list(rows_from_forecasts(forecasts, requested_by))
        with self._writing() as connection:
            # Counted by the rows that are returned: drivers disagree on the row count of executing many statements.
            added = connection.execute(self._insert(FORECASTS).returning(FORECASTS.c.horizon), rows).all()
            if requested_by is not None:
                requests = [{name: row[name] for name in ("requested_by", *KEY)} for row in rows]
                connection.execute(self._insert(REQUESTS), requests)
        return len(added)

    def settle(self, prices: pd.DataFrame) -> int:
        """Store the outcome of the pending forecasts of a symbol whose target session is in the prices.

        The target is the session ``horizon`` rows after the origin in ``prices``, as in
        :func:`~forecastlib.evaluation.evaluate.evaluate`. A settled forecast never changes. If the prices have been
        adjusted since the forecast was made (a split, a dividend), so that the close of the origin differs, the actual
        price is converted to the level of that time, which preserves the return.

        Parameters
        ----------
        prices
            Prices of the symbol in ``attrs["symbol"]``.

        Returns
        -------
        int
            Number of forecasts settled.

        Raises
        ------
        DataQualityError
            If the prices are invalid or do not state their symbol.

        Examples
        --------
        A forecast with the origin in row t and h = 7 gets the close of row t + 7. If the frame ends before that row, or
        does not contain the origin, the forecast remains pending.
        """
        require_prices(prices)
        symbol = prices.attrs.get("symbol")
        if not symbol:
            raise DataQualityError("expected the symbol of the prices in attrs['symbol']; got none; set it")
        columns = [FORECASTS.c[name] for name in (*KEY, "last_close")]
        pending = sa.select(*columns).where(FORECASTS.c.symbol == symbol, FORECASTS.c.settled_at.is_(None))
        with self._writing() as connection:
            rows = connection.execute(pending.order_by(*(FORECASTS.c[name] for name in KEY)).with_for_update()).all()
            found = outcomes(pd.DataFrame(rows, columns=[column.name for column in columns]), prices)
            if found:
                now = dt.datetime.now(dt.UTC)
                same = [FORECASTS.c[name] == sa.bindparam(f"of_{name}") for name in KEY]
                change = sa.update(FORECASTS).where(*same).values(actual_price=sa.bindparam("actual"), settled_at=now)
                connection.execute(change, found)
        return len(found)

    def history(
        self,
        *,
        symbol: str | None = None,
        version: str | None = None,
        requested_by: str | None = None,
        since: Day = None,
        until: Day = None,
        settled: bool | None = None,
        hindsight: bool | None = None,
        limit: int | None = None,
        offset: int = 0,
    ) -> pd.DataFrame:
        """Find forecasts, the most recently recorded first.

        Parameters
        ----------
        symbol, version
            Only forecasts of this symbol and this model version (``v1.0.0_...``).
        requested_by
            Only forecasts that this user requested.
        since, until
            First and last origin, both included.
        settled
            Whether the outcome is known; None: either.
        hindsight
            Whether prices of sessions after the origin were known when the forecast was made, as with an ``as_of`` in
            the past; None: either. A forecast without ``known_until`` does not count as made in hindsight.
        limit, offset
            Return at most ``limit`` rows after skipping ``offset``.

        Returns
        -------
        DataFrame
            The columns :data:`~forecastlib.ledger.rows.COLUMNS`; time stamps in UTC.
        """
        where = _conditions(symbol, version, since, until, settled, hindsight)
        if (limit is not None and limit < 0) or offset < 0:
            raise ConfigError(f"expected limit and offset of at least 0; got limit={limit}, offset={offset}")
        query = self._for_user(sa.select(*(FORECASTS.c[name] for name in COLUMNS)), requested_by).where(*where)
        newest_first = [FORECASTS.c[name].desc() for name in ("recorded_at", "origin")]
        query = query.order_by(*newest_first, *(FORECASTS.c[name] for name in ("symbol", "model_version", "horizon")))
        with self._reading() as connection:
            rows = connection.execute(query.limit(limit).offset(offset)).all()
        frame = frame_from_rows(rows)
        return frame if requested_by is None else frame.assign(requested_by=requested_by)

    def count(
        self,
        *,
        symbol: str | None = None,
        version: str | None = None,
        requested_by: str | None = None,
        since: Day = None,
        until: Day = None,
        settled: bool | None = None,
        hindsight: bool | None = None,
    ) -> int:
        """Count forecasts; the parameters are those of :meth:`history`."""
        where = _conditions(symbol, version, since, until, settled, hindsight)
        query = self._for_user(sa.select(sa.func.count()).select_from(FORECASTS), requested_by).where(*where)
        with self._reading() as connection:
            return int(connection.execute(query).scalar_one())

    def symbols(self) -> list[str]:
        """Return the symbols that have forecasts."""
        query = sa.select(FORECASTS.c.symbol).distinct().order_by(FORECASTS.c.symbol)
        with self._reading() as connection:
            return [str(symbol) for symbol in connection.execute(query).scalars()]

    def scorecard(
        self,
        *,
        symbol: str | None = None,
        version: str | None = None,
        requested_by: str | None = None,
        since: Day = None,
        until: Day = None,
        hindsight: bool | None = False,
    ) -> pd.DataFrame:
        """Score forecasts by symbol, horizon and model version; the parameters are those of :meth:`history`.

        By default, forecasts made in hindsight are excluded.

        Returns
        -------
        DataFrame
            Index ``symbol, horizon, model_version``; columns :data:`~forecastlib.ledger.scores.SCORES`: the number of
            settled forecasts ``n`` and of ``pending`` ones, ``mae`` and that of the random walk for the same
            forecasts, ``skill`` (1 - their ratio), ``mape``, ``hit_rate`` (share of calls that were
            hits, see :func:`~forecastlib.evaluation.score_table.hits`) and its ``base_rate``, the mean ``confidence``
            of the calls and its expected ``calibration_error``, and the coverage of both intervals.
        """
        return scores.scorecard(
            self.history(
                symbol=symbol,
                version=version,
                requested_by=requested_by,
                since=since,
                until=until,
                hindsight=hindsight,
            )
        )

    def widening(self, symbol: str, horizon: int, coverage: int = 80, *, version: str | None = None) -> float:
        """Return the factor by which to widen the next interval, by adaptive conformal prediction.

        Parameters
        ----------
        symbol, horizon, version
            The settled forecasts to use, without those made in hindsight. Without a version, the most recent forecast
            of each origin is used.
        coverage
            Nominal coverage of the interval in per cent: 80 or 95.

        Returns
        -------
        float
            See :func:`~forecastlib.ledger.scores.widening`; 1 if nothing is settled.
        """
        if coverage not in COVERAGES:
            raise ConfigError(f"expected a coverage of {' or '.join(map(str, COVERAGES))} per cent; got {coverage!r}")
        settled = self.history(symbol=symbol, version=version, settled=True, hindsight=False)
        return scores.widening(settled[settled["horizon"] == horizon], coverage)

    def close(self) -> None:
        """Close all connections; the next call opens new ones."""
        self._engine.dispose()

    def __enter__(self) -> Self:
        """Return the ledger, which is closed at the end of the ``with`` block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close all connections."""
        self.close()

    @contextmanager
    def _reading(self) -> Iterator[sa.Connection]:
        with self._connection_lock, self._driver_errors(), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def _writing(self) -> Iterator[sa.Connection]:
        with self._connection_lock, self._driver_errors(), write_transaction(self._engine) as connection:
            yield connection

    @contextmanager
    def _driver_errors(self) -> Iterator[None]:
        """Raise errors of the database driver as :class:`LedgerError`, without secrets."""
        try:
            yield
        except sa.exc.SQLAlchemyError as error:
            raise LedgerError(f"ledger {self.name}: {driver_message(error, self._url)}") from None
        except ModuleNotFoundError as error:
            raise LedgerError(f"ledger {self.name}: {error}") from None

    def _insert(self, table: sa.Table) -> postgresql.Insert | sqlite.Insert:
        if self._engine.dialect.name == "postgresql":
            return postgresql.insert(table).on_conflict_do_nothing()
        return sqlite.insert(table).on_conflict_do_nothing()

    def _for_user(self, query: sa.Select[Any], requested_by: str | None) -> sa.Select[Any]:
        if requested_by is None:
            return query
        same = sa.and_(*(FORECASTS.c[name] == REQUESTS.c[name] for name in KEY))
        return query.join(REQUESTS, same).where(REQUESTS.c.requested_by == requested_by)


def _conditions(
    symbol: str | None, version: str | None, since: Day, until: Day, settled: bool | None, hindsight: bool | None
) -> list[sa.ColumnElement[bool]]:
    where: list[sa.ColumnElement[bool]] = []
    if symbol is not None:
        where.append(FORECASTS.c.symbol == symbol)
    if version is not None:
        where.append(FORECASTS.c.model_version == version)
    if since is not None:
        where.append(FORECASTS.c.origin >= parse_date(since))
    if until is not None:
        where.append(FORECASTS.c.origin <= parse_date(until))
    if settled is not None:
        where.append(FORECASTS.c.settled_at.is_not(None) if settled else FORECASTS.c.settled_at.is_(None))
    if hindsight is not None:
        later = sa.func.coalesce(FORECASTS.c.known_until, FORECASTS.c.origin) > FORECASTS.c.origin
        where.append(later if hindsight else ~later)
    return where
