import numpy as np
import pytest

from forecastlib.config import RunConfig
from forecastlib.errors import ConfigError, NotEnoughDataError
from forecastlib.features import compute_features, warm_up
from forecastlib.samples.dataset import all_windows, prepare
from forecastlib.samples.splits import holdout
from forecastlib.samples.windows import make_windows, pool_windows

CONFIG = RunConfig.from_parameters(groups="bar", lookback=20, horizons=[5, 10], form="level", train_share=0.6)


def test_preparing_is_features_then_windows_then_the_split_each_by_its_section(gspc):
    dataset = prepare(gspc, CONFIG)
    windows = make_windows(gspc, compute_features(gspc, CONFIG.features), CONFIG.window)
    np.testing.assert_array_equal(dataset.windows.X, windows.X)
    np.testing.assert_array_equal(dataset.windows.y, windows.y)
    assert dataset.windows.feature_names == windows.feature_names
    for name, index in holdout(windows, CONFIG.split).sets().items():
        np.testing.assert_array_equal(dataset.split.sets()[name], index)


def test_the_defaults_give_152_features_of_60_sessions(ixic):
    windows = all_windows(ixic, RunConfig())
    assert windows.X.shape == (5031 - warm_up() - 59, 60, 152)
    assert np.shares_memory(windows.X, windows.matrix)


def test_several_symbols_are_pooled_and_cut_on_the_same_dates(gspc, ixic):
    dataset = prepare([gspc, ixic], CONFIG)
    parts = [all_windows(one, CONFIG) for one in (gspc, ixic)]
    np.testing.assert_array_equal(dataset.windows.y, pool_windows(parts).y)
    for index in dataset.split.sets().values():
        symbols = dataset.windows.symbols[index]
        origins = dataset.windows.origins[index]
        assert origins[symbols == "^GSPC"].equals(origins[symbols == "^IXIC"])


def test_a_sequence_of_one_is_that_one(gspc):
    np.testing.assert_array_equal(all_windows([gspc], CONFIG).X, all_windows(gspc, CONFIG).X)


def test_later_prices_change_nothing_about_an_earlier_window(gspc):
    whole, cut = all_windows(gspc, CONFIG), all_windows(gspc.iloc[:3000], CONFIG)
    np.testing.assert_array_equal(cut.X, whole.X[: len(cut)])
    np.testing.assert_array_equal(cut.y[cut.labelled], whole.y[: len(cut)][cut.labelled])
    np.testing.assert_array_equal(cut.volatility, whole.volatility[: len(cut)])


def test_nothing_to_prepare_and_too_little_of_it_are_refused(gspc):
    with pytest.raises(ConfigError, match="at least one symbol"):
        prepare([], CONFIG)
    with pytest.raises(NotEnoughDataError, match="labelled origins"):
        prepare(gspc.iloc[:60], CONFIG)
    with pytest.raises(NotEnoughDataError):
        prepare(gspc.iloc[:200], RunConfig())
