"""What every baseline is: fitted on what the network may see, asked about the same origins."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np
import numpy.typing as npt
import pandas as pd

from forecastlib.errors import ConfigError, DataQualityError, NotFittedError
from forecastlib.models.distribution import Distribution
from forecastlib.models.uncertainty import Conformal, split_conformal
from forecastlib.samples.variance import horizon_volatility
from forecastlib.samples.windows import Windows

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class BaselineForecast:
    """Forecasts of n origins.

    Attributes
    ----------
    log_returns : ndarray, shape (n, horizons)
        Point forecasts, from the origin's close.
    distribution : Distribution
        Predictive distributions of the same.
    """

    log_returns: Floats
    distribution: Distribution


class Baseline(Protocol):
    """A forecaster that is quick to fit and honest to beat."""

    @property
    def name(self) -> str:
        """The name it goes by in tables."""
        ...

    def fit(self, train: Windows, validation: Windows, prices: pd.DataFrame) -> Self:
        """Fit on the training and validation samples, and on prices up to the last label of the validation set.

        Parameters
        ----------
        train, validation
            Labelled samples, as the network gets them.
        prices
            Prices of the symbol; rows after the last validation label are not looked at.
        """
        ...

    def predict(self, windows: Windows, prices: pd.DataFrame) -> BaselineForecast:
        """Forecast origins, each from rows up to its own.

        Parameters
        ----------
        windows
            The origins; labels are not looked at.
        prices
            Prices of the symbol from the same first session as at fitting, up to the last origin or further.
        """
        ...


class PointBaseline(ABC):
    """A point forecast with the ranges that the network has too: calibrated on the validation set.

    What remains to be written is the point forecast itself, :meth:`_fit` and :meth:`_predict`.
    """

    name: str
    _ranges: Conformal | None = None

    def fit(self, train: Windows, validation: Windows, prices: pd.DataFrame) -> Self:
        """Fit the point forecast, and calibrate its ranges on the validation residuals. Prices are not needed."""
        self._fit(train, validation)
        horizons = validation.config.horizons
        residuals = labels(validation) - self._predict(validation)
        self._ranges = split_conformal(residuals, horizon_volatility(validation.volatility, horizons), horizons)
        return self

    def predict(self, windows: Windows, prices: pd.DataFrame) -> BaselineForecast:
        """Forecast origins. Prices are not needed."""
        if self._ranges is None:
            raise NotFittedError(f"expected a fitted baseline; {self.name} is not; call fit(...) first")
        points = self._predict(windows)
        scale = horizon_volatility(windows.volatility, windows.config.horizons)
        return BaselineForecast(points, self._ranges.distribution(points, scale))

    @abstractmethod
    def _fit(self, train: Windows, validation: Windows) -> None:
        """Fit the point forecast on the training set; the validation set may stop it early."""

    @abstractmethod
    def _predict(self, windows: Windows) -> Floats:
        """Return log returns, shape (n, horizons)."""


def labels(windows: Windows) -> Floats:
    """Return the log returns that samples are labelled with, shape (n, horizons).

    Raises
    ------
    ConfigError
        If a label is not known.
    """
    if not windows.labelled.all():
        raise ConfigError(
            f"expected labelled samples to fit on; {int((~windows.labelled).sum())} of {len(windows)} have no label "
            "yet; take a set from holdout(windows)"
        )
    return windows.log_returns(windows.y)


def last_rows(windows: Windows) -> Floats:
    """Return the features of each origin's own session, shape (n, features)."""
    return windows.matrix[windows.rows]


def known_prices(prices: pd.DataFrame, windows: Windows) -> pd.DataFrame:
    """Return the prices up to the session on which the last label of some samples is known.

    Raises
    ------
    ConfigError
        If the samples are of several symbols: volatility is fitted on one at a time.
    """
    symbols = np.unique(windows.symbols)
    if len(symbols) != 1:
        raise ConfigError(f"expected samples of one symbol; got {', '.join(symbols)}; fit the baseline for each apart")
    return prices.loc[: windows.label_dates.max()]


def origin_rows(prices: pd.DataFrame, windows: Windows) -> npt.NDArray[np.int64]:
    """Return the row of ``prices`` that each origin is.

    Raises
    ------
    DataQualityError
        If an origin is not among the sessions.
    """
    rows = prices.index.get_indexer(windows.origins)
    if (rows < 0).any():
        missing = windows.origins[rows < 0][0]
        raise DataQualityError(f"expected the prices that the samples were made of; {missing:%Y-%m-%d} is not in them")
    return np.asarray(rows, dtype=np.int64)
