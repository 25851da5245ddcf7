"""``keras.layers.LSTM`` with a faster implementation for CPUs.

Keras runs the cell step by step, with eight small matrix products per step, and differentiates each of them.
:class:`FastLSTM` computes the same function and its gradient in :mod:`.kernels`:

- Dropout masks are constant over time, and the four gates of a step are a single product of inputs and state.
- The gradient is written by hand. The backward loop computes the gradients of the gates; those of the kernels follow as
  products over all steps.
- Rows of a batch are independent, so the batch is split into as many parts as TensorFlow has threads.

Gates are in the order of Keras: input, forget, candidate, output. The equations are those of Gers, Schmidhuber and
Cummins (2000), *Learning to Forget*. The dropout is that of Gal and Ghahramani (2016), *A Theoretically Grounded
Application of Dropout in Recurrent Neural Networks*, with separate masks for each gate.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any

import keras
import tensorflow as tf

# TensorFlow has no public way to ask whether the function being traced is compiled by XLA, and `model.compile(...,
# jit_compile=True)` does not reach the layers. XLA cannot call the kernels, so without this question a model of a user
# that is compiled that way would fail instead of falling back to the implementation of Keras.
from tensorflow.python.ops.control_flow_util import GraphOrParentsInXlaContext

from forecastlib.models.lstm import kernels
from forecastlib.models.lstm.kernels import GATES, LANES

Tensor = Any  # TensorFlow ships no types.

MAX_PARTS = 4
"""Maximum number of parts of a batch whose size is not known when the graph is traced."""

_needs_gradient = ContextVar("needs_gradient", default=True)


@contextmanager
def no_gradient() -> Iterator[None]:
    """Disable gradients of :class:`FastLSTM`, for inference.

    Applies to eager calls and to functions that are traced inside the context. Nothing is saved for a backward pass,
    which takes less memory. It also prevents a leak: TensorFlow registers the gradient of every traced
    ``tf.custom_gradient`` for the lifetime of the process, and the gradient refers to the graph. A service that loads
    one model after another would keep all of them.
    """
    token = _needs_gradient.set(False)
    try:
        yield
    finally:
        _needs_gradient.reset(token)


@keras.saving.register_keras_serializable(package="forecastlib")
class FastLSTM(keras.layers.LSTM):  # type: ignore[misc] # Keras ships no types
    """``keras.layers.LSTM``, several times as fast to train on a CPU.

    Arguments, weights (``kernel``, ``recurrent_kernel``, ``bias``), states and configuration are those of
    ``keras.layers.LSTM``, so weights can be exchanged with ``get_weights`` and ``set_weights``. Dropout masks have the
    same distribution and depend on the seed only, but all gates are drawn at once, so the values differ.

    The fast implementation is used if ``activation="tanh"``, ``recurrent_activation="sigmoid"``, ``unroll=False``, the
    layer computes in float32, and no time step is masked. Everything else falls back to Keras, as does what Keras can
    delegate to cuDNN (no recurrent dropout, ``use_cudnn="auto"``, and a GPU) and what XLA compiles
    (``jit_compile=True``). ``use_bias=False``, ``go_backwards``, ``stateful``, ``return_state`` and an initial state
    are supported by the fast implementation.

    Notes
    -----
    Only first-order gradients are available; the gradient of a gradient raises ``NotImplementedError``.

    Loading a saved model requires ``import forecastlib.models.lstm``. To load or export a model without this library,
    convert it with ``with_lstm_class(model, keras.layers.LSTM)``; :func:`with_lstm_class` also converts it back.

    Examples
    --------
    >>> layer = FastLSTM(50, return_sequences=True, dropout=0.2, recurrent_dropout=0.2)
    >>> layer(tf.zeros((32, 60, 152)), training=True).shape
    TensorShape([32, 60, 50])
    """

    def inner_loop(self, sequences: Tensor, initial_state: list[Tensor], mask: Tensor, training: bool = False) -> Any:
        """Run all steps. Called by Keras after preparing the states and before collecting the outputs.

        Parameters
        ----------
        sequences
            Shape (batch, steps, features).
        initial_state
            Hidden state and carry, each (batch, units).
        mask
            Time steps to skip, or None.
        training
            Whether dropout is on.

        Returns
        -------
        tuple
            Last output (batch, units), all outputs (batch, steps, units), and the last two states.
        """
        cell = self.cell
        if mask is not None or not self._uses_kernels():
            cell.get_dropout_mask(sequences[:, 0, :])
            cell.get_recurrent_dropout_mask(initial_state[0])
            return super().inner_loop(sequences, initial_state, mask, training=training)
        masks = self.draw_masks(tf.shape(sequences)[0], sequences.shape[2], training=training)
        inputs = tf.reverse(sequences, [1]) if self.go_backwards else tf.convert_to_tensor(sequences)
        kernel, recurrent = tf.convert_to_tensor(cell.kernel), tf.convert_to_tensor(cell.recurrent_kernel)
        bias = tf.convert_to_tensor(cell.bias) if cell.use_bias else tf.zeros(GATES * cell.units)
        outputs, carry = _run_sequences((inputs, kernel, recurrent, bias, *initial_state), masks)
        last = outputs[:, -1]
        return last, outputs, [last, carry]

    def _maybe_config_dropout_masks(self, *_: Any) -> None:
        """Do nothing: :meth:`inner_loop` draws the masks that it needs.

        Keras calls this before :meth:`inner_loop` and has no public hook for it. Drawing its own masks as well would
        advance the seed generator and add operations to every step.
        """

    def draw_masks(self, batch: Tensor, features: int, *, training: bool) -> list[Tensor]:
        """Draw dropout masks, by gate, for all steps.

        Parameters
        ----------
        batch, features
            Number of rows and of input features.
        training
            Whether dropout is on.

        Returns
        -------
        list of tensors
            Factors of inputs (batch, 4, features) and hidden state (batch, 4, units), of shape (0, 0, 0) where nothing
            is dropped.
        """
        cell = self.cell
        input_masks = getattr(cell, "dropout_mask_count", 1)  # without recurrent dropout Keras uses one for all gates
        masks = []
        for width, rate, count in ((features, cell.dropout, input_masks), (cell.units, cell.recurrent_dropout, GATES)):
            if not (training and 0 < rate < 1):
                masks.append(tf.zeros((0, 0, 0)))
                continue
            drawn = keras.random.dropout(tf.ones((batch, count, width)), rate, seed=cell.seed_generator)
            masks.append(drawn if count == GATES else tf.tile(drawn, (1, GATES, 1)))
        return masks

    def _uses_kernels(self) -> bool:
        left_to_cudnn = self.use_cudnn is True or (
            self.use_cudnn == "auto" and not self.recurrent_dropout and tf.config.list_logical_devices("GPU")
        )
        return (
            self.activation is keras.activations.tanh
            and self.recurrent_activation is keras.activations.sigmoid
            and self.compute_dtype == "float32"
            and not self.unroll
            and not left_to_cudnn
            and not GraphOrParentsInXlaContext(tf.compat.v1.get_default_graph())
        )


def with_lstm_class(model: keras.Model, lstm_class: type[keras.layers.LSTM]) -> keras.Model:
    """Return a copy of a model with another class of LSTM layers and the same weights.

    Parameters
    ----------
    model
        A built model. LSTM layers inside other layers (``Bidirectional``) are not converted.
    lstm_class
        ``keras.layers.LSTM`` for a model that loads without this library, :class:`FastLSTM` to convert it back.

    Returns
    -------
    keras.Model
        A copy that is not compiled and shares nothing with ``model``.
    """

    def copy(layer: keras.layers.Layer) -> keras.layers.Layer:
        kind = lstm_class if isinstance(layer, keras.layers.LSTM) else type(layer)
        return kind.from_config(layer.get_config())

    converted = keras.models.clone_model(model, clone_function=copy)
    converted.set_weights(model.get_weights())
    return converted


def _run_sequences(tensors: tuple[Tensor, ...], masks: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Run the kernels on the parts of a batch, with their hand-written gradient.

    Parameters
    ----------
    tensors
        Inputs (batch, steps, features), kernel (features, 4 x units), recurrent kernel (units, 4 x units), bias
        (4 x units), hidden state and carry (batch, units).
    masks
        See :meth:`FastLSTM.draw_masks`.

    Returns
    -------
    tuple of tensors
        Outputs (batch, steps, units) and last carry (batch, units).
    """
    parts = _split_batch(tensors[0])
    part_masks = [[mask[rows] for mask in masks] for rows in parts]
    needs_gradient = _needs_gradient.get()
    run = partial(kernels.forward, for_backward=needs_gradient)

    def forward(*arguments: Tensor) -> Any:
        inputs, kernel, recurrent, bias, hidden, carry = map(tf.stop_gradient, arguments)
        results = [
            _call(run, 5, inputs[rows], kernel, recurrent, bias, hidden[rows], carry[rows], *dropped)
            for rows, dropped in zip(parts, part_masks, strict=True)
        ]

        def backward(*d_results: Tensor) -> list[Tensor]:
            d_outputs, d_carry = map(tf.stop_gradient, d_results)
            d_parts = [
                _call(kernels.backward, 6, d_outputs[rows], d_carry[rows], kernel, recurrent, *dropped, *saved)
                for rows, dropped, (_, _, *saved) in zip(parts, part_masks, results, strict=True)
            ]
            # A separate call, so that graphs omit it if nobody asks for the gradient of the inputs.
            d_inputs = [
                _call(kernels.input_gradient, 1, d_gates, kernel, recurrent, dropped[0], inputs[rows])[0]
                for rows, dropped, (d_gates, *_) in zip(parts, part_masks, d_parts, strict=True)
            ]
            _, *gradients = zip(*d_parts, strict=True)
            joined = [_concat(d_inputs), *map(tf.add_n, gradients[:3]), *map(_concat, gradients[3:])]
            return [tf.custom_gradient(_first_order_only)(d, *d_results, *arguments) for d in joined]

        outputs, carries, *_ = zip(*results, strict=True)
        return (_concat(outputs), _concat(carries)), backward

    outputs, carry = tf.custom_gradient(forward)(*tensors) if needs_gradient else forward(*tensors)[0]
    batch, steps, _ = tensors[0].shape
    units = tensors[2].shape[0]
    outputs.set_shape((batch, steps, units))  # lost by calling a Python function
    carry.set_shape((batch, units))
    return outputs, carry


