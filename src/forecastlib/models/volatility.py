"""Volatility models: forecasts of the size of the next moves, with no view on their direction.

Each is fitted once per symbol, on prices up to the last label of the validation set; its variance recursion then runs
on over later sessions with fixed parameters, so that no origin needs a new fit and none sees what follows it. Shocks
are not assumed to be normal or t: they are drawn from the model's own past ones (filtered historical simulation;
Barone-Adesi, Giannopoulos and Vosper, "VaR without Correlations for Portfolios of Derivative Securities", Journal of
Futures Markets 19 (1999)).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
from arch import arch_model
from scipy.signal import lfilter

from forecastlib.config import RunConfig
from forecastlib.errors import ConfigError, DataQualityError, NotEnoughDataError
from forecastlib.models.base import not_fitted
from forecastlib.models.distribution import LEVELS, Distribution, quantiles_of_samples
from forecastlib.samples.variance import DECAY, floored_variance
from forecastlib.samples.windows import SymbolSamples, Windows

Floats = npt.NDArray[np.float64]

MIN_HISTORY = 250
"""Sessions needed to fit a volatility model."""

PATHS = 5000
"""Simulated paths behind a predictive distribution."""


@dataclass(frozen=True)
class VarianceRecursion:
    """A GARCH(1,1) recursion of the variance of log returns, with the asymmetry of Glosten, Jagannathan and Runkle.

    ``v[t+1] = constant + (reaction + asymmetry [e[t] < 0]) e[t]^2 + persistence v[t]``, where ``e[t] = r[t] - mean``.

    EWMA is the case ``constant=0, reaction=1 - decay, persistence=decay``.
    """

    mean: float
    constant: float
    reaction: float
    asymmetry: float
    persistence: float

    def next_variance(self, log_returns: Floats, start: float) -> Floats:
        """Return the variance of each following session, known after this one; ``start`` is that of the first one."""
        shocks = log_returns - self.mean
        drive = self.constant + (self.reaction + self.asymmetry * (shocks < 0)) * shocks**2
        variance: Floats = lfilter([1.0], [1.0, -self.persistence], drive, zi=[self.persistence * start])[0]
        return variance

    def simulate(self, variance: Floats, shocks: Floats, horizons: Sequence[int]) -> Floats:
        """Return sums of simulated log returns from given variances of the first session.

        Parameters
        ----------
        variance
            Shape (g,).
        shocks
            Standardised, shape (sessions, paths), the same for every variance; at least as many sessions as the
            longest horizon.
        horizons
            Sessions ahead, increasing.

        Returns
        -------
        ndarray, shape (g, horizons, paths)
        """
        current = np.repeat(variance[:, None], shocks.shape[1], axis=1)
        total = np.zeros_like(current)
        sums = []
        for session, z in enumerate(shocks[: horizons[-1]], start=1):
            total += self.mean + np.sqrt(current) * z
            current *= self.persistence + (self.reaction + self.asymmetry * (z < 0)) * z**2
            current += self.constant
            if session in horizons:
                sums.append(total.copy())
        return np.stack(sums, axis=1)


class VolatilityModel(ABC):
    """A model that is fitted to the prices of each symbol separately.

    Parameters
    ----------
    config
        The configuration; None: the defaults.
    """

    name: str

    def __init__(self, config: RunConfig | None = None) -> None:
        self.seed = (config or RunConfig()).train.seed
        self._fitted: dict[str, Any] = {}

    def fit(self, train: Windows, validation: Windows) -> Self:
        """Fit to the prices of each symbol, up to the session on which the last validation label is known."""
        until = validation.label_dates.max()
        horizons = validation.config.horizons
        self._fitted = {
            part.symbol: self._fit_symbol(part.prices.loc[:until], horizons) for part in validation.by_symbol()
        }
        return self

    def predict(self, samples: Windows) -> Distribution:
        """Run the volatility on to each origin, with the parameters that were fitted."""
        if not self._fitted:
            raise not_fitted(self)
        horizons = samples.config.horizons
        quantiles = np.empty((len(samples), len(horizons), len(LEVELS)))
        for part in samples.by_symbol():
            if part.symbol not in self._fitted:
                raise ConfigError(
                    f"expected a symbol that {self.name} was fitted to ({', '.join(self._fitted)}); got {part.symbol}"
                )
            quantiles[part.index] = self._quantiles(self._fitted[part.symbol], part, horizons)
        return Distribution(LEVELS, quantiles)

    @abstractmethod
    def _fit_symbol(self, prices: pd.DataFrame, horizons: Sequence[int]) -> Any:
        """Return what is fitted to the prices of one symbol."""

    @abstractmethod
    def _quantiles(self, fitted: Any, part: SymbolSamples, horizons: Sequence[int]) -> Floats:
        """Return quantiles of log returns at the origins of one symbol, shape (n, horizons, Q)."""


class SimulatedVolatility(VolatilityModel):
    """A variance recursion with filtered historical simulation.

    All paths of all origins draw the same shocks, so the distribution at an origin depends on one number, the variance
    of the next session. It is therefore simulated once, for a grid of variances, and interpolated.
    """

    _GRID = 64

    @abstractmethod
    def _recursion(self, log_returns: Floats) -> VarianceRecursion:
        """Fit the recursion to log returns."""

    def _fit_symbol(
        self, prices: pd.DataFrame, horizons: Sequence[int]
    ) -> tuple[VarianceRecursion, float, Floats, Floats]:
        log_returns = _log_returns(prices)
        recursion = self._recursion(log_returns)
        start = float(np.var(log_returns))
        variance = np.concatenate([[start], recursion.next_variance(log_returns, start)])
        shocks = self._draw((log_returns - recursion.mean) / np.sqrt(variance[:-1]), horizons[-1])
        grid = np.geomspace(variance.min() / 4.0, variance.max() * 4.0, self._GRID)
        sums = recursion.simulate(grid, shocks, horizons)
        scaled = quantiles_of_samples(sums) / np.sqrt(grid)[:, None, None]
        return recursion, start, np.log(grid), scaled

    def _quantiles(
        self, fitted: tuple[VarianceRecursion, float, Floats, Floats], part: SymbolSamples, horizons: Sequence[int]
    ) -> Floats:
        recursion, start, grid, scaled = fitted
        variance = np.concatenate([[start], recursion.next_variance(_log_returns(part.prices), start)])
        at_origin = variance[part.rows]
        # The grid is even in logarithms; beyond its ends the shape stays and the width follows the volatility.
        place = np.clip((np.log(at_origin) - grid[0]) / (grid[1] - grid[0]), 0.0, len(grid) - 1.0)
        left = np.minimum(place.astype(np.int64), len(grid) - 2)
        share = (place - left)[:, None, None]
        quantiles: Floats = ((1.0 - share) * scaled[left] + share * scaled[left + 1]) * np.sqrt(at_origin)[
            :, None, None
        ]
        return quantiles

    def _draw(self, standardised: Floats, sessions: int) -> Floats:
        """Draw past shocks for each session of each path, shape (sessions, paths).

        Every session draws the whole distribution evenly, in a random order (Latin hypercube sampling; McKay, Beckman
        and Conover, 1979), which is far less noisy than independent draws.
        """
        even = np.quantile(standardised, (np.arange(PATHS) + 0.5) / PATHS)
        return np.random.default_rng(self.seed).permuted(np.tile(even, (sessions, 1)), axis=1)


class Ewma(SimulatedVolatility):
    """Exponentially weighted variance with decay 0.94 and no mean (J.P. Morgan/Reuters, *RiskMetrics*, 1996)."""

    name = "ewma"

    def _recursion(self, log_returns: Floats) -> VarianceRecursion:
        return VarianceRecursion(0.0, 0.0, 1.0 - DECAY, 0.0, DECAY)


class Garch(SimulatedVolatility):
    """GARCH(1,1) with Student's t (Bollerslev, "A Conditionally Heteroskedastic Time Series Model ...", 1987)."""

    name = "garch_t"

    def _recursion(self, log_returns: Floats) -> VarianceRecursion:
        return _maximum_likelihood(log_returns, asymmetric=False, shocks="t")


