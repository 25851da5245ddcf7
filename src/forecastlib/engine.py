"""Where independent computations run: Dask, on the cores of this machine or on a cluster.

:func:`connect` starts worker processes of one thread each, or connects to a scheduler that exists. The scheduler of a
local cluster lives in the calling process; its workers are started as ``dask worker`` is from a shell. Unlike
:class:`distributed.LocalCluster`, which spawns workers from the calling program, that needs no ``if __name__ ==
"__main__"`` in a script, and the workers of both kinds of cluster are the same.

To use other machines, install the same version of the library there and start ``dask scheduler`` on one of them and
``dask worker tcp://HOST:8786 --nthreads 1 --nworkers N`` on each.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import dask
from distributed import Client, LocalCluster

from forecastlib.errors import ConfigError, ForecastError
from forecastlib.processes import SINGLE_THREAD, child_environment

SCHEDULER_VARIABLE = "FORECASTLIB_SCHEDULER"

MAX_WORKERS = 4
"""Local workers by default: each loads TensorFlow, which takes several hundred megabytes."""

CONNECT_TIMEOUT = 15.0
"""Seconds to wait for an existing scheduler to answer."""

START_TIMEOUT = 120.0
"""Seconds to wait for the first local worker."""

CLOSE_TIMEOUT = 10.0
"""Seconds that local workers have to close before they are killed."""

_SETTINGS = {"distributed.admin.large-graph-warning-threshold": "1 GB"}
"""Shared inputs are part of the graph, so that they are not lost with a worker; they may be larger than 10 MB."""


def default_workers() -> int:
    """Return the number of local workers by default: one per core, at most :data:`MAX_WORKERS`."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, MAX_WORKERS)


@contextlib.contextmanager
def connect(scheduler: str | None = None, workers: int | None = None) -> Iterator[Client]:
    """Yield a client of a cluster.

    Work that is still running when the block ends is cancelled, and a local cluster is shut down. Workers also end if
    this process is killed. A task whose worker dies is run again, on a worker that takes its place.

    Parameters
    ----------
    scheduler
        The address of an existing scheduler, ``tcp://HOST:PORT``; None: the environment variable
        ``FORECASTLIB_SCHEDULER``, and without it a local cluster.
    workers
        Worker processes of a local cluster; None: :func:`default_workers`. Not used with an existing scheduler.

    Raises
    ------
    ConfigError
        If ``workers`` is below 1, or no scheduler answers at the address.
    ForecastError
        If no local worker starts.
    """
    count = default_workers() if workers is None else workers
    if count < 1:
        raise ConfigError(f"expected at least one worker; got workers={workers}")
    address = scheduler or os.environ.get(SCHEDULER_VARIABLE)
    with dask.config.set(_SETTINGS), _existing(address) if address else _local(count) as client:
        yield client


@contextlib.contextmanager
def _existing(address: str) -> Iterator[Client]:
    try:
        client = Client(address, timeout=CONNECT_TIMEOUT, set_as_default=False)  # type: ignore[no-untyped-call]
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"expected a Dask scheduler at {address!r}, an address such as tcp://HOST:8786; {error}"
        ) from error
    with client:
        client.run(_set_environment, SINGLE_THREAD)
        yield client


@contextlib.contextmanager
def _local(workers: int) -> Iterator[Client]:
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="forecastlib-workers-")))
        stack.enter_context(dask.config.set({"temporary-directory": str(folder)}))
        cluster = stack.enter_context(LocalCluster(n_workers=0, dashboard_address="127.0.0.1:0", silence_logs=50))  # type: ignore[no-untyped-call]
        process = stack.enter_context(_worker_processes(cluster.scheduler_address, workers, folder))
        client = stack.enter_context(Client(cluster, set_as_default=False))  # type: ignore[no-untyped-call]
        try:
            client.wait_for_workers(1, timeout=START_TIMEOUT)
        except TimeoutError:
            log = (folder / "workers.log").read_text(encoding="utf-8", errors="replace").strip()[-2000:]
            state = "running" if process.poll() is None else f"exit code {process.returncode}"
            raise ForecastError(
                f"no worker process started within {START_TIMEOUT:g} s ({state}); its log ends with:\n{log}"
            ) from None
        yield client


@contextlib.contextmanager
def _worker_processes(address: str, workers: int, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Start the workers and the process that restarts them, and end them with the block."""
    command = [sys.executable, "-m", "dask", "worker", address, "--nthreads", "1", "--nworkers", str(workers)]
    options = ["--no-dashboard", "--memory-limit", "0", "--local-directory", str(folder)]
    path = os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path)  # models of the caller's own modules
    with (folder / "workers.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, *options, "--death-timeout", str(int(START_TIMEOUT))],
            env=child_environment(PYTHONPATH=path),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C in a terminal is for the caller, who then ends the workers
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(CLOSE_TIMEOUT)
        except subprocess.TimeoutExpired:
            if os.name == "posix":
                os.killpg(process.pid, signal.SIGKILL)
            else:
                process.kill()
            process.wait()


def _set_environment(variables: Mapping[str, str]) -> None:
    os.environ.update(variables)
