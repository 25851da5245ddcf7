"""The style of all figures: readable in HTML and in black-and-white print, for colour-blind readers too."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, ParamSpec

import matplotlib as mpl
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.ticker import StrMethodFormatter

# Okabe and Ito's palette, told apart by all kinds of colour vision.
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
    "xtick.color": GREY,
    "ytick.color": GREY,
    "text.color": INK,
    "axes.prop_cycle": cycler(color=CYCLE),
}

WORST_SKILL_SHOWN = 0.3
"""Bars of skill end here; the figure beside them is the true one."""

P = ParamSpec("P")


def styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Draw within the project's style, leaving the user's own settings as they are."""

    @functools.wraps(draw)
    def styled(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with mpl.rc_context(STYLE):
            return draw(*args, **kwargs)

    return styled


def date_axis(axes: Axes) -> None:
    """Let the axis of x tell dates, shortly."""
    locator = AutoDateLocator(minticks=4, maxticks=9)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))


def log_price_axis(axes: Axes) -> None:
    """Let the axis of y be logarithmic, with whole prices at it."""
    axes.set_yscale("log")
    for set_formatter in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
        set_formatter(StrMethodFormatter("{x:,.0f}"))
