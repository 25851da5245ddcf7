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
    Feature,
    History,
    absolute_returns,
    average_true_range,
    bar_range,
    intraday_returns,
    log_range,
    log_return,
    logarithms,
    overnight_returns,
    realised_volatility,
    returns,
    shared,
    squared_returns,
    true_range,
)
from forecastlib.features.rolling import Array, Rolling, correlation, lag, memory, ratio

RISKMETRICS_SPAN = 97 / 3
"""The span whose weights decay by 0.94 per session."""


@shared
def squared_overnight(history: History) -> Rolling:
    """Return the squared overnight returns."""
    return Rolling(np.square(overnight_returns(history).values))


@shared
def log_range_variance(history: History) -> Rolling:
    """Return Parkinson's variance of each session."""
    return Rolling(np.square(log_range(history).values) / (4.0 * np.log(2.0)))


def parkinson(history: History, window: int) -> Array:
    """Return Parkinson's volatility."""
    return np.sqrt(log_range_variance(history).mean(window))


@shared
def garman_klass_variance(history: History) -> Rolling:
    """Return Garman and Klass' variance of each session, with the squared overnight return added."""
    intraday = (2.0 * np.log(2.0) - 1.0) * np.square(intraday_returns(history).values)
    return Rolling(
        squared_overnight(history).values + 2.0 * np.log(2.0) * log_range_variance(history).values - intraday
    )


def garman_klass(history: History, window: int) -> Array:
    """Return Garman and Klass' volatility, including opening jumps."""
    return _root(garman_klass_variance(history).mean(window))


@shared
def rogers_satchell_variance(history: History) -> Rolling:
    """Return Rogers and Satchell's variance of each session."""
    log_open, log_high, log_low, log_close = logarithms(history)
    return Rolling((log_high - log_close) * (log_high - log_open) + (log_low - log_close) * (log_low - log_open))


def rogers_satchell(history: History, window: int) -> Array:
    """Return Rogers and Satchell's volatility, independent of the drift."""
    return _root(rogers_satchell_variance(history).mean(window))


def yang_zhang(history: History, window: int) -> Array:
    """Return Yang and Zhang's volatility, independent of the drift and including opening jumps."""
    share = 0.34 / (1.34 + (window + 1) / (window - 1))
    unbiased = window / (window - 1)
    overnight = unbiased * overnight_returns(history).variance(window)
    intraday = unbiased * intraday_returns(history).variance(window)
    return _root(overnight + share * intraday + (1.0 - share) * rogers_satchell_variance(history).mean(window))


def _root(variance: Array) -> Array:
    """Return the square root; a negative variance, from an open or close outside its bar, counts as zero."""
    return np.sqrt(np.maximum(variance, 0.0))


def downside_volatility(history: History, window: int) -> Array:
    """Return the root of the mean squared negative return, positive ones counting as 0."""
    return np.sqrt(squared_losses(history).mean(window))


@shared
def squared_losses(history: History) -> Rolling:
    """Return the squared negative log returns, positive ones counting as 0."""
    return Rolling(np.square(np.minimum(returns(history).values, 0.0)))


def downside_share(history: History, window: int) -> Array:
    """Return the share of negative returns in the sum of squared returns, 0.5 where all are zero."""
    return ratio(squared_losses(history).sum(window), squared_returns(history).sum(window), 0.5)


def range_share(history: History, window: int) -> Array:
    """Return Parkinson's variance over the sum of itself and that of closes, 0.5 where both are zero."""
    ranges = log_range_variance(history).mean(window)
    return ratio(ranges, ranges + squared_returns(history).mean(window), 0.5)


def overnight_share(history: History, window: int) -> Array:
    """Return the share of overnight returns in squared overnight and intraday returns, 0.5 where all are zero."""
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
    """Return the standard deviation of the log range over its mean, 0 where that is zero."""
    return ratio(log_range(history).deviation(window), log_range(history).mean(window), 0.0)


def volatility_ratio(history: History, fast: int, slow: int) -> Array:
    """Return the realised volatility of a short window over that of a long one, 1 where both are zero."""
    return ratio(realised_volatility(history, fast), realised_volatility(history, slow), 1.0)


def band_position(history: History, window: int) -> Array:
    """Return the position of the close between Bollinger's bands, 0.5 where they have no width."""
    return 0.5 + history.close.z_score(window) / 4.0


def keltner_position(history: History) -> Array:
    """Return the close minus its exponential mean in average true ranges, 0 where these are zero."""
    return ratio(history.close.values - history.close.exponential_mean(20), average_true_range(history, 14), 0.0)


def mass_index(history: History) -> Array:
    """Return the sum over 25 sessions of the mean range over its own mean, which counts 1 where that is zero."""
    once = Rolling(bar_range(history).exponential_mean(9))
    return Rolling(ratio(once.values, once.exponential_mean(9), 1.0)).sum(25)


def _estimator(name: str, author: str, window: int, lookback: int, values: Callable[[History, int], Array]) -> Feature:
    return Feature.plain(f"{name}_{window}", lookback, f"{author} volatility of {window} sessions", values, window)


