"""Processes: what they inherit, what libraries write when they are loaded, and progress reported to another process."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

SINGLE_THREAD = dict.fromkeys(
    (
        "OMP_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "MKL_NUM_THREADS",
        "NUMBA_NUM_THREADS",
        "TF_NUM_INTRAOP_THREADS",
        "TF_NUM_INTEROP_THREADS",
    ),
    "1",
)
"""Environment variables that give every numerical library one thread.

Several single-threaded processes finish more work on the same cores than one process with several threads, and their
results do not depend on the number of cores.
"""

QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3", "MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_LOGGING_LEVEL": "WARNING"}
"""Environment variables that keep libraries from writing log lines of their own."""


def child_environment(*, single_thread: bool = True, drop: tuple[str, ...] = (), **extra: str) -> dict[str, str]:
    """Return the environment of a child process.

    Parameters
    ----------
    single_thread
        Whether every numerical library gets one thread.
    drop
        Variables of this process that the child does not inherit.
    **extra
        Further variables.

    Returns
    -------
    dict of str
        The environment of this process, with quiet libraries unless the user asked for their logs.
    """
    inherited: Mapping[str, str] = {name: value for name, value in os.environ.items() if name not in drop}
    return QUIET | dict(inherited) | (SINGLE_THREAD if single_thread else {}) | extra


_STARTUP_MESSAGES = (
    "WARNING: All log messages before absl::InitializeLog() is called are written to STDERR",
    "Could not find cuda drivers on your machine, GPU will not be used.",
)


@contextlib.contextmanager
def hidden_startup_messages() -> Iterator[None]:
    """Drop two messages that TensorFlow writes while it is imported; to be used around that import only.

    TensorFlow 2.21 logs the absence of a GPU while its shared libraries are loaded, before it reads
    ``TF_CPP_MIN_LOG_LEVEL``, so no setting silences it. Here everything that is written to file descriptor 2 is held
    back until the import has ended, successfully or not, and then written without those two messages. If the process
    is killed by a signal meanwhile, what was held back is lost, so nothing is held back if ``TF_CPP_MIN_LOG_LEVEL`` is
    set to 0, 1 or 2.

    Other threads must not write to standard error meanwhile. Where TensorFlow has been imported already, or there is
    no standard error, this does nothing.
    """
    wants_messages = os.environ.get("TF_CPP_MIN_LOG_LEVEL") in {"0", "1", "2"}
    if wants_messages or "tensorflow" in sys.modules or sys.stderr is None:
        yield
        return
    sys.stderr.flush()
    with tempfile.TemporaryFile() as held_back:
        original = os.dup(2)
        os.dup2(held_back.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(original, 2)
            os.close(original)
            held_back.seek(0)
            for line in held_back.read().decode(errors="replace").splitlines(keepends=True):
                if not line.rstrip().endswith(_STARTUP_MESSAGES):
                    sys.stderr.write(line)


PROGRESS_VARIABLE = "FORECASTLIB_PROGRESS"
"""Environment variable with the file that a run reports its progress to."""


def report_progress(event: str, **details: Any) -> None:
    """Append an event as a line of JSON to the file that ``FORECASTLIB_PROGRESS`` names, if it is set.

    The process that starts a run sets the variable and reads the file. The events are ``run`` (the MLflow run has
    started), ``epoch``, ``result`` (of the training) and ``finished`` (all notebooks have been executed).

    Parameters
    ----------
    event
        Name of the event.
    **details
        Values that JSON can represent.
    """
    if path := os.environ.get(PROGRESS_VARIABLE):
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(json.dumps({"event": event} | details) + "\n")  # one write, so readers see complete lines


def read_progress(file: Path) -> list[dict[str, Any]]:
    """Return the events reported so far, oldest first; none if the file does not exist yet.

    An incomplete last line is ignored: it is being written, or its process was killed.
    """
    if not file.is_file():
        return []
    *lines, _ = file.read_text(encoding="utf-8").split("\n")
    return [json.loads(line) for line in lines]
