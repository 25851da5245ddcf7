"""The project's folder, file names in it, locks between processes, and the current user."""

from __future__ import annotations

import contextlib
import getpass
import os
import re
from collections.abc import Iterator
from pathlib import Path

HOME_VARIABLE = "FORECASTLIB_HOME"
LOCK_TIMEOUT = 600.0
"""Seconds that :func:`file_lock` waits by default."""


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


@contextlib.contextmanager
def file_lock(path: Path, timeout: float = LOCK_TIMEOUT) -> Iterator[None]:
    """Hold a lock that excludes every other process and thread on this machine.

    The operating system releases the lock when the process ends, however it ends. The lock is not reentrant: a thread
    that already holds it waits for itself until the timeout.

    Parameters
    ----------
    path
        The lock file. It and its folder are created if they do not exist; the file stays when the lock is released.
    timeout
        Seconds to wait for the current holder.

    Raises
    ------
    TimeoutError
        If the lock is still held after ``timeout`` seconds.
    OSError
        If the file cannot be created or opened.
    """
    import filelock  # here: loads asyncio, which most commands do not need

    lock = filelock.FileLock(path)
    try:
        lock.acquire(timeout=timeout)
    except filelock.Timeout:
        raise TimeoutError(
            f"could not lock {path} within {timeout:g} s: another process or thread is holding it; "
            "wait for it to finish, or stop it, and try again"
        ) from None
    try:
        yield
    finally:
        lock.release()


def current_user() -> str | None:
    """Return the operating system's name of the current user; None where there is none, as in some containers."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return None
