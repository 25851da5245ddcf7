"""Training: windows are gathered batch by batch from one scaled matrix, never copied in bulk."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import keras
import numpy as np
import numpy.typing as npt
import pandas as pd
import tensorflow as tf
from tqdm import tqdm

from forecastlib.config import TrainConfig
from forecastlib.errors import ConfigError, ForecastError, NotFittedError
from forecastlib.models.lstm.architecture import output_name
from forecastlib.samples.scaling import ALIGNMENT, Scaling
from forecastlib.samples.windows import Windows

VALIDATION_BATCH = 128


@dataclass(frozen=True, eq=False)
class TrainingData:
    """Scaled samples of one set, as training and inference read them.

    Attributes
    ----------
    matrix : ndarray, shape (rows, features), float32
        Scaled feature rows, shared by all sets.
    rows : ndarray of int64, shape (n,)
        The row of each window's origin.
    targets : dict from horizon to ndarray, shape (n,), float32
        Scaled targets, keyed by horizon so that their order cannot go wrong.
    lookback : int
        Rows in a window.
    """

    matrix: npt.NDArray[np.float32]
    rows: npt.NDArray[np.int64]
    targets: dict[int, npt.NDArray[np.float32]]
    lookback: int

    @classmethod
    def of(cls, windows: Windows, scaling: Scaling, matrix: npt.NDArray[np.float32]) -> Self:
        """Take the samples of some windows.

        Parameters
        ----------
        windows
            One set.
        scaling
            Fitted; scales their targets.
        matrix
            ``scaling.features(windows.matrix)``, computed once for all sets.
        """
        scaled = scaling.targets(windows.y)
        targets = {h: scaled[:, i] for i, h in enumerate(windows.config.horizons)}
        return cls(matrix, windows.rows, targets, windows.config.lookback)

    def batches(self, batch_size: int) -> tf.data.Dataset:
        """Return batches of (windows, targets keyed by output name) in order, gathered on the fly."""
        return self._gathered(tf.data.Dataset.range(len(self.rows)).batch(batch_size))

    def shuffled_batches(self, batch_size: int, seed: int) -> tf.data.Dataset:
        """Return batches without end, :meth:`steps` of them an epoch, in an order that is drawn anew in every epoch.

        An incomplete last batch is left out: its few windows come in another epoch, and no second batch shape has to be
        compiled. The order depends on ``seed`` and the epoch alone, not on TensorFlow's global seed.
        """
        count, size = len(self.rows), self._batch(batch_size)
        kept = count // size * size

        def epoch(number: tf.Tensor) -> tf.data.Dataset:
            order = order_of_epoch(count, seed, number)
            return tf.data.Dataset.from_tensor_slices(tf.reshape(order[:kept], (-1, size)))

        return self._gathered(tf.data.Dataset.counter().flat_map(epoch))

    def steps(self, batch_size: int) -> int:
        """Count the complete batches."""
        return len(self.rows) // self._batch(batch_size)

    def _batch(self, wanted: int) -> int:
        return min(wanted, len(self.rows))

    def _gathered(self, positions: tf.data.Dataset) -> tf.data.Dataset:
        matrix, rows = as_tensor(self.matrix), tf.constant(self.rows)
        span = tf.range(-self.lookback + 1, 1, dtype=tf.int64)
        named = {output_name(h): tf.constant(values[:, None]) for h, values in self.targets.items()}

        def gather(at: tf.Tensor) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
            windows = tf.gather(matrix, tf.gather(rows, at)[:, None] + span)
            return windows, {name: tf.gather(values, at) for name, values in named.items()}

        options = tf.data.Options()
        # Nothing is left to tune, and an iterator may end only when the thread that tunes wakes up, which sleeps longer
        # and longer, up to a minute.
        options.autotune.enabled = False
        return positions.map(gather).prefetch(1).with_options(options)


def as_tensor(matrix: npt.NDArray[np.float32]) -> Any:
    """Return a tensor of a matrix that nobody changes any more; where TensorFlow can, it shares the memory."""
    if matrix.ctypes.data % ALIGNMENT or not matrix.flags.c_contiguous or not matrix.flags.writeable:
        return tf.constant(matrix)
    return tf.experimental.dlpack.from_dlpack(matrix.__dlpack__())


def order_of_epoch(count: int, seed: int, epoch: Any) -> Any:
    """Return the positions of all windows in the order of an epoch, counted from 0: a tensor of int64, (count,)."""
    return tf.random.experimental.stateless_shuffle(tf.range(count, dtype=tf.int64), seed=[seed, epoch])


def fit_network(
    network: keras.Model,
    train: TrainingData,
    validation: TrainingData,
    config: TrainConfig,
    *,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    progress: bool = True,
) -> pd.DataFrame:
    """Train a compiled network, and leave it with the weights of its best epoch.

    Stops when the validation loss has not improved for ``patience`` epochs, lowers the learning rate on the way, and
    stops at once when a loss is NaN.

    Parameters
    ----------
    network
        A compiled network of :func:`forecastlib.models.lstm.build_network`.
    train, validation
        Scaled samples.
    config
        Epochs, batch size, patience, seed.
    callbacks
        Further Keras callbacks.
    progress
        Whether to show a progress bar, on standard error.

    Returns
    -------
    DataFrame
        One row an epoch (index ``epoch``, from 1), one column a loss or metric, those of the validation set
        beginning with ``val_``.

    Raises
    ------
    NotFittedError
        If the network is not compiled.
    ConfigError
        If the targets do not belong to the outputs of the network, or the windows not to its input.
    ForecastError
        If a loss became NaN.
    """
    require_fitting(network, train, validation)
    history = network.fit(
        train.shuffled_batches(config.batch_size, config.seed),
        steps_per_epoch=train.steps(config.batch_size),
        validation_data=validation.batches(VALIDATION_BATCH),
        epochs=config.epochs,
        shuffle=False,  # the dataset shuffles by itself
        callbacks=[*stopping(config), _Progress(config.epochs, shown=progress), *callbacks],
        verbose=0,
    )
    return history_of(history.history, network, config)


def require_fitting(network: keras.Model, train: TrainingData, validation: TrainingData) -> None:
    """Refuse a network that is not compiled, and samples that do not belong to it."""
    if not network.compiled:
        raise NotFittedError("the network is not compiled yet; call compile_network(network, horizons, train) first")
    wanted = sorted(network.output_names)
    for data in (train, validation):
        given = sorted(output_name(h) for h in data.targets)
        if given != wanted:
            raise ConfigError(f"expected targets for the outputs {wanted}; got {given}")
        window = (data.lookback, data.matrix.shape[1])
        if window != tuple(network.input_shape[1:]):
            raise ConfigError(
                f"expected windows of shape {tuple(network.input_shape[1:])} (lookback, features); got {window}"
            )


def stopping(config: TrainConfig) -> list[keras.callbacks.Callback]:
    """Return the callbacks that end a training, restore its best weights, and lower the learning rate before."""
    watch = {"monitor": "val_loss", "mode": "min"}
    return [
        keras.callbacks.EarlyStopping(patience=config.patience, restore_best_weights=True, **watch),
        keras.callbacks.ReduceLROnPlateau(patience=config.reduce_patience, factor=config.reduce_factor, **watch),
        keras.callbacks.TerminateOnNaN(),
    ]


def history_of(logged: Mapping[str, Sequence[float]], network: keras.Model, config: TrainConfig) -> pd.DataFrame:
    """Return what Keras' history has logged as a table, one row an epoch, and refuse a training that has diverged."""
    losses = _named(pd.DataFrame(logged), sorted(network.output_names))
    losses.index = pd.RangeIndex(1, len(losses) + 1, name="epoch")
    diverged = losses.index[~np.isfinite(losses[["loss", "val_loss"]].to_numpy()).all(axis=1)]
    if len(diverged):
        raise ForecastError(
            f"the loss became NaN or infinite in epoch {diverged[0]}; lower learning_rate (now "
            f"{config.learning_rate}) or look at the scaled features for extreme values"
        )
    return losses


def _named(losses: pd.DataFrame, outputs: list[str]) -> pd.DataFrame:
    """Name the losses of a single output as those of several are: Keras leaves its name out."""
    if len(outputs) > 1 or "mae" not in losses:
        return losses
    (output,) = outputs
    parts = {f"{part}{score}": f"{part}{output}_{score}" for part in ("", "val_") for score in ("loss", "mae")}
    named = {new: losses[old] for old, new in parts.items()}
    return losses.drop(columns=["mae", "val_mae"]).assign(**named)


class _Progress(keras.callbacks.Callback):  # type: ignore[misc] # Keras ships no types
    """A bar over epochs, with the losses beside it."""

    def __init__(self, epochs: int, *, shown: bool) -> None:
        super().__init__()
        self._bar = tqdm(total=epochs, desc="training", unit="epoch", disable=not shown, file=sys.stderr, mininterval=1)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        losses = {name: f"{value:.4f}" for name, value in (logs or {}).items() if name in {"loss", "val_loss"}}
        self._bar.set_postfix(losses, refresh=False)
        self._bar.update()

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        self._bar.close()
