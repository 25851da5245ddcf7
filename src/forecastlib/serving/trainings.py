"""The queue of trainings: each job is a process of its own, a limited number of them at once.

A job is one notebook run (``forecastlib run train ...``) at lower priority. What is known about it is in the table of
jobs and in the job's folder, so jobs survive the service, however it ends: the next service adopts the processes that
are still running, records the outcome of those that are not, and continues with the queue.

Whether a process is alive is read from a file lock that it inherits and holds until it exits. Unlike a process id, a
lock cannot come to mean another process, and it can be checked by a service that did not start the process.

The queue is a status in the table of jobs. Huey was evaluated and not used: a task that its consumer has taken is gone
when the consumer is killed (it is neither pending nor in the results), running tasks cannot be listed, and its consumer
starts only in the main thread, where it replaces the handlers of SIGINT and SIGTERM that the HTTP server needs.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import sqlalchemy as sa
from structlog.typing import FilteringBoundLogger

from forecastlib.database import open_engine, parse_url, sqlite_file, write_transaction
from forecastlib.paths import HOME_VARIABLE
from forecastlib.processes import PROGRESS_VARIABLE, child_environment, read_progress
from forecastlib.serving.problems import Problem, busy, without_paths
from forecastlib.serving.settings import Settings, utc_now
from forecastlib.tracking.runs import RUN_VARIABLE, connect

_POLL_SECONDS = 0.2
"""Time between two checks of the running processes."""

_RETRY_SECONDS = 5.0
"""Time until the next attempt after the table of jobs or MLflow could not be updated."""

_EXIT_SECONDS = 10.0
"""Time that a process gets to exit after each signal when the service is stopped."""

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
        return cls(uuid.uuid4().hex, "queued", symbol, request, requested_by, utc_now())


class JobTable:
    """The table of jobs, in SQLite or PostgreSQL; safe to use from several threads and processes.

    Parameters
    ----------
    url
        ``sqlite:///FILE`` or a PostgreSQL URL.
    timeout
        Seconds to wait for a locked database.
    """

    def __init__(self, url: str, timeout: float) -> None:
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
            return bool(connection.execute(change.values(status="started", started_at=utc_now())).rowcount)

    def set_pid(self, job_id: str, pid: int) -> None:
        """Record the process of a job."""
        with write_transaction(self._engine) as connection:
            connection.execute(sa.update(_JOBS).where(_JOBS.c.id == job_id).values(pid=pid))

    def finish(self, job_id: str, status: Status, *, error: str | None, result: dict[str, Any] | None) -> None:
        """Record the outcome of a started job; a job that has finished already stays as it is."""
        change = sa.update(_JOBS).where(_JOBS.c.id == job_id, _JOBS.c.status == "started")
        with write_transaction(self._engine) as connection:
            connection.execute(change.values(status=status, error=error, result=result, finished_at=utc_now()))

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


class JobFolder:
    """The folder of one job: the progress and the log of its process, and the lock that the process holds.

    Parameters
    ----------
    path
        Created when the lock is first taken.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.progress = path / "progress.jsonl"
        self.log = path / "output.log"

    @contextlib.contextmanager
    def try_lock(self) -> Iterator[int | None]:
        """Take the lock and yield its file descriptor, or yield None if a process holds it."""
        self.path.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
        else:
            yield descriptor
        finally:
            os.close(descriptor)  # a process that inherited the descriptor still holds the lock

    def is_running(self) -> bool:
        """Return whether a process holds the lock."""
        with self.try_lock() as lock:
            return lock is None

    def start(self, command: list[str], *, lock: int, home: Path) -> subprocess.Popen[bytes]:
        """Start a process that inherits the lock, in a session of its own so that Ctrl-C does not reach it."""
        variables = {HOME_VARIABLE: str(home), PROGRESS_VARIABLE: str(self.progress)}
        with self.log.open("ab") as log:
            return subprocess.Popen(
                command,
                cwd=home,
                env=child_environment(drop=(RUN_VARIABLE,)) | variables,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(lock,),
                start_new_session=True,
            )

    def last_error(self) -> str | None:
        """Return the first line of the last error that the command line printed, None if it printed none."""
        if not self.log.is_file():
            return None
        errors = re.findall(r"^Error: (.+)$", self.log.read_text(encoding="utf-8", errors="replace"), re.MULTILINE)
        return errors[-1] if errors else None


