"""The table of jobs: every training that was requested through the service, and what became of it."""

from __future__ import annotations

import datetime as dt
import json
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import sqlalchemy as sa

from forecastlib.database import open_engine, parse_url, sqlite_file, write_transaction

Status = Literal["queued", "started", "completed", "skipped", "failed"]


class _JsonText(sa.TypeDecorator[dict[str, Any]]):
    """A dictionary stored as text."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: dict[str, Any] | None, dialect: sa.Dialect) -> str | None:
        return None if value is None else json.dumps(value)

    def process_result_value(self, value: str | None, dialect: sa.Dialect) -> dict[str, Any] | None:
        return None if value is None else json.loads(value)


_METADATA = sa.MetaData()
_JOBS = sa.Table(
    "jobs",
    _METADATA,
    sa.Column("number", sa.Integer, primary_key=True),  # the order of submission
    sa.Column("id", sa.Text, unique=True, nullable=False),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("symbol", sa.Text, nullable=False),
    sa.Column("request", _JsonText, nullable=False),
    sa.Column("requested_by", sa.Text, nullable=False),
    sa.Column("created_at", sa.Text, nullable=False),
    sa.Column("started_at", sa.Text),
    sa.Column("finished_at", sa.Text),
    sa.Column("pid", sa.Integer),
    sa.Column("error", sa.Text),
    sa.Column("result", _JsonText),
)
_BY_STATUS = sa.Index("jobs_by_status", _JOBS.c.status)


@dataclass(frozen=True)
class Job:
    """A row of the table of jobs.

    Attributes
    ----------
    id : str
    status : {"queued", "started", "completed", "skipped", "failed"}
    symbol : str
    request : dict
        ``training_days``, ``epochs`` and ``force_retrain`` as requested, the ``start`` and number of ``sessions`` that
        they mean, and the ``parameters`` of the training notebook.
    requested_by : str
        Name of the caller.
    created_at, started_at, finished_at : str or None
        In UTC.
    pid : int or None
        Id of the training process.
    error : str or None
        Why it failed.
    result : dict or None
        Version, run, promotion and scores of the trained model.
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

    @classmethod
    def create(cls, symbol: str, request: dict[str, Any], requested_by: str) -> Job:
        """Return a queued job with a new id that cannot be guessed."""
        return cls(uuid.uuid4().hex, "queued", symbol, request, requested_by, _now())


class JobTable:
    """The table of jobs, in SQLite or PostgreSQL; safe to use from several threads and processes.

    Parameters
    ----------
    url
        ``sqlite:///FILE`` or a PostgreSQL URL.
    timeout
        Seconds to wait for a locked database.
    """

    def __init__(self, url: str, timeout: float = 5.0) -> None:
        parsed = parse_url(url)
        if file := sqlite_file(parsed):
            Path(file).parent.mkdir(parents=True, exist_ok=True)
        self._engine = open_engine(parsed, pooled=True, timeout=timeout)
        with write_transaction(self._engine) as connection:
            connection.execute(sa.schema.CreateTable(_JOBS, if_not_exists=True))
            connection.execute(sa.schema.CreateIndex(_BY_STATUS, if_not_exists=True))

    def add(self, job: Job, *, max_queued: int | None = None) -> bool:
        """Add a job; return False, and add nothing, if ``max_queued`` jobs are queued already."""
        with write_transaction(self._engine) as connection:
            if max_queued is not None and _count(connection, _JOBS.c.status == "queued") >= max_queued:
                return False
            connection.execute(sa.insert(_JOBS).values(vars(job)))
        return True

    def get(self, job_id: str) -> Job | None:
        """Return a job, None if it does not exist."""
        return next(iter(self._select(sa.select(_JOBS).where(_JOBS.c.id == job_id))), None)

    def find(
        self, *, status: Status | None = None, symbol: str | None = None, limit: int | None = None, offset: int = 0
    ) -> list[Job]:
        """Return jobs, newest first."""
        query = sa.select(_JOBS).where(*_filters(status, symbol)).order_by(_JOBS.c.number.desc())
        return self._select(query.limit(limit).offset(offset))

    def count(self, *, status: Status | None = None, symbol: str | None = None) -> int:
        """Count jobs."""
        with self._engine.begin() as connection:
            return _count(connection, *_filters(status, symbol))

    def next_queued(self) -> Job | None:
        """Return the queued job that was submitted first, None if no job is queued."""
        query = sa.select(_JOBS).where(_JOBS.c.status == "queued").order_by(_JOBS.c.number).limit(1)
        return next(iter(self._select(query)), None)

    def claim(self, job_id: str, *, max_started: int) -> bool:
        """Mark a queued job as started; return False if it is not queued or ``max_started`` jobs are started."""
        change = sa.update(_JOBS).where(_JOBS.c.id == job_id, _JOBS.c.status == "queued")
        with write_transaction(self._engine) as connection:
            if _count(connection, _JOBS.c.status == "started") >= max_started:
                return False
            return bool(connection.execute(change.values(status="started", started_at=_now())).rowcount)

    def set_pid(self, job_id: str, pid: int) -> None:
        """Record the process of a job."""
        with write_transaction(self._engine) as connection:
            connection.execute(sa.update(_JOBS).where(_JOBS.c.id == job_id).values(pid=pid))

    def finish(self, job_id: str, status: Status, *, error: str | None, result: dict[str, Any] | None) -> None:
        """Record the outcome of a started job; a job that has finished already stays as it is."""
        change = sa.update(_JOBS).where(_JOBS.c.id == job_id, _JOBS.c.status == "started")
        with write_transaction(self._engine) as connection:
            connection.execute(change.values(status=status, error=error, result=result, finished_at=_now()))

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    def _select(self, query: sa.Select[Any]) -> list[Job]:
        with self._engine.begin() as connection:
            rows = connection.execute(query).mappings().all()
        return [Job(**{name: value for name, value in row.items() if name != "number"}) for row in rows]


def _filters(status: Status | None, symbol: str | None) -> list[sa.ColumnElement[bool]]:
    wanted = {_JOBS.c.status: status, _JOBS.c.symbol: symbol}
    return [column == value for column, value in wanted.items() if value is not None]


def _count(connection: sa.Connection, *where: sa.ColumnElement[bool]) -> int:
    return int(connection.execute(sa.select(sa.func.count()).select_from(_JOBS).where(*where)).scalar_one())


def _now() -> str:
    return f"{dt.datetime.now(dt.UTC):%Y-%m-%dT%H:%M:%SZ}"
