"""The audit: it passes on the real thing, and every planted leak is caught by name."""

import io
from dataclasses import replace

import mlflow
import numpy as np
import pandas as pd
import pytest
import tiny
from click.testing import CliRunner
from forecastlib.auditing.recipe import sessions_needed
from forecastlib.auditing.skill_checks import _block_order
from forecastlib.auditing.subject import Subject
from forecastlib.models.uncertainty import known_past

from forecastlib import ConfigError, DataQualityError, Forecaster, LeakageError, RunConfig, pipeline
from forecastlib.auditing import CHECKS, FEATURE_CHECKS, SET_CHECKS, AuditReport, Recipe, audit, planted
from forecastlib.cli import main
from forecastlib.features import compute_features
from forecastlib.samples.scaling import Scaling
from forecastlib.samples.splits import Split, holdout
from forecastlib.samples.windows import make_windows
from forecastlib.tracking import runs

CANARY = "shuffled_targets"
EXACT = (*FEATURE_CHECKS, *SET_CHECKS)


@pytest.fixture(scope="module")
def recent(ixic):
    """Return the newest 2,000 sessions: enough for all sets, and quicker."""
    return ixic.iloc[-2000:]


@pytest.fixture(scope="module")
def report(ixic) -> AuditReport:
    return audit(ixic)


# The real thing


def test_the_real_configuration_passes_every_check(report):
    assert [finding.check for finding in report.findings] == list(CHECKS)
    assert report.passed, repr(report)
    assert report.culprits() == {}
    report.raise_for_errors()


@pytest.mark.slow
def test_the_real_configuration_passes_on_the_other_index_too(gspc):
    report = audit(gspc, RunConfig.from_parameters(symbol="^GSPC"))
    assert report.passed, repr(report)


@pytest.mark.parametrize(
    "parameters",
    [
        {"target": "vol_scaled"},
        {"target": "price", "form": "level", "feature_scaler": "minmax", "target_scaler": "minmax"},
        {"horizons": [1], "lookback": 5, "groups": ["bar", "calendar"], "embargo": 12, "feature_scaler": "robust"},
    ],
    ids=lambda parameters: next(iter(parameters)),
)
def test_other_configurations_pass_as_well(recent, parameters):
    report = audit(recent, RunConfig.from_parameters(**parameters), shuffles=10)
    assert report.passed, repr(report)


def test_what_was_examined_is_not_nothing(report):
    detail = report.checks.set_index("check")["detail"]
    assert "of 152 features" in detail["future_cut_off"] and "of 152 features" in detail["future_changed"]
    assert detail["served_features"].startswith("6 origins")
    assert detail["unlabelled_tail"].startswith("30 newest samples")
    assert "of 155 scales" in detail["scalers"]
    assert "0 of 5 arrays depend on later prices" in detail["calibration"]
    assert "over 20 shuffles" in detail[CANARY]


def test_the_recipe_is_what_the_forecaster_does():
    for parameters in ({}, {"groups": ["bar"], "lookback": 10}, {"lookback": 90}):
        config = RunConfig.from_parameters(**parameters)
        assert sessions_needed(config) == Forecaster(config).sessions_needed


def test_auditing_twice_gives_the_same_figures(recent):
    checks = ("scalers", "future_changed", "single_features")
    first, second = (audit(recent, checks=checks, shuffles=10) for _ in range(2))
    pd.testing.assert_frame_equal(first.checks, second.checks)


def test_the_prices_are_left_as_they_were(recent):
    before = recent.copy()
    audit(recent, checks=EXACT)
    pd.testing.assert_frame_equal(recent, before)


# Planted leaks


@pytest.mark.parametrize("leak", planted.LEAKS, ids=lambda leak: leak.name)
def test_a_planted_leak_is_caught_and_named(recent, leak):
    finding = audit(leak.spoil(recent), recipe=leak.recipe, checks=(leak.check,)).findings[0]
    assert not finding.passed
    assert any(culprit.startswith(leak.culprit) for culprit in finding.culprits), finding
    assert finding.remedy


def test_the_table_of_planted_leaks_says_what_caught_them(recent):
    chosen = [leak for leak in planted.LEAKS if leak.check in ("calibration", "label_overlap")]
    table = planted.caught(recent, leaks=chosen).set_index("leak")
    assert table["caught"].all()
    assert table.loc["calibration rows shared with the test set", "by"] == "calibration"
    # Without the purge, labels of the validation set are known after the first test origin.
    assert table.loc["a split without purge", "by"] == "label_overlap, calibration"
    assert table.loc["a split without purge", "culprits"].startswith("train into validation: 29 origins, ")


