"""Predictive distributions of log returns: one representation for every model.

A distribution is its quantiles at fixed probability levels, for each origin and horizon: an array (n, horizons,
levels). Intervals, probabilities and scores are computed from it by the same methods for all models.

Log returns become prices by ``last_close[:, None] * np.exp(...)``, which carries quantiles and intervals over.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from forecastlib.errors import ConfigError
from forecastlib.samples.windows import as_index

Floats = npt.NDArray[np.float64]

LEVELS: Floats = np.arange(1, 200) / 200.0
"""Probability levels of the built-in models, the ends of the 80 % and 95 % intervals among them."""
LEVELS.flags.writeable = False

MIN_QUANTILE_SPACING = 1e-9
"""Log return between two quantiles that a density is computed with, so that equal quantiles do not divide by zero."""


@dataclass(frozen=True, eq=False)
class Distribution:
    """Predictive distributions of the log return from origin to horizon.

    Attributes
    ----------
    levels : ndarray, shape (Q,)
        Probability levels, increasing, inside (0, 1), symmetric about one half.
    quantiles : ndarray, shape (n, horizons, Q)
        The log return that is not exceeded with that probability.

    Raises
    ------
    ConfigError
        If the shapes do not fit, levels do not increase inside (0, 1), or quantiles decrease or are not finite.
    """

    levels: Floats
    quantiles: Floats

    def __post_init__(self) -> None:
        """Refuse quantiles that are not a distribution."""
        if self.quantiles.ndim != 3 or self.quantiles.shape[2] != len(self.levels):
            raise ConfigError(
                f"expected quantiles of shape (n, horizons, {len(self.levels)}), one per level; "
                f"got {self.quantiles.shape}"
            )
        if not (np.diff(self.levels, prepend=0.0, append=1.0) > 0).all():
            raise ConfigError(f"expected levels that increase inside (0, 1); got {self.levels}")
        if not np.isfinite(self.quantiles[..., [0, -1]]).all() or not (np.diff(self.quantiles, axis=2) >= 0).all():
            raise ConfigError(
                "expected finite quantiles that do not decrease along the levels; some decrease, or are NaN or infinite"
            )

    def __len__(self) -> int:
        """Return the number of origins."""
        return len(self.quantiles)

    def interval(self, coverage: float) -> tuple[Floats, Floats]:
        """Return the ends of the central interval with a given probability, each of shape (n, horizons).

        Examples
        --------
        ``interval(0.80)`` is the quantiles at 0.1 and 0.9.

        Raises
        ------
        ConfigError
            If its ends are not among the levels; intervals are not interpolated.
        """
        return self._at((1.0 - coverage) / 2.0), self._at((1.0 + coverage) / 2.0)

    def median(self) -> Floats:
        """Return the medians, shape (n, horizons): the point forecasts."""
        return self._at(0.5)

    def probability_above(self, log_return: float = 0.0) -> Floats:
        """Return the probability of a log return above a value, shape (n, horizons).

        Quantiles are interpolated linearly; beyond the outermost ones the probability stays at the outermost level,
        so that it is never 0 or 1: the data cannot give that much certainty.
        """
        # The number of quantiles at or below the value locates it; the neighbours' levels are then interpolated.
        below = (self.quantiles <= log_return).sum(axis=2)
        right = np.clip(below, 1, len(self.levels) - 1)
        left_value = np.take_along_axis(self.quantiles, right[..., None] - 1, axis=2)[..., 0]
        right_value = np.take_along_axis(self.quantiles, right[..., None], axis=2)[..., 0]
        width = right_value - left_value
        share = np.where(
            width > 0, (log_return - left_value) / np.where(width > 0, width, 1.0), log_return >= right_value
        )
        step = self.levels[right] - self.levels[right - 1]
        above: Floats = 1.0 - (self.levels[right - 1] + np.clip(share, 0.0, 1.0) * step)
        return above

    def crps(self, log_returns: npt.ArrayLike) -> Floats:
        """Return the continuous ranked probability score of outcomes, shape (n, horizons); smaller is better.

        See :func:`crps_of_quantiles`. NaN where an outcome is not known.
        """
        return crps_of_quantiles(log_returns, self.quantiles, self.levels)

    def log_score(self, log_returns: npt.ArrayLike) -> Floats:
        """Return the negative logarithm of the density at outcomes, shape (n, horizons); smaller is better.

        The density between two quantiles is constant, and decays exponentially beyond the outermost ones, where it
        continues the density at the end with the probability that is left. NaN where an outcome is not known.
        """
        outcome = np.asarray(log_returns, dtype=np.float64)[..., None]
        widths = np.maximum(np.diff(self.quantiles, axis=2), MIN_QUANTILE_SPACING)
        density = np.diff(self.levels) / widths
        inside = np.clip((self.quantiles <= outcome).sum(axis=2) - 1, 0, len(self.levels) - 2)[..., None]
        score = -np.log(np.take_along_axis(density, inside, axis=2))
        for end, tail, beyond in (
            (0, self.levels[0], self.quantiles[..., :1] - outcome),
            (-1, 1.0 - self.levels[-1], outcome - self.quantiles[..., -1:]),
        ):
            rate = density[..., [end]] / tail
            score = np.where(beyond > 0, rate * beyond - np.log(tail * rate), score)
        return np.where(np.isnan(outcome), np.nan, score)[..., 0]

    def sample(self, count: int, seed: int = 0) -> Floats:
        """Draw log returns, shape (n, horizons, count), by interpolating the quantiles at uniform levels."""
        drawn = np.random.default_rng(seed).uniform(size=(*self.quantiles.shape[:2], count))
        flat = zip(drawn.reshape(-1, count), self.quantiles.reshape(-1, len(self.levels)), strict=True)
        samples = [np.interp(levels, self.levels, quantiles) for levels, quantiles in flat]
        return np.reshape(samples, drawn.shape)

    def take(self, rows: npt.ArrayLike) -> Self:
        """Return the distributions of some origins: in the order of their positions, or where a mask is true."""
        return type(self)(self.levels, self.quantiles[as_index(rows)])

    def _at(self, level: float) -> Floats:
        position = int(np.argmin(np.abs(self.levels - level)))
        if abs(self.levels[position] - level) > 1e-9:
            raise ConfigError(
                f"expected an interval whose ends are among the levels; {level:g} is not, the nearest is "
                f"{self.levels[position]:g}"
            )
        at: Floats = self.quantiles[:, :, position]
        return at


def crps_of_quantiles(actual: npt.ArrayLike, quantiles: npt.ArrayLike, levels: npt.ArrayLike) -> Floats:
    """Return the continuous ranked probability score of distributions given by their quantiles, one per forecast.

    The score is twice the integral of the pinball loss over all levels (Laio and Tamea, "Verification Tools for
    Probabilistic Forecasts of Continuous Hydrological Variables", HESS 11 (2007)). Each level here stands for those
    nearest to it; with 199 of them the score of a normal distribution is right to 0.2 per cent at any outcome.

    Parameters
    ----------
    actual
        Any shape.
    quantiles
        The same shape with one more axis at the end, one quantile per level.
    levels
        Probability levels, increasing, inside (0, 1).

    Returns
    -------
    ndarray, shape of ``actual``
        Not averaged yet, in units of ``actual``.
    """
    y, q = np.asarray(actual, dtype=np.float64)[..., None], np.asarray(quantiles, dtype=np.float64)
    p = np.asarray(levels, dtype=np.float64)
    if q.shape != (*y.shape[:-1], len(p)):
        raise ConfigError(f"expected quantiles of shape {(*y.shape[:-1], len(p))}; got {q.shape}")
    edges = np.concatenate([[0.0], (p[1:] + p[:-1]) / 2.0, [1.0]])
    score: Floats = 2.0 * (np.maximum(p * (y - q), (1.0 - p) * (q - y)) * np.diff(edges)).sum(axis=-1)
    return score


def quantiles_of_samples(samples: Floats, levels: Floats = LEVELS) -> Floats:
    """Return the quantiles of equally likely samples, shape (..., m), at the levels; shape (..., Q).

    The quantile at p is interpolated at position ``p (m + 1)`` of the sorted samples (Hyndman and Fan, "Sample
    Quantiles in Statistical Packages", American Statistician 50 (1996), definition 6), whose coverage is right
    on average for any m.
    """
    quantiles: Floats = np.moveaxis(np.quantile(samples, levels, axis=-1, method="weibull"), 0, -1)
    return quantiles


def weighted_quantiles(values: Floats, weights: Floats, levels: Floats = LEVELS) -> Floats:
    """Return the quantiles of weighted values, shape (Q,).

    A value stands for the middle of its share of the total weight; quantiles are interpolated between values and
    constant beyond the outermost.

    Parameters
    ----------
    values, weights
        Shape (m,); the weights are positive.
    levels
        Probability levels.

    Examples
    --------
    Of the values 1, 2 and 3 with the weights 1, 1 and 2 the shares end at 0.25, 0.5 and 1; their middles are 0.125,
    0.375 and 0.75, so that the median lies a third of the way from 2 to 3:

    >>> weighted_quantiles(np.array([1.0, 2.0, 3.0]), np.array([1.0, 1.0, 2.0]), np.array([0.5])).round(3).tolist()
    [2.333]
    """
    order = np.argsort(values, kind="stable")
    share = weights[order] / weights.sum()
    return np.asarray(np.interp(levels, np.cumsum(share) - 0.5 * share, values[order]))
