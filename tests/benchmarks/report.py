"""The results as a table, as data, and as a figure, with a description of the machine."""

from __future__ import annotations

import json
import os
import platform
import statistics
import timeit
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from benchmarks.comparisons import COMPARISONS
from benchmarks.inputs import BATCH, FEATURES, LOOKBACK, WINDOWS
from benchmarks.measuring import Result
from forecastlib.drawing import BLUE, GREY, INK, STYLE

Results = Mapping[str, Sequence[Result]]

PACKAGES = ("tensorflow", "keras", "numpy", "pandas", "TA-Lib", "torch", "ta")

FIRST_EPOCH_GOAL = 1 / 1.5  # minimum ratio of the first epoch of Keras to ours

_HEADER = (
    "| task | side | median (fastest to slowest) | ratio to ours | goal | reached |",
    "|---|---|---|---|---|---|",
)


def write_report(results: Results, machine: Mapping[str, str], peak: float, folder: Path) -> list[Path]:
    """Write ``bench.md``, ``bench.json`` and ``bench.png``; see :func:`describe_machine` and :func:`peak_gflops`."""
    folder.mkdir(parents=True, exist_ok=True)
    table, data, figure = (folder / f"bench.{suffix}" for suffix in ("md", "json", "png"))
    table.write_text(markdown(results, machine, peak), encoding="utf-8")
    data.write_text(json.dumps(as_data(results, machine, peak), indent=1) + "\n", encoding="utf-8")
    plot_ratios(results).savefig(figure)
    return [table, data, figure]


def markdown(results: Results, machine: Mapping[str, str], peak: float) -> str:
    """Return the machine, the table, and the share of peak performance that training reaches."""
    facts = ", ".join(f"{name} {value}" for name, value in machine.items())
    lines = [f"Measured on: {facts}. Large float32 products: {peak:,.0f} GFLOP/s.", "", *_HEADER]
    for name, measured in results.items():
        lines += rows(name, measured)
    if "training" in results:
        work = epoch_gflop(WINDOWS // BATCH * BATCH, LOOKBACK, FEATURES)
        run = [result for result in results["training"] if not result.missing]
        shares = ", ".join(f"{result.side.name} {work / result.median / peak:.0%}" for result in run)
        lines += ["", f"The products of an epoch are {work:.1f} GFLOP. Share of the peak: {shares}."]
    return "\n".join(lines) + "\n"


def rows(name: str, measured: Sequence[Result]) -> list[str]:
    """Return the rows of a comparison; those of training are followed by the time of the first epoch."""
    comparison, ours = COMPARISONS[name], measured[0]
    title, unit, table = comparison.title, comparison.unit, []
    for result in measured:
        if result.missing:
            table.append(_row(title, result.side.name, result.missing))
            continue
        value = f"{_digits(result.median)} {unit}"
        if len(result.rounds) > 1:
            value += f" ({_digits(min(result.rounds))} to {_digits(max(result.rounds))})"
        if result is not ours:
            table.append(_row(title, result.side.name, value, *_ratio(result.ratio(ours), result.side.goal)))
        elif comparison.limit is None:
            table.append(_row(title, result.side.name, value))
        else:
            limit = f"<= {comparison.limit:g} {unit}"
            table.append(_row(title, result.side.name, value, "", limit, _yes(result.median <= comparison.limit)))
    if name == "training":
        title = "the same, to the end of the first epoch, including tracing and compilation"
        for result in measured:
            if result.first is None or ours.first is None:
                continue
            goal = FIRST_EPOCH_GOAL if result.side.name == "keras.layers.LSTM" else None
            ratio = () if result is ours else _ratio(result.first / ours.first, goal)
            table.append(_row(title, result.side.name, f"{_digits(result.first)} s", *ratio))
    return table


def _ratio(ratio: float, goal: float | None) -> tuple[str, ...]:
    return f"{ratio:.2f} x", *(() if goal is None else (f">= {goal:.3g} x", _yes(ratio >= goal)))


def _yes(reached: bool) -> str:
    return "yes" if reached else "no"


def _row(*cells: str) -> str:
    return f"| {' | '.join([*cells, *[''] * (6 - len(cells))])} |"


def _digits(value: float) -> str:
    """Format with three significant digits.

    Examples
    --------
    >>> _digits(0.04321), _digits(12.345), _digits(28300.0)
    ('0.0432', '12.3', '28,300')
    """
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def as_data(results: Results, machine: Mapping[str, str], peak: float) -> dict[str, Any]:
    """Return all measurements in the types of JSON."""
    comparisons = {
        name: [
            {"side": r.side.name, "unit": COMPARISONS[name].unit, "first": r.first, "rounds": list(r.rounds)}
            | ({"missing": r.missing} if r.missing else {})
            for r in measured
        ]
        for name, measured in results.items()
    }
    return {"machine": dict(machine), "gemm_gflops": peak, "comparisons": comparisons}


def plot_ratios(results: Results) -> Figure:
    """Draw the ratio of each alternative to ours on a logarithmic axis."""
    ratios = {
        f"{name.replace('_', ' ')}: {result.side.name}": result.ratio(measured[0])
        for name, measured in results.items()
        for result in measured[1:]
        if not result.missing
    }
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9, 1.0 + 0.34 * max(len(ratios), 1)))
        axes = figure.subplots()
        bars = axes.barh(list(ratios), [ratio - 1 for ratio in ratios.values()], left=1.0, color=BLUE, height=0.6)
        axes.bar_label(bars, [f" {ratio:,.1f} x" for ratio in ratios.values()], color=INK, fontsize=9)
        axes.tick_params("y", labelsize=8)
        axes.invert_yaxis()
        axes.set_xscale("log")
        axes.axvline(1.0, color=GREY)
        axes.grid(axis="y", visible=False)
        axes.margins(x=0.12)
        axes.set_title("Time or memory as a multiple of forecastlib's")
    return figure


def describe_machine() -> dict[str, str]:
    """Return processor, cores, system, and the versions of Python and of the packages that are compared."""
    processor = platform.processor()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
        processor = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), processor)
    facts = {
        "processor": processor or "unknown",
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


def peak_gflops(size: int = 2048, rounds: int = 7) -> float:
    """Return the speed of large float32 matrix products on all cores, in GFLOP per second."""
    matrix = np.ones((size, size), dtype=np.float32)
    times = timeit.repeat(lambda: matrix @ matrix, number=1, repeat=rounds + 1)[1:]
    return 2.0 * size**3 / statistics.median(times) / 1e9


def epoch_gflop(windows: int, lookback: int, features: int, units: tuple[int, ...] = (50, 50)) -> float:
    """Count the matrix products of the LSTM layers in one epoch, in GFLOP.

    Each forward product has two backward ones, except that the gradient of the inputs of the first layer is not needed.

    Examples
    --------
    >>> round(epoch_gflop(3296, 60, 152), 1)
    59.6
    """
    total, width = 0, features
    for layer, size in enumerate(units):
        total += (2 if layer == 0 else 3) * width * 4 * size + 3 * size * 4 * size
        width = size
    return 2.0 * windows * lookback * total / 1e9
