"""The queue of trainings: how many run at once, what comes next, and what became of each."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from structlog.typing import FilteringBoundLogger

from forecastlib import progress
from forecastlib.serving.problems import Problem, busy, without_paths
from forecastlib.serving.settings import Settings
from forecastlib.serving.store import DONE, Job, JobStore, Status, new_id, now
from forecastlib.serving.worker import Workplace, outcome, run_of, training_command, worker_environment
from forecastlib.tracking.runs import connect

_RETRY = 5.0
"""Seconds between two tries to write down what became of a job."""

_LAST_WAIT = 10.0
"""Seconds that a worker gets to end by itself once it was asked to."""


@dataclass(frozen=True)
class Training:
    """A training as a caller asks for it; ``parameters`` are those of the notebook that it means."""

    symbol: str
    request: dict[str, Any]
    parameters: dict[str, Any]


class Jobs:
    """Trainings in processes of their own, so many at once, the others in the order they came.

    All that is known of a job stands in the store and in its folder, so that the service can end at any moment, in any
    way: the next one takes over what is still running, ends what is not, and goes on with the queue.

    Parameters
    ----------
    settings
        Of the service.
    store
        Where jobs are kept.
    log
        Of the service.
    on_change
        Called after each job that may have changed the registry.
    command
        What a worker executes.
    """

    def __init__(
        self,
        settings: Settings,
        store: JobStore,
        log: FilteringBoundLogger,
        *,
        on_change: Callable[[], None],
        command: Callable[..., list[str]] = training_command,
    ) -> None:
        self._settings = settings
        self._store = store
        self._log = log
        self._on_change = on_change
        self._command = command
        self._environment = worker_environment(settings.home, os.environ)
        self._lock = threading.Lock()
        self._watches: dict[str, threading.Thread] = {}
        self._stopping = threading.Event()

    def start(self) -> None:
        """Take over the jobs of an earlier service: those whose process lives, those that ended, those that wait."""
        self._stopping.clear()
        for job in self._store.find(status="started"):
            with self._place(job.id).hold() as lock:
                alive = lock is None
            if alive:
                self._log.info("job resumed", job=job.id, pid=job.pid)
                self._watch(job.id, None)
            else:
                self._end(job.id, None)
        self._fill()

    def submit(self, training: Training, requested_by: str) -> Job:
        """Start a training, or let it wait for its turn.

        Raises
        ------
        Problem
            409 if the same training, unforced, is under way: after it this one would be skipped; 429 if the queue is
            full.
        """
        if not training.request["force_retrain"]:
            self._refuse_twin(training)
        with self._lock:
            free = self._settings.concurrent_trainings - self._store.count(status="started")
            most = self._settings.queued_trainings + max(0, free)
            request = training.request | {"parameters": training.parameters}
            job = Job(new_id(), "queued", training.symbol, request, requested_by, now())
            if self._store.add(job, most_queued=most) is None:
                message = f"{self._settings.queued_trainings} trainings are waiting already; try again later"
                raise busy(429, "queue_full", message, seconds=60)
        self._fill()
        found = self._store.get(job.id) or job
        # How it ended, if it has so soon, is for whoever looks at the job.
        return replace(found, status="started", error=None, result=None) if found.status in DONE else found

    def skip(self, training: Training, requested_by: str, result: dict[str, Any]) -> Job:
        """Keep that a training was asked for and is not needed."""
        moment = now()
        request = training.request | {"parameters": training.parameters}
        job = Job(new_id(), "skipped", training.symbol, request, requested_by, moment)
        self._store.add(replace(job, started_at=moment, finished_at=moment, result=result))
        return self._store.get(job.id) or job

    def events(self, job_id: str) -> list[dict[str, Any]]:
        """Return what the process of a job has reported so far."""
        return progress.read_events(self._place(job_id).progress)

    def stop(self) -> None:
        """Give what is running a while to finish, then end it and mark it failed; what waits stays queued."""
        self._stopping.set()
        with self._lock:
            pass  # whatever is being started has been by now
        self._join(self._settings.shutdown_seconds)
        for number in (signal.SIGINT, signal.SIGKILL):
            for job_id in list(self._watches):
                self._signal(job_id, number)
            self._join(_LAST_WAIT)

    def _refuse_twin(self, training: Training) -> None:
        for status in ("started", "queued"):
            for job in self._store.find(status=status, symbol=training.symbol):
                if job.request["parameters"] == training.parameters:
                    raise Problem(
                        409,
                        "already_under_way",
                        f"the same training is {status} as job {job.id}; wait for it, or use force_retrain",
                        headers={"Location": f"/jobs/{job.id}"},
                    )

    def _place(self, job_id: str) -> Workplace:
        return Workplace(self._settings.jobs_folder / job_id)

    def _fill(self) -> None:
        """Start what waits while there is room."""
        with self._lock:
            while not self._stopping.is_set() and (job := self._store.oldest_queued()) is not None:
                place = self._place(job.id)
                # The lock comes before the status: a job that is started always has somebody who holds it.
                with place.hold() as lock:
                    if lock is None or not self._store.claim(job.id, most_started=self._settings.concurrent_trainings):
                        return
                    process = self._spawn(job, place, lock)
                if process is None:
                    self._end(job.id, None)
                else:
                    self._watch(job.id, process)

    def _spawn(self, job: Job, place: Workplace, lock: int) -> subprocess.Popen[bytes] | None:
        command = self._command(
            job.request["parameters"],
            reports=self._settings.home / "reports" / "jobs" / job.id,
            niceness=self._settings.training_niceness,
        )
        try:
            process = place.start(command, self._environment, lock=lock, cwd=self._settings.home)
        except OSError as error:
            self._log.error("job not started", job=job.id, error=str(error))
            return None
        self._store.note_process(job.id, process.pid)
        self._log.info("job started", job=job.id, pid=process.pid, symbol=job.symbol)
        return process

    def _watch(self, job_id: str, process: subprocess.Popen[bytes] | None) -> None:
        def watch() -> None:
            returncode = process.wait() if process is not None else None
            self._place(job_id).wait()
            self._insisting("job not ended", job_id, lambda: self._end(job_id, returncode))
            self._watches.pop(job_id, None)
            self._insisting("next job not started", job_id, self._fill)

        thread = threading.Thread(target=watch, name=f"job-{job_id[:8]}", daemon=True)
        self._watches[job_id] = thread
        thread.start()

    def _insisting(self, failure: str, job_id: str, work: Callable[[], None]) -> None:
        """Do something until it succeeds: a database that is locked now will not be for ever.

        When the service is stopped first, the next one does it.
        """
        while True:
            try:
                return work()
            except Exception as error:
                self._log.error(failure, job=job_id, exc_info=error)
                if self._stopping.wait(_RETRY):
                    return None

    def _end(self, job_id: str, returncode: int | None) -> None:
        """Write down what became of a job whose process is gone."""
        events, place = self.events(job_id), self._place(job_id)
        status, error, result = outcome(events, error=place.last_error(), returncode=returncode)
        if status == "failed" and self._stopping.is_set():
            error = f"the service was stopped; {error}"
        ended: Status = "completed" if status == "completed" else "skipped" if status == "skipped" else "failed"
        if result is not None:
            result["reason"] = without_paths(result["reason"])
        self._on_change()
        self._store.finish(job_id, ended, error=error and without_paths(error), result=result)
        self._log.info("job ended", job=job_id, status=ended, error=error)
        run_id = run_of(events)
        if status == "failed" and run_id is not None:
            client = connect()
            if client.get_run(run_id).info.status == "RUNNING":  # a process that was killed could not say so itself
                client.set_terminated(run_id, "KILLED")

    def _signal(self, job_id: str, number: signal.Signals) -> None:
        job = self._store.get(job_id)
        with self._place(job_id).hold() as lock:
            # While the process holds its lock, its number means itself.
            if lock is None and job is not None and job.pid is not None:
                with suppress(ProcessLookupError):
                    os.kill(job.pid, number)

    def _join(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        for thread in list(self._watches.values()):
            thread.join(max(0.0, end - time.monotonic()))
