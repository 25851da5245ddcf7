"""Running the sides of a comparison in separate processes, interleaved."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from multiprocessing import get_context
from statistics import median
from typing import Self

from benchmarks.comparisons import Comparison, Measured, Side
from forecastlib.processes import SINGLE_THREAD


@dataclass(frozen=True)
class Result:
    """The measurements of one side."""

    side: Side
    first: float | None = None  # the very first round, which includes tracing and compilation
    rounds: tuple[float, ...] = ()  # the counted rounds
    missing: str = ""  # why the side was not run

    @property
    def median(self) -> float:
        """The median over rounds."""
        return median(self.rounds)

    def ratio(self, ours: Self) -> float:
        """Return the median over rounds of the ratio of this value to ours.

        Examples
        --------
        The rounds (2, 4, 9) compared with our (1, 1, 3) have the ratios 2, 4 and 3: the median is 3.
        """
        return median(theirs / our for theirs, our in zip(self.rounds, ours.rounds, strict=True))


def run(comparison: Comparison, rounds: int, log: Callable[[str], None] = lambda _: None) -> list[Result]:
    """Run all sides of a comparison; those whose packages are not installed are reported as missing."""
    rounds = comparison.rounds or rounds
    results, processes = {}, {}
    with ExitStack() as stack:
        for side in comparison.sides:
            absent = [package for package in side.packages if find_spec(package) is None]
            if absent:
                results[side] = Result(side, missing=f"{', '.join(absent)} is not installed")
                continue
            process = stack.enter_context(ProcessPoolExecutor(1, mp_context=get_context("spawn")))
            process.submit(_set_up, side, comparison.threads).result()
            processes[side] = process
            log(f"{side.name} is ready")

        def one_round(side: Side) -> float:
            return processes[side].submit(_measure, comparison.unit, comparison.calls).result()

        # Warm-up is not interleaved: compilation would disturb the other sides.
        values = {side: [one_round(side) for _ in range(comparison.warm_up)] for side in processes}
        for number in range(rounds):
            for side in processes:
                values[side].append(one_round(side))
            log(f"round {number + 1} of {rounds}")
    for side, measured in values.items():
        results[side] = Result(side, first=measured[0], rounds=tuple(measured[comparison.warm_up :]))
    return [results[side] for side in comparison.sides]


_measured: Measured  # in the process of a side, what it measures


def _set_up(side: Side, threads: int | None) -> None:
    global _measured
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"
    if threads:
        os.environ.update(dict.fromkeys(SINGLE_THREAD, str(threads)))
    module, _, function = side.setup.partition(":")
    _measured = getattr(import_module(f"benchmarks.{module}"), function)(*side.arguments)


def _measure(unit: str, calls: int) -> float:
    return measure(_measured, unit, calls)


def measure(function: Measured, unit: str, calls: int = 1) -> float:
    """Return the float that a function returns, or the mean time of its calls."""
    start = time.perf_counter()
    for _ in range(calls):
        value = function()
    seconds = (time.perf_counter() - start) / calls
    return value if isinstance(value, float) else seconds * (1000.0 if unit == "ms" else 1.0)
