"""The combination that is served by default: drift and network for the location, a volatility regression for the scale.

The weight of the network is what its validation forecasts support, shrunk towards 0. A weight of 0 is a finding: the
distribution is then the drift with the calibrated volatility, and the network has no influence on it.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt
import pandas as pd

from forecastlib.config import RunConfig
from forecastlib.models.base import Model, not_fitted
from forecastlib.models.calibration import (
    MIN_OUTCOMES_TO_RECALIBRATE,
    Calibration,
    Outcomes,
    ValidationForecasts,
    calibrate,
    known_outcomes,
)
from forecastlib.models.distribution import Distribution
from forecastlib.models.lstm.model import LSTM
from forecastlib.samples.windows import Windows

Floats = npt.NDArray[np.float64]

NETWORK_FOLDER, CALIBRATION = "lstm", "calibration.json"


class Combination:
    """The network weighted against a drift, with intervals calibrated on past outcomes.

    Intervals follow what becomes known after training: for the origins of each month, the volatility regression and the
    shape of the residuals are fitted again at the end of the month before, once enough outcomes are known.

    Parameters
    ----------
    config
        The configuration; None: the defaults.

    Attributes
    ----------
    lstm : LSTM
        The network, which is scored alone under its own name.
    calibration : Calibration
    """

    name = "combination"
    stochastic = True

    calibration: Calibration

    def __init__(self, config: RunConfig | None = None) -> None:
        self.config = config or RunConfig()
        self.lstm = LSTM(self.config)
        self.recalibrate = True

    def fit(self, train: Windows, validation: Windows) -> Self:
        """Train the network, then calibrate on the outcomes known when the last validation label became known."""
        self.lstm.fit(train, validation)
        until = validation.label_dates.max()
        parts = list(validation.by_symbol())
        horizons = self.config.window.horizons
        outcomes = [known_outcomes(part.prices.loc[:until], horizons) for part in parts]
        symbol = np.empty(len(validation), dtype=np.int64)
        for position, part in enumerate(parts):
            symbol[part.index] = position
        forecasts = ValidationForecasts(symbol, validation.origins, self.lstm.location(validation))
        self.calibration = calibrate(outcomes, forecasts, horizons, self.config.calibration)
        return self

    def predict(self, samples: Windows) -> Distribution:
        """Return the distributions around the weighted location, with the intervals that apply at each origin."""
        if not hasattr(self, "calibration"):
            raise not_fitted(self)
        location = self.lstm.location(samples)
        quantiles = np.empty((*location.shape, len(self.calibration.levels)))
        for part in samples.by_symbol():
            outcomes = known_outcomes(part.prices, self.config.window.horizons)
            for calibration, chosen in self._calibrations(samples.origins[part.index], outcomes):
                rows = part.index[chosen]
                scale = calibration.scale(outcomes.predictors[part.rows[chosen]])
                quantiles[rows] = calibration.distribution(location[rows], scale).quantiles
        return Distribution(self.calibration.levels, quantiles)

    def sample(self, samples: Windows, passes: int | None = None) -> Floats:
        """Run MC dropout of the network and return the prices of every pass, see :meth:`LSTM.sample`."""
        return self.lstm.sample(samples, passes)

    @property
    def components(self) -> Mapping[str, Model]:
        """The network alone, and MC dropout."""
        return {self.lstm.name: self.lstm, **self.lstm.components}

    @property
    def weights(self) -> Mapping[str, float]:
        """The weights of the location: of the network and of the drift."""
        network = self.calibration.network_weight
        return {self.lstm.name: network, "drift": 1.0 - network}

    @property
    def history(self) -> pd.DataFrame:
        """Losses of each epoch of the network."""
        return self.lstm.history

    def as_trained(self) -> Self:
        """Return the same model with the intervals of its training."""
        variant = copy.copy(self)
        variant.recalibrate = False
        return variant

    def save(self, folder: Path) -> None:
        """Write the network and the calibration to a folder."""
        (folder / NETWORK_FOLDER).mkdir()
        self.lstm.save(folder / NETWORK_FOLDER)
        content = json.dumps(self.calibration.to_dict(), indent=2, allow_nan=False)
        (folder / CALIBRATION).write_text(content + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path, config: RunConfig) -> Self:
        """Read the network and the calibration from a folder.

        Raises
        ------
        IncompatibleModelError
            If a part does not fit this version or the configuration.
        """
        model = cls(config)
        model.lstm = LSTM.load(folder / NETWORK_FOLDER, config)
        model.calibration = Calibration.from_dict(json.loads((folder / CALIBRATION).read_text(encoding="utf-8")))
        return model

    def _calibrations(
        self, origins: pd.DatetimeIndex, outcomes: Outcomes
    ) -> Iterator[tuple[Calibration, npt.NDArray[np.int64]]]:
        """Yield the calibrations that apply at some origins, each with the positions of its origins."""
        months = origins.to_numpy().astype("datetime64[M]")
        later = months > np.datetime64(self.calibration.until, "M")
        enough = len(outcomes.dates) >= MIN_OUTCOMES_TO_RECALIBRATE
        if not (self.recalibrate and enough and later.any()):
            yield self.calibration, np.arange(len(origins))
            return
        yield self.calibration, np.flatnonzero(~later)
        for month in np.unique(months[later]):
            known = outcomes.until(pd.Timestamp(month) - pd.Timedelta(days=1))
            yield self.calibration.recalibrated(known, self.config.calibration), np.flatnonzero(months == month)
