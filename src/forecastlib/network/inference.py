"""Inference: compiled calls of a trained network, deterministic ones and MC dropout."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from forecastlib.network.architecture import output_name, stochastic_twin
from forecastlib.network.recurrent import without_gradients

Scaled = npt.NDArray[np.float32]

LARGEST_BATCH = 1024
"""Windows that are computed at once: 37 MB at the default lookback and number of features."""


class NetworkCaller:
    """A trained network behind two compiled functions that are traced once each, whatever the number of origins.

    Safe for use by several threads, which take turns: every call moves the state of the random generators, as Keras
    draws the masks of a recurrent layer even where it does not use them.

    Parameters
    ----------
    network
        A network of :func:`forecastlib.network.build_network`, with weights.
    horizons
        The order of the columns that are returned.
    seed
        Seed of the dropout masks. All origins are sampled with the same masks, so that an origin always gets the same
        answer, alone or among others.
    """

    def __init__(self, network: keras.Model, horizons: Sequence[int], *, seed: int = 0) -> None:
        self._twin = stochastic_twin(network)
        drawing = [getattr(layer, "cell", layer) for layer in network.layers]  # an LSTM draws its masks in its cell
        self._generators = [layer.seed_generator for layer in drawing if hasattr(layer, "seed_generator")]
        # A generator counts its draws up in the second word of its state: the first one must tell generators apart.
        self._seeds = np.random.SeedSequence(seed).generate_state(len(self._generators))
        self._lock = threading.Lock()
        names = [output_name(h) for h in horizons]
        _, lookback, features = network.input_shape
        span = tf.range(-lookback + 1, 1, dtype=tf.int64)
        signature = [tf.TensorSpec((None, features), tf.float32), tf.TensorSpec((None,), tf.int64)]

        def call(model: keras.Model, matrix: tf.Tensor, rows: tf.Tensor, **options: bool) -> tf.Tensor:
            outputs = model(tf.gather(matrix, rows[:, None] + span), **options)
            return tf.concat([outputs[name] for name in names], axis=1)

        compiled = tf.function(input_signature=signature, autograph=False)
        self._predict = compiled(lambda m, rows: call(network, m, rows, training=False))
        self._sample = compiled(lambda m, rows: call(self._twin, m, rows))

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
        with self._lock, without_gradients():
            answers = [np.asarray(self._predict(shared, part)) for part in _parts(rows)]
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
                for generator, seed in zip(self._generators, self._seeds, strict=True):
                    generator.state.assign([int(seed), 0])
                passes += [np.asarray(self._sample(shared, part)) for part in _parts(np.full(samples, row))]
        return np.concatenate(passes).reshape(len(rows), samples, -1)


def _parts(rows: npt.NDArray[np.int64]) -> Iterator[tf.Tensor]:
    """Cut many windows into batches, so that the memory of gathered windows stays bounded."""
    for start in range(0, len(rows), LARGEST_BATCH):
        yield tf.constant(rows[start : start + LARGEST_BATCH], dtype=tf.int64)