def _call(function: Callable[..., Any], n_results: int, *arguments: Tensor) -> list[Tensor]:
    """Call a function of arrays. It is stateless: graphs may omit the call, or share the results of equal calls."""
    results = tf.numpy_function(function, arguments, [tf.float32] * n_results, stateful=False)
    return list(tf.nest.flatten(results))  # a single result of an eager call is not in a list


def _first_order_only(gradient: Tensor, *sources: Tensor) -> Any:
    """Return a gradient that cannot be differentiated with respect to its sources."""

    def fail(*_: Tensor) -> Any:
        raise NotImplementedError(
            "FastLSTM supports gradients of the first order only; for a gradient of a gradient use keras.layers.LSTM, "
            "or forecastlib.models.lstm.with_lstm_class(model, keras.layers.LSTM)"
        )

    return tf.identity(gradient), fail


def _split_batch(inputs: Tensor) -> list[slice]:
    """Split a batch into one part per thread, each a multiple of LANES rows.

    Examples
    --------
    With two threads, 32 rows become 0-15 and 16-31, 100 rows become 0-47 and 48-99, and 16 rows are not split.
    """
    threads = tf.config.threading.get_inter_op_parallelism_threads() or int(os.environ.get("TF_NUM_INTEROP_THREADS", 0))
    threads = int(threads or os.cpu_count() or 1)
    rows = inputs.shape[0]
    if rows is None:
        rows, count = tf.shape(inputs)[0], min(threads, MAX_PARTS)
        blocks = (rows + LANES - 1) // LANES
    else:
        blocks = (rows + LANES - 1) // LANES
        count = max(min(threads, blocks), 1)
    bounds = [LANES * (blocks * part // count) for part in range(1, count)]
    return [slice(start, end) for start, end in zip([None, *bounds], [*bounds, None], strict=True)]


def _concat(parts: Any) -> Tensor:
    return parts[0] if len(parts) == 1 else tf.concat(parts, 0)
