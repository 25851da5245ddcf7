"""The ladder of leaks: how good the usual naive recipe looks, and what remains as its leaks are closed one by one.

The naive recipe is that of most published notebooks on forecasting prices with an LSTM: price levels under min-max
scaling, fitted on the whole series, windows split at random, labels clipped at the end of the data. Each step of
:data:`STEPS` repairs one thing and keeps the repairs of the steps before it. The network is the same throughout.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from forecastlib.auditing.planted import clipped_tail, scaling_of_all_rows, split_at_random, split_without_purge
from forecastlib.config import RunConfig
from forecastlib.evaluation.score_table import score_table
from forecastlib.forecaster import Forecaster
from forecastlib.recipe import Recipe

NETWORK: dict[str, Any] = {"model": "lstm"}
"""The network alone."""

NAIVE: dict[str, Any] = NETWORK | {
    "target": "price",
    "form": "level",
    "feature_scaler": "minmax",
    "target_scaler": "minmax",
}
"""The same, with the parameters of the naive recipe that do not leak, but are unwise."""


@dataclass(frozen=True)
class Step:
    """One step of the ladder.

    Attributes
    ----------
    name : str
        What it repairs.
    recipe : Recipe
        The recipe with the steps that still leak.
    parameters : mapping
        Parameters that differ from the given configuration.
    """

    name: str
    recipe: Recipe
    parameters: Mapping[str, Any]


SCORES = ("n", "r2", "mape", "correlation", "hit_rate", "skill")
"""The columns of the ladder, see :data:`forecastlib.evaluation.score_table.METRICS`."""

_LEAKING = Recipe(scaling=scaling_of_all_rows, windows=clipped_tail, split=split_at_random)

STEPS = (
    Step("the naive recipe, split at random", _LEAKING, NAIVE),
    Step("divided in order of time", replace(_LEAKING, split=split_without_purge), NAIVE),
    Step("and purged between the sets", Recipe(scaling=scaling_of_all_rows, windows=clipped_tail), NAIVE),
    Step("and no label clipped", Recipe(scaling=scaling_of_all_rows), NAIVE),
    Step("and scalers fitted on the training set", Recipe(), NAIVE),
    Step("returns and scale-free features instead of levels", Recipe(), NETWORK),
    Step("the forecaster of this library, as configured", Recipe(), {}),
)
"""From the naive recipe to the network of this library, and to the model in which it is combined with others."""


def leakage_ladder(
    prices: pd.DataFrame, config: RunConfig, *, steps: Sequence[Step] = STEPS, progress: bool = True
) -> pd.DataFrame:
    """Train at every step, and score the forecasts on the test set of that step.

    Parameters
    ----------
    prices
        Prices of one symbol.
    config
        Sizes, training and split; each step replaces the parameters that it is about.
    steps
        The steps to train.
    progress
        Whether to show a progress bar for each training.

    Returns
    -------
    DataFrame
        One row per step and horizon (index ``step, horizon``): ``n``, ``r2``, ``mape`` and ``correlation`` of prices,
        ``hit_rate`` of directions, and ``skill``, 1 - MAE / MAE of the random walk on the same origins. The scores of
        a step are what its own evaluation shows, computed with its own labels.
    """
    tables = {
        step.name: score_table(_test_forecasts(prices, config, step, progress=progress), ("horizon",))[list(SCORES)]
        for step in steps
    }
    return pd.concat(tables, names=["step"])


def _test_forecasts(prices: pd.DataFrame, config: RunConfig, step: Step, *, progress: bool) -> pd.DataFrame:
    """Return the forecast frame of the test set of a step, with the labels of that step as ``actual_price``."""
    forecaster = Forecaster(config.replace(**step.parameters), recipe=step.recipe).fit(prices, progress=progress)
    assert forecaster.samples is not None, "it was fitted here"
    test = forecaster.samples.test
    (forecast,) = forecaster.forecast_test_set()
    actual = np.exp(test.labels()) * test.last_close[:, None]
    return forecast.frame().assign(actual_price=actual.ravel())
