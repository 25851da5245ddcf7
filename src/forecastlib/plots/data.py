"""Figures of prices, features, and the training, validation and test sets."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pandas as pd
from matplotlib.figure import Figure

from forecastlib.drawing import BLUE, GREY, INK, LIGHT, RED, SETS, SKY, date_axis, panels, price_axis, styled
from forecastlib.features import CATALOGUE, GROUPS

if TYPE_CHECKING:
    from forecastlib.samples.splits import Split
    from forecastlib.samples.windows import Windows


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
