"""The ledger itself: forecasts as they were made, and what happened."""

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
from forecastlib.database import PATIENCE, file_of, masked, open_engine, parse_url, reason_of, writing
from forecastlib.errors import ConfigError, DataQualityError, LedgerError
from forecastlib.forecasts import COVERAGES, require_forecasts
from forecastlib.ledger import scores
from forecastlib.ledger.rows import COLUMNS, date_of, frame_of, outcomes, rows_of
from forecastlib.ledger.schema import FORECASTS, KEY, REQUESTS, migrate
from forecastlib.paths import file_lock, project_root

LEDGER_VARIABLE = "FORECASTLIB_LEDGER"

Day = str | dt.date | None


class Ledger:
    """Forecasts in a database, each once; safe to use from several threads and processes at once.

    A forecast is that of a symbol, origin, horizon and model version: made again it has equal numbers, so recording
    it again changes nothing.

    Parameters
    ----------
    url
        ``sqlite:///FILE`` (a relative path begins at the project's root) or ``postgresql://USER:PASSWORD@HOST/NAME``;
        None: what the variable ``FORECASTLIB_LEDGER`` says, else ``mlruns/ledger.db`` of the project. The tables are
        made, or brought to the present version, when it is opened.
    patience
        Seconds to wait for others who write; after that it is a :class:`LedgerError`, and nothing has been written.

    Attributes
    ----------
    name : str
        The URL without its secrets.

    Raises
    ------
    ConfigError
        If the URL is of neither database.
    LedgerError
        If the database cannot be opened, now or at any later call.

    Examples
    --------
    >>> ledger = Ledger()                                # doctest: +SKIP
    >>> ledger.record(forecaster.predict(prices))        # doctest: +SKIP
    3
    >>> ledger.settle(later_prices)                      # doctest: +SKIP
    3
    >>> ledger.scorecard(symbol="^IXIC")                 # doctest: +SKIP
    """

    def __init__(self, url: str | None = None, *, patience: float = PATIENCE) -> None:
        root = project_root()
        self._url = parse_url(url or os.environ.get(LEDGER_VARIABLE) or f"sqlite:///{root / 'mlruns' / 'ledger.db'}")
        self.name = masked(self._url)
        # A database in memory is one connection, which threads have to take in turns.
        self._turn: AbstractContextManager[Any] = nullcontext()
        file = file_of(self._url)
        if file:
            path = root / Path(file).expanduser()  # whole, as the working directory may change later
            self._url = self._url.set(database=str(path))
        elif self._url.get_backend_name() == "sqlite":
            self._turn = threading.Lock()
        try:
            # Two processes that switch a new file to write-ahead logging at once would get in each other's way.
            with file_lock(path.with_suffix(".lock")) if file else nullcontext(), self._worded():
                self._engine = open_engine(self._url, keep_connections=True, patience=patience)
                self._prepare(write_ahead=bool(file))
        except OSError as error:
            raise LedgerError(f"ledger {self.name}: {error}") from None

    def _prepare(self, *, write_ahead: bool) -> None:
        """Make the database ready, or leave no connection open."""
        with ExitStack() as undo:
            undo.callback(self._engine.dispose)
            if write_ahead:
                with self._engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
                    connection.exec_driver_sql("PRAGMA journal_mode = WAL")
            migrate(self._engine)
            undo.pop_all()

    def record(self, forecasts: pd.DataFrame, requested_by: str | None = None) -> int:
        """Keep forecasts: all of a frame, or if anything fails none of it.

        Parameters
        ----------
        forecasts
            A forecast frame. Its ``attrs["direction_threshold"]`` and ``attrs["known_until"]`` are kept with it, if
            there.
        requested_by
            Who asked. Several may ask for the same forecast; each finds it among their own, and ``history`` shows
            the first unless asked for another.

        Returns
        -------
        int
            How many were new.

        Raises
        ------
        DataQualityError
            If it is no forecast frame.
        """
        require_forecasts(forecasts)
        rows = list(rows_of(forecasts, requested_by))
        with self._writing() as connection:
            # Counted by what comes back: drivers do not agree on the row count of many statements.
            added = connection.execute(self._insert(FORECASTS).returning(FORECASTS.c.horizon), rows).all()
            if requested_by is not None:
                asked = [{name: row[name] for name in ("requested_by", *KEY)} for row in rows]
                connection.execute(self._insert(REQUESTS), asked)
        return len(added)

    def settle(self, prices: pd.DataFrame) -> int:
        """Fill in what happened, for forecasts of this symbol whose target session the prices know.

        The target is the session ``horizon`` rows after the origin in ``prices``, as in
        :func:`~forecastlib.evaluation.evaluate.evaluate`. What is settled is never changed. Where prices have been adjusted
        since the forecast (a split, a dividend), so that the origin's close is another one now, the actual price is
        brought back to the level of that time, which leaves the return as it is.

        Parameters
        ----------
        prices
            Prices; ``attrs["symbol"]`` says of what.

        Returns
        -------
        int
            How many forecasts were settled.

        Raises
        ------
        DataQualityError
            If these are no prices, or it is not said of what.

        Examples
        --------
        A forecast of origin row t for h = 7 gets the close of row t + 7. If the frame ends before that row, or has no
        row of the origin, the forecast stays pending.
        """
        require_prices(prices)
        symbol = prices.attrs.get("symbol")
        if not symbol:
            raise DataQualityError("expected attrs['symbol'] to say of which symbol prices are; set it")
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
        """Look forecasts up, the newest recorded first.

        Parameters
        ----------
        symbol, version
            Of these alone; the version is that of the frame, ``v1.0.0_...``.
        requested_by
            What they asked for, whoever else did too.
        since, until
            Origins from and up to these dates, both included.
        settled
            Whether the outcome is known; None: either.
        hindsight
            Whether prices of sessions after the origin were known when the forecast was made, as with an ``as_of`` in
            the past; None: either. What does not say (``known_until`` is missing) is taken to be made in time.
        limit, offset
            At most so many rows, after leaving out so many.

        Returns
        -------
        DataFrame
            The columns :data:`~forecastlib.ledger.rows.COLUMNS`; time stamps in UTC.
        """
        where = _conditions(symbol, version, since, until, settled, hindsight)
        if (limit is not None and limit < 0) or offset < 0:
            raise ConfigError(f"expected limit and offset of at least 0; got limit={limit}, offset={offset}")
        query = self._asked(sa.select(*(FORECASTS.c[name] for name in COLUMNS)), requested_by).where(*where)
        newest = [FORECASTS.c[name].desc() for name in ("recorded_at", "origin")]
        query = query.order_by(*newest, *(FORECASTS.c[name] for name in ("symbol", "model_version", "horizon")))
        with self._reading() as connection:
            rows = connection.execute(query.limit(limit).offset(offset)).all()
        frame = frame_of(rows)
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
        query = self._asked(sa.select(sa.func.count()).select_from(FORECASTS), requested_by).where(*where)
        with self._reading() as connection:
            return int(connection.execute(query).scalar_one())

    def symbols(self) -> list[str]:
        """List the symbols of which there are forecasts."""
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

        By default only those that were made before anybody could know what came.

        Returns
        -------
        DataFrame
            Index ``symbol, horizon, model_version``; the columns :data:`~forecastlib.ledger.scores.SCORES`: settled
            forecasts ``n`` and ``pending`` ones, ``mae`` and that of the random walk on the same days, ``skill``
            (1 - one over the other), ``mape``, ``hit_rate`` (calls that came true, see
            :func:`~forecastlib.ledger.scores.came_true`), the mean ``confidence`` stated for them and its expected
            ``calibration_error``, and the coverage of both ranges.
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
        """Return the factor by which the next range should be wider than calibrated: adaptive conformal prediction.

        Parameters
        ----------
        symbol, horizon, version
            Whose settled forecasts are looked at, those made in hindsight left out; without a version, the newest of
            each origin.
        coverage
            Of the range, in per cent: 80 or 95.

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
        """Return the ledger itself, to be closed at the end of a ``with`` block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close all connections."""
        self.close()

    @contextmanager
    def _reading(self) -> Iterator[sa.Connection]:
        with self._turn, self._worded(), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def _writing(self) -> Iterator[sa.Connection]:
        with self._turn, self._worded(), writing(self._engine) as connection:
            yield connection

    @contextmanager
    def _worded(self) -> Iterator[None]:
        """Word what the driver raises, without secrets."""
        try:
            yield
        except sa.exc.SQLAlchemyError as error:
            raise LedgerError(f"ledger {self.name}: {reason_of(error, self._url)}") from None
        except ModuleNotFoundError as error:
            raise LedgerError(f"ledger {self.name}: {error}") from None

    def _insert(self, table: sa.Table) -> postgresql.Insert | sqlite.Insert:
        if self._engine.dialect.name == "postgresql":
            return postgresql.insert(table).on_conflict_do_nothing()
        return sqlite.insert(table).on_conflict_do_nothing()

    def _asked(self, query: sa.Select[Any], requested_by: str | None) -> sa.Select[Any]:
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
        where.append(FORECASTS.c.origin >= date_of(since))
    if until is not None:
        where.append(FORECASTS.c.origin <= date_of(until))
    if settled is not None:
        where.append(FORECASTS.c.settled_at.is_not(None) if settled else FORECASTS.c.settled_at.is_(None))
    if hindsight is not None:
        later = sa.func.coalesce(FORECASTS.c.known_until, FORECASTS.c.origin) > FORECASTS.c.origin
        where.append(later if hindsight else ~later)
    return where
