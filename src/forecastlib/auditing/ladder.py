"""What the usual naive recipe seems to be worth, and what is left of it as its leaks are closed one by one.

The recipe is that of most published notebooks on forecasting prices with an LSTM: price levels under min-max scaling,
fitted on the whole series, windows divided at random, labels clipped at the end of the data. Each step of
:data:`STEPS` repairs one thing and keeps what the ones before it have repaired. The network is the same throughout.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from forecastlib.auditing.planted import clipped_tail, scaling_of_all_rows, split_without_purge
from forecastlib.auditing.recipe import Recipe
from forecastlib.config import RunConfig, SplitConfig
from forecastlib.evaluation import metrics
from forecastlib.forecaster import Forecaster
from forecastlib.models.lstm import NetworkCaller, TrainingData, build_network, compile_network, fit_network
from forecastlib.samples.dataset import prepare
from forecastlib.samples.splits import Split
from forecastlib.samples.windows import Windows

Floats = npt.NDArray[np.float64]

NAIVE: dict[str, Any] = {"target": "price", "form": "level", "feature_scaler": "minmax", "target_scaler": "minmax"}
"""The parameters of the naive recipe that are no leaks, only unwise."""

SCORES = ("r2", "mape", "correlation", "directional_accuracy", "skill")


def split_at_random(windows: Windows, config: SplitConfig) -> Split:
    """Divide the labelled samples at random: nearly every test window has neighbours in the training set."""
    rows = np.random.default_rng(0).permutation(np.flatnonzero(windows.labelled))
    first = round(config.train_share * len(rows))
    second = round((config.train_share + config.validation_share) * len(rows))
    return Split(*(np.sort(part) for part in (rows[:first], rows[first:second], rows[second:])))


@dataclass(frozen=True)
class Step:
    """One step of the ladder.

    Attributes
    ----------
    name : str
        What it repairs.
    recipe : Recipe
        The parts that are still wrong.
    parameters : dict
        The configuration's, where they differ from the one given.
    """

    name: str
    recipe: Recipe
    parameters: dict[str, Any]


_LEAKING = Recipe(scaling=scaling_of_all_rows, windows=clipped_tail, split=split_at_random)
_IN_ORDER = replace(_LEAKING, split=split_without_purge)
_PURGED = Recipe(scaling=scaling_of_all_rows, windows=clipped_tail)
_UNCLIPPED = Recipe(scaling=scaling_of_all_rows)

STEPS = (
    Step("the naive recipe, divided at random", _LEAKING, NAIVE),
    Step("divided in order of time", _IN_ORDER, NAIVE),
    Step("and purged between the sets", _PURGED, NAIVE),
    Step("and no label clipped", _UNCLIPPED, NAIVE),
    Step("and scalers fitted on the training set", Recipe(), NAIVE),
    Step("returns and scale-free features instead of levels", Recipe(), {}),
)
"""From the naive recipe to the network of this library by itself, before its answers are weighed."""

WEIGHED = "the answers weighed against the drift, as this library does"


def climb(
    prices: pd.DataFrame, config: RunConfig, *, steps: Sequence[Step] = STEPS, progress: bool = True
) -> pd.DataFrame:
    """Train the network at every step, and score it on the test set of that step.

    Parameters
    ----------
    prices
        Prices of one symbol.
    config
        Sizes, training and split; what a step is about is taken from the step.
    steps
        The steps to train.
    progress
        Whether to show a progress bar for each training.

    Returns
    -------
    DataFrame
        One row for each step and horizon (index ``step, horizon``), the last step being the forecaster as it is:
        ``n``, ``r2``, ``mape`` and ``correlation`` of prices, ``directional_accuracy``, and ``skill``, 1 - MAE / MAE
        of the random walk on the same origins. The scores of a step are what its own evaluation shows.
    """
    horizons = config.window.horizons
    rows: dict[tuple[str, int], dict[str, float]] = {}
    for step in steps:
        test, predicted = _train(prices, config.replace(**step.parameters), step.recipe, progress=progress)
        actual = test.prices(test.y)
        for i, horizon in enumerate(horizons):
            rows[step.name, horizon] = _scores(actual[:, i], predicted[:, i], test.last_close)
    forecaster = Forecaster(config).fit(prices, progress=progress)
    dataset = prepare(prices, config)
    test = dataset.windows.take(dataset.split.test)
    _, distribution = forecaster.predict_distribution(prices, test.origins, renew=True)
    weighed = np.exp(distribution.median()) * test.last_close[:, None]
    for i, horizon in enumerate(horizons):
        rows[WEIGHED, horizon] = _scores(test.prices(test.y)[:, i], weighed[:, i], test.last_close)
    index = pd.MultiIndex.from_tuples(rows, names=["step", "horizon"])
    return pd.DataFrame(list(rows.values()), index=index)


def _train(prices: pd.DataFrame, config: RunConfig, recipe: Recipe, *, progress: bool) -> tuple[Windows, Floats]:
    """Train the network with the parts of a recipe; return the test set and the prices it answers."""
    windows = recipe.windows(prices, recipe.features(prices, config.features), config.window)
    split = recipe.split(windows, config.split)
    scaling = recipe.scaling(windows, split, config.model)
    matrix = scaling.features(windows.matrix)

    train, validation = (
        TrainingData.of(windows.take(index), scaling, matrix) for index in (split.train, split.validation)
    )
    network = build_network(len(windows.feature_names), config.window, config.model, seed=config.train.seed)
    compile_network(network, config.window.horizons, config.train, steps=train.steps(config.train.batch_size))
    fit_network(network, train, validation, config.train, progress=progress)
    test = windows.take(split.test)
    answers = NetworkCaller(network, config.window.horizons).predict(matrix, test.rows)
    return test, test.prices(scaling.unscaled_targets(answers))


def _scores(
    actual: Floats,
    predicted: Floats,
    last: Floats,
) -> dict[str, float]:
    return {
        "n": float(len(actual)),
        "r2": metrics.r2(actual, predicted),
        "mape": metrics.mape(actual, predicted),
        "correlation": float(np.corrcoef(actual, predicted)[0, 1]),
        "directional_accuracy": metrics.directional_accuracy(actual, predicted, last),
        "skill": metrics.skill(actual, predicted, last),
    }
