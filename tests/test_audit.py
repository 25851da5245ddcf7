"""The audit: it passes for the library's recipe and models, and examines what a forecaster really executes."""

import io
from dataclasses import replace

import mlflow
import numpy as np
import pandas as pd
import pytest
import tiny
from click.testing import CliRunner
from sklearn.linear_model import Ridge as RidgeRegression

import forecastlib.recipe
from forecastlib import ConfigError, DataQualityError, Forecaster, LeakageError, RunConfig
from forecastlib.auditing import CHECKS, FEATURE_CHECKS, MODEL_CHECKS, SET_CHECKS, AuditReport, audit, planted
from forecastlib.auditing.checks import (
    CANARY,
    AuditedRun,
    _block_order,
    prices_with_other_future,
    samples_with_other_future,
)
from forecastlib.cli import main
from forecastlib.models import Distribution, create
from forecastlib.models.distribution import LEVELS
from forecastlib.recipe import Recipe
from forecastlib.tracking import runs

EXACT = (*FEATURE_CHECKS, *SET_CHECKS)


@pytest.fixture(scope="module")
def recent(ixic):
    """Return the newest 2,000 sessions: enough for all sets, and faster."""
    return ixic.iloc[-2000:]


@pytest.fixture(scope="module")
def report(ixic) -> AuditReport:
    return audit(ixic)


# The library's recipe and models


@pytest.mark.slow
def test_the_default_configuration_passes_every_check(report):
    assert [finding.check for finding in report.findings] == list(CHECKS)
    assert report.passed, repr(report)
    assert report.affected() == {}
    report.raise_for_errors()


@pytest.mark.slow
def test_the_default_configuration_passes_on_the_other_index_too(gspc):
    report = audit(gspc, RunConfig.from_parameters(symbol="^GSPC"))
    assert report.passed, repr(report)


@pytest.mark.parametrize(
    "parameters",
    [
        {"target": "vol_scaled", "model": "gradient_boosting"},
        {"target": "price", "form": "level", "feature_scaler": "minmax", "target_scaler": "minmax", "model": "drift"},
        {"horizons": [1], "lookback": 5, "groups": ["bar", "calendar"], "embargo": 12, "feature_scaler": "robust",
         "lstm_units": [4], "dense_units": [4], "branch_units": 4},
    ],
    ids=lambda parameters: next(iter(parameters)),
)  # fmt: skip
def test_other_configurations_pass_as_well(recent, parameters):
    report = audit(recent, RunConfig.from_parameters(**parameters), shuffles=10)
    assert report.passed, repr(report)


@pytest.mark.parametrize("name", ["random_walk", "ridge", "ewma", "garch_t", "gjr_skewt", "har"])
def test_the_baselines_do_not_look_ahead(recent, name):
    report = audit(recent, name, checks=MODEL_CHECKS)
    assert report.passed, repr(report)


@pytest.mark.slow
def test_the_details_say_how_much_was_examined(report):
    detail = report.checks.set_index("check")["detail"]
    assert "of 152 features" in detail["future_cut_off"] and "of 152 features" in detail["future_changed"]
    assert detail["served_features"].startswith("6 origins")
    assert detail["unlabelled_tail"].startswith("the outcomes of the 30 newest samples")
    assert "of 155 scales" in detail["scalers"]
    assert detail["calibration"].startswith("674 samples calibrate; 0 of them are in the test set")
    assert "over 20 shuffles" in detail[CANARY]
    assert detail["model_predictions"].startswith("5 test origins")
    assert "forecasts of 5 test origins changed at 0 horizons" in detail["model_fit"]


def test_auditing_twice_gives_the_same_results(recent):
    checks = ("scalers", "future_changed", "single_features", *MODEL_CHECKS)
    first, second = (audit(recent, "har", checks=checks, shuffles=10) for _ in range(2))
    pd.testing.assert_frame_equal(first.checks, second.checks)


def test_the_prices_do_not_change(recent):
    before = recent.copy()
    audit(recent, "har", checks=(*EXACT, *MODEL_CHECKS))
    pd.testing.assert_frame_equal(recent, before)


# What is executed is what is audited


