"""The project's folder, file names in it, locks between processes, and the current user."""

from __future__ import annotations

import contextlib
import getpass
import os
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

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


def file_name(symbol: str) -> str:
    """Return the name of a symbol's folder and, with a suffix, of its registered model.

    Two symbols never share a name. Letters and digits of every script and ``^ - . _ =`` stand for themselves, all else
    is percent-encoded as in URLs, and so is a dot at either end; :func:`urllib.parse.unquote` gives the symbol back.

    Examples
    --------
    >>> file_name("^IXIC"), file_name("005930.KS"), file_name("M&M.NS"), file_name("日経"), file_name("..")
    ('^IXIC', '005930.KS', 'M%26M.NS', '日経', '%2E%2E')
    """
    inner = symbol.strip(".")
    start = symbol.find(inner) if inner else len(symbol)
    dots = ("%2E" * start, "%2E" * (len(symbol) - start - len(inner)))
    return "".join(char if char.isalnum() or char in "^-._=" else quote(char, safe="") for char in inner).join(dots)


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
