"""The network as a model: its point forecast with split-conformal intervals, and MC dropout beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

import keras
import numpy as np
import numpy.typing as npt
import pandas as pd

from forecastlib.config import RunConfig
from forecastlib.errors import IncompatibleModelError
from forecastlib.models.base import Model, not_fitted
from forecastlib.models.conformal import Conformal
from forecastlib.models.distribution import LEVELS, Distribution, quantiles_of_samples
from forecastlib.models.lstm.inference import NetworkCaller
from forecastlib.models.lstm.layer import FastLSTM
from forecastlib.models.lstm.network import INPUT_NAME, build_network, compile_network, output_name
from forecastlib.models.lstm.training import TrainingData, fit_network
from forecastlib.models.naive import PointModel
from forecastlib.samples.windows import Windows

Floats = npt.NDArray[np.float64]

NETWORK, INTERVALS = "network.keras", "intervals.json"


class LSTM(PointModel):
    """The multi-output LSTM: one network for all horizons, trained on scaled windows.

    Parameters
    ----------
    config
        Sections ``window``, ``model`` and ``train``.

    Attributes
    ----------
    network : keras.Model
    history : DataFrame
        Losses of each epoch; empty for a model that was loaded.
    callbacks : sequence of Keras callbacks
        Further callbacks of the next training.
    progress : bool
        Whether the next training shows a progress bar.
    """

    name = "lstm"
    stochastic = True

    network: keras.Model

    def __init__(self, config: RunConfig | None = None) -> None:
        super().__init__(config)
        self.config = config or RunConfig()
        self.history = pd.DataFrame()
        self.callbacks: Sequence[keras.callbacks.Callback] = ()
        self.progress = False
        self._caller: NetworkCaller | None = None

    def fit_location(self, train: Windows, validation: Windows) -> None:
        """Train on the training set, and stop when the validation loss no longer improves.

        Raises
        ------
        ConfigError
            If the samples are not scaled.
        ForecastError
            If training diverges.
        """
        self._caller = None  # a failed training must not leave the previous network behind
        window, settings = self.config.window, self.config.train
        train_data, validation_data = TrainingData.of(train), TrainingData.of(validation)
        self.network = build_network(len(train.feature_names), window, self.config.model, seed=settings.seed)
        compile_network(self.network, window.horizons, settings, steps=train_data.steps(settings.batch_size))
        self.history = fit_network(
            self.network,
            train_data,
            validation_data,
            settings,
            callbacks=self.callbacks,
            progress=self.progress,
        )
        self._caller = self._new_caller()

    def location(self, samples: Windows) -> Floats:
        """Return the log returns that the network predicts, shape (n, horizons)."""
        scaled, scaler = samples.require_scaled()
        return samples.log_returns(scaler.unscaled_targets(self._require_fitted().predict(scaled, samples.rows)))

    def sample(self, samples: Windows, passes: int | None = None) -> Floats:
        """Run MC dropout and return the prices of every pass, shape (n, passes, horizons).

        Parameters
        ----------
        samples
            The origins.
        passes
            Stochastic passes per origin; None: ``mc_samples`` of the configuration.
        """
        count = passes or self.config.model.mc_samples
        scaled, scaler = samples.require_scaled()
        drawn = self._require_fitted().sample(scaled, samples.rows, count)
        targets = scaler.unscaled_targets(drawn.reshape(-1, drawn.shape[2]))
        repeated = samples.take(np.repeat(np.arange(len(samples)), count))
        return repeated.to_prices(targets).reshape(drawn.shape)

    @property
    def components(self) -> Mapping[str, Model]:
        """The intervals of MC dropout alone, under the name ``mc_dropout``."""
        return {MCDropout.name: MCDropout(self)}

    def save(self, folder: Path) -> None:
        """Write the network and its intervals to a folder."""
        self._require_fitted()
        self.network.save(folder / NETWORK)
        assert self._intervals is not None, "a network is fitted together with its intervals"
        (folder / INTERVALS).write_text(json.dumps(self._intervals.to_dict(), indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path, config: RunConfig) -> Self:
        """Read a network and its intervals from a folder.

        Raises
        ------
        IncompatibleModelError
            If this version of Keras cannot read it, or it does not fit the configuration.
        """
        model = cls(config)
        try:
            model.network = keras.models.load_model(
                folder / NETWORK, compile=False, custom_objects={"FastLSTM": FastLSTM}
            )
        except (ValueError, TypeError, OSError, KeyError) as error:
            raise IncompatibleModelError(f"this version of Keras cannot read {folder / NETWORK}: {error}") from error
        if set(model.network.output_names) != {output_name(h) for h in config.window.horizons}:
            raise IncompatibleModelError(
                f"expected a network with outputs for {config.window.horizons}; got {model.network.output_names}"
            )
        if model.network.input_shape[1] != config.window.lookback:
            raise IncompatibleModelError(
                f"expected a network that takes {INPUT_NAME} with a lookback of {config.window.lookback}; "
                f"got {model.network.input_shape[1]}"
            )
        model._intervals = Conformal.from_dict(json.loads((folder / INTERVALS).read_text(encoding="utf-8")))
        model._caller = model._new_caller()
        return model

    def _new_caller(self) -> NetworkCaller:
        return NetworkCaller(self.network, self.config.window.horizons, seed=self.config.train.seed)

    def _require_fitted(self) -> NetworkCaller:
        if self._caller is None:
            raise not_fitted(self)
        return self._caller


class MCDropout:
    """A trained network whose intervals are the spread of MC dropout alone, as they are often used.

    Parameters
    ----------
    network
        Fitted.
    """

    name = "mc_dropout"
    stochastic = True
    thinning = 5

    def __init__(self, network: LSTM) -> None:
        self._network = network

    def fit(self, train: Windows, validation: Windows) -> Self:
        """Fit the network."""
        self._network.fit(train, validation)
        return self

    def predict(self, samples: Windows) -> Distribution:
        """Return the distribution of the stochastic passes."""
        passes = np.log(self._network.sample(samples) / samples.last_close[:, None, None])
        return Distribution(LEVELS, quantiles_of_samples(np.moveaxis(passes, 1, 2)))
