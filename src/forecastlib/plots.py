"""Figures of prices, features and sets, of trainings, forecasts and scores, of backtests and of the scorecard.

Every function takes objects of this library and returns a matplotlib figure in the style of
:mod:`forecastlib.drawing`; none changes global state.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.dates import date2num
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter, StrMethodFormatter

from forecastlib.drawing import (
    BLUE,
    CYCLE,
    GREEN,
    GREY,
    INK,
    LIGHT,
    MAX_SKILL_SHOWN,
    ORANGE,
    RED,
    SETS,
    SKY,
    date_axis,
    draw_forecast,
    panels,
    price_axis,
    styled,
)
from forecastlib.evaluation.backtest_result import PERIODS
from forecastlib.evaluation.score_table import RANDOM_WALK
from forecastlib.features import CATALOGUE, GROUPS
from forecastlib.forecasts import COVERAGES, Forecast, require_forecasts

if TYPE_CHECKING:
    from forecastlib.evaluation.backtest_result import BacktestResult
    from forecastlib.evaluation.evaluate import Evaluation
    from forecastlib.samples.splits import Split
    from forecastlib.samples.windows import Windows


MAX_SKILL_OVER_TIME = 0.12
"""Skill beyond this, either way, is cut off where it is drawn over time, so that one bad month does not flatten it."""

VARIANTS = {"_as_trained": "as trained", "": "recalibrated", "_adaptive": "recalibrated and adaptive"}
"""Endings of the names of a model's variants in a backtest, which differ in their intervals, with their labels."""


@styled
def plot_prices(prices: pd.DataFrame) -> Figure:
    """Draw the closes on a logarithmic axis, with the volume below.

    Parameters
    ----------
    prices
        Prices of one symbol.
    """
    figure = Figure(figsize=(9, 4.6))
    (above,), (below,) = panels(figure, 2, sharex=True, height_ratios=[3, 1])
    above.plot(prices.index, prices["close"], color=BLUE, linewidth=1.0)
    price_axis(above, log=True)
    above.set_title(f"{prices.attrs.get('symbol', '')}: close (log scale)")
    monthly = prices["volume"].resample("MS").mean()
    below.bar(monthly.index, monthly / 1e9, width=25, color=GREY)
    below.set_title("Volume, monthly mean, billions")
    date_axis(below)
    return figure


@styled
def plot_feature_groups(features: pd.DataFrame) -> Figure:
    """Draw the median, the middle 50 % and the middle 90 % of the standardised features of each group over time.

    Parameters
    ----------
    features
        Features of one symbol; the warm-up is left out. Features that are not built in share the panel ``own``.
    """
    complete = features.dropna()
    standardised = (complete - complete.mean()) / complete.std().replace(0.0, 1.0)
    groups = {group: [f.name for f in members if f.name in standardised] for group, members in GROUPS.items()}
    groups["own"] = [str(name) for name in standardised if name not in CATALOGUE]
    groups = {group: names for group, names in groups.items() if names}
    figure = Figure(figsize=(9, 1.25 * len(groups) + 0.5))
    for (axes,), (group, names) in zip(panels(figure, len(groups), sharex=True), groups.items(), strict=True):
        monthly = standardised[names].resample("MS").mean()
        levels = monthly.quantile([0.05, 0.25, 0.5, 0.75, 0.95], axis=1)
        axes.fill_between(monthly.index, levels.loc[0.05], levels.loc[0.95], color=SKY, alpha=0.35, linewidth=0)
        axes.fill_between(monthly.index, levels.loc[0.25], levels.loc[0.75], color=BLUE, alpha=0.45, linewidth=0)
        axes.plot(monthly.index, levels.loc[0.5], color=INK, linewidth=0.9)
        axes.set_title(f"{group} ({len(names)})", fontsize=9)
        axes.set_ylim(-3.2, 3.2)
    date_axis(axes)
    figure.supylabel("standard deviations from the mean", fontsize=9)
    return figure


