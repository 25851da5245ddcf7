import json

import numpy as np
import pytest
from sklearn.preprocessing import MinMaxScaler, RobustScaler, StandardScaler

from forecastlib.config import ModelConfig, WindowConfig
from forecastlib.errors import IncompatibleModelError, NotFittedError
from forecastlib.samples.scaling import Scaling
from forecastlib.samples.splits import Split, holdout
from forecastlib.samples.windows import Windows, make_windows, pool_windows

KINDS = {"minmax": MinMaxScaler, "standard": StandardScaler, "robust": RobustScaler}
WINDOW = WindowConfig(lookback=5, horizons=(1, 3))


def config_of(kind: str, targets: str | None = None) -> ModelConfig:
    return ModelConfig(feature_scaler=kind, target_scaler=targets or kind)


def windows_of(prices) -> Windows:
    features = prices.drop(columns="volume").copy()
    features.iloc[:2] = np.nan  # a warm-up
    return make_windows(prices, features, WINDOW)


@pytest.fixture
def windows(make_prices) -> Windows:
    return windows_of(make_prices(120, seed=3))


@pytest.fixture
def split(windows) -> Split:
    return holdout(windows)


@pytest.fixture(params=KINDS)
def kind(request) -> str:
    return request.param


def test_using_scalers_before_they_are_fitted_says_what_to_do(windows):
    scaling = Scaling(ModelConfig())
    for use in (
        lambda: scaling.features(windows.matrix),
        lambda: scaling.targets(windows.y),
        lambda: scaling.unscaled_targets(windows.y),
        lambda: scaling.n_features,
        scaling.to_dict,
    ):
        with pytest.raises(NotFittedError, match=r"scaler of the (features|targets) is not fitted yet; call fit"):
            use()
    assert (scaling.fitted_from, scaling.fitted_to, scaling.labels_to) == (None, None, None)


def test_scalers_are_those_of_scikit_learn_on_the_rows_and_targets_of_the_training_set(windows, split, kind):
    scaling = Scaling(config_of(kind)).fit(windows, split.train)
    rows = windows.matrix[2 : windows.rows[split.train[-1]] + 1]  # every row that a training window sees, once
    expected = KINDS[kind]().fit(rows).transform(windows.matrix)
    np.testing.assert_array_equal(scaling.features(windows.matrix), expected.astype(np.float32))
    expected = KINDS[kind]().fit(windows.y[split.train]).transform(windows.y)
    np.testing.assert_array_equal(scaling.targets(windows.y), expected.astype(np.float32))
    assert scaling.features(windows.matrix).dtype == scaling.targets(windows.y).dtype == np.float32
    assert scaling.n_features == 4


def test_each_horizon_is_scaled_separately(windows, split):
    scaled = Scaling(ModelConfig()).fit(windows, split.train).targets(windows.y[split.train])
    np.testing.assert_allclose(scaled.mean(axis=0), 0.0, atol=1e-6)
    np.testing.assert_allclose(scaled.std(axis=0), 1.0, atol=1e-6)


def test_the_dates_that_scalers_were_fitted_on_are_recorded_for_the_audit(windows, split):
    scaling = Scaling(ModelConfig()).fit(windows, split.train)
    assert scaling.fitted_from == f"{windows.dates[2]:%Y-%m-%d}"
    assert scaling.fitted_to == f"{windows.origins[split.train[-1]]:%Y-%m-%d}"
    assert scaling.labels_to == f"{windows.label_dates[split.train[-1]]:%Y-%m-%d}"
    assert scaling.labels_to <= f"{windows.origins[split.validation[0]]:%Y-%m-%d}"


@pytest.mark.parametrize("factor", [0.01, 5.0])
def test_later_rows_do_not_change_fitted_scalers(make_prices, kind, factor):
    prices = make_prices(120, seed=3)
    windows = windows_of(prices)
    split = holdout(windows)
    later = prices.copy()
    later.loc[prices.index > windows.label_dates[split.train[-1]]] *= factor
    changed = windows_of(later)
    learned = Scaling(config_of(kind)).fit(windows, split.train).to_dict()
    assert Scaling(config_of(kind)).fit(changed, split.train).to_dict() == learned
    earlier = prices.copy()
    earlier.iloc[10] *= factor
    assert Scaling(config_of(kind)).fit(windows_of(earlier), split.train).to_dict() != learned


def test_scalers_of_pooled_symbols_see_the_training_rows_of_each(make_prices):
    parts = [windows_of(make_prices(n, symbol=s, seed=n)) for n, s in ((120, "A"), (100, "B"))]
    pooled = pool_windows(parts)
    split = holdout(pooled)
    train = pooled.take(split.train)
    rows = [row for i in train.rows for row in range(i - 4, i + 1)]
    scaling = Scaling(ModelConfig()).fit(pooled, split.train)
    expected = StandardScaler().fit(pooled.matrix[sorted(set(rows))])
    np.testing.assert_array_equal(scaling.features(pooled.matrix), expected.transform(pooled.matrix).astype(np.float32))
    assert set(train.symbols) == {"A", "B"}


