"""Whether a difference in accuracy is more than chance: the Diebold-Mariano test, a block bootstrap, and verdicts.

Losses are one number per forecast, in the order of the origins, one origin per session: absolute or squared errors
(of log returns rather than of prices, so that periods of high prices do not count more), or CRPS. Labels of
neighbouring origins overlap, so their losses are correlated far beyond what an ordinary t-test allows for; with
a horizon of 30, a thousand daily forecasts are worth some thirty independent ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import numpy.typing as npt

from forecastlib.errors import ConfigError, NotEnoughDataError

Floats = npt.NDArray[np.float64]
Outcome = Literal["better than", "no different from", "worse than"]

MIN_LOSSES = 10
"""Losses needed for a test; with a longer horizon, twice the horizon."""


@dataclass(frozen=True)
class DieboldMariano:
    """Result of a Diebold-Mariano test of forecast a against forecast b.

    Attributes
    ----------
    statistic : float
        Negative where a has the smaller loss.
    p_value : float
        Two-sided, under the hypothesis that both are equally accurate.
    mean_difference : float
        Mean loss of a minus that of b, in units of the loss.
    standard_error : float
        Standard error of the mean difference, including the small-sample correction.
    horizon : int
        Sessions ahead.
    lags : int
        Autocovariances that the variance includes.
    count : int
        Forecasts compared.
    """

    statistic: float
    p_value: float
    mean_difference: float
    standard_error: float
    horizon: int
    lags: int
    count: int

    def outcome(self) -> Outcome:
        """Return how a compares with b, where only a difference that is significant at 5 % counts."""
        if self.p_value >= 0.05:
            return "no different from"
        return "better than" if self.mean_difference < 0 else "worse than"


def diebold_mariano(loss_a: npt.ArrayLike, loss_b: npt.ArrayLike, horizon: int) -> DieboldMariano:
    r"""Test whether two forecasts of the same origins are equally accurate.

    The statistic is the mean difference of losses over its standard error (Diebold and Mariano, "Comparing
    Predictive Accuracy", JBES 13 (1995)), times the small-sample factor of Harvey, Leybourne and Newbold,
    "Testing the Equality of Prediction Mean Squared Errors", International Journal of Forecasting 13 (1997):
    :math:`\sqrt{(n + 1 - 2h + h(h-1)/n) / n}`.

    The variance is that of Newey and West (Bartlett kernel), which is never negative, with a bandwidth of ``max(2 h,
    3 sqrt(n))``: it includes all lags up to ``h - 1`` that overlapping labels correlate, and as many again, because
    volatility and the forecasts themselves are persistent. With such a wide window the variance itself is
    uncertain; the p-value allows for that by the fixed-b distribution (Kiefer and Vogelsang, "A New Asymptotic
    Theory for Heteroskedasticity-Autocorrelation Robust Tests", Econometric Theory 21 (2005); for this test
    Coroneo and Iacone, "Comparing Predictive Accuracy in Small Samples Using Fixed-Smoothing Asymptotics",
    Journal of Applied Econometrics 35 (2020)).

    Parameters
    ----------
    loss_a, loss_b
        Losses of both forecasts at the same origins, shape (n,), oldest first, one origin per session.
    horizon
        Sessions ahead; labels overlap by ``horizon - 1`` sessions.

    Returns
    -------
    DieboldMariano

    Raises
    ------
    NotEnoughDataError
        If there are fewer than ``max(2 horizon, 10)`` losses.
    ConfigError
        If the shapes differ or a loss is missing.

    Notes
    -----
    Simulated with forecasts of equal accuracy, heavy tails, GARCH variance, overlapping labels (7, 14, 30) and
    forecasts of various persistence, it rejects at 5 % in 2.5 to 9 % of cases for n from 250 to 2,000, and in
    5.2 % on average. The original test, with a rectangular window of h - 1 lags, rejects in up to 18 %.
    """
    a, b = np.asarray(loss_a, dtype=np.float64), np.asarray(loss_b, dtype=np.float64)
    if a.ndim != 1 or a.shape != b.shape or not np.isfinite(a - b).all():
        raise ConfigError(f"expected finite losses of one shape (n,); got {a.shape} and {b.shape}, or missing values")
    if horizon < 1:
        raise ConfigError(f"expected a horizon of at least 1; got {horizon}")
    n = len(a)
    if n < max(2 * horizon, MIN_LOSSES):
        raise NotEnoughDataError(
            f"expected at least {max(2 * horizon, MIN_LOSSES)} forecasts to compare at horizon {horizon}; got {n}"
        )
    difference = a - b
    bandwidth = min(n, max(2 * horizon, math.ceil(3.0 * math.sqrt(n))))
    mean = float(difference.mean())
    correction = (n + 1 - 2 * horizon + horizon * (horizon - 1) / n) / n
    error = math.sqrt(long_run_variance(difference, bandwidth) / n / correction)
    if error > 0:
        statistic = mean / error
    elif mean != 0:
        statistic = math.copysign(math.inf, mean)
    else:  # both forecasts are the same
        statistic = 0.0
    p_value = fixed_b_p_value(statistic, bandwidth / n)
    return DieboldMariano(statistic, p_value, mean, error, horizon, bandwidth - 1, n)


def long_run_variance(series: npt.ArrayLike, bandwidth: int) -> float:
    """Return the variance of the mean of a correlated series, times its length.

    ``g(0) + 2 sum_k (1 - k / bandwidth) g(k)`` over lags below the bandwidth, g being the autocovariance: Newey
    and West, "A Simple, Positive Semi-Definite, Heteroskedasticity and Autocorrelation Consistent Covariance
    Matrix", Econometrica 55 (1987).
    """
    from arch.covariance.kernel import Bartlett  # here: it takes a second to import, and scores do not need it

    # arch counts the lags: its weights are 1 - k / (bandwidth + 1).
    covariance = Bartlett(np.asarray(series, dtype=np.float64), bandwidth=bandwidth - 1).cov
    return float(np.asarray(covariance.long_run).item())


def fixed_b_p_value(statistic: float, share: float) -> float:
    r"""Return the two-sided p-value of a mean over its Bartlett standard error, bandwidth being a share b of n.

    In the limit the squared statistic is :math:`Z^2 / Q`, where :math:`Q = \sum_i \lambda_i Z_i^2` is
    independent of Z and the :math:`\lambda_i` are the eigenvalues of the kernel with the mean taken out. By
    Craig's formula for the normal tail,

    .. math:: p = \frac{2}{\pi} \int_0^{\pi/2} \prod_i \left(1 + t^2 \lambda_i / \sin^2\theta\right)^{-1/2} d\theta,

    which is as good as exact. As b goes to 0 it becomes the normal p-value; the critical values for 5 % agree
    with those of Kiefer and Vogelsang (2005), table 1: 1.960 + 2.969 b + 0.416 b^2 - 0.532 b^3.
    """
    if math.isinf(statistic):
        return 0.0
    eigenvalues = _bartlett_eigenvalues(round(share, 6))
    nodes, weights = np.polynomial.legendre.leggauss(48)
    sine = np.sin((nodes + 1.0) * (np.pi / 4.0)) ** 2
    logs = np.log1p(statistic**2 * eigenvalues[:, None] / sine).sum(axis=0)
    return float(np.exp(-0.5 * logs) @ weights / 2.0)


@lru_cache(maxsize=64)
def _bartlett_eigenvalues(share: float) -> Floats:
    """Return the eigenvalues of the Bartlett kernel on [0, 1], the mean taken out, from a grid of 200 points."""
    grid = (np.arange(200) + 0.5) / 200
    kernel = np.maximum(1.0 - np.abs(grid[:, None] - grid) / share, 0.0)
    centred = kernel - kernel.mean(axis=0) - kernel.mean(axis=1)[:, None] + kernel.mean()
    eigenvalues = np.linalg.eigvalsh(centred) / 200
    return np.maximum(eigenvalues, 0.0)


def verdict(result: DieboldMariano, *, rival: str = "the random walk") -> str:
    """Return the result of a test as a sentence.

    Examples
    --------
    >>> verdict(DieboldMariano(-2.9, 0.012, -0.0021, 0.0007, 7, 13, 700))
    '7 sessions ahead: better than the random walk (Diebold-Mariano -2.90, p = 0.012, n = 700)'
    """
    sessions = "session" if result.horizon == 1 else "sessions"
    p = "p < 0.001" if result.p_value < 0.001 else f"p = {result.p_value:.3f}"
    return (
        f"{result.horizon} {sessions} ahead: {result.outcome()} {rival} "
        f"(Diebold-Mariano {result.statistic:.2f}, {p}, n = {result.count})"
    )


def block_bootstrap(
    values: npt.ArrayLike,
    *,
    block: int,
    statistic: Callable[[Floats], Floats] | None = None,
    samples: int = 2000,
    seed: int = 0,
) -> tuple[Floats, Floats]:
    """Return a 95 % confidence interval for means of correlated rows, or for a function of them.

    Blocks of consecutive rows are drawn with replacement and joined to the original length, so that correlated rows
    stay together (Künsch, "The Jackknife and the Bootstrap for General Stationary Observations",
    Annals of Statistics 17 (1989)); a block that reaches the end continues at the beginning, so that every row is
    drawn equally often (Politis and Romano, "A Circular Block-Resampling Procedure for Stationary Data", 1992).

    Parameters
    ----------
    values
        Shape (n, k): the losses, one row per origin, for instance absolute errors of model and random walk.
    block
        Rows in a block: at least the longest horizon, better twice that.
    statistic
        Takes means, shape (..., k), and returns the statistic, shape (...) or (..., j); None: the means themselves.
    samples
        Resampled series.
    seed
        Seed of the draws.

    Returns
    -------
    lower, upper
        Percentiles of the statistic over the resampled series. With few blocks the interval is too narrow: its
        coverage is about 87 % instead of 95 % for 1,000 rows in blocks of 30. It shows the size of an effect;
        :func:`diebold_mariano` decides whether there is one.

    Raises
    ------
    ConfigError
        If the values are not a finite (n, k) array.
    NotEnoughDataError
        If there are fewer than two blocks.

    Notes
    -----
    ``arch.bootstrap.CircularBlockBootstrap`` draws the same blocks and returns the same interval, but makes every
    resampled series: for 5,000 rows and 2,000 samples it takes 1.4 s, and running sums of blocks 0.05 s.

    Examples
    --------
    The skill against the random walk, with an interval::

        losses = np.column_stack([abs(model_error), abs(walk_error)])
        block_bootstrap(losses, block=60, statistic=lambda mean: 1 - mean[..., 0] / mean[..., 1])
    """
    rows = np.asarray(values, dtype=np.float64)
    if rows.ndim != 2 or not np.isfinite(rows).all():
        raise ConfigError(f"expected finite values of shape (n, k); got shape {rows.shape}, or missing values")
    n = len(rows)
    if block < 1 or n < 2 * block:
        raise NotEnoughDataError(
            f"expected at least two blocks of {block} rows, with one row or more in a block; got {n} rows"
        )
    starts = np.random.default_rng(seed).integers(0, n, (samples, math.ceil(n / block)))
    lengths = np.full(starts.shape[1], block)
    lengths[-1] -= lengths.sum() - n
    # Sums of blocks are differences of running sums, so that the resampled rows are never made.
    running = np.concatenate([np.zeros((1, rows.shape[1])), np.cumsum(np.concatenate([rows, rows[:block]]), axis=0)])
    means = (running[starts + lengths] - running[starts]).sum(axis=1) / n
    drawn = means if statistic is None else statistic(means)
    lower, upper = np.quantile(drawn, [0.025, 0.975], axis=0)
    return lower, upper
