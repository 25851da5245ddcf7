"""Momentum: how far and how evenly the price has moved, over days to a year.

Sources: Wilder (1978): RSI; Lane (1984): stochastics; Williams (1979; 1985): %R and ultimate oscillator; Lambert
(1980): CCI; Blau (1991): true strength index; Chande and Kroll (1994): CMO and stochastic RSI; Coppock (1962); Pring
(1992): KST; Kaufman (1995): efficiency ratio; Jegadeesh and Titman (1993): the year's return without its last month;
Moskowitz, Ooi and Pedersen (2012): return over volatility.
"""

import numpy as np
import talib

from forecastlib.features.arithmetic import Array, change, lag, ratio, without_rounding
from forecastlib.features.bar import momentum
from forecastlib.features.feature import Feature
from forecastlib.features.history import (
    History,
    direction,
    log_return,
    price_change,
    realised_volatility,
    shared,
    true_range,
    typical_price,
)
from forecastlib.features.rolling import Rolling, memory


@shared
def absolute_change(history: History) -> Rolling:
    """Return the absolute change of the close."""
    return Rolling(np.abs(price_change(history, 1)))


@shared
def relative_strength_index(history: History, period: int) -> Rolling:
    """Return Wilder's RSI, 0 to 100; 50 where the close has not moved at all."""
    gains = Rolling(np.maximum(price_change(history, 1), 0.0)).wilder_mean(period)
    return Rolling(100.0 * ratio(gains, absolute_change(history).wilder_mean(period), 0.5))


def stochastic_rsi(history: History, window: int) -> Array:
    """Return the place of the RSI in its own range, 0 to 1; 0.5 where it stands still."""
    index = relative_strength_index(history, window)
    lowest = index.minimum(window)
    # While the close stands still both of the RSI's averages decay alike, and it moves by rounding errors alone.
    spread = without_rounding(index.maximum(window) - lowest, 100.0)
    return ratio(index.values - lowest, spread, 0.5)


@shared
def fast_stochastic(history: History, window: int) -> Rolling:
    """Return the place of the close between lowest low and highest high, 0 to 100; 50 where they are equal."""
    lowest = history.low.minimum(window)
    return Rolling(100.0 * ratio(history.close.values - lowest, history.high.maximum(window) - lowest, 0.5))


@shared
def slow_stochastic(history: History, window: int) -> Rolling:
    """Return the mean of three sessions of the fast stochastic."""
    return Rolling(fast_stochastic(history, window).mean(3))


def commodity_channel_index(history: History, window: int) -> Array:
    """Return the distance of the typical price from its mean in mean absolute deviations over 0.015; 0 where none."""
    typical = typical_price(history)
    spread = without_rounding(talib.AVGDEV(typical.values, window), typical.values)
    return ratio(typical.values - typical.mean(window), 0.015 * spread, 0.0)


def ultimate_oscillator(history: History) -> Array:
    """Return Williams' ultimate oscillator of 7, 14 and 28 sessions; a share of a true range of zero counts 0.5."""
    pressure = Rolling(history.close.values - np.minimum(history.low.values, lag(history.close.values, 1)))
    fast, middle, slow = (ratio(pressure.sum(w), true_range(history).sum(w), 0.5) for w in (7, 14, 28))
    return 100.0 / 7.0 * (4.0 * fast + 2.0 * middle + slow)


def awesome_oscillator(history: History) -> Array:
    """Return the mean of 5 bar middles minus that of 34."""
    middle = Rolling((history.high.values + history.low.values) / 2.0)
    return middle.mean(5) - middle.mean(34)


def true_strength_index(history: History) -> Array:
    """Return the doubly smoothed change over the doubly smoothed absolute change, -100 to 100; 0 where none."""

    def smooth(values: Rolling) -> Array:
        return Rolling(values.exponential_mean(25)).exponential_mean(13)

    return 100.0 * ratio(smooth(Rolling(price_change(history, 1))), smooth(absolute_change(history)), 0.0)


