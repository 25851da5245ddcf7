"""The data that every contender gets: real prices, and a network of the default shape."""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt
import pandas as pd

from forecastlib.config import RunConfig
from forecastlib.data.prices import to_prices
from forecastlib.data.sources import open_source

SESSIONS = 6300
"""Twenty-five years."""

WINDOWS = 3300
BATCH = 32


@cache
def prices(sessions: int = SESSIONS) -> pd.DataFrame:
    """Return prices of so many sessions: those of ^GSPC, which are fewer, and once more what they lack."""
    real = open_source("bundled").fetch("^GSPC")
    values = pd.concat([real.iloc[: max(sessions - len(real), 0)], real.iloc[-min(sessions, len(real)) :]])
    values.index = pd.bdate_range(end=real.index[-1], periods=len(values))
    return to_prices(values, "^GSPC")


def run_config(**parameters: object) -> RunConfig:
    """Return the default configuration."""
    return RunConfig.from_parameters(symbol="^GSPC", **parameters)


def matrix_and_targets(lookback: int = 60, features: int = 152) -> tuple[npt.NDArray[np.float32], ...]:
    """Return feature rows for :data:`WINDOWS` windows, and targets (windows, 3): noise, as speed does not mind."""
    rng = np.random.default_rng(0)
    matrix = rng.standard_normal((WINDOWS + lookback - 1, features), dtype=np.float32)
    return matrix, rng.standard_normal((WINDOWS, 3), dtype=np.float32)


def windows_of(matrix: npt.NDArray[np.float32], lookback: int = 60) -> npt.NDArray[np.float32]:
    """Return all windows of a matrix without copying it, shape (windows, lookback, features)."""
    view = np.lib.stride_tricks.sliding_window_view(matrix, lookback, axis=0)
    return np.asarray(view.transpose(0, 2, 1))