@pytest.mark.parametrize(
    ("step", "check"),
    [
        ({"scaling": planted.scaling_of_all_rows}, "scalers"),
        ({"split": planted.split_without_purge}, "label_overlap"),
        ({"calibration": planted.calibration_into_the_test_set}, "calibration"),
        ({"windows": planted.clipped_tail}, "unlabelled_tail"),
        ({"model": planted.ClippedByAllRows}, "model_fit"),
    ],
    ids=lambda part: part if isinstance(part, str) else next(iter(part)),
)
def test_a_leaking_step_in_the_recipe_of_a_forecaster_is_caught_and_named(recent, step, check):
    forecaster = Forecaster(RunConfig.from_parameters(model="ridge"), recipe=replace(Recipe(), **step))
    report = audit(recent, forecaster, checks=(*SET_CHECKS, *MODEL_CHECKS))
    assert check in report.affected()
    with pytest.raises(LeakageError, match=rf"\n- {check}: "):
        report.raise_for_errors()
    assert audit(recent, Forecaster(forecaster.config), checks=(*SET_CHECKS, *MODEL_CHECKS)).passed


def test_given_samples_are_examined_without_computing_features_again(recent):
    calls = []

    def counted(prices, config):
        calls.append(len(prices))
        return forecastlib.recipe.feature_frame(prices, config)

    forecaster = Forecaster(RunConfig.from_parameters(model="har"), recipe=Recipe(features=counted))
    samples = forecaster.recipe.prepare(recent, forecaster.config)
    assert audit(recent, forecaster, samples=samples, checks=SET_CHECKS).passed
    assert calls == [len(recent)]
    tampered = replace(samples, calibration=samples.split.test)
    assert audit(recent, forecaster, samples=tampered, checks=SET_CHECKS).affected().keys() == {"calibration"}


def test_the_predictions_of_a_fitted_forecaster_are_examined_without_fitting_again():
    forecaster = tiny.forecaster()
    network = forecaster.model.lstm.network
    report = audit(tiny.prices(), forecaster, checks=("model_predictions",))
    assert report.passed, repr(report)
    assert forecaster.model.lstm.network is network

    class Peeking(type(forecaster.model)):
        def predict(self, samples):
            last = np.log(samples.prices[0]["close"].iloc[-1] / samples.last_close)
            distribution = super().predict(samples)
            return Distribution(distribution.levels, distribution.quantiles + 1e-12 * last[:, None, None])

    changed = Forecaster(forecaster.config)
    changed.__dict__ |= vars(forecaster)
    changed._model = Peeking(forecaster.config)
    changed._model.__dict__ |= vars(forecaster.model)
    report = audit(tiny.prices(), changed, checks=("model_predictions",))
    assert len(report.affected()["model_predictions"]) == 5


@pytest.mark.slow
def test_a_network_given_as_an_object_stays_fitted():
    model = create("lstm", tiny.config(epochs=1))
    forecaster = Forecaster(tiny.config(epochs=1), model=model).fit(tiny.prices(), progress=False)
    network = model.network
    report = audit(tiny.prices(), forecaster, checks=MODEL_CHECKS)
    assert report.passed, repr(report)
    assert model.network is network


# Models of other libraries


class Linear:
    """An honest ten-line model on scikit-learn."""

    name = "linear"

    def fit(self, train, validation):
        self.model = RidgeRegression(alpha=1000.0).fit(train.last_rows, train.labels())
        residuals = validation.labels() - self.model.predict(validation.last_rows)
        self.quantiles = np.quantile(residuals, LEVELS, axis=0).T
        return self

    def predict(self, samples):
        return Distribution(LEVELS, self.model.predict(samples.last_rows)[:, :, None] + self.quantiles)


class ReadingPrices(Linear):
    """Uses the newest price it can find."""

    name = "reading_prices"

    def predict(self, samples):
        newest = samples.prices[0]["close"].iloc[-1]
        quantiles = super().predict(samples).quantiles
        return Distribution(LEVELS, quantiles + 0.01 * np.log(newest / samples.last_close)[:, None, None])


