"""Calendar: where a session lies in its week and in its year, each as a point on a circle."""

from collections.abc import Callable

import numpy as np
import pandas as pd

from forecastlib.features.feature import Feature
from forecastlib.features.history import History
from forecastlib.features.rolling import Array


def _circle(description: str, name: str, period: int, place: Callable[[pd.DatetimeIndex], pd.Index]) -> list[Feature]:
    # Looked up, not computed row by row: equal days then have equal values, wherever they stand in an array.
    angle = 2.0 * np.pi * np.arange(period) / period

    def look_up(table: Array, history: History) -> Array:
        return table[place(history.dates).to_numpy()]

    return [
        Feature.plain(f"{name}_sin", 0, f"Sine of the {description}", lambda h: look_up(np.sin(angle), h)),
        Feature.plain(f"{name}_cos", 0, f"Cosine of the {description}", lambda h: look_up(np.cos(angle), h)),
    ]


FEATURES = (
    *_circle("day of the week", "weekday", 7, lambda dates: dates.day_of_week),
    *_circle("day of the year", "yearday", 366, lambda dates: dates.day_of_year - 1),
)
