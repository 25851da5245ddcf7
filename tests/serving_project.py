"""A project with a small champion of ^IXIC, for the tests of the service."""

import atexit
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import tiny
from fastapi.testclient import TestClient

from forecastlib.serving import Settings, create_app
from forecastlib.serving.trainings import TrainingQueue
from forecastlib.tracking import registry, runs

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
PARAMETERS = {name: value for name, value in tiny.PARAMETERS.items() if name != "start"}
"""Parameters of all trainings of the small service."""


def register() -> registry.Registered:
    """Register the small forecaster in the current project, and make it champion."""
    forecaster = tiny.forecaster()
    with runs.run("register", {"symbol": "^IXIC"}):
        registered = registry.register(forecaster, tiny.prices(), symbol="^IXIC")
    registry.promote(registered, "the first version")
    return registered


@cache
def _template() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="forecastlib-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    (folder / "original").mkdir()
    with tiny.home(folder / "original"):
        register()
    # Renamed, so that copies do not find the models at their original location but their own.
    return (folder / "original").rename(folder / "template")


@contextmanager
def project(folder: Path) -> Iterator[Path]:
    """Work in a new project with the notebooks and a champion of ^IXIC, copied from a template."""
    shutil.copytree(_template(), folder, dirs_exist_ok=True)
    with tiny.home(folder) as home:
        shutil.copytree(NOTEBOOKS, home / "notebooks")
        yield home


def settings(**changes: object) -> Settings:
    """Return settings whose limits tests do not reach."""
    loose = {
        **{"requests_per_second": 10_000.0, "request_burst": 10_000, "champion_fresh_for": 3_600.0},
        **{"shutdown_seconds": 0.0, "database_seconds": 0.5, "parameters": PARAMETERS},
    }
    return Settings(**(loose | changes))


@contextmanager
def client(given: Settings | None = None, *, program: str = "pass", **options: object) -> Iterator[TestClient]:
    """Serve in this process, with a small program instead of the notebook run."""
    with (Path(os.environ["FORECASTLIB_HOME"]) / "service.log").open("a") as log:
        app = create_app(given or settings(), log_to=log)
        service = app.state.service
        service.trainings = TrainingQueue(
            service.settings,
            service.jobs,
            service.log,
            on_change=service.predictor.version_of.cache_clear,
            command=lambda parameters, **_: [sys.executable, "-c", program],
        )
        with TestClient(app, raise_server_exceptions=False, **options) as opened:
            yield opened