@styled
def plot_split(windows: Windows, split: Split, prices: pd.DataFrame) -> Figure:
    """Draw the sets on a time axis, with the purged samples between them and the time their labels reach into.

    Parameters
    ----------
    windows, split
        The samples and their sets.
    prices
        Prices of the symbol.
    """
    figure = Figure(figsize=(9, 4.4))
    (above,), (below,) = panels(figure, 2, sharex=True, height_ratios=[3, 1.2])
    above.plot(prices.index, prices["close"], color=LIGHT, linewidth=1.0)
    price_axis(above, log=True)
    ends = []
    for level, (name, index) in enumerate(split.sets().items()):
        chosen = windows.take(index)
        first, last, known = chosen.origins.min(), chosen.origins.max(), chosen.label_dates.max()
        above.plot(chosen.origins, chosen.last_close, color=SETS[name], linewidth=1.2, label=f"{name} ({len(index):,})")
        below.plot([first, last], [-level, -level], color=SETS[name], linewidth=7, solid_capstyle="butt")
        below.plot([last, known], [-level, -level], color=SETS[name], linewidth=2, solid_capstyle="butt")
        ends.append((first, last))
    for (_, before), (after, _) in itertools.pairwise(ends):
        for axes in (above, below):
            axes.axvspan(before, after, color=RED, alpha=0.25, linewidth=0)
        gap = int(prices.index.searchsorted(after) - prices.index.searchsorted(before)) - 1
        above.annotate(f"{gap} purged", (before, 0.03), xycoords=("data", "axes fraction"), fontsize=8, color=RED,
                       ha="right", xytext=(-4, 0), textcoords="offset points")  # fmt: skip
    above.legend(loc="upper left")
    above.set_title(f"{prices.attrs.get('symbol', '')}: training, validation and test set, purged by label dates")
    below.set_yticks([0, -1, -2], list(split.sets()))
    below.set_ylim(-2.6, 0.6)
    below.set_title("Thick: origins; thin: until the last label is known", fontsize=9, fontweight="normal")
    date_axis(below)
    return figure


@styled
def plot_losses(history: pd.DataFrame) -> Figure:
    """Draw the training and validation loss of each output per epoch, and the epoch whose weights are used.

    Parameters
    ----------
    history
        :attr:`forecastlib.Forecaster.history`.
    """
    columns = [str(column) for column in history if not str(column).startswith("val_")]
    outputs = [column.removesuffix("_loss") for column in columns if column.endswith("d_loss")]
    outputs.sort(key=lambda name: int(name.removeprefix("price_prediction_").removesuffix("d")))
    titles = {"loss": "weighted sum"}
    titles |= {f"{name}_loss": name.rsplit("_", 1)[1].removesuffix("d") + " sessions" for name in outputs}
    figure = Figure(figsize=(9, 2.9))
    grid = panels(figure, 1, len(titles))[0]
    for axes, (column, title) in zip(grid, titles.items(), strict=True):
        axes.plot(history.index, history[column], color=BLUE, label="training")
        axes.plot(history.index, history[f"val_{column}"], color=ORANGE, label="validation")
        axes.axvline(history["val_loss"].idxmin(), color=GREY, linewidth=0.9, linestyle=":", label="best epoch")
        axes.set_title(title)
        axes.set_xlabel("epoch")
    grid[0].set_ylabel("squared error, scaled target")
    grid[0].legend(fontsize=8)
    return figure


