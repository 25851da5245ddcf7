"""The audit catches and names every planted leak, and nothing that does not leak."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from forecastlib import RunConfig
from forecastlib.auditing import CHECKS, FEATURE_CHECKS, SET_CHECKS, audit, planted
from forecastlib.auditing.checks import CANARY
from forecastlib.features import compute_features
from forecastlib.models import Distribution
from forecastlib.models.distribution import LEVELS
from forecastlib.models.tabular import Ridge
from forecastlib.recipe import Recipe
from forecastlib.samples.scaling import Scaling
from forecastlib.samples.splits import Split, holdout
from forecastlib.samples.windows import build_windows

EXACT = (*FEATURE_CHECKS, *SET_CHECKS)


@pytest.fixture(scope="module")
def recent(ixic):
    """Return the newest 2,000 sessions: enough for all sets, and faster."""
    return ixic.iloc[-2000:]


@pytest.mark.parametrize("leak", planted.LEAKS, ids=lambda leak: leak.name)
def test_a_planted_leak_is_caught_and_named(recent, leak):
    finding = audit(leak.prices(recent), recipe=leak.recipe, checks=(leak.check,)).findings[0]
    assert finding.status == "failed"
    assert any(name.startswith(leak.affected) for name in finding.affected), finding
    assert finding.remedy


def test_the_table_of_planted_leaks_says_what_caught_them(recent):
    chosen = [leak for leak in planted.LEAKS if leak.check in ("calibration", "label_overlap")]
    table = planted.caught(recent, leaks=chosen).set_index("leak")
    assert table.columns.tolist() == ["caught", "by", "affected"]
    assert table["caught"].all()
    assert table.loc["calibration samples shared with the test set", "by"] == "calibration"
    # Without the purge, labels of the validation set are known after the first test origin.
    assert table.loc["a split without purge", "by"] == "label_overlap, calibration"
    assert table.loc["a split without purge", "affected"].startswith("train into validation: 29 origins, ")


def test_a_leak_that_no_check_names_does_not_count_as_caught(recent):
    harmless = planted.Leak("nothing", "label_overlap", "train into validation")
    wrong = replace(planted.LEAKS[4], affected="another name")
    table = planted.caught(recent, leaks=[harmless, wrong])
    assert table["caught"].tolist() == [False, False]
    assert table["by"].tolist() == ["", "label_overlap, calibration"]


def test_every_check_has_a_planted_leak_except_windows_and_labels():
    assert {leak.check for leak in planted.LEAKS} >= set(CHECKS) - {"windows", "labels"}


# Features


def test_an_additional_feature_that_is_causal_passes(recent):
    recipe = planted.with_feature("deviation_21", planted.deviation)
    assert audit(recent, recipe=recipe, checks=EXACT).passed


@pytest.mark.parametrize("leak", planted.LEAKS[:3], ids=lambda leak: leak.name)
def test_only_the_feature_that_looks_ahead_is_named(recent, leak):
    found = audit(recent, recipe=leak.recipe, checks=FEATURE_CHECKS).affected()
    assert set().union(*found.values()) == {leak.affected}


def test_a_leak_of_a_single_rounding_error_is_caught(recent):
    def nudged(prices: pd.DataFrame, config) -> pd.DataFrame:
        features = compute_features(prices, config)
        return features.assign(rsi_14=features["rsi_14"] * (1.0 + np.spacing(1.0) * (len(prices) % 2)))

    assert audit(recent, recipe=Recipe(features=nudged), checks=("future_cut_off",)).affected() == {
        "future_cut_off": ("rsi_14",)
    }


def test_a_feature_that_looks_at_the_date_of_the_next_session_is_caught(recent):
    def last_of_month(prices: pd.DataFrame) -> pd.Series:
        months = pd.Series(prices.index.month, index=prices.index)
        return (months != months.shift(-1, fill_value=months.iloc[-1])).astype(float)

    recipe = planted.with_feature("last_of_month", last_of_month)
    assert audit(recent, recipe=recipe, checks=("future_cut_off",)).affected() == {"future_cut_off": ("last_of_month",)}


def test_a_value_filled_backwards_into_the_warm_up_is_caught(recent):
    recipe = Recipe(features=lambda prices, config: compute_features(prices, config).bfill())
    finding = audit(recent, recipe=recipe, checks=("future_changed",)).finding("future_changed")
    # Calendar features do not change with the prices.
    assert len(finding.affected) == 152 - 4
    assert finding.dates[0] == recent.index[0]


def test_features_chosen_by_looking_at_the_whole_series_are_caught(recent):
    def largest(prices: pd.DataFrame, config) -> pd.DataFrame:
        features = compute_features(prices, config)
        return features[features.abs().max().nlargest(20).index]

    assert not audit(recent, recipe=Recipe(features=largest), checks=("future_changed",)).passed


# Samples and sets


def test_a_window_that_ends_a_session_late_is_caught(recent):
    def late(prices, features, config):
        return build_windows(prices, features.shift(-1).ffill(), config)

    finding = audit(recent, recipe=Recipe(windows=late), checks=("windows",)).finding("windows")
    assert len(finding.affected) == 3 and all(name.startswith("window of ") for name in finding.affected)
    assert len(finding.dates) == finding.measured > 1000


def test_a_window_that_skips_a_session_before_its_last_row_is_caught(recent):
    def skipping(prices, features, config):
        windows = build_windows(prices, features, config)
        return replace(windows, rows=windows.rows + (windows.origins == windows.origins[-1]) * -1)

    assert audit(recent, recipe=Recipe(windows=skipping), checks=("windows",)).affected().keys() == {"windows"}


def test_labels_counted_from_the_session_after_the_origin_are_caught(recent):
    def shifted(prices, features, config):
        windows = build_windows(prices, features, config)
        return replace(windows, y=np.roll(windows.y, -1, axis=0))

    affected = audit(recent, recipe=Recipe(windows=shifted), checks=("labels",)).affected()["labels"]
    assert affected == tuple(f"labels {horizon} sessions ahead" for horizon in (7, 14, 30))


def test_labels_dated_before_they_are_known_are_caught(recent):
    def early(prices, features, config):
        windows = build_windows(prices, features, config)
        return replace(windows, label_dates=windows.origins.where(windows.labelled))

    assert audit(recent, recipe=Recipe(windows=early), checks=("labels",)).affected() == {"labels": ("label_dates",)}


def test_an_embargo_that_is_ignored_is_caught(recent):
    config = RunConfig.from_parameters(embargo=10)
    recipe = Recipe(split=lambda windows, split: holdout(windows, RunConfig().split))
    (affected,) = audit(recent, config, recipe=recipe, checks=("label_overlap",)).affected().values()
    assert [name.split(":")[0] for name in affected] == ["train into validation", "validation into test"]
    assert "10 origins" in affected[0]


def test_shuffled_sets_are_caught(recent):
    def at_random(windows, config):
        rows = np.random.default_rng(0).permutation(np.flatnonzero(windows.labelled))
        return Split(*(np.sort(part) for part in np.split(rows, [900, 1200])))

    assert not audit(recent, recipe=Recipe(split=at_random), checks=("label_overlap",)).passed


def test_a_scaler_that_misstates_what_it_was_fitted_on_is_caught(recent):
    def misstating(windows, split, config):
        scaling = Scaling(config).fit(windows, np.flatnonzero(windows.labelled))
        honest = Scaling(config).fit(windows, split.train)
        scaling.fitted_to, scaling.labels_to = honest.fitted_to, honest.labels_to
        return scaling

    finding = audit(recent, recipe=Recipe(scaling=misstating), checks=("scalers",)).finding("scalers")
    assert finding.measured > 100
    assert "scaler of the target 30 sessions ahead" in finding.affected
    assert not {"fitted_to", "labels_to"} & set(finding.affected)


def test_only_the_target_scaler_is_named_if_only_it_leaks(recent):
    def half_honest(windows, split, config):
        honest = Scaling(config).fit(windows, split.train)
        honest._scalers["targets"].fit(windows.y[windows.labelled])
        return honest

    (affected,) = audit(recent, recipe=Recipe(scaling=half_honest), checks=("scalers",)).affected().values()
    assert affected == tuple(f"scaler of the target {horizon} sessions ahead" for horizon in (7, 14, 30))


def calibrated_until(position):
    """Return a recipe that calibrates on what is known at the test origin at a position."""

    def calibration(windows, split):
        return np.flatnonzero(windows.label_dates <= windows.origins[split.test[position]])

    return Recipe(calibration=calibration)


def test_everything_known_at_the_first_test_origin_may_calibrate(recent):
    assert audit(recent, recipe=calibrated_until(0), checks=("calibration",)).passed


def test_calibration_on_one_more_session_is_caught(recent):
    finding = audit(recent, recipe=calibrated_until(1), checks=("calibration",)).finding("calibration")
    assert finding.affected[0].startswith("outcomes known after ") and "1 origin" in finding.affected[0]
    assert finding.affected[1].startswith("prices of the train set to ")
    assert finding.measured == len(finding.dates) == 1


def test_samples_without_an_outcome_may_not_calibrate(recent):
    recipe = Recipe(calibration=lambda windows, split: np.append(split.validation, len(windows) - 1))
    assert audit(recent, recipe=recipe, checks=("calibration",)).finding("calibration").measured == 1


def test_volatility_that_depends_on_where_the_history_begins_is_caught(recent):
    def from_the_first_row(prices, features, config):
        windows = build_windows(prices, features, config)
        volatility = prices["close"].pct_change().fillna(0.0).ewm(span=200).std().to_numpy()
        return replace(windows, volatility=volatility[windows.rows])

    assert audit(recent, recipe=Recipe(windows=from_the_first_row), checks=("served_features",)).affected() == {
        "served_features": ("volatility",)
    }


# Skill


def test_forecasts_corrected_on_the_test_set_are_caught_by_the_canary(recent):
    recipe = Recipe(predict=planted.corrected_on_the_test_set)
    checks = [name for name in CHECKS if not name.startswith("model")]
    assert audit(recent, recipe=recipe, checks=checks).affected() == {
        CANARY: tuple(f"corrected_on_the_test_set, {horizon} sessions ahead" for horizon in (7, 14, 30))
    }


def test_only_the_single_features_catch_a_leak_in_the_prices(recent):
    distorted = planted.interpolated_between_weeks(recent)
    assert set(audit(distorted, "ridge").affected()) == {"single_features"}


def test_a_feature_that_equals_the_future_return_is_named(recent):
    def oracle(prices: pd.DataFrame) -> pd.Series:
        return np.log(prices["close"].shift(-14) / prices["close"]).fillna(0.0)

    recipe = planted.with_feature("oracle", oracle)
    found = audit(recent, recipe=recipe, checks=("single_features",)).finding("single_features")
    assert found.affected[0] == "oracle"
    assert found.figures.loc["oracle", 14] == pytest.approx(1.0, abs=0.01)


def point_forecasts(values):
    return Distribution(LEVELS, np.repeat(values[:, :, None], len(LEVELS), axis=2))


def test_forecasts_that_are_the_labels_are_caught_and_constant_forecasts_are_not(recent):
    def omniscient(model, samples):
        return point_forecasts(samples.labels())

    def constant(model, samples):
        mean_of_training = model._model[-1].intercept_
        return point_forecasts(np.tile(mean_of_training, (len(samples), 1)))

    found = audit(recent, recipe=Recipe(predict=omniscient), checks=(CANARY,)).finding(CANARY)
    assert (len(found.affected), found.measured) == (3, 1.0)
    found = audit(recent, recipe=Recipe(predict=constant), checks=(CANARY,)).finding(CANARY)
    assert (found.status, found.measured) == ("passed", 0.0)


def test_the_canary_learns_log_returns_for_any_target(recent, monkeypatch):
    seen = []
    fit = Ridge.fit

    def watched(self, train, validation):
        seen.append(train)
        return fit(self, train, validation)

    monkeypatch.setattr(Ridge, "fit", watched)
    config = RunConfig.from_parameters(target="price")
    audit(recent, config, checks=(CANARY,), shuffles=10)
    real, *shuffled = seen
    assert len(shuffled) == 10
    assert np.abs(real.y).max() < 0.5
    for train in shuffled:
        assert not np.array_equal(train.y, real.y)
        np.testing.assert_array_equal(np.sort(train.y, axis=0), np.sort(real.y, axis=0))


def test_smoothed_prices_are_caught_with_any_features(recent):
    config = RunConfig.from_parameters(form="level", target="price", groups=["calendar"])
    found = audit(planted.interpolated_between_weeks(recent), config, checks=("single_features",)).affected()
    assert found == {"single_features": ("return of the session",)}