def test_a_leak_that_nothing_names_is_not_called_caught(recent):
    harmless = planted.Leak("nothing", "label_overlap", "train into validation")
    wrong = replace(planted.LEAKS[4], culprit="another culprit")
    table = planted.caught(recent, leaks=[harmless, wrong])
    assert table["caught"].tolist() == [False, False]
    assert table["by"].tolist() == ["", "label_overlap, calibration"]


def test_there_is_a_planted_leak_for_each_check_but_those_of_windows_and_labels():
    assert {leak.check for leak in planted.LEAKS} >= set(CHECKS) - {"windows", "labels"}


def test_a_sound_feature_that_is_added_passes(recent):
    recipe = planted.with_feature("deviation_21", planted.deviation)
    assert audit(recent, recipe=recipe, checks=EXACT).passed


@pytest.mark.parametrize("leak", planted.LEAKS[:3], ids=lambda leak: leak.name)
def test_of_all_features_only_the_one_that_looks_ahead_is_named(recent, leak):
    found = audit(recent, recipe=leak.recipe, checks=("future_cut_off", "future_changed", "served_features")).culprits()
    assert set().union(*found.values()) == {leak.culprit}


def test_a_leak_is_caught_even_if_it_is_one_rounding_error(recent):
    def nudged(prices: pd.DataFrame, config) -> pd.DataFrame:
        features = compute_features(prices, config)
        return features.assign(rsi_14=features["rsi_14"] * (1.0 + np.spacing(1.0) * (len(prices) % 2)))

    assert audit(recent, recipe=Recipe(features=nudged), checks=("future_cut_off",)).culprits() == {
        "future_cut_off": ("rsi_14",)
    }


def test_a_look_at_the_date_of_the_next_session_is_caught(recent):
    def last_of_month(prices: pd.DataFrame) -> pd.Series:
        months = pd.Series(prices.index.month, index=prices.index)
        return (months != months.shift(-1, fill_value=months.iloc[-1])).astype(float)

    recipe = planted.with_feature("last_of_month", last_of_month)
    assert audit(recent, recipe=recipe, checks=("future_cut_off",)).culprits() == {"future_cut_off": ("last_of_month",)}


def test_a_value_filled_backwards_into_the_warm_up_is_caught(recent):
    recipe = Recipe(features=lambda prices, config: compute_features(prices, config).bfill())
    (culprits,) = audit(recent, recipe=recipe, checks=("future_changed",)).culprits().values()
    # What comes from the calendar alone does not move when the prices do.
    assert len(culprits) == 152 - 4


def test_features_chosen_by_looking_at_the_whole_series_are_caught(recent):
    def largest(prices: pd.DataFrame, config) -> pd.DataFrame:
        features = compute_features(prices, config)
        return features[features.abs().max().nlargest(20).index]

    assert not audit(recent, recipe=Recipe(features=largest), checks=("future_changed",)).passed


def test_a_window_that_ends_a_session_late_is_caught(recent):
    def late(prices, features, config):
        return make_windows(prices, features.shift(-1).ffill(), config)

    culprits = audit(recent, recipe=Recipe(windows=late), checks=("windows",)).culprits()["windows"]
    assert len(culprits) == 3 and all(culprit.startswith("window of ") for culprit in culprits)


def test_labels_counted_from_the_session_after_the_origin_are_caught(recent):
    def shifted(prices, features, config):
        windows = make_windows(prices, features, config)
        return replace(windows, y=np.roll(windows.y, -1, axis=0))

    culprits = audit(recent, recipe=Recipe(windows=shifted), checks=("labels",)).culprits()["labels"]
    assert culprits == tuple(f"labels {horizon} sessions ahead" for horizon in (7, 14, 30))


def test_labels_that_are_said_to_be_known_too_early_are_caught(recent):
    def hasty(prices, features, config):
        windows = make_windows(prices, features, config)
        return replace(windows, label_dates=windows.origins.where(windows.labelled))

    assert audit(recent, recipe=Recipe(windows=hasty), checks=("labels",)).culprits() == {"labels": ("label_dates",)}


def test_an_embargo_that_is_not_kept_is_caught(recent):
    config = RunConfig.from_parameters(embargo=10)
    recipe = Recipe(split=lambda windows, split: holdout(windows, RunConfig().split))
    (culprits,) = audit(recent, config, recipe=recipe, checks=("label_overlap",)).culprits().values()
    assert [culprit.split(":")[0] for culprit in culprits] == ["train into validation", "validation into test"]
    assert "10 origins" in culprits[0]


