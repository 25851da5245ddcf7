"""Contenders in starting: processes from cold to their result."""

from __future__ import annotations

import atexit
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from forecastlib.bench.works import Turn


def _command(*arguments: str, **variables: str) -> Turn:
    def turn() -> None:
        subprocess.run([sys.executable, *arguments], env=os.environ | variables, check=True, capture_output=True)

    return turn


def import_library() -> Turn:
    """``import forecastlib``."""
    return _command("-c", "import forecastlib")


def import_tensorflow() -> Turn:
    """``import tensorflow``, the bare minimum of whatever uses it."""
    return _command("-c", "import tensorflow")


def forecast_command() -> Turn:
    """Run the command, with a champion in a project of its own."""
    home = Path(tempfile.mkdtemp(prefix="forecastlib-bench-"))
    atexit.register(shutil.rmtree, home, ignore_errors=True)
    os.environ["FORECASTLIB_HOME"] = str(home)
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    os.environ.pop("FORECASTLIB_LEDGER", None)
    import pandas as pd

    from forecastlib.bench.forecasting import trained
    from forecastlib.data.sources import open_source
    from forecastlib.tracking import registry, runs

    history: pd.DataFrame = open_source("bundled").fetch("^GSPC")
    runs.connect()
    with runs.run("bench", {"symbol": "^GSPC"}):
        registered = registry.register(trained(), history, symbol="^GSPC")
    registry.promote(registered, "to be measured")
    turn = _command("-m", "forecastlib.cli", "forecast", "^GSPC")
    turn()  # the ledger is made by the first forecast
    return turn
