"""The LSTM in machine code: a sequence forwards and backwards, compiled by Numba for the processor at hand.

Sixteen rows of a batch make a *block*. Inside of a block the row is the fastest axis, so that a vector register holds
one unit of sixteen rows. The input and the hidden state of a step stand one below the other in ``joined``, as the two
kernels do in ``weights``, which makes a step one product:

    z[g, j] = bias[g, j] + sum over v of weights[v, g, j] * (mask[g, v] * joined[v])      g: gate, j: unit

Every product, forwards and backwards, is made of one small one, :func:`_add_product`, which keeps a tile of the result
in registers. It is written in LLVM's vector types, because no compiler makes it of loops; all else is plain loops.

Gates stand in the order of Keras: input, forget, candidate, output. All arrays are float32 and contiguous; masks may
have the length 0, which means that nothing is dropped.
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

ROWS = 10 if llvmlite.binding.get_host_cpu_features().get("avx512f") else 5
"""Rows of a tile: as many as there are registers for, beside a vector and a scalar."""

_VECTOR = ir.VectorType(ir.FloatType(), LANES)
_INDEX = ir.IntType(64)

# Sums may be reordered, but NaN and infinity stay what they are: training has to notice them.
_OPTIONS: dict[str, Any] = {"nogil": True, "fastmath": {"contract", "nsz", "reassoc"}, "error_model": "numpy"}


def _whole(function: Compiled) -> Compiled:
    """Compile a function once a machine: its code is kept beside this file, or else in the user's cache folder."""
    try:
        return cast(Compiled, njit(cache=True, **_OPTIONS)(function))
    except RuntimeError:  # neither can be written: each process compiles for itself, which takes some seconds
        return _part(function)


def _part(function: Compiled) -> Compiled:
    """Let a function be compiled into those that call it."""
    return cast(Compiled, njit(**_OPTIONS)(function))


def _generated(function: Callable[..., Any]) -> Callable[..., None]:
    """Let a function return the code of a function, as Numba's typing and as a generator of LLVM's instructions."""
    return cast(Callable[..., None], intrinsic(function))


class _View:
    """An array inside of generated code, of two dimensions, or of one: then all its rows are the same."""

    def __init__(self, context: Any, build: Any, kind: Any, value: Any) -> None:
        array = context.make_array(kind)(context, build, value=value)
        strides = [build.extract_value(array.strides, axis) for axis in range(kind.ndim)]
        self._build = build
        self._start = build.bitcast(array.data, ir.IntType(8).as_pointer())
        self._row = strides[0] if kind.ndim == 2 else _number(0)
        self._column = strides[-1]
        self.rows = build.extract_value(array.shape, 0)

    def vector(self, row: Any) -> Any:
        """Return the address of the first LANES elements of a row."""
        return self._address(row, _number(0), _VECTOR)

    def element(self, row: Any, column: Any) -> Any:
        """Return the address of an element."""
        return self._address(row, column, ir.FloatType())

    def _address(self, row: Any, column: Any, kind: ir.Type) -> Any:
        build = self._build
        bytes_away = build.add(build.mul(row, self._row), build.mul(column, self._column))
        return build.bitcast(build.gep(self._start, [bytes_away]), kind.as_pointer())


def _number(value: int) -> ir.Constant:
    return ir.Constant(_INDEX, value)


def _order(places: list[int]) -> ir.Constant:
    return ir.Constant(ir.VectorType(ir.IntType(32), len(places)), places)


