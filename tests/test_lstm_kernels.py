"""The kernels, forward and backward, compared with a simple loop in double precision."""

import subprocess
import sys
from typing import NamedTuple

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from forecastlib.models.lstm import kernels

NO_MASK = np.zeros((0, 0, 0), np.float32)


class Arguments(NamedTuple):
    """The arguments of ``kernels.forward``, except the last one."""

    inputs: np.ndarray
    kernel: np.ndarray
    recurrent: np.ndarray
    bias: np.ndarray
    hidden: np.ndarray
    carry: np.ndarray
    input_masks: np.ndarray
    state_masks: np.ndarray

    @property
    def constant(self) -> tuple[np.ndarray, ...]:
        """The arguments that ``kernels.backward`` takes as well."""
        return self.kernel, self.recurrent, self.input_masks, self.state_masks


def arguments(batch: int, steps: int, features: int, units: int, *, dropout: bool = True, seed: int = 0) -> Arguments:
    rng = np.random.default_rng(seed)

    def normal(*shape: int, scale: float = 1.0) -> np.ndarray:
        return (scale * rng.standard_normal(shape)).astype(np.float32)

    def masks(width: int) -> np.ndarray:
        return ((rng.random((batch, 4, width)) < 0.8) / 0.8).astype(np.float32)

    return Arguments(
        inputs=normal(batch, steps, features),
        kernel=normal(features, 4 * units, scale=features**-0.5),
        recurrent=normal(units, 4 * units, scale=units**-0.5),
        bias=normal(4 * units, scale=0.5),
        hidden=normal(batch, units, scale=0.5),
        carry=normal(batch, units, scale=0.5),
        input_masks=masks(features) if dropout else NO_MASK,
        state_masks=masks(units) if dropout else NO_MASK,
    )


def simple_loop(tensors: list[tf.Tensor], masks: tuple[np.ndarray, np.ndarray]) -> tuple[tf.Tensor, tf.Tensor]:
    """Run the cell step by step, in double precision."""
    inputs, *weights, h, c = tensors
    kernel, recurrent, bias = (tf.split(weight, 4, axis=-1) for weight in weights)
    outputs = []
    for t in range(inputs.shape[1]):
        z = []
        for gate in range(4):
            x, state = (v if not m.size else v * m[:, gate] for v, m in zip((inputs[:, t], h), masks, strict=True))
            z.append(x @ kernel[gate] + state @ recurrent[gate] + bias[gate])
        c = tf.sigmoid(z[1]) * c + tf.sigmoid(z[0]) * tf.tanh(z[2])
        h = tf.sigmoid(z[3]) * tf.tanh(c)
        outputs.append(h)
    return tf.stack(outputs, 1), c


def assert_equal_to_simple_loop(given: Arguments) -> None:
    tensors = [tf.constant(a, tf.float64) for a in given[:6]]
    rng = np.random.default_rng(1)
    with tf.GradientTape() as tape:
        tape.watch(tensors)
        expected = simple_loop(tensors, given[6:])
        d_results = [rng.standard_normal(result.shape).astype(np.float32) for result in expected]
        total = tf.add_n([tf.reduce_sum(a * b) for a, b in zip(expected, d_results, strict=True)])
    gradients = tape.gradient(total, tensors)

    outputs, carry, *saved = kernels.forward(*given, True)
    for a, b in zip((outputs, carry), expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5)
    d_sums, *others = kernels.backward(*d_results, *given.constant, *saved)
    d_inputs = kernels.input_gradient(d_sums, given.kernel, given.recurrent, given.input_masks, given.inputs)
    for a, b in zip((d_inputs, *others), gradients, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5 * max(1.0, float(abs(b.numpy()).max())))


@pytest.mark.parametrize("dropout", [True, False])
@pytest.mark.parametrize("shape", [(32, 60, 152, 50), (40, 7, 50, 50), (1, 1, 1, 1), (17, 3, 16, 64), (16, 2, 5, 31)])
def test_outputs_and_gradients_equal_a_simple_loop(shape, dropout):
    assert_equal_to_simple_loop(arguments(*shape, dropout=dropout))


