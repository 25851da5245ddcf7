"""FastLSTM compared with ``keras.layers.LSTM``: outputs, gradients, dropout masks and saved models."""

import subprocess
import sys
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from forecastlib.models.lstm import FastLSTM, with_lstm_class
from forecastlib.models.lstm.layer import no_gradient

BATCH, STEPS, FEATURES, UNITS = 6, 5, 3, 4
GATE = {"input": 0, "forget": 1, "candidate": 2, "output": 3}


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def by_gate(masks: Any) -> tf.Tensor:
    """Stack the masks of Keras: one per gate, one for all gates, or none."""
    if masks is None:
        return tf.zeros((0, 0, 0))
    return tf.stack(masks if isinstance(masks, list) else [masks] * 4, axis=1)


def pair(units: int = UNITS, features: int = FEATURES, batch: int = BATCH, **options: Any) -> list[keras.layers.LSTM]:
    """Return the layer of Keras and the fast one, with the same random weights and dropout masks."""
    theirs, ours = (kind(units, seed=3, **options) for kind in (keras.layers.LSTM, FastLSTM))
    for layer in (theirs, ours):
        layer.build((batch, STEPS, features))
        layer.set_weights([0.5 * normal(*w.shape, seed=i) for i, w in enumerate(layer.get_weights())])
    ones = [tf.ones((batch, width), theirs.compute_dtype) for width in (features, units)]
    of_inputs, of_states = theirs.cell.get_dropout_mask(ones[0]), theirs.cell.get_recurrent_dropout_mask(ones[1])
    for layer in (theirs, ours):
        layer.cell.get_dropout_mask = lambda _: of_inputs
        layer.cell.get_recurrent_dropout_mask = lambda _: of_states
    rates = (theirs.dropout, theirs.recurrent_dropout)  # at a rate of 1.0 Keras drops nothing
    masks = [by_gate(m if rate < 1 else None) for m, rate in zip((of_inputs, of_states), rates, strict=True)]
    no_masks = [by_gate(None)] * 2
    ours.draw_masks = lambda *_, training: masks if training else no_masks
    return [theirs, ours]


