"""Child processes of this library: how many threads they get, and what they inherit."""

from __future__ import annotations

import os
from collections.abc import Mapping

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

QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3", "MLFLOW_DISABLE_TELEMETRY": "true"}
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
