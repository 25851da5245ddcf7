"""Calendar: where a session lies in its week and in its year, each as a point on a circle."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from forecastlib.features.arithmetic import Array
from forecastlib.features.feature import Feature
from forecastlib.features.history import History, shared

Places = npt.NDArray[np.int64]


@shared
def weekday(history: History) -> Places:
    """Return the day of the week, Monday being 0."""
    days = history.dates.astype("datetime64[D]").astype(np.int64)
    return (days + 3) % 7  # day 0 of the epoch was a Thursday


@shared
def yearday(history: History) -> Places:
    """Return the day of the year, 1 January being 0."""
    days = history.dates.astype("datetime64[D]")
    years = np.arange(days[0].astype("datetime64[Y]"), days[-1].astype("datetime64[Y]") + 1).astype("datetime64[D]")
    since_new_year = days - years[np.searchsorted(years, days, side="right") - 1]
    return np.asarray(since_new_year.astype(np.int64))


def _circle(name: str, description: str, days: int, place: Callable[[History], Places]) -> tuple[Feature, Feature]:
    angle = 2.0 * np.pi * np.arange(days) / days
    sine, cosine = np.sin(angle), np.cos(angle)

    def of_sine(history: History) -> Array:
        return sine[place(history)]

    def of_cosine(history: History) -> Array:
        return cosine[place(history)]

    return (
        Feature.plain(f"{name}_sin", 0, f"Sine of the {description}", of_sine),
        Feature.plain(f"{name}_cos", 0, f"Cosine of the {description}", of_cosine),
    )


FEATURES = (
    *_circle("weekday", "day of the week", 7, weekday),
    *_circle("yearday", "day of the year", 366, yearday),
)
