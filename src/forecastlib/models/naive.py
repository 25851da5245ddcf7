"""Naive models, and the base class of models that forecast a point with intervals from validation residuals."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Self

import numpy as np
import numpy.typing as npt

from forecastlib.config import RunConfig
from forecastlib.models.base import not_fitted
from forecastlib.models.conformal import Conformal, split_conformal
from forecastlib.models.distribution import Distribution
from forecastlib.samples.variance import horizon_volatility
from forecastlib.samples.windows import Windows

Floats = npt.NDArray[np.float64]


class PointModel(ABC):
    """A point forecast with split-conformal intervals, calibrated on the validation set.

    Subclasses implement the point forecast, :meth:`fit_location` and :meth:`location`.

    Parameters
    ----------
    config
        The configuration; None: the defaults.
    """

    name: str

    def __init__(self, config: RunConfig | None = None) -> None:
        self.seed = (config or RunConfig()).train.seed
        self._intervals: Conformal | None = None

    def fit(self, train: Windows, validation: Windows) -> Self:
        """Fit the point forecast, and calibrate its intervals on the validation residuals."""
        self.fit_location(train, validation)
        horizons = validation.config.horizons
        residuals = validation.labels() - self.location(validation)
        scale = horizon_volatility(validation.volatility, horizons)
        self._intervals = split_conformal(residuals, scale, horizons)
        return self

    def predict(self, samples: Windows) -> Distribution:
        """Return distributions around the point forecast, as wide as the volatility at each origin suggests."""
        if self._intervals is None:
            raise not_fitted(self)
        scale = horizon_volatility(samples.volatility, samples.config.horizons)
        return self._intervals.distribution(self.location(samples), scale)

    @abstractmethod
    def fit_location(self, train: Windows, validation: Windows) -> None:
        """Fit the point forecast on the training set; the validation set may stop it early."""

    @abstractmethod
    def location(self, samples: Windows) -> Floats:
        """Return the point forecasts in log returns, shape (n, horizons)."""


class RandomWalk(PointModel):
    """The last close, for every horizon: what any forecast has to beat."""

    name = "random_walk"

    def fit_location(self, train: Windows, validation: Windows) -> None:
        """Do nothing: the random walk has no parameters."""

    def location(self, samples: Windows) -> Floats:
        """Return zeros."""
        return np.zeros((len(samples), len(samples.config.horizons)))


class Drift(PointModel):
    """The random walk plus the mean log return per session of the training samples, times the horizon."""

    name = "drift"

    def fit_location(self, train: Windows, validation: Windows) -> None:
        """Take the mean of the labels of the shortest horizon, which overlap least."""
        horizons = np.asarray(train.config.horizons)
        self._change = train.labels()[:, 0].mean() / horizons[0] * horizons

    def location(self, samples: Windows) -> Floats:
        """Return the same change for every origin."""
        return np.tile(self._change, (len(samples), 1))
