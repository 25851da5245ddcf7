"""The LSTM network: architecture, training and inference."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import keras
import nbformat
import numpy as np
import pytest
import tensorflow as tf
from nbclient import NotebookClient
from scipy.stats import ks_2samp

from forecastlib.config import ModelConfig, TrainConfig, WindowConfig
from forecastlib.errors import ConfigError, ForecastError, NotFittedError
from forecastlib.models.lstm import (
    FastLSTM,
    NetworkCaller,
    TrainingData,
    build_network,
    compile_network,
    fit_network,
    output_name,
)
from forecastlib.models.lstm.inference import MAX_BATCH, with_dropout
from forecastlib.models.lstm.training import as_tensor

WINDOW = WindowConfig(lookback=6, horizons=(7, 14))  # sorted as text, 14 comes first, so that a wrong order shows
SMALL = ModelConfig(lstm_units=(5, 4), dense_units=(6,), branch_units=5)


def samples(n=160, *, horizons=(7, 14), features=4, lookback=6, seed=0):
    rng = np.random.default_rng(seed)
    matrix = rng.normal(size=(n + lookback - 1, features)).astype(np.float32)
    rows = np.arange(lookback - 1, len(matrix), dtype=np.int64)
    targets = {h: (matrix[rows, 0] * h / 7 + rng.normal(size=n) * 0.1).astype(np.float32) for h in horizons}
    return TrainingData(matrix, rows, targets, lookback)


@pytest.fixture(scope="module")
def compiled():
    """One network for the whole module: tracing the training step takes longer than training."""
    network = build_network(4, WINDOW, SMALL)
    compile_network(network, WINDOW.horizons, TrainConfig())
    network.optimizer.build(network.trainable_variables)
    variables = [*network.variables, *network.optimizer.variables]
    first = [np.array(variable.value) for variable in variables]

    def untrained():
        for variable, value in zip(variables, first, strict=True):
            variable.assign(value)
        return network

    return untrained


@pytest.fixture
def network(compiled):
    return compiled()


@pytest.fixture(scope="module")
def biased():
    """A network that is not trained, with biases that keep every unit active."""
    network = build_network(4, WINDOW, SMALL)
    for layer in network.layers:
        if isinstance(layer, keras.layers.Dense):
            kernel, bias = layer.get_weights()
            layer.set_weights([kernel, bias + 1.0])
    return network


# Architecture


def test_the_default_network_has_the_documented_layers_sizes_and_rates():
    network = build_network(152, WindowConfig(), ModelConfig())
    branches = [f"{name.format(h)}" for name in ("dense_{}d_branch", "dropout_{}d_branch") for h in (7, 14, 30)]
    outputs = [f"price_prediction_{h}d" for h in (7, 14, 30)]
    trunk = ["price_sequence_input", "lstm_1", "batch_norm_lstm_1", "lstm_2", "batch_norm_lstm_2"]
    assert {layer.name for layer in network.layers} == {
        *trunk,
        "dense_common_1",
        "dropout_common_1",
        *branches,
        *outputs,
    }
    assert network.input_shape == (None, 60, 152)
    assert {name: output.shape for name, output in network.output.items()} == dict.fromkeys(outputs, (None, 1))
    for i, sequences in ((1, True), (2, False)):
        lstm = network.get_layer(f"lstm_{i}")
        assert isinstance(lstm, keras.layers.LSTM)
        assert (lstm.units, lstm.return_sequences, lstm.dropout, lstm.recurrent_dropout) == (50, sequences, 0.2, 0.2)
    common = network.get_layer("dense_common_1")
    assert (common.units, common.activation) == (25, keras.activations.relu)
    for h in (7, 14, 30):
        branch, output = network.get_layer(f"dense_{h}d_branch"), network.get_layer(output_name(h))
        assert (branch.units, branch.activation) == (16, keras.activations.relu)
        assert (output.units, output.activation) == (1, keras.activations.linear)
        assert network.get_layer(f"dropout_{h}d_branch").rate == 0.2
    assert network.get_layer("dropout_common_1").rate == 0.2


def test_by_default_the_network_is_compiled_with_adam_and_a_weighted_squared_error_per_output():
    network = build_network(3, WindowConfig(lookback=4), ModelConfig())
    compile_network(network, (7, 14, 30), TrainConfig())
    assert isinstance(network.optimizer, keras.optimizers.Adam)
    assert float(network.optimizer.learning_rate) == pytest.approx(1e-3)
    saved = network.get_compile_config()
    names = [output_name(h) for h in (7, 14, 30)]
    assert saved["loss"] == dict.fromkeys(names, "mse")
    assert saved["loss_weights"] == dict(zip(names, (0.5, 0.3, 0.2), strict=True))
    assert saved["metrics"] == {name: ["mae"] for name in names}


@pytest.mark.parametrize(
    ("horizons", "lstm_units", "dense_units"),
    [((3,), (7,), ()), ((1, 2, 3, 4, 100), (3, 4, 5), (6, 7)), ((5, 10), (2,), (3,))],
)
def test_networks_can_have_any_horizons_and_layer_sizes(horizons, lstm_units, dense_units):
    model = ModelConfig(lstm_units=lstm_units, dense_units=dense_units, branch_units=2)
    network = build_network(3, WindowConfig(lookback=4, horizons=horizons), model)
    recurrent = [layer for layer in network.layers if isinstance(layer, FastLSTM)]
    assert [(layer.name, layer.units) for layer in recurrent] == [
        (f"lstm_{i}", units) for i, units in enumerate(lstm_units, start=1)
    ]
    assert [layer.return_sequences for layer in recurrent] == [True] * (len(lstm_units) - 1) + [False]
    for i, units in enumerate(dense_units, start=1):
        assert network.get_layer(f"dense_common_{i}").units == units
    assert set(network.output_names) == {output_name(h) for h in horizons}
    assert {name: tuple(value.shape) for name, value in network(np.zeros((2, 4, 3), "float32")).items()} == {
        output_name(h): (2, 1) for h in horizons
    }


def test_initial_weights_depend_on_the_seed_only():
    def weights(seed):
        return build_network(4, WINDOW, SMALL, seed=seed).get_weights()

    first = weights(3)
    keras.utils.set_random_seed(99)
    assert all(np.array_equal(a, b) for a, b in zip(first, weights(3), strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(first, weights(4), strict=True))


def test_layers_have_different_initial_weights():
    network = build_network(4, WINDOW, ModelConfig(lstm_units=(4, 4), dense_units=(4, 4)))
    kernels = [weight for weight in network.get_weights() if weight.shape == (4, 16)]
    assert len(kernels) == 4 + 2  # of both LSTMs, and of the branches, which have 16 units
    assert len({kernel.tobytes() for kernel in kernels}) == len(kernels)


# Horizons


def test_fitting_a_network_that_is_not_compiled_raises():
    with pytest.raises(NotFittedError, match="not compiled yet; call compile_network"):
        fit_network(build_network(4, WINDOW, SMALL), samples(), samples(), TrainConfig(epochs=1), progress=False)


def test_compiling_for_other_horizons_than_the_network_has_raises():
    with pytest.raises(ConfigError, match=r"price_prediction_14d.*got \[7, 30\]"):
        compile_network(build_network(4, WINDOW, SMALL), (7, 30), TrainConfig())


def test_compiling_with_a_wrong_number_of_loss_weights_raises():
    with pytest.raises(ConfigError, match="one loss weight for each"):
        compile_network(build_network(4, WINDOW, SMALL), (7, 14), TrainConfig(loss_weights=(1.0,)))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"horizons": (7, 30)}, "price_prediction_30d"),
        ({"horizons": (7,)}, "expected targets for the outputs"),
        ({"features": 3}, r"\(6, 4\) \(lookback, features\); got \(6, 3\)"),
        ({"lookback": 5}, r"got \(5, 4\)"),
    ],
)
def test_samples_that_do_not_match_the_network_raise(network, wrong, message):
    with pytest.raises(ConfigError, match=message):
        fit_network(network, samples(**wrong), samples(), TrainConfig(epochs=1), progress=False)


def test_each_output_learns_its_own_horizon_in_any_order_of_the_targets(compiled):
    predictions = []
    for order in ((7, 14), (14, 7)):
        network = compiled()
        data = samples()
        constant = {h: np.full(len(data.rows), h / 10, dtype=np.float32) for h in order}
        data = TrainingData(data.matrix, data.rows, constant, data.lookback)
        fit(network, epochs=25, train=data, validation=data, learning_rate=0.02, patience=25)
        predictions.append(NetworkCaller(network, (7, 14)).predict(data.matrix, data.rows).mean(axis=0))
    assert predictions[0] == pytest.approx([0.7, 1.4], abs=0.2)
    assert np.array_equal(predictions[0], predictions[1])


def test_columns_are_in_the_order_of_the_horizons(biased):
    data = samples()
    forward = NetworkCaller(biased, (7, 14)).predict(data.matrix, data.rows)
    backward = NetworkCaller(biased, (14, 7)).predict(data.matrix, data.rows)
    assert np.array_equal(forward, backward[:, ::-1])
    assert not np.array_equal(forward[:, 0], forward[:, 1])


# Training


def test_batches_contain_the_window_and_the_targets_of_each_origin():
    data = samples(50)
    windows = {
        row: x for row, x in zip(data.rows, np.lib.stride_tricks.sliding_window_view(data.matrix, 6, 0), strict=True)
    }
    seen = []
    for x, y in data.shuffled_batches(16, 3).take(data.steps(16)):
        for window, target_7, target_14 in zip(
            x.numpy(), y[output_name(7)].numpy(), y[output_name(14)].numpy(), strict=True
        ):
            row = int(np.flatnonzero(data.targets[7] == target_7[0])[0]) + 5
            assert np.array_equal(window, windows[row].T)
            assert data.targets[14][row - 5] == target_14[0]
            seen.append(row)
    assert len(seen) == len(set(seen)) == 48  # the incomplete last batch is dropped
    assert seen != sorted(seen)
    assert sum(len(x) for x, _ in data.batches(16)) == 50


def test_an_aligned_matrix_is_shared_with_tensorflow_and_any_other_is_copied():
    buffer = np.zeros(200, dtype=np.float32)
    start = -buffer.ctypes.data % 64 // 4
    for skipped, shared in ((0, True), (1, False)):
        matrix = buffer[start + skipped : start + skipped + 60].reshape(20, 3)
        tensor = as_tensor(matrix)
        matrix[0, 0] += 1.0
        assert bool(tensor.numpy()[0, 0] == matrix[0, 0]) is shared


def test_the_order_of_windows_changes_from_epoch_to_epoch():
    batches = samples(64).shuffled_batches(64, 0).take(2)
    first, second = (targets[output_name(7)].numpy() for _, targets in batches)
    assert not np.array_equal(first, second)
    assert np.array_equal(np.sort(first, axis=0), np.sort(second, axis=0))


def fit(network, epochs=2, *, train=None, validation=None, learning_rate=None, **options):
    if learning_rate:
        network.optimizer.learning_rate = learning_rate
    callbacks = options.pop("callbacks", ())
    progress = options.pop("progress", False)
    config = TrainConfig(epochs=epochs, **options)
    parts = train or samples(), validation or samples(seed=1)
    return fit_network(network, *parts, config, callbacks=callbacks, progress=progress)


def test_history_has_one_row_per_epoch_and_a_loss_per_output(network):
    history = fit(network, epochs=3)
    assert history.index.tolist() == [1, 2, 3]
    assert history.index.name == "epoch"
    for h in WINDOW.horizons:
        for score in ("loss", "mae"):
            assert f"{output_name(h)}_{score}" in history
            assert f"val_{output_name(h)}_{score}" in history
    assert np.isfinite(history.to_numpy()).all()


def test_training_restores_the_weights_of_the_best_epoch(network):
    def diverge(epoch, logs):
        if epoch == 3:
            network.optimizer.learning_rate = 10.0

    history = fit(network, epochs=4, callbacks=[keras.callbacks.LambdaCallback(on_epoch_begin=diverge)])
    best = history["val_loss"].min()
    assert history["val_loss"].iloc[-1] > best
    again = network.evaluate(samples(seed=1).batches(512), verbose=0, return_dict=True)["loss"]
    assert again == pytest.approx(best, rel=1e-6)


def test_training_lowers_the_learning_rate_and_then_stops_when_the_validation_loss_does_not_improve(network):
    history = fit(network, epochs=200, learning_rate=0.3, patience=4, reduce_patience=2)
    assert len(history) == history["val_loss"].idxmin() + 4
    assert history["learning_rate"].iloc[-1] < history["learning_rate"].iloc[0]


@pytest.mark.parametrize("part", ["train", "validation"])
def test_a_loss_of_nan_stops_training_and_raises(network, part):
    broken = samples()
    broken.targets[7][:] = np.nan
    with pytest.raises(ForecastError, match="in epoch 1; lower learning_rate"):
        fit(network, epochs=3, **{part: broken})


def test_the_order_of_windows_depends_on_the_seed_only():
    def order(seed):
        batches = samples(64).shuffled_batches(16, seed).take(8)
        return np.concatenate([targets[output_name(7)].numpy() for _, targets in batches])

    first = order(3)
    tf.random.set_seed(8)  # the global seed of TensorFlow does not matter
    try:
        assert np.array_equal(order(3), first)
        assert not np.array_equal(order(4), first)
    finally:
        tf.random.set_seed(None)


def test_a_progress_bar_is_shown_on_standard_error_if_it_is_a_terminal_and_progress_is_requested(
    network, capsys, monkeypatch
):
    for terminal, progress in (("0", True), ("1", False), ("1", True)):
        monkeypatch.setenv("TTY_COMPATIBLE", terminal)
        fit(network, epochs=2, progress=progress)
        out, err = capsys.readouterr()
        assert out == ""
        if terminal == "1" and progress:
            assert "training" in err and "2/2" in err and "val_loss" in err
        else:
            assert err == ""


@pytest.mark.slow
def test_a_notebook_shows_progress_as_one_plain_line():
    code = """
