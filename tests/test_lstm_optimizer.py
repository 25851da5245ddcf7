"""FastAdam compared with ``keras.optimizers.Adam``: the same steps, the same state, the same files."""

import keras
import numpy as np
import pytest

from forecastlib.errors import ConfigError
from forecastlib.models.lstm.optimizer import FastAdam


def trained(optimizer: keras.optimizers.Optimizer, epochs: int = 3) -> keras.Model:
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8, activation="relu"), keras.layers.Dense(1)])
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(64, 4)).astype("float32"), rng.normal(size=(64, 1)).astype("float32")
    model.compile(optimizer, "mse")
    model.fit(x, y, batch_size=16, epochs=epochs, shuffle=False, verbose=0)
    return model


@pytest.mark.parametrize("options", [{}, {"beta_1": 0.8, "beta_2": 0.9, "epsilon": 1e-3}, {"weight_decay": 0.01}])
def test_weights_and_moments_equal_those_of_keras(options):
    ours, theirs = (trained(kind(0.01, **options)) for kind in (FastAdam, keras.optimizers.Adam))
    for a, b in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=2e-6)
    assert len(ours.optimizer.variables) == len(theirs.optimizer.variables) == 2 + 2 * 4
    for a, b in zip(ours.optimizer.variables, theirs.optimizer.variables, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_changing_the_learning_rate_takes_effect_without_retracing():
    model = trained(FastAdam(0.01))
    before = model.get_weights()
    model.optimizer.learning_rate = 0.0
    rng = np.random.default_rng(1)
    model.fit(rng.normal(size=(16, 4)), rng.normal(size=(16, 1)), verbose=0)
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))


def test_a_loaded_model_continues_with_the_saved_moments(tmp_path):
    model = trained(FastAdam(0.01))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert type(loaded.optimizer) is FastAdam
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(16, 4)), rng.normal(size=(16, 1))
    for each in (model, loaded):
        each.fit(x, y, verbose=0)
    for a, b in zip(model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_amsgrad_raises():
    with pytest.raises(ConfigError, match=r"amsgrad=True; use keras.optimizers.Adam"):
        FastAdam(amsgrad=True)