@_generated
def _add_product(typing: Any, out: Any, factors: Any, scalars: Any, vectors: Any) -> Any:
    """Add a tile of a product: ``out[r] += factors[r] * sum over k of scalars[k, r] * vectors[k]``, for k >= 1 terms.

    ``out`` (ROWS, LANES) and ``vectors`` (k, LANES) have contiguous rows and may be longer than that; ``factors`` is
    like ``out``, or one row (LANES) for all of them; ``scalars`` (k, ROWS) has any strides.
    """

    def generate(context: Any, build: Any, signature: Any, arguments: Any) -> Any:
        pairs = zip(signature.args, arguments, strict=True)
        target, factor, scalar, vector = (_View(context, build, kind, value) for kind, value in pairs)
        undefined, everywhere = ir.Constant(_VECTOR, ir.Undefined), _order([0] * LANES)

        def add(total: Any, one: Any, other: Any) -> Any:
            return build.fadd(total, build.fmul(one, other, flags=["contract"]), flags=["contract"])

        before, loop, after = (
            build.block,
            build.append_basic_block("product"),
            build.append_basic_block("product.end"),
        )
        build.branch(loop)
        build.position_at_end(loop)
        k = build.phi(_INDEX)
        totals = [build.phi(_VECTOR) for _ in range(ROWS)]
        values = build.load(vector.vector(k), align=4)
        sums = []
        for row, total in enumerate(totals):
            single = build.load(scalar.element(k, _number(row)))
            lowest = build.insert_element(undefined, single, ir.Constant(ir.IntType(32), 0))
            sums.append(add(total, build.shuffle_vector(lowest, undefined, everywhere), values))
            total.add_incoming(ir.Constant(_VECTOR, [0.0] * LANES), before)
            total.add_incoming(sums[row], loop)
        following = build.add(k, _number(1))
        k.add_incoming(_number(0), before)
        k.add_incoming(following, loop)
        build.cbranch(build.icmp_signed("<", following, vector.rows), loop, after)
        build.position_at_end(after)
        for row, total in enumerate(sums):
            place = target.vector(_number(row))
            weight = build.load(factor.vector(_number(row)), align=4)
            build.store(add(build.load(place, align=4), weight, total), place, align=4)
        return context.get_dummy_value()

    return types.void(out, factors, scalars, vectors), generate


@_generated
def _transpose(typing: Any, source: Any, target: Any) -> Any:
    """Transpose the first LANES x LANES elements; both arrays have two dimensions and contiguous rows."""

    def generate(context: Any, build: Any, signature: Any, arguments: Any) -> Any:
        pairs = zip(signature.args, arguments, strict=True)
        read, written = (_View(context, build, kind, value) for kind, value in pairs)
        rows = [build.load(read.vector(_number(row)), align=4) for row in range(LANES)]
        size = 1
        while size < LANES:  # swap blocks beside the diagonal: of one element, then of two, four and eight
            upper = _order([c if c & size == 0 else c - size + LANES for c in range(LANES)])
            lower = _order([c + size if c & size == 0 else c + LANES for c in range(LANES)])
            for row in range(LANES):
                if row & size == 0:
                    pair = rows[row], rows[row + size]
                    rows[row], rows[row + size] = (build.shuffle_vector(*pair, order) for order in (upper, lower))
            size *= 2
        for row, values in enumerate(rows):
            build.store(values, written.vector(_number(row)), align=4)
        return context.get_dummy_value()

    return types.void(source, target), generate


# tanh(x) = x P(x^2) / Q(x^2) for |x| <= 8, fitted for the least largest relative error, 6e-9. In float32 it is off by
# at most 3.4e-7, of which 2.3e-7 because tanh(8) stands for all that is beyond.
_P = tuple(map(np.float32, (0.9999999935676811, 0.1344449688510881, 3.5715967199893505e-3, 2.18946401723446e-5,
                            1.523038666389894e-8)))  # fmt: skip
_Q = tuple(map(np.float32, (1.0, 0.46777824204076035, 0.0261644379869038, 3.4112898725132204e-4,
                            8.522434113590409e-7)))  # fmt: skip
_BOUND, _ONE, _HALF = np.float32(8.0), np.float32(1.0), np.float32(0.5)


@_part
def _tanh(x: Any) -> Any:
    x = _BOUND if x > _BOUND else x  # written so that NaN stays NaN
    x = -_BOUND if x < -_BOUND else x
    s = x * x
    p = _P[0] + s * (_P[1] + s * (_P[2] + s * (_P[3] + s * _P[4])))
    q = _Q[0] + s * (_Q[1] + s * (_Q[2] + s * (_Q[3] + s * _Q[4])))
    return x * p / q


@_part
def _sigmoid(x: Any) -> Any:
    return _HALF + _HALF * _tanh(_HALF * x)


@_part
def _up(count: int, multiple: int) -> int:
    return (count + multiple - 1) // multiple * multiple