class ReadingLabels(Linear):
    """Blends in the labels if it is given any."""

    name = "reading_labels"

    def predict(self, samples):
        quantiles = super().predict(samples).quantiles
        return Distribution(LEVELS, quantiles + 0.1 * np.nan_to_num(samples.log_returns(samples.y))[:, :, None])


class NeedingLabels(Linear):
    """Cannot forecast without labels."""

    name = "needing_labels"

    def predict(self, samples):
        return Distribution(LEVELS, samples.labels()[:, :, None] + self.quantiles)


class CentredOverTheBatch(Linear):
    """Standardises each batch with its own statistics, which include later origins."""

    name = "centred_over_the_batch"

    def predict(self, samples):
        quantiles = super().predict(samples).quantiles
        return Distribution(LEVELS, quantiles - quantiles.mean(axis=(0, 2), keepdims=True))


class FittedOnEveryRow(Linear):
    """Weights the training set by its distance from the mean of all rows."""

    name = "fitted_on_every_row"

    def fit(self, train, validation):
        mean = np.nanmean(train.matrix, axis=0)
        weights = 1.0 / (1.0 + np.abs(train.last_rows - mean).mean(axis=1))
        super().fit(train, validation)
        self.model.fit(train.last_rows, train.labels(), sample_weight=weights)
        return self


class Unseeded(Linear):
    """Draws new coefficients in each fit."""

    name = "unseeded"

    def fit(self, train, validation):
        super().fit(train, validation)
        self.model.coef_ = self.model.coef_ * np.random.default_rng().uniform(size=self.model.coef_.shape)
        return self


class UnseededPredictions(Linear):
    """Draws new forecasts in each call."""

    name = "unseeded_predictions"

    def predict(self, samples):
        return Distribution(LEVELS, super().predict(samples).quantiles + np.random.default_rng().normal())


def test_an_honest_scikit_learn_model_passes_and_is_not_modified(recent):
    model = Linear()
    report = audit(recent, model, checks=(*SET_CHECKS, *MODEL_CHECKS))
    assert report.passed, repr(report)
    assert vars(model) == {}, "a copy was fitted"


@pytest.mark.parametrize(
    ("model", "check", "affected"),
    [
        (ReadingPrices(), "model_predictions", "reading_prices: forecast of "),
        (ReadingLabels(), "model_predictions", "reading_labels: labels"),
        (NeedingLabels(), "model_predictions", "needing_labels: labels"),
        (CentredOverTheBatch(), "model_predictions", "centred_over_the_batch: forecast of "),
        (FittedOnEveryRow(), "model_fit", "fitted_on_every_row: 7 sessions ahead"),
    ],
    ids=lambda part: getattr(part, "name", ""),
)
def test_a_model_that_looks_ahead_is_caught_and_named(recent, model, check, affected):
    report = audit(recent, model=model, checks=(check,))
    assert report.affected()[check][0].startswith(affected)
    assert not report.passed


@pytest.mark.parametrize(("model", "check"), [(Unseeded(), "model_fit"), (UnseededPredictions(), "model_predictions")])
def test_a_model_without_a_seed_cannot_be_examined_and_does_not_pass(recent, model, check):
    report = audit(recent, model, checks=(check,))
    assert report.finding(check).status == "not run" and "fixed seed" in report.finding(check).detail
    assert not report.passed


# Shuffles and altered futures


@pytest.mark.parametrize(("samples", "block"), [(6, 2), (100, 7), (3254, 60), (5, 1), (2, 1)])
def test_shuffling_moves_every_block_as_a_whole(samples, block):
    for seed in range(20):
        order = _block_order(samples, block, np.random.default_rng(seed))
        assert sorted(order) == list(range(samples))
        starts = np.flatnonzero(np.diff(order, prepend=-9) != 1)
        assert all(order[start] % block == 0 for start in starts)
        moved_to = {int(order[i]): i for i in range(samples) if order[i] % block == 0}
        assert [place for start, place in moved_to.items() if start != place]


