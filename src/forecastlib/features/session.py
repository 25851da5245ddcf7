"""The session itself: the shape of its bar, the latest changes of the close, and its date in the week and the year."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import talib

from forecastlib.features.base import Feature, History, bar_range, close_location, log_return, overnight_returns, shared
from forecastlib.features.rolling import Array, lag


def upper_shadow(history: History) -> Array:
    """Return the high minus the higher of open and close."""
    return history.high.values - np.maximum(history.open.values, history.close.values)


def lower_shadow(history: History) -> Array:
    """Return the lower of open and close minus the low."""
    return np.minimum(history.open.values, history.close.values) - history.low.values


def balance_of_power(history: History) -> Array:
    """Return close minus open over the range, 0 where the range is zero."""
    values: Array = talib.BOP(history.open.values, history.high.values, history.low.values, history.close.values)
    return values


@shared
def weekday(history: History) -> npt.NDArray[np.int64]:
    """Return the day of the week, 0 for Monday."""
    days = history.prices.index.to_numpy().astype("datetime64[D]").astype(np.int64)
    return (days + 3) % 7  # day 0 of the epoch was a Thursday


@shared
def yearday(history: History) -> npt.NDArray[np.int64]:
    """Return the day of the year, 0 for 1 January."""
    days = history.prices.index.to_numpy().astype("datetime64[D]")
    years = np.arange(days[0].astype("datetime64[Y]"), days[-1].astype("datetime64[Y]") + 1).astype("datetime64[D]")
    since_new_year = days - years[np.searchsorted(years, days, side="right") - 1]
    return np.asarray(since_new_year.astype(np.int64))


def _circle(
    name: str, description: str, days: int, position: Callable[[History], npt.NDArray[np.int64]]
) -> tuple[Feature, Feature]:
    """Return the sine and the cosine of a position in a cycle, so that its last day is next to its first."""
    angle = 2.0 * np.pi * np.arange(days) / days
    sine, cosine = np.sin(angle), np.cos(angle)
    return (
        Feature.plain(f"{name}_sin", 0, f"Sine of the {description}", lambda h: sine[position(h)]),
        Feature.plain(f"{name}_cos", 0, f"Cosine of the {description}", lambda h: cosine[position(h)]),
    )


BAR = (
    Feature.price("open", 0, "Open over the close, minus 1", lambda h: h.open.values),
    Feature.price("high", 0, "High over the close, minus 1", lambda h: h.high.values),
    Feature.price("low", 0, "Low over the close, minus 1", lambda h: h.low.values),
    Feature("close", 1, "Log return over one session", lambda h: log_return(h, 1), lambda h: h.close.values),
    Feature(
        "overnight",
        1,
        "Log of the open over the previous close",
        relative=lambda h: overnight_returns(h).values,
        level=lambda h: h.open.values - lag(h.close.values, 1),
    ),
    Feature.span("range", 0, "High minus low", lambda h: bar_range(h).values),
    Feature.span("upper_shadow", 0, "High minus the higher of open and close", upper_shadow),
    Feature.span("lower_shadow", 0, "Lower of open and close minus low", lower_shadow),
    Feature.plain("close_location", 0, "Position of the close between low (-1) and high (1)", close_location),
    Feature.plain("balance_of_power", 0, "Close minus open over high minus low", balance_of_power),
    *(Feature.past_change(f"return_{sessions}", sessions) for sessions in (2, 3, 5, 10)),
)

CALENDAR = (*_circle("weekday", "day of the week", 7, weekday), *_circle("yearday", "day of the year", 366, yearday))