def training_command(parameters: Mapping[str, Any], *, reports: Path, niceness: int) -> list[str]:
    """Return the command line of a training: that of ``make train``, at lower priority.

    Parameters
    ----------
    parameters
        Of the training notebook.
    reports
        Folder of the executed notebook; concurrent trainings of one symbol need different ones.
    niceness
        Increment of the niceness.
    """
    assignments = [f"{name}={value}" for name, value in parameters.items()]
    run = [sys.executable, "-m", "forecastlib.cli", "run", "train", *assignments]
    return ["nice", "-n", str(niceness), *run, "--no-progress", "--reports", str(reports)]


def outcome(
    events: list[dict[str, Any]], *, error: str | None, returncode: int | None
) -> tuple[Status, str | None, dict[str, Any] | None]:
    """Return the final status, the error and the result of a job whose process has exited.

    Parameters
    ----------
    events
        Of :func:`forecastlib.processes.read_progress`.
    error
        Of :meth:`JobFolder.last_error`.
    returncode
        Of the process; None if another service started it.
    """
    results = [
        {name: value for name, value in event.items() if name != "event"}
        for event in events
        if event["event"] == "result"
    ]
    if results and events[-1]["event"] == "finished":
        return "skipped" if results[-1]["status"] == "skipped" else "completed", None, results[-1]
    if error is None and returncode is not None and returncode < 0:
        error = f"the training process was ended by {signal.Signals(-returncode).name}"
    return "failed", error or "the training process ended before its notebook did", None


