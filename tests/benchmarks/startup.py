"""Processes, from a cold start to their result."""

from __future__ import annotations

import atexit
import os
import subprocess
import sys
import tempfile

from benchmarks.comparisons import Measured


def _run(*arguments: str) -> Measured:
    def run() -> None:
        done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{' '.join(arguments)} failed with exit code {done.returncode}:\n{done.stderr[-2000:]}")

    return run


def import_forecastlib() -> Measured:
    """``import forecastlib``."""
    return _run("-c", "import forecastlib")


def import_tensorflow() -> Measured:
    """``import tensorflow``, the lower bound for everything that uses it."""
    return _run("-c", "import tensorflow")


def forecast_command() -> Measured:
    """Run the command with a champion in a temporary project."""
    folder = tempfile.TemporaryDirectory(prefix="forecastlib-benchmark-")
    os.environ["FORECASTLIB_HOME"] = folder.name
    atexit.register(folder.cleanup)
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    os.environ.pop("FORECASTLIB_LEDGER", None)
    _run("-m", "forecastlib.cli", "train", "^GSPC", "EPOCHS=1", "--no-progress")()
    forecast = _run("-m", "forecastlib.cli", "forecast", "^GSPC")
    forecast()  # the first forecast creates the ledger
    return forecast
