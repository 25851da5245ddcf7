"""Measuring: the contenders of a work in processes of their own, taking turns."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Self

import forecastlib
from forecastlib.bench.works import Contender, Work
from forecastlib.errors import ForecastError

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "TF_NUM_INTRAOP_THREADS",
           "TF_NUM_INTEROP_THREADS")  # fmt: skip


@dataclass(frozen=True)
class Measured:
    """What one contender came to.

    Attributes
    ----------
    contender : Contender
    first : float or None
        Its very first turn, with all that is traced and compiled on the way.
    turns : tuple of float
        The turns that count; empty if it could not take part.
    missing : str
        Why it could not.
    """

    contender: Contender
    first: float | None = None
    turns: tuple[float, ...] = ()
    missing: str = ""

    @property
    def median(self) -> float:
        """The median of the turns."""
        return median(self.turns)

    def times(self, ours: Self) -> float:
        """Return how many times our value this one is: the median over rounds, each round for itself.

        Examples
        --------
        The rounds (2, 4, 9) beside our (1, 1, 3) are 2, 4 and 3 times as much: the median is 3.
        """
        return median(other / own for other, own in zip(self.turns, ours.turns, strict=True))


def measure(name: str, work: Work, rounds: int, told: Callable[[str], None] = lambda _: None) -> list[Measured]:
    """Let all contenders of a work take turns.

    Parameters
    ----------
    name
        The key of the work in :data:`forecastlib.bench.WORKS`.
    work
        The work.
    rounds
        Turns that count, unless the work says otherwise.
    told
        Called with a line for each contender that is ready, and each round that is over.

    Returns
    -------
    list of Measured
        In the order of the contenders; those whose packages are not installed say so.

    Raises
    ------
    ForecastError
        If a process dies, with what it said last.
    """
    lacking = {one.who: [need for need in one.needs if find_spec(need) is None] for one in work.contenders}
    present = [number for number, one in enumerate(work.contenders) if not lacking[one.who]]
    count = work.rounds or rounds
    with contextlib.ExitStack() as stack:
        processes = {}
        for number in present:
            processes[number] = stack.enter_context(_Process(name, number, work.threads))
            processes[number].await_ready()
            told(f"{work.contenders[number].who} is ready")
        turns: dict[int, list[float]] = {number: [] for number in present}
        for number in present:  # each warms up by itself: compiling would disturb the others
            turns[number] = [processes[number].turn() for _ in range(work.warm_up)]
        for played in range(count):
            for number in present:
                turns[number].append(processes[number].turn())
            told(f"round {played + 1} of {count}")
    return [
        Measured(one, first=turns[number][0], turns=tuple(turns[number][work.warm_up :]))
        if number in turns
        else Measured(one, missing=f"{', '.join(lacking[one.who])} is not installed")
        for number, one in enumerate(work.contenders)
    ]


class _Process:
    """A process of :mod:`forecastlib.bench.worker`; leaving it ends it."""

    def __init__(self, work: str, number: int, threads: int | None) -> None:
        self._said = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed on leaving
        path = os.pathsep.join([str(Path(str(forecastlib.__file__)).parents[1]), os.environ.get("PYTHONPATH", "")])
        quiet = {"TF_CPP_MIN_LOG_LEVEL": os.environ.get("TF_CPP_MIN_LOG_LEVEL", "2")}
        limited: dict[str, str] = dict.fromkeys(THREADS, str(threads)) if threads else {}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "forecastlib.bench.worker", work, str(number)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            text=True,
            env=os.environ | quiet | limited | {"PYTHONPATH": path.rstrip(os.pathsep)},
        )
        self._name = f"{work}, contender {number}"

    def await_ready(self) -> None:
        """Wait until it has prepared itself."""
        self._answer()

    def turn(self) -> float:
        """Have one turn taken, and return what was measured."""
        assert self._process.stdin is not None, "it is a pipe"
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return float(self._answer())

    def _answer(self) -> str:
        assert self._process.stdout is not None, "it is a pipe"
        line = self._process.stdout.readline()
        if not line:
            code = self._process.wait()
            self._said.seek(0)
            raise ForecastError(f"{self._name} died with exit code {code}:\n{self._said.read().strip()[-2000:]}")
        return str(json.loads(line))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, failed: type[BaseException] | None, *_: object) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None, "both are pipes"
        if failed is not None:
            self._process.kill()
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()  # the end of the input ends the process, which tidies up first
        self._process.wait()
        self._process.stdout.close()
        self._said.close()
