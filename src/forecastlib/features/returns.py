"""Volatility and statistics: the distribution of recent returns, and the position of the price in its range.

All volatilities are standard deviations of the log return of one session, not annualised.

Sources of volatility: Corsi (2009): daily, weekly and monthly realised volatility; Parkinson (1980); Garman and Klass
(1980), here with the overnight gap added; Rogers and Satchell (1991); Yang and Zhang (2000); Barndorff-Nielsen and
Shephard (2004): bipower variation and jumps; RiskMetrics (1996); Bollinger (2001); Wilder (1978): true range; Keltner
(1960); Donchian; Dorsey (1992): mass index.

Sources of statistics: Lo and MacKinlay (1988): variance ratio; Di Matteo (2007): generalised Hurst exponent; Bali,
Cakici and Whitelaw (2011): the largest return of a month; George and Hwang (2004): distance from the high of a year;
Black (1976): leverage effect; Cont (2001): stylised facts of returns.
"""

from collections.abc import Callable

import numpy as np

from forecastlib.features.base import (
    History,
    average_true_range,
    bar_range,
    intraday_returns,
    log_range,
    log_return,
    logarithms,
    over,
    overnight_returns,
    plain,
    realised_volatility,
    returns,
    span,
    true_range,
)
from forecastlib.features.rolling import Array, Rolling, correlation, lag, memory, ratio, shared

RISKMETRICS_SPAN = 97 / 3
"""The span whose weights decay by 0.94 per session."""


@shared
def parkinson(history: History) -> Rolling:
    """Return Parkinson's variance of each session."""
    return Rolling(log_range(history).squared.values / (4.0 * np.log(2.0)))


@shared
def garman_klass(history: History) -> Rolling:
    """Return Garman and Klass' variance of each session, with the squared overnight return added for opening jumps."""
    intraday = (2.0 * np.log(2.0) - 1.0) * intraday_returns(history).squared.values
    overnight = overnight_returns(history).squared.values
    return Rolling(overnight + 2.0 * np.log(2.0) * parkinson(history).values - intraday)


@shared
def rogers_satchell(history: History) -> Rolling:
    """Return Rogers and Satchell's variance of each session, which is independent of the drift."""
    log_open, log_high, log_low, log_close = logarithms(history)
    return Rolling((log_high - log_close) * (log_high - log_open) + (log_low - log_close) * (log_low - log_open))


def yang_zhang(history: History, window: int) -> Array:
    """Return Yang and Zhang's volatility, independent of the drift and including opening jumps."""
    share = 0.34 / (1.34 + (window + 1) / (window - 1))
    unbiased = window / (window - 1)
    overnight = unbiased * overnight_returns(history).variance(window)
    intraday = unbiased * intraday_returns(history).variance(window)
    return _root(overnight + share * intraday + (1.0 - share) * rogers_satchell(history).mean(window))


def volatility_by(history: History, variance: Callable[[History], Rolling], window: int) -> Array:
    """Return the root of the mean of an estimator of the variance of each session."""
    return _root(variance(history).mean(window))


def _root(variance: Array) -> Array:
    """Return the square root; a negative variance, from an open or close outside its bar, counts as zero."""
    return np.sqrt(np.maximum(variance, 0.0))


@shared
def squared_losses(history: History) -> Rolling:
    """Return the squared negative log returns, positive ones counting as 0."""
    return Rolling(np.square(np.minimum(returns(history).values, 0.0)))


def downside_share(history: History, window: int) -> Array:
    """Return the share of negative returns in the sum of squared returns, 0.5 where all are zero."""
    return ratio(squared_losses(history).sum(window), returns(history).squared.sum(window), 0.5)


def range_share(history: History, window: int) -> Array:
    """Return Parkinson's variance over the sum of itself and that of closes, 0.5 where both are zero."""
    ranges = parkinson(history).mean(window)
    return ratio(ranges, ranges + returns(history).squared.mean(window), 0.5)


def overnight_share(history: History, window: int) -> Array:
    """Return the share of overnight returns in squared overnight and intraday returns, 0.5 where all are zero."""
    overnight = overnight_returns(history).squared.sum(window)
    return ratio(overnight, overnight + intraday_returns(history).squared.sum(window), 0.5)


