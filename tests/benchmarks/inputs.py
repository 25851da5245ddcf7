"""The inputs of all sides: real prices, and windows for a network of the default size."""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt
import pandas as pd

from forecastlib.config import RunConfig
from forecastlib.data.prices import to_prices
from forecastlib.data.sources import open_source

SESSIONS = 6300  # 25 years
WINDOWS = 3300
LOOKBACK = 60
FEATURES = 152
BATCH = 32
HORIZONS = (7, 14, 30)


@cache
def prices(sessions: int = SESSIONS) -> pd.DataFrame:
    """Return prices of ^GSPC, with as many of its first sessions repeated as are missing."""
    real = open_source("bundled").fetch("^GSPC")
    values = pd.concat([real.iloc[: max(sessions - len(real), 0)], real.iloc[-min(sessions, len(real)) :]])
    values.index = pd.bdate_range(end=real.index[-1], periods=len(values))
    return to_prices(values, "^GSPC")


def run_config(**parameters: object) -> RunConfig:
    """Return the default configuration, with some parameters."""
    return RunConfig.from_parameters(symbol="^GSPC", **parameters)


def matrix_and_targets() -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Return random features for :data:`WINDOWS` windows, and random targets (windows, horizons)."""
    rng = np.random.default_rng(0)
    matrix = rng.standard_normal((WINDOWS + LOOKBACK - 1, FEATURES), dtype=np.float32)
    return matrix, rng.standard_normal((WINDOWS, len(HORIZONS)), dtype=np.float32)


def windows_of(matrix: npt.NDArray[np.float32], lookback: int = LOOKBACK) -> npt.NDArray[np.float32]:
    """Return a view of all windows of a matrix, shape (windows, lookback, features)."""
    return np.lib.stride_tricks.sliding_window_view(matrix, lookback, axis=0).transpose(0, 2, 1)
