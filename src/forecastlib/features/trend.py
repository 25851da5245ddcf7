"""Trend and momentum: moving averages and lines of the price, and how far and how steadily it has moved.

Sources of trend: Wilder, *New Concepts in Technical Trading Systems* (1978): directional movement; Appel (1979): MACD;
Mulloy (1994): DEMA and TEMA; Hull (2005): HMA; Hutson (1983): TRIX; Chande (1995): Aroon; Botes and Siepman (2010):
vortex; the midprices of 9, 26 and 52 sessions are the lines of Hosoda's Ichimoku.

Sources of momentum: Wilder (1978): RSI; Lane (1984): stochastics; Williams (1979; 1985): %R and ultimate oscillator;
Lambert (1980): CCI; Blau (1991): true strength index; Chande and Kroll (1994): CMO and stochastic RSI; Coppock (1962);
Pring (1992): KST; Kaufman (1995): efficiency ratio; Jegadeesh and Titman (1993): the return of a year without its last
month; Moskowitz, Ooi and Pedersen (2012): return over volatility.
"""

import numpy as np
import talib

from forecastlib.features.base import (
    Feature,
    History,
    average_true_range,
    direction,
    log_return,
    over,
    past_change,
    plain,
    price,
    price_change,
    realised_volatility,
    span,
    true_range,
    typical_price,
)
from forecastlib.features.rolling import Array, Rolling, change, lag, memory, ratio, shared, sign, without_rounding


