"""A layer with weights, options and saving of ``keras.layers.LSTM``, several times as fast to train on a CPU.

Keras runs the cell step by step, eight small matrix products in each, and differentiates every one of them.
:class:`FastLSTM` computes the same function, forwards and backwards, in :mod:`.kernels`:

- Dropout keeps its masks for all steps, and the four gates of a step are one product of inputs and state together.
- The gradient is written by hand. The loop backwards yields the gradients of the gates; those of the kernels follow as
  products over all steps.
- The rows of a batch are independent, so parts of it run side by side, as many as TensorFlow has threads.

Gates stand in the order of Keras: input, forget, candidate, output. The equations are those of Gers, Schmidhuber and
Cummins (2000), *Learning to Forget*; the dropout is that of Gal and Ghahramani (2016), *A Theoretically Grounded
Application of Dropout in Recurrent Neural Networks*, with masks of its own for each gate.
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
from tensorflow.python.ops.control_flow_util import GraphOrParentsInXlaContext

from forecastlib.models.lstm import kernels
from forecastlib.models.lstm.kernels import GATES, LANES, Floats

Tensor = Any  # TensorFlow ships no types.

MOST_PARTS = 4
"""Parts of a batch that run side by side, at most, where the size of the batch is not known beforehand."""

_gradients_wanted = ContextVar("gradients_wanted", default=True)


@contextmanager
def without_gradients() -> Iterator[None]:
    """Let calls keep nothing for a way back: for models that predict.

    TensorFlow remembers the gradient of every function that is traced with one for as long as the process lives, and
    with it the model: a service that loads one model after the other would grow by each of them.

    Holds for what is called eagerly, or traced, inside of it. Gradients do not flow through these calls.
    """
    before = _gradients_wanted.set(False)
    try:
        yield
    finally:
        _gradients_wanted.reset(before)


@keras.saving.register_keras_serializable(package="forecastlib")
class FastLSTM(keras.layers.LSTM):  # type: ignore[misc] # Keras ships no types
    """``keras.layers.LSTM``, several times as fast to train on a CPU.

    Arguments, weights (``kernel``, ``recurrent_kernel``, ``bias``; their shapes and order), states and configuration
    are those of ``keras.layers.LSTM``, so weights move both ways by ``get_weights`` and ``set_weights``. Dropout masks
    have its distribution and follow from the same seed, but are drawn for all gates at once, and so are other ones.

    The fast path is taken when ``activation="tanh"``, ``recurrent_activation="sigmoid"``, ``unroll=False``, the layer
    computes in float32, and no time step is masked. Everything else runs in Keras' own loop; so does what Keras can
    hand to cuDNN (no recurrent dropout, ``use_cudnn="auto"``, and a GPU), and what XLA compiles as a whole
    (``jit_compile=True``). ``use_bias=False``, ``go_backwards``, ``stateful``, ``return_state`` and an initial state
    are fast.

    Notes
    -----
    Gradients of the first order only: a gradient of a gradient raises ``NotImplementedError`` on the fast path.

    A saved model needs ``import forecastlib.models.lstm`` before it is loaded. One that should load without this library,
    or be exported as a graph, is ``with_lstm_class(model, keras.layers.LSTM)``; :func:`with_lstm_class` also makes it
    fast again.

    Examples
    --------
    >>> layer = FastLSTM(50, return_sequences=True, dropout=0.2, recurrent_dropout=0.2)
    >>> layer(tf.zeros((32, 60, 152)), training=True).shape
    TensorShape([32, 60, 50])
    """

    def inner_loop(self, sequences: Tensor, initial_state: list[Tensor], mask: Tensor, training: bool = False) -> Any:
        """Run over all steps; Keras calls this between preparing the states and collecting the outputs.

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
        if mask is not None or not self._runs_fast():
            super()._maybe_config_dropout_masks(cell, sequences[:, 0, :], initial_state)
            return super().inner_loop(sequences, initial_state, mask, training=training)
        masks = self.draw_masks(tf.shape(sequences)[0], sequences.shape[2], training=training)
        inputs = tf.reverse(sequences, [1]) if self.go_backwards else tf.convert_to_tensor(sequences)
        kernel, recurrent = tf.convert_to_tensor(cell.kernel), tf.convert_to_tensor(cell.recurrent_kernel)
        bias = tf.convert_to_tensor(cell.bias) if cell.use_bias else tf.zeros(GATES * cell.units)
        outputs, carry = run_sequences(inputs, kernel, recurrent, bias, *initial_state, *masks)
        last = outputs[:, -1]
        return last, outputs, [last, carry]

    def _maybe_config_dropout_masks(self, *_: Any) -> None:
        """Leave masks to :meth:`inner_loop`, which knows whether they are wanted; Keras calls this just before it."""

    def draw_masks(self, batch: Tensor, features: int, *, training: bool) -> list[Tensor]:
        """Draw the masks that hold for all steps, by gate.

        Parameters
        ----------
        batch, features
            Rows, and the width of the inputs.
        training
            Whether dropout is on.

        Returns
        -------
        list of tensors
            Factors of inputs (batch, 4, features) and hidden state (batch, 4, units), of shape (0, 0, 0) where nothing
            is dropped.
        """
        cell = self.cell
        different = getattr(cell, "dropout_mask_count", 1)  # Keras gives all gates the same where nobody can tell
        masks = []
        for width, rate, count in ((features, cell.dropout, different), (cell.units, cell.recurrent_dropout, GATES)):
            if not (training and 0 < rate < 1):
                masks.append(tf.zeros((0, 0, 0)))
                continue
            drawn = keras.random.dropout(tf.ones((batch, count, width)), rate, seed=cell.seed_generator)
            masks.append(drawn if count == GATES else tf.tile(drawn, (1, GATES, 1)))
        return masks

    def _runs_fast(self) -> bool:
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
    """Return a copy of a model in which every LSTM layer is of another class, with the same weights.

    Parameters
    ----------
    model
        A built model. LSTM layers inside other layers (``Bidirectional``) stay what they are.
    lstm_class
        ``keras.layers.LSTM`` for a model that loads without this library, :class:`FastLSTM` for the way back.

    Returns
    -------
    keras.Model
        A copy that is not compiled, and shares nothing with ``model``.
    """

    def copy(layer: keras.layers.Layer) -> keras.layers.Layer:
        kind = lstm_class if isinstance(layer, keras.layers.LSTM) else type(layer)
        return kind.from_config(layer.get_config())

    twin = keras.models.clone_model(model, clone_function=copy)
    twin.set_weights(model.get_weights())
    return twin