def test_shuffled_sets_are_caught(recent):
    def at_random(windows, config):
        rows = np.random.default_rng(0).permutation(np.flatnonzero(windows.labelled))
        return Split(*(np.sort(part) for part in np.split(rows, [900, 1200])))

    assert not audit(recent, recipe=Recipe(split=at_random), checks=("label_overlap",)).passed


def test_a_scaler_that_lies_about_what_it_was_fitted_on_is_caught(recent):
    def lying(windows, split, config):
        scaling = Scaling(config).fit(windows, np.flatnonzero(windows.labelled))
        honest = Scaling(config).fit(windows, split.train)
        scaling.fitted_to, scaling.labels_to = honest.fitted_to, honest.labels_to
        return scaling

    finding = audit(recent, recipe=Recipe(scaling=lying), checks=("scalers",)).finding("scalers")
    assert finding.measured > 100
    assert "scaler of the target 30 sessions ahead" in finding.culprits
    assert not {"fitted_to", "labels_to"} & set(finding.culprits)


def test_a_target_scaler_alone_is_named_alone(recent):
    def half_honest(windows, split, config):
        honest = Scaling(config).fit(windows, split.train)
        honest._scalers["targets"].fit(windows.y[windows.labelled])
        return honest

    (culprits,) = audit(recent, recipe=Recipe(scaling=half_honest), checks=("scalers",)).culprits().values()
    assert culprits == tuple(f"scaler of the target {horizon} sessions ahead" for horizon in (7, 14, 30))


def past_until(choose):
    """Return a recipe that calibrates on the past until a date chosen from the windows and the split."""

    def calibration(prices, windows, split, config):
        return known_past(prices, choose(windows, split), config.window.horizons)

    return Recipe(calibration=calibration)


def test_all_that_is_known_at_the_first_test_origin_may_calibrate(recent):
    recipe = past_until(lambda windows, split: windows.origins[split.test[0]])
    assert audit(recent, recipe=recipe, checks=("calibration",)).passed


def test_one_session_more_is_too_much(recent):
    recipe = past_until(lambda windows, split: windows.origins[split.test[1]])
    (culprits,) = audit(recent, recipe=recipe, checks=("calibration",)).culprits().values()
    assert culprits[0].startswith("outcomes known after ") and "3 origins" in culprits[0]


def test_calibration_that_looks_at_later_prices_by_another_way_is_caught(recent):
    def rescaled(prices, windows, split, config):
        past = Recipe().calibration(prices, windows, split, config)
        return replace(past, session_returns=past.session_returns * prices["close"].pct_change().std())

    assert audit(recent, recipe=Recipe(calibration=rescaled), checks=("calibration",)).culprits() == {
        "calibration": ("session_returns of the past that calibrates",)
    }


def test_volatility_that_depends_on_where_the_history_begins_is_caught(recent):
    def from_the_first_row(prices):
        return prices[["close"]].pct_change().fillna(0.0).ewm(span=200).std().fillna(0.0).to_numpy()

    assert audit(recent, recipe=Recipe(volatility=from_the_first_row), checks=("served_features",)).culprits() == {
        "served_features": ("volatility predictors",)
    }


# Skill


def test_the_canary_alone_catches_forecasts_corrected_on_the_test_set(recent):
    recipe = Recipe(forecast=planted.corrected_on_the_test_set)
    assert set(audit(recent, recipe=recipe).culprits()) == {CANARY}


def test_the_single_features_alone_catch_what_came_in_with_the_prices(recent):
    spoiled = planted.interpolated_between_weeks(recent)
    assert set(audit(spoiled).culprits()) == {"single_features"}


def test_a_feature_that_is_the_future_return_is_named(recent):
    def oracle(prices: pd.DataFrame) -> pd.Series:
        return np.log(prices["close"].shift(-14) / prices["close"]).fillna(0.0)

    recipe = planted.with_feature("oracle", oracle)
    found = audit(recent, recipe=recipe, checks=("single_features",)).finding("single_features")
    assert found.culprits[0] == "oracle"
    assert found.figures.loc["oracle", 14] == pytest.approx(1.0, abs=0.01)


def test_a_learner_that_knows_the_answer_is_caught_and_one_that_always_says_the_same_is_not(recent):
    def omniscient(train, validation, test, prices):
        return test.log_returns(test.y)

    def constant(train, validation, test, prices):
        return np.tile(train.y.mean(axis=0), (len(test), 1))

    found = audit(recent, recipe=Recipe(forecast=omniscient), checks=(CANARY,)).finding(CANARY)
    assert (len(found.culprits), found.measured) == (3, 1.0)
    found = audit(recent, recipe=Recipe(forecast=constant), checks=(CANARY,)).finding(CANARY)
    assert (found.passed, found.measured) == (True, 0.0)


