"""Inference: compiled calls of a trained network, deterministic ones and MC dropout."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from forecastlib.models.lstm.architecture import output_name, stochastic_twin
from forecastlib.models.lstm.recurrent import without_gradients

Scaled = npt.NDArray[np.float32]

LARGEST_BATCH = 1024
"""Windows that are computed at once: 37 MB at the default lookback and number of features."""


class NetworkCaller:
    """A trained network behind two compiled functions that are traced once each, whatever the number of origins.

    Safe for use by several threads. Sampling takes turns: its passes share the random generators.

    Parameters
    ----------
    network
        A network of :func:`forecastlib.models.lstm.build_network`, with weights.
    horizons
        The order of the columns that are returned.
    seed
        Seed of the dropout masks. All origins are sampled with the same masks, so that an origin always gets the same
        answer, alone or among others.
    """

    def __init__(self, network: keras.Model, horizons: Sequence[int], *, seed: int = 0) -> None:
        self._twin = stochastic_twin(network)
        drawing = [getattr(layer, "cell", layer) for layer in network.layers]  # an LSTM draws its masks in its cell
        generators = [layer.seed_generator for layer in drawing if hasattr(layer, "seed_generator")]
        # A generator counts its draws up in the second word of its state: the first one must tell generators apart.
        seeds = np.random.SeedSequence(seed).generate_state(len(generators))
        self._lock = threading.Lock()
        names = [output_name(h) for h in horizons]
        _, lookback, features = network.input_shape
        span = tf.range(-lookback + 1, 1, dtype=tf.int64)
        signature = [tf.TensorSpec((None, features), tf.float32), tf.TensorSpec((None,), tf.int64)]

        def call(model: keras.Model, matrix: tf.Tensor, rows: tf.Tensor, **options: bool) -> tf.Tensor:
            outputs = model(tf.gather(matrix, rows[:, None] + span), **options)
            return tf.concat([outputs[name] for name in names], axis=1)

        def sample(matrix: tf.Tensor, rows: tf.Tensor, drawn: tf.Tensor) -> tf.Tensor:
            for generator, own in zip(generators, seeds, strict=True):
                generator.state.assign(tf.stack([tf.constant(own, tf.uint32), drawn]))
            return call(self._twin, matrix, rows)

        predict = tf.function(input_signature=signature, autograph=False)
        self._predict = predict(lambda m, rows: call(network, m, rows, training=False))
        counted = [*signature, tf.TensorSpec((), tf.uint32)]
        self._sample = tf.function(sample, input_signature=counted, autograph=False)

    def predict(self, matrix: Scaled, rows: npt.NDArray[np.int64]) -> Scaled:
        """Return the scaled targets that the network answers.

        Parameters
        ----------
        matrix
            Scaled feature rows, shape (rows, features).
        rows
            The row of each origin, shape (n,); its window ends there.

        Returns
        -------
        ndarray, shape (n, horizons), float32
        """
        shared = tf.constant(matrix)
        with without_gradients():
            answers = [np.asarray(self._predict(shared, part)) for _, part in _parts(rows)]
        return np.concatenate(answers)

    def sample(self, matrix: Scaled, rows: npt.NDArray[np.int64], samples: int) -> Scaled:
        """Run MC dropout: the stochastic passes of an origin as one batch (Gal and Ghahramani, ICML 2016).

        Parameters
        ----------
        matrix, rows
            As in :meth:`predict`.
        samples
            Passes for each origin.

        Returns
        -------
        ndarray, shape (n, samples, horizons), float32
            Scaled targets. Dropout is on; batch normalisation is in inference mode and does not change.
        """
        shared = tf.constant(matrix)
        passes = []
        with self._lock, without_gradients():
            for row in rows:
                # Each part draws a few times; begun so far apart, no two of them draw the same.
                for drawn, part in _parts(np.full(samples, row)):
                    passes.append(np.asarray(self._sample(shared, part, tf.constant(drawn, tf.uint32))))
        return np.concatenate(passes).reshape(len(rows), samples, -1)


def _parts(rows: npt.NDArray[np.int64]) -> Iterator[tuple[int, tf.Tensor]]:
    """Cut many windows into batches, so that the memory of gathered ones stays bounded; yield each with its start."""
    for start in range(0, len(rows), LARGEST_BATCH):
        yield start, tf.constant(rows[start : start + LARGEST_BATCH], dtype=tf.int64)
