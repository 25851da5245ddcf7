"""What tasks have led to, kept as Parquet: one file a task, written aside and put in place at once."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pandas as pd
import pyarrow as pa  # type: ignore[import-untyped]

from forecastlib.evaluation.walkforward.tasks import Task

_log = logging.getLogger(__name__)


def place(folder: Path, task: Task, key: str) -> Path:
    """Return where a task's forecasts are kept."""
    what = "baselines" if task.seed is None else f"seed{task.seed}"
    return folder / f"fold{task.fold}_{what}_{key}.parquet"


def keep(frame: pd.DataFrame, path: Path) -> None:
    """Write forecasts, whole or not at all; ``attrs`` are kept too."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        frame.to_parquet(aside, index=False)
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def find(path: Path) -> pd.DataFrame | None:
    """Read what was kept, if it was; a file that is damaged is as good as none, and the log says so."""
    if not path.is_file():
        return None
    try:
        return pd.read_parquet(path)
    except (pa.ArrowException, OSError) as error:
        _log.warning("%s is damaged (%s); it is computed again", path, error)
        return None