@_part
def _aligned(count: int) -> Floats:
    """Return an empty array that begins on a boundary of 64 bytes: TensorFlow copies any other."""
    room = np.empty(count + 16, np.float32)
    skip = (64 - room.ctypes.data % 64) % 64 // 4
    return room[skip : skip + count]


@_part
def _add(values: Floats, total: Floats) -> None:
    for n in range(len(total)):
        total[n] += values[n]


@_part
def _multiply(one: Floats, other: Floats, product: Floats) -> None:
    for n in range(len(product)):
        product[n] = one[n] * other[n]


@_part
def _copy(values: Floats, target: Floats) -> None:
    for n in range(len(values)):
        target[n] = values[n]


@_part
def _weights(kernel: Floats, recurrent: Floats) -> Floats:
    """Return both kernels, one below the other, by gate: (features + units, 4, units), units padded to whole tiles."""
    features, units = len(kernel), len(recurrent)
    padded = _up(units, ROWS)
    joined = np.zeros((features + padded, GATES, padded), np.float32)
    for gate in range(GATES):
        for row in range(features):
            _copy(kernel[row, gate * units : (gate + 1) * units], joined[row, gate])
        for row in range(units):
            _copy(recurrent[row, gate * units : (gate + 1) * units], joined[features + row, gate])
    return joined


@_part
def _masks(input_masks: Floats, state_masks: Floats, start: int, features: int, width: int) -> Floats:
    """Return the masks of a block's rows, joined as inputs and states are: (4, LANES, width), 1 where there is none."""
    joined = np.ones((GATES, LANES, width), np.float32)
    for row in range(min(LANES, len(input_masks) - start)):
        for gate in range(GATES):
            _copy(input_masks[start + row, gate], joined[gate, row])
    for row in range(min(LANES, len(state_masks) - start)):
        for gate in range(GATES):
            _copy(state_masks[start + row, gate], joined[gate, row, features:])
    return joined


@_part
def _to_lanes(rows: Floats, lanes: Floats, count: int) -> None:
    """Turn ``count`` columns of (LANES, columns) into rows of (columns, LANES), in whole blocks: both need the room."""
    for first in range(0, count, LANES):
        _transpose(rows[:, first:], lanes[first:])


@_part
def _to_rows(lanes: Floats, rows: Floats, count: int) -> None:
    """Turn ``count`` rows of (columns, LANES) into columns of (LANES, columns), in whole blocks."""
    for first in range(0, count, LANES):
        _transpose(lanes[first:], rows[:, first:])


@_part
def _advance(gates: Floats, carry: Floats, new_carry: Floats, hidden: Floats) -> None:
    """Turn the sums of the gates into their values in place, and compute the next carry and hidden state; all flat."""
    size = len(gates) // GATES
    for n in range(size):
        i, f = _sigmoid(gates[n]), _sigmoid(gates[size + n])
        g, o = _tanh(gates[2 * size + n]), _sigmoid(gates[3 * size + n])
        c = f * carry[n] + i * g
        gates[n], gates[size + n], gates[2 * size + n], gates[3 * size + n] = i, f, g, o
        new_carry[n] = c
        hidden[n] = o * _tanh(c)


@_part
def _retreat(gates: Floats, carries: tuple[Floats, Floats], d_hidden: Floats, d_carry: Floats, d_gates: Floats) -> None:
    """Compute the gradients of the sums of the gates, and turn that of the carry into the one before; all flat."""
    before, after = carries
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


