"""Calibration: predictive distributions from a drift, the network, a volatility regression and past residuals.

Three properties of an index return over some weeks can be learned from its past, in falling order of certainty: its
volatility, the shape of its residuals, and its drift. A network adds little to the last, and often nothing. Each part
of a distribution is therefore as strong as the evidence for it::

    median   = drift + network weight * (network - drift) + median of the residuals
    interval = the same with the other quantiles of the residuals; residuals are scaled by the expected volatility
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pandas as pd

from forecastlib.config import CalibrationConfig
from forecastlib.errors import IncompatibleModelError, NotEnoughDataError
from forecastlib.models.distribution import LEVELS, Distribution, weighted_quantiles
from forecastlib.samples.variance import MIN_VOLATILITY, floored_variance, volatility_predictors

Floats = npt.NDArray[np.float64]

SESSIONS_PER_YEAR = 252

WARM_UP = 60
"""First sessions that are left out: too little history precedes them to estimate volatility."""

MIN_OUTCOMES = 60
"""Known outcomes needed to calibrate."""

MIN_OUTCOMES_TO_RECALIBRATE = 750
"""Known outcomes needed to recalibrate: three years, with 25 independent outcomes over 30 sessions."""

MAX_NETWORK_WEIGHT = 0.25
"""Upper bound of the estimated weight: the validation set has also stopped the network, and the years that follow it
are different."""

PENALTY = 1e-5
"""Ridge penalty of the volatility regression per unit of weight: enough for predictors that hardly vary."""


@dataclass(frozen=True, eq=False)
class Outcomes:
    """The sessions of one symbol up to a date, with the outcomes that were known on that date.

    Attributes
    ----------
    dates : DatetimeIndex, length n
        The sessions, oldest first.
    log_returns : ndarray, shape (n, horizons)
        From the close of a session to that h sessions later; NaN where it was not known yet.
    log_variance : ndarray, shape (n, horizons)
        Logarithm of the mean variance of the next h sessions, likewise.
    predictors : ndarray, shape (n, 8)
        What was known after each session, :func:`forecastlib.samples.variance.volatility_predictors`.
    session_returns : ndarray, shape (n,)
        Log return of each session; 0 for the first.
    horizons : tuple of int
        Sessions ahead, one per column.
    """

    dates: pd.DatetimeIndex
    log_returns: Floats
    log_variance: Floats
    predictors: Floats
    session_returns: Floats
    horizons: tuple[int, ...]

    def known(self, column: int) -> npt.NDArray[np.bool_]:
        """Return which sessions have a known outcome at the horizon of a column, after the warm-up."""
        usable = np.isfinite(self.log_returns[:, column])
        usable[:WARM_UP] = False
        return usable

    def weights(self, half_life: float) -> Floats:
        """Return the weight of each session: 1 for the newest, half as much ``half_life`` sessions earlier."""
        weights: Floats = 0.5 ** (np.arange(len(self.dates))[::-1] / half_life)
        return weights

    def until(self, date: pd.Timestamp) -> Self:
        """Return what was known on an earlier date, exactly as :func:`known_outcomes` computes it from the prices."""
        n = int(self.dates.searchsorted(date, side="right"))
        log_returns, log_variance = self.log_returns[:n].copy(), self.log_variance[:n].copy()
        for i, h in enumerate(self.horizons):
            log_returns[max(n - h, 0) :, i] = log_variance[max(n - h, 0) :, i] = np.nan
        return replace(
            self,
            dates=self.dates[:n],
            log_returns=log_returns,
            log_variance=log_variance,
            predictors=self.predictors[:n],
            session_returns=self.session_returns[:n],
        )


def known_outcomes(prices: pd.DataFrame, horizons: Sequence[int]) -> Outcomes:
    """Collect the sessions of a symbol and their outcomes, as far as prices go.

    Parameters
    ----------
    prices
        Prices of one symbol, up to the last session that may be known.
    horizons
        Sessions ahead, increasing.

    Examples
    --------
    With ten sessions (rows 0-9) and the horizons 1 and 3, row 6 has both outcomes (rows 7 and 9), row 8 only the
    first, row 9 none.
    """
    n = len(prices)
    log_close = np.log(prices["close"].to_numpy(dtype=np.float64))
    variance = floored_variance(prices)
    total = np.concatenate([[0.0], np.cumsum(variance)])
    log_returns, log_variance = np.full((n, len(horizons)), np.nan), np.full((n, len(horizons)), np.nan)
    for i, h in enumerate(horizons):
        if h < n:
            log_returns[: n - h, i] = log_close[h:] - log_close[:-h]
            log_variance[: n - h, i] = np.log((total[1 + h :] - total[1:-h]) / h)
    return Outcomes(
        dates=pd.DatetimeIndex(prices.index),
        log_returns=log_returns,
        log_variance=log_variance,
        predictors=volatility_predictors(prices, variance),
        session_returns=np.diff(log_close, prepend=log_close[0]),
        horizons=tuple(int(h) for h in horizons),
    )


@dataclass(frozen=True, eq=False)
class ValidationForecasts:
    """What the network predicted for the validation set, on which it was not trained.

    Attributes
    ----------
    symbol : ndarray of int64, shape (n,)
        Position of each origin's symbol in the sequence of outcomes.
    origins : DatetimeIndex, length n
    log_returns : ndarray, shape (n, horizons)
    """

    symbol: npt.NDArray[np.int64]
    origins: pd.DatetimeIndex
    log_returns: Floats


@dataclass(frozen=True, eq=False)
class Calibration:
    """Turns point forecasts of the network into distributions.

    Attributes
    ----------
    horizons : tuple of int
        Sessions ahead, one per row of what follows.
    drift : ndarray, shape (horizons,)
        Expected log return over each horizon without the network.
    network_weight : float
        Weight of the network against the drift, from 0 to 1.
    volatility : ndarray, shape (horizons, 8)
        Coefficients of the logarithm of the mean variance ahead, on
        :func:`forecastlib.samples.variance.volatility_predictors`.
    levels : ndarray, shape (Q,)
        Probability levels.
    scores : ndarray, shape (horizons, Q)
        Quantiles of the standardised residuals.
    count : int
        Sessions with a known outcome that it was fitted on.
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
        """Return the volatility expected over each horizon, shape (n, horizons), from predictors of shape (n, 8)."""
        return _scale(predictors, self.volatility, self.horizons)

    def distribution(self, network: npt.ArrayLike, scale: npt.ArrayLike) -> Distribution:
        """Return the predictive distributions around point forecasts.

        Parameters
        ----------
        network
            Log returns that the network predicts, shape (n, horizons).
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

    def recalibrated(self, outcomes: Outcomes, config: CalibrationConfig) -> Self:
        """Return a calibration whose intervals use what has become known since.

        The volatility regression and the shape of the residuals are fitted again, as :func:`calibrate` does. The
        drift, the weight of the network and the median in units of volatility stay as they were trained: the latest
        months say much about the width of intervals and little about the direction of prices.

        Parameters
        ----------
        outcomes
            What is known of the symbol to forecast.
        config
            The half-life.

        Returns
        -------
        Calibration
            Itself if fewer than :data:`MIN_OUTCOMES_TO_RECALIBRATE` outcomes are known, or no new ones.
        """
        if outcomes.known(-1).sum() < MIN_OUTCOMES_TO_RECALIBRATE or outcomes.dates[-1] <= self.until:
            return self
        sample = _Sample([outcomes], config)
        volatility = sample.volatility()
        scores = sample.scores(_scale(outcomes.predictors, volatility, self.horizons), np.zeros_like(sample.actual))
        for new, own in zip(scores, self.scores, strict=True):
            new += np.interp(0.5, self.levels, own) - np.interp(0.5, LEVELS, new)
        count = int(sample.known[-1].sum())
        return replace(self, volatility=volatility, levels=LEVELS, scores=scores, count=count, until=outcomes.dates[-1])

    def to_dict(self) -> dict[str, Any]:
        """Return the calibration in JSON types; :meth:`from_dict` restores it to the last bit."""
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
            If a part is missing or the shapes do not match.
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
    outcomes: Sequence[Outcomes], forecasts: ValidationForecasts, horizons: Sequence[int], config: CalibrationConfig
) -> Calibration:
    """Fit a calibration on what was known when the last validation label became known.

    - The volatility is a heterogeneous autoregression with leverage, by least squares with exponentially decaying
      weights.
    - The drift is a posterior mean of the growth expected of any index and the growth that this one has shown.
    - The weight of the network is what its forecasts of the validation set support (:func:`supported_weight`), or
      what the configuration says.
    - The shape is the weighted quantiles of ``(return - mean return) / volatility``: filtered historical simulation
      (Barone-Adesi, Giannopoulos and Vosper, 1999) in one step per horizon. Validation residuals include what the
      network moved the forecast by, as far as it has a weight; training residuals, which it has seen, do not.

    Parameters
    ----------
    outcomes
        What was known, one per symbol.
    forecasts
        Of the network, for the validation set.
    horizons
        Sessions ahead, increasing.
    config
        Prior, half-life, weight.

    Raises
    ------
    NotEnoughDataError
        If fewer than :data:`MIN_OUTCOMES` outcomes of a symbol are known at the longest horizon.
    """
    for symbol in outcomes:
        _require_outcomes(symbol)
    sample = _Sample(outcomes, config)
    volatility = sample.volatility()
    scale = _scale(sample.predictors, volatility, horizons)
    drift = posterior_drift(outcomes, config) * np.asarray(horizons, dtype=np.float64)
    at = _positions(outcomes, forecasts)
    deviation = forecasts.log_returns - drift
    weight = config.network_weight
    if weight is None:
        weight = supported_weight(deviation / scale[at], (sample.actual[at] - drift) / scale[at], horizons)
    moved = np.zeros_like(sample.actual)
    moved[at] = weight * deviation
    return Calibration(
        horizons=tuple(int(h) for h in horizons),
        drift=drift,
        network_weight=weight,
        volatility=volatility,
        levels=LEVELS,
        scores=sample.scores(scale, moved),
        count=int(sample.known[-1].sum()),
        until=max(symbol.dates[-1] for symbol in outcomes),
    )


def posterior_drift(outcomes: Sequence[Outcomes], config: CalibrationConfig) -> float:
    """Return the expected log return per session, from a prior and from the sessions seen.

    The mean of the past is a poor estimate: over ten years with a volatility of 18 % per year its standard error is
    6 % per year. It is therefore combined with the growth of indices elsewhere and before (Dimson, Marsh and Staunton,
    *Triumph of the Optimists*, 2002), by the rule for a normal mean with a normal prior.

    Parameters
    ----------
    outcomes
        What was known.
    config
        ``growth`` and ``growth_sd``, per year.

    Returns
    -------
    float
        Between the prior and the weighted mean of the past.
    """
    returns = np.concatenate([symbol.session_returns[1:] for symbol in outcomes])
    weights = np.concatenate([symbol.weights(config.half_life)[1:] for symbol in outcomes])
    mean = np.average(returns, weights=weights)
    effective = weights.sum() ** 2 / (weights**2).sum() / len(outcomes)  # symbols move together and count as one
    error = np.average((returns - mean) ** 2, weights=weights) / effective
    prior, spread = np.log1p(config.growth) / SESSIONS_PER_YEAR, (config.growth_sd / SESSIONS_PER_YEAR) ** 2
    return float((mean * spread + prior * error) / (spread + error))


def supported_weight(forecasts: Floats, actual: Floats, horizons: Sequence[int]) -> float:
    """Return the weight that the network's deviations from the drift deserve, from 0 to :data:`MAX_NETWORK_WEIGHT`.

    The slope of the actual on the predicted deviations, through the origin and pooled over horizons, shrunk by
    ``max(0, 1 - 1 / t^2)``, the positive-part rule of James and Stein (1961) for one mean. Labels that overlap by h - 1
    sessions make n forecasts worth n / h, which the t statistic accounts for.

    Parameters
    ----------
    forecasts, actual
        Predicted and actual log return less the drift, over the volatility; shape (n, horizons).
    horizons
        Sessions ahead, one per column.

    Examples
    --------
    Forecasts that point the wrong way get 0; so do those whose slope is within one standard error of 0.
    """
    independent = 1.0 / np.asarray(horizons, dtype=np.float64)
    power = (forecasts**2 * independent).sum()
    if power <= 0.0:
        return 0.0
    slope = (forecasts * actual * independent).sum() / power
    # All horizons look at the same days: their evidence is averaged, not added up.
    error = np.sqrt(len(horizons) * np.mean((actual - slope * forecasts) ** 2) / power)
    if slope <= error:
        return 0.0
    return float(min(slope * (1.0 - (error / slope) ** 2), MAX_NETWORK_WEIGHT))


class _Sample:
    """The outcomes of all symbols pooled, and what is estimated from them."""

    def __init__(self, outcomes: Sequence[Outcomes], config: CalibrationConfig) -> None:
        self.predictors = np.concatenate([symbol.predictors for symbol in outcomes])
        self.actual = np.concatenate([symbol.log_returns for symbol in outcomes])
        self.known = [np.concatenate([symbol.known(i) for symbol in outcomes]) for i in range(self.actual.shape[1])]
        self._log_variance = np.concatenate([symbol.log_variance for symbol in outcomes])
        self._weights = np.concatenate([symbol.weights(config.half_life) for symbol in outcomes])

    def volatility(self) -> Floats:
        """Return the coefficients of the autoregression of each horizon, shape (H, 8)."""
        coefficients = [
            _ridge(self.predictors[rows], self._log_variance[rows, i], self._weights[rows])
            for i, rows in enumerate(self.known)
        ]
        return np.stack(coefficients)

    def scores(self, scale: Floats, moved: Floats) -> Floats:
        """Return the quantiles of the standardised residuals less what the network ``moved`` them by, (H, Q)."""
        quantiles = []
        for i, rows in enumerate(self.known):
            actual, weights = self.actual[rows, i], self._weights[rows]
            residual = actual - np.average(actual, weights=weights) - moved[rows, i]
            quantiles.append(weighted_quantiles(residual / scale[rows, i], weights, LEVELS))
        return np.stack(quantiles)


def _require_outcomes(outcomes: Outcomes) -> None:
    needed = WARM_UP + max(outcomes.horizons) + MIN_OUTCOMES
    if len(outcomes.dates) < needed:
        raise NotEnoughDataError(
            f"expected at least {needed} sessions to calibrate intervals; got {len(outcomes.dates)}; use a longer "
            "history or shorter horizons"
        )


def _ridge(predictors: Floats, target: Floats, weights: Floats) -> Floats:
    """Regress by weighted least squares, with a small penalty on all coefficients but the constant."""
    weighted = predictors * weights[:, None]
    penalty = PENALTY * weights.sum() * np.diag([0.0] + [1.0] * (predictors.shape[1] - 1))
    coefficients: Floats = np.linalg.solve(weighted.T @ predictors + penalty, weighted.T @ target)
    return coefficients


def _scale(predictors: Floats, coefficients: Floats, horizons: Sequence[int]) -> Floats:
    """Return the volatility over each horizon; summed term by term, so that a row does not depend on its position."""
    log_variance = np.zeros((len(horizons), len(predictors)))  # this way round: long rows are faster to add
    for column, of_horizons in zip(predictors.T, coefficients.T, strict=True):
        log_variance += of_horizons[:, None] * column
    volatility = np.maximum(np.exp(0.5 * log_variance), MIN_VOLATILITY)
    scaled: Floats = (volatility * np.sqrt(np.asarray(horizons, dtype=np.float64))[:, None]).T
    return scaled


def _positions(outcomes: Sequence[Outcomes], forecasts: ValidationForecasts) -> npt.NDArray[np.int64]:
    """Return the row of each validation origin in the pooled outcomes."""
    offsets = np.cumsum([0, *(len(symbol.dates) for symbol in outcomes[:-1])])
    at = np.empty(len(forecasts.origins), dtype=np.int64)
    for i, symbol in enumerate(outcomes):
        own = forecasts.symbol == i
        at[own] = symbol.dates.get_indexer(forecasts.origins[own]) + offsets[i]
    return at
