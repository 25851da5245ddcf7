"""What the checks look at, each part computed once and only if a check asks for it, and what they find."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pandas as pd

from forecastlib.auditing.recipe import Recipe
from forecastlib.config import RunConfig
from forecastlib.features import warm_up
from forecastlib.samples.scaling import Scaling
from forecastlib.samples.splits import Split
from forecastlib.samples.windows import Windows

Index = npt.NDArray[np.int64]

EVEN_CUTS = 12
"""Cuts spread evenly over the history, besides those on telling dates."""


@dataclass(frozen=True)
class Evidence:
    """What a check came to.

    Attributes
    ----------
    culprits : tuple of str
        What leaks, by name; none if nothing does.
    measured : float
        The figure that decided: a number of values, rows or labels that leak, or a skill.
    detail : str
        The figures in a few words.
    figures : DataFrame or None
        Everything that was measured, where that is more than one figure.
    """

    culprits: tuple[str, ...]
    measured: float
    detail: str
    figures: pd.DataFrame | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, eq=False)
class Subject:
    """Prices, a configuration and a recipe, and what the recipe makes of them.

    Attributes
    ----------
    prices : DataFrame
        Prices of one symbol.
    config : RunConfig
    recipe : Recipe
    shuffles : int
        How often targets are shuffled.
    seed : int
        Seed of the nonsense that replaces the future, and of the shuffles.
    """

    prices: pd.DataFrame
    config: RunConfig
    recipe: Recipe
    shuffles: int
    seed: int

    @cached_property
    def features(self) -> pd.DataFrame:
        """Features of the whole history."""
        return self.recipe.features(self.prices, self.config.features)

    @cached_property
    def windows(self) -> Windows:
        """All windows."""
        return self.recipe.windows(self.prices, self.features, self.config.window)

    @cached_property
    def split(self) -> Split:
        """The sets."""
        return self.recipe.split(self.windows, self.config.split)

    @cached_property
    def scaling(self) -> Scaling:
        """The fitted scalers."""
        return self.recipe.scaling(self.windows, self.split, self.config.model)

    @cached_property
    def positions(self) -> Index:
        """The row of the prices that each window's origin is, -1 where it is none of them."""
        return np.asarray(self.prices.index.get_indexer(self.windows.origins), dtype=np.int64)

    @cached_property
    def cuts(self) -> tuple[int, ...]:
        """Rows that are taken for the newest one known, ascending; every one has a future and complete features.

        The first and the last that there are; some evenly spread; and dates on which peeking shows, whatever the
        look ahead is made of: before the end of a month and of a year (a feature may wait for either), before the
        largest move (a feature may smooth it).
        """
        first, last = warm_up(self.config.features) + 1, len(self.prices) - 2
        rows = np.arange(first, last + 1)
        index = pd.DatetimeIndex(self.prices.index)
        close = self.prices["close"].to_numpy()
        move = np.abs(np.log(close[rows + 1] / close[rows]))
        month_ends = rows[index.month[rows] != index.month[rows + 1]]
        year_ends = rows[index.year[rows] != index.year[rows + 1]]
        telling = [int(rows[move.argmax()])]
        for ends in (month_ends, year_ends):
            if len(ends):
                end = int(ends[len(ends) // 2])
                telling += [end, max(end - 1, first)]
        even = np.linspace(first, last, EVEN_CUTS).astype(int).tolist()
        return tuple(sorted({*even, *telling}))

    def changed_after(self, row: int) -> pd.DataFrame:
        """Return the prices with everything after a row replaced by nonsense that still is prices."""
        rng = np.random.default_rng([self.seed, row])
        later = len(self.prices) - row - 1
        level = self.prices["close"].iloc[row] * np.exp(np.cumsum(rng.normal(0.0, 0.05, later)))
        # Of four prices a session the lowest and the highest bound the other two, which are open and close.
        drawn = np.sort(level[:, None] * rng.uniform(0.9, 1.1, (later, 4)), axis=1)
        low, first, second, high = drawn.T
        upwards = rng.random(later) < 0.5
        nonsense = {
            "open": np.where(upwards, first, second),
            "high": high,
            "low": low,
            "close": np.where(upwards, second, first),
            "volume": rng.uniform(1e3, 1e9, later),
        }
        altered = self.prices.copy()
        for name, values in nonsense.items():
            altered[name] = np.concatenate([self.prices[name].to_numpy()[: row + 1], values])
        return altered
