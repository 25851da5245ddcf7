"""The contract of all features together; the definitions of individual ones are in test_features_<group>.py."""

import numpy as np
import pandas as pd
import pytest
from feature_oracles import FORMS, bundled, computed
from hypothesis import given, settings
from hypothesis import strategies as st

from forecastlib.config import FeatureConfig
from forecastlib.data.prices import PRICE_COLUMNS, to_prices
from forecastlib.errors import ConfigError, DataQualityError, NotEnoughDataError
from forecastlib.features import CATALOGUE, GROUPS, catalogue, choose_features, compute_features, warm_up
from forecastlib.features.base import History

COUNTS = {"bar": 14, "trend": 32, "momentum": 28, "volatility": 30, "volume": 22, "statistics": 22, "calendar": 4}
FIRST = 252
"""The warm-up of all features: the first row without NaN."""

both_forms = pytest.mark.parametrize("form", FORMS)


def random_prices(seed: int, sessions: int = 300, flat: float = 0.0, idle: float = 0.0) -> pd.DataFrame:
    """Return a random walk in cents with some unchanged sessions and some without volume."""
    random = np.random.default_rng(seed)
    moves = random.standard_t(3, sessions) * 0.01 * (random.random(sessions) >= flat)
    close = np.round(100 * np.exp(np.cumsum(np.clip(moves, -0.2, 0.2))) + 0.01, 2)
    open_ = np.where(moves == 0, close, np.round(close * np.exp(random.normal(0, 0.004, sessions)) + 0.01, 2))
    spread = (moves != 0) * random.integers(0, 50, (2, sessions)) / 100
    frame = pd.DataFrame(
        {
            "open": open_,
            "high": np.maximum(open_, close) + spread[0],
            "low": np.maximum(np.minimum(open_, close) - spread[1], 0.01),
            "close": close,
            "volume": random.integers(1, 10**9, sessions) * (random.random(sessions) >= idle),
        },
        index=pd.bdate_range("2001-01-01", periods=sessions),
    )
    return to_prices(frame.round(2), "RANDOM")


def assert_complete(features: pd.DataFrame) -> None:
    """Assert that after the warm-up no value is missing or infinite."""
    invalid = ~np.isfinite(features.iloc[FIRST:].to_numpy())
    assert not invalid.any(), list(features.columns[invalid.any(axis=0)])


# The catalogue


def test_there_are_152_features_in_seven_groups():
    assert {group: len(features) for group, features in GROUPS.items()} == COUNTS
    assert len(CATALOGUE) == sum(COUNTS.values()) == 152  # by name, so names are unique


def test_the_catalogue_is_a_table_in_the_order_of_the_columns():
    table = catalogue()
    assert list(table.columns) == ["group", "lookback", "description"]
    assert list(table.index) == list(CATALOGUE) == list(computed("^GSPC", "relative").columns)
    assert table["group"].value_counts().to_dict() == COUNTS
    assert table["description"].is_unique
    assert table["lookback"].max() == warm_up() == FIRST


@both_forms
def test_the_declared_lookback_is_the_row_of_the_first_value(form):
    history = History(bundled("^IXIC").iloc[:400])
    for feature in CATALOGUE.values():
        values = feature.compute(history, form)
        first = 0 if form == "level" and feature.name in ("close", "volume") else feature.lookback
        assert np.isnan(values[:first]).all(), feature.name
        assert np.isfinite(values[first:]).all(), feature.name


@pytest.mark.parametrize("name", CATALOGUE)
def test_a_value_needs_exactly_its_declared_lookback(name):
    lookback = CATALOGUE[name].lookback
    config = FeatureConfig(names=(name,))
    prices = random_prices(1)
    shortest = compute_features(prices.iloc[299 - lookback :], config)
    assert shortest.iloc[-1].item() == compute_features(prices, config).iloc[-1].item()
    with pytest.raises(NotEnoughDataError):
        compute_features(prices.iloc[300 - lookback :], config)


# Selection


def test_chosen_groups_and_names_are_in_the_order_of_the_catalogue():
    assert [f.name for f in choose_features(FeatureConfig(names=("rsi_14", "close", "adx_14")))] == [
        "close",
        "adx_14",
        "rsi_14",
    ]
    chosen = choose_features(FeatureConfig(groups=("calendar", "bar")))
    assert [f.name for f in chosen] == [f.name for group in ("bar", "calendar") for f in GROUPS[group]]


