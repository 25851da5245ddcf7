"""Figures, all in one style: readable in HTML and in black-and-white print, for colour-blind readers too.

Every function takes the library's own objects and returns a matplotlib figure; none touches global state.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ParamSpec

import matplotlib as mpl
import numpy as np
import pandas as pd
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, date2num
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter, StrMethodFormatter

from forecastlib.evaluation import RANDOM_WALK, Evaluation
from forecastlib.features import GROUPS
from forecastlib.forecasts import COVERAGES, require_forecasts

if TYPE_CHECKING:
    from forecastlib.splits import Split
    from forecastlib.walkforward import BacktestResult
    from forecastlib.windows import Windows

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

MOST_SKILL_OVER_TIME = 0.12
"""Skill beyond this, either way, is cut off where it is drawn over time: a bad month must not flatten all others."""

P = ParamSpec("P")


def _styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Draw within the project's style, leaving the user's own settings as they are."""

    @functools.wraps(draw)
    def styled(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with mpl.rc_context(STYLE):
            return draw(*args, **kwargs)

    return styled


def _dates(axes: Axes) -> None:
    locator = AutoDateLocator(minticks=4, maxticks=9)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))


def _log_prices(axes: Axes) -> None:
    axes.set_yscale("log")
    for set_formatter in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
        set_formatter(StrMethodFormatter("{x:,.0f}"))


@_styled
def plot_prices(prices: pd.DataFrame) -> Figure:
    """Draw the closes on a logarithmic axis, and the volume below them.

    Parameters
    ----------
    prices
        Prices of one symbol.
    """
    figure = Figure(figsize=(9, 4.6))
    above, below = figure.subplots(2, sharex=True, height_ratios=[3, 1])
    above.plot(prices.index, prices["close"], color=BLUE, linewidth=1.0)
    _log_prices(above)
    above.set_title(f"{prices.attrs.get('symbol', '')}: close (log scale)")
    monthly = prices["volume"].resample("MS").mean()
    below.bar(monthly.index, monthly / 1e9, width=25, color=GREY)
    below.set_title("volume, monthly mean, billions")
    _dates(below)
    return figure


@_styled
def plot_feature_groups(features: pd.DataFrame) -> Figure:
    """Draw the middle half and the middle nine tenths of each group's features over time, each standardised first.

    Parameters
    ----------
    features
        Features of one symbol; the warm-up is left out.
    """
    known = features.dropna()
    standard = (known - known.mean()) / known.std().replace(0.0, 1.0)
    groups = {group: [f.name for f in members if f.name in standard] for group, members in GROUPS.items()}
    groups = {group: names for group, names in groups.items() if names}
    figure = Figure(figsize=(9, 1.25 * len(groups) + 0.5))
    for axes, (group, names) in zip(
        np.atleast_1d(figure.subplots(len(groups), sharex=True)), groups.items(), strict=True
    ):
        monthly = standard[names].resample("MS").mean()
        levels = monthly.quantile([0.05, 0.25, 0.5, 0.75, 0.95], axis=1)
        axes.fill_between(monthly.index, levels.loc[0.05], levels.loc[0.95], color=SKY, alpha=0.35, linewidth=0)
        axes.fill_between(monthly.index, levels.loc[0.25], levels.loc[0.75], color=BLUE, alpha=0.45, linewidth=0)
        axes.plot(monthly.index, levels.loc[0.5], color=INK, linewidth=0.9)
        axes.set_title(f"{group} ({len(names)})", fontsize=9)
        axes.set_ylim(-3.2, 3.2)
    _dates(axes)
    figure.supylabel("standard deviations from the mean", fontsize=9)
    return figure


@_styled
def plot_split(windows: Windows, split: Split, prices: pd.DataFrame) -> Figure:
    """Draw the sets on a time axis, with what is purged between them and the labels each set reaches for.

    Parameters
    ----------
    windows, split
        The samples and their sets.
    prices
        Prices of the symbol.
    """
    figure = Figure(figsize=(9, 4.4))
    above, below = figure.subplots(2, sharex=True, height_ratios=[3, 1.2])
    above.plot(prices.index, prices["close"], color=LIGHT, linewidth=1.0)
    _log_prices(above)
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
    above.set_title(f"{prices.attrs.get('symbol', '')}: training, validation and test, purged by label dates")
    below.set_yticks([0, -1, -2], list(split.sets()))
    below.set_ylim(-2.6, 0.6)
    below.set_title("thick: origins; thin: until their last label is known", fontsize=9, fontweight="normal")
    _dates(below)
    return figure


