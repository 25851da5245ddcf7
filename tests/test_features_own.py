"""Custom features: registered by name or imported from a module, checked, and examined by the audit."""

import itertools
import sys
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from feature_oracles import bundled

from forecastlib import ConfigError, DataQualityError, FeatureConfig, LeakageError, NotEnoughDataError, RunConfig, audit
from forecastlib.features import (
    catalogue,
    compute_features,
    feature_frame,
    register_feature,
    unknown_features,
    warm_up,
)

NAMES = (f"own_{number}" for number in itertools.count())


def registered(function: Callable, *, lookback: int = 3, **options) -> str:
    """Register a function under a name that no other test uses, and return the name."""
    name = next(NAMES)
    register_feature(name, lookback=lookback, function=function, **options)
    return name


def gap(prices: pd.DataFrame) -> pd.Series:
    """Divide the open by the previous close, minus 1.

    More about it.
    """
    return prices["open"] / prices["close"].shift(1) - 1.0


def config(*custom: str, **choices) -> FeatureConfig:
    return FeatureConfig(**({"names": ("close",)} | choices), custom=custom)


@pytest.fixture
def prices() -> pd.DataFrame:
    return bundled("^GSPC").iloc[:400]


@pytest.fixture
def module(tmp_path, monkeypatch) -> Callable[[str], str]:
    """Return a function that writes an importable module of the user, and returns its name."""
    monkeypatch.syspath_prepend(tmp_path)
    numbers = itertools.count()

    def write(text: str) -> str:
        name = f"users_features_{tmp_path.name.replace('-', '_')}_{next(numbers)}"
        (tmp_path / f"{name}.py").write_text(text, encoding="utf-8")
        return name

    yield write
    for name in [name for name in sys.modules if name.startswith("users_features_")]:
        del sys.modules[name]


# Computing


def test_a_registered_feature_is_a_column_after_the_built_in_ones(prices):
    name = registered(gap, lookback=1, group="gaps")
    features = compute_features(prices, config(name, names=("rsi_7", "close")))
    assert list(features.columns) == ["close", "rsi_7", name]
    pd.testing.assert_series_equal(features[name].iloc[52:], gap(prices).iloc[52:], check_names=False, check_exact=True)
    built_in = compute_features(prices, FeatureConfig(names=("rsi_7", "close")))
    pd.testing.assert_frame_equal(features[["close", "rsi_7"]], built_in, check_exact=True)


def test_the_warm_up_and_the_catalogue_include_custom_features(prices):
    name = registered(lambda p: p["close"].rolling(301).mean(), lookback=300, group="gaps")
    assert warm_up(config(name)) == 300
    features = compute_features(prices, config(name))
    assert features.iloc[:300].isna().all(axis=None)
    assert features.iloc[300:].notna().all(axis=None)
    with pytest.raises(NotEnoughDataError, match="at least 301 sessions"):
        compute_features(prices.iloc[:300], config(name))
    described = registered(gap, group="bar")
    table = catalogue(config(name, described))
    assert table.loc[name].to_dict() == {"group": "gaps", "lookback": 300, "description": ""}
    assert table.loc[described].to_dict() == {
        "group": "bar",
        "lookback": 3,
        "description": "Divide the open by the previous close, minus 1.",
    }


def test_custom_features_are_added_to_all_built_in_ones_and_computed_without_them_if_their_group_is_chosen(prices):
    name = registered(gap, group="gaps")
    assert compute_features(prices, FeatureConfig(custom=(name,))).shape == (400, 153)
    assert list(compute_features(prices, FeatureConfig(groups=("gaps",), custom=(name,)))) == [name]
    assert list(compute_features(prices, FeatureConfig(names=(name,), custom=(name,)))) == [name]
    assert compute_features(prices, FeatureConfig(groups=("calendar",), custom=(name,))).shape == (400, 5)


def test_features_that_are_not_listed_are_not_computed(prices):
    registered(lambda p: pytest.fail("nobody asked for it"))
    assert compute_features(prices).shape == (400, 152)


@pytest.mark.parametrize("make", [pd.Series.to_numpy, lambda s: s.astype("Float64"), lambda s: s.astype(np.float32)])
def test_a_feature_may_return_an_array_or_a_series_of_any_numeric_type(prices, make):
    name = registered(lambda p: make(gap(p).fillna(0.0)))
    values = compute_features(prices, config(name))[name]
    assert values.dtype == np.float64
    np.testing.assert_allclose(values.iloc[3:], gap(prices).iloc[3:], atol=1e-8)


