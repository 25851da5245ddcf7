"""The figure of benchmarks: how many times our value each peer's is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib as mpl
from matplotlib.figure import Figure

from forecastlib.bench.measuring import Measured
from forecastlib.plots import BLUE, GREY, INK, STYLE


def plot_ratios(results: Mapping[str, Sequence[Measured]]) -> Figure:
    """Draw a bar for each peer that took part, on a logarithmic axis, with ours as the line at 1.

    Parameters
    ----------
    results
        By the name of the work, ours first.
    """
    bars = [
        (f"{name.replace('_', ' ')}: {one.contender.who}", one.times(measured[0]))
        for name, measured in results.items()
        for one in measured[1:]
        if not one.missing
    ]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9, 1.0 + 0.34 * max(len(bars), 1)))
        axes = figure.subplots()
        places = range(len(bars), 0, -1)
        axes.barh(places, [times - 1 for _, times in bars], left=1.0, color=BLUE, height=0.6)
        for place, (_, times) in zip(places, bars, strict=True):
            axes.annotate(f" {times:,.1f} x", (max(times, 1.0), place), va="center", color=INK, fontsize=9)
        axes.set_yticks(places, [label for label, _ in bars], fontsize=8)
        axes.set_xscale("log")
        axes.axvline(1.0, color=GREY)
        axes.grid(axis="y", visible=False)
        axes.margins(x=0.12)
        axes.set_title("Time or memory, as a multiple of forecastlib's")
    return figure
