"""Bar and returns: the shape of the session itself, and the change of the close over the last days."""

import numpy as np
import talib

from forecastlib.features.arithmetic import Array, lag, ratio
from forecastlib.features.feature import Feature
from forecastlib.features.history import History, bar_range, log_return, overnight_returns, price_change


def _upper_shadow(history: History) -> Array:
    return history.high.values - np.maximum(history.open.values, history.close.values)


def _lower_shadow(history: History) -> Array:
    return np.minimum(history.open.values, history.close.values) - history.low.values


def close_location(history: History) -> Array:
    """Return where the close lies in the bar: -1 at the low, 1 at the high, 0 where they are equal."""
    above, below = history.close.values - history.low.values, history.high.values - history.close.values
    return ratio(above - below, bar_range(history).values, 0.0)


def balance_of_power(history: History) -> Array:
    """Return close minus open over the range, 0 where there is none."""
    values: Array = talib.BOP(history.open.values, history.high.values, history.low.values, history.close.values)
    return values


def momentum(name: str, sessions: int) -> Feature:
    """Return the feature of the change over some sessions."""
    return Feature(
        name,
        sessions,
        f"Log return over {sessions} sessions" if sessions > 1 else "Log return over one session",
        relative=lambda h: log_return(h, sessions),
        level=lambda h: price_change(h, sessions),
    )


FEATURES = (
    Feature.price("open", 0, "Open over the close, minus 1", lambda h: h.open.values),
    Feature.price("high", 0, "High over the close, minus 1", lambda h: h.high.values),
    Feature.price("low", 0, "Low over the close, minus 1", lambda h: h.low.values),
    Feature(
        "close",
        1,
        "Log return over one session",
        relative=lambda h: log_return(h, 1),
        level=lambda h: h.close.values,
    ),
    Feature(
        "overnight",
        1,
        "Log of the open over the previous close",
        relative=lambda h: overnight_returns(h).values,
        level=lambda h: h.open.values - lag(h.close.values, 1),
    ),
    Feature.span("range", 0, "High minus low", lambda h: bar_range(h).values),
    Feature.span("upper_shadow", 0, "High minus the higher of open and close", _upper_shadow),
    Feature.span("lower_shadow", 0, "Lower of open and close minus low", _lower_shadow),
    Feature.plain("close_location", 0, "Place of the close between low (-1) and high (1)", close_location),
    Feature.plain("balance_of_power", 0, "Close minus open over high minus low", balance_of_power),
    *(momentum(f"return_{sessions}", sessions) for sessions in (2, 3, 5, 10)),
)