class GjrGarch(SimulatedVolatility):
    """GJR-GARCH(1,1,1) with Hansen's skewed t (Glosten, Jagannathan and Runkle, 1993; Hansen, 1994)."""

    name = "gjr_skewt"

    def _recursion(self, log_returns: Floats) -> VarianceRecursion:
        return _maximum_likelihood(log_returns, asymmetric=True, shocks="skewt")


class Har(VolatilityModel):
    """Heterogeneous autoregression of range-based variance, in logarithms, one regression per horizon.

    The logarithm of the mean variance of the next h sessions is regressed on those of the last session, of the
    last 5 and of the last 22 (Corsi, "A Simple Approximate Long-Memory Model of Realized Volatility", Journal
    of Financial Econometrics 7 (2009)); the variance of a session is Garman and Klass's, with the overnight return.
    The distribution of the log return is that of past returns over their predicted volatility, times today's.
    """

    name = "har"
    _SPANS = (1, 5, 22)

    def _fit_symbol(self, prices: pd.DataFrame, horizons: Sequence[int]) -> tuple[Floats, Floats]:
        close = prices["close"].to_numpy()
        _log_returns(prices)  # refuses too short a history
        variance = floored_variance(prices)
        predictors = self._predictors(variance)
        first = self._SPANS[-1] - 1
        coefficients, scores = [], []
        for h in horizons:
            rows = np.arange(first, len(close) - h)
            ahead = np.log(_trailing_mean(variance, h)[rows + h])
            fitted, *_ = np.linalg.lstsq(predictors[rows], ahead, rcond=None)
            volatility = np.sqrt(h * np.exp(predictors[rows] @ fitted))
            coefficients.append(fitted)
            scores.append(quantiles_of_samples(np.log(close[rows + h] / close[rows]) / volatility))
        return np.array(coefficients), np.array(scores)

    def _quantiles(self, fitted: tuple[Floats, Floats], part: SymbolSamples, horizons: Sequence[int]) -> Floats:
        coefficients, scores = fitted
        predictors = self._predictors(floored_variance(part.prices))[part.rows]
        volatility: Floats = np.sqrt(np.asarray(horizons) * np.exp(predictors @ coefficients.T))
        return volatility[:, :, None] * scores

    def _predictors(self, variance: Floats) -> Floats:
        """Return a constant and the logarithms of the mean variance over each span, shape (n, 4)."""
        means = [np.log(_trailing_mean(variance, span)) for span in self._SPANS]
        return np.column_stack([np.ones(len(variance)), *means])