def test_a_subset_has_the_same_values_and_a_shorter_warm_up():
    prices = bundled("^GSPC").iloc[:600]
    config = FeatureConfig(groups=("bar", "momentum"), names=("close", "rsi_14"))
    part = compute_features(prices, config)
    assert list(part.columns) == ["close", "rsi_14"]
    assert warm_up(config) == 108
    assert part.iloc[:108].isna().all(axis=None)
    assert part.iloc[108:].notna().all(axis=None)
    pd.testing.assert_frame_equal(part.iloc[FIRST:], compute_features(prices)[["close", "rsi_14"]].iloc[FIRST:])


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (FeatureConfig(groups=("momentun",)), "unknown feature group 'momentun'; did you mean 'momentum'"),
        (FeatureConfig(names=("rsi_15",)), "unknown feature 'rsi_15'; did you mean 'rsi_1"),
        (FeatureConfig(groups=("trend",), names=("rsi_14",)), "groups trend; got rsi_14"),
    ],
)
def test_unknown_or_contradictory_choices_raise(config, message):
    for function in (choose_features, warm_up, catalogue, lambda c: compute_features(bundled("^GSPC"), c)):
        with pytest.raises(ConfigError, match=message):
            function(config)


# The frame


@both_forms
def test_features_are_floats_on_the_index_of_prices_after_a_block_of_nan(form):
    prices = bundled("^IXIC")
    features = computed("^IXIC", form)
    assert features.shape == (len(prices), 152)
    pd.testing.assert_index_equal(features.index, prices.index)
    assert (features.dtypes == np.float64).all()
    assert features.attrs == {"symbol": "^IXIC"}
    assert features.iloc[:FIRST].isna().all(axis=None)
    assert_complete(features)


def test_prices_are_not_changed():
    prices = bundled("^GSPC").iloc[:400]
    original = prices.copy(deep=True)
    compute_features(prices)
    pd.testing.assert_frame_equal(prices, original)


def test_too_short_a_history_raises_with_the_sessions_needed_and_received():
    prices = bundled("^GSPC")
    with pytest.raises(NotEnoughDataError, match=r"at least 253 sessions.*got 252"):
        compute_features(prices.iloc[:252])
    assert compute_features(prices.iloc[:253]).iloc[-1].notna().all()


def test_incomplete_prices_raise():
    prices = bundled("^GSPC").iloc[:400]
    prices.iloc[300, 3] = np.nan
    with pytest.raises(DataQualityError, match="finite"):
        compute_features(prices)


# Causality and parity, to the last bit


@both_forms
@pytest.mark.parametrize("last", [252, 253, 300, 777, 1500, 2851, 4107, 5029])
def test_cutting_the_future_off_changes_no_value(form, last):
    past = compute_features(bundled("^IXIC").iloc[: last + 1], FeatureConfig(form=form))
    pd.testing.assert_frame_equal(past, computed("^IXIC", form).iloc[: last + 1], check_exact=True)


@both_forms
@pytest.mark.parametrize("last", [252, 700, 4106])
def test_changing_the_future_changes_no_value(form, last):
    prices = bundled("^IXIC")
    random = np.random.default_rng(last)
    future = prices.iloc[last + 1 :]
    prices.iloc[last + 1 :] = future.to_numpy() * random.uniform(0.1, 10, size=(len(future), 1))
    changed = compute_features(prices, FeatureConfig(form=form))
    original = computed("^IXIC", form)
    pd.testing.assert_frame_equal(changed.iloc[: last + 1], original.iloc[: last + 1], check_exact=True)
    calendar = [feature.name for feature in GROUPS["calendar"]]
    assert (changed != original).iloc[last + 1 :].any().drop(calendar).all()  # the change reaches every feature


@both_forms
@pytest.mark.parametrize("sessions", [253, 254, 255, 260, 300, 399, 400])
def test_features_of_a_date_are_bit_equal_when_computed_from_the_latest_sessions_only(form, sessions):
    prices, whole = bundled("^IXIC"), computed("^IXIC", form)
    for last in range(sessions, len(prices), 389):
        served = compute_features(prices.iloc[last - sessions + 1 : last + 1], FeatureConfig(form=form))
        expected = whole.iloc[last - sessions + 1 + FIRST : last + 1]
        pd.testing.assert_frame_equal(served.iloc[FIRST:], expected, check_exact=True)


