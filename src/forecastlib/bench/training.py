"""Contenders in training: the library's own network, and the same of plain Keras layers."""

from __future__ import annotations

import keras
import numpy as np

from forecastlib.bench.data import BATCH, WINDOWS, matrix_and_targets, run_config, windows_of
from forecastlib.bench.works import Turn
from forecastlib.models.lstm import TrainingData, build_network, compile_network, output_name
from forecastlib.models.lstm.recurrent import with_lstm_class

HORIZONS = (7, 14, 30)


def samples(windows: int = WINDOWS) -> TrainingData:
    """Return so many windows with their targets."""
    matrix, targets = matrix_and_targets()
    rows = np.arange(59, 59 + windows)
    return TrainingData(matrix, rows, {h: targets[:windows, i] for i, h in enumerate(HORIZONS)}, 60)


def ours() -> Turn:
    """One epoch as :func:`forecastlib.models.lstm.fit_network` runs it, validation left out."""
    config, data = run_config(), samples()
    network = build_network(data.matrix.shape[1], config.window, config.model)
    compile_network(network, HORIZONS, config.train, steps=data.steps(BATCH))
    batches = data.shuffled_batches(BATCH, seed=0)

    def turn() -> None:
        network.fit(batches, steps_per_epoch=data.steps(BATCH), epochs=1, verbose=0)

    return turn


def keras_default() -> Turn:
    """One epoch of the same network of plain layers, arrays given to ``fit``, everything else its default."""
    return _plain(jit_compile=False)


def keras_compiled() -> Turn:
    """Compile the whole training step of plain layers with XLA."""
    return _plain(jit_compile=True)


def plain_network() -> keras.Model:
    """Return the default network with ``keras.layers.LSTM`` in the place of the fast layer."""
    config = run_config()
    return with_lstm_class(build_network(152, config.window, config.model), keras.layers.LSTM)


def _plain(jit_compile: bool) -> Turn:
    matrix, targets = matrix_and_targets()
    windows = np.ascontiguousarray(windows_of(matrix))
    keyed = {output_name(h): targets[:, i : i + 1] for i, h in enumerate(HORIZONS)}
    if jit_compile:  # XLA would compile the incomplete last batch as well
        whole = len(windows) // BATCH * BATCH
        windows, keyed = windows[:whole], {name: values[:whole] for name, values in keyed.items()}
    network = plain_network()
    names = list(keyed)
    network.compile(
        optimizer=keras.optimizers.Adam(1e-3),
        loss=dict.fromkeys(names, "mse"),
        loss_weights=dict(zip(names, (0.5, 0.3, 0.2), strict=True)),
        metrics={name: ["mae"] for name in names},
        jit_compile=jit_compile,
    )

    def turn() -> None:
        network.fit(windows, keyed, batch_size=BATCH, epochs=1, verbose=0)

    return turn