@styled
def plot_predictions(evaluation: Evaluation, model: str) -> Figure:
    """Draw the forecasts of a model and the outcomes: as prices over time, and as changes against each other.

    Prices alone flatter every forecast, the random walk's included; the changes show what was really predicted.

    Parameters
    ----------
    evaluation
        Of :func:`forecastlib.evaluate`.
    model
        The name of the model in it.
    """
    forecasts = evaluation.forecasts[evaluation.forecasts["model"] == model]
    horizons = sorted(forecasts["horizon"].unique())
    figure = Figure(figsize=(9, 2.5 * len(horizons)))
    for (left, right), horizon in zip(panels(figure, len(horizons), 2, width_ratios=[2.4, 1]), horizons, strict=True):
        rows = forecasts[forecasts["horizon"] == horizon]
        dates, last = rows["target_date"], rows["last_close"]
        for coverage, alpha in zip(COVERAGES[::-1], (0.18, 0.28), strict=True):
            left.fill_between(dates, rows[f"lower_{coverage}"], rows[f"upper_{coverage}"], color=SKY, alpha=alpha,
                              linewidth=0, label=f"{coverage} % interval")  # fmt: skip
        left.plot(dates, rows["actual_price"], color=INK, linewidth=1.0, label="outcome")
        left.plot(dates, rows["predicted_price"], color=ORANGE, linewidth=1.0, label="forecast")
        price_axis(left)
        left.set_title(f"{horizon} sessions ahead")
        date_axis(left)
        right.scatter(rows["predicted_price"] / last - 1.0, rows["actual_price"] / last - 1.0, s=7, color=BLUE,
                      alpha=0.35, linewidths=0)  # fmt: skip
        right.axline((0, 0), slope=1, color=GREY, linewidth=0.9, linestyle=":")
        right.axhline(0, color=GREY, linewidth=0.7)
        right.axvline(0, color=GREY, linewidth=0.7)
        right.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=1))
        right.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        right.locator_params(nbins=4)
        right.set_xlabel("predicted change")
        right.set_ylabel("actual change")
        right.set_title(f"skill {evaluation.scores.loc[(model, horizon), 'skill']:+.3f}")
        if horizon == horizons[0]:
            left.legend(loc="upper left", fontsize=8, ncols=2)
    return figure


@styled
def plot_scores(evaluation: Evaluation, names: Mapping[str, str] | None = None) -> Figure:
    """Draw the skill of every model against the random walk per horizon, with a star where it is significant.

    Parameters
    ----------
    evaluation
        Of :func:`forecastlib.evaluate`.
    names
        Labels of models, for instance ``{"v1.0.0_...": "LSTM"}``.
    """
    models = [model for model in evaluation.models if model != RANDOM_WALK]
    horizons = sorted(evaluation.scores.index.unique("horizon"))
    figure = Figure(figsize=(9, 1.1 + 0.36 * len(models)))
    skills = evaluation.scores["skill"]
    # The bar of a model that is far worse than the others is cut off, so that the other differences remain visible.
    floor = max(float(skills.min()), -MAX_SKILL_SHOWN)
    for axes, horizon in zip(panels(figure, 1, len(horizons), sharey=True)[0], horizons, strict=True):
        for level, model in enumerate(models[::-1]):
            skill = skills.loc[(model, horizon)]
            star = " ★" if evaluation.verdicts.loc[(model, horizon), "p_value"] < 0.05 else ""
            cut = "◂ " if skill < floor else ""
            axes.barh(level, max(skill, floor), color=GREEN if skill > 0 else ORANGE, height=0.62)
            # On the side of zero that the bar leaves free.
            axes.annotate(f"{cut}{skill:+.3f}{star}", (0, level), xytext=(-4 if skill > 0 else 4, 0), fontsize=8,
                          textcoords="offset points", va="center", ha="right" if skill > 0 else "left")  # fmt: skip
        reach = 1.15 * max(-floor, float(skills.max()), 0.02)
        axes.set_xlim(-reach, reach)
        _skill_axes(axes, horizon, models, names)
    figure.supxlabel("skill: 1 - MAE / MAE of the random walk; right of 0 is better; ★ significant at 5 %", fontsize=9)
    return figure


def plot_forecast(forecast: Forecast | pd.DataFrame, prices: pd.DataFrame | None = None, sessions: int = 90) -> Figure:
    """Draw a forecast of one origin with its intervals after the latest closes, see :meth:`Forecast.plot`.

    Parameters
    ----------
    forecast
        A forecast, or a forecast frame.
    prices
        Prices of the symbol; those after the origin, if any, are drawn as the outcome. None: only the forecast is
        drawn.
    sessions
        Closes shown before the origin.
    """
    rows = forecast.frame() if isinstance(forecast, Forecast) else forecast
    require_forecasts(rows)
    return draw_forecast(rows, prices, sessions)


