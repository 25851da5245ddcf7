"""Networks trained together against the same networks trained one by one."""

import keras
import numpy as np
import pandas as pd
import pytest
import tiny

from forecastlib import Forecaster
from forecastlib.config import ModelConfig, TrainConfig, WindowConfig
from forecastlib.errors import ConfigError, ForecastError, NotFittedError
from forecastlib.models.lstm import TrainingData, build_network, compile_network, fit_network, fit_together, output_name

WINDOW = WindowConfig(lookback=6, horizons=(7, 14))
SMALL = ModelConfig(lstm_units=(5, 3), dense_units=(4,), branch_units=3, dropout=0.3, recurrent_dropout=0.2)


def samples(n: int = 75, horizons: tuple[int, ...] = (7, 14), seed: int = 0) -> TrainingData:
    rng = np.random.default_rng(seed)
    matrix = rng.normal(size=(n + 5, 4)).astype(np.float32)
    targets = {h: (matrix[5:, 0] * h / 10 + 0.1 * rng.normal(size=n)).astype(np.float32) for h in horizons}
    return TrainingData(matrix, np.arange(5, n + 5), targets, 6)


def networks(seeds, config: TrainConfig, window=WINDOW, model=SMALL) -> list[keras.Model]:
    built = []
    for seed in seeds:
        network = build_network(4, window, model, seed=seed)
        compile_network(network, window.horizons, config, steps=samples().steps(config.batch_size))
        built.append(network)
    return built


def assert_alike(seeds, config: TrainConfig, window=WINDOW, model=SMALL) -> list[pd.DataFrame]:
    train, validation = samples(horizons=window.horizons), samples(40, window.horizons, seed=1)
    configs = [config.model_copy(update={"seed": seed}) for seed in seeds]
    together, alone = networks(seeds, config, window, model), networks(seeds, config, window, model)
    histories = fit_together(together, train, validation, configs, progress=False)
    for network, other, history, one in zip(together, alone, histories, configs, strict=True):
        expected = fit_network(other, train, validation, one, progress=False)
        pd.testing.assert_frame_equal(history, expected, rtol=1e-3, atol=1e-5, check_like=True)
        for a, b in zip(network.get_weights(), other.get_weights(), strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-4)
    return histories


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [(4,), (0, 1, 2)])
def test_each_network_learns_what_it_would_have_learnt_alone(seeds):
    histories = assert_alike(seeds, TrainConfig(epochs=4, batch_size=16))
    assert [len(history) for history in histories] == [4] * len(seeds)
    assert len({history["loss"].iloc[-1] for history in histories}) == len(seeds)


@pytest.mark.slow
def test_each_network_stops_and_slows_down_at_its_own_time():
    config = TrainConfig(epochs=40, batch_size=16, learning_rate=0.03, patience=4, reduce_patience=2)
    histories = assert_alike((0, 1, 2), config)
    lengths = [len(history) for history in histories]
    assert len(set(lengths)) > 1  # else this would show nothing
    assert max(lengths) < 40
    assert len({tuple(history["learning_rate"]) for history in histories}) > 1


@pytest.mark.slow
@pytest.mark.parametrize(
    "model",
    [
        ModelConfig(lstm_units=(3,), dense_units=(), branch_units=2, dropout=0.0, recurrent_dropout=0.0),
        ModelConfig(lstm_units=(3, 4, 2), dense_units=(5, 4), branch_units=2, dropout=0.2, recurrent_dropout=0.0),
    ],
    ids=["without dropout", "deep"],
)
def test_other_shapes_and_a_single_horizon_are_trained_alike(model):
    assert_alike((0, 1), TrainConfig(epochs=2, batch_size=16), WindowConfig(lookback=6, horizons=(7,)), model)


def test_what_is_left_is_the_best_epoch_of_each():
    config = TrainConfig(epochs=7, batch_size=16, learning_rate=0.2, patience=7)
    trained, validation = networks((0, 1), config), samples(40, seed=1)
    configs = [config.model_copy(update={"seed": seed}) for seed in (0, 1)]
    histories = fit_together(trained, samples(), validation, configs, progress=False)
    for network, history in zip(trained, histories, strict=True):
        assert history["val_loss"].iloc[-1] > history["val_loss"].min()  # else this would show nothing
        again = network.evaluate(validation.batches(64), verbose=0, return_dict=True)["loss"]
        assert again == pytest.approx(history["val_loss"].min(), rel=1e-5)


def test_networks_that_differ_otherwise_or_are_not_ready_are_refused():
    config = TrainConfig(epochs=1, batch_size=16)
    two, data = networks((0, 1), config), samples()
    other = build_network(4, WINDOW, ModelConfig(lstm_units=(4,)))
    with pytest.raises(ConfigError, match="2 networks of 2 shapes"):
        fit_together([two[0], other], data, data, [config] * 2, progress=False)
    with pytest.raises(ConfigError, match="2 configurations of 2 kinds"):
        fit_together(two, data, data, [config, TrainConfig(epochs=2)], progress=False)
    with pytest.raises(ConfigError, match="2 networks of 1 shapes, and 1 configurations"):
        fit_together(two, data, data, [config], progress=False)
    with pytest.raises(NotFittedError, match="call compile_network"):
        fit_together([build_network(4, WINDOW, SMALL)], data, data, [config], progress=False)
    with pytest.raises(ConfigError, match=output_name(14)):
        fit_together(two, samples(horizons=(7, 30)), data, [config] * 2, progress=False)


def test_a_loss_that_is_not_a_number_stops_training_with_an_explanation():
    config = TrainConfig(epochs=3, batch_size=16)
    broken = samples()
    broken.targets[7][:] = np.nan
    with pytest.raises(ForecastError, match="in epoch 1; lower learning_rate"):
        fit_together(networks((0, 1), config), broken, samples(), [config] * 2, progress=False)


@pytest.mark.slow
def test_forecasters_fitted_together_forecast_what_each_would_have_alone():
    prices, config = tiny.prices(), tiny.config(epochs=2)
    together = Forecaster.fit_seeds(prices, config, (3, 5), progress=False)
    for seed, forecaster in zip((3, 5), together, strict=True):
        alone = Forecaster(config.replace(seed=seed)).fit(prices, progress=False)
        assert forecaster.config == alone.config
        assert forecaster.metadata.epochs == alone.metadata.epochs
        columns = ["predicted_price", "lower_95", "upper_95", "p_up"]
        ours, theirs = (one.predict(prices)[columns] for one in (forecaster, alone))
        pd.testing.assert_frame_equal(ours, theirs, rtol=1e-4)
    assert not np.array_equal(*(one.network.get_weights()[0] for one in together))