VOLATILITY = (
    *(_estimator("volatility", "Realised", w, w, realised_volatility) for w in (5, 10, 21, 63, 126)),
    Feature.plain(
        "riskmetrics",
        memory(RISKMETRICS_SPAN),
        "Exponentially weighted volatility, decay 0.94",
        lambda h: np.sqrt(squared_returns(h).exponential_mean(RISKMETRICS_SPAN)),
    ),
    *(_estimator("downside_volatility", "Downside", w, w, downside_volatility) for w in (21, 63)),
    *(_estimator("parkinson", "Parkinson's", w, w - 1, parkinson) for w in (10, 21)),
    *(_estimator("garman_klass", "Garman and Klass'", w, w, garman_klass) for w in (5, 21, 63)),
    _estimator("rogers_satchell", "Rogers and Satchell's", 21, 20, rogers_satchell),
    *(_estimator("yang_zhang", "Yang and Zhang's", w, w, yang_zhang) for w in (21, 63)),
    *(
        Feature.plain(
            f"volatility_ratio_{fast}_{slow}",
            slow,
            f"Realised volatility of {fast} sessions over that of {slow}",
            volatility_ratio,
            fast,
            slow,
        )
        for fast, slow in ((5, 21), (21, 63))
    ),
    Feature.plain("downside_share_63", 63, "Share of negative returns in squared returns", downside_share, 63),
    Feature.plain("range_share_21", 21, "Share of ranges in the variance of ranges and closes", range_share, 21),
    Feature.plain("overnight_share_21", 21, "Share of overnight returns in squared returns", overnight_share, 21),
    Feature.plain("jump_share_21", 21, "Share of jumps in realised variance", jump_share, 21),
    Feature.plain("range_variation_21", 20, "Standard deviation of log ranges over their mean", range_variation, 21),
    Feature.span("true_range", 1, "True range", lambda h: true_range(h).values),
    Feature.span("atr_14", memory(27), "Wilder's average true range", average_true_range, 14),
    Feature.span("bollinger_width_20", 19, "Width of Bollinger's bands", lambda h: 4.0 * h.close.deviation(20)),
    Feature.plain("bollinger_position_20", 19, "Position between Bollinger's bands", band_position, 20),
    Feature.plain("keltner_position_20", 108, "Distance from the mean in average true ranges", keltner_position),
    Feature.span(
        "donchian_width_20", 19, "Highest high minus lowest low", lambda h: h.high.maximum(20) - h.low.minimum(20)
    ),
    Feature.plain("mass_index_25", 94, "Widening of ranges", mass_index),
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
    short = absolute_returns(history).mean(window)
    long = Rolling(np.abs(log_return(history, 16))).mean(window)
    growth = ratio(long, short, 4.0)
    growth[growth == 0.0] = 4.0
    return np.log2(growth) / 4.0


STATISTICS = (
    *(
        Feature.plain(
            f"skewness_{w}", w, f"Skewness of the returns of {w} sessions", lambda h, w: returns(h).skewness(w), w
        )
        for w in (21, 63, 126)
    ),
    *(
        Feature.plain(
            f"kurtosis_{w}",
            w,
            f"Excess kurtosis of the returns of {w} sessions",
            lambda h, w: returns(h).kurtosis(w),
            w,
        )
        for w in (21, 63, 126)
    ),
    *(
        Feature.plain(
            f"autocorrelation_{sessions}_63",
            63 + sessions,
            f"Autocorrelation of returns at lag {sessions} over 63 sessions",
            lambda h, sessions: correlation(returns(h), returns(h), 63, delay=sessions),
            sessions,
        )
        for sessions in (1, 5)
    ),
    Feature.plain(
        "volatility_clustering_63",
        64,
        "Autocorrelation of absolute returns at lag 1",
        lambda h: correlation(absolute_returns(h), absolute_returns(h), 63, delay=1),
    ),
    Feature.plain(
        "leverage_63",
        64,
        "Correlation of the absolute return with the previous return",
        lambda h: correlation(absolute_returns(h), returns(h), 63, delay=1),
    ),
    *(
        Feature.plain(
            f"variance_ratio_{sessions}_{w}",
            w,
            f"Variance of {sessions}-session returns against a random walk's, {w} sessions",
            variance_ratio,
            sessions,
            w,
        )
        for sessions, w in ((5, 63), (10, 126))
    ),
    Feature.plain("hurst_126", 141, "Generalised Hurst exponent", hurst_exponent, 126),
    *(
        Feature.plain(f"z_{w}", w - 1, f"z-score of the close over {w} sessions", lambda h, w: h.close.z_score(w), w)
        for w in (63, 126, 252)
    ),
    Feature.plain("return_rank_63", 63, "Rank of the return among 63 sessions", lambda h: returns(h).rank(63)),
    Feature.plain("close_rank_126", 125, "Rank of the close among 126 sessions", lambda h: h.close.rank(126)),
    Feature.plain(
        "drawdown_252",
        251,
        "Close over the highest close of 252 sessions, minus 1",
        lambda h: h.close.values / h.close.maximum(252) - 1.0,
    ),
    Feature.plain(
        "rebound_252",
        251,
        "Close over the lowest close of 252 sessions, minus 1",
        lambda h: h.close.values / h.close.minimum(252) - 1.0,
    ),
    Feature.plain(
        "max_drawdown_126", 125, "Maximum drawdown within 126 sessions", lambda h: h.close.worst_ratio(126) - 1.0
    ),
    Feature.plain("max_return_21", 21, "Largest return of 21 sessions", lambda h: returns(h).maximum(21)),
)