def outputs_and_gradients(layer: keras.layers.LSTM, x: np.ndarray, *, training: bool = True, **call: Any) -> list[Any]:
    """Return all outputs, then the gradients of a randomly weighted sum of them: of inputs and weights."""
    x = tf.convert_to_tensor(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        outputs = tf.nest.flatten(layer(x, training=training, **call))
        weighted = [tf.reduce_sum(tf.cast(y, "float32") * normal(*y.shape, seed=9)) for y in outputs]
        total = tf.add_n(weighted + [tf.cast(loss, "float32") for loss in layer.losses])
    return [*outputs, *tape.gradient(total, [x, *(w.value for w in layer.trainable_variables)])]


def in_graph(layer: keras.layers.LSTM, x: np.ndarray) -> list[Any]:
    return tf.function(lambda x: outputs_and_gradients(layer, x))(x)


def assert_equal_to_keras(x: np.ndarray, *, run: Any = outputs_and_gradients, call: Any = None, **options: Any) -> None:
    ours, theirs = pair(features=x.shape[2], batch=x.shape[0], **options)[::-1]
    expected, got = (run(layer, x, **(call or {})) for layer in (theirs, ours))
    assert len(expected) == len(got) >= 4
    outputs = len(expected) - 1 - len(theirs.trainable_variables)
    for k, (a, b) in enumerate(zip(expected, got, strict=True)):
        np.testing.assert_allclose(b, a, rtol=0, atol=1e-5 if k < outputs else 1e-4)


DROPOUTS = [(0.0, 0.0), (0.3, 0.0), (0.0, 0.3), (0.2, 0.4)]


@pytest.mark.parametrize(("dropout", "recurrent_dropout"), DROPOUTS)
@pytest.mark.parametrize("return_sequences", [True, False])
def test_outputs_and_all_gradients_equal_keras_with_the_same_masks(dropout, recurrent_dropout, return_sequences):
    assert_equal_to_keras(
        normal(BATCH, STEPS, FEATURES),
        dropout=dropout,
        recurrent_dropout=recurrent_dropout,
        return_sequences=return_sequences,
    )


@settings(max_examples=15)
@given(
    batch=st.integers(1, 9),
    steps=st.integers(1, 7),
    features=st.integers(1, 6),
    units=st.integers(1, 6),
    rates=st.sampled_from(DROPOUTS),
)
def test_outputs_and_gradients_equal_keras_for_any_shape(batch, steps, features, units, rates):
    assert_equal_to_keras(
        normal(batch, steps, features),
        units=units,
        dropout=rates[0],
        recurrent_dropout=rates[1],
        return_sequences=True,
    )


def test_outputs_and_gradients_equal_keras_eagerly_and_in_a_graph():
    for run in (outputs_and_gradients, in_graph):
        assert_equal_to_keras(
            normal(BATCH, STEPS, FEATURES), run=run, dropout=0.2, recurrent_dropout=0.4, return_sequences=True
        )


@pytest.mark.slow
def test_outputs_and_gradients_equal_keras_in_a_function_compiled_by_xla():
    def in_xla(layer: keras.layers.LSTM, x: np.ndarray) -> list[Any]:
        return tf.function(lambda x: outputs_and_gradients(layer, x), jit_compile=True)(x)

    assert_equal_to_keras(
        normal(BATCH, STEPS, FEATURES), run=in_xla, dropout=0.2, recurrent_dropout=0.4, return_sequences=True
    )


@pytest.mark.slow
@pytest.mark.parametrize("steps", [1, 500])
def test_outputs_and_gradients_equal_keras_over_one_and_over_500_steps(steps):
    assert_equal_to_keras(normal(2, steps, FEATURES), run=in_graph, dropout=0.2, recurrent_dropout=0.4)


def test_a_batch_split_in_two_gives_the_results_of_the_whole(monkeypatch):
    x = normal(5, STEPS, FEATURES)
    results = []
    for threads in (2, 1):
        monkeypatch.setattr(tf.config.threading, "get_inter_op_parallelism_threads", lambda n=threads: n)
        results.append(outputs_and_gradients(pair(dropout=0.2, recurrent_dropout=0.4)[1], x))
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "options",
    [
        {"use_bias": False},
        {"go_backwards": True, "return_sequences": True},
        {"return_state": True, "return_sequences": True},
        {"recurrent_dropout": 0.4, "implementation": 1, "dropout": 0.3},
        {"dropout": 1.0, "recurrent_dropout": 1.0},
        {"dtype": "float64", "recurrent_dropout": 0.3},
        {
            "kernel_regularizer": "l2",
            "recurrent_regularizer": "l1",
            "bias_regularizer": "l2",
            "activity_regularizer": "l2",
        },
        {"kernel_initializer": "he_normal", "recurrent_initializer": "zeros", "unit_forget_bias": False},
        # These cases fall back to Keras.
        {"activation": "relu", "recurrent_dropout": 0.3},
        {"recurrent_activation": "hard_sigmoid", "dropout": 0.3},
        {"activation": None},
        {"unroll": True, "recurrent_dropout": 0.3},
    ],
    ids=lambda options: "-".join(options),
)
@pytest.mark.parametrize("training", [True, False])
def test_options_mean_the_same_as_in_keras(options, training):
    assert_equal_to_keras(normal(BATCH, STEPS, FEATURES), call={"training": training}, **options)


def test_an_initial_state_is_used_and_has_a_gradient():
    x, first = normal(BATCH, STEPS, FEATURES), [normal(BATCH, UNITS, seed=k) for k in (1, 2)]
    results = []
    for layer in pair(recurrent_dropout=0.3):
        states = [tf.constant(s) for s in first]
        with tf.GradientTape() as tape:
            tape.watch(states)
            total = tf.reduce_sum(layer(x, initial_state=states, training=True) ** 2)
        results.append([total, *tape.gradient(total, states)])
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def test_a_stateful_layer_continues_from_its_last_state():
    theirs, ours = pair(stateful=True)
    x = normal(BATCH, STEPS, FEATURES)
    for _ in range(2):
        np.testing.assert_allclose(ours(x), theirs(x), rtol=0, atol=1e-5)


def test_masked_time_steps_are_skipped_as_in_keras():
    x = normal(BATCH, STEPS, FEATURES)
    x[:, 3:], x[1, 0] = 0.0, 0.0
    theirs, ours = pair(return_sequences=True)
    masked = keras.layers.Masking()(x)
    np.testing.assert_allclose(ours(masked), theirs(masked), rtol=0, atol=1e-5)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_equals_keras(policy):
    theirs, ours = pair(dtype=policy, recurrent_dropout=0.3)
    x = normal(BATCH, STEPS, FEATURES)
    expected, got = (layer(x, training=True) for layer in (theirs, ours))
    assert got.dtype == expected.dtype != tf.float32
    np.testing.assert_array_equal(tf.cast(got, "float32"), tf.cast(expected, "float32"))