def test_a_boolean_feature_becomes_zero_and_one(prices):
    name = registered(lambda p: p["close"] > p["open"])
    assert set(compute_features(prices, config(name))[name].iloc[3:]) == {0.0, 1.0}


def test_a_feature_cannot_change_the_prices(prices):
    def careless(p: pd.DataFrame) -> pd.Series:
        p["close"] = p["close"].shift(1)
        p.iloc[:, 0] = 1.0
        return p["close"]

    original, name = prices.copy(deep=True), registered(careless)
    features = compute_features(prices, FeatureConfig(groups=("bar", "calendar"), custom=(name, registered(gap))))
    pd.testing.assert_frame_equal(prices, original)
    np.testing.assert_array_equal(features[name].iloc[10:], original["close"].shift(1).iloc[10:])
    np.testing.assert_array_equal(features.iloc[10:, -1], gap(original).iloc[10:])


def test_feature_frame_equals_compute_features_but_does_not_validate_the_prices(prices):
    pd.testing.assert_frame_equal(feature_frame(prices), compute_features(prices), check_exact=True)
    prices.iloc[300, 3] = np.nan
    assert feature_frame(prices, FeatureConfig(names=("close",)))["close"].isna().any()
    with pytest.raises(DataQualityError, match="finite"):
        compute_features(prices, FeatureConfig(names=("close",)))


# What a function must return


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda p: gap(p).iloc[1:], r"on the index of the prices \(400 sessions\).*of 399 rows"),
        (lambda p: gap(p)[::-1], "another index"),
        (lambda p: gap(p).reset_index(drop=True), "another index"),
        (lambda p: gap(p).to_numpy()[1:], r"400 values, one per session; got the shape \(399,\)"),
        (lambda p: p[["open", "close"]], r"got the shape \(400, 2\)"),
        (lambda p: 1.0, r"got the shape \(\)"),
        (lambda p: None, r"got the shape \(\)"),
        (lambda p: gap(p).astype(str), "expected numbers"),
        (lambda p: gap(p).to_numpy() + 1j, "expected numbers.*complex128"),
        (lambda p: gap(p).where(p.index != p.index[7]), r"finite values.*from row 3 on.*nan on 1999-01-13 \(1 such"),
        (lambda p: 1.0 / (p["close"] * 0.0), r"inf on 1999-01-07 \(397 such rows\)"),
        (lambda p: p["close"].rolling(21).mean(), "declare a longer lookback"),
    ],
)
def test_anything_but_one_finite_number_per_session_raises_by_name(prices, function, message):
    name = registered(function)
    with pytest.raises(DataQualityError, match=message) as raised:
        compute_features(prices, config(name))
    assert f"{name!r}" in str(raised.value)


def test_an_error_within_a_feature_is_raised_unchanged_with_the_name_of_the_feature(prices):
    name = registered(lambda p: p["turnover"])
    with pytest.raises(KeyError, match="turnover") as raised:
        compute_features(prices, config(name))
    assert raised.value.__notes__ == [f"raised by the feature {name!r}"]


# Registering


def test_an_existing_name_raises_unless_it_is_replaced_explicitly(prices):
    name = registered(gap)
    with pytest.raises(ConfigError, match=f"'{name}' is already registered.*replace=True"):
        register_feature(name, lookback=1, function=gap)
    register_feature(name, lookback=0, function=lambda p: p["close"], replace=True)
    np.testing.assert_array_equal(compute_features(prices, config(name))[name].iloc[1:], prices["close"].iloc[1:])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "rsi_14"}, "'rsi_14' is the name of a built-in feature"),
        ({"name": ""}, "name of a feature as text"),
        ({"name": "a,b"}, "without commas"),
        ({"name": "a:b"}, "colons"),
        ({"name": "good", "group": " bar"}, "group of a feature"),
        ({"name": "good", "lookback": -1}, "lookback of the feature 'good' as a number of sessions; got -1"),
        ({"name": "good", "lookback": 2.0}, "got 2.0"),
        ({"name": "good", "lookback": True}, "got True"),
        ({"name": "good", "function": 3}, "function of prices; got int"),
    ],
)
def test_an_invalid_registration_raises(arguments, message):
    with pytest.raises(ConfigError, match=message):
        register_feature(**({"lookback": 1, "function": gap} | arguments))
    assert unknown_features(FeatureConfig(custom=("good",))) == ("good",)