def test_the_learner_gets_scaled_windows_and_log_returns(recent):
    seen = []

    def look(train, validation, test, prices):
        seen.append((train, test))
        return np.zeros((len(test), 3))

    config = RunConfig.from_parameters(target="price")
    audit(recent, config, recipe=Recipe(forecast=look), checks=(CANARY,), shuffles=10)
    (real, test), *shuffled = seen
    assert len(shuffled) == 10
    assert abs(real.matrix[real.covered_rows(np.arange(len(real)))].mean()) < 1e-3
    assert np.abs(test.y).max() < 0.5
    for train, same_test in shuffled:
        assert not np.array_equal(train.y, real.y)
        np.testing.assert_array_equal(np.sort(train.y, axis=0), np.sort(real.y, axis=0))
        np.testing.assert_array_equal(same_test.y, test.y)


@pytest.mark.parametrize(("samples", "block"), [(6, 2), (100, 7), (3254, 60), (5, 1), (2, 1)])
def test_shuffling_keeps_blocks_whole_and_leaves_none_in_its_place(samples, block):
    for seed in range(20):
        order = _block_order(samples, block, np.random.default_rng(seed))
        assert sorted(order) == list(range(samples))
        starts = np.flatnonzero(np.diff(order, prepend=-9) != 1)
        assert all(order[start] % block == 0 for start in starts)
        moved_to = {int(order[i]): i for i in range(samples) if order[i] % block == 0}
        ahead = [place for start, place in moved_to.items() if start != place]
        assert ahead


def test_smoothed_prices_are_caught_whatever_the_features(recent):
    config = RunConfig.from_parameters(form="level", target="price", groups=["calendar"])
    found = audit(planted.interpolated_between_weeks(recent), config, checks=("single_features",)).culprits()
    assert found == {"single_features": ("return of the session",)}


# Cuts and perturbations


def test_cuts_are_where_peeking_shows(ixic):
    cuts = Subject(ixic, RunConfig(), Recipe(), 10, 0).cuts
    index = ixic.index
    assert cuts[0] == 253 and cuts[-1] == len(ixic) - 2
    assert any(index[row].month != index[row + 1].month for row in cuts)
    assert any(index[row].year != index[row + 1].year for row in cuts)
    assert {index[row].day_of_week for row in cuts} == {0, 1, 2, 3, 4}
    move = np.abs(np.log(ixic["close"]).diff().to_numpy())
    assert int(np.nanargmax(np.where(np.arange(len(ixic)) > 253, move, np.nan))) - 1 in cuts


def test_a_changed_future_leaves_the_past_alone_and_changes_everything_after_it(recent):
    altered = Subject(recent, RunConfig(), Recipe(), 10, 0).changed_after(700)
    pd.testing.assert_frame_equal(altered.iloc[:701], recent.iloc[:701])
    assert (altered.iloc[701:] != recent.iloc[701:]).all(axis=None)
    assert (altered > 0).all(axis=None)
    assert (altered["low"] <= altered["high"]).all()


# The report


def test_the_table_has_one_row_a_check(report):
    columns = ["check", "passed", "culprits", "measured", "detail", "meaning", "remedy"]
    assert report.checks.columns.tolist() == columns
    assert len(report.checks) == len(CHECKS) == 11
    assert report.checks["passed"].all() and (report.checks["remedy"] == "").all()


def test_it_shows_itself_with_what_to_do(recent):
    report = audit(recent, recipe=Recipe(split=planted.split_without_purge), checks=("labels", "label_overlap"))
    html = report._repr_html_()
    assert html.count("<tr") == 3
    assert "✗" in html and "train into validation: 29 origins" in html and "drop the samples between two sets" in html
    assert "failed, 1 of 2 checks" in repr(report)
    assert "passed  labels" in repr(report) and "FAILED  label_overlap" in repr(report)


def test_markup_in_a_name_is_shown_and_not_obeyed(recent):
    recipe = planted.with_feature("<b>", planted.centred_mean)
    html = audit(recent, recipe=recipe, checks=("future_cut_off",))._repr_html_()
    assert "&lt;b&gt;" in html


def test_raising_names_checks_culprits_and_remedies(recent):
    leaking = audit(recent, recipe=Recipe(split=planted.split_without_purge), checks=SET_CHECKS)
    with pytest.raises(
        LeakageError, match=r"expected nothing to leak.*\n- label_overlap: train into.*drop the samples"
    ):
        leaking.raise_for_errors()


