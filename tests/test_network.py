"""The network: its architecture, its training and calling it once it is trained."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
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
    stochastic_twin,
)
from forecastlib.models.lstm.inference import LARGEST_BATCH
from forecastlib.models.lstm.training import as_tensor

WINDOW = WindowConfig(lookback=6, horizons=(7, 14))  # as text 14 comes first: an order that could go wrong shows
SMALL = ModelConfig(lstm_units=(5, 4), dense_units=(6,), branch_units=5)


def samples(n=160, *, horizons=(7, 14), features=4, lookback=6, seed=0):
    rng = np.random.default_rng(seed)
    matrix = rng.normal(size=(n + lookback - 1, features)).astype(np.float32)
    rows = np.arange(lookback - 1, len(matrix), dtype=np.int64)
    targets = {h: (matrix[rows, 0] * h / 7 + rng.normal(size=n) * 0.1).astype(np.float32) for h in horizons}
    return TrainingData(matrix, rows, targets, lookback)


@pytest.fixture(scope="module")
def compiled():
    """One network for the whole module: tracing its training step takes longer than any training here."""
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
def answering():
    """A network that answers something: with the first statistics, and biases that keep every unit alive."""
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


def test_the_default_compilation_is_adam_with_a_weighted_squared_error_for_each_output():
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
def test_any_horizons_and_any_layer_sizes_make_a_network(horizons, lstm_units, dense_units):
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


def test_the_seed_alone_determines_the_first_weights():
    def weights(seed):
        return build_network(4, WINDOW, SMALL, seed=seed).get_weights()

    first = weights(3)
    keras.utils.set_random_seed(99)
    assert all(np.array_equal(a, b) for a, b in zip(first, weights(3), strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(first, weights(4), strict=True))


def test_layers_of_one_network_do_not_share_their_first_weights():
    network = build_network(4, WINDOW, ModelConfig(lstm_units=(4, 4), dense_units=(4, 4)))
    kernels = [weight for weight in network.get_weights() if weight.shape == (4, 16)]
    assert len(kernels) == 4 + 2  # of both LSTMs, and of the branches, where they have 16 units
    assert len({kernel.tobytes() for kernel in kernels}) == len(kernels)


# Order


def test_fitting_before_compiling_says_what_to_call_first():
    with pytest.raises(NotFittedError, match="not compiled yet; call compile_network"):
        fit_network(build_network(4, WINDOW, SMALL), samples(), samples(), TrainConfig(epochs=1), progress=False)


def test_compiling_for_other_horizons_than_those_built_is_refused():
    with pytest.raises(ConfigError, match=r"price_prediction_14d.*got \[7, 30\]"):
        compile_network(build_network(4, WINDOW, SMALL), (7, 30), TrainConfig())


def test_compiling_with_another_number_of_weights_is_refused():
    with pytest.raises(ConfigError, match="a weight for each"):
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
def test_samples_that_do_not_fit_the_network_are_refused(network, wrong, message):
    with pytest.raises(ConfigError, match=message):
        fit_network(network, samples(**wrong), samples(), TrainConfig(epochs=1), progress=False)


def test_each_output_learns_its_own_horizon_whatever_the_order_of_the_targets(compiled):
    answers = []
    for order in ((7, 14), (14, 7)):
        network = compiled()
        data = samples()
        constant = {h: np.full(len(data.rows), h / 10, dtype=np.float32) for h in order}
        data = TrainingData(data.matrix, data.rows, constant, data.lookback)
        fit(network, epochs=25, train=data, validation=data, learning_rate=0.02, patience=25)
        answers.append(NetworkCaller(network, (7, 14)).predict(data.matrix, data.rows).mean(axis=0))
    assert answers[0] == pytest.approx([0.7, 1.4], abs=0.2)
    assert np.array_equal(answers[0], answers[1])


def test_columns_follow_the_horizons_asked_for(answering):
    data = samples()
    forwards = NetworkCaller(answering, (7, 14)).predict(data.matrix, data.rows)
    backwards = NetworkCaller(answering, (14, 7)).predict(data.matrix, data.rows)
    assert np.array_equal(forwards, backwards[:, ::-1])
    assert not np.array_equal(forwards[:, 0], forwards[:, 1])


# Training


def test_batches_hold_the_window_and_the_targets_of_their_origin():
    data = samples(50)
    every = {
        row: x for row, x in zip(data.rows, np.lib.stride_tricks.sliding_window_view(data.matrix, 6, 0), strict=True)
    }
    seen = []
    for x, y in data.shuffled_batches(16, 3).take(data.steps(16)):
        for window, target_7, target_14 in zip(
            x.numpy(), y[output_name(7)].numpy(), y[output_name(14)].numpy(), strict=True
        ):
            row = int(np.flatnonzero(data.targets[7] == target_7[0])[0]) + 5
            assert np.array_equal(window, every[row].T)
            assert data.targets[14][row - 5] == target_14[0]
            seen.append(row)
    assert len(seen) == len(set(seen)) == 48  # the incomplete last batch is left out
    assert seen != sorted(seen)
    assert sum(len(x) for x, _ in data.batches(16)) == 50


def test_a_matrix_that_begins_where_tensorflow_needs_it_is_shared_and_any_other_copied():
    room = np.zeros(200, dtype=np.float32)
    start = -room.ctypes.data % 64 // 4
    for skipped, shared in ((0, True), (1, False)):
        matrix = room[start + skipped : start + skipped + 60].reshape(20, 3)
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


def test_history_has_a_row_an_epoch_and_a_loss_for_each_output(network):
    history = fit(network, epochs=3)
    assert history.index.tolist() == [1, 2, 3]
    assert history.index.name == "epoch"
    for h in WINDOW.horizons:
        for score in ("loss", "mae"):
            assert f"{output_name(h)}_{score}" in history
            assert f"val_{output_name(h)}_{score}" in history
    assert np.isfinite(history.to_numpy()).all()


def test_training_leaves_the_weights_of_the_best_epoch(network):
    history = fit(network, epochs=12, learning_rate=0.3, patience=12)
    best = history["val_loss"].min()
    assert history["val_loss"].iloc[-1] > best  # else this would show nothing
    again = network.evaluate(samples(seed=1).batches(512), verbose=0, return_dict=True)["loss"]
    assert again == pytest.approx(best, rel=1e-6)


def test_training_stops_once_validation_no_longer_improves_and_lowers_the_rate_before(network):
    history = fit(network, epochs=200, learning_rate=0.3, patience=4, reduce_patience=2)
    assert len(history) == history["val_loss"].idxmin() + 4
    assert history["learning_rate"].iloc[-1] < history["learning_rate"].iloc[0]


@pytest.mark.parametrize("part", ["train", "validation"])
def test_a_loss_that_is_not_a_number_stops_training_with_an_explanation(network, part):
    broken = samples()
    broken.targets[7][:] = np.nan
    with pytest.raises(ForecastError, match="in epoch 1; lower learning_rate"):
        fit(network, epochs=3, **{part: broken})


def test_the_seed_alone_determines_the_order_of_the_windows():
    def order(seed):
        batches = samples(64).shuffled_batches(16, seed).take(8)
        return np.concatenate([targets[output_name(7)].numpy() for _, targets in batches])

    first = order(3)
    tf.random.set_seed(8)  # what else happens in the process does not matter
    try:
        assert np.array_equal(order(3), first)
        assert not np.array_equal(order(4), first)
    finally:
        tf.random.set_seed(None)


def test_a_progress_bar_is_shown_on_standard_error_only_if_wanted(network, capsys):
    for progress in (False, True):
        fit(network, epochs=1, progress=progress)
        out, err = capsys.readouterr()
        assert out == ""
        assert ("training: 100%" in err) is progress


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
def test_the_same_seed_gives_the_same_history_to_the_last_bit_in_this_process_and_in_another():
    first = from_scratch()
    keras.utils.set_random_seed(1)
    try:
        assert from_scratch() == first
    finally:
        tf.random.set_seed(None)
    assert from_scratch(seed=8) != first
    code = "import test_network; print(test_network.from_scratch())"
    other = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parent, capture_output=True, text=True, check=True
    )
    assert other.stdout.strip().splitlines()[-1] == first


@pytest.mark.slow
def test_one_horizon_has_its_loss_in_the_history_too():
    window = WindowConfig(lookback=6, horizons=(7,))
    network = build_network(4, window, SMALL)
    compile_network(network, (7,), TrainConfig())
    data = samples(horizons=(7,))
    history = fit(network, epochs=1, train=data, validation=data)
    assert {"loss", "val_loss", f"{output_name(7)}_loss", f"{output_name(7)}_mae"} <= set(history)


# Calling


def test_predictions_are_those_of_keras(answering):
    data = samples()
    expected = answering.predict(data.batches(512).map(lambda x, y: x), verbose=0)
    got = NetworkCaller(answering, (7, 14)).predict(data.matrix, data.rows)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, np.hstack([expected[output_name(h)] for h in (7, 14)]), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 17])
def test_an_origin_gets_the_same_answer_in_a_batch_of_any_size(answering, n):
    data = samples()
    caller = NetworkCaller(answering, (7, 14))
    every = caller.predict(data.matrix, data.rows)
    np.testing.assert_allclose(
        caller.predict(data.matrix, data.rows[3 : 3 + n]), every[3 : 3 + n], rtol=1e-5, atol=1e-6
    )


def test_more_windows_than_the_largest_batch_are_cut_and_joined_in_order(answering):
    data = samples()
    caller = NetworkCaller(answering, (7, 14))
    many = np.resize(data.rows, LARGEST_BATCH + 7)
    once = caller.predict(data.matrix, data.rows)
    np.testing.assert_allclose(caller.predict(data.matrix, many), np.resize(once, (len(many), 2)), rtol=1e-5, atol=1e-6)


def test_no_change_of_batch_size_or_length_traces_the_network_again(answering, monkeypatch):
    traces = []
    call = FastLSTM.call
    monkeypatch.setattr(FastLSTM, "call", lambda self, *a, **k: traces.append(self.name) or call(self, *a, **k))
    caller = NetworkCaller(answering, (7, 14))
    data = samples()
    for n in (1, 2, 9, 30):
        caller.predict(data.matrix[: 20 + n], data.rows[:n])
        caller.sample(data.matrix[: 20 + n], data.rows[: min(n, 2)], 10 + n)
    assert traces == ["lstm_1", "lstm_2"] * 2  # one trace for predicting and one for sampling


def test_mc_dropout_has_a_spread_and_predictions_have_none(answering):
    data = samples()
    caller = NetworkCaller(answering, (7, 14))
    passes = caller.sample(data.matrix, data.rows[:3], 100)
    assert passes.shape == (3, 100, 2)
    assert (passes.std(axis=1) > 1e-3).all()
    assert len(np.unique(passes[0, :, 0])) > 90
    assert np.array_equal(caller.predict(data.matrix, data.rows), caller.predict(data.matrix, data.rows))


def test_mc_dropout_gives_an_origin_the_same_answer_each_time_alone_or_among_others(answering):
    data = samples()
    caller = NetworkCaller(answering, (7, 14))
    alone = caller.sample(data.matrix, data.rows[10:11], 50)[0]
    assert np.array_equal(caller.sample(data.matrix, data.rows[5:12], 50)[5], alone)
    assert np.array_equal(caller.sample(data.matrix, data.rows[10:11], 50)[0], alone)
    assert np.array_equal(NetworkCaller(answering, (7, 14)).sample(data.matrix, data.rows[10:11], 50)[0], alone)
    assert not np.array_equal(
        NetworkCaller(answering, (7, 14), seed=1).sample(data.matrix, data.rows[10:11], 50)[0], alone
    )


def test_more_passes_than_the_largest_batch_are_all_different(answering):
    data = samples()
    passes = NetworkCaller(answering, (7, 14)).sample(data.matrix, data.rows[:1], LARGEST_BATCH + 50)[0]
    assert not np.isin(passes[LARGEST_BATCH:, 0], passes[:50, 0]).all()
    few = NetworkCaller(answering, (7, 14)).sample(data.matrix, data.rows[:1], LARGEST_BATCH)[0]
    np.testing.assert_array_equal(passes[:LARGEST_BATCH], few)


def test_mc_dropout_leaves_all_weights_and_batch_norm_statistics_as_they_are(answering):
    before = [weight.copy() for weight in answering.get_weights()]
    data = samples()
    NetworkCaller(answering, (7, 14)).sample(data.matrix, data.rows[:2], 100)
    assert all(np.array_equal(a, b) for a, b in zip(before, answering.get_weights(), strict=True))


def test_one_batch_of_passes_has_the_distribution_of_separate_passes(answering):
    """Separate passes: a batch of one at a time through the twin; batch normalisation must not see the batch."""
    data = samples()
    passes = NetworkCaller(answering, (7, 14)).sample(data.matrix, data.rows[20:21], 400)[0]
    twin = stochastic_twin(answering)
    window = tf.constant(data.matrix[data.rows[20] - 5 : data.rows[20] + 1][None])
    one_pass = tf.function(lambda: twin(window))
    separate = [one_pass() for _ in range(400)]
    for column, h in enumerate((7, 14)):
        alone = np.array([answer[output_name(h)].numpy()[0, 0] for answer in separate])
        assert ks_2samp(passes[:, column], alone).pvalue > 0.01
        assert passes[:, column].std() == pytest.approx(alone.std(), rel=0.2)
    correlation = np.corrcoef(passes.T)[0, 1]
    expected = np.corrcoef(*(np.ravel([answer[output_name(h)] for answer in separate]) for h in (7, 14)))[0, 1]
    assert correlation == pytest.approx(expected, abs=0.15)


def test_the_masks_of_different_layers_are_independent():
    """With every kernel positive and inputs of one, an output counts what its masks let through."""
    window = WindowConfig(lookback=1, horizons=(7, 14))
    model = ModelConfig(lstm_units=(1,), dense_units=(), branch_units=1, dropout=0.5, recurrent_dropout=0.0)
    network = build_network(1, window, model)
    for layer in network.layers:
        layer.set_weights([np.ones_like(weight) for weight in layer.get_weights()])
    matrix = np.ones((1, 1), dtype=np.float32)
    passes = NetworkCaller(network, (7, 14)).sample(matrix, np.array([0]), 2000)[0]
    kept = passes > 1.0  # else the branch was dropped, and the bias of one is left
    assert kept.mean(axis=0) == pytest.approx([0.5, 0.5], abs=0.05)
    assert abs(np.corrcoef(kept.T)[0, 1]) < 0.08
    lstm = passes.max(axis=1)[kept.any(axis=1)]  # what the LSTM gave, by its masks
    assert abs(np.corrcoef(lstm > lstm.mean(), kept[kept.any(axis=1), 0])[0, 1]) < 0.08


def test_without_dropout_all_passes_are_the_prediction():
    model = ModelConfig(lstm_units=(3,), dense_units=(3,), branch_units=2, dropout=0.0, recurrent_dropout=0.0)
    caller = NetworkCaller(build_network(4, WINDOW, model), (7, 14))
    data = samples()
    passes = caller.sample(data.matrix, data.rows[:1], 5)
    np.testing.assert_allclose(passes[0], np.repeat(caller.predict(data.matrix, data.rows[:1]), 5, axis=0), rtol=1e-5)


def test_several_threads_at_once_get_the_answers_of_one(answering):
    data = samples()
    expected = NetworkCaller(answering, (7, 14))
    predicted = [expected.predict(data.matrix, data.rows[i : i + 4]) for i in range(8)]
    sampled = [expected.sample(data.matrix, data.rows[i : i + 1], 30) for i in range(8)]
    fresh = NetworkCaller(answering, (7, 14))  # the first calls come at once, too
    with ThreadPoolExecutor(8) as pool:
        first = [pool.submit(fresh.predict, data.matrix, data.rows[i : i + 4]) for i in range(8)]
        second = [pool.submit(fresh.sample, data.matrix, data.rows[i : i + 1], 30) for i in range(8)]
        assert all(np.array_equal(a.result(), b) for a, b in zip(first, predicted, strict=True))
        assert all(np.array_equal(a.result(), b) for a, b in zip(second, sampled, strict=True))
