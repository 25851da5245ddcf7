"""The ledger's tables, and the migrations that lead to them from any earlier version."""

from __future__ import annotations

import datetime as dt
from typing import Any

import sqlalchemy as sa

from forecastlib.database import writing
from forecastlib.errors import LedgerError

KEY = ("symbol", "origin", "horizon", "model_version")
"""What makes a forecast that forecast: made again, it has equal numbers."""

NUMBERS = (
    *("last_close", "predicted_price", "change_pct", "lower_80", "upper_80", "lower_95", "upper_95"),
    *("p_up", "p_down", "confidence"),
)

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        """CREATE TABLE forecasts (
            symbol TEXT NOT NULL, origin DATE NOT NULL, horizon INTEGER NOT NULL, model_version TEXT NOT NULL,
            target_date DATE NOT NULL, direction TEXT NOT NULL, batch_id TEXT NOT NULL,
            last_close DOUBLE PRECISION NOT NULL, predicted_price DOUBLE PRECISION NOT NULL,
            change_pct DOUBLE PRECISION NOT NULL, lower_80 DOUBLE PRECISION, upper_80 DOUBLE PRECISION,
            lower_95 DOUBLE PRECISION, upper_95 DOUBLE PRECISION, p_up DOUBLE PRECISION, p_down DOUBLE PRECISION,
            confidence DOUBLE PRECISION, requested_by TEXT, recorded_at TIMESTAMP WITH TIME ZONE NOT NULL,
            actual_price DOUBLE PRECISION, settled_at TIMESTAMP WITH TIME ZONE,
            PRIMARY KEY (symbol, origin, horizon, model_version))""",
        "CREATE INDEX forecasts_by_time ON forecasts (recorded_at)",
    ),
    # Several may ask for the same forecast; each finds it among their own.
    (
        """CREATE TABLE requests (
            requested_by TEXT NOT NULL, symbol TEXT NOT NULL, origin DATE NOT NULL, horizon INTEGER NOT NULL,
            model_version TEXT NOT NULL, PRIMARY KEY (requested_by, symbol, origin, horizon, model_version))""",
        """INSERT INTO requests SELECT requested_by, symbol, origin, horizon, model_version
            FROM forecasts WHERE requested_by IS NOT NULL""",
    ),
    # A neutral call comes true within the threshold that it was made with; NULL where it was not recorded.
    ("ALTER TABLE forecasts ADD COLUMN direction_threshold DOUBLE PRECISION",),
    # The last session of the prices that a forecast was made from; NULL where it was not recorded.
    ("ALTER TABLE forecasts ADD COLUMN known_until DATE",),
)
"""The statements that lead from each version to the next; those that were released are never changed."""

_LOCK = 0x6C656467  # any constant of our own: one process at a time migrates a PostgreSQL database


class _Utc(sa.types.TypeDecorator[dt.datetime]):
    """A time stamp in UTC, with its time zone also where the database keeps none."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: dt.datetime | None, dialect: sa.Dialect) -> dt.datetime | None:
        if value is None:
            return None
        moment = value.astimezone(dt.UTC)
        return moment.replace(tzinfo=None) if dialect.name == "sqlite" else moment

    def process_result_value(self, value: dt.datetime | None, dialect: sa.Dialect) -> dt.datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=dt.UTC) if value.tzinfo is None else value.astimezone(dt.UTC)


def _key_columns() -> list[sa.Column[Any]]:
    kinds: dict[str, sa.types.TypeEngine[Any]] = {"origin": sa.Date(), "horizon": sa.Integer()}
    return [sa.Column(name, kinds.get(name, sa.Text()), primary_key=True) for name in KEY]


_metadata = sa.MetaData()

FORECASTS = sa.Table(
    "forecasts",
    _metadata,
    *_key_columns(),
    sa.Column("target_date", sa.Date),
    sa.Column("direction", sa.Text),
    sa.Column("batch_id", sa.Text),
    *(sa.Column(name, sa.Double) for name in NUMBERS),
    sa.Column("requested_by", sa.Text),
    sa.Column("recorded_at", _Utc),
    sa.Column("actual_price", sa.Double),
    sa.Column("settled_at", _Utc),
    sa.Column("direction_threshold", sa.Double),
    sa.Column("known_until", sa.Date),
)

REQUESTS = sa.Table("requests", _metadata, sa.Column("requested_by", sa.Text, primary_key=True), *_key_columns())


def migrate(engine: sa.Engine) -> None:
    """Bring a database to the present version, each step in a transaction of its own.

    Several processes may do so at once: each step is taken by one of them.

    Raises
    ------
    LedgerError
        If a later version of the library has written the database.
    """
    while _step(engine):
        pass


def _step(engine: sa.Engine) -> bool:
    """Take one step, if one is left."""
    with writing(engine) as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
        connection.execute(sa.text("CREATE TABLE IF NOT EXISTS ledger_schema (version INTEGER PRIMARY KEY)"))
        version = connection.execute(sa.text("SELECT max(version) FROM ledger_schema")).scalar() or 0
        if version > len(MIGRATIONS):
            raise LedgerError(
                f"expected a ledger of version {len(MIGRATIONS)} or earlier; this one is of version {version}, "
                "written by a later forecastlib; update forecastlib"
            )
        if version == len(MIGRATIONS):
            return False
        for statement in MIGRATIONS[version]:
            connection.execute(sa.text(statement))
        connection.execute(sa.text("INSERT INTO ledger_schema VALUES (:version)"), {"version": version + 1})
        return True