def run_sequences(*arguments: Tensor, parts: int | None = None) -> tuple[Tensor, Tensor]:
    """Run sequences, with the gradient written by hand.

    Parameters
    ----------
    *arguments
        Inputs (batch, steps, features), kernel (features, 4 x units), recurrent kernel (units, 4 x units), bias
        (4 x units), hidden state and carry (batch, units), masks of inputs (batch, 4, features) and of the hidden state
        (batch, 4, units), or of shape (0, 0, 0).
    parts
        Parts of the batch that run side by side, at most; None: as many as TensorFlow has threads.

    Returns
    -------
    tuple of tensors
        Outputs (batch, steps, units) and last carry (batch, units).
    """
    *tensors, input_masks, state_masks = arguments
    cut = _cut(tensors[0], threads() if parts is None else parts)
    masks = [(input_masks[rows], state_masks[rows]) for rows in cut]
    differentiable = _gradients_wanted.get()

    def forward(*watched: Tensor) -> Any:
        inputs, kernel, recurrent, bias, hidden, carry = map(tf.stop_gradient, watched)
        run = partial(_forward, differentiable)
        found = [
            _call(
                run,
                5 if differentiable else 2,
                inputs[rows],
                kernel,
                recurrent,
                bias,
                hidden[rows],
                carry[rows],
                *of_part,
            )
            for rows, of_part in zip(cut, masks, strict=True)
        ]

        def backward(*d_results: Tensor) -> list[Tensor]:
            d_outputs, d_carry = map(tf.stop_gradient, d_results)
            d_sums, *gradients = zip(
                *(
                    _call(_backward, 6, d_outputs[rows], d_carry[rows], kernel, recurrent, *of_part, *kept)
                    for rows, of_part, (_, _, *kept) in zip(cut, masks, found, strict=True)
                ),
                strict=True,
            )
            # Apart from the rest, so that a graph leaves it out where nobody asks for the gradient of the inputs.
            d_inputs = [
                _call(_input_gradient, 1, d, kernel, recurrent, of_part[0], inputs[rows])[0]
                for d, rows, of_part in zip(d_sums, cut, masks, strict=True)
            ]
            d_arguments = [_join(d_inputs), *map(tf.add_n, gradients[:3]), *map(_join, gradients[3:])]
            return [tf.custom_gradient(_sealed)(d, *d_results, *watched) for d in d_arguments]

        return (_join([part[0] for part in found]), _join([part[1] for part in found])), backward

    outputs, carry = tf.custom_gradient(forward)(*tensors) if differentiable else forward(*tensors)[0]
    batch, steps, _ = tensors[0].shape
    units = tensors[2].shape[0]
    outputs.set_shape((batch, steps, units))  # which a call out of the graph has lost
    carry.set_shape((batch, units))
    return outputs, carry


