"""Training: windows are gathered batch by batch from one scaled matrix, never copied in bulk."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self

import keras
import numpy as np
import numpy.typing as npt
import pandas as pd
import tensorflow as tf
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from forecastlib.config import TrainConfig
from forecastlib.errors import ConfigError, ForecastError, NotFittedError
from forecastlib.models.lstm.network import output_name
from forecastlib.samples.scaling import ALIGNMENT
from forecastlib.samples.windows import Windows

VALIDATION_BATCH = 128


@dataclass(frozen=True, eq=False)
class TrainingData:
    """Scaled samples of one set.

    Attributes
    ----------
    matrix : ndarray, shape (rows, features), float32
        Scaled features, shared by all sets.
    rows : ndarray of int64, shape (n,)
        The row of each origin; its window ends there.
    targets : dict from horizon to ndarray, shape (n,), float32
        Scaled targets.
    lookback : int
        Rows per window.
    """

    matrix: npt.NDArray[np.float32]
    rows: npt.NDArray[np.int64]
    targets: dict[int, npt.NDArray[np.float32]]
    lookback: int

    @classmethod
    def of(cls, samples: Windows) -> Self:
        """Take scaled samples of one set.

        Raises
        ------
        ConfigError
            If the samples are not scaled.
        """
        matrix, scaler = samples.require_scaled()
        scaled = scaler.targets(samples.y)
        targets = {h: scaled[:, i] for i, h in enumerate(samples.config.horizons)}
        return cls(matrix, samples.rows, targets, samples.config.lookback)

    def batches(self, batch_size: int) -> tf.data.Dataset:
        """Return batches of (windows, targets keyed by output name), in order."""
        return self._gather(tf.data.Dataset.range(len(self.rows)).batch(batch_size))

    def shuffled_batches(self, batch_size: int, seed: int) -> tf.data.Dataset:
        """Return an infinite dataset of batches, :meth:`steps` per epoch, shuffled anew in each epoch.

        An incomplete last batch is dropped: its few windows appear in other epochs, and no graph is traced for another
        batch size. The order depends on ``seed`` and the epoch only, not on the global seed of TensorFlow.
        """
        count, size = len(self.rows), min(batch_size, len(self.rows))

        def epoch(number: tf.Tensor) -> tf.data.Dataset:
            positions = tf.range(count, dtype=tf.int64)
            order = tf.random.experimental.stateless_shuffle(positions, seed=[seed, number])
            return tf.data.Dataset.from_tensor_slices(tf.reshape(order[: count // size * size], (-1, size)))

        return self._gather(tf.data.Dataset.counter().flat_map(epoch))

    def steps(self, batch_size: int) -> int:
        """Return the number of complete batches."""
        return len(self.rows) // min(batch_size, len(self.rows))

    def _gather(self, positions: tf.data.Dataset) -> tf.data.Dataset:
        matrix, rows = as_tensor(self.matrix), tf.constant(self.rows)
        offsets = tf.range(-self.lookback + 1, 1, dtype=tf.int64)
        targets = {output_name(h): tf.constant(values[:, None]) for h, values in self.targets.items()}

        def gather(batch: tf.Tensor) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
            windows = tf.gather(matrix, tf.gather(rows, batch)[:, None] + offsets)
            return windows, {name: tf.gather(values, batch) for name, values in targets.items()}

        options = tf.data.Options()
        # There is nothing to tune, and the end of an iterator waits for the tuning thread, which sleeps up to a minute.
        options.autotune.enabled = False
        return positions.map(gather).prefetch(1).with_options(options)


def as_tensor(matrix: npt.NDArray[np.float32]) -> Any:
    """Return a matrix as a tensor, sharing the memory if it is aligned; it must not be modified afterwards."""
    if matrix.ctypes.data % ALIGNMENT or not matrix.flags.c_contiguous or not matrix.flags.writeable:
        return tf.constant(matrix)
    return tf.experimental.dlpack.from_dlpack(matrix.__dlpack__())


def fit_network(
    network: keras.Model,
    train: TrainingData,
    validation: TrainingData,
    config: TrainConfig,
    *,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    progress: bool = True,
) -> pd.DataFrame:
    """Train a compiled network, and restore the weights of its best epoch.

    Stops when the validation loss has not improved for ``patience`` epochs, after lowering the learning rate on
    plateaus, or as soon as a loss is NaN.

    Parameters
    ----------
    network
        Compiled by :func:`forecastlib.models.lstm.compile_network`.
    train, validation
        Scaled samples.
    config
        Epochs, batch size, patience, seed.
    callbacks
        Further Keras callbacks.
    progress
        Whether to show a progress bar on standard error, if it is a terminal, or a summary line in a notebook.

    Returns
    -------
    DataFrame
        One row per epoch (index ``epoch``, from 1), one column per loss and metric, those of the validation set with
        the prefix ``val_``.

    Raises
    ------
    NotFittedError
        If the network is not compiled.
    ConfigError
        If the targets do not match the outputs of the network, or the windows do not match its input.
    ForecastError
        If a loss became NaN or infinite.
    """
    if not network.compiled:
        raise NotFittedError("the network is not compiled yet; call compile_network(network, horizons, train) first")
    for data in (train, validation):
        _check_shapes(network, data)
    watch = {"monitor": "val_loss", "mode": "min"}
    stopping = [
        keras.callbacks.EarlyStopping(patience=config.patience, restore_best_weights=True, **watch),
        keras.callbacks.ReduceLROnPlateau(patience=config.reduce_patience, factor=config.reduce_factor, **watch),
        keras.callbacks.TerminateOnNaN(),
    ]
    with _progress_bar(config.epochs, visible=progress) as shown:
        history = network.fit(
            train.shuffled_batches(config.batch_size, config.seed),
            steps_per_epoch=train.steps(config.batch_size),
            validation_data=validation.batches(VALIDATION_BATCH),
            epochs=config.epochs,
            shuffle=False,  # the dataset is shuffled already
            callbacks=[*stopping, *shown, *callbacks],
            verbose=0,
        )
    losses = _with_output_names(pd.DataFrame(history.history), network.output_names)
    losses.index = pd.RangeIndex(1, len(losses) + 1, name="epoch")
    diverged = losses.index[~np.isfinite(losses[["loss", "val_loss"]].to_numpy()).all(axis=1)]
    if len(diverged):
        raise ForecastError(
            f"the loss became NaN or infinite in epoch {diverged[0]}; lower learning_rate (now "
            f"{config.learning_rate}) or check the scaled features for extreme values"
        )
    return losses


def _check_shapes(network: keras.Model, data: TrainingData) -> None:
    expected, names = sorted(network.output_names), sorted(output_name(h) for h in data.targets)
    if names != expected:
        raise ConfigError(f"expected targets for the outputs {expected}; got {names}")
    shape, window = tuple(network.input_shape[1:]), (data.lookback, data.matrix.shape[1])
    if window != shape:
        raise ConfigError(f"expected windows of shape {shape} (lookback, features); got {window}")


def _with_output_names(losses: pd.DataFrame, outputs: Sequence[str]) -> pd.DataFrame:
    """Name the losses of a network with one output like those of several; Keras omits the name of a single output."""
    if len(outputs) > 1 or "mae" not in losses:
        return losses
    (output,) = outputs
    columns = {f"{part}{score}": f"{part}{output}_{score}" for part in ("", "val_") for score in ("loss", "mae")}
    named = {new: losses[old] for old, new in columns.items()}
    return losses.drop(columns=["mae", "val_mae"]).assign(**named)


@contextmanager
def _progress_bar(epochs: int, *, visible: bool) -> Iterator[list[keras.callbacks.Callback]]:
    """Yield the callbacks that show progress in epochs, with the latest losses.

    The bar is live on a terminal. In a notebook, where a live bar would need ipywidgets, it is printed once at the end.
    """
    console = Console(stderr=True)
    if console.is_jupyter:
        console = Console(stderr=True, force_jupyter=False, force_terminal=False, width=100)
    elif not console.is_terminal:
        visible = False
    if not visible:
        yield []
        return
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("epochs {task.fields[losses]}"))
    with Progress(TextColumn("training"), *columns, TimeElapsedColumn(), console=console) as bar:
        task = bar.add_task("training", total=epochs, losses="")

        def update(epoch: int, logs: dict[str, float]) -> None:
            losses = ", ".join(f"{name} {logs[name]:.4f}" for name in ("loss", "val_loss"))
            bar.update(task, advance=1, losses=losses)

        yield [keras.callbacks.LambdaCallback(on_epoch_end=update)]
