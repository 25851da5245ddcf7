"""Predictive distributions of log returns: one representation for the network and for every baseline.

A distribution is its quantiles at fixed probability levels, for each origin and horizon: an array (n, horizons,
levels). Ranges, probabilities and scores are computed from it by the same functions whoever made the forecast.

=====================================  ======================================================================
``LEVELS``                             0.005, 0.010, ... 0.995: the ends of the 80 % and 95 % ranges among them
``Distribution(levels, quantiles)``    frozen; quantiles (n, H, Q), log returns, not decreasing along Q
``.interval(0.80)``                    ``(lower, upper)``, each (n, H), log returns
``.median()``                          (n, H), the point forecast
``.probability_above(x=0.0)``          P(log return > x), (n, H), within [0.005, 0.995]
``.take(rows)``                        the distributions of some origins, by position or mask
``quantiles_of_samples(samples)``      from simulated paths (..., m) to the levels (..., Q)
``weighted_quantiles(values, w)``      of values that do not all count the same, (m,) to (Q,)
=====================================  ======================================================================

Log returns become prices by ``last_close[:, None] * np.exp(...)``; quantiles and ranges carry over as they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from forecastlib.errors import ConfigError

Floats = npt.NDArray[np.float64]

LEVELS: Floats = np.arange(1, 200) / 200.0
"""Probability levels of every distribution made by this version; a saved calibration carries its own."""
LEVELS.flags.writeable = False


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
        If the shapes do not fit, or quantiles decrease or are missing.
    """

    levels: Floats
    quantiles: Floats

    def __post_init__(self) -> None:
        """Refuse quantiles that are not a distribution."""
        if self.quantiles.ndim != 3 or self.quantiles.shape[2] != len(self.levels):
            raise ConfigError(
                f"expected quantiles of shape (n, horizons, {len(self.levels)}), one for each level; "
                f"got {self.quantiles.shape}"
            )
        if not (np.diff(self.quantiles, axis=2) >= 0).all():
            raise ConfigError("expected quantiles that do not decrease along the levels; some decrease or are NaN")

    def __len__(self) -> int:
        """Return the number of origins."""
        return len(self.quantiles)

    def interval(self, coverage: float) -> tuple[Floats, Floats]:
        """Return the ends of the central range with a given probability, each of shape (n, horizons).

        Examples
        --------
        ``interval(0.80)`` is the quantiles at 0.1 and 0.9.

        Raises
        ------
        ConfigError
            If its ends are not among the levels; ranges are not interpolated.
        """
        return self._at((1.0 - coverage) / 2.0), self._at((1.0 + coverage) / 2.0)

    def median(self) -> Floats:
        """Return the log return that is as likely exceeded as not, shape (n, horizons)."""
        return self._at(0.5)

    def probability_above(self, log_return: float = 0.0) -> Floats:
        """Return the probability of a log return above a value, shape (n, horizons).

        Quantiles are interpolated linearly; beyond the outermost ones the probability stays at the outermost
        level, so that it is never 0 or 1: so much certainty the data cannot give.
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

    def take(self, rows: npt.ArrayLike) -> Self:
        """Return the distributions of some origins: in the order of their positions, or where a mask is true."""
        chosen = np.asarray(rows)
        index = chosen if chosen.dtype == np.bool_ else chosen.astype(np.int64)
        return type(self)(self.levels, self.quantiles[index])

    def _at(self, level: float) -> Floats:
        position = int(np.argmin(np.abs(self.levels - level)))
        if abs(self.levels[position] - level) > 1e-9:
            raise ConfigError(
                f"expected a range whose ends are among the levels; {level:g} is not, the nearest is "
                f"{self.levels[position]:g}"
            )
        at: Floats = self.quantiles[:, :, position]
        return at


def quantiles_of_samples(samples: Floats, levels: Floats = LEVELS) -> Floats:
    """Return the quantiles of equally likely samples, shape (..., m), at the levels; shape (..., Q).

    The quantile at p is interpolated at position ``p (m + 1)`` of the sorted samples (Hyndman and Fan, "Sample
    Quantiles in Statistical Packages", American Statistician 50 (1996), definition 6), whose coverage is right
    on average for any m.
    """
    quantiles: Floats = np.moveaxis(np.quantile(samples, levels, axis=-1, method="weibull"), 0, -1)
    return quantiles


def weighted_quantiles(values: Floats, weights: Floats, levels: Floats = LEVELS) -> Floats:
    """Return the quantiles of values that do not all count the same, shape (Q,).

    A value stands for the middle of its share of the total weight; between values the quantile is interpolated, beyond
    the outermost it stays there.

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