@_whole
def forward(
    inputs: Floats,
    kernels: tuple[Floats, Floats, Floats],
    states: tuple[Floats, Floats],
    masks: tuple[Floats, Floats],
    keep: bool,
) -> tuple[Floats, Floats, Floats, Floats, Floats]:
    """Run a batch of sequences.

    Parameters
    ----------
    inputs
        Shape (batch, steps, features).
    kernels
        Kernel (features, 4 x units), recurrent kernel (units, 4 x units), bias (4 x units).
    states
        First hidden state and carry, (batch, units).
    masks
        Factors of the inputs, (batch, 4, features), and of the hidden state, (batch, 4, units).
    keep
        Whether to return what the way back needs.

    Returns
    -------
    tuple of ndarray
        All outputs (batch, steps, units) and the last carry (batch, units); then, by block, what :func:`backward`
        takes: inputs and states joined (blocks, LANES, steps + 1, width), values of the gates (blocks, steps, 4, units,
        LANES), carries (blocks, steps + 1, units, LANES).
    """
    batch, steps, features = inputs.shape
    kernel, recurrent, bias = kernels
    units = len(recurrent)
    padded, blocks, height = _up(units, ROWS), _up(batch, LANES) // LANES, features + units
    room = _up(padded, LANES)
    width, size = _up(features + room, LANES), padded * LANES
    weights = _weights(kernel, recurrent)
    start = np.zeros((GATES, padded, LANES), np.float32)
    for gate in range(GATES):
        for unit in range(units):
            start[gate, unit] = bias[gate * units + unit]
    kept_blocks, kept_steps, kept_carries = (blocks, steps, steps + 1) if keep else (1, 1, 2)
    joined = _aligned(kept_blocks * LANES * (steps + 1) * width).reshape((kept_blocks, LANES, steps + 1, width))
    gates = _aligned(kept_blocks * kept_steps * GATES * size).reshape((kept_blocks, kept_steps, GATES, padded, LANES))
    carries = _aligned(kept_blocks * kept_carries * room * LANES).reshape((kept_blocks, kept_carries, room, LANES))
    outputs = _aligned(batch * steps * units).reshape((batch, steps, units))
    last = _aligned(batch * units).reshape((batch, units))
    lanes, hidden = np.empty((width, LANES), np.float32), np.zeros((room, LANES), np.float32)
    masked, factors = np.empty((height, LANES), np.float32), np.empty((GATES, width, LANES), np.float32)
    rows, ones = np.zeros((LANES, room), np.float32), np.ones(LANES, np.float32)
    dropping = len(masks[0]) > 0 or len(masks[1]) > 0
    for block in range(blocks):
        first, b = block * LANES, block if keep else 0
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
                _copy(states[0][first + row], joined[b, row, 0, features:])
                _copy(states[1][first + row], rows[row])
        _to_lanes(rows, carries[b, 0], room)
        if dropping:
            of_block = _masks(masks[0], masks[1], first, features, width)
            for gate in range(GATES):
                _to_lanes(of_block[gate], factors[gate], width)
        after = 0
        for t in range(steps):
            now, before, after = (t, t, t + 1) if keep else (0, t % 2, (t + 1) % 2)
            sums = gates[b, now]
            _copy(start.ravel(), sums.ravel())
            _to_lanes(joined[b, :, t], lanes, height)
            seen = lanes[:height]
            for gate in range(GATES):
                if dropping:
                    _multiply(lanes.ravel(), factors[gate].ravel(), masked.ravel())
                    seen = masked
                for unit in range(0, padded, ROWS):
                    _add_product(sums[gate, unit:], ones, weights[:height, gate, unit:], seen)
            _advance(sums.ravel(), carries[b, before].ravel(), carries[b, after].ravel(), hidden.ravel())
            _to_rows(hidden, joined[b, :, t + 1, features:], units)
        for row in range(count):
            for t in range(steps):
                _copy(joined[b, row, t + 1, features:height], outputs[first + row, t])
        _to_rows(carries[b, after], rows, units)
        for row in range(count):
            _copy(rows[row, :units], last[first + row])
    return outputs, last, joined, gates, carries


