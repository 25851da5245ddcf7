"""Telling another process how far a run has come: lines of JSON in a file that it names.

Whoever starts a run in a process of its own names the file in the environment variable ``FORECASTLIB_PROGRESS``. The
runner, and the training within it, append a line for each event: ``run`` (the MLflow run has been opened), ``epoch``,
``result`` (what training led to) and ``finished`` (every notebook has run). Without the variable nothing is written.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

VARIABLE = "FORECASTLIB_PROGRESS"


def wanted() -> bool:
    """Say whether anybody has asked for the progress of this process."""
    return bool(os.environ.get(VARIABLE))


def report(event: str, **details: Any) -> None:
    """Append an event to the file that ``FORECASTLIB_PROGRESS`` names, if it names one.

    Parameters
    ----------
    event
        Its name.
    **details
        Anything that JSON can hold.
    """
    if wanted():
        with Path(os.environ[VARIABLE]).open("a", encoding="utf-8") as file:
            file.write(json.dumps({"event": event} | details) + "\n")  # one write, so that a reader sees whole lines


def read_events(file: Path) -> list[dict[str, Any]]:
    """Return the events that have been reported so far, oldest first; none if there is no file yet.

    A last line without its end is left out: the process was stopped while it wrote, or is writing.
    """
    if not file.is_file():
        return []
    *lines, _ = file.read_text(encoding="utf-8").split("\n")
    return [json.loads(line) for line in lines]