import test_lstm
network = test_lstm.build_network(4, test_lstm.WINDOW, test_lstm.SMALL)
test_lstm.compile_network(network, (7, 14), test_lstm.TrainConfig())
test_lstm.fit(network, epochs=2, progress=True)["loss"].shape
"""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    NotebookClient(notebook, resources={"metadata": {"path": str(Path(__file__).parent)}}).execute()
    shown = "".join(output["text"] for output in notebook.cells[0].outputs if output.get("name") == "stderr")
    (line,) = [line for line in shown.splitlines() if "training" in line]
    assert "2/2" in line and "val_loss" in line and "\x1b" not in line


def test_further_callbacks_are_called(network):
    class Count(keras.callbacks.Callback):
        epochs = 0

        def on_epoch_end(self, epoch, logs=None):
            self.epochs += 1

    count = Count()
    fit(network, epochs=2, callbacks=[count])
    assert count.epochs == 2


def from_scratch(seed=7):
    network = build_network(4, WINDOW, SMALL, seed=seed)
    compile_network(network, WINDOW.horizons, TrainConfig())
    return fit(network, seed=seed).to_json(double_precision=15)


@pytest.mark.slow
def test_the_same_seed_gives_bitwise_the_same_history_in_this_and_in_another_process():
    first = from_scratch()
    keras.utils.set_random_seed(1)
    try:
        assert from_scratch() == first
    finally:
        tf.random.set_seed(None)
    assert from_scratch(seed=8) != first
    code = "import test_lstm; print(test_lstm.from_scratch())"
    other = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parent, capture_output=True, text=True, check=True
    )
    assert other.stdout.strip().splitlines()[-1] == first


@pytest.mark.slow
def test_history_of_a_single_horizon_has_the_loss_of_its_output():
    window = WindowConfig(lookback=6, horizons=(7,))
    network = build_network(4, window, SMALL)
    compile_network(network, (7,), TrainConfig())
    data = samples(horizons=(7,))
    history = fit(network, epochs=1, train=data, validation=data)
    assert {"loss", "val_loss", f"{output_name(7)}_loss", f"{output_name(7)}_mae"} <= set(history)


# Inference


def test_predictions_equal_those_of_keras(biased):
    data = samples()
    expected = biased.predict(data.batches(512).map(lambda x, y: x), verbose=0)
    got = NetworkCaller(biased, (7, 14)).predict(data.matrix, data.rows)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, np.hstack([expected[output_name(h)] for h in (7, 14)]), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 17])
def test_predictions_do_not_depend_on_the_batch_size(biased, n):
    data = samples()
    caller = NetworkCaller(biased, (7, 14))
    expected = caller.predict(data.matrix, data.rows)
    np.testing.assert_allclose(
        caller.predict(data.matrix, data.rows[3 : 3 + n]), expected[3 : 3 + n], rtol=1e-5, atol=1e-6
    )


def test_more_windows_than_the_maximum_batch_are_predicted_in_order(biased):
    data = samples()
    caller = NetworkCaller(biased, (7, 14))
    many = np.resize(data.rows, MAX_BATCH + 7)
    once = caller.predict(data.matrix, data.rows)
    np.testing.assert_allclose(caller.predict(data.matrix, many), np.resize(once, (len(many), 2)), rtol=1e-5, atol=1e-6)


def test_changing_the_number_of_rows_or_origins_does_not_retrace_the_network(biased, monkeypatch):
    traces = []
    call = FastLSTM.call
    monkeypatch.setattr(FastLSTM, "call", lambda self, *a, **k: traces.append(self.name) or call(self, *a, **k))
    caller = NetworkCaller(biased, (7, 14))
    data = samples()
    for n in (1, 2, 9, 30):
        caller.predict(data.matrix[: 20 + n], data.rows[:n])
        caller.sample(data.matrix[: 20 + n], data.rows[: min(n, 2)], 10 + n)
    assert traces == ["lstm_1", "lstm_2"] * 2  # one trace for predicting and one for sampling


def test_mc_dropout_samples_vary_and_predictions_do_not(biased):
    data = samples()
    caller = NetworkCaller(biased, (7, 14))
    draws = caller.sample(data.matrix, data.rows[:3], 100)
    assert draws.shape == (3, 100, 2)
    assert (draws.std(axis=1) > 1e-3).all()
    assert len(np.unique(draws[0, :, 0])) > 90
    assert np.array_equal(caller.predict(data.matrix, data.rows), caller.predict(data.matrix, data.rows))


def test_mc_dropout_samples_of_an_origin_are_reproducible_and_do_not_depend_on_other_origins(biased):
    data = samples()
    caller = NetworkCaller(biased, (7, 14))
    expected = caller.sample(data.matrix, data.rows[10:11], 50)[0]
    assert np.array_equal(caller.sample(data.matrix, data.rows[5:12], 50)[5], expected)
    assert np.array_equal(caller.sample(data.matrix, data.rows[10:11], 50)[0], expected)
    assert np.array_equal(NetworkCaller(biased, (7, 14)).sample(data.matrix, data.rows[10:11], 50)[0], expected)
    assert not np.array_equal(
        NetworkCaller(biased, (7, 14), seed=1).sample(data.matrix, data.rows[10:11], 50)[0], expected
    )


def test_more_samples_than_the_maximum_batch_all_differ(biased):
    data = samples()
    draws = NetworkCaller(biased, (7, 14)).sample(data.matrix, data.rows[:1], MAX_BATCH + 50)[0]
    assert not np.isin(draws[MAX_BATCH:, 0], draws[:50, 0]).all()
    few = NetworkCaller(biased, (7, 14)).sample(data.matrix, data.rows[:1], MAX_BATCH)[0]
    np.testing.assert_array_equal(draws[:MAX_BATCH], few)


def test_mc_dropout_does_not_change_weights_or_batch_norm_statistics(biased):
    before = [weight.copy() for weight in biased.get_weights()]
    data = samples()
    NetworkCaller(biased, (7, 14)).sample(data.matrix, data.rows[:2], 100)
    assert all(np.array_equal(a, b) for a, b in zip(before, biased.get_weights(), strict=True))


def test_samples_of_one_batch_have_the_distribution_of_separate_calls(biased):
    """Separate calls have a batch of one, so batch statistics would make a difference."""
    data = samples()
    draws = NetworkCaller(biased, (7, 14)).sample(data.matrix, data.rows[20:21], 400)[0]
    stochastic = with_dropout(biased)
    window = tf.constant(data.matrix[data.rows[20] - 5 : data.rows[20] + 1][None])
    single_sample = tf.function(lambda: stochastic(window))
    separate = [single_sample() for _ in range(400)]
    for column, h in enumerate((7, 14)):
        single = np.array([answer[output_name(h)].numpy()[0, 0] for answer in separate])
        assert ks_2samp(draws[:, column], single).pvalue > 0.01
        assert draws[:, column].std() == pytest.approx(single.std(), rel=0.2)
    correlation = np.corrcoef(draws.T)[0, 1]
    expected = np.corrcoef(*(np.ravel([answer[output_name(h)] for answer in separate]) for h in (7, 14)))[0, 1]
    assert correlation == pytest.approx(expected, abs=0.15)


def test_the_masks_of_different_layers_are_independent():
    """With kernels and inputs of one, an output counts the inputs that are not dropped."""
    window = WindowConfig(lookback=1, horizons=(7, 14))
    model = ModelConfig(lstm_units=(1,), dense_units=(), branch_units=1, dropout=0.5, recurrent_dropout=0.0)
    network = build_network(1, window, model)
    for layer in network.layers:
        layer.set_weights([np.ones_like(weight) for weight in layer.get_weights()])
    matrix = np.ones((1, 1), dtype=np.float32)
    draws = NetworkCaller(network, (7, 14)).sample(matrix, np.array([0]), 2000)[0]
    kept = draws > 1.0  # otherwise the branch is dropped, and the bias of one remains
    assert kept.mean(axis=0) == pytest.approx([0.5, 0.5], abs=0.05)
    assert abs(np.corrcoef(kept.T)[0, 1]) < 0.08
    lstm = draws.max(axis=1)[kept.any(axis=1)]  # the output of the LSTM, which depends on its masks
    assert abs(np.corrcoef(lstm > lstm.mean(), kept[kept.any(axis=1), 0])[0, 1]) < 0.08


def test_without_dropout_all_samples_equal_the_prediction():
    model = ModelConfig(lstm_units=(3,), dense_units=(3,), branch_units=2, dropout=0.0, recurrent_dropout=0.0)
    caller = NetworkCaller(build_network(4, WINDOW, model), (7, 14))
    data = samples()
    draws = caller.sample(data.matrix, data.rows[:1], 5)
    np.testing.assert_allclose(draws[0], np.repeat(caller.predict(data.matrix, data.rows[:1]), 5, axis=0), rtol=1e-5)


def test_concurrent_calls_return_the_results_of_sequential_calls(biased):
    data = samples()
    expected = NetworkCaller(biased, (7, 14))
    predicted = [expected.predict(data.matrix, data.rows[i : i + 4]) for i in range(8)]
    sampled = [expected.sample(data.matrix, data.rows[i : i + 1], 30) for i in range(8)]
    fresh = NetworkCaller(biased, (7, 14))  # so that the first calls, which trace, are concurrent, too
    with ThreadPoolExecutor(8) as pool:
        first = [pool.submit(fresh.predict, data.matrix, data.rows[i : i + 4]) for i in range(8)]
        second = [pool.submit(fresh.sample, data.matrix, data.rows[i : i + 1], 30) for i in range(8)]
        assert all(np.array_equal(a.result(), b) for a, b in zip(first, predicted, strict=True))
        assert all(np.array_equal(a.result(), b) for a, b in zip(second, sampled, strict=True))