def hull_average(history: History, window: int) -> Array:
    """Return Hull's average: a linear mean of twice the fast linear mean minus the slow one."""
    close = history.close
    fast = Rolling(2.0 * close.linear_mean(window // 2) - close.linear_mean(window))
    return fast.linear_mean(int(np.sqrt(window)))


@shared
def repeated_average(history: History, span: int, times: int) -> Rolling:
    """Return the exponential mean of the close, taken several times."""
    inner = history.close if times == 1 else repeated_average(history, span, times - 1)
    return Rolling(inner.exponential_mean(span))


def triple_average(history: History, span: int) -> Array:
    """Return Mulloy's triple exponential average."""
    once, twice, thrice = (repeated_average(history, span, times).values for times in (1, 2, 3))
    return 3.0 * (once - twice) + thrice


def trix(history: History, span: int) -> Array:
    """Return the relative change of the close smoothed three times."""
    smooth = repeated_average(history, span, 3).values
    return smooth / lag(smooth, 1) - 1.0


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
    """Return Wilder's upward and downward movement: the extension of the bar at the end where it is larger."""
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
    """Return Wilder's average directional index, 0 to 100; sessions without movement count 0."""
    plus, minus = (directional_indicator(history, period, upwards) for upwards in (True, False))
    return Rolling(100.0 * ratio(np.abs(plus - minus), plus + minus, 0.0)).wilder_mean(period)


@shared
def aroon(history: History, window: int) -> tuple[Array, Array]:
    """Return how recent the lowest low and the highest high are, 0 to 100 for the latest."""
    down, up = talib.AROON(history.high.values, history.low.values, window)
    return down, up


def vortex(history: History, window: int) -> Array:
    """Return the positive minus the negative vortex indicator, 0 where the true range is zero."""
    high, low = history.high.values, history.low.values
    movement = np.abs(high - lag(low, 1)) - np.abs(low - lag(high, 1))
    return ratio(Rolling(movement).sum(window), true_range(history).sum(window), 0.0)


def midprice(history: History, window: int) -> Array:
    """Return the middle of the highest high and the lowest low."""
    middle: Array = talib.MIDPRICE(history.high.values, history.low.values, window)
    return middle


TREND = (
    *over((5, 10, 20, 50, 100, 200), price, "sma_{}", -1, "Mean of {} closes", lambda h, w: h.close.mean(w)),
    price("ema_5", memory(5) - 1, "Exponential mean of the close, span 5", lambda h: h.close.exponential_mean(5)),
    price("ema_10", memory(10) - 1, "Exponential mean of the close, span 10", lambda h: h.close.exponential_mean(10)),
    price("ema_20", memory(20) - 1, "Exponential mean of the close, span 20", lambda h: h.close.exponential_mean(20)),
    price("ema_50", memory(50) - 1, "Exponential mean of the close, span 50", lambda h: h.close.exponential_mean(50)),
    price("wma_20", 19, "Linearly weighted mean of 20 closes", lambda h: h.close.linear_mean(20)),
    price("hma_20", 22, "Hull's moving average of 20 sessions", hull_average, 20),
    price(
        "dema_20",
        158,
        "Double exponential average, span 20",
        lambda h: 2.0 * repeated_average(h, 20, 1).values - repeated_average(h, 20, 2).values,
    ),
    price("tema_20", 237, "Triple exponential average, span 20", triple_average, 20),
    price(
        "fit_20", 19, "Newest point of the line through 20 closes", lambda h: h.close.mean(20) + h.close.slope(20) * 9.5
    ),
    *over((20, 63), span, "slope_{}", -1, "Slope of the line through {} closes", lambda h, w: h.close.slope(w)),
    plain(
        "r_squared_20", 19, "Share of variance explained by the line through 20 closes", lambda h: h.close.r_squared(20)
    ),
    plain(
        "r_squared_63", 62, "Share of variance explained by the line through 63 closes", lambda h: h.close.r_squared(63)
    ),
    span("macd", 103, "MACD line, spans 12 and 26", lambda h: macd(h).values),
    span("macd_signal", 138, "Mean of the MACD line, span 9", macd_signal),
    span("macd_histogram", 138, "MACD line minus its signal", lambda h: macd(h).values - macd_signal(h)),
    plain("adx_14", 215, "Average directional index", directional_index, 14),
    plain("plus_di_14", 108, "Positive directional indicator", directional_indicator, 14, True),
    plain("minus_di_14", 108, "Negative directional indicator", directional_indicator, 14, False),
    plain("aroon_up_25", 25, "How recent the highest high of 25 sessions is", lambda h: aroon(h, 25)[1]),
    plain("aroon_down_25", 25, "How recent the lowest low of 25 sessions is", lambda h: aroon(h, 25)[0]),
    plain("vortex_14", 14, "Positive minus negative vortex indicator", vortex, 14),
    plain("trix_15", 178, "Relative change of the close smoothed three times", trix, 15),
    price("midprice_9", 8, "Middle of the highest high and the lowest low of 9 sessions", midprice, 9),
    price("midprice_26", 25, "Middle of the highest high and the lowest low of 26 sessions", midprice, 26),
    price("midprice_52", 51, "Middle of the highest high and the lowest low of 52 sessions", midprice, 52),
)


@shared
def close_changes(history: History) -> Rolling:
    """Return the change of the close over one session."""
    return Rolling(price_change(history, 1))


@shared
def rsi(history: History, period: int) -> Rolling:
    """Return Wilder's RSI, 0 to 100; 50 where the close has not moved."""
    gains = Rolling(np.maximum(price_change(history, 1), 0.0)).wilder_mean(period)
    return Rolling(100.0 * ratio(gains, close_changes(history).absolute.wilder_mean(period), 0.5))


def stochastic_rsi(history: History, window: int) -> Array:
    """Return the position of the RSI in its own range, 0 to 1; 0.5 where it does not move."""
    index = rsi(history, window)
    lowest = index.minimum(window)
    # While the close is constant, both averages of the RSI decay equally and it moves by rounding errors only.
    spread = without_rounding(index.maximum(window) - lowest, 100.0)
    return ratio(index.values - lowest, spread, 0.5)


@shared
def fast_stochastic(history: History, window: int) -> Rolling:
    """Return the position of the close between lowest low and highest high, 0 to 100; 50 where they are equal."""
    lowest = history.low.minimum(window)
    return Rolling(100.0 * ratio(history.close.values - lowest, history.high.maximum(window) - lowest, 0.5))


@shared
def slow_stochastic(history: History, window: int) -> Rolling:
    """Return the mean of three sessions of the fast stochastic."""
    return Rolling(fast_stochastic(history, window).mean(3))


def commodity_channel_index(history: History, window: int) -> Array:
    """Return the typical price minus its mean over 0.015 mean absolute deviations; 0 where these are zero."""
    typical = typical_price(history)
    spread = without_rounding(talib.AVGDEV(typical.values, window), typical.values)
    return ratio(typical.values - typical.mean(window), 0.015 * spread, 0.0)


def ultimate_oscillator(history: History) -> Array:
    """Return Williams' ultimate oscillator of 7, 14 and 28 sessions; 0.5 for a window whose true range is zero."""
    pressure = Rolling(history.close.values - np.minimum(history.low.values, lag(history.close.values, 1)))
    fast, middle, slow = (ratio(pressure.sum(w), true_range(history).sum(w), 0.5) for w in (7, 14, 28))
    return 100.0 / 7.0 * (4.0 * fast + 2.0 * middle + slow)


def awesome_oscillator(history: History) -> Array:
    """Return the mean of 5 bar middles minus that of 34."""
    middle = Rolling((history.high.values + history.low.values) / 2.0)
    return middle.mean(5) - middle.mean(34)


def true_strength_index(history: History) -> Array:
    """Return the doubly smoothed change over the doubly smoothed absolute change, -100 to 100; 0 where that is zero."""

    def smooth(values: Rolling) -> Array:
        return Rolling(values.exponential_mean(25)).exponential_mean(13)

    return 100.0 * ratio(smooth(close_changes(history)), smooth(close_changes(history).absolute), 0.0)


def chande_oscillator(history: History, window: int) -> Array:
    """Return the net change over the sum of absolute changes, -100 to 100; 0 where that is zero."""
    return 100.0 * ratio(price_change(history, window), close_changes(history).absolute.sum(window), 0.0)


def efficiency_ratio(history: History, window: int) -> Array:
    """Return Kaufman's ratio: the absolute net change over the sum of absolute changes; 0 where that is zero."""
    return ratio(np.abs(price_change(history, window)), close_changes(history).absolute.sum(window), 0.0)


def rate_of_change(history: History, sessions: int) -> Array:
    """Return the relative change of the close."""
    return history.close.values / lag(history.close.values, sessions) - 1.0


def coppock_curve(history: History) -> Array:
    """Return the linear mean of 10 sessions of the rates of change over 14 and 11."""
    return Rolling(rate_of_change(history, 14) + rate_of_change(history, 11)).linear_mean(10)


def know_sure_thing(history: History) -> Array:
    """Return Pring's weighted sum of smoothed rates of change."""
    terms = ((1.0, 10, 10), (2.0, 15, 10), (3.0, 20, 10), (4.0, 30, 15))
    first, *rest = (weight * Rolling(rate_of_change(history, n)).mean(window) for weight, n, window in terms)
    return first + rest[0] + rest[1] + rest[2]


MOMENTUM = (
    *(past_change(f"momentum_{sessions}", sessions) for sessions in (21, 42, 63, 126, 252)),
    Feature(
        "momentum_252_21",
        252,
        "Log return over the 231 sessions that ended 21 sessions ago",
        relative=lambda h: lag(log_return(h, 231), 21),
        level=lambda h: lag(price_change(h, 231), 21),
    ),
    Feature(
        "momentum_change_21",
        42,
        "Log return over 21 sessions minus that over the 21 before",
        relative=lambda h: change(log_return(h, 21), 21),
        level=lambda h: change(price_change(h, 21), 21),
    ),
    *over(
        (21, 63, 126),
        plain,
        "momentum_volatility_{}",
        0,
        "Log return over {} sessions over their realised volatility",
        lambda h, w: ratio(log_return(h, w), realised_volatility(h, w) * np.sqrt(w), 0.0),
    ),
    plain("rsi_7", memory(13), "Relative strength index of 7 sessions", lambda h: rsi(h, 7).values),
    plain("rsi_14", memory(27), "Relative strength index of 14 sessions", lambda h: rsi(h, 14).values),
    plain("rsi_28", memory(55), "Relative strength index of 28 sessions", lambda h: rsi(h, 28).values),
    plain("stochastic_k_14", 15, "Slow stochastic %K", lambda h: slow_stochastic(h, 14).values),
    plain("stochastic_d_14", 17, "Slow stochastic %D", lambda h: slow_stochastic(h, 14).mean(3)),
    plain("williams_r_14", 13, "Williams' %R", lambda h: fast_stochastic(h, 14).values - 100.0),
    plain("stochastic_rsi_14", 121, "Position of the RSI in its range", stochastic_rsi, 14),
    plain("cci_20", 19, "Commodity channel index", commodity_channel_index, 20),
    plain("ultimate_oscillator", 28, "Buying pressure of 7, 14 and 28 sessions", ultimate_oscillator),
    span("awesome_oscillator", 33, "Mean of 5 bar middles minus that of 34", awesome_oscillator),
    plain("true_strength_index", 151, "Doubly smoothed change over absolute change", true_strength_index),
    plain("cmo_14", 14, "Chande's momentum oscillator", chande_oscillator, 14),
    plain("coppock_curve", 23, "Smoothed rates of change over 14 and 11 sessions", coppock_curve),
    plain("know_sure_thing", 44, "Pring's weighted sum of smoothed rates of change", know_sure_thing),
    plain("efficiency_10", 10, "Net change over absolute changes of the close in 10 sessions", efficiency_ratio, 10),
    plain("efficiency_21", 21, "Net change over absolute changes of the close in 21 sessions", efficiency_ratio, 21),
    *over(
        (21, 63),
        plain,
        "rises_{}",
        0,
        "Share of higher closes in {} sessions, unchanged ones counting half",
        lambda h, w: 0.5 + 0.5 * direction(h).mean(w),
    ),
)