# From a module


def test_a_function_in_a_module_is_a_feature_under_its_own_name(prices, module):
    name = module(
        "from forecastlib.features import feature\n"
        "@feature(lookback=20, group='gaps')\n"
        "def mean_close(prices):\n"
        "    return prices['close'].rolling(21).mean()\n"
    )
    chosen = config(f"{name}:mean_close")
    assert catalogue(chosen).loc["mean_close", ["group", "lookback"]].to_list() == ["gaps", 20]
    features = compute_features(prices, chosen)
    assert list(features.columns) == ["close", "mean_close"]
    np.testing.assert_array_equal(features["mean_close"].iloc[20:], prices["close"].rolling(21).mean().iloc[20:])


def test_attributes_declare_the_lookback_as_well_as_the_decorator_does(prices, module):
    name = module("def last(prices):\n    return prices['close']\nlast.lookback = 5\n")
    assert warm_up(config(f"{name}:last")) == 5
    assert catalogue(config(f"{name}:last")).loc["last", "group"] == "own"


@pytest.mark.parametrize(
    ("text", "entry", "message"),
    [
        (None, "no_such_package.features:gap", "cannot import.*No module named 'no_such_package'.*PYTHONPATH"),
        ("", "{}:gap", "has no attribute 'gap'"),
        ("1 / 0", "{}:gap", "ZeroDivisionError: division by zero"),
        ("def gap(prices): ...", "{}:gap", r"declare its lookback.*@feature\(lookback=...\)"),
        ("def gap(prices): ...\ngap.lookback = 'a'", "{}:gap", "number of sessions; got 'a'"),
        ("def rsi_14(prices): ...\nrsi_14.lookback = 1", "{}:rsi_14", "name of a built-in feature"),
        ("", "{}:", "expected a feature as 'package.module:function'"),
        ("", ":gap", "expected a feature as 'package.module:function'"),
    ],
)
def test_a_module_that_cannot_give_the_feature_raises_by_name(module, text, entry, message):
    entry = entry.format(module(text) if text is not None else "")
    with pytest.raises(ConfigError, match=message):
        warm_up(config(entry))
    assert unknown_features(config(entry)) == (entry,)


# Features that this process does not know


def test_an_unknown_feature_raises_by_name_and_says_how_to_register_it(prices):
    message = r"unknown feature 'spread'.*register_feature\('spread', lookback=.*'package.module:function'"
    for function in (warm_up, catalogue, lambda chosen: compute_features(prices, chosen)):
        with pytest.raises(ConfigError, match=message):
            function(config("spread"))


def test_unknown_features_are_listed_in_the_order_of_the_configuration():
    name = registered(gap)
    chosen = FeatureConfig(names=("rsi_14", "rsi_15", name, "spread"), custom=(name, "spread", "nowhere:gap"))
    assert unknown_features(chosen) == ("rsi_15", "spread", "nowhere:gap")
    assert unknown_features(FeatureConfig(custom=(name,))) == unknown_features() == ()


def test_built_in_and_repeated_names_in_custom_raise():
    name = registered(gap)
    with pytest.raises(ConfigError, match="'rsi_14' is a built-in feature; list it in names"):
        warm_up(config("rsi_14"))
    with pytest.raises(ConfigError, match=f"'{name}' is listed more than once"):
        warm_up(config(name, name))


# The audit


def test_the_audit_names_a_registered_feature_that_looks_ahead():
    honest = registered(gap, lookback=1)
    ahead = registered(lambda p: p["close"].shift(-1).ffill() / p["close"], lookback=0)
    run = RunConfig.from_parameters(names="close", custom=f"{honest},{ahead}")
    report = audit(bundled("^GSPC").iloc[-1500:], run, checks=("future_cut_off",))
    with pytest.raises(LeakageError, match=ahead) as raised:
        report.raise_for_errors()
    assert honest not in str(raised.value)
    fine = RunConfig.from_parameters(names="close", custom=honest)
    audit(bundled("^GSPC").iloc[-1500:], fine, checks=("future_cut_off",)).raise_for_errors()
