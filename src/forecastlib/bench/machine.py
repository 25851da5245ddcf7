"""The machine on which something was measured."""

from __future__ import annotations

import os
import platform
import statistics
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

PACKAGES = ("tensorflow", "keras", "numpy", "pandas", "TA-Lib", "torch", "ta")


def describe() -> dict[str, str]:
    """Return processor, cores, system, Python and the versions of the packages that take part."""
    facts = {
        "processor": _processor(),
        "cores": str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }
    for package in PACKAGES:
        try:
            facts[package] = version(package)
        except PackageNotFoundError:
            facts[package] = "not installed"
    return facts


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    if path.exists():
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


def gemm_peak(size: int = 2048, rounds: int = 7) -> float:
    """Return how fast the machine multiplies large float32 matrices on all cores, in GFLOP a second."""
    matrix = np.ones((size, size), dtype=np.float32)
    matrix @ matrix
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        matrix @ matrix
        times.append(time.perf_counter() - start)
    return 2.0 * size**3 / statistics.median(times) / 1e9


def epoch_gflop(windows: int, lookback: int = 60, features: int = 152, units: tuple[int, ...] = (50, 50)) -> float:
    """Count the work of the matrix products of one epoch's LSTM layers, in GFLOP.

    Each product of the way forward has two of the way back, but for the gradient of the first layer's input, which
    nobody asks for.

    Examples
    --------
    >>> round(epoch_gflop(3296), 1)
    59.6
    """
    total, width = 0, features
    for number, size in enumerate(units):
        inputs, states = width * 4 * size, size * 4 * size
        total += (2 if number == 0 else 3) * inputs + 3 * states
        width = size
    return 2.0 * windows * lookback * total / 1e9