def _call(function: Callable[..., Any], results: int, *arguments: Tensor) -> list[Tensor]:
    """Call a function of arrays; a graph may leave the call out, or share it with another of the same arguments."""
    called = tf.numpy_function(function, arguments, [tf.float32] * results, stateful=False)
    return list(tf.nest.flatten(called))  # eagerly, a single result comes without a list


def _forward(
    keep: bool,
    inputs: Floats,
    kernel: Floats,
    recurrent: Floats,
    bias: Floats,
    hidden: Floats,
    carry: Floats,
    *masks: Floats,
) -> tuple[Floats, ...]:
    input_masks, state_masks = masks
    results = kernels.forward(inputs, (kernel, recurrent, bias), (hidden, carry), (input_masks, state_masks), keep)
    return results if keep else results[:2]


def _backward(
    d_outputs: Floats,
    d_carry: Floats,
    kernel: Floats,
    recurrent: Floats,
    input_masks: Floats,
    state_masks: Floats,
    joined: Floats,
    gates: Floats,
    carries: Floats,
) -> tuple[Floats, ...]:
    masks, kept = (input_masks, state_masks), (joined, gates, carries)
    return kernels.backward(d_outputs, d_carry, (kernel, recurrent), masks, kept)


def _input_gradient(d_sums: Floats, kernel: Floats, recurrent: Floats, input_masks: Floats, inputs: Floats) -> Floats:
    batch, steps, features = inputs.shape
    return kernels.input_gradient(d_sums, kernel, recurrent, input_masks, (batch, steps, features))


def _sealed(gradient: Tensor, *sources: Tensor) -> Any:
    """Return a gradient that cannot be differentiated by what it came from."""

    def refuse(*_: Tensor) -> Any:
        raise NotImplementedError(
            "expected gradients of the first order only; FastLSTM has no gradient of its gradient: use "
            "keras.layers.LSTM, or forecastlib.models.lstm.recurrent.with_lstm_class(model, keras.layers.LSTM)"
        )

    return tf.identity(gradient), refuse


def threads() -> int:
    """Return how many operations TensorFlow may run at once."""
    limit = tf.config.threading.get_inter_op_parallelism_threads() or int(os.environ.get("TF_NUM_INTEROP_THREADS", 0))
    return int(limit or os.cpu_count() or 1)


def _cut(inputs: Tensor, parts: int) -> list[slice]:
    """Cut a batch into parts of whole blocks.

    Examples
    --------
    In two: 32 rows become 0-15 and 16-31, 100 rows 0-47 and 48-99; 16 rows stay together.
    """
    known = inputs.shape[0]
    rows = tf.shape(inputs)[0] if known is None else known
    blocks = (rows + LANES - 1) // LANES
    count = min(parts, MOST_PARTS if known is None else max(blocks, 1))
    bounds = [LANES * (blocks * part // count) for part in range(1, count)]
    return [slice(start, end) for start, end in zip([None, *bounds], [*bounds, None], strict=True)]


def _join(parts: Any) -> Tensor:
    return parts[0] if len(parts) == 1 else tf.concat(parts, 0)
