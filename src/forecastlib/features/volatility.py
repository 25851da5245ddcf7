"""Volatility: how much the price moves a session, by several estimators and over several horizons.

All volatilities are standard deviations of log prices for one session, not annualised. Sources: Corsi (2009): daily,
weekly and monthly realised volatility; Parkinson (1980); Garman and Klass (1980), here with the overnight gap added;
Rogers and Satchell (1991); Yang and Zhang (2000); Barndorff-Nielsen and Shephard (2004): bipower variation and jumps;
RiskMetrics (1996); Bollinger (2001); Wilder (1978): true range; Keltner (1960); Donchian; Dorsey (1992): mass index.
"""

import numpy as np

from forecastlib.features.arithmetic import Array, lag, ratio
from forecastlib.features.feature import Compute, Feature
from forecastlib.features.history import (
    History,
    absolute_returns,
    average_true_range,
    bar_range,
    intraday_returns,
    log_range,
    logarithms,
    overnight_returns,
    realised_volatility,
    returns,
    shared,
    squared_returns,
    true_range,
)
from forecastlib.features.rolling import Rolling, memory

RISKMETRICS_SPAN = 97 / 3
"""The span whose weights decay by 0.94 a session."""


@shared
def squared_overnight(history: History) -> Rolling:
    """Return the squared overnight returns."""
    return Rolling(np.square(overnight_returns(history).values))


@shared
def log_range_variance(history: History) -> Rolling:
    """Return Parkinson's variance of each session."""
    return Rolling(np.square(log_range(history).values) / (4.0 * np.log(2.0)))


@shared
def garman_klass_variance(history: History) -> Rolling:
    """Return Garman and Klass' variance of each session, with the squared overnight return added."""
    intraday = (2.0 * np.log(2.0) - 1.0) * np.square(intraday_returns(history).values)
    return Rolling(
        squared_overnight(history).values + 2.0 * np.log(2.0) * log_range_variance(history).values - intraday
    )


@shared
def rogers_satchell_variance(history: History) -> Rolling:
    """Return Rogers and Satchell's variance of each session."""
    log_open, log_high, log_low, log_close = logarithms(history)
    return Rolling((log_high - log_close) * (log_high - log_open) + (log_low - log_close) * (log_low - log_open))


def yang_zhang(history: History, window: int) -> Array:
    """Return Yang and Zhang's volatility, free of drift and with opening jumps."""
    share = 0.34 / (1.34 + (window + 1) / (window - 1))
    unbiased = window / (window - 1)
    overnight = unbiased * overnight_returns(history).variance(window)
    intraday = unbiased * intraday_returns(history).variance(window)
    return _root(overnight + share * intraday + (1.0 - share) * rogers_satchell_variance(history).mean(window))


def _root(variance: Array) -> Array:
    """Return the square root; a mean below zero comes from a close or open outside its bar, and counts as zero."""
    return np.sqrt(np.maximum(variance, 0.0))


def downside_volatility(history: History, window: int) -> Array:
    """Return the root of the mean squared negative return, rises counting as 0."""
    return np.sqrt(_squared_falls(history).mean(window))


@shared
def _squared_falls(history: History) -> Rolling:
    return Rolling(np.square(np.minimum(returns(history).values, 0.0)))


def downside_share(history: History, window: int) -> Array:
    """Return the share of falls in the sum of squared returns, 0.5 where all are zero."""
    return ratio(_squared_falls(history).sum(window), squared_returns(history).sum(window), 0.5)


def range_share(history: History, window: int) -> Array:
    """Return Parkinson's variance over itself plus that of closes, 0.5 where both are zero."""
    ranges = log_range_variance(history).mean(window)
    return ratio(ranges, ranges + squared_returns(history).mean(window), 0.5)


def overnight_share(history: History, window: int) -> Array:
    """Return the share of nights in the sum of squared overnight and intraday returns, 0.5 where all are zero."""
    overnight = squared_overnight(history).sum(window)
    intraday = Rolling(np.square(intraday_returns(history).values)).sum(window)
    return ratio(overnight, overnight + intraday, 0.5)


def jump_share(history: History, window: int) -> Array:
    """Return 1 minus bipower over realised variance of the same returns, 0 where the latter is zero."""
    absolute = absolute_returns(history).values
    products = Rolling(absolute * lag(absolute, 1)).sum(window - 1)
    bipower = products * (np.pi / 2.0 * window / (window - 1))
    return 1.0 - ratio(bipower, squared_returns(history).sum(window), 1.0)


def range_variation(history: History, window: int) -> Array:
    """Return the standard deviation of the log range over its mean, 0 where there is none."""
    return ratio(log_range(history).deviation(window), log_range(history).mean(window), 0.0)