@styled
def plot_ladder(table: pd.DataFrame) -> Figure:
    """Draw the apparent and the actual value of a leaky recipe as its leaks are closed: R² of prices, and skill.

    Parameters
    ----------
    table
        The ladder of leaks of :mod:`forecastlib.auditing`: index ``step, horizon``, columns ``r2`` and ``skill``.
    """
    steps = list(table.index.unique("step"))[::-1]
    horizons = list(table.index.unique("horizon"))
    figure = Figure(figsize=(10, 1.2 + 0.55 * len(steps)))
    left, right = panels(figure, 1, 2, sharey=True)[0]
    height = 0.8 / len(horizons)
    for axes, score, floor in ((left, "r2", 0.0), (right, "skill", -1.0)):
        for i, horizon in enumerate(horizons):
            values = table[score].xs(horizon, level="horizon").reindex(steps)
            levels = np.arange(len(steps)) + (len(horizons) / 2 - i - 0.5) * height
            axes.barh(levels, values.clip(lower=floor), height=0.9 * height, color=CYCLE[i],
                      label=f"{horizon} sessions")  # fmt: skip
            for level, value in zip(levels, values, strict=True):
                cut = "◂ " if value < floor else ""
                rightwards = value > 0 or floor == 0  # beside the bar, and never over the names of the steps
                axes.annotate(f"{cut}{value:+.2f}", (max(value, floor), level), xytext=(3 if rightwards else -3, 0),
                              textcoords="offset points", va="center", ha="left" if rightwards else "right",
                              fontsize=7)  # fmt: skip
    left.set_yticks(range(len(steps)), steps)
    left.set_xlim(0, 1.15)
    left.set_title("Apparent: R² of prices")
    right.axvline(0, color=INK, linewidth=1.0)
    right.set_xlim(-1.5, max(0.3, 1.3 * float(table["skill"].max())))
    right.set_title("Actual: skill against the random walk")
    right.legend(fontsize=8, loc="lower left")
    figure.supxlabel("skill: 1 - MAE / MAE of the random walk; each step includes the repairs above it", fontsize=9)
    return figure


@styled
def plot_backtest_scores(result: BacktestResult, names: Mapping[str, str] | None = None) -> Figure:
    """Draw the skill of every model against the random walk, by MAE and by CRPS, with bootstrap intervals.

    Parameters
    ----------
    result
        Of :func:`forecastlib.backtest`.
    names
        Labels of models, for instance ``{"lstm": "network alone"}``.
    """
    models = [model for model in result.models if model != RANDOM_WALK]
    figure = Figure(figsize=(9, 1.3 + 0.4 * len(models)))
    kinds = (("skill", "points: MAE", BLUE, "o", 0.14), ("crps_skill", "distributions: CRPS", ORANGE, "s", -0.14))
    horizons = result.horizons
    for axes, horizon in zip(panels(figure, 1, len(horizons), sharey=True)[0], horizons, strict=True):
        rows = result.scores.xs(horizon, level="horizon").loc[models[::-1]]
        for name, label, colour, marker, shift in kinds:
            skill = rows[name].clip(-MAX_SKILL_SHOWN, MAX_SKILL_SHOWN)
            ends = rows[[f"{name}_low", f"{name}_high"]].clip(-MAX_SKILL_SHOWN, MAX_SKILL_SHOWN)
            reach = np.abs(ends.to_numpy().T - skill.to_numpy())
            axes.errorbar(skill, np.arange(len(models)) + shift, xerr=reach, fmt=marker, color=colour, markersize=4,
                          linewidth=1.1, label=label)  # fmt: skip
        _skill_axes(axes, horizon, models, names)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=2)
    figure.supxlabel(
        "skill: 1 - score / score of the random walk; right of 0 is better; bars: 95 % intervals, cut off at "
        f"{MAX_SKILL_SHOWN}",
        fontsize=9,
    )
    return figure


