"""Calls: the direction of a forecast, how far the horizons agree on it, and how sure it is."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from forecastlib.errors import ConfigError
from forecastlib.models.distribution import Distribution

Floats = npt.NDArray[np.float64]
Texts = npt.NDArray[np.str_]


def direction(change: npt.ArrayLike, threshold: float) -> Texts:
    """Call the direction of changes: "up" above the threshold, "down" below its negative, else "neutral".

    Parameters
    ----------
    change
        Relative change of price from the origin, as a fraction: 0.01 is one per cent. Any shape.
    threshold
        Change that has to be exceeded, 0.005 by default in :class:`~forecastlib.config.ModelConfig`.

    Returns
    -------
    ndarray of str, same shape

    Examples
    --------
    >>> direction([0.02, 0.005, -0.006], 0.005).tolist()
    ['up', 'neutral', 'down']
    """
    moves = np.asarray(change, dtype=np.float64)
    return np.where(moves > threshold, "up", np.where(moves < -threshold, "down", "neutral"))


def consistency(directions: npt.ArrayLike) -> Floats:
    """Return how far the calls of neighbouring horizons agree, shape (n,), in [0, 1].

    The mean over neighbours of 1 (same call), 0.5 (one of them neutral) or 0 (opposite); 1 for a single horizon.

    Parameters
    ----------
    directions
        Calls, shape (n, horizons), as :func:`direction` gives them.

    Examples
    --------
    >>> consistency([["up", "up", "neutral"], ["up", "down", "down"]]).tolist()
    [0.75, 0.5]
    """
    steps = _as_steps(directions)
    if steps.shape[1] == 1:
        return np.ones(len(steps))
    agreement: Floats = (1.0 - np.abs(np.diff(steps, axis=1)) / 2.0).mean(axis=1)
    return agreement


def confidence(distribution: Distribution, directions: npt.ArrayLike, threshold: float) -> Floats:
    """Return the probability of the called direction, shape (n, horizons).

    For "up" and "down" it is the probability that the price ends above or below the origin's close, ``p_up`` or
    ``p_down``; for "neutral" that it ends within the threshold of it. :func:`call_came_true` is the same event,
    seen afterwards.

    Parameters
    ----------
    distribution
        Predictive distributions of n origins.
    directions
        Their calls, shape (n, horizons).
    threshold
        What the calls were made with.
    """
    steps = _as_steps(directions)
    above = distribution.probability_above(0.0)
    within = distribution.probability_above(np.log1p(-threshold)) - distribution.probability_above(np.log1p(threshold))
    return np.where(steps > 0, above, np.where(steps < 0, 1.0 - above, within))


def call_came_true(directions: npt.ArrayLike, change: npt.ArrayLike, threshold: float) -> npt.NDArray[np.bool_]:
    """Return whether calls came true, shape (n, horizons), given the actual change of price as a fraction.

    "up" came true if the price ended above the origin's close, "down" if below, "neutral" if within the threshold.
    """
    steps = _as_steps(directions)
    moves = np.asarray(change, dtype=np.float64)
    return np.where(steps > 0, moves > 0, np.where(steps < 0, moves < 0, np.abs(moves) <= threshold))


def mc_dropout_confidence(mean: npt.ArrayLike, std: npt.ArrayLike) -> Floats:
    """Return ``clip(1 - std / |mean|, 0.1, 0.9)`` of stochastic price forecasts, and 0.5 where the mean is 0.

    Parameters
    ----------
    mean, std
        Mean and standard deviation over the passes, in prices, same shape.

    Notes
    -----
    As a price's spread is small beside the price, this is 0.9 nearly always: a convention that says little. The
    calibrated confidence is a probability and is checked as one.
    """
    centre, spread = np.abs(np.asarray(mean, dtype=np.float64)), np.asarray(std, dtype=np.float64)
    zero = centre == 0
    return np.where(zero, 0.5, np.clip(1.0 - spread / np.where(zero, 1.0, centre), 0.1, 0.9))


def _as_steps(directions: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """Turn calls (n, horizons) into -1, 0 and 1."""
    calls = np.asarray(directions)
    steps: npt.NDArray[np.int64] = (calls == "up").astype(np.int64) - (calls == "down").astype(np.int64)
    unknown = calls[(steps == 0) & (calls != "neutral")]
    if calls.ndim != 2 or len(unknown):
        got = f"shape {calls.shape}" if calls.ndim != 2 else repr(unknown[0])
        raise ConfigError(f'expected calls "up", "neutral" or "down" of shape (n, horizons); got {got}')
    return steps
