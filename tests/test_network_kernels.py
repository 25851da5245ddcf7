"""The kernels against an obvious loop in double precision, forwards and backwards."""

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from forecastlib.models.lstm import kernels

NOTHING = np.zeros((0, 0, 0), np.float32)


def arguments(batch: int, steps: int, features: int, units: int, *, dropping: bool = True, seed: int = 0) -> list[Any]:
    rng = np.random.default_rng(seed)

    def normal(*shape: int, scale: float = 1.0) -> np.ndarray:
        return (scale * rng.standard_normal(shape)).astype(np.float32)

    def masks(width: int) -> np.ndarray:
        return ((rng.random((batch, 4, width)) < 0.8) / 0.8).astype(np.float32)

    width = 4 * units
    weights = (
        normal(features, width, scale=features**-0.5),
        normal(units, width, scale=units**-0.5),
        normal(width, scale=0.5),
    )
    states = (normal(batch, units, scale=0.5), normal(batch, units, scale=0.5))
    dropped = (masks(features), masks(units)) if dropping else (NOTHING, NOTHING)
    return [normal(batch, steps, features), weights, states, dropped]


def obvious(inputs: Any, weights: Any, states: Any, masks: Any) -> tuple[tf.Tensor, tf.Tensor]:
    """Run the cell step by step, in double precision."""
    kernel, recurrent, bias = (tf.split(weight, 4, axis=-1) for weight in weights)
    h, c = states
    outputs = []
    for t in range(inputs.shape[1]):
        z = []
        for gate in range(4):
            seen, kept = (v if not m.size else v * m[:, gate] for v, m in zip((inputs[:, t], h), masks, strict=True))
            z.append(seen @ kernel[gate] + kept @ recurrent[gate] + bias[gate])
        c = tf.sigmoid(z[1]) * c + tf.sigmoid(z[0]) * tf.tanh(z[2])
        h = tf.sigmoid(z[3]) * tf.tanh(c)
        outputs.append(h)
    return tf.stack(outputs, 1), c


def assert_as_the_obvious_loop(inputs: Any, weights: Any, states: Any, masks: Any) -> None:
    watched = [tf.constant(a, tf.float64) for a in (inputs, *weights, *states)]
    rng = np.random.default_rng(1)
    with tf.GradientTape() as tape:
        tape.watch(watched)
        expected = obvious(watched[0], watched[1:4], watched[4:], masks)
        given = [rng.standard_normal(one.shape).astype(np.float32) for one in expected]
        total = tf.add_n([tf.reduce_sum(a * b) for a, b in zip(expected, given, strict=True)])
    gradients = tape.gradient(total, watched)

    outputs, carry, *kept = kernels.forward(inputs, weights, states, masks, True)
    for a, b in zip((outputs, carry), expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5)
    d_sums, *rest = kernels.backward(*given, weights[:2], masks, tuple(kept))
    d_inputs = kernels.input_gradient(d_sums, *weights[:2], masks[0], inputs.shape)
    for a, b in zip((d_inputs, *rest), gradients, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5 * max(1.0, float(abs(b.numpy()).max())))


@pytest.mark.parametrize("dropping", [True, False])
@pytest.mark.parametrize("shape", [(32, 60, 152, 50), (40, 7, 50, 50), (1, 1, 1, 1), (17, 3, 16, 64), (16, 2, 5, 31)])
def test_outputs_and_gradients_are_those_of_the_obvious_loop(shape, dropping):
    assert_as_the_obvious_loop(*arguments(*shape, dropping=dropping))


@settings(max_examples=40)
@given(
    batch=st.integers(1, 34),
    steps=st.integers(1, 5),
    features=st.integers(1, 34),
    units=st.integers(1, 34),
    seed=st.integers(0, 3),
)
def test_they_are_so_for_any_shape(batch, steps, features, units, seed):
    assert_as_the_obvious_loop(*arguments(batch, steps, features, units, seed=seed))


def test_masks_of_inputs_alone_or_of_states_alone_are_used():
    inputs, weights, states, (of_inputs, of_states) = arguments(5, 4, 3, 6)
    assert_as_the_obvious_loop(inputs, weights, states, (of_inputs, NOTHING))
    assert_as_the_obvious_loop(inputs, weights, states, (NOTHING, of_states))


