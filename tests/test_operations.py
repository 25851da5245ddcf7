"""Checks of speed that do not depend on the load of the machine: operations, traces, allocations."""

import gc
import tracemalloc
from collections import Counter

import keras
import numpy as np
import pytest
import tensorflow as tf
import tiny

from forecastlib.config import ModelConfig, RunConfig, WindowConfig
from forecastlib.features import compute_features
from forecastlib.models.lstm import FastLSTM, TrainingData, build_network, compile_network
from forecastlib.recipe import Recipe

PRODUCTS = {"MatMul", "BatchMatMulV2", "BatchMatMulV3"}
CALLS = {"PyFunc", "PyFuncStateless"}


def operations(function: tf.types.experimental.ConcreteFunction) -> tuple[Counter, Counter]:
    """Count the operations of a graph, and those in the bodies of its loops."""
    library = {one.signature.name: one for one in function.graph.as_graph_def(add_shapes=False).library.function}
    inside, loops = Counter(), Counter()

    def visit(nodes, counts):
        for node in nodes:
            counts[node.op] += 1
            if node.op in {"While", "StatelessWhile"}:
                visit(library[node.attr["body"].func.name].node_def, loops)
            elif "PartitionedCall" in node.op:
                visit(library[node.attr["f"].func.name].node_def, counts)

    visit(function.graph.as_graph_def().node, inside)
    return inside, loops


def gradient_graph(kind: type[keras.layers.LSTM]) -> tf.types.experimental.ConcreteFunction:
    layer = kind(8, return_sequences=True, dropout=0.2, recurrent_dropout=0.2)
    layer.build((4, 10, 6))

    @tf.function
    def step(inputs):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(layer(inputs, training=True))
        return tape.gradient(loss, layer.trainable_weights)

    return step.get_concrete_function(tf.TensorSpec((4, 10, 6)))


def test_a_layer_is_one_call_forward_and_one_backward_without_a_loop(monkeypatch):
    # With one core: the layer splits its batch over several cores.
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    fast, loops = operations(gradient_graph(FastLSTM))
    assert sum(fast[name] for name in CALLS) == 3  # the third is the gradient of the inputs, which is not called
    assert not loops and not any(fast[name] for name in PRODUCTS)
    _, of_keras = operations(gradient_graph(keras.layers.LSTM))
    assert sum(of_keras[name] for name in PRODUCTS) >= 16  # so the count includes bodies of loops


def test_a_training_step_is_a_graph_of_few_operations():
    config = RunConfig()
    network = build_network(6, config.window, config.model)
    compile_network(network, config.window.horizons, config.train)
    x = np.zeros((32, 60, 6), np.float32)
    y = {name: np.zeros((32, 1), np.float32) for name in network.output_names}
    network.train_on_batch(x, y)
    step = tf.function(lambda x, y: network.train_step((x, y))).get_concrete_function(x, y)
    counted = Counter(operation.type for operation in step.graph.get_operations())
    assert sum(counted.values()) - counted["Const"] < 1100
    assert counted["StatelessRandomUniformV2"] == 8  # two per layer, and one for each of the other dropouts


def test_further_epochs_do_not_trace_the_training_step_again(monkeypatch):
    traced = []
    run = FastLSTM.inner_loop
    monkeypatch.setattr(FastLSTM, "inner_loop", lambda *args, **kwargs: traced.append(0) or run(*args, **kwargs))
    network = build_network(6, WindowConfig(lookback=10, horizons=(1,)), ModelConfig(lstm_units=(4,), dense_units=(4,)))
    compile_network(network, (1,), RunConfig.from_parameters(horizons=[1]).train)
    rng = np.random.default_rng(0)
    matrix, rows = rng.normal(size=(80, 6)).astype(np.float32), np.arange(9, 80)
    data = TrainingData(matrix, rows, {1: rng.normal(size=71).astype(np.float32)}, 10)
    network.fit(data.shuffled_batches(16, 0), steps_per_epoch=data.steps(16), epochs=2, verbose=0, shuffle=False)
    first = len(traced)
    assert first > 0
    network.fit(data.shuffled_batches(16, 1), steps_per_epoch=data.steps(16), epochs=3, verbose=0, shuffle=False)
    assert len(traced) == first


def test_datasets_are_not_autotuned():
    data = TrainingData(np.zeros((80, 6), np.float32), np.arange(9, 80), {1: np.zeros(71, np.float32)}, 10)
    for batches in (data.batches(16), data.shuffled_batches(16, 0)):
        assert batches.options().autotune.enabled is False


def traced_peak(lookback: int, prices) -> int:
    config = RunConfig.from_parameters(lookback=lookback)
    gc.collect()
    tracemalloc.start()
    try:
        TrainingData.of(Recipe().prepare(prices, config).windows)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_preparing_samples_copies_no_windows_and_needs_no_more_memory_for_longer_ones(gspc):
    matrix = len(gspc) * 152 * 8
    short, long = traced_peak(60, gspc), traced_peak(250, gspc)
    assert short < 3 * matrix  # copied windows would take 30 times as much, in float32
    assert long < 1.25 * short  # copied windows would need four times as much


def test_features_keep_no_reference_to_their_prices(gspc):
    compute_features(gspc)
    gc.collect()
    gc.disable()  # reference cycles would be freed only by the garbage collector
    tracemalloc.start()
    try:
        features = compute_features(gspc)
        assert tracemalloc.get_traced_memory()[0] < 1.02 * features.to_numpy().nbytes
    finally:
        tracemalloc.stop()
        gc.enable()


@pytest.mark.slow
def test_repeated_forecasts_of_changing_sizes_do_not_accumulate_memory():
    forecaster, prices = tiny.forecaster(), tiny.prices()

    def forecast(number: int) -> None:
        history = prices.iloc[number % 50 :]
        forecaster.predict(history, history.index[-1 - number % 8 :].to_list())

    gc.collect()
    tracemalloc.start()
    try:
        for number in range(180):  # internal tables grow in steps at first
            forecast(number)
        gc.collect()
        first = tracemalloc.get_traced_memory()[0]
        for number in range(240):
            forecast(number)
        gc.collect()
        second = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    # A reference to a frame per forecast would take 6,000 bytes each. Small allocations differ between machines.
    assert second - first < 240 * 1_500
