"""The recipe: the steps from prices to a forecast.

:class:`~forecastlib.Forecaster` executes these steps, and the leakage audit replaces them one at a time: what runs is
what is audited. To try a suspicious step, give a recipe with that step replaced to either of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pandas as pd

from forecastlib.config import FeatureConfig, ModelConfig, RunConfig, SplitConfig, WindowConfig
from forecastlib.features import feature_frame
from forecastlib.models import Distribution, Model, create
from forecastlib.samples.scaling import Scaling, fit_scaling
from forecastlib.samples.splits import Split, holdout
from forecastlib.samples.windows import Windows, build_windows, pool_windows

Index = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Samples:
    """The samples of a run, divided by time and scaled.

    Attributes
    ----------
    windows : Windows
        All samples, with the scaled matrix.
    split : Split
        Positions of the training, validation and test set.
    scaling : Scaling
        The scalers, fitted on the training set.
    calibration : ndarray of int64
        Positions of the samples that stop the training and calibrate the intervals: the validation set.
    """

    windows: Windows
    split: Split
    scaling: Scaling
    calibration: Index

    @property
    def train(self) -> Windows:
        """The training set, with the prices that fitting may look at."""
        return self.windows.take(self.split.train).until(self.known_until)

    @property
    def validation(self) -> Windows:
        """The samples that stop the training and calibrate the intervals, likewise."""
        return self.windows.take(self.calibration).until(self.known_until)

    @property
    def test(self) -> Windows:
        """The test set, with its labels."""
        return self.windows.take(self.split.test)

    @property
    def known_until(self) -> pd.Timestamp:
        """The last session that fitting may look at: on it the last validation label becomes known."""
        return self.windows.label_dates[self.calibration].max()


def validation_samples(windows: Windows, split: Split) -> Index:
    """Calibrate on the validation set."""
    return split.validation


def create_model(config: RunConfig) -> Model:
    """Make the model that the configuration names."""
    return create(config.model.model, config)


def predict_without_labels(model: Model, samples: Windows) -> Distribution:
    """Forecast samples as they are known at their origins: a model never sees the labels it is scored on."""
    return model.predict(samples.without_labels())


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a forecast is made, step by step.

    Attributes
    ----------
    features : (prices, FeatureConfig) -> DataFrame
        Features of the whole history, for training.
    served_features : (prices, FeatureConfig) -> DataFrame
        Features of the newest sessions, for forecasts.
    windows : (prices, features, WindowConfig) -> Windows
        Windows and labels.
    split : (windows, SplitConfig) -> Split
        Training, validation and test set.
    scaling : (windows, split, ModelConfig) -> Scaling
        Fitted scalers.
    calibration : (windows, split) -> ndarray of int64
        Positions of the samples that stop the training and calibrate the intervals.
    model : (RunConfig) -> Model
        The model, not fitted yet.
    predict : (model, samples) -> Distribution
        Forecasts of a fitted model.

    Examples
    --------
    >>> def with_tomorrow(prices, config):
    ...     return feature_frame(prices, config).assign(tomorrow=prices["close"].shift(-1).ffill())
    >>> audit(prices, recipe=Recipe(features=with_tomorrow)).affected()     # doctest: +SKIP
    """

    features: Callable[[pd.DataFrame, FeatureConfig], pd.DataFrame] = field(default=feature_frame)
    served_features: Callable[[pd.DataFrame, FeatureConfig], pd.DataFrame] = field(default=feature_frame)
    windows: Callable[[pd.DataFrame, pd.DataFrame, WindowConfig], Windows] = field(default=build_windows)
    split: Callable[[Windows, SplitConfig], Split] = field(default=holdout)
    scaling: Callable[[Windows, Split, ModelConfig], Scaling] = field(default=fit_scaling)
    calibration: Callable[[Windows, Split], Index] = field(default=validation_samples)
    model: Callable[[RunConfig], Model] = field(default=create_model)
    predict: Callable[[Model, Windows], Distribution] = field(default=predict_without_labels)

    def prepare(self, prices: pd.DataFrame | Sequence[pd.DataFrame], config: RunConfig) -> Samples:
        """Compute features, windows and sets, and scale them.

        Parameters
        ----------
        prices
            Validated prices of one symbol, or of several that are pooled.
        config
            Sections ``features``, ``window``, ``split`` and ``model``.

        Raises
        ------
        NotEnoughDataError
            If the history is too short for the warm-up, a window, or a set.
        """
        return self.divide(self.all_windows(prices, config), config)

    def all_windows(self, prices: pd.DataFrame | Sequence[pd.DataFrame], config: RunConfig) -> Windows:
        """Compute features and windows of one symbol, or of several pooled."""
        frames = [prices] if isinstance(prices, pd.DataFrame) else list(prices)
        return pool_windows(
            [self.windows(frame, self.features(frame, config.features), config.window) for frame in frames]
        )

    def divide(self, windows: Windows, config: RunConfig, split: Split | None = None) -> Samples:
        """Divide windows into sets and scale them; with a ``split``, into these sets, as in a backtest."""
        split = split or self.split(windows, config.split)
        scaling = self.scaling(windows, split, config.model)
        return Samples(scaling.apply(windows), split, scaling, self.calibration(windows, split))

    def serve(self, prices: pd.DataFrame, config: RunConfig) -> Windows:
        """Compute the windows that forecasts are made from; the last one ends with the last session of the prices."""
        return self.windows(prices, self.served_features(prices, config.features), config.window)