def jump_share(history: History, window: int) -> Array:
    """Return 1 minus bipower over realised variance of the same returns, 0 where the latter is zero."""
    absolute = returns(history).absolute.values
    products = Rolling(absolute * lag(absolute, 1)).sum(window - 1)
    bipower = products * (np.pi / 2.0 * window / (window - 1))
    return 1.0 - ratio(bipower, returns(history).squared.sum(window), 1.0)


def range_variation(history: History, window: int) -> Array:
    """Return the standard deviation of the log range over its mean, 0 where that is zero."""
    return ratio(log_range(history).deviation(window), log_range(history).mean(window), 0.0)


def volatility_ratio(history: History, fast: int, slow: int) -> Array:
    """Return the realised volatility of a short window over that of a long one, 1 where both are zero."""
    return ratio(realised_volatility(history, fast), realised_volatility(history, slow), 1.0)


def keltner_position(history: History) -> Array:
    """Return the close minus its exponential mean in average true ranges, 0 where these are zero."""
    return ratio(history.close.values - history.close.exponential_mean(20), average_true_range(history, 14), 0.0)


def mass_index(history: History) -> Array:
    """Return the sum over 25 sessions of the mean range over its own mean, which counts 1 where that is zero."""
    once = Rolling(bar_range(history).exponential_mean(9))
    return Rolling(ratio(once.values, once.exponential_mean(9), 1.0)).sum(25)


VOLATILITY = (
    *over((5, 10, 21, 63, 126), plain, "volatility_{}", 0, "Realised volatility of {} sessions", realised_volatility),
    plain(
        "riskmetrics",
        memory(RISKMETRICS_SPAN),
        "Exponentially weighted volatility, decay 0.94",
        lambda h: np.sqrt(returns(h).squared.exponential_mean(RISKMETRICS_SPAN)),
    ),
    plain("downside_volatility_21", 21, "Downside volatility of 21 sessions", volatility_by, squared_losses, 21),
    plain("downside_volatility_63", 63, "Downside volatility of 63 sessions", volatility_by, squared_losses, 63),
    plain("parkinson_10", 9, "Parkinson's volatility of 10 sessions", volatility_by, parkinson, 10),
    plain("parkinson_21", 20, "Parkinson's volatility of 21 sessions", volatility_by, parkinson, 21),
    plain("garman_klass_5", 5, "Garman and Klass' volatility of 5 sessions", volatility_by, garman_klass, 5),
    plain("garman_klass_21", 21, "Garman and Klass' volatility of 21 sessions", volatility_by, garman_klass, 21),
    plain("garman_klass_63", 63, "Garman and Klass' volatility of 63 sessions", volatility_by, garman_klass, 63),
    plain(
        "rogers_satchell_21", 20, "Rogers and Satchell's volatility of 21 sessions", volatility_by, rogers_satchell, 21
    ),
    *over((21, 63), plain, "yang_zhang_{}", 0, "Yang and Zhang's volatility of {} sessions", yang_zhang),
    plain("volatility_ratio_5_21", 21, "Realised volatility of 5 sessions over that of 21", volatility_ratio, 5, 21),
    plain("volatility_ratio_21_63", 63, "Realised volatility of 21 sessions over that of 63", volatility_ratio, 21, 63),
    plain("downside_share_63", 63, "Share of negative returns in squared returns", downside_share, 63),
    plain("range_share_21", 21, "Share of ranges in the variance of ranges and closes", range_share, 21),
    plain("overnight_share_21", 21, "Share of overnight returns in squared returns", overnight_share, 21),
    plain("jump_share_21", 21, "Share of jumps in realised variance", jump_share, 21),
    plain("range_variation_21", 20, "Standard deviation of log ranges over their mean", range_variation, 21),
    span("true_range", 1, "True range", lambda h: true_range(h).values),
    span("atr_14", memory(27), "Wilder's average true range", average_true_range, 14),
    span("bollinger_width_20", 19, "Width of Bollinger's bands", lambda h: 4.0 * h.close.deviation(20)),
    plain("bollinger_position_20", 19, "Position between Bollinger's bands", lambda h: 0.5 + h.close.z_score(20) / 4.0),
    plain("keltner_position_20", 108, "Distance from the mean in average true ranges", keltner_position),
    span("donchian_width_20", 19, "Highest high minus lowest low", lambda h: h.high.maximum(20) - h.low.minimum(20)),
    plain("mass_index_25", 94, "Widening of ranges", mass_index),
)


