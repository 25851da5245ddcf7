"""The multi-output LSTM: one branch and one output for each horizon."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from forecastlib.config import ModelConfig, TrainConfig, WindowConfig
from forecastlib.errors import ConfigError
from forecastlib.models.lstm.optimizer import FastAdam
from forecastlib.models.lstm.recurrent import FastLSTM

INPUT_NAME = "price_sequence_input"


def output_name(horizon: int) -> str:
    """Return the name of a horizon's output, by which targets and losses are keyed.

    Examples
    --------
    >>> output_name(7)
    'price_prediction_7d'
    """
    return f"price_prediction_{horizon}d"


def build_network(n_features: int, window: WindowConfig, model: ModelConfig, *, seed: int = 0) -> keras.Model:
    """Build the network, not compiled yet.

    ``price_sequence_input`` (lookback, n_features); for each i of ``lstm_units`` ``lstm_{i}`` and
    ``batch_norm_lstm_{i}``; for each i of ``dense_units`` ``dense_common_{i}`` and ``dropout_common_{i}``; then for
    each horizon h ``dense_{h}d_branch``, ``dropout_{h}d_branch`` and ``price_prediction_{h}d``. Counting begins at 1.

    Parameters
    ----------
    n_features
        Features a session.
    window
        Lookback and horizons.
    model
        Layer sizes and dropout rates.
    seed
        Determines the first weights and the dropout masks. No global random state is read or changed, so that models
        built in one process do not influence each other.

    Returns
    -------
    keras.Model
        Takes (batch, lookback, n_features) in float32, gives a dict from output name to (batch, 1).
    """
    seeds = _Seeds(seed)
    inputs = keras.Input((window.lookback, n_features), name=INPUT_NAME)
    x = inputs
    for i, units in enumerate(model.lstm_units, start=1):
        x = FastLSTM(
            units,
            return_sequences=i < len(model.lstm_units),
            dropout=model.dropout,
            recurrent_dropout=model.recurrent_dropout,
            kernel_initializer=keras.initializers.GlorotUniform(seeds.next()),
            recurrent_initializer=keras.initializers.Orthogonal(seed=seeds.next()),
            seed=seeds.next(),
            name=f"lstm_{i}",
        )(x)
        x = keras.layers.BatchNormalization(name=f"batch_norm_lstm_{i}")(x)
    for i, units in enumerate(model.dense_units, start=1):
        x = _dense(units, "relu", f"dense_common_{i}", seeds)(x)
        x = keras.layers.Dropout(model.dropout, seed=seeds.next(), name=f"dropout_common_{i}")(x)
    outputs = {}
    for h in window.horizons:
        branch = _dense(model.branch_units, "relu", f"dense_{h}d_branch", seeds)(x)
        branch = keras.layers.Dropout(model.dropout, seed=seeds.next(), name=f"dropout_{h}d_branch")(branch)
        outputs[output_name(h)] = _dense(1, "linear", output_name(h), seeds)(branch)
    return keras.Model(inputs, outputs, name="multi_horizon_lstm")


class _Seeds:
    """Independent seeds, one after the other, all determined by the first."""

    def __init__(self, seed: int) -> None:
        self._sequence = np.random.SeedSequence(seed)

    def next(self) -> int:
        return int(self._sequence.spawn(1)[0].generate_state(1)[0] >> 1)


def _dense(units: int, activation: str, name: str, seeds: _Seeds) -> keras.layers.Dense:
    initializer = keras.initializers.GlorotUniform(seeds.next())
    return keras.layers.Dense(units, activation=activation, kernel_initializer=initializer, name=name)


def compile_network(network: keras.Model, horizons: Sequence[int], train: TrainConfig, *, steps: int = 1) -> None:
    """Compile a network in place: Adam, one squared error an output weighted by horizon, the absolute error beside it.

    Losses and weights are keyed by output name, so that their order cannot go wrong.

    Parameters
    ----------
    network
        A network of :func:`build_network`.
    horizons
        Those it was built for.
    train
        Learning rate and loss weights.
    steps
        Batches between two returns to Python, best all of an epoch: callbacks wait for its end anyway. An epoch always
        has a whole multiple of it.

    Raises
    ------
    ConfigError
        If the network was built for other horizons, or there is not one weight for each of them.
    """
    weights = train.weights_for(tuple(horizons))
    names = [output_name(h) for h in horizons]
    if sorted(names) != sorted(network.output_names):
        raise ConfigError(f"expected the horizons of the outputs {sorted(network.output_names)}; got {list(horizons)}")
    if len(weights) != len(names):
        raise ConfigError(f"expected a weight for each of the horizons {list(horizons)}; got {weights}")
    network.compile(
        optimizer=FastAdam(train.learning_rate),
        loss=dict.fromkeys(names, "mse"),
        loss_weights=dict(zip(names, weights, strict=True)),
        metrics={name: ["mae"] for name in names},
        jit_compile=False,
        steps_per_execution=steps,
    )


def stochastic_twin(network: keras.Model) -> keras.Model:
    """Return a model that shares the layers of ``network`` and keeps dropout on when predicting, for MC dropout.

    Only layers that drop something run in training mode. All others, batch normalisation first of all, are told
    explicitly to run in inference mode: left to themselves they would normalise by the statistics of the copies of one
    sample, and move their own.
    """

    def call(layer: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(layer, keras.layers.LSTM | keras.layers.Dropout):
            return layer(*args, **(kwargs | {"training": True}))
        if isinstance(layer, keras.layers.BatchNormalization):
            return layer(*args, **(kwargs | {"training": False}))
        return layer(*args, **kwargs)

    return keras.models.clone_model(network, clone_function=lambda layer: layer, call_function=call)