def _maximum_likelihood(log_returns: Floats, *, asymmetric: bool, shocks: Literal["t", "skewt"]) -> VarianceRecursion:
    """Fit a GARCH model by arch, on returns in per cent: the optimiser wants numbers near 1."""
    model = arch_model(100.0 * log_returns, mean="Constant", vol="GARCH", o=int(asymmetric), dist=shocks, rescale=False)
    # The flag is checked instead of the warning.
    fitted = model.fit(disp="off", show_warning=False)
    if fitted.convergence_flag != 0:
        raise DataQualityError(
            f"expected the likelihood of GARCH to have a maximum on {len(log_returns)} returns; the optimiser says "
            f"{fitted.optimization_result.message!r}; see check_quality(prices)"
        )
    p = fitted.params
    return VarianceRecursion(
        p["mu"] / 100.0, p["omega"] / 1e4, p["alpha[1]"], p["gamma[1]"] if asymmetric else 0.0, p["beta[1]"]
    )


def _log_returns(prices: pd.DataFrame) -> Floats:
    """Return the n - 1 log returns from close to close."""
    if len(prices) < MIN_HISTORY:
        raise NotEnoughDataError(f"expected at least {MIN_HISTORY} sessions for a volatility model; got {len(prices)}")
    returns: Floats = np.diff(np.log(prices["close"].to_numpy()))
    return returns


def _trailing_mean(values: Floats, span: int) -> Floats:
    """Return the mean of the last ``span`` values, shape (n,); of those there are at the beginning."""
    mean: Floats = pd.Series(values).rolling(span, min_periods=1).mean().to_numpy()
    return mean