@_styled
def plot_losses(history: pd.DataFrame) -> Figure:
    """Draw the loss of each output over the epochs, of training and of validation, and the epoch that was kept.

    Parameters
    ----------
    history
        :attr:`forecastlib.Forecaster.history`.
    """
    columns = [str(column) for column in history if not str(column).startswith("val_")]
    outputs = [column.removesuffix("_loss") for column in columns if column.endswith("d_loss")]
    outputs.sort(key=lambda name: int(name.removeprefix("price_prediction_").removesuffix("d")))
    figure = Figure(figsize=(9, 2.9))
    panels = np.atleast_1d(figure.subplots(1, len(outputs) + 1))
    best = history["val_loss"].idxmin()
    for axes, (title, column) in zip(
        panels,
        [("all outputs, weighted", "loss"), *((name.rsplit("_", 1)[1], f"{name}_loss") for name in outputs)],
        strict=True,
    ):
        axes.plot(history.index, history[column], color=BLUE, label="training")
        axes.plot(history.index, history[f"val_{column}"], color=ORANGE, label="validation")
        axes.axvline(best, color=GREY, linewidth=0.9, linestyle=":")
        axes.set_title(title)
        axes.set_xlabel("epoch")
    panels[0].set_ylabel("squared error, scaled target")
    panels[0].legend()
    return figure


@_styled
def plot_predictions(evaluation: Evaluation, model: str) -> Figure:
    """Draw what a model forecast against what happened: as prices over time, and as changes against each other.

    Prices alone flatter every forecast, the random walk's included; the changes show what was really known.

    Parameters
    ----------
    evaluation
        Of :func:`forecastlib.evaluate`.
    model
        The model's name in it.
    """
    rows = evaluation.forecasts[evaluation.forecasts["model_version"] == model]
    horizons = sorted(rows["horizon"].unique())
    figure = Figure(figsize=(9, 2.5 * len(horizons)))
    for (left, right), horizon in zip(
        np.atleast_2d(figure.subplots(len(horizons), 2, width_ratios=[2.4, 1])), horizons, strict=True
    ):
        one = rows[rows["horizon"] == horizon]
        dates, last = one["target_date"], one["last_close"]
        for coverage, alpha in zip(COVERAGES[::-1], (0.18, 0.28), strict=True):
            left.fill_between(dates, one[f"lower_{coverage}"], one[f"upper_{coverage}"], color=SKY, alpha=alpha,
                              linewidth=0, label=f"{coverage} % range")  # fmt: skip
        left.plot(dates, one["actual_price"], color=INK, linewidth=1.0, label="real")
        left.plot(dates, one["predicted_price"], color=ORANGE, linewidth=1.0, label="predicted")
        left.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        left.set_title(f"{horizon} sessions ahead")
        _dates(left)
        real, said = one["actual_price"] / last - 1.0, one["predicted_price"] / last - 1.0
        right.scatter(said, real, s=7, color=BLUE, alpha=0.35, linewidths=0)
        right.axline((0, 0), slope=1, color=GREY, linewidth=0.9, linestyle=":")
        right.axhline(0, color=GREY, linewidth=0.7)
        right.axvline(0, color=GREY, linewidth=0.7)
        right.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=1))
        right.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        right.locator_params(nbins=4)
        right.set_xlabel("predicted change")
        right.set_ylabel("real change")
        right.set_title(f"skill {evaluation.scores.loc[(model, horizon), 'skill']:+.3f}")
        if horizon == horizons[0]:
            left.legend(loc="upper left", fontsize=8, ncols=2)
    return figure


