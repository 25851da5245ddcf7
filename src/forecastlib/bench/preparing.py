"""Contenders in preparing data: features, windows, scaled sets."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd

from forecastlib.bench.data import prices, run_config
from forecastlib.bench.works import Turn
from forecastlib.features import compute_features
from forecastlib.samples.dataset import prepare
from forecastlib.samples.scaling import Scaling


def features() -> Turn:
    """All 152 features."""
    frame = prices()

    def turn() -> None:
        compute_features(frame)

    return turn


def ta_features() -> Turn:
    """Compute all features of the package ta."""
    import ta  # of the extra `bench`

    frame = prices()

    def turn() -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ta.add_all_ta_features(frame.copy(), "open", "high", "low", "close", "volume")

    return turn


def pandas_features() -> Turn:
    """Thirty features as pandas computes them: ten of each of means, exponential means and standard deviations."""
    close = prices()["close"]
    spans = (5, 10, 15, 20, 30, 50, 75, 100, 150, 200)

    def turn() -> None:
        columns = {}
        for span in spans:
            columns[f"sma_{span}"] = close / close.rolling(span).mean() - 1.0
            columns[f"ema_{span}"] = close / close.ewm(span=span, adjust=False).mean() - 1.0
            columns[f"std_{span}"] = np.log(close).diff().rolling(span).std()
        pd.DataFrame(columns)

    return turn


def training_data() -> Turn:
    """Features, windows, split, scalers, scaled matrix and targets."""
    frame, config = prices(), run_config()

    def turn() -> None:
        dataset = prepare(frame, config)
        scaling = Scaling(config.model).fit(dataset.windows, dataset.split.train)
        scaling.features(dataset.windows.matrix)
        scaling.targets(dataset.windows.y)

    return turn


def windows_by_loop() -> Turn:
    """Windows and their label cut out of a frame row by row, as tutorials do; features and scaling not included."""
    frame = compute_features(prices()).dropna()

    def turn() -> None:
        windows = [frame.iloc[end - 60 : end].to_numpy() for end in range(60, len(frame) + 1)]
        np.array(windows, dtype=np.float32)

    return turn