def test_a_row_gets_the_same_answer_to_the_last_bit_alone_and_among_others():
    inputs, weights, states, masks = arguments(37, 6, 9, 11)
    together, carry, *_ = kernels.forward(inputs, weights, states, masks, True)
    for row in (0, 15, 16, 36):
        one = slice(row, row + 1)
        parts = [np.ascontiguousarray(part) for part in (states[0][one], states[1][one])]
        kept = [np.ascontiguousarray(mask[one]) for mask in masks]
        alone, last, *_ = kernels.forward(inputs[one], weights, tuple(parts), tuple(kept), True)
        np.testing.assert_array_equal(alone[0], together[row])
        np.testing.assert_array_equal(last[0], carry[row])


def test_keeping_nothing_for_the_way_back_changes_no_bit_and_takes_no_memory_for_it():
    every = arguments(37, 6, 9, 11)
    kept, forgotten = kernels.forward(*every, True), kernels.forward(*every, False)
    for a, b in zip(kept[:2], forgotten[:2], strict=True):
        np.testing.assert_array_equal(a, b)
    assert sum(a.nbytes for a in forgotten[2:]) < sum(a.nbytes for a in kept[2:]) / 2


def test_arguments_are_left_as_they_are():
    inputs, weights, states, masks = arguments(5, 4, 3, 6)
    every = [inputs, *weights, *states, *masks]
    before = [one.copy() for one in every]
    outputs, last, *kept = kernels.forward(inputs, weights, states, masks, True)
    held = [one.copy() for one in (outputs, last, *kept)]
    d_sums, *_ = kernels.backward(outputs, last, weights[:2], masks, tuple(kept))
    kernels.input_gradient(d_sums, *weights[:2], masks[0], inputs.shape)
    for a, b in zip([*every, outputs, last, *kept], [*before, *held], strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_a_number_comes_through_to_the_row_it_is_in_and_to_no_other(value):
    inputs, weights, states, _ = arguments(20, 4, 3, 6)
    inputs[17, 2, 1] = value
    weights[0][:] = np.abs(weights[0])
    outputs, carry, *_ = kernels.forward(inputs, weights, states, (NOTHING, NOTHING), True)
    assert np.isfinite(np.delete(outputs, 17, axis=0)).all()
    assert np.isfinite(outputs[17, :2]).all()
    if np.isnan(value):
        assert np.isnan(outputs[17, 2:]).all()
        assert np.isnan(carry[17]).all()
    else:  # a gate that is wide open
        assert np.isfinite(outputs[17]).all()


def test_tanh_is_right_to_four_parts_in_ten_million_and_never_beyond_one():
    x = np.linspace(-20, 20, 400_001, dtype=np.float32)
    answers = np.array([kernels._tanh(value) for value in x[::50]])
    np.testing.assert_allclose(answers, np.tanh(x[::50].astype(np.float64)), rtol=0, atol=4e-7)
    assert np.abs(answers).max() <= 1.0
    assert np.isnan(kernels._tanh(np.float32(np.nan)))


def test_results_begin_where_tensorflow_takes_them_without_a_copy():
    every = arguments(32, 6, 9, 11)
    outputs, last, *kept = kernels.forward(*every, True)
    d_sums, *_ = kernels.backward(outputs, last, every[1][:2], every[3], tuple(kept))
    d_inputs = kernels.input_gradient(d_sums, *every[1][:2], every[3][0], every[0].shape)
    assert all(one.ctypes.data % 64 == 0 for one in (outputs, last, *kept, d_sums, d_inputs))


def test_what_is_compiled_is_kept_for_other_processes():
    kernels.compile_all()
    code = (
        "from forecastlib.models.lstm import kernels; kernels.compile_all();"
        "print([f.stats.cache_hits.values() and sum(f.stats.cache_misses.values())"
        " for f in (kernels.forward, kernels.backward, kernels.input_gradient)])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().splitlines()[-1] == "[0, 0, 0]"
