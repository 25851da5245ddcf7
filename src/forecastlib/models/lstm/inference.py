"""Inference with a trained network: deterministic predictions and MC dropout."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from forecastlib.models.lstm.layer import no_gradient
from forecastlib.models.lstm.network import output_name

Scaled = npt.NDArray[np.float32]

MAX_BATCH = 1024
"""Maximum number of windows per call: 37 MB at the default lookback and number of features."""


class NetworkCaller:
    """Two compiled functions of a trained network, each traced once, whatever the number of origins.

    Thread-safe. Calls of :meth:`sample` run one at a time, because they share the random generators.

    Parameters
    ----------
    network
        A trained network of :func:`forecastlib.models.lstm.build_network`.
    horizons
        The order of the columns of the results.
    seed
        Seed of the dropout masks. All origins are sampled with the same masks, so the samples of an origin do not
        depend on the other origins of the call.
    """

    def __init__(self, network: keras.Model, horizons: Sequence[int], *, seed: int = 0) -> None:
        stochastic = with_dropout(network)
        layers = [getattr(layer, "cell", layer) for layer in network.layers]  # the cell of an LSTM draws its masks
        generators = [layer.seed_generator for layer in layers if hasattr(layer, "seed_generator")]
        # The state of a generator is a seed and a counter of draws. Equal seeds would make equal masks.
        seeds = np.random.SeedSequence(seed).generate_state(len(generators))
        self._lock = threading.Lock()
        names = [output_name(h) for h in horizons]
        _, lookback, features = network.input_shape
        offsets = tf.range(-lookback + 1, 1, dtype=tf.int64)
        signature = [tf.TensorSpec((None, features), tf.float32), tf.TensorSpec((None,), tf.int64)]

        def call(model: keras.Model, matrix: tf.Tensor, rows: tf.Tensor, **options: bool) -> tf.Tensor:
            outputs = model(tf.gather(matrix, rows[:, None] + offsets), **options)
            return tf.concat([outputs[name] for name in names], axis=1)

        def sample(matrix: tf.Tensor, rows: tf.Tensor, draws: tf.Tensor) -> tf.Tensor:
            for generator, generator_seed in zip(generators, seeds, strict=True):
                generator.state.assign(tf.stack([tf.constant(generator_seed, tf.uint32), draws]))
            return call(stochastic, matrix, rows)

        predict = tf.function(input_signature=signature, autograph=False)
        self._predict = predict(lambda matrix, rows: call(network, matrix, rows, training=False))
        self._sample = tf.function(sample, input_signature=[*signature, tf.TensorSpec((), tf.uint32)], autograph=False)

    def predict(self, matrix: Scaled, rows: npt.NDArray[np.int64]) -> Scaled:
        """Predict scaled targets.

        Parameters
        ----------
        matrix
            Scaled features, shape (rows, features).
        rows
            The row of each origin, shape (n,); its window ends there.

        Returns
        -------
        ndarray, shape (n, horizons), float32
        """
        features = tf.constant(matrix)
        with no_gradient():
            return np.concatenate([np.asarray(self._predict(features, batch)) for _, batch in _batches(rows)])

    def sample(self, matrix: Scaled, rows: npt.NDArray[np.int64], samples: int) -> Scaled:
        """Sample scaled targets by MC dropout (Gal and Ghahramani, ICML 2016), all samples of an origin in one batch.

        Parameters
        ----------
        matrix, rows
            See :meth:`predict`.
        samples
            Samples per origin.

        Returns
        -------
        ndarray, shape (n, samples, horizons), float32
            Dropout is on; batch normalisation is in inference mode, and its statistics do not change.
        """
        features = tf.constant(matrix)
        results = []
        with self._lock, no_gradient():
            for row in rows:
                # A call draws a few times, far fewer than MAX_BATCH, so no two calls use the same draws.
                for start, batch in _batches(np.full(samples, row)):
                    results.append(np.asarray(self._sample(features, batch, tf.constant(start, tf.uint32))))
        return np.concatenate(results).reshape(len(rows), samples, -1)


def with_dropout(network: keras.Model) -> keras.Model:
    """Return a model that shares the layers of a network and keeps dropout on at inference, for MC dropout.

    Only layers with dropout run in training mode. Batch normalisation is explicitly in inference mode: otherwise it
    would normalise by the statistics of the copies of one window, and update its moving averages with them.
    """

    def call(layer: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(layer, keras.layers.LSTM | keras.layers.Dropout):
            return layer(*args, **(kwargs | {"training": True}))
        if isinstance(layer, keras.layers.BatchNormalization):
            return layer(*args, **(kwargs | {"training": False}))
        return layer(*args, **kwargs)

    return keras.models.clone_model(network, clone_function=lambda layer: layer, call_function=call)


def _batches(rows: npt.NDArray[np.int64]) -> Iterator[tuple[int, tf.Tensor]]:
    """Yield batches of bounded size, each with the position of its first row."""
    for start in range(0, len(rows), MAX_BATCH):
        yield start, tf.constant(rows[start : start + MAX_BATCH], dtype=tf.int64)
