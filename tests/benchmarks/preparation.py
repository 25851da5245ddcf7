"""Features, windows, and scaled samples."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd

from benchmarks.comparisons import Measured
from benchmarks.inputs import LOOKBACK, prices, run_config
from forecastlib.features import compute_features
from forecastlib.recipe import Recipe


def features() -> Measured:
    """Compute all 152 features."""
    frame = prices()
    return lambda: compute_features(frame)


def ta_features() -> Measured:
    """Compute all features of the package ta."""
    import ta  # of the extra `bench`

    frame = prices()

    def compute() -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ta.add_all_ta_features(frame.copy(), "open", "high", "low", "close", "volume")

    return compute


def pandas_features() -> Measured:
    """Compute thirty features with pandas: ten means, ten exponential means and ten standard deviations."""
    close = prices()["close"]

    def compute() -> None:
        columns = {}
        for span in (5, 10, 15, 20, 30, 50, 75, 100, 150, 200):
            columns[f"sma_{span}"] = close / close.rolling(span).mean() - 1.0
            columns[f"ema_{span}"] = close / close.ewm(span=span, adjust=False).mean() - 1.0
            columns[f"std_{span}"] = np.log(close).diff().rolling(span).std()
        pd.DataFrame(columns)

    return compute


def samples() -> Measured:
    """Compute features, windows, split, scalers, scaled features and scaled targets."""
    frame, config = prices(), run_config()

    def compute() -> None:
        samples = Recipe().prepare(frame, config)
        samples.scaling.targets(samples.windows.y)

    return compute


def windows_in_a_loop() -> Measured:
    """Slice windows out of a frame one by one, as in tutorials, without computing or scaling features."""
    frame = compute_features(prices()).dropna()

    def compute() -> None:
        windows = [frame.iloc[end - LOOKBACK : end].to_numpy() for end in range(LOOKBACK, len(frame) + 1)]
        np.array(windows, dtype=np.float32)

    return compute
