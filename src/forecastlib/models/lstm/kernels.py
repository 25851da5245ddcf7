"""The LSTM in machine code: forward and backward passes over sequences, compiled by Numba for the CPU at hand.

The rows of a batch are processed in *blocks* of sixteen. Within a block the row is the fastest axis, so that a vector
register holds the values of one unit for sixteen rows. The inputs and the hidden state of a step are stacked in
``joined``, and the two kernels in ``weights``, so that each step is a single product:

    z[g, j] = bias[g, j] + sum over v of weights[v, g, j] * (mask[g, v] * joined[v])      g: gate, j: unit

All products, forward and backward, are built from :func:`_add_product`, which keeps a tile of the result in registers.
It is written with LLVM vector types, because no compiler generates such code from loops; the rest is plain loops.

Gates are in the order of Keras: input, forget, candidate, output. All arrays are float32 and contiguous. Masks of
length 0 mean no dropout.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import llvmlite.binding
import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

Floats = npt.NDArray[np.float32]
Compiled = TypeVar("Compiled", bound=Callable[..., Any])

GATES = 4

LANES = 16
"""Rows of a block: one vector register with AVX-512, two with AVX2, four with NEON."""

TILE = 10 if llvmlite.binding.get_host_cpu_features().get("avx512f") else 5
"""Rows of a tile: limited by the number of registers, two of which hold a vector and a scalar."""

_VECTOR = ir.VectorType(ir.FloatType(), LANES)
_INDEX = ir.IntType(64)

# Sums may be reordered, but NaN and infinity must propagate: training stops when it sees them.
_OPTIONS: dict[str, Any] = {"nogil": True, "fastmath": {"contract", "nsz", "reassoc"}, "error_model": "numpy"}


def _compiled(function: Compiled) -> Compiled:
    """Compile a function and cache the machine code beside this file, or in the cache folder of the user."""
    try:
        return cast(Compiled, njit(cache=True, **_OPTIONS)(function))
    except RuntimeError:  # neither folder is writable: every process compiles, which takes some seconds
        return _inlined(function)


def _inlined(function: Compiled) -> Compiled:
    """Compile a function into its callers."""
    return cast(Compiled, njit(**_OPTIONS)(function))


def _intrinsic(function: Callable[..., Any]) -> Callable[..., None]:
    """Register a function that generates LLVM instructions; see :func:`numba.extending.intrinsic`."""
    return cast(Callable[..., None], intrinsic(function))


class _Array:
    """An array in generated code. A one-dimensional array is read as a matrix with equal rows."""

    def __init__(self, context: Any, build: Any, kind: Any, value: Any) -> None:
        array = context.make_array(kind)(context, build, value=value)
        strides = [build.extract_value(array.strides, axis) for axis in range(kind.ndim)]
        self._build = build
        self._start = build.bitcast(array.data, ir.IntType(8).as_pointer())
        self._row = strides[0] if kind.ndim == 2 else _int64(0)
        self._column = strides[-1]
        self.rows = build.extract_value(array.shape, 0)

    def vector(self, row: Any) -> Any:
        """Return the address of the first LANES elements of a row."""
        return self._address(row, _int64(0), _VECTOR)

    def element(self, row: Any, column: Any) -> Any:
        """Return the address of an element."""
        return self._address(row, column, ir.FloatType())

    def _address(self, row: Any, column: Any, kind: ir.Type) -> Any:
        build = self._build
        offset = build.add(build.mul(row, self._row), build.mul(column, self._column))
        return build.bitcast(build.gep(self._start, [offset]), kind.as_pointer())


def _int64(value: int) -> ir.Constant:
    return ir.Constant(_INDEX, value)


def _indices(places: list[int]) -> ir.Constant:
    return ir.Constant(ir.VectorType(ir.IntType(32), len(places)), places)


@_intrinsic
def _add_product(typing: Any, out: Any, factors: Any, scalars: Any, vectors: Any) -> Any:
    """Add a tile of a product: ``out[r] += factors[r] * sum over k of scalars[k, r] * vectors[k]``, for one or more k.

    ``out`` (TILE, LANES) and ``vectors`` (k, LANES) have contiguous rows, which may be longer; ``factors`` has the
    shape of ``out``, or is a single row (LANES) for all; ``scalars`` (k, TILE) may have any strides.
    """

    def generate(context: Any, build: Any, signature: Any, arguments: Any) -> Any:
        pairs = zip(signature.args, arguments, strict=True)
        target, factor, scalar, vector = (_Array(context, build, kind, value) for kind, value in pairs)
        undefined, broadcast = ir.Constant(_VECTOR, ir.Undefined), _indices([0] * LANES)

        def multiply_add(total: Any, a: Any, b: Any) -> Any:
            return build.fadd(total, build.fmul(a, b, flags=["contract"]), flags=["contract"])

        before = build.block
        loop, after = build.append_basic_block("product"), build.append_basic_block("product.end")
        build.branch(loop)
        build.position_at_end(loop)
        k = build.phi(_INDEX)
        totals = [build.phi(_VECTOR) for _ in range(TILE)]
        values = build.load(vector.vector(k), align=4)
        sums = []
        for row, total in enumerate(totals):
            single = build.load(scalar.element(k, _int64(row)))
            lowest = build.insert_element(undefined, single, ir.Constant(ir.IntType(32), 0))
            sums.append(multiply_add(total, build.shuffle_vector(lowest, undefined, broadcast), values))
            total.add_incoming(ir.Constant(_VECTOR, [0.0] * LANES), before)
            total.add_incoming(sums[row], loop)
        following = build.add(k, _int64(1))
        k.add_incoming(_int64(0), before)
        k.add_incoming(following, loop)
        build.cbranch(build.icmp_signed("<", following, vector.rows), loop, after)
        build.position_at_end(after)
        for row, total in enumerate(sums):
            place = target.vector(_int64(row))
            weight = build.load(factor.vector(_int64(row)), align=4)
            build.store(multiply_add(build.load(place, align=4), weight, total), place, align=4)
        return context.get_dummy_value()

    return types.void(out, factors, scalars, vectors), generate


@_intrinsic
def _transpose(typing: Any, source: Any, target: Any) -> Any:
    """Transpose the first LANES x LANES elements of a matrix; both arrays have contiguous rows."""

    def generate(context: Any, build: Any, signature: Any, arguments: Any) -> Any:
        pairs = zip(signature.args, arguments, strict=True)
        read, written = (_Array(context, build, kind, value) for kind, value in pairs)
        rows = [build.load(read.vector(_int64(row)), align=4) for row in range(LANES)]
        size = 1
        while size < LANES:  # swap off-diagonal blocks of 1, 2, 4 and 8 elements
            upper = _indices([c if c & size == 0 else c - size + LANES for c in range(LANES)])
            lower = _indices([c + size if c & size == 0 else c + LANES for c in range(LANES)])
            for row in range(LANES):
                if row & size == 0:
                    pair = rows[row], rows[row + size]
                    rows[row], rows[row + size] = (build.shuffle_vector(*pair, picked) for picked in (upper, lower))
            size *= 2
        for row, values in enumerate(rows):
            build.store(values, written.vector(_int64(row)), align=4)
        return context.get_dummy_value()

    return types.void(source, target), generate


# tanh(x) = x P(x^2) / Q(x^2) for |x| <= 8: a minimax fit with a relative error of 6e-9. The error in float32 is at most
# 3.4e-7, of which 2.3e-7 come from using tanh(8) for everything beyond.
_P = tuple(map(np.float32, (0.9999999935676811, 0.1344449688510881, 3.5715967199893505e-3, 2.18946401723446e-5,
                            1.523038666389894e-8)))  # fmt: skip
_Q = tuple(map(np.float32, (1.0, 0.46777824204076035, 0.0261644379869038, 3.4112898725132204e-4,
                            8.522434113590409e-7)))  # fmt: skip
_BOUND, _ONE, _HALF = np.float32(8.0), np.float32(1.0), np.float32(0.5)


@_inlined
def _tanh(x: Any) -> Any:
    x = _BOUND if x > _BOUND else x  # not min and max, which would lose NaN
    x = -_BOUND if x < -_BOUND else x
    s = x * x
    p = _P[0] + s * (_P[1] + s * (_P[2] + s * (_P[3] + s * _P[4])))
    q = _Q[0] + s * (_Q[1] + s * (_Q[2] + s * (_Q[3] + s * _Q[4])))
    return x * p / q


@_inlined
def _sigmoid(x: Any) -> Any:
    return _HALF + _HALF * _tanh(_HALF * x)


@_inlined
def _round_up(count: int, multiple: int) -> int:
    return (count + multiple - 1) // multiple * multiple


@_inlined
def _aligned(count: int) -> Floats:
    """Return an empty array aligned to 64 bytes, which TensorFlow takes without a copy."""
    buffer = np.empty(count + 16, np.float32)
    skip = (64 - buffer.ctypes.data % 64) % 64 // 4
    return buffer[skip : skip + count]


@_inlined
def _add(values: Floats, total: Floats) -> None:
    for n in range(len(total)):
        total[n] += values[n]


@_inlined
def _multiply(a: Floats, b: Floats, product: Floats) -> None:
    for n in range(len(product)):
        product[n] = a[n] * b[n]


@_inlined
def _copy(values: Floats, target: Floats) -> None:
    for n in range(len(values)):
        target[n] = values[n]


@_inlined
def _weights(kernel: Floats, recurrent: Floats) -> Floats:
    """Stack both kernels, by gate: (features + units, 4, units), with units padded to a multiple of TILE."""
    features, units = len(kernel), len(recurrent)
    padded = _round_up(units, TILE)
    joined = np.zeros((features + padded, GATES, padded), np.float32)
    for gate in range(GATES):
        for row in range(features):
            _copy(kernel[row, gate * units : (gate + 1) * units], joined[row, gate])
        for row in range(units):
            _copy(recurrent[row, gate * units : (gate + 1) * units], joined[features + row, gate])
    return joined


@_inlined
def _block_masks(input_masks: Floats, state_masks: Floats, start: int, features: int, width: int) -> Floats:
    """Stack the masks of the rows of a block like inputs and states: (4, LANES, width), 1 without dropout."""
    joined = np.ones((GATES, LANES, width), np.float32)
    for row in range(min(LANES, len(input_masks) - start)):
        for gate in range(GATES):
            _copy(input_masks[start + row, gate], joined[gate, row])
    for row in range(min(LANES, len(state_masks) - start)):
        for gate in range(GATES):
            _copy(state_masks[start + row, gate], joined[gate, row, features:])
    return joined


@_inlined
def _to_lanes(rows: Floats, lanes: Floats, count: int) -> None:
    """Transpose ``count`` columns of (LANES, columns), rounded up to LANES, for which both arrays need room."""
    for first in range(0, count, LANES):
        _transpose(rows[:, first:], lanes[first:])


@_inlined
def _to_rows(lanes: Floats, rows: Floats, count: int) -> None:
    """Transpose ``count`` rows of (columns, LANES), rounded up to LANES; the inverse of :func:`_to_lanes`."""
    for first in range(0, count, LANES):
        _transpose(lanes[first:], rows[:, first:])


@_inlined
def _cell_forward(gates: Floats, carry: Floats, new_carry: Floats, hidden: Floats) -> None:
    """Replace the sums of the gates by their values, and compute the next carry and hidden state; all arrays flat."""
    size = len(gates) // GATES
    for n in range(size):
        i, f = _sigmoid(gates[n]), _sigmoid(gates[size + n])
        g, o = _tanh(gates[2 * size + n]), _sigmoid(gates[3 * size + n])
        c = f * carry[n] + i * g
        gates[n], gates[size + n], gates[2 * size + n], gates[3 * size + n] = i, f, g, o
        new_carry[n] = c
        hidden[n] = o * _tanh(c)


@_inlined
def _cell_backward(
    gates: Floats, before: Floats, after: Floats, d_hidden: Floats, d_carry: Floats, d_gates: Floats
) -> None:
    """Compute the gradients of the sums of the gates, and that of the carry before in place of the one after."""
    size = len(gates) // GATES
    for n in range(size):
        i, f, g, o = gates[n], gates[size + n], gates[2 * size + n], gates[3 * size + n]
        squashed = _tanh(after[n])
        dh = d_hidden[n]
        dc = d_carry[n] + dh * o * (_ONE - squashed * squashed)
        d_gates[n] = dc * g * i * (_ONE - i)
        d_gates[size + n] = dc * before[n] * f * (_ONE - f)
        d_gates[2 * size + n] = dc * i * (_ONE - g * g)
        d_gates[3 * size + n] = dh * squashed * o * (_ONE - o)
        d_carry[n] = dc * f


@_compiled
def forward(
    inputs: Floats,
    kernel: Floats,
    recurrent: Floats,
    bias: Floats,
    hidden: Floats,
    carry: Floats,
    input_masks: Floats,
    state_masks: Floats,
    for_backward: bool,
) -> tuple[Floats, Floats, Floats, Floats, Floats]:
    """Run a batch of sequences.

    Parameters
    ----------
    inputs
        Shape (batch, steps, features).
    kernel, recurrent, bias
        Weights: (features, 4 x units), (units, 4 x units), (4 x units).
    hidden, carry
        Initial states, (batch, units).
    input_masks, state_masks
        Factors of the inputs, (batch, 4, features), and of the hidden state, (batch, 4, units).
    for_backward
        Whether to save what :func:`backward` needs; otherwise the last three results are only buffers.

    Returns
    -------
    tuple of ndarray
        All outputs (batch, steps, units) and the last carry (batch, units); then, by block, what :func:`backward`
        needs: inputs and states stacked (blocks, LANES, steps + 1, width), values of the gates (blocks, steps, 4,
        units, LANES), carries (blocks, steps + 1, units, LANES).
    """
    batch, steps, features = inputs.shape
    units = len(recurrent)
    padded, blocks, height = _round_up(units, TILE), _round_up(batch, LANES) // LANES, features + units
    room = _round_up(padded, LANES)
    width, size = _round_up(features + room, LANES), padded * LANES
    weights = _weights(kernel, recurrent)
    start = np.zeros((GATES, padded, LANES), np.float32)
    for gate in range(GATES):
        for unit in range(units):
            start[gate, unit] = bias[gate * units + unit]
    saved_blocks, saved_steps, saved_carries = (blocks, steps, steps + 1) if for_backward else (1, 1, 2)
    joined = _aligned(saved_blocks * LANES * (steps + 1) * width).reshape((saved_blocks, LANES, steps + 1, width))
    gates = _aligned(saved_blocks * saved_steps * GATES * size)
    gates = gates.reshape((saved_blocks, saved_steps, GATES, padded, LANES))
    carries = _aligned(saved_blocks * saved_carries * room * LANES).reshape((saved_blocks, saved_carries, room, LANES))
    outputs = _aligned(batch * steps * units).reshape((batch, steps, units))
    last = _aligned(batch * units).reshape((batch, units))
    lanes, new_hidden = np.empty((width, LANES), np.float32), np.zeros((room, LANES), np.float32)
    masked, factors = np.empty((height, LANES), np.float32), np.empty((GATES, width, LANES), np.float32)
    rows, ones = np.zeros((LANES, room), np.float32), np.ones(LANES, np.float32)
    dropout = len(input_masks) > 0 or len(state_masks) > 0
    for block in range(blocks):
        first, b = block * LANES, block if for_backward else 0
        count = min(LANES, batch - first)
        for row in range(LANES):
            for t in range(steps):
                if row < count:
                    _copy(inputs[first + row, t], joined[b, row, t])
                else:
                    joined[b, row, t, :features] = 0.0
                joined[b, row, t, height:] = 0.0
            joined[b, row, 0, features:height] = 0.0
            rows[row] = 0.0
            if row < count:
                _copy(hidden[first + row], joined[b, row, 0, features:])
                _copy(carry[first + row], rows[row])
        _to_lanes(rows, carries[b, 0], room)
        if dropout:
            block_masks = _block_masks(input_masks, state_masks, first, features, width)
            for gate in range(GATES):
                _to_lanes(block_masks[gate], factors[gate], width)
        after = 0
        for t in range(steps):
            now, before, after = (t, t, t + 1) if for_backward else (0, t % 2, (t + 1) % 2)
            sums = gates[b, now]
            _copy(start.ravel(), sums.ravel())
            _to_lanes(joined[b, :, t], lanes, height)
            operand = lanes[:height]
            for gate in range(GATES):
                if dropout:
                    _multiply(lanes.ravel(), factors[gate].ravel(), masked.ravel())
                    operand = masked
                for unit in range(0, padded, TILE):
                    _add_product(sums[gate, unit:], ones, weights[:height, gate, unit:], operand)
            _cell_forward(sums.ravel(), carries[b, before].ravel(), carries[b, after].ravel(), new_hidden.ravel())
            _to_rows(new_hidden, joined[b, :, t + 1, features:], units)
        for row in range(count):
            for t in range(steps):
                _copy(joined[b, row, t + 1, features:height], outputs[first + row, t])
        _to_rows(carries[b, after], rows, units)
        for row in range(count):
            _copy(rows[row, :units], last[first + row])
    return outputs, last, joined, gates, carries


@_compiled
def backward(
    d_outputs: Floats,
    d_last: Floats,
    kernel: Floats,
    recurrent: Floats,
    input_masks: Floats,
    state_masks: Floats,
    joined: Floats,
    gates: Floats,
    carries: Floats,
) -> tuple[Floats, Floats, Floats, Floats, Floats, Floats]:
    """Return the gradients of the arguments of :func:`forward`, except that of the inputs.

    Parameters
    ----------
    d_outputs, d_last
        Gradients of all outputs (batch, steps, units) and of the last carry (batch, units).
    kernel, recurrent, input_masks, state_masks
        The arguments of :func:`forward`.
    joined, gates, carries
        The last three results of :func:`forward`.

    Returns
    -------
    tuple of ndarray
        Gradients of the sums of the gates, (blocks x LANES, steps, 4, units) padded, for :func:`input_gradient`; of
        kernel, recurrent kernel, bias, initial hidden state and initial carry.
    """
    batch, steps, units = d_outputs.shape
    features = len(kernel)
    blocks, _, _, padded, _ = gates.shape
    height, room, width = features + units, carries.shape[2], joined.shape[3]
    columns = GATES * padded
    weights = _weights(kernel, recurrent)
    padded_steps, padded_columns = _round_up(steps, TILE), _round_up(columns, LANES)
    d_sums = _aligned(blocks * LANES * padded_steps * padded_columns)
    d_sums = d_sums.reshape((blocks * LANES, padded_steps, padded_columns))
    d_weights = np.zeros((GATES, padded, width), np.float32)
    d_bias = np.zeros((columns, LANES), np.float32)
    d_first_hidden, d_first_carry = np.empty((batch, units), np.float32), np.empty((batch, units), np.float32)
    d_now, factors = np.zeros((padded_columns, LANES), np.float32), np.empty((GATES, room, LANES), np.float32)
    d_hidden, d_carry = np.zeros((room, LANES), np.float32), np.zeros((room, LANES), np.float32)
    lanes = np.zeros((room, LANES), np.float32)
    rows = np.zeros((LANES, room), np.float32)
    for block in range(blocks):
        first = block * LANES
        count = min(LANES, batch - first)
        block_masks = _block_masks(input_masks, state_masks, first, features, width)
        for gate in range(GATES):
            _to_lanes(block_masks[gate, :, features:], factors[gate], room)
        rows[:] = 0.0
        for row in range(count):
            _copy(d_last[first + row], rows[row])
        _to_lanes(rows, d_carry, room)
        d_hidden[:] = 0.0
        for t in range(steps - 1, -1, -1):
            for row in range(count):
                _copy(d_outputs[first + row, t], rows[row])
            _to_lanes(rows, lanes, units)
            _add(lanes.ravel(), d_hidden.ravel())
            before, after = carries[block, t].ravel(), carries[block, t + 1].ravel()
            _cell_backward(gates[block, t].ravel(), before, after, d_hidden.ravel(), d_carry.ravel(), d_now.ravel())
            _add(d_now.ravel(), d_bias.ravel())
            _to_rows(d_now, d_sums[first : first + LANES, t], columns)
            d_hidden[:] = 0.0
            for unit in range(0, padded, TILE):
                for gate in range(GATES):
                    _add_product(
                        d_hidden[unit:],
                        factors[gate, unit:],
                        weights[features + unit :, gate, :units].T,
                        d_now[gate * padded : gate * padded + units],
                    )
        for row in range(count):
            d_sums[first + row, steps:] = 0.0
            for gate in range(GATES):
                for unit in range(0, padded, TILE):
                    for column in range(0, height, LANES):
                        _add_product(
                            d_weights[gate, unit:, column:],
                            block_masks[gate, row, column:],
                            d_sums[first + row, :steps, gate * padded + unit :],
                            joined[block, row, :steps, column:],
                        )
        _to_rows(d_hidden, rows, units)
        for row in range(count):
            _copy(rows[row, :units], d_first_hidden[first + row])
        _to_rows(d_carry, rows, units)
        for row in range(count):
            _copy(rows[row, :units], d_first_carry[first + row])
    d_kernel = np.empty((features, GATES * units), np.float32)
    d_recurrent = np.empty((units, GATES * units), np.float32)
    d_start = np.empty(GATES * units, np.float32)
    for gate in range(GATES):
        for unit in range(units):
            column = gate * units + unit
            for row in range(features):
                d_kernel[row, column] = d_weights[gate, unit, row]
            for row in range(units):
                d_recurrent[row, column] = d_weights[gate, unit, features + row]
            d_start[column] = d_bias[gate * padded + unit].sum()
    return d_sums, d_kernel, d_recurrent, d_start, d_first_hidden, d_first_carry


@_compiled
def input_gradient(d_sums: Floats, kernel: Floats, recurrent: Floats, input_masks: Floats, inputs: Floats) -> Floats:
    """Return the gradient of the inputs of :func:`forward`.

    Parameters
    ----------
    d_sums
        The first result of :func:`backward`.
    kernel, recurrent, input_masks, inputs
        The arguments of :func:`forward`; only the shape of ``inputs`` is used.
    """
    batch, steps, features = inputs.shape
    units = len(recurrent)
    padded, width = _round_up(units, TILE), _round_up(features, LANES)
    weights = np.zeros((GATES, units, width), np.float32)
    for gate in range(GATES):
        for unit in range(units):
            for row in range(features):
                weights[gate, unit, row] = kernel[row, gate * units + unit]
    d_inputs = _aligned(batch * steps * features).reshape((batch, steps, features))
    rows, factors = np.empty((d_sums.shape[1], width), np.float32), np.ones(width, np.float32)
    for row in range(batch):
        rows[:] = 0.0
        for gate in range(GATES):
            if len(input_masks):
                _copy(input_masks[row, gate], factors)
            for t in range(0, steps, TILE):
                for column in range(0, features, LANES):
                    _add_product(
                        rows[t:, column:],
                        factors[column:],
                        d_sums[row, t:, gate * padded : gate * padded + units].T,
                        weights[gate, :, column:],
                    )
        for t in range(steps):
            _copy(rows[t, :features], d_inputs[row, t])
    return d_inputs


def compile_all() -> None:
    """Compile and cache all kernels, as part of ``make setup``, so that the first training does not wait for it."""
    kernel, recurrent, bias = np.zeros((3, 8), np.float32), np.zeros((2, 8), np.float32), np.zeros(8, np.float32)
    inputs, state = np.zeros((1, 1, 3), np.float32), np.zeros((1, 2), np.float32)
    no_mask = np.zeros((0, 0, 0), np.float32)
    outputs, last, *saved = forward(inputs, kernel, recurrent, bias, state, state, no_mask, no_mask, True)
    d_sums, *_ = backward(outputs, last, kernel, recurrent, no_mask, no_mask, *saved)
    input_gradient(d_sums, kernel, recurrent, no_mask, inputs)
