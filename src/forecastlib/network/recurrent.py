"""A layer with weights, options and saving of ``keras.layers.LSTM``, two to three times as fast to train on a CPU.

Keras runs the cell step by step, eight small matrix products in each, and differentiates every one of them.
:class:`FastLSTM` computes the same function in another order:

- Dropout keeps its masks for all steps, so the masked input of the whole sequence is projected before the loop, by one
  product a gate. The loop is left with the recurrent product and the gates.
- The loop backwards yields the gradients of the gates alone, as sums of two precomputed products; those of the
  kernels and the bias then follow as one product over all rows and steps.
- Forward and backward pass are compiled by XLA on their own, which takes a second or two where a whole training step
  takes ten, once for each shape.
- The rows of a batch are independent, so two halves of it run side by side.

Gates stand in the order of Keras: input, forget, candidate, output. The equations are those of Gers, Schmidhuber and
Cummins (2000), *Learning to Forget*; the dropout is that of Gal and Ghahramani (2016), *A Theoretically Grounded
Application of Dropout in Recurrent Neural Networks*, with masks of its own for each gate.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import keras
import tensorflow as tf

Tensor = Any  # TensorFlow ships no types.

GATES = 4

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
    """``keras.layers.LSTM``, two to three times as fast to train on a CPU.

    Arguments, weights (``kernel``, ``recurrent_kernel``, ``bias``; their shapes and order), dropout masks, states and
    configuration are those of ``keras.layers.LSTM``, so weights move both ways by ``get_weights`` and ``set_weights``,
    and the same seed drops the same units.

    The fast path is taken when ``activation="tanh"``, ``recurrent_activation="sigmoid"``, ``unroll=False``, the layer
    computes in float32 or float64, and no time step is masked. Everything else runs in Keras' own loop, and so does
    what Keras can hand to cuDNN: no recurrent dropout, ``use_cudnn="auto"``, and a GPU. ``use_bias=False``,
    ``go_backwards``, ``stateful``, ``return_state`` and an initial state are fast.

    Outside of training no gradient is expected and shapes vary, so nothing is compiled then: calls with
    ``training=False`` run as one plain loop.

    Notes
    -----
    Gradients of the first order only: a gradient of a gradient raises ``NotImplementedError`` on the fast path.

    A saved model needs ``import forecastlib.network`` before it is loaded. One that should load without this library
    is saved as ``with_lstm_class(model, keras.layers.LSTM)``; :func:`with_lstm_class` also makes it fast again.

    Examples
    --------
    >>> layer = FastLSTM(50, return_sequences=True, dropout=0.2, recurrent_dropout=0.2)
    >>> layer(tf.zeros((32, 60, 152)), training=True).shape
    TensorShape([32, 60, 50])
    """

    def inner_loop(self, sequences: Tensor, initial_state: list[Tensor], mask: Tensor, training: bool = False) -> Any:
        """Run over all steps; Keras calls this between drawing the dropout masks and collecting the outputs.

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
        if mask is not None or not self._runs_fast():
            return super().inner_loop(sequences, initial_state, mask, training=training)
        cell = self.cell
        input_masks = state_masks = None
        if training and 0 < cell.dropout < 1:
            drawn = cell.get_dropout_mask(sequences[:, 0, :])
            input_masks = tf.stop_gradient(tf.stack(drawn if isinstance(drawn, list) else [drawn] * GATES))
        if training and 0 < cell.recurrent_dropout < 1:
            state_masks = tf.stop_gradient(tf.stack(cell.get_recurrent_dropout_mask(initial_state[0])))
        inputs = tf.reverse(sequences, [1]) if self.go_backwards else tf.convert_to_tensor(sequences)
        kernel, recurrent = tf.convert_to_tensor(cell.kernel), tf.convert_to_tensor(cell.recurrent_kernel)
        bias = tf.convert_to_tensor(cell.bias) if cell.use_bias else tf.zeros(GATES * cell.units, kernel.dtype)
        outputs, carry = _run(training, inputs, kernel, recurrent, bias, *initial_state, input_masks, state_masks)
        last = outputs[:, -1]
        return last, outputs, [last, carry]

    def _runs_fast(self) -> bool:
        left_to_cudnn = self.use_cudnn is True or (
            self.use_cudnn == "auto" and not self.recurrent_dropout and tf.config.list_logical_devices("GPU")
        )
        return (
            self.activation is keras.activations.tanh
            and self.recurrent_activation is keras.activations.sigmoid
            and self.compute_dtype in ("float32", "float64")
            and not self.unroll
            and not left_to_cudnn
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


def _run(training: bool, *arguments: Tensor) -> tuple[Tensor, Tensor]:
    """Run the sequence, with the gradient written by hand.

    Parameters
    ----------
    training
        Whether to compile, and to share the work among threads.
    *arguments
        Inputs (batch, steps, features), kernel (features, 4 x units), recurrent kernel (units, 4 x units), bias
        (4 x units), hidden state and carry (batch, units), masks of inputs (4, batch, features) or None, masks of the
        hidden state (4, batch, units) or None.

    Returns
    -------
    tuple of tensors
        Outputs (batch, steps, units) and last carry (batch, units).
    """
    *tensors, input_masks, state_masks = arguments
    parts = _parts(tf.shape(tensors[0])[0]) if training else [slice(None)]
    masks = [[m if m is None else m[:, rows] for m in (input_masks, state_masks)] for rows in parts]
    differentiable = _gradients_wanted.get()
    run = (_forward_compiled if differentiable else _outputs_compiled) if training else _forward

    def forward(*watched: Tensor) -> Any:
        # Cut off from the tape: it would otherwise differentiate the compiled loop as well.
        inputs, kernel, recurrent, bias, hidden, carry = map(tf.stop_gradient, watched)
        results = [
            run(inputs[rows], kernel, recurrent, bias, hidden[rows], carry[rows], *part)
            for rows, part in zip(parts, masks, strict=True)
        ]

        def backward(*d_results: Tensor) -> list[Tensor]:
            d_outputs, d_carry = map(tf.stop_gradient, d_results)
            d_gates, *gradients = zip(
                *(
                    _backward_compiled(
                        d_outputs[rows], d_carry[rows], *saved, recurrent, hidden[rows], carry[rows], part[1]
                    )
                    for rows, part, (_, _, *saved) in zip(parts, masks, results, strict=True)
                ),
                strict=True,
            )
            # Products of their own, so that a graph leaves them out where nobody asks for the gradient of the inputs.
            d_inputs = [
                _input_gradient_compiled(d, outputs, kernel, part[0])
                for d, part, (_, _, _, outputs, *_) in zip(d_gates, masks, results, strict=True)
            ]
            d_arguments = [_join(d_inputs), *map(tf.add_n, gradients[:3]), *map(_join, gradients[3:])]
            return [tf.custom_gradient(_sealed)(d, *d_results, *watched) for d in d_arguments]

        return (_join([result[0] for result in results]), _join([result[1] for result in results])), backward

    outputs, carry = tf.custom_gradient(forward)(*tensors) if differentiable else forward(*tensors)[0]
    batch, steps, _ = tensors[0].shape
    outputs.set_shape((batch, steps, tensors[2].shape[0]))  # what compiling for any shape has lost
    carry.set_shape((batch, tensors[2].shape[0]))
    return outputs, carry


def _sealed(gradient: Tensor, *sources: Tensor) -> Any:
    """Return a gradient that cannot be differentiated by what it came from."""

    def refuse(*_: Tensor) -> Any:
        raise NotImplementedError(
            "expected gradients of the first order only; FastLSTM has no gradient of its gradient: use "
            "keras.layers.LSTM, or forecastlib.network.recurrent.with_lstm_class(model, keras.layers.LSTM)"
        )

    return tf.identity(gradient), refuse


def _parts(rows: Tensor) -> list[slice]:
    """Cut a batch in two where two threads can run at the same time."""
    if os.cpu_count() == 1 or tf.config.threading.get_inter_op_parallelism_threads() == 1:
        return [slice(None)]
    half = (rows + 1) // 2
    return [slice(None, half), slice(half, None)]


def _join(parts: Any) -> Tensor:
    return parts[0] if len(parts) == 1 else tf.concat(parts, 0)


def _by_gate(matrix: Tensor) -> Tensor:
    """Turn (n, 4 x units) into (4, n, units)."""
    return tf.stack(tf.split(matrix, GATES, axis=1))


def _masked(steps: Tensor, masks: Tensor | None) -> Tensor:
    """Return a copy of (steps, batch, n) for each gate, or one for all: (4 or 1, steps x batch, n)."""
    copies = steps[tf.newaxis] if masks is None else steps[tf.newaxis] * masks[:, tf.newaxis]
    shape = tf.shape(copies)
    return tf.reshape(copies, [shape[0], shape[1] * shape[2], shape[3]])


def _slopes(dtype: tf.DType) -> Tensor:
    """Return what turns three of the gates into hyperbolic tangents: sigmoid(z) = (1 + tanh(z / 2)) / 2."""
    return tf.constant([0.5, 0.5, 1.0, 0.5], dtype)[:, tf.newaxis, tf.newaxis]


def _forward(
    inputs: Tensor,
    kernel: Tensor,
    recurrent: Tensor,
    bias: Tensor,
    hidden: Tensor,
    carry: Tensor,
    input_masks: Tensor | None,
    state_masks: Tensor | None,
) -> tuple[Tensor, ...]:
    """Return outputs and last carry, then what the way back needs, by steps: inputs, outputs, gates, carries."""
    slopes = _slopes(inputs.dtype)
    copies = _masked(tf.transpose(inputs, (1, 0, 2)), input_masks)
    z = slopes * (tf.matmul(copies, _by_gate(kernel)) + _by_gate(bias[tf.newaxis]))
    steps, units = tf.shape(inputs)[1], tf.shape(recurrent)[0]
    z = tf.reshape(z, [GATES, steps, tf.shape(inputs)[0], units])
    weights = slopes * _by_gate(recurrent)

    def step(t: Tensor, h: Tensor, c: Tensor, saved: list[Any]) -> Any:
        kept = h[tf.newaxis] if state_masks is None else h[tf.newaxis] * state_masks
        gates = tf.tanh(z[:, t] + tf.matmul(kept, weights))
        i, f, g, o = tf.unstack(gates, GATES)
        c = 0.5 * ((1 + f) * c + (1 + i) * g)
        h = 0.5 * (1 + o) * tf.tanh(c)
        return t + 1, h, c, [array.write(t, value) for array, value in zip(saved, (h, gates, c), strict=True)]

    saved = [tf.TensorArray(z.dtype, size=steps) for _ in range(3)]
    _, _, carry, saved = _loop(steps, step, (hidden, carry, saved))
    outputs, gates, carries = (array.stack() for array in saved)
    return tf.transpose(outputs, (1, 0, 2)), carry, copies, outputs, gates, carries


def _outputs(*arguments: Tensor | None) -> tuple[Tensor, ...]:
    """Return outputs and last carry alone: XLA leaves out of the loop what nobody gets."""
    return _forward(*arguments)[:2]


def _backward(
    d_outputs: Tensor,
    d_carry: Tensor,
    copies: Tensor,
    outputs: Tensor,
    gates: Tensor,
    carries: Tensor,
    recurrent: Tensor,
    hidden: Tensor,
    carry: Tensor,
    state_masks: Tensor | None,
) -> tuple[Tensor, ...]:
    """Return the gradients of gates (4, steps x batch, units), kernel, recurrent kernel, bias, first state and carry.

    With the gradients dh and dc of a step's output and carry, those of its gates are ``p * dc + q * dh`` and the carry
    before gets ``f * dc + s * dh``, where p, q, f and s are known before the loop begins.
    """
    i, f, o = (0.5 * (1 + gates[:, k]) for k in (0, 1, 3))
    g, squashed = gates[:, 2], tf.tanh(carries)
    before = tf.concat([carry[tf.newaxis], carries[:-1]], 0)
    through = o * (1 - squashed * squashed)
    by_carry = [g * i * (1 - i), before * f * (1 - f), i * (1 - g * g)]
    p = tf.stack([*by_carry, tf.zeros_like(o)], 1)
    q = tf.stack([*(through * gate for gate in by_carry), squashed * o * (1 - o)], 1)
    s = through * f
    d_steps = tf.transpose(d_outputs, (1, 0, 2))
    steps, units = tf.shape(d_steps)[0], tf.shape(recurrent)[0]
    weights = tf.transpose(_by_gate(recurrent), (0, 2, 1))

    def step(done: Tensor, dh: Tensor, dc: Tensor, saved: Any) -> Any:
        t = steps - 1 - done
        dh = dh + d_steps[t]
        d_gates = p[t] * dc[tf.newaxis] + q[t] * dh[tf.newaxis]
        dc = f[t] * dc + s[t] * dh
        d_hidden = tf.matmul(d_gates, weights)
        dh = tf.reduce_sum(d_hidden if state_masks is None else d_hidden * state_masks, 0)
        return done + 1, dh, dc, saved.write(t, d_gates)

    saved = tf.TensorArray(gates.dtype, size=steps)
    _, d_hidden, d_carry, saved = _loop(steps, step, (tf.zeros_like(hidden), d_carry, saved))
    d_gates = tf.reshape(tf.transpose(saved.stack(), (1, 0, 2, 3)), [GATES, -1, units])
    states = _masked(tf.concat([hidden[tf.newaxis], outputs[:-1]], 0), state_masks)
    d_kernel, d_recurrent = (
        tf.concat(tf.unstack(tf.matmul(x, d_gates, transpose_a=True), GATES), 1) for x in (copies, states)
    )
    ones = tf.ones([GATES, 1, tf.shape(d_gates)[1]], d_gates.dtype)
    d_bias = tf.reshape(tf.matmul(ones, d_gates), [-1])  # a product: XLA sums long columns ten times slower
    return d_gates, d_kernel, d_recurrent, d_bias, d_hidden, d_carry


def _input_gradient(d_gates: Tensor, outputs: Tensor, kernel: Tensor, input_masks: Tensor | None) -> Tensor:
    """Return the gradient of the inputs, (batch, steps, features), from that of the gates; ``outputs`` by steps."""
    d = tf.matmul(d_gates, _by_gate(kernel), transpose_b=True)
    d = tf.reshape(d, [GATES, *tf.unstack(tf.shape(outputs)[:2]), tf.shape(kernel)[0]])
    return tf.transpose(tf.reduce_sum(d if input_masks is None else d * input_masks[:, tf.newaxis], 0), (1, 0, 2))


def _loop(steps: Tensor, step: Any, state: tuple[Any, ...]) -> Any:
    return tf.while_loop(lambda t, *_: t < steps, step, (0, *state), parallel_iterations=1, maximum_iterations=steps)


_compile = tf.function(jit_compile=True, autograph=False, reduce_retracing=True)
_forward_compiled, _outputs_compiled, _backward_compiled = _compile(_forward), _compile(_outputs), _compile(_backward)
_input_gradient_compiled = _compile(_input_gradient)
