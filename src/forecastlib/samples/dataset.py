"""From prices to windows that are divided by time: the path that training, baselines and audit share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from forecastlib.config import RunConfig
from forecastlib.features import compute_features
from forecastlib.samples.splits import Split, holdout
from forecastlib.samples.windows import Windows, make_windows, pool_windows


@dataclass(frozen=True, eq=False)
class Dataset:
    """Windows, not scaled, and the sets they are divided into.

    Attributes
    ----------
    windows : Windows
    split : Split
    """

    windows: Windows
    split: Split


def all_windows(prices: pd.DataFrame | Sequence[pd.DataFrame], config: RunConfig) -> Windows:
    """Compute features and windows of one symbol, or of several pooled into one set.

    Parameters
    ----------
    prices
        Prices of a symbol, or a sequence of such frames.
    config
        Its sections ``features`` and ``window``.
    """
    frames = [prices] if isinstance(prices, pd.DataFrame) else list(prices)
    return pool_windows([make_windows(one, compute_features(one, config.features), config.window) for one in frames])


def prepare(prices: pd.DataFrame | Sequence[pd.DataFrame], config: RunConfig) -> Dataset:
    """Compute features and windows, and split them by time.

    Parameters
    ----------
    prices
        Prices of a symbol, or a sequence of such frames.
    config
        Its sections ``features``, ``window`` and ``split``.

    Raises
    ------
    NotEnoughDataError
        If the history is too short for the warm-up, a window, or a set.
    """
    windows = all_windows(prices, config)
    return Dataset(windows, holdout(windows, config.split))
