"""Figures, all in one style (:mod:`forecastlib.plots.style`).

Every function takes the library's own objects and returns a matplotlib figure; none touches global state.
"""

from forecastlib.plots.data import plot_feature_groups, plot_prices, plot_split
from forecastlib.plots.models import plot_forecast, plot_ladder, plot_losses, plot_predictions, plot_scores
from forecastlib.plots.over_time import (
    plot_backtest_scores,
    plot_coverage_over_time,
    plot_reliability,
    plot_scorecard,
    plot_skill_over_time,
)
from forecastlib.plots.style import BLUE, GREY, INK, RED, SKY, STYLE, WORST_SKILL_SHOWN

__all__ = [
    "BLUE",
    "GREY",
    "INK",
    "RED",
    "SKY",
    "STYLE",
    "WORST_SKILL_SHOWN",
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
