"""Calibration: from what the network answers to a predictive distribution, with what the past supports.

Three things about the return of an index over some weeks can be learnt from its past, in falling order of certainty:
how volatile it will be, what shape its surprises have, and where it drifts. What a network adds to the last is little,
and often nothing. So the distribution of a forecast is put together from parts as strong as the evidence for each::

    median = expected growth + weight of the network * (network - expected growth) + median of the residuals' shape
    range  = that, with the other quantiles of the shape; the shape times the volatility expected at the origin
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pandas as pd

from forecastlib.config import CalibrationConfig
from forecastlib.errors import IncompatibleModelError
from forecastlib.models.distribution import LEVELS, Distribution, weighted_quantiles
from forecastlib.models.uncertainty.evidence import posterior_drift, supported_weight
from forecastlib.models.uncertainty.past import Past
from forecastlib.samples.variance import SMALLEST_VOLATILITY

Floats = npt.NDArray[np.float64]

PENALTY = 1e-5
"""Ridge penalty of the volatility regression, for each unit of weight: enough for predictors that hardly vary."""

OUTCOMES_TO_RENEW = 750
"""Known outcomes that ranges are renewed from: three years, with 25 independent ones over 30 sessions."""


@dataclass(frozen=True, eq=False)
class NetworkAnswers:
    """What the network answered on the validation set, which it did not learn from.

    Attributes
    ----------
    past : ndarray of int64, shape (n,)
        The position, in the sequence of pasts, of each origin's symbol.
    origins : DatetimeIndex, length n
    log_returns : ndarray, shape (n, horizons)
    """

    past: npt.NDArray[np.int64]
    origins: pd.DatetimeIndex
    log_returns: Floats


@dataclass(frozen=True, eq=False)
class Calibration:
    """What turns the network's answers into distributions.

    Attributes
    ----------
    horizons : tuple of int
        Sessions ahead, one for each row of what follows.
    drift : ndarray, shape (horizons,)
        Expected log return over each horizon, before the network is asked.
    network_weight : float
        How far the forecast follows the network away from the drift, from 0 to 1.
    volatility : ndarray, shape (horizons, 8)
        Coefficients of the logarithm of the mean variance ahead, on
        :func:`forecastlib.samples.variance.volatility_predictors`.
    levels : ndarray, shape (Q,)
        Probability levels.
    scores : ndarray, shape (horizons, Q)
        Quantiles of the standardised residuals.
    count : int
        Sessions whose outcomes were learnt from.
    until : Timestamp
        The last session that was known.
    """

    horizons: tuple[int, ...]
    drift: Floats
    network_weight: float
    volatility: Floats
    levels: Floats
    scores: Floats
    count: int
    until: pd.Timestamp

    def scale(self, predictors: Floats) -> Floats:
        """Return the volatility expected over each horizon, shape (n, horizons).

        Parameters
        ----------
        predictors
            Shape (n, 8): the rows that :func:`forecastlib.samples.variance.volatility_predictors` has for the origins.
        """
        return _scale(predictors, self.volatility, self.horizons)

    def distribution(self, network: npt.ArrayLike, scale: npt.ArrayLike) -> Distribution:
        """Return the predictive distributions around what the network answers.

        Parameters
        ----------
        network
            Log returns that the network answers, shape (n, horizons).
        scale
            Volatility expected at the same origins, same shape: what :meth:`scale` returns.

        Returns
        -------
        Distribution
            Its medians are the point forecasts.
        """
        centre = self.drift + self.network_weight * (np.asarray(network, dtype=np.float64) - self.drift)
        width = np.asarray(scale, dtype=np.float64)
        return Distribution(self.levels, centre[:, :, None] + width[:, :, None] * self.scores)

    def renewed(self, past: Past, config: CalibrationConfig) -> Self:
        """Return a calibration whose ranges are those of what is known by now.

        How volatility is foreseen and what shape surprises have is learnt anew, as :func:`calibrate` does. Where the
        model itself takes a stand, drift, weight of the network and the median in units of the volatility, it keeps to
        it until it is trained again: the latest months say much about how wide ranges are, and little about where
        prices go.

        Parameters
        ----------
        past
            What is known of the symbol to forecast.
        config
            The half-life.

        Returns
        -------
        Calibration
            Itself if fewer than :data:`OUTCOMES_TO_RENEW` outcomes are known, or none that it has not seen.
        """
        if past.known(-1).sum() < OUTCOMES_TO_RENEW or past.dates[-1] <= self.until:
            return self
        pool = _Pool([past], config)
        volatility = pool.volatility()
        scores = pool.scores(_scale(past.predictors, volatility, self.horizons), np.zeros_like(past.log_returns))
        for new, own in zip(scores, self.scores, strict=True):
            new += np.interp(0.5, self.levels, own) - np.interp(0.5, LEVELS, new)
        count = int(pool.known[-1].sum())
        return replace(self, volatility=volatility, levels=LEVELS, scores=scores, count=count, until=past.dates[-1])

    def to_dict(self) -> dict[str, Any]:
        """Return the calibration in JSON's types; :meth:`from_dict` takes it back to the last bit."""
        return {
            "horizons": list(self.horizons),
            "drift": self.drift.tolist(),
            "network_weight": self.network_weight,
            "volatility": self.volatility.tolist(),
            "levels": self.levels.tolist(),
            "scores": self.scores.tolist(),
            "count": self.count,
            "until": f"{self.until:%Y-%m-%d}",
        }

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any]) -> Self:
        """Rebuild a calibration from its saved form.

        Raises
        ------
        IncompatibleModelError
            If a part is missing or the shapes do not fit each other.
        """
        names = ("horizons", "drift", "network_weight", "volatility", "levels", "scores", "count", "until")
        missing = sorted(set(names) - set(saved))
        if missing:
            raise IncompatibleModelError(f"the saved calibration lacks {', '.join(missing)}; train the model again")
        horizons = tuple(int(h) for h in saved["horizons"])
        drift, volatility, levels, scores = (
            np.asarray(saved[name], dtype=np.float64) for name in ("drift", "volatility", "levels", "scores")
        )
        shapes = {"drift": drift.shape, "volatility": volatility.shape, "scores": scores.shape}
        expected = {"drift": (len(horizons),), "volatility": (len(horizons), 8), "scores": (len(horizons), len(levels))}
        if shapes != expected or not all(np.isfinite(part).all() for part in (drift, volatility, scores)):
            raise IncompatibleModelError(
                f"expected finite numbers of the shapes {expected} in the saved calibration; got {shapes}; "
                "train the model again"
            )
        return cls(
            horizons,
            drift,
            float(saved["network_weight"]),
            volatility,
            levels,
            scores,
            int(saved["count"]),
            pd.Timestamp(saved["until"]),
        )


