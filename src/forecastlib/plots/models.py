"""Figures of one training: losses, forecasts against what came, scores, the forecast of a day, the ladder of leaks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter, StrMethodFormatter

from forecastlib.evaluation.evaluate import RANDOM_WALK, Evaluation
from forecastlib.forecasts import COVERAGES, require_forecasts
from forecastlib.plots.style import (
    BLUE,
    CYCLE,
    GREEN,
    GREY,
    INK,
    ORANGE,
    RED,
    SKY,
    WORST_SKILL_SHOWN,
    date_axis,
    styled,
)

if TYPE_CHECKING:
    pass


@styled
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


@styled
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
        date_axis(left)
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


@styled
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


@styled
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
    date_axis(axes)
    return figure


@styled
def plot_ladder(table: pd.DataFrame) -> Figure:
    """Draw what a recipe seems to be worth as its leaks are closed: R2 of prices, and skill against the random walk.

    Parameters
    ----------
    table
        Of :func:`forecastlib.auditing.ladder.leakage_ladder`.
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