def test_use_cudnn_without_cudnn_raises_the_error_of_keras():
    with pytest.raises(ValueError, match="cuDNN is not supported"):
        FastLSTM(UNITS, use_cudnn=True)(normal(BATCH, STEPS, FEATURES))


def test_layers_that_cudnn_supports_fall_back_to_keras_on_a_gpu(monkeypatch):
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind=None: ["one"] if kind == "GPU" else [])
    assert not FastLSTM(UNITS)._uses_kernels()
    assert FastLSTM(UNITS, recurrent_dropout=0.2)._uses_kernels()
    assert FastLSTM(UNITS, use_cudnn=False)._uses_kernels()


def test_second_order_gradients_raise():
    layer = pair()[1]
    x = tf.constant(normal(BATCH, STEPS, FEATURES))
    with tf.GradientTape() as outer:
        outer.watch(x)
        with tf.GradientTape() as inner:
            inner.watch(x)
            total = tf.reduce_sum(layer(x, training=True))
        slope = tf.reduce_sum(inner.gradient(total, x) ** 2)
    with pytest.raises(NotImplementedError, match=r"first order only.*with_lstm_class"):
        outer.gradient(slope, x)


def test_without_gradient_the_outputs_are_the_same_and_nothing_is_recorded():
    x = tf.constant(normal(BATCH, STEPS, FEATURES))
    outputs = []
    for layer, tracked in zip(
        (pair(dropout=0.2, recurrent_dropout=0.4)[1] for _ in range(2)), (True, False), strict=True
    ):
        with tf.GradientTape() as tape:
            tape.watch(x)
            if tracked:
                outputs.append(layer(x, training=True))
            else:
                with no_gradient():
                    outputs.append(layer(x, training=True))
        assert (tape.gradient(outputs[-1], x) is not None) == tracked
    np.testing.assert_array_equal(*outputs)


def input_mask(rate: float, gate: str, *, recurrent: bool, units: int = 64, batch: int = 200) -> np.ndarray:
    """Infer a mask from the gradient of the masked values: (batch, steps, n), 0 where dropped, otherwise the scale.

    Only one gate depends on them, and so weakly that the other factors of the gradient are those of inference. (Without
    recurrent dropout Keras draws one mask of the inputs for all gates.)
    """
    rates = {"recurrent_dropout": rate} if recurrent else {"dropout": rate, "recurrent_dropout": 1e-9}
    layer = FastLSTM(units, seed=5, return_sequences=True, **rates)
    layer.build((batch, 3, units))
    weak = np.zeros((units, 4 * units), "float32")
    weak[:, GATE[gate] * units : (GATE[gate] + 1) * units] = 1e-6
    bias = np.zeros(4 * units, "float32")
    bias[2 * units : 3 * units] = 1.0  # of the candidate, so that all gates have an effect
    zeros = np.zeros_like(weak)
    layer.set_weights([zeros, weak, bias] if recurrent else [weak, zeros, bias])
    x = tf.zeros((batch, 1 if recurrent else 3, units))
    states = [tf.zeros((batch, units)), tf.ones((batch, units))]
    slopes = []
    for training in (True, False):
        with tf.GradientTape() as tape:
            watched = states[0] if recurrent else x
            tape.watch(watched)
            total = tf.reduce_sum(layer(x, initial_state=states, training=training))
        slopes.append(tape.gradient(total, watched).numpy())
    kept = slopes[0] / slopes[1]
    return kept[:, np.newaxis] if recurrent else kept


@pytest.mark.parametrize("recurrent", [False, True], ids=["inputs", "states"])
def test_each_gate_has_separate_masks_with_the_rate_and_scale_of_inverted_dropout(recurrent):
    rate = 0.3
    masks = {gate: input_mask(rate, gate, recurrent=recurrent) for gate in GATE}
    for mask in masks.values():
        kept = mask[:, 0] != 0.0
        np.testing.assert_allclose(mask[mask != 0.0], 1.0 / (1.0 - rate), rtol=1e-3)
        np.testing.assert_array_equal(mask != 0.0, np.broadcast_to(kept[:, np.newaxis], mask.shape))  # at every step
        assert abs(kept.mean() - (1.0 - rate)) < 4.0 * np.sqrt(rate * (1.0 - rate) / kept.size)
    flat = np.stack([(mask[:, 0] != 0.0).ravel() for mask in masks.values()])
    between = np.corrcoef(flat)[np.triu_indices(4, 1)]
    assert np.abs(between).max() < 4.5 / np.sqrt(flat.shape[1])  # gates are independent
    rows = np.corrcoef(masks["input"][:20, 0] != 0.0)[np.triu_indices(20, 1)]
    assert np.abs(rows).max() < 0.6  # and between rows


