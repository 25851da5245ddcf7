"""The ledger: recording, settling, finding and scoring forecasts."""

from __future__ import annotations

import datetime as dt
import os
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, Self

import numpy as np
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
from forecastlib.evaluation.score_table import rolling_scores, score_table, with_outcomes
from forecastlib.forecasts import COVERAGES, require_forecasts
from forecastlib.ledger.tables import (
    COLUMNS,
    FORECASTS,
    KEY,
    REQUESTS,
    frame_from_rows,
    migrate,
    parse_date,
    rows_from_forecasts,
)
from forecastlib.models.conformal import adaptive_widening
from forecastlib.paths import file_lock, project_root

LEDGER_VARIABLE = "FORECASTLIB_LEDGER"

SCORES = (
    *("n", "pending", "mae", "mae_random_walk", "skill", "mape", "hit_rate", "base_rate"),
    *("confidence", "calibration_error", "coverage_80", "coverage_95"),
)
"""The columns of a scorecard, see :data:`forecastlib.evaluation.score_table.METRICS`."""

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
        try:
            if write_ahead:
                with self._engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
                    connection.exec_driver_sql("PRAGMA journal_mode = WAL")
            migrate(self._engine)
        except BaseException:
            self._engine.dispose()
            raise

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
        rows = rows_from_forecasts(forecasts, requested_by)
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
        columns = (*KEY, "last_close")
        pending = (
            sa.select(*(FORECASTS.c[name] for name in columns))
            .where(FORECASTS.c.symbol == symbol, FORECASTS.c.settled_at.is_(None))
            .order_by(*(FORECASTS.c[name] for name in KEY))
            .with_for_update()
        )
        with self._writing() as connection:
            rows = pd.DataFrame(connection.execute(pending).all(), columns=list(columns))
            known = with_outcomes(rows, prices).dropna(subset=["actual_price"])
            if len(known):
                same = [FORECASTS.c[name] == sa.bindparam(f"of_{name}") for name in KEY]
                outcome = {"actual_price": sa.bindparam("of_actual_price"), "settled_at": dt.datetime.now(dt.UTC)}
                found = known[[*KEY, "actual_price"]].rename(columns="of_{}".format)
                rows_found: list[dict[Any, Any]] = found.to_dict("records")
                connection.execute(sa.update(FORECASTS).where(*same).values(outcome), rows_found)
        return len(known)

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
            The columns :data:`~forecastlib.ledger.tables.COLUMNS`; time stamps in UTC.
        """
        if (limit is not None and limit < 0) or offset < 0:
            raise ConfigError(f"expected limit and offset of at least 0; got limit={limit}, offset={offset}")
        query = sa.select(*(FORECASTS.c[name] for name in COLUMNS))
        query = _matching(query, symbol, version, requested_by, since, until, settled, hindsight)
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
        query = sa.select(sa.func.count()).select_from(FORECASTS)
        query = _matching(query, symbol, version, requested_by, since, until, settled, hindsight)
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
            See :func:`scorecard`.
        """
        return scorecard(
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
            For the half-width in log returns, about the middle of the interval; 1 if nothing is settled.

        Notes
        -----
        :func:`~forecastlib.models.conformal.adaptive_widening` counts in origins. Here they are as far apart as
        forecasts were made: the horizon is the median number of them between an origin and its target date.
        """
        if coverage not in COVERAGES:
            raise ConfigError(f"expected a coverage of {' or '.join(map(str, COVERAGES))} per cent; got {coverage!r}")
        ends = [f"lower_{coverage}", f"upper_{coverage}"]
        settled = self.history(symbol=symbol, version=version, settled=True, hindsight=False).dropna(subset=ends)
        newest_last = settled[settled["horizon"] == horizon].sort_values(["origin", "recorded_at"])
        rows = newest_last.drop_duplicates("origin", keep="last")
        if rows.empty:
            return 1.0
        actual, lower, upper = np.log(rows[["actual_price", *ends]].to_numpy()).T
        scores = np.abs(actual - (lower + upper) / 2.0) / ((upper - lower) / 2.0)
        origins, targets = rows["origin"].to_numpy(), rows["target_date"].to_numpy()
        followed = np.searchsorted(origins, targets) - np.arange(len(rows))
        known_later = origins[-1] >= targets
        step = max(1, int(np.median(followed[known_later]))) if known_later.any() else 1
        # The newest entries are not used, so that the last factor includes everything that is settled.
        padded = np.append(scores, np.full(step, np.nan))
        return float(adaptive_widening(padded, coverage / 100.0, step)[-1])

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


def scorecard(rows: pd.DataFrame) -> pd.DataFrame:
    """Score forecasts by symbol, horizon and model version.

    Parameters
    ----------
    rows
        Rows of :meth:`Ledger.history`.

    Returns
    -------
    DataFrame
        Index ``symbol, horizon, model_version``; columns :data:`SCORES`: the number of settled forecasts ``n`` and of
        ``pending`` ones, ``mae`` and that of the random walk for the same forecasts, ``skill`` (1 - their ratio),
        ``mape``, ``hit_rate`` (share of calls that were hits, see
        :func:`~forecastlib.evaluation.score_table.hits`) and its ``base_rate``, the mean ``confidence`` of the calls
        and its expected ``calibration_error``, and the coverage of both intervals. NaN where nothing is settled yet,
        or a model has no intervals.
    """
    by = ["symbol", "horizon", "model_version"]
    pending = rows["actual_price"].isna().groupby([rows[name] for name in by]).sum()
    table = score_table(rows, by).reindex(pending.index)
    return table.assign(n=table["n"].fillna(0).astype("int64"), pending=pending.astype("int64"))[list(SCORES)]


def over_time(settled: pd.DataFrame, window: int = 20) -> pd.DataFrame:
    """Score settled forecasts in a rolling window over the origins of each horizon.

    Parameters
    ----------
    settled
        Settled rows of one symbol, of any number of versions.
    window
        Forecasts in each score.

    Returns
    -------
    DataFrame
        Index ``horizon, origin``; columns ``hit_rate``, ``confidence``, ``skill`` and the coverages. The first
        ``window - 1`` origins of each horizon have no row.
    """
    parts = {int(str(horizon)): rolling_scores(rows, window) for horizon, rows in settled.groupby("horizon")}
    if not parts:  # nothing is settled: an empty table with the same columns
        parts = {0: rolling_scores(settled, window)}
    return pd.concat(parts, names=["horizon"]).dropna()


def _matching(
    query: sa.Select[Any],
    symbol: str | None,
    version: str | None,
    requested_by: str | None,
    since: Day,
    until: Day,
    settled: bool | None,
    hindsight: bool | None,
) -> sa.Select[Any]:
    """Restrict a query of :data:`FORECASTS` as :meth:`Ledger.history` describes."""
    if symbol is not None:
        query = query.where(FORECASTS.c.symbol == symbol)
    if version is not None:
        query = query.where(FORECASTS.c.model_version == version)
    if requested_by is not None:
        same = sa.and_(*(FORECASTS.c[name] == REQUESTS.c[name] for name in KEY))
        query = query.join(REQUESTS, same).where(REQUESTS.c.requested_by == requested_by)
    if since is not None:
        query = query.where(FORECASTS.c.origin >= parse_date(since))
    if until is not None:
        query = query.where(FORECASTS.c.origin <= parse_date(until))
    if settled is not None:
        query = query.where(FORECASTS.c.settled_at.is_not(None) if settled else FORECASTS.c.settled_at.is_(None))
    if hindsight is not None:
        later = sa.func.coalesce(FORECASTS.c.known_until, FORECASTS.c.origin) > FORECASTS.c.origin
        query = query.where(later if hindsight else ~later)
    return query