def test_rows_before_the_lookback_do_not_matter():
    prices = bundled("^GSPC")
    expected = compute_features(prices).iloc[1000:]
    prices.iloc[: 1000 - FIRST] *= 1e3
    pd.testing.assert_frame_equal(compute_features(prices).iloc[1000:], expected, check_exact=True)


def test_the_memory_layout_of_the_columns_does_not_matter():
    prices = bundled("^GSPC").iloc[:500]
    strided = pd.DataFrame(np.ascontiguousarray(prices.to_numpy()), prices.index, prices.columns, copy=False)
    pd.testing.assert_frame_equal(compute_features(strided), compute_features(prices), check_exact=True)


# Scale


@pytest.mark.parametrize("factor", [1e-3, 0.37, 1.0001, 8.0, 12345.6])
def test_the_relative_form_does_not_depend_on_the_price_level_or_the_unit_of_volume(factor):
    prices = bundled("^IXIC").iloc[3500:4500]
    expected = compute_features(prices).iloc[FIRST:]
    for columns in (list(PRICE_COLUMNS), ["volume"]):
        scaled = prices.copy()
        scaled[columns] *= factor
        np.testing.assert_allclose(compute_features(scaled).iloc[FIRST:], expected, rtol=1e-6, atol=1e-9)


def test_the_level_form_has_unscaled_prices_and_averages():
    prices, features = bundled("^GSPC"), computed("^GSPC", "level")
    for column in prices:
        np.testing.assert_array_equal(features[column].iloc[FIRST:], prices[column].iloc[FIRST:])
    average = prices["close"].rolling(200).mean()
    np.testing.assert_allclose(features["sma_200"].iloc[FIRST:], average.iloc[FIRST:], rtol=1e-12)


# Degenerate markets


@both_forms
@pytest.mark.parametrize("symbol", ["^GSPC", "^IXIC"])
def test_no_feature_repeats_few_values(symbol, form):
    values = computed(symbol, form).iloc[FIRST:]
    distinct = values.nunique()
    few = {"weekday_sin": 5, "weekday_cos": 5, "yearday_sin": 300, "yearday_cos": 150, "rises_21": 15, "rises_63": 25}
    few |= {"aroon_up_25": 26, "aroon_down_25": 26, "volume_rank_63": 60, "return_rank_63": 60, "close_rank_126": 100}
    few |= {"max_return_21": 200, "max_drawdown_126": 100, "midprice_52": 500, "overnight": 500}
    for name, count in distinct.items():
        assert count >= few.get(name, 800), f"{name} has {count} values"
    longest = (values.diff().ne(0).cumsum().apply(lambda run: run.value_counts().max())).drop("overnight")
    assert longest.max() <= 126, longest.nlargest(3)


@both_forms
@pytest.mark.parametrize("days", [[2], [4106, 4107, 4108], list(range(300, 420)), list(range(600))])
def test_sessions_without_volume_give_complete_features(form, days):
    prices = bundled("^IXIC").iloc[:5000]
    prices.iloc[days, 4] = 0.0
    assert_complete(compute_features(prices.iloc[:600] if len(days) == 600 else prices, FeatureConfig(form=form)))


def test_without_any_volume_ratios_have_their_documented_values():
    prices = bundled("^IXIC").iloc[:600]
    original = compute_features(prices)
    prices["volume"] = 0.0
    features = compute_features(prices)
    assert_complete(features)
    names = [feature.name for feature in GROUPS["volume"]]
    pd.testing.assert_frame_equal(features.drop(columns=names), original.drop(columns=names), check_exact=True)
    documented = dict.fromkeys(names, 0.0)
    documented |= dict.fromkeys(["volume_mean_5", "volume_mean_21", "volume_mean_63", "volume_ratio_5_63"], 1.0)
    documented |= {"mfi_14": 50.0}
    for name in set(names) - {"vwap_5", "vwap_21"}:
        assert (features[name].iloc[FIRST:] == documented[name]).all(), name
    typical = prices[["high", "low", "close"]].mean(axis=1)
    expected = typical.rolling(5).mean() / prices["close"] - 1
    np.testing.assert_allclose(features["vwap_5"].iloc[FIRST:], expected.iloc[FIRST:], atol=1e-12)


