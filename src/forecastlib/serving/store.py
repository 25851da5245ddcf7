"""Jobs as they are kept: a table in a database, so that they outlive the service."""

from __future__ import annotations

import datetime as dt
import json
import uuid
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import sqlalchemy as sa

from forecastlib.database import open_engine, parse_url, sqlite_file, write_transaction
from forecastlib.paths import file_lock

Status = Literal["queued", "started", "completed", "skipped", "failed"]
DONE: tuple[Status, ...] = ("completed", "skipped", "failed")

_metadata = sa.MetaData()
JOBS = sa.Table(
    "jobs",
    _metadata,
    sa.Column("number", sa.Integer, primary_key=True),  # in the order they came
    sa.Column("id", sa.Text, unique=True, nullable=False),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("symbol", sa.Text, nullable=False),
    sa.Column("request", sa.Text, nullable=False),
    sa.Column("requested_by", sa.Text, nullable=False),
    sa.Column("created_at", sa.Text, nullable=False),
    sa.Column("started_at", sa.Text),
    sa.Column("finished_at", sa.Text),
    sa.Column("pid", sa.Integer),
    sa.Column("error", sa.Text),
    sa.Column("result", sa.Text),
    sa.Index("jobs_by_status", "status"),
)


@dataclass(frozen=True)
class Job:
    """A training that was asked for.

    Attributes
    ----------
    id : str
    status : {"queued", "started", "completed", "skipped", "failed"}
    symbol : str
    request : dict
        What was asked for: ``training_days``, ``epochs``, ``force_retrain``, and what came of it, ``start`` and
        ``sessions``.
    requested_by : str
    created_at, started_at, finished_at : str or None
        In UTC.
    pid : int or None
        The process that works, or worked, on it.
    error : str or None
        Why it failed.
    result : dict or None
        What the training led to.
    """

    id: str
    status: Status
    symbol: str
    request: dict[str, Any]
    requested_by: str
    created_at: str
    started_at: str | None = None
    finished_at: str | None = None
    pid: int | None = None
    error: str | None = None
    result: dict[str, Any] | None = None


class JobStore:
    """The table of jobs; safe to use from several threads and processes.

    Parameters
    ----------
    url
        ``sqlite:///FILE`` or a PostgreSQL URL.
    patience
        Seconds to wait for others who write.
    """

    def __init__(self, url: str, patience: float = 5.0) -> None:
        parsed = parse_url(url)
        self._engine = open_engine(parsed, pooled=True, timeout=patience)
        file = sqlite_file(parsed)
        with file_lock(Path(file).with_suffix(".lock")) if file else nullcontext():
            _metadata.create_all(self._engine)

    def add(self, job: Job, *, most_queued: int | None = None) -> Job | None:
        """Keep a new job, unless so many are waiting already: None then."""
        with write_transaction(self._engine) as connection:
            if most_queued is not None and _count(connection, "queued") >= most_queued:
                return None
            values = vars(job) | {"request": json.dumps(job.request), "result": _json(job.result)}
            connection.execute(sa.insert(JOBS).values(values))
        return job

    def get(self, job_id: str) -> Job | None:
        """Return a job, None if there is none."""
        found = self._select(JOBS.c.id == job_id, limit=1)
        return found[0] if found else None

    def find(
        self, *, status: Status | None = None, symbol: str | None = None, limit: int | None = None, offset: int = 0
    ) -> list[Job]:
        """Return jobs, the newest first."""
        return self._select(*_conditions(status, symbol), limit=limit, offset=offset)

    def count(self, *, status: Status | None = None, symbol: str | None = None) -> int:
        """Count jobs."""
        with self._engine.begin() as connection:
            return _count(connection, status, symbol)

    def oldest_queued(self) -> Job | None:
        """Return the job that is next, None if none is waiting."""
        found = self._select(JOBS.c.status == "queued", newest_first=False, limit=1)
        return found[0] if found else None

    def claim(self, job_id: str, *, most_started: int) -> bool:
        """Turn a queued job into a started one, unless so many are started already or another has done it."""
        change = sa.update(JOBS).where(JOBS.c.id == job_id, JOBS.c.status == "queued")
        with write_transaction(self._engine) as connection:
            if _count(connection, "started") >= most_started:
                return False
            claimed = connection.execute(change.values(status="started", started_at=now()))
            return bool(claimed.rowcount)

    def note_process(self, job_id: str, pid: int) -> None:
        """Keep which process works on a job."""
        with write_transaction(self._engine) as connection:
            connection.execute(sa.update(JOBS).where(JOBS.c.id == job_id).values(pid=pid))

    def finish(
        self, job_id: str, status: Status, *, error: str | None = None, result: dict[str, Any] | None = None
    ) -> bool:
        """End a started job; False if it has ended already."""
        change = sa.update(JOBS).where(JOBS.c.id == job_id, JOBS.c.status == "started")
        values = {"status": status, "error": error, "result": _json(result), "finished_at": now()}
        with write_transaction(self._engine) as connection:
            return bool(connection.execute(change.values(values)).rowcount)

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    def _select(
        self, *where: sa.ColumnElement[bool], newest_first: bool = True, limit: int | None, offset: int = 0
    ) -> list[Job]:
        columns = [column for column in JOBS.c if column is not JOBS.c.number]
        order = JOBS.c.number.desc() if newest_first else JOBS.c.number
        query = sa.select(*columns).where(*where).order_by(order).limit(limit).offset(offset)
        with self._engine.begin() as connection:
            rows = [dict(row) for row in connection.execute(query).mappings()]
        return [
            Job(
                **(row | {"request": json.loads(row["request"]), "result": row["result"] and json.loads(row["result"])})
            )
            for row in rows
        ]


def new_id() -> str:
    """Return an id that nobody can guess."""
    return uuid.uuid4().hex


def now() -> str:
    """Return the present moment in UTC, as jobs keep it."""
    return f"{dt.datetime.now(dt.UTC):%Y-%m-%dT%H:%M:%SZ}"


def _json(value: dict[str, Any] | None) -> str | None:
    return None if value is None else json.dumps(value)


def _conditions(status: Status | None, symbol: str | None) -> list[sa.ColumnElement[bool]]:
    found = []
    if status is not None:
        found.append(JOBS.c.status == status)
    if symbol is not None:
        found.append(JOBS.c.symbol == symbol)
    return found


def _count(connection: sa.Connection, status: Status | None, symbol: str | None = None) -> int:
    query = sa.select(sa.func.count()).select_from(JOBS).where(*_conditions(status, symbol))
    return int(connection.execute(query).scalar_one())
