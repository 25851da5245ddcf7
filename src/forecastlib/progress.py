"""Progress of a run for another process: events as lines of JSON in a file.

A process that starts a run names the file in the environment variable ``FORECASTLIB_PROGRESS``. The runner and the
training append a line for each event: ``run`` (the MLflow run has started), ``epoch``, ``result`` (of the training) and
``finished`` (all notebooks have been executed). Without the variable nothing is written.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

VARIABLE = "FORECASTLIB_PROGRESS"


def report(event: str, **details: Any) -> None:
    """Append an event to the file that ``FORECASTLIB_PROGRESS`` names, if it is set.

    Parameters
    ----------
    event
        Name of the event.
    **details
        Values that JSON can represent.
    """
    if path := os.environ.get(VARIABLE):
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(json.dumps({"event": event} | details) + "\n")  # one write, so readers see complete lines


def read_events(file: Path) -> list[dict[str, Any]]:
    """Return the events reported so far, oldest first; none if the file does not exist yet.

    An incomplete last line is ignored: it is being written, or its process was killed.
    """
    if not file.is_file():
        return []
    *lines, _ = file.read_text(encoding="utf-8").split("\n")
    return [json.loads(line) for line in lines]