@styled
def plot_skill_over_time(result: BacktestResult, model: str | None = None) -> Figure:
    """Draw the skill of a model against the random walk over time: of the latest 250 origins, and of all so far.

    Parameters
    ----------
    result
        Of :func:`forecastlib.backtest`.
    model
        The name of the model in it; None: the first one.
    """
    model, horizons = model or _first_model(result), result.horizons
    figure = Figure(figsize=(9, 1.9 * len(horizons) + 0.6))
    for (axes,), horizon in zip(panels(figure, len(horizons), sharex=True), horizons, strict=True):
        skill = result.over_time(model, horizon)
        axes.fill_between(skill.index, skill["low"], skill["high"], color=SKY, alpha=0.35, linewidth=0,
                          label="its 95 % interval")  # fmt: skip
        axes.plot(skill.index, skill["skill"], color=BLUE, label="all origins so far")
        axes.plot(skill.index, skill["rolling_skill"], color=ORANGE, linewidth=0.9, linestyle="--",
                  label="latest 250 origins")  # fmt: skip
        axes.axhline(0, color=INK, linewidth=1.0)
        axes.set_ylim(max(axes.get_ylim()[0], -MAX_SKILL_OVER_TIME), min(axes.get_ylim()[1], MAX_SKILL_OVER_TIME))
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:+.3g}"))
        _title_with_periods(axes, f"{horizon} sessions ahead", with_names=horizon == horizons[0])
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    figure.supylabel("skill, errors relative to the last close", fontsize=9)
    date_axis(axes)
    return figure


@styled
def plot_coverage_over_time(result: BacktestResult, model: str | None = None) -> Figure:
    """Draw the interval coverage of the latest 250 origins over time: as trained, recalibrated, and adaptive.

    Parameters
    ----------
    result
        Of :func:`forecastlib.backtest`.
    model
        The name of the model in it; None: the first one. Variants that the backtest does not have are left out.
    """
    model, horizons = model or _first_model(result), result.horizons
    lines = ((f"{model}{ending}", label) for ending, label in VARIANTS.items())
    styles = [(*line, *style) for line, style in zip(lines, ((GREY, "-"), (BLUE, "-"), (ORANGE, "--")), strict=True)]
    figure = Figure(figsize=(9, 1.9 * len(horizons) + 0.6))
    for row, horizon in zip(panels(figure, len(horizons), len(COVERAGES), sharex=True), horizons, strict=True):
        for axes, coverage in zip(row, COVERAGES, strict=True):
            for name, label, colour, line in styles:
                if name in result.models:
                    covered = result.over_time(name, horizon)[f"coverage_{coverage}"]
                    axes.plot(covered.index, covered, color=colour, linestyle=line, label=label)
            axes.axhline(coverage / 100.0, color=INK, linewidth=0.9, linestyle=":", label="nominal")
            axes.yaxis.set_major_formatter(PercentFormatter(1.0))
            title = f"{coverage} % interval coverage, {horizon} sessions"
            _title_with_periods(axes, title, with_names=horizon == horizons[0])
            date_axis(axes)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


@styled
def plot_reliability(result: BacktestResult, model: str | None = None) -> Figure:
    """Draw the observed frequency of events against their stated probability, with the expected calibration error.

    Parameters
    ----------
    result
        Of :func:`forecastlib.backtest`.
    model
        The name of the model in it; None: the first one.
    """
    model = model or _first_model(result)
    titles = {"p_up": "the price rises", "confidence": "the call is correct"}
    figure = Figure(figsize=(9, 4.3))
    for axes, (stated, title) in zip(panels(figure, 1, 2)[0], titles.items(), strict=True):
        axes.axline((0, 0), slope=1, color=GREY, linewidth=0.9, linestyle=":")
        for horizon, marker, colour in zip(result.horizons, itertools.cycle("osD^v"), itertools.cycle(CYCLE)):
            bins = result.reliability(stated, model, horizon)
            error = float(result.calibration[stated].loc[(model, horizon)])
            sizes = 8.0 + 180.0 * bins["count"] / bins["count"].sum()
            axes.scatter(bins["stated"], bins["observed"], s=sizes, color=colour, marker=marker, alpha=0.8,
                         label=f"{horizon} sessions: calibration error {error:.3f}")  # fmt: skip
        axes.set_xlabel("stated probability")
        axes.set_xlim(0.0, 1.0)
        axes.set_ylim(0.0, 1.0)
        axes.set_title(f"{stated}: {title}")
        for handle in axes.legend(loc="upper left", fontsize=8).legend_handles:
            handle.set_sizes([30.0])
    figure.axes[0].set_ylabel("observed frequency")
    return figure


