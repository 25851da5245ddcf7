"""Trend: averages and lines through the price, their distances, and the strength of a trend.

Sources: Wilder, *New Concepts in Technical Trading Systems* (1978): directional movement; Appel (1979): MACD;
Mulloy (1994): DEMA and TEMA; Hull (2005): HMA; Hutson (1983): TRIX; Chande (1995): Aroon; Botes and Siepman (2010):
vortex; the midprices of 9, 26 and 52 sessions are the lines of Hosoda's Ichimoku.
"""

import numpy as np
import talib

from forecastlib.features.arithmetic import Array, change, lag, ratio, sign
from forecastlib.features.feature import Feature
from forecastlib.features.history import History, average_true_range, shared, true_range
from forecastlib.features.rolling import Rolling, memory


def _simple(window: int) -> Feature:
    return Feature.price(f"sma_{window}", window - 1, f"Mean of {window} closes", lambda h: h.close.mean(window))


def _exponential(span: int) -> Feature:
    return Feature.price(
        f"ema_{span}",
        memory(span) - 1,
        f"Exponential mean of the close, span {span}",
        lambda h: h.close.exponential_mean(span),
    )


def hull_average(history: History, window: int) -> Array:
    """Return Hull's average: a linear mean of twice the fast linear mean minus the slow one."""
    close = history.close
    fast = Rolling(2.0 * close.linear_mean(window // 2) - close.linear_mean(window))
    return fast.linear_mean(int(np.sqrt(window)))


@shared
def repeated_average(history: History, span: int, times: int) -> Rolling:
    """Return the exponential mean of the exponential mean ... of the close."""
    inner = history.close if times == 1 else repeated_average(history, span, times - 1)
    return Rolling(inner.exponential_mean(span))


def double_average(history: History, span: int) -> Array:
    """Return Mulloy's double exponential average."""
    return 2.0 * repeated_average(history, span, 1).values - repeated_average(history, span, 2).values


def triple_average(history: History, span: int) -> Array:
    """Return Mulloy's triple exponential average."""
    once, twice, thrice = (repeated_average(history, span, times).values for times in (1, 2, 3))
    return 3.0 * (once - twice) + thrice


def trix(history: History, span: int) -> Array:
    """Return the relative change of the close, smoothed three times."""
    smooth = repeated_average(history, span, 3).values
    return smooth / lag(smooth, 1) - 1.0


def fitted_price(history: History, window: int) -> Array:
    """Return the newest point of the least-squares line through the closes."""
    return history.close.mean(window) + history.close.slope(window) * ((window - 1) / 2.0)


@shared
def macd(history: History) -> Rolling:
    """Return the exponential mean of 12 sessions minus that of 26."""
    return Rolling(history.close.exponential_mean(12) - history.close.exponential_mean(26))


@shared
def macd_signal(history: History) -> Array:
    """Return the exponential mean of 9 sessions of MACD."""
    return macd(history).exponential_mean(9)


@shared
def directional_movement(history: History) -> tuple[Array, Array]:
    """Return Wilder's movement upwards and downwards: what the bar gained at one end, if more than at the other."""
    rise = change(history.high.values, 1)
    fall = lag(history.low.values, 1) - history.low.values
    larger = sign(rise - fall, history.high.values)
    return np.maximum(rise, 0.0) * (larger > 0.0), np.maximum(fall, 0.0) * (larger < 0.0)


@shared
def directional_indicator(history: History, period: int, upwards: bool) -> Array:
    """Return Wilder's directional indicator, 0 to 100; 0 where the true range is zero."""
    up, down = directional_movement(history)
    movement = Rolling(up if upwards else down)
    return 100.0 * ratio(movement.wilder_mean(period), average_true_range(history, period), 0.0)


def directional_index(history: History, period: int) -> Array:
    """Return Wilder's average directional index, 0 to 100; a session without movement counts 0."""
    plus, minus = (directional_indicator(history, period, upwards) for upwards in (True, False))
    return Rolling(100.0 * ratio(np.abs(plus - minus), plus + minus, 0.0)).wilder_mean(period)


@shared
def aroon(history: History, window: int) -> tuple[Array, Array]:
    """Return how recent the lowest low and the highest high are, 0 to 100."""
    down, up = talib.AROON(history.high.values, history.low.values, window)
    return down, up


def vortex(history: History, window: int) -> Array:
    """Return the positive minus the negative vortex indicator, 0 where the true range is zero."""
    high, low = history.high.values, history.low.values
    movement = np.abs(high - lag(low, 1)) - np.abs(low - lag(high, 1))
    return ratio(Rolling(movement).sum(window), true_range(history).sum(window), 0.0)


def _midprice(window: int) -> Feature:
    return Feature.price(
        f"midprice_{window}",
        window - 1,
        f"Middle of the highest high and the lowest low of {window} sessions",
        lambda h: talib.MIDPRICE(h.high.values, h.low.values, window),
    )


def _slope(window: int) -> Feature:
    return Feature.span(
        f"slope_{window}", window - 1, f"Slope of the line through {window} closes", lambda h: h.close.slope(window)
    )


def _fit(window: int) -> Feature:
    return Feature.plain(
        f"r_squared_{window}",
        window - 1,
        f"Share of variance explained by the line through {window} closes",
        lambda h: h.close.r_squared(window),
    )


FEATURES = (
    *(_simple(window) for window in (5, 10, 20, 50, 100, 200)),
    *(_exponential(span) for span in (5, 10, 20, 50)),
    Feature.price("wma_20", 19, "Linearly weighted mean of 20 closes", lambda h: h.close.linear_mean(20)),
    Feature.price("hma_20", 22, "Hull's moving average of 20 sessions", lambda h: hull_average(h, 20)),
    Feature.price("dema_20", 158, "Double exponential average, span 20", lambda h: double_average(h, 20)),
    Feature.price("tema_20", 237, "Triple exponential average, span 20", lambda h: triple_average(h, 20)),
    Feature.price("fit_20", 19, "Newest point of the line through 20 closes", lambda h: fitted_price(h, 20)),
    *(_slope(window) for window in (20, 63)),
    *(_fit(window) for window in (20, 63)),
    Feature.span("macd", 103, "MACD line, spans 12 and 26", lambda h: macd(h).values),
    Feature.span("macd_signal", 138, "Mean of the MACD line, span 9", macd_signal),
    Feature.span("macd_histogram", 138, "MACD line minus its signal", lambda h: macd(h).values - macd_signal(h)),
    Feature.plain("adx_14", 215, "Average directional index", lambda h: directional_index(h, 14)),
    Feature.plain("plus_di_14", 108, "Positive directional indicator", lambda h: directional_indicator(h, 14, True)),
    Feature.plain("minus_di_14", 108, "Negative directional indicator", lambda h: directional_indicator(h, 14, False)),
    Feature.plain("aroon_up_25", 25, "How recent the highest high of 25 sessions is", lambda h: aroon(h, 25)[1]),
    Feature.plain("aroon_down_25", 25, "How recent the lowest low of 25 sessions is", lambda h: aroon(h, 25)[0]),
    Feature.plain("vortex_14", 14, "Positive minus negative vortex indicator", lambda h: vortex(h, 14)),
    Feature.plain("trix_15", 178, "Relative change of the close smoothed three times", lambda h: trix(h, 15)),
    *(_midprice(window) for window in (9, 26, 52)),
)