@settings(max_examples=40)
@given(
    batch=st.integers(1, 34),
    steps=st.integers(1, 5),
    features=st.integers(1, 34),
    units=st.integers(1, 34),
    seed=st.integers(0, 3),
)
def test_outputs_and_gradients_equal_a_simple_loop_for_any_shape(batch, steps, features, units, seed):
    assert_equal_to_simple_loop(arguments(batch, steps, features, units, seed=seed))


@pytest.mark.parametrize("absent", ["input_masks", "state_masks"])
def test_masks_of_inputs_and_of_states_can_be_used_separately(absent):
    assert_equal_to_simple_loop(arguments(5, 4, 3, 6)._replace(**{absent: NO_MASK}))


def test_a_row_gives_bitwise_the_same_result_in_any_batch():
    batch = arguments(37, 6, 9, 11)
    outputs, carry, *_ = kernels.forward(*batch, True)
    for row in (0, 15, 16, 36):
        by_row = ("inputs", "hidden", "carry", "input_masks", "state_masks")
        single = batch._replace(**{name: np.ascontiguousarray(getattr(batch, name)[[row]]) for name in by_row})
        output, last, *_ = kernels.forward(*single, True)
        np.testing.assert_array_equal(output[0], outputs[row])
        np.testing.assert_array_equal(last[0], carry[row])


def test_without_a_backward_pass_the_results_are_bitwise_the_same_and_take_less_memory():
    batch = arguments(37, 6, 9, 11)
    saved, unsaved = kernels.forward(*batch, True), kernels.forward(*batch, False)
    for a, b in zip(saved[:2], unsaved[:2], strict=True):
        np.testing.assert_array_equal(a, b)
    assert sum(a.nbytes for a in unsaved[2:]) < sum(a.nbytes for a in saved[2:]) / 2


def test_arguments_are_not_modified():
    batch = arguments(5, 4, 3, 6)
    before = [array.copy() for array in batch]
    results = kernels.forward(*batch, True)
    results_before = [array.copy() for array in results]
    d_sums, *_ = kernels.backward(*results[:2], *batch.constant, *results[2:])
    kernels.input_gradient(d_sums, batch.kernel, batch.recurrent, batch.input_masks, batch.inputs)
    for a, b in zip([*batch, *results], [*before, *results_before], strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_and_infinity_affect_the_row_that_contains_them_and_no_other(value):
    batch = arguments(20, 4, 3, 6, dropout=False)
    batch.inputs[17, 2, 1] = value
    batch.kernel[:] = np.abs(batch.kernel)
    outputs, carry, *_ = kernels.forward(*batch, True)
    assert np.isfinite(np.delete(outputs, 17, axis=0)).all()
    assert np.isfinite(outputs[17, :2]).all()
    if np.isnan(value):
        assert np.isnan(outputs[17, 2:]).all()
        assert np.isnan(carry[17]).all()
    else:  # the gates saturate
        assert np.isfinite(outputs[17]).all()


def test_tanh_has_an_absolute_error_below_4e_7_and_stays_within_one():
    x = np.linspace(-20, 20, 400_001, dtype=np.float32)
    results = np.array([kernels._tanh(value) for value in x[::50]])
    np.testing.assert_allclose(results, np.tanh(x[::50].astype(np.float64)), rtol=0, atol=4e-7)
    assert np.abs(results).max() <= 1.0
    assert np.isnan(kernels._tanh(np.float32(np.nan)))


def test_results_are_aligned_so_that_tensorflow_does_not_copy_them():
    batch = arguments(32, 6, 9, 11)
    results = kernels.forward(*batch, True)
    d_sums, *_ = kernels.backward(*results[:2], *batch.constant, *results[2:])
    d_inputs = kernels.input_gradient(d_sums, batch.kernel, batch.recurrent, batch.input_masks, batch.inputs)
    assert all(array.ctypes.data % 64 == 0 for array in (*results, d_sums, d_inputs))


def test_compiled_kernels_are_cached_for_other_processes():
    kernels.compile_all()
    code = (
        "from forecastlib.models.lstm import kernels; kernels.compile_all();"
        "print([f.stats.cache_hits.values() and sum(f.stats.cache_misses.values())"
        " for f in (kernels.forward, kernels.backward, kernels.input_gradient)])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().splitlines()[-1] == "[0, 0, 0]"