@_styled
def plot_scores(evaluation: Evaluation, names: dict[str, str] | None = None) -> Figure:
    """Draw the skill of every model against the random walk, for each horizon; a star where the test is significant.

    Parameters
    ----------
    evaluation
        Of :func:`forecastlib.evaluate`.
    names
        Labels for models, for instance ``{"v1.0.0_...": "LSTM"}``.
    """
    labels = names or {}
    models = [model for model in evaluation.models if model != RANDOM_WALK]
    horizons = sorted(evaluation.scores.index.unique("horizon"))
    figure = Figure(figsize=(9, 1.1 + 0.36 * len(models)))
    skills = evaluation.scores["skill"]
    # A model that is far worse than the others must not hide the differences between them: its bar is cut off.
    floor = max(float(skills.min()), -WORST_SKILL_SHOWN)
    for axes, horizon in zip(np.atleast_1d(figure.subplots(1, len(horizons), sharey=True)), horizons, strict=True):
        for level, model in enumerate(models[::-1]):
            skill = skills.loc[(model, horizon)]
            mark = " ★" if evaluation.verdicts.loc[(model, horizon), "p_value"] < 0.05 else ""
            cut = "◂ " if skill < floor else ""
            axes.barh(level, max(skill, floor), color=GREEN if skill > 0 else ORANGE, height=0.62)
            # On the side of zero that the bar leaves free, where nothing is in the way.
            axes.annotate(f"{cut}{skill:+.3f}{mark}", (0, level), xytext=(-4 if skill > 0 else 4, 0), fontsize=8,
                          textcoords="offset points", va="center", ha="right" if skill > 0 else "left")  # fmt: skip
        axes.axvline(0, color=INK, linewidth=1.0)
        reach = 1.15 * max(-floor, float(skills.max()), 0.02)
        axes.set_xlim(-reach, reach)
        axes.locator_params(axis="x", nbins=5)
        axes.set_yticks(range(len(models)), [labels.get(model, model) for model in models[::-1]])
        axes.set_title(f"{horizon} sessions")
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:+.2f}"))
    figure.supxlabel("skill: 1 - MAE / MAE of the random walk; right of 0 is better; ★ significant at 5 %", fontsize=9)
    return figure


@_styled
def plot_forecast(forecast: pd.DataFrame, prices: pd.DataFrame, sessions: int = 90) -> Figure:
    """Draw a forecast as a fan behind the latest closes.

    Parameters
    ----------
    forecast
        A forecast frame of one symbol and origin.
    prices
        Prices of the symbol; those after the origin, if there are any, are drawn thin.
    sessions
        Closes shown before the origin.
    """
    require_forecasts(forecast)
    rows = forecast.sort_values("horizon")
    origin, last = rows["origin"].iloc[0], float(rows["last_close"].iloc[0])
    dates = [origin, *rows["target_date"]]
    past = prices["close"].loc[:origin].tail(sessions)
    later = prices["close"].loc[origin : dates[-1]]
    figure = Figure(figsize=(9, 4.2))
    axes = figure.subplots()
    for coverage, alpha in zip(COVERAGES[::-1], (0.2, 0.35), strict=True):
        lower, upper = ([last, *rows[f"{end}_{coverage}"]] for end in ("lower", "upper"))
        axes.fill_between(dates, lower, upper, color=SKY, alpha=alpha, linewidth=0, label=f"{coverage} % range")
    axes.plot(past.index, past, color=INK, label="close")
    if len(later) > 1:
        axes.plot(later.index, later, color=GREY, linewidth=0.9, label="what came")
    axes.plot(dates, [last, *rows["predicted_price"]], color=RED, marker="o", markersize=4, label="forecast")
    axes.axvline(origin, color=GREY, linewidth=0.8, linestyle=":")
    for position, row in enumerate(rows.itertuples()):
        said = f"{row.horizon} sessions\n{row.change_pct:+.1f} %, {row.direction}\nrise {row.p_up:.0%}"
        # In turn above and below the fan, so that near horizons do not write over each other.
        above = position % 2 == 0
        axes.annotate(said, (row.target_date, row.upper_95 if above else row.lower_95), xytext=(0, 4 if above else -4),
                      textcoords="offset points", fontsize=8, ha="center", va="bottom" if above else "top")  # fmt: skip
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.set_title(f"{rows['symbol'].iloc[0]}: forecast of {origin:%Y-%m-%d}, model {rows['model_version'].iloc[0]}")
    axes.legend(loc="lower left", fontsize=8, ncols=2)
    axes.margins(x=0.06, y=0.18)
    _dates(axes)
    return figure


