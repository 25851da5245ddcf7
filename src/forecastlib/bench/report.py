"""What was measured as a table, as data, and as a figure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from forecastlib.bench.figure import plot_ratios
from forecastlib.bench.machine import epoch_gflop
from forecastlib.bench.measuring import Measured
from forecastlib.bench.works import WORKS

Results = Mapping[str, Sequence[Measured]]

_HEADER = (
    "| work | who | median (fastest to slowest) | as a multiple of ours | must reach | |",
    "|---|---|---|---|---|---|",
)


def write_report(results: Results, facts: Mapping[str, str], peak: float, folder: Path) -> list[Path]:
    """Write ``bench.md``, ``bench.json`` and ``bench.png``.

    Parameters
    ----------
    results
        By the name of the work.
    facts
        The machine, see :func:`forecastlib.bench.machine.describe`.
    peak
        Its large matrix products, in GFLOP a second.
    folder
        Where to write.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"bench.{kind}" for kind in ("md", "json", "png")]
    paths[0].write_text(markdown(results, facts, peak), encoding="utf-8")
    paths[1].write_text(json.dumps(as_data(results, facts, peak), indent=1) + "\n", encoding="utf-8")
    plot_ratios(results).savefig(paths[2])
    return paths


def markdown(results: Results, facts: Mapping[str, str], peak: float) -> str:
    """Return the table with the machine above it and what the epoch's time consists of below."""
    machine = ", ".join(f"{name} {value}" for name, value in facts.items())
    lines = [f"Measured on: {machine}. Large float32 products: {peak:,.0f} GFLOP/s.", "", *_HEADER]
    for name, measured in results.items():
        lines += rows(name, measured)
    training = results.get("training")
    if training is not None:
        lines += ["", *_share_of_peak(training, peak)]
    return "\n".join(lines) + "\n"


def rows(name: str, measured: Sequence[Measured]) -> list[str]:
    """Return the rows of one work; those of training are followed by the time to the end of the first epoch."""
    work, ours = WORKS[name], measured[0]
    found = []
    for one in measured:
        if one.missing:
            found.append(_row(work.title, one.contender.who, one.missing, "", "", ""))
            continue
        own = one is ours
        times = None if own else one.times(ours)
        goal = work.limit if own else one.contender.goal
        reached = None if goal is None else one.median <= goal if times is None else times >= goal
        found.append(
            _row(
                work.title,
                one.contender.who,
                f"{_number(one.median)} {work.unit} ({_number(min(one.turns))} to {_number(max(one.turns))})"
                if len(one.turns) > 1
                else f"{_number(one.median)} {work.unit}",
                "" if times is None else f"{times:.2f} x",
                "" if goal is None else f"<= {goal:g} {work.unit}" if own else f">= {goal:.3g} x",
                "" if reached is None else "yes" if reached else "no",
            )
        )
    if name == "training":
        found += _first_epoch(measured)
    return found


MOST_OF_KERAS = 1.5
"""The time to the end of our first epoch may be so many times that of Keras."""


def _first_epoch(measured: Sequence[Measured]) -> list[str]:
    title, ours = "the same, to the end of the first epoch: traced and compiled", measured[0]
    found = []
    for one in measured:
        if one.first is None or ours.first is None:
            continue
        times = one.first / ours.first
        goal = one.contender.who == "keras.layers.LSTM"
        cells = ("" if one is ours else f"{times:.2f} x", f">= {1 / MOST_OF_KERAS:.2g} x" if goal else "")
        reached = ("yes" if times >= 1 / MOST_OF_KERAS else "no") if goal else ""
        found.append(_row(title, one.contender.who, f"{_number(one.first)} s", *cells, reached))
    return found


def _share_of_peak(training: Sequence[Measured], peak: float) -> list[str]:
    work = epoch_gflop(3296)
    shares = [f"{one.contender.who} {work / one.median / peak:.0%}" for one in training if not one.missing]
    return [f"The products of an epoch are {work:.1f} GFLOP. Share of the peak: {', '.join(shares)}."]


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _number(value: float) -> str:
    """Three digits that count.

    Examples
    --------
    >>> _number(0.04321), _number(12.345), _number(28300.0)
    ('0.0432', '12.3', '28,300')
    """
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def as_data(results: Results, facts: Mapping[str, str], peak: float) -> dict[str, Any]:
    """Return everything that was measured, in JSON's types."""
    works = {
        name: [
            {
                "who": one.contender.who,
                "unit": WORKS[name].unit,
                "first": one.first,
                "turns": list(one.turns),
                **({"missing": one.missing} if one.missing else {}),
            }
            for one in measured
        ]
        for name, measured in results.items()
    }
    return {"machine": dict(facts), "gemm_gflops": peak, "works": works}
