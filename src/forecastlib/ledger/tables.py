"""The tables of the ledger, their migration from earlier versions, and their rows as data frames."""

from __future__ import annotations

import contextlib
import datetime as dt
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import sqlalchemy as sa

from forecastlib.database import write_transaction
from forecastlib.errors import ConfigError, LedgerError
from forecastlib.forecasts import COLUMNS as FORECAST_COLUMNS

KEY = ("symbol", "origin", "horizon", "model_version")
"""What identifies a forecast. Making it again gives the same numbers."""

NUMBERS = (
    *("last_close", "predicted_price", "change_pct", "lower_80", "upper_80", "lower_95", "upper_95"),
    *("p_up", "p_down", "confidence"),
)

_RECORDED = ("requested_by", "recorded_at", "actual_price", "settled_at", "direction_threshold", "known_until")

COLUMNS = tuple(dict.fromkeys((*FORECAST_COLUMNS, *_RECORDED, "model", "consistency")))
"""The columns of :meth:`~forecastlib.ledger.Ledger.history`, in order."""

VERSIONS = ("1", "2")
"""The revisions in ``migrations/versions``, oldest first. A released revision is never changed."""

VERSION_TABLE = "ledger_version"
"""Where Alembic stores the revision. MLflow's own is called ``alembic_version`` and may be in the same database."""

_ADVISORY_LOCK = 0x6C656467  # an arbitrary constant: one process at a time migrates a PostgreSQL database
_alembic_lock = threading.Lock()  # Alembic's context is shared by all threads of a process


class _Utc(sa.types.TypeDecorator[dt.datetime]):
    """A time stamp in UTC, returned with its time zone even if the database does not store one."""

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
    types: dict[str, sa.types.TypeEngine[Any]] = {"origin": sa.Date(), "horizon": sa.Integer()}
    return [sa.Column(name, types.get(name, sa.Text()), primary_key=True) for name in KEY]


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
    sa.Column("model", sa.Text),
    sa.Column("consistency", sa.Double),
)

REQUESTS = sa.Table("requests", _metadata, sa.Column("requested_by", sa.Text, primary_key=True), *_key_columns())


def migrate(engine: sa.Engine) -> None:
    """Create the tables, or bring those of an earlier version up to date, in one transaction.

    Any number of processes may call it at once: one of them migrates, the others wait. A ledger that is up to date
    costs two queries and does not import Alembic.

    Raises
    ------
    LedgerError
        If a later version of the library has written the ledger.
    """
    with engine.begin() as connection:
        if _version(connection) == VERSIONS[-1]:
            return
    from alembic import command
    from alembic.config import Config

    with _alembic_lock, write_transaction(engine) as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK})
        _version(connection)  # again: another process may have migrated it, even to a later version, in the meantime
        config = Config()
        config.set_main_option("script_location", str(Path(__file__).with_name("migrations")).replace("%", "%%"))
        config.attributes["connection"] = connection
        command.upgrade(config, VERSIONS[-1])


def _version(connection: sa.Connection) -> str | None:
    """Return the revision of a ledger, None if Alembic has not migrated it yet; refuse a later one."""
    if not sa.inspect(connection).has_table(VERSION_TABLE):
        return None
    version = connection.execute(sa.text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar_one()
    if version not in VERSIONS:
        raise LedgerError(
            f"expected a ledger of version {VERSIONS[-1]} or earlier; this one is of version {version}, "
            "written by a later forecastlib; update forecastlib"
        )
    return str(version)


def rows_from_forecasts(forecasts: pd.DataFrame, requested_by: str | None) -> list[dict[str, Any]]:
    """Return rows as the database takes them, in the order of their keys, so that two writers cannot deadlock.

    ``model`` and ``consistency`` are optional columns; None is stored where they are missing.
    """
    known_until = forecasts.attrs.get("known_until")
    shared = {
        "requested_by": requested_by,
        "recorded_at": dt.datetime.now(dt.UTC),
        "direction_threshold": forecasts.attrs.get("direction_threshold"),
        "known_until": known_until and parse_date(known_until),
    }
    return [
        {name: None if pd.isna(row.get(name)) else row[name] for name in (*NUMBERS, "model", "consistency")}
        | {name: str(row[name]) for name in ("symbol", "model_version", "direction", "batch_id")}
        | {name: pd.Timestamp(row[name]).date() for name in ("origin", "target_date")}
        | {"horizon": int(row["horizon"])}
        | shared
        for row in forecasts.sort_values(list(KEY)).to_dict("records")
    ]


def parse_date(day: str | dt.date) -> dt.date:
    """Parse a date.

    Raises
    ------
    ConfigError
        If it is not a date, or NaT.
    """
    with contextlib.suppress(ValueError, TypeError):
        stamp = pd.Timestamp(day)
        if not pd.isna(stamp):
            return stamp.date()
    raise ConfigError(f"expected a date such as 2018-06-29; got {day!r}")


def frame_from_rows(rows: Sequence[Any]) -> pd.DataFrame:
    """Return rows as a data frame with the types of a forecast frame, even if there are no rows."""
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    types: dict[str, str] = dict.fromkeys((*NUMBERS, "consistency", "actual_price", "direction_threshold"), "float64")
    types |= dict.fromkeys(("symbol", "direction", "model", "model_version", "batch_id"), "str")
    types |= dict.fromkeys(("origin", "target_date", "known_until"), "datetime64[us]")
    types |= dict.fromkeys(("recorded_at", "settled_at"), "datetime64[us, UTC]")
    return frame.astype(types | {"horizon": "int64"})