@_styled
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


@_styled
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
    _dates(axes)
    return figure


@_styled
def plot_coverage_over_time(result: BacktestResult, model: str = "lstm", adaptive: str = "lstm_adaptive") -> Figure:
    """Draw how often outcomes were inside the ranges, over the 250 origins before, of static and of adaptive ranges.

    Parameters
    ----------
    result
        Of :func:`forecastlib.backtest`.
    model, adaptive
        Their names in it.
    """
    horizons = result.horizons
    figure = Figure(figsize=(9, 1.9 * len(horizons) + 0.6))
    grid = np.atleast_2d(figure.subplots(len(horizons), len(COVERAGES), sharex=True))
    for row, horizon in zip(grid, horizons, strict=True):
        for axes, coverage in zip(row, COVERAGES, strict=True):
            for name, label, colour, line in ((model, "static", BLUE, "-"), (adaptive, "adaptive", ORANGE, "--")):
                seen = result.over_time(name, horizon)[f"coverage_{coverage}"]
                axes.plot(seen.index, seen, color=colour, linestyle=line, label=label)
            axes.axhline(coverage / 100.0, color=INK, linewidth=0.9, linestyle=":", label="meant")
            axes.yaxis.set_major_formatter(PercentFormatter(1.0))
            axes.set_title(f"{coverage} % range, {horizon} sessions", pad=12 if horizon == horizons[0] else None)
            _periods(axes, named=horizon == horizons[0])
            _dates(axes)
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=9)
    return figure


def _periods(axes: Axes, *, named: bool) -> None:
    """Shade the named periods that are in view, without widening it."""
    from forecastlib.walkforward.scoring import PERIODS

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


@_styled
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


@_styled
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
    _dates(calls)
    figure.legend(
        *skill.get_legend_handles_labels(), loc="outside lower center", ncols=max(1, len(horizons)), fontsize=9
    )
    return figure


@_styled
def plot_ladder(table: pd.DataFrame) -> Figure:
    """Draw what a recipe seems to be worth as its leaks are closed: R2 of prices, and skill against the random walk.

    Parameters
    ----------
    table
        Of :func:`forecastlib.leakage.ladder.climb`.
    """
    steps = list(table.index.unique("step"))[::-1]
    horizons = list(table.index.unique("horizon"))
    figure = Figure(figsize=(10, 1.2 + 0.55 * len(steps)))
    left, right = figure.subplots(1, 2, sharey=True)
    height = 0.8 / len(horizons)
    for axes, score, floor in ((left, "r2", 0.0), (right, "skill", -1.0)):
        for i, horizon in enumerate(horizons):
            values = table[score].xs(horizon, level="horizon").reindex(steps)
            at = np.arange(len(steps)) + (len(horizons) / 2 - i - 0.5) * height
            axes.barh(at, values.clip(lower=floor), height=0.9 * height, color=CYCLE[i], label=f"{horizon} sessions")
            for place, value in zip(at, values, strict=True):
                cut = "◂ " if value < floor else ""
                rightwards = value > 0 or floor == 0  # beside the bar, and never over the names of the steps
                axes.annotate(f"{cut}{value:+.2f}", (max(value, floor), place), xytext=(3 if rightwards else -3, 0),
                              textcoords="offset points", va="center", ha="left" if rightwards else "right",
                              fontsize=7)  # fmt: skip
    left.set_yticks(range(len(steps)), steps)
    left.set_xlim(0, 1.15)
    left.set_title("what is shown: R² of prices")
    right.axvline(0, color=INK, linewidth=1.0)
    right.set_xlim(-1.5, max(0.3, 1.3 * float(table["skill"].max())))
    right.set_title("what it is worth: skill")
    right.legend(fontsize=8, loc="lower left")
    figure.supxlabel("skill: 1 - MAE / MAE of the random walk on the same origins; each step keeps the repairs above",
                     fontsize=9)  # fmt: skip
    return figure