def chande_oscillator(history: History, window: int) -> Array:
    """Return the net change over the sum of absolute changes, -100 to 100; 0 where there is none."""
    return 100.0 * ratio(price_change(history, window), absolute_change(history).sum(window), 0.0)


def efficiency_ratio(history: History, window: int) -> Array:
    """Return Kaufman's ratio: the absolute net change over the way gone; 0 where the close has not moved."""
    return ratio(np.abs(price_change(history, window)), absolute_change(history).sum(window), 0.0)


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


def _skipping_a_month(values: Array) -> Array:
    return lag(values, 21)


def _scaled(window: int) -> Feature:
    return Feature.plain(
        f"momentum_volatility_{window}",
        window,
        f"Log return over {window} sessions over their realised volatility",
        lambda h: ratio(log_return(h, window), realised_volatility(h, window) * np.sqrt(window), 0.0),
    )


def _strength(period: int) -> Feature:
    return Feature.plain(
        f"rsi_{period}",
        memory(2 * period - 1),
        f"Relative strength index of {period} sessions",
        lambda h: relative_strength_index(h, period).values,
    )


def _efficiency(window: int) -> Feature:
    return Feature.plain(
        f"efficiency_{window}",
        window,
        f"Net change of the close over the way gone in {window} sessions",
        lambda h: efficiency_ratio(h, window),
    )


def _rises(window: int) -> Feature:
    return Feature.plain(
        f"rises_{window}",
        window,
        f"Share of higher closes in {window} sessions, unchanged ones counting half",
        lambda h: 0.5 + 0.5 * direction(h).mean(window),
    )


FEATURES = (
    *(momentum(f"momentum_{sessions}", sessions) for sessions in (21, 42, 63, 126, 252)),
    Feature(
        "momentum_252_21",
        252,
        "Log return over the 231 sessions that ended 21 sessions ago",
        relative=lambda h: _skipping_a_month(log_return(h, 231)),
        level=lambda h: _skipping_a_month(price_change(h, 231)),
    ),
    Feature(
        "momentum_change_21",
        42,
        "Log return over 21 sessions minus that over the 21 before",
        relative=lambda h: change(log_return(h, 21), 21),
        level=lambda h: change(price_change(h, 21), 21),
    ),
    *(_scaled(window) for window in (21, 63, 126)),
    *(_strength(period) for period in (7, 14, 28)),
    Feature.plain("stochastic_k_14", 15, "Slow stochastic %K", lambda h: slow_stochastic(h, 14).values),
    Feature.plain("stochastic_d_14", 17, "Slow stochastic %D", lambda h: slow_stochastic(h, 14).mean(3)),
    Feature.plain("williams_r_14", 13, "Williams' %R", lambda h: fast_stochastic(h, 14).values - 100.0),
    Feature.plain("stochastic_rsi_14", 121, "Place of the RSI in its range", lambda h: stochastic_rsi(h, 14)),
    Feature.plain("cci_20", 19, "Commodity channel index", lambda h: commodity_channel_index(h, 20)),
    Feature.plain("ultimate_oscillator", 28, "Buying pressure of 7, 14 and 28 sessions", ultimate_oscillator),
    Feature.span("awesome_oscillator", 33, "Mean of 5 bar middles minus that of 34", awesome_oscillator),
    Feature.plain("true_strength_index", 151, "Doubly smoothed change over absolute change", true_strength_index),
    Feature.plain("cmo_14", 14, "Chande's momentum oscillator", lambda h: chande_oscillator(h, 14)),
    Feature.plain("coppock_curve", 23, "Smoothed rates of change over 14 and 11 sessions", coppock_curve),
    Feature.plain("know_sure_thing", 44, "Pring's weighted sum of smoothed rates of change", know_sure_thing),
    *(_efficiency(window) for window in (10, 21)),
    *(_rises(window) for window in (21, 63)),
)