def test_masks_depend_on_the_seed_and_inference_drops_nothing():
    x = normal(BATCH, STEPS, FEATURES)

    def call(seed: int, **training: bool) -> np.ndarray:
        layer = FastLSTM(UNITS, dropout=0.4, recurrent_dropout=0.4, seed=seed, kernel_initializer="ones")
        layer.build(x.shape)
        layer.set_weights([0.3 * np.ones(w.shape) for w in layer.get_weights()])
        return layer(x, **training).numpy()

    np.testing.assert_array_equal(call(1, training=True), call(1, training=True))
    assert not np.array_equal(call(1, training=True), call(2, training=True))
    np.testing.assert_array_equal(call(1, training=False), call(2, training=False))
    np.testing.assert_array_equal(call(1), call(2, training=False))


def small_model(kind: type[keras.layers.LSTM], rate: float = 0.2) -> keras.Model:
    inputs = keras.Input((STEPS, FEATURES))
    options = {"dropout": rate, "recurrent_dropout": rate}
    x = kind(UNITS, return_sequences=True, seed=1, kernel_initializer=keras.initializers.Ones(), **options)(inputs)
    x = keras.layers.BatchNormalization()(x)
    x = kind(UNITS, seed=2, **options)(x)
    model = keras.Model(inputs, keras.layers.Dense(1)(x))
    model.set_weights([0.3 * normal(*w.shape, seed=i) ** 2 for i, w in enumerate(model.get_weights())])
    return model


@pytest.mark.slow
@pytest.mark.parametrize(("jit", "together"), [(False, 1), (False, 4), (True, 1)])
def test_training_reaches_the_weights_that_keras_reaches(jit, together):
    x, y = normal(11, STEPS, FEATURES), normal(11, 1, seed=1)  # the last batch is smaller
    reached = []
    for kind, compiled in ((keras.layers.LSTM, False), (FastLSTM, jit)):
        model = small_model(kind, rate=0.0)  # masks differ from those of Keras
        model.compile(keras.optimizers.SGD(0.1), "mse", jit_compile=compiled, steps_per_execution=together)
        history = model.fit(x, y, batch_size=4, epochs=2, shuffle=False, verbose=0)
        reached.append([*model.get_weights(), np.array(history.history["loss"])])
    for a, b in zip(*reached, strict=True):
        np.testing.assert_allclose(b, a, rtol=0, atol=1e-4)


def test_weights_and_configuration_convert_both_ways():
    theirs = small_model(keras.layers.LSTM)
    x = normal(BATCH, STEPS, FEATURES)
    fast = with_lstm_class(theirs, FastLSTM)
    back = with_lstm_class(fast, keras.layers.LSTM)
    assert [type(layer) for layer in fast.layers].count(FastLSTM) == 2
    assert [type(layer) for layer in back.layers] == [type(layer) for layer in theirs.layers]
    assert [layer.get_config() for layer in back.layers[1:]] == [layer.get_config() for layer in theirs.layers[1:]]
    for model in (fast, back):
        np.testing.assert_allclose(model(x), theirs(x), rtol=0, atol=1e-5)
        for a, b in zip(model.get_weights(), theirs.get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)


def test_a_saved_model_can_be_loaded(tmp_path):
    model = small_model(FastLSTM)
    x = normal(BATCH, STEPS, FEATURES)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert [type(layer) for layer in loaded.layers].count(FastLSTM) == 2
    np.testing.assert_array_equal(loaded(x), model(x))


@pytest.mark.slow
def test_a_converted_model_loads_without_the_library_and_converts_back(tmp_path):
    model = small_model(FastLSTM)
    x = normal(BATCH, STEPS, FEATURES)
    with_lstm_class(model, keras.layers.LSTM).save(tmp_path / "plain.keras")
    np.save(tmp_path / "x.npy", x)
    program = """
import sys, keras, numpy as np
model = keras.saving.load_model("plain.keras")
np.save("y.npy", model(np.load("x.npy")))
model.save("again.keras")
assert not any(name.startswith("forecastlib") for name in sys.modules)
"""
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True, capture_output=True)
    again = with_lstm_class(keras.saving.load_model(tmp_path / "again.keras"), FastLSTM)
    for y in (np.load(tmp_path / "y.npy"), again(x)):
        np.testing.assert_allclose(y, model(x), rtol=0, atol=1e-5)