def test_the_future_is_cut_off_at_dates_that_reveal_lookahead(ixic):
    cuts = AuditedRun(ixic, Forecaster(), None, 10, 0).cut_rows
    index = ixic.index
    assert cuts[0] == 253 and cuts[-1] == len(ixic) - 2
    assert any(index[row].month != index[row + 1].month for row in cuts)
    assert any(index[row].year != index[row + 1].year for row in cuts)
    assert {index[row].day_of_week for row in cuts} == {0, 1, 2, 3, 4}
    move = np.abs(np.log(ixic["close"]).diff().to_numpy())
    assert int(np.nanargmax(np.where(np.arange(len(ixic)) > 253, move, np.nan))) - 1 in cuts


def test_prices_with_another_future_have_the_same_past_and_are_valid(recent):
    altered = prices_with_other_future(recent.assign(own=1.0), 700, seed=0)
    pd.testing.assert_frame_equal(altered.iloc[:701], recent.assign(own=1.0).iloc[:701])
    assert (altered.iloc[701:] != recent.assign(own=1.0).iloc[701:]).all(axis=None)
    ohlcv = altered[recent.columns]
    assert (ohlcv > 0).all(axis=None)
    assert (ohlcv.drop(columns="volume").max(axis=1) == ohlcv["high"])[701:].all()
    assert (ohlcv.drop(columns="volume").min(axis=1) == ohlcv["low"])[701:].all()


def test_samples_with_another_future_differ_in_everything_that_becomes_known_later(recent):
    samples = Recipe().prepare(recent, RunConfig())
    test, date = samples.test, samples.test.origins[50]
    altered = samples_with_other_future(test, date, seed=0)
    known = test.dates <= date
    for name in ("matrix", "scaled"):
        before, after = getattr(test, name), getattr(altered, name)
        np.testing.assert_array_equal(after[known], before[known])
        assert (after[~known] != before[~known]).mean() > 0.99
        assert after.dtype == before.dtype
    np.testing.assert_array_equal((altered.y != test.y).all(axis=1), test.label_dates > date)
    for name in ("last_close", "volatility"):
        np.testing.assert_array_equal(getattr(altered, name) != getattr(test, name), test.origins > date)
    assert altered.prices[0].loc[:date].equals(test.prices[0].loc[:date])


# The report


def test_the_table_has_one_row_per_check(recent):
    report = audit(recent, checks=SET_CHECKS)
    columns = ["check", "severity", "status", "measured", "affected", "first_dates", "detail", "meaning", "remedy"]
    assert report.checks.columns.tolist() == columns
    assert report.checks["check"].tolist() == list(SET_CHECKS)
    assert (report.checks["status"] == "passed").all() and (report.checks["remedy"] == "").all()


def test_a_notebook_shows_what_leaks_and_what_to_do(recent):
    report = audit(recent, recipe=Recipe(split=planted.split_without_purge), checks=("labels", "label_overlap"))
    html = report._repr_html_()
    assert html.count("<tr") == 3
    assert "✗" in html and "train into validation: 29 origins" in html and "drop the samples between two sets" in html
    assert "failed, 1 of 2 checks with findings" in repr(report)
    assert "failed   label_overlap" in repr(report)


def test_the_error_names_checks_affected_parts_and_remedies(recent):
    leaking = audit(recent, recipe=Recipe(split=planted.split_without_purge), checks=SET_CHECKS)
    with pytest.raises(LeakageError, match=r"expected no leaks; got .*\n- label_overlap: train into.*drop the samples"):
        leaking.raise_for_errors()


def test_many_affected_scalers_are_counted(recent):
    finding = audit(recent, recipe=Recipe(scaling=planted.scaling_of_all_rows), checks=("scalers",)).findings[0]
    assert len(finding.affected) > 3
    assert finding.affected_text.endswith(f"and {len(finding.affected) - 3} more")


def test_the_metrics_and_the_figure_show_the_skill_of_every_shuffle(recent):
    report = audit(recent, checks=("labels", CANARY), shuffles=12)
    metrics, skills = report.metrics(), report.finding(CANARY).figures
    assert (metrics["audit_checks"], metrics["audit_checks_passed"]) == (2.0, 2.0)
    assert skills.shape == (13, 3)
    for horizon in (7, 14, 30):
        assert metrics[f"audit_canary_skill_{horizon}d"] == skills[horizon].iloc[1:].mean()
    (axes,) = report.plot().axes
    drawn = [len(line.get_xdata()) for line in axes.lines]
    assert drawn.count(12) == 3
    assert [text.get_text() for text in axes.get_yticklabels()] == [f"{h} sessions ahead" for h in (30, 14, 7)]


