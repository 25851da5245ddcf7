import numpy as np
import pytest

from forecastlib.config import RunConfig
from forecastlib.errors import ConfigError, NotEnoughDataError
from forecastlib.features import compute_features, warm_up
from forecastlib.models import LEVELS, Distribution
from forecastlib.recipe import Recipe
from forecastlib.samples.splits import holdout
from forecastlib.samples.windows import make_windows, pool_windows

RECIPE = Recipe()
CONFIG = RunConfig.from_parameters(groups="bar", lookback=20, horizons=[5, 10], form="level", train_share=0.6)


def test_preparing_computes_features_then_windows_then_the_split_each_from_its_section(gspc):
    samples = RECIPE.prepare(gspc, CONFIG)
    windows = make_windows(gspc, compute_features(gspc, CONFIG.features), CONFIG.window)
    np.testing.assert_array_equal(samples.windows.X, windows.X)
    np.testing.assert_array_equal(samples.windows.y, windows.y)
    assert samples.windows.feature_names == windows.feature_names
    for name, index in holdout(windows, CONFIG.split).sets().items():
        np.testing.assert_array_equal(samples.split.sets()[name], index)


def test_the_defaults_give_152_features_of_60_sessions(ixic):
    windows = RECIPE.all_windows(ixic, RunConfig())
    assert windows.X.shape == (5031 - warm_up() - 59, 60, 152)
    assert np.shares_memory(windows.X, windows.matrix)


def test_several_symbols_are_pooled_and_cut_on_the_same_dates(gspc, ixic):
    samples = RECIPE.prepare([gspc, ixic], CONFIG)
    parts = [RECIPE.all_windows(one, CONFIG) for one in (gspc, ixic)]
    np.testing.assert_array_equal(samples.windows.y, pool_windows(parts).y)
    for index in samples.split.sets().values():
        symbols = samples.windows.symbols[index]
        origins = samples.windows.origins[index]
        assert origins[symbols == "^GSPC"].equals(origins[symbols == "^IXIC"])


def test_a_sequence_of_one_frame_equals_that_frame(gspc):
    np.testing.assert_array_equal(RECIPE.all_windows([gspc], CONFIG).X, RECIPE.all_windows(gspc, CONFIG).X)


def test_later_prices_do_not_change_an_earlier_window(gspc):
    whole, cut = RECIPE.all_windows(gspc, CONFIG), RECIPE.all_windows(gspc.iloc[:3000], CONFIG)
    np.testing.assert_array_equal(cut.X, whole.X[: len(cut)])
    np.testing.assert_array_equal(cut.y[cut.labelled], whole.y[: len(cut)][cut.labelled])
    np.testing.assert_array_equal(cut.volatility, whole.volatility[: len(cut)])


def test_no_prices_and_too_few_prices_are_refused(gspc):
    with pytest.raises(ConfigError, match="at least one symbol"):
        RECIPE.prepare([], CONFIG)
    with pytest.raises(NotEnoughDataError, match="labelled origins"):
        RECIPE.prepare(gspc.iloc[:60], CONFIG)
    with pytest.raises(NotEnoughDataError):
        RECIPE.prepare(gspc.iloc[:200], RunConfig())


def test_fitting_sees_nothing_after_the_last_validation_label_is_known(gspc):
    samples = RECIPE.prepare(gspc, CONFIG)
    for part in (samples.train, samples.validation):
        assert part.prices[0].index[-1] == samples.known_until == samples.validation.label_dates.max()
    assert samples.known_until <= samples.test.origins.min()


def test_scalers_are_fitted_on_the_training_set_and_applied_to_all_samples(gspc):
    samples = RECIPE.prepare(gspc, CONFIG)
    matrix, scaler = samples.test.require_scaled()
    rows = samples.windows.covered_rows(samples.split.train)
    np.testing.assert_allclose(matrix[rows].mean(axis=0), 0.0, atol=1e-3)
    assert scaler is samples.scaling


def test_a_model_never_sees_the_labels_that_it_is_scored_on(gspc):
    seen = []

    class Spy:
        name = "spy"

        def fit(self, train, validation):
            return self

        def predict(self, samples):
            seen.append(samples)
            return Distribution(LEVELS, np.zeros((len(samples), 2, len(LEVELS))))

    samples = RECIPE.prepare(gspc, CONFIG)
    RECIPE.predict(Spy(), samples.test)
    assert np.isnan(seen[0].y).all() and not seen[0].labelled.any()
    assert not np.isnan(samples.test.y).any()
