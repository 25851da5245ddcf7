"""Figures, all in one style (:mod:`forecastlib.drawing`).

Every function takes objects of this library and returns a matplotlib figure; none changes global state.
"""

from forecastlib.drawing import BLUE, GREY, INK, MAX_SKILL_SHOWN, RED, SKY, STYLE
from forecastlib.plots.data import plot_feature_groups, plot_prices, plot_split
from forecastlib.plots.results import (
    plot_backtest_scores,
    plot_coverage_over_time,
    plot_forecast,
    plot_ladder,
    plot_losses,
    plot_predictions,
    plot_reliability,
    plot_scorecard,
    plot_scores,
    plot_skill_over_time,
)

__all__ = [
    "BLUE",
    "GREY",
    "INK",
    "MAX_SKILL_SHOWN",
    "RED",
    "SKY",
    "STYLE",
    "plot_backtest_scores",
    "plot_coverage_over_time",
    "plot_feature_groups",
    "plot_forecast",
    "plot_ladder",
    "plot_losses",
    "plot_predictions",
    "plot_prices",
    "plot_reliability",
    "plot_scorecard",
    "plot_scores",
    "plot_skill_over_time",
    "plot_split",
]