def variance_ratio(history: History, sessions: int, window: int) -> Array:
    """Return the variance of overlapping returns over several sessions over a random walk's, 1 where that is zero.

    All returns lie within the window, so there are ``window - sessions + 1`` of the longer ones.
    """
    long = Rolling(log_return(history, sessions)).variance(window - sessions + 1)
    return ratio(long, sessions * returns(history).variance(window), 1.0)


def hurst_exponent(history: History, window: int) -> Array:
    """Return how the mean absolute change grows from one session to 16; 0.5 where either is zero.

    The exponent H in ``mean |log return over k sessions| ~ k**H``: 0.5 is a random walk, more a trend, less mean
    reversion.
    """
    short = returns(history).absolute.mean(window)
    long = Rolling(np.abs(log_return(history, 16))).mean(window)
    growth = ratio(long, short, 4.0)
    growth[growth == 0.0] = 4.0
    return np.log2(growth) / 4.0


def autocorrelation(history: History, delay: int) -> Array:
    """Return the autocorrelation of 63 returns, 0 where they have no spread."""
    return correlation(returns(history), returns(history), 63, delay)


STATISTICS = (
    plain("skewness_21", 21, "Skewness of the returns of 21 sessions", lambda h: returns(h).skewness(21)),
    plain("skewness_63", 63, "Skewness of the returns of 63 sessions", lambda h: returns(h).skewness(63)),
    plain("skewness_126", 126, "Skewness of the returns of 126 sessions", lambda h: returns(h).skewness(126)),
    plain("kurtosis_21", 21, "Excess kurtosis of the returns of 21 sessions", lambda h: returns(h).kurtosis(21)),
    plain("kurtosis_63", 63, "Excess kurtosis of the returns of 63 sessions", lambda h: returns(h).kurtosis(63)),
    plain("kurtosis_126", 126, "Excess kurtosis of the returns of 126 sessions", lambda h: returns(h).kurtosis(126)),
    plain("autocorrelation_1_63", 64, "Autocorrelation of returns at lag 1 over 63 sessions", autocorrelation, 1),
    plain("autocorrelation_5_63", 68, "Autocorrelation of returns at lag 5 over 63 sessions", autocorrelation, 5),
    plain(
        "volatility_clustering_63",
        64,
        "Autocorrelation of absolute returns at lag 1",
        lambda h: correlation(returns(h).absolute, returns(h).absolute, 63, delay=1),
    ),
    plain(
        "leverage_63",
        64,
        "Correlation of the absolute return with the previous return",
        lambda h: correlation(returns(h).absolute, returns(h), 63, delay=1),
    ),
    plain(
        "variance_ratio_5_63",
        63,
        "Variance of 5-session returns against a random walk's, 63 sessions",
        variance_ratio,
        5,
        63,
    ),
    plain(
        "variance_ratio_10_126",
        126,
        "Variance of 10-session returns against a random walk's, 126 sessions",
        variance_ratio,
        10,
        126,
    ),
    plain("hurst_126", 141, "Generalised Hurst exponent", hurst_exponent, 126),
    *over((63, 126, 252), plain, "z_{}", -1, "z-score of the close over {} sessions", lambda h, w: h.close.z_score(w)),
    plain("return_rank_63", 63, "Rank of the return among 63 sessions", lambda h: returns(h).rank(63)),
    plain("close_rank_126", 125, "Rank of the close among 126 sessions", lambda h: h.close.rank(126)),
    plain(
        "drawdown_252",
        251,
        "Close over the highest close of 252 sessions, minus 1",
        lambda h: h.close.values / h.close.maximum(252) - 1.0,
    ),
    plain(
        "rebound_252",
        251,
        "Close over the lowest close of 252 sessions, minus 1",
        lambda h: h.close.values / h.close.minimum(252) - 1.0,
    ),
    plain("max_drawdown_126", 125, "Maximum drawdown within 126 sessions", lambda h: h.close.worst_ratio(126) - 1.0),
    plain("max_return_21", 21, "Largest return of 21 sessions", lambda h: returns(h).maximum(21)),
)
