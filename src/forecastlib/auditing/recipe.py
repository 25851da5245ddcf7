"""The parts that the audit examines: the real ones, unless others are put in their place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from forecastlib.config import FeatureConfig, ModelConfig, RunConfig, SplitConfig, WindowConfig
from forecastlib.features import compute_features, warm_up
from forecastlib.models.baselines import Ridge
from forecastlib.models.uncertainty import Past, past_at_the_end_of
from forecastlib.samples.dataset import all_windows
from forecastlib.samples.scaling import Scaling
from forecastlib.samples.splits import Split, holdout
from forecastlib.samples.variance import SESSIONS_NEEDED, volatility_predictors
from forecastlib.samples.windows import Windows, make_windows

Floats = npt.NDArray[np.float64]


def scaling_of_training_rows(windows: Windows, split: Split, config: ModelConfig) -> Scaling:
    """Fit the scalers as :meth:`forecastlib.Forecaster.fit` does."""
    return Scaling(config).fit(windows, split.train)


def past_at_validation_end(prices: pd.DataFrame, windows: Windows, split: Split, config: RunConfig) -> Past:
    """Collect the past that ranges are calibrated on, as :meth:`forecastlib.Forecaster.fit` does."""
    return past_at_the_end_of(windows.take(split.validation), prices)


def sessions_needed(config: RunConfig) -> int:
    """Return how many newest sessions a forecast depends on, as :attr:`forecastlib.Forecaster.sessions_needed` says."""
    return max(warm_up(config.features) + config.window.lookback, SESSIONS_NEEDED)


def ridge_forecast(train: Windows, validation: Windows, test: Windows, prices: pd.DataFrame) -> Floats:
    """Forecast the test set by ridge regression on the last row's features; log returns, shape (n, horizons)."""
    return Ridge().fit(train, validation, prices).predict(test, prices).log_returns


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a forecast is made, part by part. To try a suspicious part, put it in the place of the real one.

    Attributes
    ----------
    features : (prices, FeatureConfig) -> DataFrame
        Features of the whole history, as training sees them.
    windows : (prices, features, WindowConfig) -> Windows
        Windows and labels.
    split : (windows, SplitConfig) -> Split
        Training, validation and test.
    scaling : (windows, split, ModelConfig) -> Scaling
        Fitted scalers.
    calibration : (prices, windows, split, RunConfig) -> Past
        The sessions, and what followed them, that ranges are calibrated on.
    volatility : (prices) -> ndarray, shape (n, k)
        What the width of a range is computed from at each session.
    serve : (prices, RunConfig) -> Windows
        Windows from prices that end at the origin, as serving makes them.
    sessions_needed : (RunConfig) -> int
        The number of newest sessions that serving gets by on.
    forecast : (train, validation, test, prices) -> ndarray, shape (n, horizons)
        A learner that is quick to fit, and its forecasts of the test set in log returns. The windows it gets are
        scaled, and their targets are log returns; ``test`` carries its labels, which no honest learner looks at.

    Examples
    --------
    >>> def tomorrow(prices, config):
    ...     return compute_features(prices, config).assign(tomorrow=prices["close"].shift(-1).ffill())
    >>> audit(prices, recipe=Recipe(features=tomorrow)).culprits()  # doctest: +SKIP
    """

    features: Callable[[pd.DataFrame, FeatureConfig], pd.DataFrame] = compute_features
    windows: Callable[[pd.DataFrame, pd.DataFrame, WindowConfig], Windows] = make_windows
    split: Callable[[Windows, SplitConfig], Split] = holdout
    scaling: Callable[[Windows, Split, ModelConfig], Scaling] = scaling_of_training_rows
    calibration: Callable[[pd.DataFrame, Windows, Split, RunConfig], Past] = past_at_validation_end
    volatility: Callable[[pd.DataFrame], Floats] = volatility_predictors
    serve: Callable[[pd.DataFrame, RunConfig], Windows] = all_windows
    sessions_needed: Callable[[RunConfig], int] = sessions_needed
    forecast: Callable[[Windows, Windows, Windows, pd.DataFrame], Floats] = ridge_forecast
