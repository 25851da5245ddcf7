"""The project's folder, names of files and models in it, and who works there."""

from __future__ import annotations

import getpass
import os
import re
from pathlib import Path

HOME_VARIABLE = "FORECASTLIB_HOME"


def project_root() -> Path:
    """Return the folder that holds ``mlruns/`` and ``reports/``.

    ``FORECASTLIB_HOME``, else the nearest folder at or above the working directory that has both ``mlruns`` and
    ``notebooks``, else the working directory.
    """
    home = os.environ.get(HOME_VARIABLE)
    if home:
        return Path(home).expanduser().resolve()
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "mlruns").is_dir() and (folder / "notebooks").is_dir():
            return folder
    return here


def slug(symbol: str) -> str:
    """Return a symbol as a name for folders and registered models.

    Examples
    --------
    >>> slug("^IXIC"), slug("BTC-USD")
    ('IXIC', 'BTC_USD')
    """
    return re.sub(r"[^A-Za-z0-9]+", "_", symbol).strip("_") or "unnamed"


def current_user() -> str | None:
    """Return the name of the operating system's user; None where there is none, as in some containers."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return None