def test_many_culprits_are_counted(recent):
    finding = audit(recent, recipe=Recipe(scaling=planted.scaling_of_all_rows), checks=("scalers",)).findings[0]
    assert len(finding.culprits) > 3
    assert finding.named.endswith(f"and {len(finding.culprits) - 3} more")


def test_its_figures_are_those_of_the_run(report):
    metrics = report.metrics()
    assert (metrics["audit_checks"], metrics["audit_checks_passed"]) == (11.0, 11.0)
    skills = report.finding(CANARY).figures
    assert skills.shape == (21, 3)
    for horizon in (7, 14, 30):
        assert metrics[f"audit_canary_skill_{horizon}d"] == skills[horizon].iloc[1:].mean()


def test_the_figure_draws_every_shuffle_and_the_real_targets(report):
    (axes,) = report.plot().axes
    drawn = [len(line.get_xdata()) for line in axes.lines]
    assert drawn.count(20) == 3
    assert [text.get_text() for text in axes.get_yticklabels()] == [f"{h} sessions ahead" for h in (30, 14, 7)]


def test_without_the_canary_there_is_no_figure(recent):
    with pytest.raises(ConfigError, match="unknown check 'shuffled_targets'"):
        audit(recent, checks=("labels",)).plot()


def test_what_cannot_be_audited_is_refused(recent):
    with pytest.raises(ConfigError, match="unknown check 'label_overlaps'; did you mean 'label_overlap'"):
        audit(recent, checks=("label_overlaps",))
    with pytest.raises(ConfigError, match="expected at least 10 shuffles; got 3"):
        audit(recent, shuffles=3)
    with pytest.raises(DataQualityError):
        audit(recent.drop(columns="close"))


# The command, and the run


def test_the_command_shows_every_check_and_takes_settings():
    result = CliRunner().invoke(main, ["audit", "^GSPC", "START=2010-01-01", "HORIZONS=3,5", "lookback=10"])
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert lines[0].startswith("^GSPC (2,264 sessions, 2010-01-04 to 2018-12-31): passed, 11 of 11 checks")
    assert [line.split()[1].rstrip(";") for line in lines[1:]] == list(CHECKS)
    assert "5: " in lines[-1]


def test_the_command_exits_with_1_if_something_leaks(recent, tmp_path):
    spoiled = planted.interpolated_between_weeks(recent)
    spoiled.to_csv(tmp_path / "spoiled.csv")
    result = CliRunner().invoke(main, ["audit", "SYMBOL=X", f"SOURCE=csv:{tmp_path / 'spoiled.csv'}", "ADJUST=none"])
    assert result.exit_code == 1
    assert "FAILED  single_features: close" in result.output


def test_the_command_refuses_a_setting_that_does_not_exist():
    result = CliRunner().invoke(main, ["audit", "LOOKBAK=10"])
    assert result.exit_code == 1
    assert "did you mean 'lookback'" in result.stderr


def test_tables_and_figures_reach_the_run_that_was_opened(recent, tmp_path, monkeypatch):
    monkeypatch.setenv("FORECASTLIB_HOME", str(tmp_path))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv(runs.RUN_VARIABLE, raising=False)
    monkeypatch.chdir(tmp_path)
    report = audit(recent, checks=SET_CHECKS)
    runs.log_tables({"audit": report.checks})  # no run was opened: nothing is logged, nothing fails
    runs.log_metrics(report.metrics())
    client = runs.connect()
    run = client.create_run(runs.experiment_id(client))
    monkeypatch.setenv(runs.RUN_VARIABLE, run.info.run_id)
    runs.log_tables({"audit": report.checks})
    runs.log_metrics(report.metrics())
    assert client.get_run(run.info.run_id).data.metrics["audit_checks_passed"] == len(SET_CHECKS)
    logged = mlflow.artifacts.load_text(f"{run.info.artifact_uri}/tables/audit.csv")
    assert logged.splitlines()[0] == "check,passed,culprits,measured,detail,meaning,remedy"
    assert len(logged.splitlines()) == 1 + len(SET_CHECKS)


@pytest.mark.slow
def test_a_training_makes_the_quick_checks_first_and_keeps_them_in_its_run(tmp_path):
    with tiny.home(tmp_path):
        result = pipeline.train(tiny.config(epochs=1), progress=False)
        run = mlflow.get_run(result.run_id)
        table = pd.read_csv(io.StringIO(mlflow.artifacts.load_text(f"{run.info.artifact_uri}/audit.csv")))
    assert run.data.tags["audit"] == "passed"
    assert table["check"].tolist() == list(SET_CHECKS)
    assert table["passed"].all()
