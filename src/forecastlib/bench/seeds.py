"""Contenders in training several seeds of the same network: side by side, or one after the other."""

from __future__ import annotations

import atexit
import os
import subprocess
import sys

from forecastlib.bench.training import ours
from forecastlib.bench.works import Turn
from forecastlib.walkforward.processes import ONE_THREAD, default_workers


def side_by_side(seeds: int) -> Turn:
    """Train an epoch of every seed in processes of one thread each, one a core, as the backtest does."""
    command = [sys.executable, "-m", "forecastlib.bench.worker", "training", "0"]
    workers = [
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1, env=os.environ | ONE_THREAD
        )
        for _ in range(min(default_workers(), seeds))
    ]
    for worker in workers:
        atexit.register(worker.kill)
        _hear(worker)

    def turn() -> None:
        shares = [len(range(number, seeds, len(workers))) for number in range(len(workers))]
        for worker, share in zip(workers, shares, strict=True):
            assert worker.stdin is not None, "it is a pipe"
            worker.stdin.write("\n" * share)
            worker.stdin.flush()
        for worker, share in zip(workers, shares, strict=True):
            for _ in range(share):
                _hear(worker)

    return turn


def one_after_the_other(seeds: int) -> Turn:
    """Train an epoch of every seed in one process, each on all cores."""
    epoch = ours()

    def turn() -> None:
        for _ in range(seeds):
            epoch()

    return turn


def _hear(worker: subprocess.Popen[str]) -> None:
    assert worker.stdout is not None, "it is a pipe"
    if not worker.stdout.readline():
        raise RuntimeError(f"a process that trains has ended with exit code {worker.wait()}")