def calibrate(
    pasts: Sequence[Past], answers: NetworkAnswers, horizons: Sequence[int], config: CalibrationConfig
) -> Calibration:
    """Fit a calibration on what was known on the day on which the last validation label was.

    - The volatility is a heterogeneous autoregression with leverage, by least squares with older sessions counting
      less.
    - The drift is the mean of a posterior: the growth that is expected of any index, and what this one has shown.
    - The weight of the network is what its answers on the validation set support (:func:`supported_weight`), or what
      the configuration says.
    - The shape is the quantiles of ``(return - mean return) / volatility``, older sessions counting less: filtered
      historical simulation (Barone-Adesi, Giannopoulos and Vosper, 1999) in one step a horizon. Residuals of the
      validation set are those of the network too, as far as it has a weight; of the training set, which it has
      seen, they are not.

    Parameters
    ----------
    pasts
        What was known, one for each symbol.
    answers
        Of the network, on the validation set.
    horizons
        Sessions ahead, increasing.
    config
        Prior, half-life, weight.

    Returns
    -------
    Calibration
    """
    pool = _Pool(pasts, config)
    volatility = pool.volatility()
    scale = _scale(pool.predictors, volatility, horizons)
    drift = posterior_drift(pasts, config) * np.asarray(horizons, dtype=np.float64)
    at = _positions(pasts, answers)
    given = config.network_weight
    weight = (
        supported_weight((answers.log_returns - drift) / scale[at], (pool.actual[at] - drift) / scale[at], horizons)
        if given is None
        else given
    )
    moved = np.zeros_like(pool.actual)
    moved[at] = weight * (answers.log_returns - drift)
    return Calibration(
        horizons=tuple(int(h) for h in horizons),
        drift=drift,
        network_weight=weight,
        volatility=volatility,
        levels=LEVELS,
        scores=pool.scores(scale, moved),
        count=int(pool.known[-1].sum()),
        until=max(past.dates[-1] for past in pasts),
    )


