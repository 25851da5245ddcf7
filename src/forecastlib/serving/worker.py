"""A training in a process of its own: the notebook run, as on the command line, at lower priority.

Whether a worker is alive is told by a lock on a file that it holds as long as it lives, however it ends, and whoever
asks: unlike the number of a process, it cannot come to mean another one, and it is known after the service has been
started anew as well.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from forecastlib import progress
from forecastlib.paths import HOME_VARIABLE

ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")
_NOT_INHERITED = ("MLFLOW_RUN_ID", progress.VARIABLE)


class Workplace:
    """The folder of one job: its progress, the log of its process, and the lock that says whether it is alive.

    Parameters
    ----------
    folder
        Made when the process is started.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.progress = folder / "progress.jsonl"
        self.log = folder / "output.log"

    @contextlib.contextmanager
    def hold(self) -> Iterator[int | None]:
        """Take the lock for a while and yield its descriptor, None if a process holds it."""
        with self._opened() as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield None
                return
            yield lock

    def wait(self) -> None:
        """Wait until no process holds the lock."""
        with self._opened() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)

    def start(
        self, command: list[str], environment: Mapping[str, str], *, lock: int, cwd: Path
    ) -> subprocess.Popen[bytes]:
        """Start a process that takes the lock over, in a session of its own: a Ctrl-C is not meant for it."""
        with self.log.open("ab") as log:
            return subprocess.Popen(
                command,
                cwd=cwd,
                env=dict(environment) | {progress.VARIABLE: str(self.progress)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(lock,),
                start_new_session=True,
            )

    def last_error(self) -> str | None:
        """Return what the command line said last about an error, the first line of it."""
        if not self.log.is_file():
            return None
        found = re.findall(r"^Error: (.+)$", self.log.read_text(encoding="utf-8", errors="replace"), re.MULTILINE)
        return found[-1] if found else None

    @contextlib.contextmanager
    def _opened(self) -> Iterator[int]:
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            yield lock
        finally:
            os.close(lock)  # of a lock that a process has taken over, this closes only one of two ends


def training_command(parameters: Mapping[str, Any], *, reports: Path, niceness: int) -> list[str]:
    """Return the command of a training: that of ``make train``, at lower priority.

    Parameters
    ----------
    parameters
        Of the training notebook.
    reports
        Folder of the executed notebook: trainings of one symbol at once must not write over each other's.
    niceness
        By how much it stands back.
    """
    words = [f"{name}={value}" for name, value in parameters.items()]
    run = [sys.executable, "-m", "forecastlib.cli", "run", "train", *words, "--no-progress", "--reports", str(reports)]
    return ["nice", "-n", str(niceness), *run]


def worker_environment(home: Path, outside: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a worker: that of the service at its start, one thread for each library."""
    kept = {name: value for name, value in outside.items() if name not in _NOT_INHERITED}
    return kept | dict.fromkeys(ONE_THREAD, "1") | {HOME_VARIABLE: str(home), "TF_CPP_MIN_LOG_LEVEL": "3"}


def outcome(
    events: list[dict[str, Any]], *, error: str | None, returncode: int | None
) -> tuple[str, str | None, dict[str, Any] | None]:
    """Tell how a job ended, from what its process has left.

    Parameters
    ----------
    events
        Of :func:`forecastlib.progress.read_events`.
    error
        What the command line said.
    returncode
        Of the process, None if it was not started by this service.

    Returns
    -------
    tuple
        Status, error, result.
    """
    result = next((dict(event) for event in reversed(events) if event["event"] == "result"), None)
    if result is not None:
        result = {name: value for name, value in result.items() if name != "event"}
    if result is not None and events[-1]["event"] == "finished":
        return ("skipped" if result["status"] == "skipped" else "completed"), None, result
    if error:
        return "failed", error, None
    if returncode is not None and returncode < 0:
        return "failed", f"the training process was ended by {signal.Signals(-returncode).name}", None
    return "failed", "the training process ended before its notebook did", None


def run_of(events: list[dict[str, Any]]) -> str | None:
    """Return the MLflow run of a job, None if it had not begun."""
    return next((str(event["run_id"]) for event in events if event["event"] == "run"), None)