def test_without_the_canary_there_is_no_figure(recent):
    with pytest.raises(ConfigError, match="unknown check 'shuffled_targets'"):
        audit(recent, checks=("labels",)).plot()


def test_invalid_arguments_are_refused(recent):
    with pytest.raises(ConfigError, match="unknown check 'label_overlaps'; did you mean 'label_overlap'"):
        audit(recent, checks=("label_overlaps",))
    with pytest.raises(ConfigError, match="expected at least 10 shuffles; got 3"):
        audit(recent, shuffles=3)
    with pytest.raises(ConfigError, match="expected one model to audit; got both Linear"):
        audit(recent, Linear(), model="har")
    with pytest.raises(ConfigError, match="unknown model 'hra'; did you mean 'har'"):
        audit(recent, "hra", checks=MODEL_CHECKS)
    with pytest.raises(DataQualityError):
        audit(recent.drop(columns="close"))


# The command and the run


def test_the_command_shows_every_check_and_takes_settings():
    result = CliRunner().invoke(
        main, ["audit", "^GSPC", "START=2010-01-01", "HORIZONS=3,5", "lookback=10", "model=har"]
    )
    assert result.exit_code == 0, result.output
    headline, *lines = result.output.splitlines()
    assert headline == "^GSPC (2,264 sessions, 2010-01-04 to 2018-12-31): passed, 0 of 13 checks with findings"
    assert [line.split()[1].rstrip(";") for line in lines] == list(CHECKS)
    assert "; 5: " in lines[list(CHECKS).index(CANARY)]


def test_the_command_exits_with_1_if_something_leaks(recent, tmp_path):
    distorted = planted.interpolated_between_weeks(recent)
    distorted.to_csv(tmp_path / "distorted.csv")
    source = f"SOURCE=csv:{tmp_path / 'distorted.csv'}"
    result = CliRunner().invoke(main, ["audit", "SYMBOL=X", source, "ADJUST=none", "MODEL=har"])
    assert result.exit_code == 1
    assert "failed   single_features: close" in result.output


def test_the_command_refuses_a_setting_that_does_not_exist():
    result = CliRunner().invoke(main, ["audit", "LOOKBAK=10"])
    assert result.exit_code == 1
    assert "did you mean 'lookback'" in result.stderr


def test_tables_and_metrics_are_logged_to_the_open_run(recent, tmp_path, monkeypatch):
    monkeypatch.setenv("FORECASTLIB_HOME", str(tmp_path))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv(runs.RUN_VARIABLE, raising=False)
    monkeypatch.chdir(tmp_path)
    report = audit(recent, checks=SET_CHECKS)
    runs.log_tables({"audit": report.checks})  # no run is open: nothing is logged, nothing fails
    runs.log_metrics(report.metrics())
    client = runs.connect()
    run = client.create_run(runs.experiment_id(client))
    monkeypatch.setenv(runs.RUN_VARIABLE, run.info.run_id)
    runs.log_tables({"audit": report.checks})
    runs.log_metrics(report.metrics())
    assert client.get_run(run.info.run_id).data.metrics["audit_checks_passed"] == len(SET_CHECKS)
    logged = mlflow.artifacts.load_text(f"{run.info.artifact_uri}/tables/audit.csv")
    assert logged.splitlines()[0] == "check,severity,status,measured,affected,first_dates,detail,meaning,remedy"
    assert len(logged.splitlines()) == 1 + len(SET_CHECKS)


@pytest.mark.slow
def test_a_training_runs_the_quick_checks_first_and_logs_them(tmp_path):
    from forecastlib.workflows import train

    with tiny.home(tmp_path):
        result = train(tiny.config(epochs=1), progress=False)
        run = mlflow.get_run(result.run_id)
        table = pd.read_csv(io.StringIO(mlflow.artifacts.load_text(f"{run.info.artifact_uri}/audit.csv")))
    assert run.data.tags["audit"] == "passed"
    assert table["check"].tolist() == list(SET_CHECKS)
    assert (table["status"] == "passed").all()