class _Pool:
    """The pasts of all symbols as one sample, and what is learnt from it."""

    def __init__(self, pasts: Sequence[Past], config: CalibrationConfig) -> None:
        self.predictors = np.concatenate([past.predictors for past in pasts])
        self.actual = np.concatenate([past.log_returns for past in pasts])
        self.known = [np.concatenate([past.known(i) for past in pasts]) for i in range(self.actual.shape[1])]
        self._ahead = np.concatenate([past.log_variance for past in pasts])
        self._weights = np.concatenate([past.weights(config.half_life) for past in pasts])

    def volatility(self) -> Floats:
        """Return the coefficients of the autoregression of each horizon, shape (H, 8)."""
        of_horizons = [
            _ridge(self.predictors[rows], self._ahead[rows, i], self._weights[rows])
            for i, rows in enumerate(self.known)
        ]
        return np.stack(of_horizons)

    def scores(self, scale: Floats, moved: Floats) -> Floats:
        """Return the quantiles of the standardised residuals less what the network ``moved`` them by, (H, Q)."""
        of_horizons = []
        for i, rows in enumerate(self.known):
            actual, weights = self.actual[rows, i], self._weights[rows]
            surprise = actual - np.average(actual, weights=weights) - moved[rows, i]
            of_horizons.append(weighted_quantiles(surprise / scale[rows, i], weights, LEVELS))
        return np.stack(of_horizons)


def _ridge(predictors: Floats, target: Floats, weights: Floats) -> Floats:
    """Regress by weighted least squares, the constant free and the others held back a little."""
    weighted = predictors * weights[:, None]
    penalty = PENALTY * weights.sum() * np.diag([0.0] + [1.0] * (predictors.shape[1] - 1))
    coefficients: Floats = np.linalg.solve(weighted.T @ predictors + penalty, weighted.T @ target)
    return coefficients


def _scale(predictors: Floats, coefficients: Floats, horizons: Sequence[int]) -> Floats:
    """Return the volatility over each horizon; summed term by term, so that a row is the same wherever it stands."""
    log_variance = np.zeros((len(predictors), len(horizons)))
    for column, of_horizons in zip(predictors.T, coefficients.T, strict=True):
        log_variance += column[:, None] * of_horizons
    volatility = np.maximum(np.exp(0.5 * log_variance), SMALLEST_VOLATILITY)
    scaled: Floats = volatility * np.sqrt(np.asarray(horizons, dtype=np.float64))
    return scaled


def _positions(pasts: Sequence[Past], answers: NetworkAnswers) -> npt.NDArray[np.int64]:
    """Return the row, in the pasts one after the other, of each origin that the network was asked about."""
    offsets = np.cumsum([0, *(len(past.dates) for past in pasts[:-1])])
    at = np.empty(len(answers.origins), dtype=np.int64)
    for i, past in enumerate(pasts):
        own = answers.past == i
        at[own] = past.dates.get_indexer(answers.origins[own]) + offsets[i]
    return at