@pytest.mark.parametrize("level", [1e-6, 0.1, 1 / 3, 4999.99])
def test_constant_prices_give_the_documented_values(level):
    prices = bundled("^GSPC").iloc[:300]
    prices[list(PRICE_COLUMNS)] = level
    features = compute_features(prices).iloc[FIRST:]
    assert np.isfinite(features.to_numpy()).all()
    middles = ["rsi_7", "rsi_14", "rsi_28", "stochastic_k_14", "stochastic_d_14", "ultimate_oscillator", "mfi_14"]
    shares = ["stochastic_rsi_14", "bollinger_position_20", "range_share_21", "overnight_share_21", "hurst_126"]
    shares += ["rises_21", "rises_63", "downside_share_63"]
    documented = (
        dict.fromkeys(middles, 50.0) | dict.fromkeys(shares, 0.5) | {"williams_r_14": -50.0, "mass_index_25": 25.0}
    )
    documented |= dict.fromkeys(["volatility_ratio_5_21", "volatility_ratio_21_63"], 1.0)
    documented |= dict.fromkeys(["variance_ratio_5_63", "variance_ratio_10_126"], 1.0)
    for name in features.columns.difference([f.name for group in ("volume", "calendar") for f in GROUPS[group]]):
        if not name.startswith("aroon"):
            np.testing.assert_allclose(features[name], documented.get(name, 0.0), atol=1e-12, err_msg=name)


@both_forms
@pytest.mark.parametrize("whole_bars", [False, True])
def test_a_close_that_is_constant_for_a_year_gives_complete_and_bounded_features(form, whole_bars):
    prices = bundled("^GSPC").iloc[:1000]
    columns = list(PRICE_COLUMNS) if whole_bars else ["close"]
    prices.iloc[400:700, [prices.columns.get_loc(column) for column in columns]] = prices["close"].iloc[400]
    features = compute_features(prices, FeatureConfig(form=form))
    assert_complete(features)
    if form == "relative":
        assert features.abs().max().max() < 1e3


@pytest.mark.parametrize("factor", [1e-3, 1e3])
def test_a_thousandfold_jump_gives_complete_features(factor):
    prices = bundled("^GSPC").iloc[:900]
    prices.iloc[500:, :4] *= factor
    assert_complete(compute_features(prices))


def test_a_close_or_open_outside_its_bar_gives_complete_features():
    prices = bundled("^GSPC").iloc[:600]
    prices.iloc[300:330, 0] *= 1.05
    prices.iloc[360:390, 3] *= 0.93
    assert_complete(compute_features(prices))


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 2**32 - 1),
    flat=st.sampled_from([0.0, 0.3, 0.9, 1.0]),
    idle=st.sampled_from([0.0, 0.3, 0.9, 1.0]),
    form=st.sampled_from(FORMS),
    cut=st.integers(0, 46),
)
def test_random_markets_give_complete_causal_features_of_bounded_memory(seed, flat, idle, form, cut):
    prices = random_prices(seed, flat=flat, idle=idle)
    config = FeatureConfig(form=form)
    features = compute_features(prices, config)
    assert_complete(features)
    served = compute_features(prices.iloc[cut : 299 - cut % 2], config)
    pd.testing.assert_frame_equal(
        served.iloc[FIRST:], features.iloc[cut + FIRST : 299 - cut % 2], check_exact=True, check_freq=False
    )


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**32 - 1), flat=st.sampled_from([0.0, 0.3, 0.9]), factor=st.floats(1e-3, 1e4))
def test_features_of_random_markets_do_not_depend_on_scale(seed, flat, factor):
    prices = random_prices(seed, flat=flat)
    expected = compute_features(prices).iloc[FIRST:]
    prices[list(PRICE_COLUMNS)] *= factor
    scaled = compute_features(prices).iloc[FIRST:]
    np.testing.assert_allclose(scaled, expected, rtol=1e-5, atol=1e-7)
