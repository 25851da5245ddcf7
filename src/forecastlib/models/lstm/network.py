"""The multi-output LSTM: one branch and one output per horizon."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import keras
import numpy as np

from forecastlib.config import ModelConfig, TrainConfig, WindowConfig
from forecastlib.errors import ConfigError
from forecastlib.models.lstm.layer import FastLSTM
from forecastlib.models.lstm.optimizer import FastAdam

INPUT_NAME = "price_sequence_input"


def output_name(horizon: int) -> str:
    """Return the name of the output of a horizon; targets, losses and metrics are keyed by it.

    Examples
    --------
    >>> output_name(7)
    'price_prediction_7d'
    """
    return f"price_prediction_{horizon}d"


def build_network(n_features: int, window: WindowConfig, model: ModelConfig, *, seed: int = 0) -> keras.Model:
    """Build the network, without compiling it.

    ``price_sequence_input`` (lookback, n_features); for each i of ``lstm_units`` ``lstm_{i}`` and
    ``batch_norm_lstm_{i}``; for each i of ``dense_units`` ``dense_common_{i}`` and ``dropout_common_{i}``; then for
    each horizon h ``dense_{h}d_branch``, ``dropout_{h}d_branch`` and ``price_prediction_{h}d``. Counting starts at 1.

    Parameters
    ----------
    n_features
        Number of features per session.
    window
        Lookback and horizons.
    model
        Layer sizes and dropout rates.
    seed
        Seed of the initial weights and the dropout masks. No global random state is read or changed, so networks built
        in one process do not influence each other.

    Returns
    -------
    keras.Model
        Maps (batch, lookback, n_features) in float32 to a dict from output name to (batch, 1).
    """
    seeds = _independent_seeds(seed)
    inputs = keras.Input((window.lookback, n_features), name=INPUT_NAME)
    x = inputs
    for i, units in enumerate(model.lstm_units, start=1):
        x = FastLSTM(
            units,
            return_sequences=i < len(model.lstm_units),
            dropout=model.dropout,
            recurrent_dropout=model.recurrent_dropout,
            kernel_initializer=keras.initializers.GlorotUniform(next(seeds)),
            recurrent_initializer=keras.initializers.Orthogonal(seed=next(seeds)),
            seed=next(seeds),
            name=f"lstm_{i}",
        )(x)
        x = keras.layers.BatchNormalization(name=f"batch_norm_lstm_{i}")(x)
    for i, units in enumerate(model.dense_units, start=1):
        x = _dense(units, "relu", f"dense_common_{i}", seeds)(x)
        x = keras.layers.Dropout(model.dropout, seed=next(seeds), name=f"dropout_common_{i}")(x)
    outputs = {}
    for h in window.horizons:
        branch = _dense(model.branch_units, "relu", f"dense_{h}d_branch", seeds)(x)
        branch = keras.layers.Dropout(model.dropout, seed=next(seeds), name=f"dropout_{h}d_branch")(branch)
        outputs[output_name(h)] = _dense(1, "linear", output_name(h), seeds)(branch)
    return keras.Model(inputs, outputs, name="multi_horizon_lstm")


def _independent_seeds(seed: int) -> Iterator[int]:
    sequence = np.random.SeedSequence(seed)
    while True:
        yield int(sequence.spawn(1)[0].generate_state(1)[0] >> 1)


def _dense(units: int, activation: str, name: str, seeds: Iterator[int]) -> keras.layers.Dense:
    initializer = keras.initializers.GlorotUniform(next(seeds))
    return keras.layers.Dense(units, activation=activation, kernel_initializer=initializer, name=name)


def compile_network(network: keras.Model, horizons: Sequence[int], train: TrainConfig, *, steps: int = 1) -> None:
    """Compile a network in place: Adam, and per output a weighted mean squared error and the mean absolute error.

    Losses and weights are keyed by output name, so their order cannot be confused.

    Parameters
    ----------
    network
        Built by :func:`build_network`.
    horizons
        The horizons of the network, in the order of the loss weights.
    train
        Learning rate and loss weights.
    steps
        Batches per call of the compiled training function, ideally all of an epoch: callbacks run at the end of an
        epoch only. Must divide the number of batches per epoch.

    Raises
    ------
    ConfigError
        If the network was built for other horizons, or the number of loss weights differs from that of the horizons.
    """
    weights = train.weights_for(tuple(horizons))
    names = [output_name(h) for h in horizons]
    if sorted(names) != sorted(network.output_names):
        raise ConfigError(f"expected the horizons of the outputs {sorted(network.output_names)}; got {list(horizons)}")
    if len(weights) != len(names):
        raise ConfigError(f"expected one loss weight for each of the horizons {list(horizons)}; got {weights}")
    network.compile(
        optimizer=FastAdam(train.learning_rate),
        loss=dict.fromkeys(names, "mse"),
        loss_weights=dict(zip(names, weights, strict=True)),
        metrics={name: ["mae"] for name in names},
        jit_compile=False,
        steps_per_execution=steps,
    )
