"""The style of all figures, and the figure of one forecast, which :meth:`forecastlib.Forecast.plot` returns.

Figures are readable on screen, in black-and-white print, and for colour-blind readers.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, ParamSpec

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.rcsetup import cycler
from matplotlib.ticker import Formatter

from forecastlib.errors import ConfigError
from forecastlib.formatting import format_price

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

_MAX_DECIMALS = 12

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


class PriceFormatter(Formatter):
    """Labels ticks with thousands separators, and with as many decimals as tell neighbouring ticks apart."""

    def __call__(self, x: float, pos: int | None = None) -> str:
        """Return the text of a single price, as under the pointer."""
        return format_price(x)

    def format_ticks(self, values: Sequence[float]) -> list[str]:
        """Return the labels of all ticks of an axis."""
        ticks = np.unique(np.asarray(values, dtype=np.float64))
        step = float(np.diff(ticks).min()) if len(ticks) > 1 else 0.0
        exact = (d for d in range(_MAX_DECIMALS) if np.allclose(ticks.round(d), ticks, rtol=0.0, atol=step / 100))
        decimals = next(exact, _MAX_DECIMALS)
        return [f"{value:,.{decimals}f}" for value in values]


def price_axis(axes: Axes, *, log: bool = False) -> None:
    """Label the y axis with prices, on a logarithmic scale if wanted."""
    if log:
        axes.set_yscale("log")
        axes.yaxis.set_minor_formatter(PriceFormatter())
    axes.yaxis.set_major_formatter(PriceFormatter())


@styled
def draw_forecast(forecast: pd.DataFrame, prices: pd.DataFrame | None = None, sessions: int = 90) -> Figure:
    """Draw a forecast with its intervals, after the latest closes.

    Parameters
    ----------
    forecast
        A forecast frame of one symbol, origin and model.
    prices
        Prices of the symbol; those after the origin, if any, are drawn as the outcome. None: only the forecast is
        drawn.
    sessions
        Closes shown before the origin.

    Raises
    ------
    ConfigError
        If there are several forecasts.
    """
    rows = forecast.sort_values("horizon")
    count = len(rows[["symbol", "origin", "model", "model_version"]].drop_duplicates())
    if count != 1:
        raise ConfigError(f"expected a forecast of one origin to draw; got {count}; choose one, such as take([-1])")
    origin, last = rows["origin"].iloc[0], float(rows["last_close"].iloc[0])
    dates = [origin, *rows["target_date"]]
    figure = Figure(figsize=(9, 4.2))
    ((axes,),) = panels(figure)
    lowers = [name for name in map(str, rows) if name.startswith("lower_")]
    coverages = sorted((int(name.removeprefix("lower_")) for name in lowers), reverse=True)
    for coverage, alpha in zip(coverages, (0.2, 0.35), strict=True):
        lower, upper = ([last, *rows[f"{end}_{coverage}"]] for end in ("lower", "upper"))
        axes.fill_between(dates, lower, upper, color=SKY, alpha=alpha, linewidth=0, label=f"{coverage} % interval")
    if prices is not None:
        history, outcome = prices["close"].loc[:origin].tail(sessions), prices["close"].loc[origin : dates[-1]]
        axes.plot(history.index, history, color=INK, label="close")
        if len(outcome) > 1:
            axes.plot(outcome.index, outcome, color=GREY, linewidth=0.9, label="outcome")
    axes.plot(dates, [last, *rows["predicted_price"]], color=RED, marker="o", markersize=4, label="forecast")
    axes.axvline(origin, color=GREY, linewidth=0.8, linestyle=":")
    for position, row in enumerate(rows.itertuples()):
        text = f"{row.horizon} sessions\n{row.change_pct:+.1f} %, {row.direction}\np(up) {row.p_up:.0%}"
        # Alternately above and below, so that the texts of near horizons do not overlap.
        above = position % 2 == 0
        axes.annotate(text, (row.target_date, row.upper_95 if above else row.lower_95), xytext=(0, 4 if above else -4),
                      textcoords="offset points", fontsize=8, ha="center", va="bottom" if above else "top")  # fmt: skip
    price_axis(axes)
    symbol, model, version = rows[["symbol", "model", "model_version"]].iloc[0]
    label = model if version == model else f"{model} {version}"
    axes.set_title(f"{symbol}: forecast of {origin:%Y-%m-%d}, {label}")
    axes.legend(loc="lower left", fontsize=8, ncols=2)
    axes.margins(x=0.06, y=0.18)
    date_axis(axes)
    return figure