@pytest.mark.parametrize("targets", KINDS)
def test_scalers_survive_json_to_the_last_bit(windows, split, kind, targets):
    config = config_of(kind, targets)
    scaling = Scaling(config).fit(windows, split.train)
    saved = json.loads(json.dumps(scaling.to_dict(), allow_nan=False))
    loaded = Scaling.from_dict(saved, config)
    assert loaded.to_dict() == scaling.to_dict()
    assert loaded.n_features == scaling.n_features
    np.testing.assert_array_equal(loaded.features(windows.matrix), scaling.features(windows.matrix))
    scaled = scaling.targets(windows.y)
    np.testing.assert_array_equal(loaded.targets(windows.y), scaled)
    np.testing.assert_array_equal(loaded.unscaled_targets(scaled), scaling.unscaled_targets(scaled))


def test_unscaling_restores_the_targets(windows, split, kind):
    scaling = Scaling(config_of(kind)).fit(windows, split.train)
    targets = np.random.default_rng(0).normal(0.0, 0.05, (50, 2))
    back = scaling.unscaled_targets(scaling.targets(targets))
    np.testing.assert_allclose(back, targets, rtol=1e-6, atol=1e-8)  # computed in single precision
    assert back.dtype == np.float64


def test_a_label_that_is_not_known_yet_stays_unknown(windows, split, kind):
    scaled = Scaling(config_of(kind)).fit(windows, split.train).targets(windows.y)
    np.testing.assert_array_equal(np.isnan(scaled), np.isnan(windows.y))


def test_warm_up_rows_stay_missing(windows, split, kind):
    scaled = Scaling(config_of(kind)).fit(windows, split.train).features(windows.matrix)
    assert np.isnan(scaled[:2]).all()
    assert np.isfinite(scaled[2:]).all()


def test_a_constant_feature_is_scaled_to_zero(make_prices, kind):
    prices = make_prices(120)
    windows = make_windows(prices, prices[["close"]].assign(still=7.0), WINDOW)
    scaled = Scaling(config_of(kind)).fit(windows, holdout(windows).train).features(windows.matrix)
    assert (scaled[:, 1] == 0.0).all()


def test_scaling_does_not_change_its_input(windows, split, kind):
    matrix, y = windows.matrix.copy(), windows.y.copy()
    scaling = Scaling(config_of(kind)).fit(windows, split.train)
    scaling.unscaled_targets(scaling.targets(windows.y))
    scaling.features(windows.matrix)
    np.testing.assert_array_equal(windows.matrix, matrix)
    np.testing.assert_array_equal(windows.y, y)


def test_two_models_never_share_scalers(make_prices):
    parts = [windows_of(make_prices(120, seed=seed)) for seed in (1, 2)]
    one = Scaling(ModelConfig()).fit(parts[0], holdout(parts[0]).train)
    before = one.features(parts[0].matrix)
    other = Scaling(ModelConfig()).fit(parts[1], holdout(parts[1]).train)
    Scaling.from_dict(other.to_dict(), ModelConfig())
    np.testing.assert_array_equal(one.features(parts[0].matrix), before)


def saved_scalers(windows: Windows, split: Split) -> dict:
    return json.loads(json.dumps(Scaling(config_of("standard")).fit(windows, split.train).to_dict()))


def test_scalers_of_a_kind_that_contradicts_the_configuration_are_refused(windows, split):
    with pytest.raises(
        IncompatibleModelError, match="expected a robust scaler of the features; the bundle has standard"
    ):
        Scaling.from_dict(saved_scalers(windows, split), config_of("robust", "standard"))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda s: s.pop("scalers"),
        lambda s: s.pop("labels_to"),
        lambda s: s["scalers"].pop("targets"),
        lambda s: s["scalers"]["features"].pop("kind"),
        lambda s: s["scalers"]["features"]["learned"].pop("mean_"),
        lambda s: s["scalers"]["features"]["learned"]["mean_"].pop(),
        lambda s: s["scalers"]["features"]["learned"].update(mean_="abc"),
        lambda s: s["scalers"].update(features=None),
        lambda s: s.update(scalers=[1, 2]),
    ],
)
def test_incomplete_scalers_are_refused(windows, split, spoil):
    saved = saved_scalers(windows, split)
    spoil(saved)
    with pytest.raises(IncompatibleModelError, match=r"scalers of the bundle cannot be read: .*; train it again"):
        Scaling.from_dict(saved, config_of("standard"))
