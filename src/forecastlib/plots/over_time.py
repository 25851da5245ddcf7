"""Figures of many trainings or forecasts along time: the backtest's and the scorecard's."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.dates import date2num
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter, StrMethodFormatter

from forecastlib.evaluation.evaluate import RANDOM_WALK
from forecastlib.forecasts import COVERAGES
from forecastlib.plots.style import (
    BLUE,
    CYCLE,
    GREY,
    INK,
    ORANGE,
    SKY,
    WORST_SKILL_SHOWN,
    date_axis,
    styled,
)

if TYPE_CHECKING:
    from forecastlib.evaluation.walkforward import BacktestResult

MOST_SKILL_OVER_TIME = 0.12
"""Skill beyond this, either way, is cut off where it is drawn over time: a bad month must not flatten all others."""


@styled
def plot_backtest_scores(result: BacktestResult, names: dict[str, str] | None = None) -> Figure:
    """Draw the skill of every model against the random walk, of points and of distributions, with bootstrap intervals.

    Parameters
    ----------
    result
        Of :func:`forecastlib.backtest`.
    names
        Labels for models, for instance ``{"lstm": "LSTM"}``.
    """
    labels = names or {}
    models = [model for model in result.models if model != RANDOM_WALK]
    horizons = result.horizons
    figure = Figure(figsize=(9, 1.3 + 0.4 * len(models)))
    kinds = (("skill", "points: MAE", BLUE, "o", 0.14), ("crps_skill", "distributions: CRPS", ORANGE, "s", -0.14))
    for axes, horizon in zip(np.atleast_1d(figure.subplots(1, len(horizons), sharey=True)), horizons, strict=True):
        rows = result.scores.xs(horizon, level="horizon").loc[models[::-1]]
        for name, label, colour, marker, shift in kinds:
            skill = rows[name].clip(-WORST_SKILL_SHOWN, WORST_SKILL_SHOWN)
            ends = rows[[f"{name}_low", f"{name}_high"]].clip(-WORST_SKILL_SHOWN, WORST_SKILL_SHOWN)
            reach = np.abs(ends.to_numpy().T - skill.to_numpy())
            axes.errorbar(skill, np.arange(len(models)) + shift, xerr=reach, fmt=marker, color=colour, markersize=4,
                          linewidth=1.1, label=label)  # fmt: skip
        axes.axvline(0, color=INK, linewidth=1.0)
        axes.locator_params(axis="x", nbins=5)
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:+.2f}"))
        axes.set_yticks(range(len(models)), [labels.get(model, model) for model in models[::-1]])
        axes.set_title(f"{horizon} sessions")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=2, fontsize=9)
    said = "1 - score / score of the random walk; right of 0 is better; bars: 95 % intervals"
    figure.supxlabel(f"{said}; cut off at {WORST_SKILL_SHOWN}", fontsize=9)
    return figure


@styled
def plot_skill_over_time(result: BacktestResult, model: str = "lstm") -> Figure:
    """Draw a model's skill against the random walk over time: of the year before, and of all origins until then.

    Parameters
    ----------
    result
        Of :func:`forecastlib.backtest`.
    model
        The model's name in it.
    """
    horizons = result.horizons
    figure = Figure(figsize=(9, 1.9 * len(horizons) + 0.6))
    for axes, horizon in zip(np.atleast_1d(figure.subplots(len(horizons), sharex=True)), horizons, strict=True):
        seen = result.over_time(model, horizon)
        axes.fill_between(seen.index, seen["low"], seen["high"], color=SKY, alpha=0.35, linewidth=0,
                          label="95 % interval of it")  # fmt: skip
        axes.plot(seen.index, seen["skill"], color=BLUE, label="all origins until then")
        axes.plot(seen.index, seen["rolling_skill"], color=ORANGE, linewidth=0.9, linestyle="--",
                  label="the 250 origins before")  # fmt: skip
        axes.axhline(0, color=INK, linewidth=1.0)
        axes.set_ylim(max(axes.get_ylim()[0], -MOST_SKILL_OVER_TIME), min(axes.get_ylim()[1], MOST_SKILL_OVER_TIME))
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:+.3g}"))
        axes.set_title(f"{horizon} sessions ahead", pad=12 if horizon == horizons[0] else None)
        _periods(axes, named=horizon == horizons[0])
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=9)
    figure.supylabel("skill, errors relative to the last close", fontsize=9)
    date_axis(axes)
    return figure


@styled
def plot_coverage_over_time(result: BacktestResult) -> Figure:
    """Draw how often outcomes were inside the ranges, over the 250 origins before: as trained, renewed, adaptive.

    Parameters
    ----------
    result
        Of :func:`forecastlib.backtest`.
    """
    lines = (
        ("lstm_as_trained", "as trained", GREY, "-"),
        ("lstm", "renewed each month", BLUE, "-"),
        ("lstm_adaptive", "and adaptive", ORANGE, "--"),
    )
    horizons = result.horizons
    figure = Figure(figsize=(9, 1.9 * len(horizons) + 0.6))
    grid = np.atleast_2d(figure.subplots(len(horizons), len(COVERAGES), sharex=True))
    for row, horizon in zip(grid, horizons, strict=True):
        for axes, coverage in zip(row, COVERAGES, strict=True):
            for name, label, colour, line in lines:
                seen = result.over_time(name, horizon)[f"coverage_{coverage}"]
                axes.plot(seen.index, seen, color=colour, linestyle=line, label=label)
            axes.axhline(coverage / 100.0, color=INK, linewidth=0.9, linestyle=":", label="meant")
            axes.yaxis.set_major_formatter(PercentFormatter(1.0))
            axes.set_title(f"{coverage} % range, {horizon} sessions", pad=12 if horizon == horizons[0] else None)
            _periods(axes, named=horizon == horizons[0])
            date_axis(axes)
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=9)
    return figure


def _periods(axes: Axes, *, named: bool) -> None:
    """Shade the named periods that are in view, without widening it."""
    from forecastlib.evaluation.walkforward.scoring import PERIODS

    first, last = axes.get_xlim()
    for number, (name, ends) in enumerate(PERIODS.items()):
        start, end = (float(date2num(pd.Timestamp(day))) for day in ends)
        if end > first and start < last:
            axes.axvspan(max(start, first), min(end, last), linewidth=0, color=GREY,
                         alpha=(0.14, 0.26)[number % 2])  # fmt: skip # neighbours must be told apart
            if named:
                axes.annotate(name, ((max(start, first) + min(end, last)) / 2.0, 1.0), xytext=(0, 2), fontsize=7,
                              xycoords=("data", "axes fraction"), textcoords="offset points", ha="center")  # fmt: skip
    axes.set_xlim(first, last)


@styled
def plot_reliability(result: BacktestResult, model: str = "lstm") -> Figure:
    """Draw how often events happened against the probability stated for them, with the expected calibration error.

    Parameters
    ----------
    result
        Of :func:`forecastlib.backtest`.
    model
        The model's name in it.
    """
    titles = {"p_up": "the price ends above the last close", "confidence": "the call comes true"}
    figure = Figure(figsize=(9, 4.3))
    for axes, (stated, title) in zip(figure.subplots(1, 2), titles.items(), strict=True):
        axes.axline((0, 0), slope=1, color=GREY, linewidth=0.9, linestyle=":")
        for horizon, marker, colour in zip(result.horizons, itertools.cycle("osD^v"), itertools.cycle(CYCLE)):
            found = result.reliability(stated, model, horizon)
            error = float(result.calibration[stated].loc[(model, horizon)])
            sizes = 8.0 + 180.0 * found["count"] / found["count"].sum()
            axes.scatter(found["stated"], found["observed"], s=sizes, color=colour, marker=marker, alpha=0.8,
                         label=f"{horizon} sessions: calibration error {error:.3f}")  # fmt: skip
        axes.set_xlabel("stated probability")
        axes.set_xlim(0.0, 1.0)
        axes.set_ylim(0.0, 1.0)
        axes.set_title(f"{stated}: {title}")
        axes.legend(loc="upper left", fontsize=8)
    figure.axes[0].set_ylabel("how often it happened")
    return figure


@styled
def plot_scorecard(scores: pd.DataFrame) -> Figure:
    """Draw how the scores of settled forecasts have gone over time: skill, coverage of the ranges, calls.

    Parameters
    ----------
    scores
        Of :func:`forecastlib.ledger.scores.over_time`.
    """
    figure = Figure(figsize=(9, 7.5))
    skill, *coverages, calls = figure.subplots(2 + len(COVERAGES), sharex=True)
    horizons = list(scores.index.unique("horizon"))
    for horizon, colour in zip(horizons, itertools.cycle(CYCLE)):
        seen = scores.xs(horizon, level="horizon")
        skill.plot(seen.index, seen["skill"], color=colour, label=f"{horizon} sessions")
        for axes, coverage in zip(coverages, COVERAGES, strict=True):
            axes.plot(seen.index, seen[f"coverage_{coverage}"], color=colour)
        calls.plot(seen.index, seen["hit_rate"], color=colour)
        calls.plot(seen.index, seen["confidence"], color=colour, linestyle="--", linewidth=0.9)
    skill.axhline(0.0, color=INK, linewidth=0.9, linestyle=":")
    skill.set_title("Skill: 1 - MAE / MAE of the random walk")
    for axes, coverage in zip(coverages, COVERAGES, strict=True):
        axes.axhline(coverage / 100.0, color=INK, linewidth=0.9, linestyle=":")
        axes.set_title(f"Prices inside the {coverage} % range")
    calls.set_title("Calls that came true, and the confidence stated for them (dashed)")
    for axes in (*coverages, calls):
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    date_axis(calls)
    figure.legend(
        *skill.get_legend_handles_labels(), loc="outside lower center", ncols=max(1, len(horizons)), fontsize=9
    )
    return figure
