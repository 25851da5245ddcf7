"""A process in which one contender works: ``python -m forecastlib.bench.worker WORK NUMBER``.

Says when it is ready, then does one turn for every line of standard input, and says what it measured.
"""

from __future__ import annotations

import json
import os
import sys
import time
from importlib import import_module

from forecastlib.bench.works import WORKS, Turn


def main(work: str, number: int) -> None:
    """Take turns until the input ends."""
    with os.fdopen(os.dup(1), "w") as answers:
        os.dup2(2, 1)  # whatever else prints must not come between the answers
        turn = prepare(WORKS[work].contenders[number].prepare)
        repeats = WORKS[work].repeats
        print(json.dumps("ready"), file=answers, flush=True)
        for _ in sys.stdin:
            print(json.dumps(take(turn, WORKS[work].unit, repeats)), file=answers, flush=True)


def prepare(named: str) -> Turn:
    """Call what ``module:function`` or ``module:function(number)`` names, and return the turn it prepares."""
    module, _, function = named.partition(":")
    name, _, argument = function.removesuffix(")").partition("(")
    found = getattr(import_module(f"forecastlib.bench.{module}"), name)
    turn: Turn = found(int(argument)) if argument else found()
    return turn


def take(turn: Turn, unit: str, repeats: int) -> float:
    """Take a turn, and return what it told, or else how long one call took."""
    start = time.perf_counter()
    for _ in range(repeats):
        told = turn()
    seconds = (time.perf_counter() - start) / repeats
    return told if told is not None else seconds * (1000.0 if unit == "ms" else 1.0)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