class TrainingQueue:
    """Runs trainings as processes, a limited number at once and the others in the order of their submission.

    Parameters
    ----------
    settings
        Of the service.
    table
        Where jobs are recorded.
    log
        Of the service.
    on_change
        Called after each job that may have changed the model registry.
    command
        Returns the command line of a training.
    """

    def __init__(
        self,
        settings: Settings,
        table: JobTable,
        log: FilteringBoundLogger,
        *,
        on_change: Callable[[], None],
        command: Callable[..., list[str]] = training_command,
    ) -> None:
        self._settings = settings
        self._table = table
        self._log = log
        self._on_change = on_change
        self._command = command
        self._lock = threading.Lock()
        self._running: dict[str, subprocess.Popen[bytes] | None] = {}  # None: started by an earlier service
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Adopt the jobs of an earlier service, whether running, ended or queued, and watch all jobs from now on."""
        self._stopping.clear()
        with self._lock:
            for job in self._table.find(status="started"):
                self._running.setdefault(job.id, None)
            self._update()
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._watch, name="trainings", daemon=True)
            self._thread.start()

    def submit(self, job: Job) -> Job:
        """Start a training, or queue it if as many as may run at once are running; return the job as it is then.

        Raises
        ------
        Problem
            409 if the same training is started or queued and this one is not forced, as it would then be skipped; 429
            if the queue is full.
        """
        with self._lock:
            if not job.request["force_retrain"]:
                self._refuse_duplicate(job)
            free = max(0, self._settings.concurrent_trainings - self._table.count(status="started"))
            if not self._table.add(job, max_queued=self._settings.queued_trainings + free):
                message = f"{self._settings.queued_trainings} trainings are queued already; try again later"
                raise busy(429, "queue_full", message, seconds=60)
            self._wake.set()
            self._start_queued()
            return self._table.get(job.id) or job

    def skip(self, job: Job, result: dict[str, Any]) -> Job:
        """Record a training that was requested but is not needed."""
        job = replace(job, status="skipped", started_at=job.created_at, finished_at=job.created_at, result=result)
        self._table.add(job)
        return job

    def events(self, job_id: str) -> list[dict[str, Any]]:
        """Return what the process of a job has reported so far."""
        return read_progress(self._folder(job_id).progress)

    def stop(self) -> None:
        """Give running trainings some time to finish, then end them as failed; queued ones stay queued."""
        if self._thread is None:  # never started
            return
        self._stopping.set()
        self._wake.set()
        self._thread.join(self._settings.shutdown_seconds)
        for number in (signal.SIGINT, signal.SIGKILL):
            for job_id in list(self._running):
                self._send_signal(job_id, number)
            self._thread.join(_EXIT_SECONDS)

    def _watch(self) -> None:
        """Record jobs that have ended and start queued ones, until the service is stopped and no job runs."""
        while self._running or not self._stopping.is_set():
            pause = _POLL_SECONDS
            try:
                with self._lock:
                    self._update()
            except Exception as error:  # a database that is locked now can be updated later
                self._log.error("jobs not updated", exc_info=error)
                pause = _RETRY_SECONDS
            idle = not self._running and pause == _POLL_SECONDS and not self._stopping.is_set()
            self._wake.wait(None if idle else pause)
            self._wake.clear()

    def _update(self) -> None:
        for job_id, process in list(self._running.items()):
            if not self._folder(job_id).is_running():
                self._finish(job_id, process.wait() if process is not None else None)
                del self._running[job_id]
        self._start_queued()

    def _start_queued(self) -> None:
        while not self._stopping.is_set() and (job := self._table.next_queued()) is not None:
            folder = self._folder(job.id)
            # The lock is taken before the status changes: the process of a started job always holds it.
            with folder.try_lock() as lock:
                if lock is None or not self._table.claim(job.id, max_started=self._settings.concurrent_trainings):
                    return
                self._running[job.id] = None
                self._running[job.id] = process = folder.start(
                    self._command(
                        job.request["parameters"],
                        reports=self._settings.home / "reports" / "jobs" / job.id,
                        niceness=self._settings.training_niceness,
                    ),
                    lock=lock,
                    home=self._settings.home,
                )
            self._table.set_pid(job.id, process.pid)
            self._log.info("job started", job=job.id, pid=process.pid, symbol=job.symbol)

    def _finish(self, job_id: str, returncode: int | None) -> None:
        """Record the outcome of a job whose process has exited."""
        events = self.events(job_id)
        status, error, result = outcome(events, error=self._folder(job_id).last_error(), returncode=returncode)
        if error is not None:
            error = without_paths(f"the service was stopped; {error}" if self._stopping.is_set() else error)
        if result is not None:
            result["reason"] = without_paths(result["reason"])
        self._on_change()
        self._table.finish(job_id, status, error=error, result=result)
        self._log.info("job ended", job=job_id, status=status, error=error)
        run_id = next((str(event["run_id"]) for event in events if event["event"] == "run"), None)
        if status == "failed" and run_id is not None:
            client = connect()
            if client.get_run(run_id).info.status == "RUNNING":  # the process was killed before it could set a status
                client.set_terminated(run_id, "KILLED")

    def _refuse_duplicate(self, job: Job) -> None:
        for other in [*self._table.find(status="started"), *self._table.find(status="queued")]:
            if other.request["parameters"] == job.request["parameters"]:
                raise Problem(
                    409,
                    "already_under_way",
                    f"the same training is {other.status} as job {other.id}; wait for it, or set force_retrain",
                    headers={"Location": f"/jobs/{other.id}"},
                )

    def _send_signal(self, job_id: str, number: signal.Signals) -> None:
        job = self._table.get(job_id)
        # The process id is that of the training only while the training holds its lock.
        if job is not None and job.pid is not None and self._folder(job_id).is_running():
            with contextlib.suppress(ProcessLookupError):
                os.kill(job.pid, number)

    def _folder(self, job_id: str) -> JobFolder:
        return JobFolder(self._settings.jobs_folder / job_id)
