"""What a feature is: one entry of the catalogue."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

from forecastlib.config import FeatureForm
from forecastlib.features.arithmetic import Array
from forecastlib.features.history import History

Compute = Callable[[History], Array]


@dataclass(frozen=True)
class Feature:
    """One feature: its name, how far it looks back, what it means, and how it is computed in each form.

    Parameters
    ----------
    name
        Unique in the catalogue, the column's name in both forms.
    lookback
        Number of earlier sessions that a value needs: rows t - lookback ... t determine the value of row t to the
        last bit, and the first value stands in row ``lookback``, counted from 0. Where the forms differ, the longer.
    description
        One line; what it says holds for the relative form.
    relative, level
        Functions of a history, returning one value a row.
    """

    name: str
    lookback: int
    description: str
    relative: Compute
    level: Compute

    @classmethod
    def plain(cls, name: str, lookback: int, description: str, values: Compute) -> Self:
        """Return a feature that is free of scale as it is, and so the same in both forms."""
        return cls(name, lookback, description, relative=values, level=values)

    @classmethod
    def price(cls, name: str, lookback: int, description: str, values: Compute) -> Self:
        """Return a feature that is a price; its relative form is the price over the close, minus 1."""
        return cls(name, lookback, description, lambda h: values(h) / h.close.values - 1.0, values)

    @classmethod
    def span(cls, name: str, lookback: int, description: str, values: Compute) -> Self:
        """Return a feature that is a difference of prices; its relative form is a share of the close."""
        return cls(name, lookback, description, lambda h: values(h) / h.close.values, values)

    def compute(self, history: History, form: FeatureForm) -> Array:
        """Return one value a row in the form asked for, NaN where it reaches back beyond the first row."""
        return self.relative(history) if form == "relative" else self.level(history)
