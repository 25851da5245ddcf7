"""Training for one epoch: the library's network, and the same one of Keras layers."""

from __future__ import annotations

import keras
import numpy as np

from benchmarks.comparisons import Measured
from benchmarks.inputs import BATCH, FEATURES, HORIZONS, LOOKBACK, matrix_and_targets, run_config, windows_of
from forecastlib.models.lstm import TrainingData, build_network, compile_network, output_name, with_lstm_class


def forecastlib_epoch() -> Measured:
    """Train as :func:`forecastlib.models.lstm.fit_network` does, without validation."""
    config = run_config()
    matrix, targets = matrix_and_targets()
    rows = np.arange(LOOKBACK - 1, len(matrix))
    data = TrainingData(matrix, rows, {h: targets[:, i] for i, h in enumerate(HORIZONS)}, LOOKBACK)
    network = build_network(FEATURES, config.window, config.model)
    compile_network(network, HORIZONS, config.train, steps=data.steps(BATCH))
    batches = data.shuffled_batches(BATCH, seed=0)
    return lambda: network.fit(batches, steps_per_epoch=data.steps(BATCH), epochs=1, shuffle=False, verbose=0)


def keras_epoch(jit_compile: bool) -> Measured:
    """Train the network of Keras layers with ``fit`` on arrays, with or without XLA."""
    matrix, targets = matrix_and_targets()
    windows = np.ascontiguousarray(windows_of(matrix))
    if jit_compile:  # XLA would compile the incomplete last batch as well
        complete = len(windows) // BATCH * BATCH
        windows, targets = windows[:complete], targets[:complete]
    by_name = {output_name(h): targets[:, i : i + 1] for i, h in enumerate(HORIZONS)}
    network = keras_network()
    network.compile(
        optimizer=keras.optimizers.Adam(1e-3),
        loss=dict.fromkeys(by_name, "mse"),
        loss_weights=dict(zip(by_name, (0.5, 0.3, 0.2), strict=True)),
        metrics={name: ["mae"] for name in by_name},
        jit_compile=jit_compile,
    )
    return lambda: network.fit(windows, by_name, batch_size=BATCH, epochs=1, verbose=0)


def keras_network() -> keras.Model:
    """Return the default network with ``keras.layers.LSTM`` instead of the fast layer."""
    config = run_config()
    return with_lstm_class(build_network(FEATURES, config.window, config.model), keras.layers.LSTM)
