"""Statistics: the shape of recent returns, their memory, and where the price stands in its own range.

Sources: Lo and MacKinlay (1988): variance ratio; Di Matteo (2007): generalised Hurst exponent; Bali, Cakici and
Whitelaw (2011): the month's largest return; George and Hwang (2004): distance from the year's high; Black (1976):
leverage effect; Cont (2001): what returns have in common.
"""

import numpy as np

from forecastlib.features.arithmetic import Array, ratio
from forecastlib.features.feature import Feature
from forecastlib.features.history import History, absolute_returns, log_return, returns
from forecastlib.features.rolling import Rolling, correlation


def variance_ratio(history: History, sessions: int, window: int) -> Array:
    """Return the variance of overlapping returns over several sessions over that of a random walk, 1 where none.

    All returns lie within the window, so there are ``window - sessions + 1`` of the longer ones.
    """
    long = Rolling(log_return(history, sessions)).variance(window - sessions + 1)
    return ratio(long, sessions * returns(history).variance(window), 1.0)


def hurst_exponent(history: History, window: int) -> Array:
    """Return how the mean absolute change grows with time, from one session to 16; 0.5 where either is zero.

    The exponent H in ``mean |log return over k sessions| ~ k**H``: 0.5 is a random walk, more a trend, less a return
    to the mean.
    """
    short = absolute_returns(history).mean(window)
    long = Rolling(np.abs(log_return(history, 16))).mean(window)
    growth = ratio(long, short, 4.0)
    growth[growth == 0.0] = 4.0
    return np.log2(growth) / 4.0


def _autocorrelation(sessions: int) -> Feature:
    return Feature.plain(
        f"autocorrelation_{sessions}_63",
        63 + sessions,
        f"Autocorrelation of returns at lag {sessions} over 63 sessions",
        lambda h: correlation(returns(h), returns(h), 63, delay=sessions),
    )


def _skewness(window: int) -> Feature:
    return Feature.plain(
        f"skewness_{window}",
        window,
        f"Skewness of the returns of {window} sessions",
        lambda h: returns(h).skewness(window),
    )


def _kurtosis(window: int) -> Feature:
    return Feature.plain(
        f"kurtosis_{window}",
        window,
        f"Excess kurtosis of the returns of {window} sessions",
        lambda h: returns(h).kurtosis(window),
    )


def _variance_ratio(sessions: int, window: int) -> Feature:
    return Feature.plain(
        f"variance_ratio_{sessions}_{window}",
        window,
        f"Variance of {sessions}-session returns against a random walk's, {window} sessions",
        lambda h: variance_ratio(h, sessions, window),
    )


def _z_score(window: int) -> Feature:
    return Feature.plain(
        f"z_{window}", window - 1, f"z-score of the close over {window} sessions", lambda h: h.close.z_score(window)
    )


FEATURES = (
    *(_skewness(window) for window in (21, 63, 126)),
    *(_kurtosis(window) for window in (21, 63, 126)),
    *(_autocorrelation(sessions) for sessions in (1, 5)),
    Feature.plain(
        "volatility_clustering_63",
        64,
        "Autocorrelation of absolute returns at lag 1",
        lambda h: correlation(absolute_returns(h), absolute_returns(h), 63, delay=1),
    ),
    Feature.plain(
        "leverage_63",
        64,
        "Correlation of the absolute return with the return before",
        lambda h: correlation(absolute_returns(h), returns(h), 63, delay=1),
    ),
    *(_variance_ratio(sessions, window) for sessions, window in ((5, 63), (10, 126))),
    Feature.plain("hurst_126", 141, "Generalised Hurst exponent", lambda h: hurst_exponent(h, 126)),
    *(_z_score(window) for window in (63, 126, 252)),
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
        "max_drawdown_126", 125, "Deepest fall within 126 sessions", lambda h: h.close.worst_ratio(126) - 1.0
    ),
    Feature.plain("max_return_21", 21, "Largest return of 21 sessions", lambda h: returns(h).maximum(21)),
)