@styled
def plot_scorecard(scores: pd.DataFrame) -> Figure:
    """Draw the scores of settled forecasts over time: skill, interval coverage, and the hit rate of calls.

    Parameters
    ----------
    scores
        Index ``horizon, origin``; columns ``skill``, ``coverage_80``, ``coverage_95``, ``hit_rate``, ``confidence``.
    """
    figure = Figure(figsize=(9, 7.5))
    skill, *coverages, calls = (axes for (axes,) in panels(figure, 2 + len(COVERAGES), sharex=True))
    horizons = list(scores.index.unique("horizon"))
    for horizon, colour in zip(horizons, itertools.cycle(CYCLE)):
        rows = scores.xs(horizon, level="horizon")
        skill.plot(rows.index, rows["skill"], color=colour, label=f"{horizon} sessions")
        for axes, coverage in zip(coverages, COVERAGES, strict=True):
            axes.plot(rows.index, rows[f"coverage_{coverage}"], color=colour)
        calls.plot(rows.index, rows["hit_rate"], color=colour)
        calls.plot(rows.index, rows["confidence"], color=colour, linestyle="--", linewidth=0.9)
    skill.axhline(0.0, color=INK, linewidth=0.9, linestyle=":")
    skill.set_title("Skill: 1 - MAE / MAE of the random walk")
    for axes, coverage in zip(coverages, COVERAGES, strict=True):
        axes.axhline(coverage / 100.0, color=INK, linewidth=0.9, linestyle=":")
        axes.set_title(f"{coverage} % interval coverage")
    calls.set_title("Hit rate of calls, and their stated confidence (dashed)")
    for axes in (*coverages, calls):
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    date_axis(calls)
    figure.legend(*skill.get_legend_handles_labels(), loc="outside lower center", ncols=max(1, len(horizons)))
    return figure


def _first_model(result: BacktestResult) -> str:
    """Return the model that was listed first in a backtest: its rows come first in the forecasts."""
    return str(result.forecasts["model"].iloc[0])


def _skill_axes(axes: Axes, horizon: int, models: list[str], names: Mapping[str, str] | None) -> None:
    """Label signed skill at one horizon and the models, the first one on top, and mark the random walk at 0."""
    axes.axvline(0, color=INK, linewidth=1.0)
    axes.locator_params(axis="x", nbins=5)
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:+.2f}"))
    axes.set_yticks(range(len(models)), [(names or {}).get(model, model) for model in models[::-1]])
    axes.set_title(f"{horizon} sessions")


def _title_with_periods(axes: Axes, title: str, *, with_names: bool) -> None:
    """Set the title, above the names of the periods if wanted, and shade the periods in view, without widening it."""
    axes.set_title(title, pad=12 if with_names else None)
    first, last = axes.get_xlim()
    for number, (name, ends) in enumerate(PERIODS.items()):
        start, end = (float(date2num(pd.Timestamp(day))) for day in ends)
        if end > first and start < last:
            axes.axvspan(max(start, first), min(end, last), linewidth=0, color=GREY,
                         alpha=(0.14, 0.26)[number % 2])  # fmt: skip # adjacent periods must be distinguishable
            if with_names:
                axes.annotate(name, ((max(start, first) + min(end, last)) / 2.0, 1.0), xytext=(0, 2), fontsize=7,
                              xycoords=("data", "axes fraction"), textcoords="offset points", ha="center")  # fmt: skip
    axes.set_xlim(first, last)