@_whole
def backward(
    d_outputs: Floats,
    d_last: Floats,
    kernels: tuple[Floats, Floats],
    masks: tuple[Floats, Floats],
    kept: tuple[Floats, Floats, Floats],
) -> tuple[Floats, Floats, Floats, Floats, Floats, Floats]:
    """Return the gradients of what :func:`forward` was given.

    Parameters
    ----------
    d_outputs, d_last
        Gradients of all outputs (batch, steps, units) and of the last carry (batch, units).
    kernels, masks
        Kernel and recurrent kernel; the masks that were given forwards.
    kept
        The last three of what :func:`forward` has returned.

    Returns
    -------
    tuple of ndarray
        Gradients of the gates' sums, (blocks x LANES, steps, 4, units) padded, which :func:`input_gradient` takes;
        of kernel, recurrent kernel, bias, first hidden state and first carry.
    """
    joined, gates, carries = kept
    batch, steps, units = d_outputs.shape
    features = len(kernels[0])
    blocks, _, _, padded, _ = gates.shape
    height, room, width = features + units, carries.shape[2], joined.shape[3]
    columns = GATES * padded
    weights = _weights(kernels[0], kernels[1])
    deep, wide = _up(steps, ROWS), _up(columns, LANES)
    d_sums = _aligned(blocks * LANES * deep * wide).reshape((blocks * LANES, deep, wide))
    d_weights = np.zeros((GATES, padded, width), np.float32)
    d_bias = np.zeros((columns, LANES), np.float32)
    d_first, d_carry_first = np.empty((batch, units), np.float32), np.empty((batch, units), np.float32)
    now, factors = np.zeros((wide, LANES), np.float32), np.empty((GATES, room, LANES), np.float32)
    d_hidden, d_carry = np.zeros((room, LANES), np.float32), np.zeros((room, LANES), np.float32)
    lanes = np.zeros((room, LANES), np.float32)
    rows = np.zeros((LANES, room), np.float32)
    for block in range(blocks):
        first = block * LANES
        count = min(LANES, batch - first)
        of_block = _masks(masks[0], masks[1], first, features, width)
        for gate in range(GATES):
            _to_lanes(of_block[gate, :, features:], factors[gate], room)
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
            around = carries[block, t].ravel(), carries[block, t + 1].ravel()
            _retreat(gates[block, t].ravel(), around, d_hidden.ravel(), d_carry.ravel(), now.ravel())
            _add(now.ravel(), d_bias.ravel())
            _to_rows(now, d_sums[first : first + LANES, t], columns)
            d_hidden[:] = 0.0
            for unit in range(0, padded, ROWS):
                for gate in range(GATES):
                    _add_product(
                        d_hidden[unit:],
                        factors[gate, unit:],
                        weights[features + unit :, gate, :units].T,
                        now[gate * padded : gate * padded + units],
                    )
        for row in range(count):
            d_sums[first + row, steps:] = 0.0
            for gate in range(GATES):
                for unit in range(0, padded, ROWS):
                    for place in range(0, height, LANES):
                        _add_product(
                            d_weights[gate, unit:, place:],
                            of_block[gate, row, place:],
                            d_sums[first + row, :steps, gate * padded + unit :],
                            joined[block, row, :steps, place:],
                        )
        _to_rows(d_hidden, rows, units)
        for row in range(count):
            _copy(rows[row, :units], d_first[first + row])
        _to_rows(d_carry, rows, units)
        for row in range(count):
            _copy(rows[row, :units], d_carry_first[first + row])
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
    return d_sums, d_kernel, d_recurrent, d_start, d_first, d_carry_first


@_whole
def input_gradient(
    d_sums: Floats, kernel: Floats, recurrent: Floats, input_masks: Floats, shape: tuple[int, int, int]
) -> Floats:
    """Return the gradient of the inputs, of a shape (batch, steps, features), from that of the gates' sums."""
    batch, steps, features = shape
    units = len(recurrent)
    padded, width = _up(units, ROWS), _up(features, LANES)
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
            for t in range(0, steps, ROWS):
                for place in range(0, features, LANES):
                    _add_product(
                        rows[t:, place:],
                        factors[place:],
                        d_sums[row, t:, gate * padded : gate * padded + units].T,
                        weights[gate, :, place:],
                    )
        for t in range(steps):
            _copy(rows[t, :features], d_inputs[row, t])
    return d_inputs


def compile_all() -> None:
    """Compile what is not compiled yet, which set-up does, so that no first training has to wait for it."""
    kernels, bias = (np.zeros((3, 8), np.float32), np.zeros((2, 8), np.float32)), np.zeros(8, np.float32)
    state, nothing = np.zeros((1, 2), np.float32), np.zeros((0, 0, 0), np.float32)
    masks = nothing, nothing
    inputs = np.zeros((1, 1, 3), np.float32)
    outputs, last, joined, gates, carries = forward(inputs, (*kernels, bias), (state, state), masks, True)
    d_sums, *_ = backward(outputs, last, kernels, masks, (joined, gates, carries))
    input_gradient(d_sums, *kernels, nothing, (1, 1, 3))
