"""Training networks of one shape together: their weights stand side by side in one matrix, and one graph trains all.

What a step costs beyond arithmetic, the starting of operations, is paid once for all of them, and their recurrent
layers run side by side. Each network keeps its own first weights, order of windows, dropout masks, learning rate and
end of training, as if :func:`forecastlib.models.lstm.fit_network` had trained it alone.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import pandas as pd
import tensorflow as tf
from tqdm import tqdm

from forecastlib.config import TrainConfig
from forecastlib.errors import ConfigError
from forecastlib.models.lstm.architecture import output_name
from forecastlib.models.lstm.recurrent import run_sequences, threads
from forecastlib.models.lstm.training import (
    VALIDATION_BATCH,
    TrainingData,
    as_tensor,
    history_of,
    order_of_epoch,
    require_fitting,
    stopping,
)

Tensor = Any  # TensorFlow ships no types.
Weights = dict[str, list[Tensor]]


def fit_together(
    networks: Sequence[keras.Model],
    train: TrainingData,
    validation: TrainingData,
    configs: Sequence[TrainConfig],
    *,
    progress: bool = True,
) -> list[pd.DataFrame]:
    """Train networks that differ by their seed alone, and leave each with the weights of its best epoch.

    Parameters
    ----------
    networks
        Compiled networks of :func:`forecastlib.models.lstm.build_network`, all of one shape.
    train, validation
        Scaled samples, the same for all.
    configs
        How each is trained; they may differ by their seed.
    progress
        Whether to show a progress bar, on standard error.

    Returns
    -------
    list of DataFrame
        The history of each network, as :func:`forecastlib.models.lstm.fit_network` returns it: within rounding, what that
        would have led to.

    Raises
    ------
    NotFittedError
        If a network is not compiled.
    ConfigError
        If the networks differ in shape, the configurations in more than their seed, or the samples do not fit.
    ForecastError
        If a loss became NaN.
    """
    shapes = {tuple(tuple(weight.shape) for weight in network.weights) for network in networks}
    ways = {config.model_copy(update={"seed": 0}) for config in configs}
    if len(networks) != len(configs) or len(shapes) != 1 or len(ways) != 1:
        raise ConfigError(
            "expected networks of one shape, and for each a configuration that differs by its seed alone; got "
            f"{len(networks)} networks of {len(shapes)} shapes, and {len(configs)} configurations of {len(ways)} kinds"
        )
    for network in networks:
        require_fitting(network, train, validation)
    config = configs[0]
    logged = [keras.callbacks.History() for _ in networks]  # after what stops training, which adds the learning rate
    callbacks = [
        keras.callbacks.CallbackList([*stopping(config), history], model=network)
        for history, network in zip(logged, networks, strict=True)
    ]
    for network, called in zip(networks, callbacks, strict=True):
        network.stop_training = False
        called.on_train_begin()
    ensemble = Ensemble(networks, train, validation, config)
    with tqdm(total=config.epochs, desc=f"training {len(networks)} seeds", unit="epoch", disable=not progress,
              file=sys.stderr, mininterval=1) as bar:  # fmt: skip
        for epoch in range(config.epochs):
            active = np.array([not network.stop_training for network in networks])
            if not active.any():
                break
            orders = [order_of_epoch(len(train.rows), one.seed, epoch) for one in configs]
            logs = ensemble.run_epoch(np.stack(orders), active)
            for number in np.flatnonzero(active).tolist():
                callbacks[number].on_epoch_end(epoch, logs[number])
                if not np.isfinite([logs[number]["loss"], logs[number]["val_loss"]]).all():
                    networks[number].stop_training = True
            bar.update()
    for called in callbacks:
        called.on_train_end()
    return [history_of(history.history, network, config) for history, network in zip(logged, networks, strict=True)]


class Ensemble:
    """The weights of several networks, a row each, and what trains them.

    Parameters
    ----------
    networks
        Networks of one shape, compiled.
    train, validation
        Scaled samples, the same for all.
    config
        Batch size and loss weights.
    """

    def __init__(
        self, networks: Sequence[keras.Model], train: TrainingData, validation: TrainingData, config: TrainConfig
    ) -> None:
        # Given back at once: an allocator that adapts, as glibc's does, learns that as much comes and goes with a step,
        # and keeps it. It would return it to the system each time, which clears each page before it gives it out anew.
        np.empty(31 << 20, dtype=np.uint8)
        self._networks = networks
        self._horizons = sorted(train.targets)
        self._importance = np.array(config.weights_for(tuple(self._horizons)), np.float32)
        self._batch = min(config.batch_size, len(train.rows))
        # As many run side by side as there are threads; what is left over at the end is shared among all threads.
        self._whole = len(networks) // threads() * threads()
        self._weights = tf.Variable(np.stack([_flat(network.trainable_weights) for network in networks]))
        self._moments = [tf.Variable(tf.zeros_like(self._weights)) for _ in range(2)]
        self._statistics = tf.Variable(np.stack([_flat(network.non_trainable_weights) for network in networks]))
        self._steps = tf.Variable(0.0)
        self._train, self._validation = (self._gathering(data) for data in (train, validation))
        self._lengths = len(train.rows) // self._batch, len(validation.rows)
        self._trained = tf.function(self._train_epoch, autograph=False)
        self._judged = tf.function(self._judge, autograph=False, reduce_retracing=True)

    def run_epoch(self, orders: npt.NDArray[np.int64], active: npt.NDArray[np.bool_]) -> list[dict[str, float]]:
        """Train for an epoch and validate; leave active networks with their new weights, and return all their losses.

        Parameters
        ----------
        orders
            The windows of each network in the order of this epoch, shape (networks, windows).
        active
            Which networks train; the others cost next to nothing.
        """
        steps, count = self._lengths
        positions = orders[:, : steps * self._batch].reshape(len(orders), steps, self._batch)
        rates = np.array([float(network.optimizer.learning_rate) for network in self._networks], np.float32)
        losses = self._trained(positions, np.where(active, rates, 0.0).astype(np.float32), active).numpy() / steps
        judged = np.zeros_like(losses)
        for start in range(0, count, VALIDATION_BATCH):
            at = np.arange(start, min(start + VALIDATION_BATCH, count))
            judged += self._judged(tf.constant(at), active).numpy() * (len(at) / count)
        for number in np.flatnonzero(active).tolist():
            network = self._networks[number]
            _assign(network.trainable_weights, self._weights[number].numpy())
            _assign(network.non_trainable_weights, self._statistics[number].numpy())
        return [self._named(a, "") | self._named(b, "val_") for a, b in zip(losses, judged, strict=True)]

    def _named(self, scores: npt.NDArray[np.float32], prefix: str) -> dict[str, float]:
        squared, absolute = np.split(scores.astype(np.float64), 2)
        named = {f"{prefix}loss": float(squared @ self._importance)}
        for h, mse, mae in zip(self._horizons, squared, absolute, strict=True):
            named |= {f"{prefix}{output_name(h)}_loss": float(mse), f"{prefix}{output_name(h)}_mae": float(mae)}
        return named

    def _gathering(self, data: TrainingData) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
        """Return what gathers windows and targets at some positions."""
        matrix, rows = as_tensor(data.matrix), tf.constant(data.rows)
        span = tf.range(-data.lookback + 1, 1, dtype=tf.int64)
        targets = tf.constant(np.stack([data.targets[h] for h in self._horizons], axis=1))
        return lambda at: (tf.gather(matrix, tf.gather(rows, at)[..., None] + span), tf.gather(targets, at))

    def _train_epoch(self, positions: Tensor, rates: Tensor, active: Tensor) -> Tensor:
        """Train on every batch; return the sums of the errors of all batches, (networks, 2 x horizons)."""
        steps = tf.shape(positions)[1]

        def step(number: Tensor, sums: Tensor) -> tuple[Tensor, Tensor]:
            windows, targets = self._train(positions[:, number])
            with tf.GradientTape() as tape:
                answers, statistics = self._answers(windows, active, training=True)
                errors = answers - targets
                squared = tf.reduce_mean(errors * errors, 1)
                loss = tf.reduce_sum(squared * self._importance)
            self._update(tape.gradient(loss, self._weights), rates)
            self._statistics.assign(statistics)
            return number + 1, sums + tf.concat([squared, tf.reduce_mean(tf.abs(errors), 1)], 1)

        sums = tf.zeros((len(self._networks), 2 * len(self._horizons)))
        return tf.while_loop(lambda number, _: number < steps, step, (0, sums), parallel_iterations=1)[1]

    def _judge(self, at: Tensor, active: Tensor) -> Tensor:
        """Return the mean errors of every network at some positions of the validation set."""
        windows, targets = self._validation(at)
        every = tf.broadcast_to(windows, (len(self._networks), *tf.unstack(tf.shape(windows))))
        errors = self._answers(every, active, training=False)[0] - targets
        return tf.concat([tf.reduce_mean(errors * errors, 1), tf.reduce_mean(tf.abs(errors), 1)], 1)

    def _update(self, gradient: Tensor, rates: Tensor) -> None:
        """Take a step of Adam, each network at its own rate."""
        (mean, square), adam = self._moments, self._networks[0].optimizer
        self._steps.assign_add(1.0)
        mean.assign_add((gradient - mean) * (1.0 - adam.beta_1))
        square.assign_add((gradient * gradient - square) * (1.0 - adam.beta_2))
        corrected = rates * tf.sqrt(1.0 - tf.pow(adam.beta_2, self._steps)) / (1.0 - tf.pow(adam.beta_1, self._steps))
        self._weights.assign_sub(corrected[:, None] * mean / (tf.sqrt(square) + adam.epsilon))

    def _answers(self, x: Tensor, active: Tensor, *, training: bool) -> tuple[Tensor, Tensor]:
        """Run all networks, on windows (networks, batch, lookback, features), as their own layers would.

        Returns
        -------
        tuple of tensors
            Scaled targets (networks, batch, horizons), and the statistics of batch normalisation after it.
        """
        weights = self._by_layer(self._weights, "trainable_weights")
        moving = self._by_layer(self._statistics, "non_trainable_weights")
        moved: list[Tensor] = []
        outputs: dict[str, Tensor] = {}
        trunk = x
        for layer in self._networks[0].layers[1:]:
            name = layer.name
            if isinstance(layer, keras.layers.LSTM):
                trunk = self._recurrent(name, trunk, weights[name], active, training=training)
            elif isinstance(layer, keras.layers.BatchNormalization):
                trunk, new = _normalized(layer, trunk, weights[name], moving[name], training=training)
                moved += new
            elif name.startswith(("dense_common_", "dropout_common_")):
                trunk = self._dense_or_dropout(layer, trunk, weights, training=training)
            else:  # a branch: its first layer takes what the trunk has come to
                branch = name.removeprefix("dense_").removeprefix("dropout_").removesuffix("_branch")
                branch = branch.removeprefix("price_prediction_")
                outputs[branch] = self._dense_or_dropout(layer, outputs.get(branch, trunk), weights, training=training)
        answers = tf.concat([outputs[f"{h}d"] for h in self._horizons], axis=2)
        return answers, tf.concat([tf.reshape(one, (len(self._networks), -1)) for one in moved], 1)

    def _dense_or_dropout(self, layer: Any, x: Tensor, weights: Weights, *, training: bool) -> Tensor:
        if isinstance(layer, keras.layers.Dense):
            kernel, bias = weights[layer.name]
            return layer.activation(x @ kernel + bias[:, None])
        own = [network.get_layer(layer.name) for network in self._networks]  # for the masks of each
        return tf.stack([one(x[number], training=training) for number, one in enumerate(own)])

    def _recurrent(self, name: str, x: Tensor, weights: list[Tensor], active: Tensor, *, training: bool) -> Tensor:
        """Run an LSTM layer of every network; of one that no longer trains, none of the batch."""
        batch, results = tf.shape(x)[1], []
        members = zip(self._networks, *(tf.unstack(one) for one in (x, *weights)), strict=True)
        for number, (network, own, kernel, recurrent, bias) in enumerate(members):
            layer = network.get_layer(name)
            rows = tf.where(active[number], batch, 0)
            state = tf.zeros((rows, layer.units))
            masks = layer.draw_masks(rows, x.shape[3], training=training)
            outputs, _ = run_sequences(
                own[:rows], kernel, recurrent, bias, state, state, *masks, parts=1 if number < self._whole else None
            )
            kept = outputs if layer.return_sequences else outputs[:, -1]
            results.append(tf.pad(kept, ((0, batch - rows), *((0, 0),) * (kept.shape.rank - 1))))
        return tf.stack(results)

    def _by_layer(self, matrix: Tensor, kind: str) -> Weights:
        """Cut the rows of a matrix into the weights of each layer, (networks, *shape)."""
        layers = self._networks[0].layers
        shapes = [(layer.name, tuple(weight.shape)) for layer in layers for weight in getattr(layer, kind)]
        parts = tf.split(matrix, [int(np.prod(shape)) for _, shape in shapes], axis=1)
        weights: Weights = {}
        for (name, shape), part in zip(shapes, parts, strict=True):
            weights.setdefault(name, []).append(tf.reshape(part, (len(self._networks), *shape)))
        return weights


def _normalized(
    layer: Any, x: Tensor, weights: list[Tensor], moving: list[Tensor], *, training: bool
) -> tuple[Tensor, list[Tensor]]:
    """Normalise by the batch of each network, or by what has been learnt; return the moved statistics as well."""
    between = [axis for axis in range(1, x.shape.rank - 1)]
    if training:
        statistics = tf.nn.moments(x, between)
        moving = [
            old * layer.momentum + new * (1.0 - layer.momentum) for old, new in zip(moving, statistics, strict=True)
        ]
    else:
        statistics = moving
    (gamma, beta), (mean, variance) = weights, statistics
    gamma, beta, mean, variance = (
        tf.reshape(one, (one.shape[0], *[1] * len(between), one.shape[1])) for one in (gamma, beta, mean, variance)
    )
    return tf.nn.batch_normalization(x, mean, variance, beta, gamma, layer.epsilon), moving


def _flat(weights: Sequence[Any]) -> npt.NDArray[np.float32]:
    return np.concatenate([np.asarray(weight, np.float32).ravel() for weight in weights])


def _assign(weights: Sequence[Any], flat: npt.NDArray[np.float32]) -> None:
    sizes = [int(np.prod(weight.shape)) for weight in weights]
    for weight, values in zip(weights, np.split(flat, np.cumsum(sizes)[:-1]), strict=True):
        weight.assign(values.reshape(weight.shape))
