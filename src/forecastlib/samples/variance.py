"""Range-based volatility at an origin, from what was known after its close.

Every function takes prices (n sessions, validated) and returns one float64 value per session, in log returns per
session (not annualised). All are causal: the value of a row depends on that row and on those before it.
:func:`ewma_volatility` looks back a fixed number of sessions, so that the value of a date is bit-identical
whether it is computed from the whole history or from the newest :data:`SESSIONS_NEEDED` rows.

==================================================  ===========================================================
``garman_klass(prices)``                            variance between open and close, from the range; shape (n,)
``overnight(prices)``                               squared return from the last close to the open; shape (n,)
``session_variance(prices)``                        both together: variance from close to close; shape (n,)
``ewma_volatility(prices, decay=, window=)``        standard deviation per session; shape (n,)
``horizon_volatility(volatility, horizons)``        the same over h sessions; shape (n, horizons)
``volatility_predictors(prices)``                   regressors of the volatility ahead; shape (n, 8)
==================================================  ===========================================================
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from forecastlib.data.prices import PRICE_COLUMNS
from forecastlib.errors import ConfigError

Floats = npt.NDArray[np.float64]

DECAY = 0.94
"""Weight of the previous variance in the next one (J.P. Morgan/Reuters, *RiskMetrics Technical Document*, 1996)."""

WINDOW = 250
"""Sessions per value; earlier ones would have a weight of at most 0.94 ** 250, about 2e-7."""

SESSIONS_NEEDED = WINDOW + 1
"""Newest rows from which the last value is the same as from the whole history: one more, for its overnight return."""

MIN_VOLATILITY = 1e-4
"""Floor of the volatility per session, so that unchanged prices do not lead to a division by zero."""


def garman_klass(prices: pd.DataFrame) -> Floats:
    """Estimate the variance between open and close from the day's range.

    ``0.5 ln(high / low)^2 - (2 ln 2 - 1) ln(close / open)^2``, the practical estimator of Garman and Klass, "On the
    Estimation of Security Price Volatilities from Historical Data", Journal of Business 53 (1980), about 7 times as
    efficient as the squared return.

    Open and close count as prices of the day: where one lies outside of [low, high], as an opening price copied
    from the previous close may, the range is widened to take it in, so that the estimate is never negative.

    Parameters
    ----------
    prices
        Prices, n sessions.

    Returns
    -------
    ndarray of float64, shape (n,)
    """
    o, h, low, c = (prices[column].to_numpy(dtype=np.float64) for column in PRICE_COLUMNS)
    reach = np.log(np.maximum(np.maximum(h, o), c) / np.minimum(np.minimum(low, o), c))
    variance: Floats = 0.5 * reach**2 - (2.0 * np.log(2.0) - 1.0) * np.log(c / o) ** 2
    return variance


def overnight(prices: pd.DataFrame) -> Floats:
    """Return the squared log return from the previous close to the open; 0 for the first session, which has none."""
    close = prices["close"].to_numpy(dtype=np.float64)
    variance = np.zeros(len(close))
    variance[1:] = np.log(prices["open"].to_numpy(dtype=np.float64)[1:] / close[:-1]) ** 2
    return variance


def session_variance(prices: pd.DataFrame) -> Floats:
    """Estimate the variance of each session from close to close: Garman-Klass plus the squared overnight return.

    Where the source copies the open from the previous close (the bundled ^GSPC until 2005), the overnight part
    is 0 and the range part covers the whole move, so the sum keeps its meaning.

    Parameters
    ----------
    prices
        Prices, n sessions.

    Returns
    -------
    ndarray of float64, shape (n,)
    """
    return garman_klass(prices) + overnight(prices)


def floored_variance(prices: pd.DataFrame) -> Floats:
    """Return :func:`session_variance`, never below the square of :data:`MIN_VOLATILITY`, so that it has a logarithm."""
    return np.maximum(session_variance(prices), MIN_VOLATILITY**2)


def ewma_volatility(prices: pd.DataFrame, *, decay: float = DECAY, window: int = WINDOW) -> Floats:
    """Return the volatility per session, exponentially weighted over the latest sessions.

    The square root of ``sum_k decay^k v[t-k] / sum_k decay^k`` for k = 0 ... window-1, v being
    :func:`session_variance`; never below :data:`MIN_VOLATILITY`. Rows with fewer earlier sessions
    average over those that exist.

    Parameters
    ----------
    prices
        Prices, n sessions.
    decay
        Weight of a session relative to the one after it, in (0, 1].
    window
        Sessions that count, the row's own the newest of them.

    Returns
    -------
    ndarray of float64, shape (n,)

    Raises
    ------
    ConfigError
        If ``decay`` or ``window`` is out of range.

    Examples
    --------
    With ``window=3`` and ``decay=0.5``, row 5 is ``sqrt((4 v[5] + 2 v[4] + v[3]) / 7)``. As v[3] contains the
    overnight return from row 2, rows 2-5 of the prices are enough to compute it again exactly.
    """
    if not 0.0 < decay <= 1.0:
        raise ConfigError(f"expected a decay above 0 and at most 1; got {decay}")
    if window < 1:
        raise ConfigError(f"expected a window of at least one session; got {window}")
    variance = session_variance(prices)
    # One lag after the other, element by element: the order of additions is the same for every row, whereas a
    # product of matrices or a convolution may round a row differently depending on where in memory it stands.
    n = len(variance)
    weights = np.array([decay**lag for lag in range(min(window, n))])
    total = np.zeros(n)
    for lag, weight in enumerate(weights):
        total[lag:] += weight * variance[: n - lag]
    behind = np.minimum(np.arange(n), len(weights) - 1)
    return np.asarray(np.maximum(np.sqrt(total / np.cumsum(weights)[behind]), MIN_VOLATILITY))


VARIANCE_SPANS = (1, 5, 22, 120)
"""Sessions per mean variance among the predictors: a day, a week, a month, half a year."""

FALL_SPANS = (1, 5, 22)
"""Sessions per fall among the predictors."""

PREDICTOR_SESSIONS = VARIANCE_SPANS[-1] + 1
"""Newest rows from which the last predictors are the same as from the whole history."""


def volatility_predictors(prices: pd.DataFrame, variance: Floats | None = None) -> Floats:
    """Return the regressors of the logarithm of the variance ahead.

    A constant; the logarithm of the mean :func:`session_variance` of the latest 1, 5, 22 and 120 sessions (Corsi,
    "A Simple Approximate Long-Memory Model of Realized Volatility", Journal of Financial Econometrics 7 (2009)); and
    the fall of the price over 1, 5 and 22 sessions, 0 if it rose, over the volatility of such a span: falls are
    followed by more volatility than rises (Corsi and Renò, "Discrete-Time Volatility Forecasting with Persistent
    Leverage Effect", Journal of Business & Economic Statistics 30 (2012)).

    Parameters
    ----------
    prices
        Prices, n sessions.
    variance
        Their :func:`floored_variance`, where the caller has it already.

    Returns
    -------
    ndarray of float64, shape (n, 8)
        Rows with fewer earlier sessions than a span average over those that exist.

    Examples
    --------
    The second column of row 9 is the logarithm of the variance of session 9; the third that of the mean of sessions
    5-9; the sixth is ``min(ln(close[9] / close[8]), 0)`` over the volatility of sessions 0-9, there being no 22.
    """
    variance = floored_variance(prices) if variance is None else variance
    log_close = np.log(prices["close"].to_numpy(dtype=np.float64))
    n = len(variance)
    sessions = np.arange(1, n + 1)
    means = {}
    total = np.zeros(n)
    for lag in range(VARIANCE_SPANS[-1]):  # one lag after the other, as in ewma_volatility and for the same reason
        total[lag:] += variance[: max(n - lag, 0)]
        if lag + 1 in VARIANCE_SPANS:
            means[lag + 1] = total / np.minimum(sessions, lag + 1)
    falls = []
    for span in FALL_SPANS:
        start = np.maximum(sessions - 1 - span, 0)
        falls.append(np.minimum(log_close - log_close[start], 0.0) / np.sqrt(span * means[22]))
    return np.column_stack([np.ones(n), *(np.log(means[span]) for span in VARIANCE_SPANS), *falls])


def horizon_volatility(volatility: npt.ArrayLike, horizons: Sequence[int]) -> Floats:
    """Scale a volatility per session, shape (n,), to each horizon by the square root of time; shape (n, horizons)."""
    scaled: Floats = np.asarray(volatility, dtype=np.float64)[:, None] * np.sqrt(np.asarray(horizons, dtype=np.float64))
    return scaled