def volatility_ratio(history: History, fast: int, slow: int) -> Array:
    """Return realised volatility over a short window over that of a long one, 1 where both are zero."""
    return ratio(realised_volatility(history, fast), realised_volatility(history, slow), 1.0)


def band_position(history: History, window: int) -> Array:
    """Return the place of the close between Bollinger's bands, 0.5 where they have no width."""
    return 0.5 + history.close.z_score(window) / 4.0


def keltner_position(history: History) -> Array:
    """Return the close minus its exponential mean in average true ranges, 0 where there is no range."""
    return ratio(history.close.values - history.close.exponential_mean(20), average_true_range(history, 14), 0.0)


def mass_index(history: History) -> Array:
    """Return the sum over 25 sessions of the mean range over its own mean; a session without range counts 1."""
    once = Rolling(bar_range(history).exponential_mean(9))
    return Rolling(ratio(once.values, once.exponential_mean(9), 1.0)).sum(25)


def _estimator(name: str, title: str, window: int, lookback: int, volatility: Compute) -> Feature:
    return Feature.plain(f"{name}_{window}", lookback, f"{title} volatility of {window} sessions", volatility)


def _realised(window: int) -> Feature:
    return _estimator("volatility", "Realised", window, window, lambda h: realised_volatility(h, window))


def _downside(window: int) -> Feature:
    return _estimator("downside_volatility", "Downside", window, window, lambda h: downside_volatility(h, window))


def _parkinson(window: int) -> Feature:
    return _estimator(
        "parkinson", "Parkinson's", window, window - 1, lambda h: np.sqrt(log_range_variance(h).mean(window))
    )


def _garman_klass(window: int) -> Feature:
    return _estimator(
        "garman_klass", "Garman and Klass'", window, window, lambda h: _root(garman_klass_variance(h).mean(window))
    )


def _yang_zhang(window: int) -> Feature:
    return _estimator("yang_zhang", "Yang and Zhang's", window, window, lambda h: yang_zhang(h, window))


def _ratio(fast: int, slow: int) -> Feature:
    return Feature.plain(
        f"volatility_ratio_{fast}_{slow}",
        slow,
        f"Realised volatility of {fast} sessions over that of {slow}",
        lambda h: volatility_ratio(h, fast, slow),
    )


FEATURES = (
    *(_realised(window) for window in (5, 10, 21, 63, 126)),
    Feature.plain(
        "riskmetrics",
        memory(RISKMETRICS_SPAN),
        "Exponentially weighted volatility, decay 0.94",
        lambda h: np.sqrt(squared_returns(h).exponential_mean(RISKMETRICS_SPAN)),
    ),
    *(_downside(window) for window in (21, 63)),
    *(_parkinson(window) for window in (10, 21)),
    *(_garman_klass(window) for window in (5, 21, 63)),
    _estimator(
        "rogers_satchell", "Rogers and Satchell's", 21, 20, lambda h: _root(rogers_satchell_variance(h).mean(21))
    ),
    *(_yang_zhang(window) for window in (21, 63)),
    *(_ratio(fast, slow) for fast, slow in ((5, 21), (21, 63))),
    Feature.plain("downside_share_63", 63, "Share of falls in squared returns", lambda h: downside_share(h, 63)),
    Feature.plain(
        "range_share_21", 21, "Share of ranges in variance of ranges and closes", lambda h: range_share(h, 21)
    ),
    Feature.plain("overnight_share_21", 21, "Share of the nights in squared returns", lambda h: overnight_share(h, 21)),
    Feature.plain("jump_share_21", 21, "Share of jumps in realised variance", lambda h: jump_share(h, 21)),
    Feature.plain("range_variation_21", 20, "Spread of log ranges over their mean", lambda h: range_variation(h, 21)),
    Feature.span("true_range", 1, "True range", lambda h: true_range(h).values),
    Feature.span("atr_14", memory(27), "Wilder's average true range", lambda h: average_true_range(h, 14)),
    Feature.span("bollinger_width_20", 19, "Width of Bollinger's bands", lambda h: 4.0 * h.close.deviation(20)),
    Feature.plain("bollinger_position_20", 19, "Place between Bollinger's bands", lambda h: band_position(h, 20)),
    Feature.plain("keltner_position_20", 108, "Distance from the mean in average true ranges", keltner_position),
    Feature.span(
        "donchian_width_20", 19, "Highest high minus lowest low", lambda h: h.high.maximum(20) - h.low.minimum(20)
    ),
    Feature.plain("mass_index_25", 94, "Widening of ranges", mass_index),
)
