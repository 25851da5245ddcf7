"""The style of all figures: readable on screen, in black-and-white print, and for colour-blind readers."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, ParamSpec

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.rcsetup import cycler
from matplotlib.ticker import StrMethodFormatter

# The palette of Okabe and Ito, whose colours can be distinguished with any colour vision.
INK, GREY, LIGHT = "#1b1f24", "#7d8590", "#e3e6eb"
BLUE, ORANGE, GREEN, PURPLE, SKY, RED = "#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00"
CYCLE = (BLUE, ORANGE, GREEN, PURPLE, SKY, RED)
SETS = {"train": BLUE, "validation": ORANGE, "test": GREEN}

STYLE: dict[Any, Any] = {
    "figure.dpi": 110,
    "savefig.dpi": 150,
    "figure.constrained_layout.use": True,
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": LIGHT,
    "grid.linewidth": 0.8,
    "lines.linewidth": 1.3,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "text.color": INK,
    "axes.prop_cycle": cycler(color=CYCLE),
}

MAX_SKILL_SHOWN = 0.3
"""Skill beyond this, either way, is cut off in bars and intervals; the number beside them is not."""

P = ParamSpec("P")


def styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Draw in the style of the project without changing the user's own settings."""

    @functools.wraps(draw)
    def styled(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with mpl.rc_context(STYLE):
            return draw(*args, **kwargs)

    return styled


def panels(figure: Figure, rows: int = 1, columns: int = 1, **options: Any) -> list[list[Any]]:
    """Return the axes of a grid of panels, row by row; untyped, as matplotlib's stubs do not allow dates on an axis."""
    return [list(row) for row in figure.subplots(rows, columns, squeeze=False, **options)]


def date_axis(axes: Axes) -> None:
    """Label the x axis with short dates."""
    locator = AutoDateLocator(minticks=4, maxticks=9)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))


def price_axis(axes: Axes, *, log: bool = False) -> None:
    """Label the y axis with whole prices, on a logarithmic scale if wanted."""
    if log:
        axes.set_yscale("log")
        axes.yaxis.set_minor_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
