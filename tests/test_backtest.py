"""The backtest as users run it: real processes, a real MLflow store, and a network that trains in seconds."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
import tiny
from click.testing import CliRunner

from forecastlib import backtest
from forecastlib.cli import main
from forecastlib.config import RunConfig
from forecastlib.errors import ConfigError, NotEnoughDataError
from forecastlib.evaluation import backtest as module
from forecastlib.evaluation import metrics
from forecastlib.evaluation.backtest import adapted, compute, divide, mean_forecast
from forecastlib.evaluation.backtest_result import WITH_INTERVALS, BacktestResult, Task, describe_intervals
from forecastlib.evaluation.score_table import SCORES
from forecastlib.evaluation.significance import block_bootstrap, diebold_mariano
from forecastlib.forecasts import COLUMNS, call_is_hit
from forecastlib.models import LEVELS, Distribution, create
from forecastlib.models.base import is_stochastic
from forecastlib.models.conformal import adaptive_widening
from forecastlib.paths import file_name
from forecastlib.recipe import Recipe
from forecastlib.tracking import runs

CONFIG = tiny.config(horizons=[3, 5], epochs=1)
HORIZONS = (3, 5)
SEEDS = (0, 1)
MODELS = ["combination", "har", "ridge"]
OF_COMBINATION = ["combination", "lstm", "mc_dropout", "combination_as_trained", "combination_0", "combination_1"]
DROPOUT = "mc_dropout"


def found_runs(**tags: str) -> list[mlflow.entities.Run]:
    wanted = " and ".join(f"tags.{name} = '{value}'" for name, value in tags.items())
    return mlflow.search_runs(
        experiment_names=[runs.EXPERIMENT], filter_string=wanted, output_format="list", order_by=["start_time"]
    )


def comparable(frame: pd.DataFrame) -> pd.DataFrame:
    """Leave out what is meant to differ between two runs."""
    bare = frame.drop(columns="batch_id")
    bare.attrs = {}
    return bare


@pytest.fixture(scope="module")
def prices() -> pd.DataFrame:
    return tiny.prices()


@pytest.fixture(scope="module")
def samples(prices):
    windows = Recipe().all_windows(prices, CONFIG)
    return windows, divide(windows, CONFIG, folds=2)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    with tiny.home(tmp_path_factory.mktemp("project")) as folder:
        yield folder


@pytest.fixture(scope="module")
def result(home, prices) -> BacktestResult:
    return backtest(prices, CONFIG, models=MODELS, folds=2, seeds=SEEDS, workers=2, progress=False)


# Folds and tasks


@pytest.mark.parametrize("expanding", [True, False])
@pytest.mark.parametrize("embargo", [0, 10])
def test_no_label_of_training_or_validation_is_known_after_the_first_test_origin_of_any_fold(ixic, expanding, embargo):
    config = RunConfig.from_parameters(embargo=embargo)
    windows = Recipe().all_windows(ixic, config)
    splits = divide(windows, config, folds=5, expanding=expanding)
    assert len(splits) == 5
    for split in splits:
        train, validation, test = (windows.take(index) for index in split.sets().values())
        rows = ixic.index.get_indexer(pd.DatetimeIndex([test.origins.min(), validation.origins.min()]))
        known = ixic.index.get_indexer(pd.DatetimeIndex([validation.label_dates.max(), train.label_dates.max()]))
        assert (known <= rows - embargo).all()
        assert train.label_dates.max() <= test.origins.min()


def test_test_sets_follow_one_another_without_a_gap_to_the_last_known_label(ixic):
    windows = Recipe().all_windows(ixic, RunConfig())
    tested = np.concatenate([split.test for split in divide(windows, RunConfig(), folds=5)])
    assert (np.diff(tested) == 1).all()
    assert windows.label_dates[tested[-1]] == ixic.index[-1]


def test_sessions_before_a_test_set_are_split_between_training_and_validation_as_configured(ixic):
    config = RunConfig.from_parameters(train_share=0.6, validation_share=0.2)
    for split in divide(Recipe().all_windows(ixic, config), config, folds=3, test_size=500):
        before = split.test[0]
        assert split.validation[0] / before == pytest.approx(0.75, abs=0.01)


def test_the_tasks_are_every_model_and_seed_of_every_fold_the_longest_first():
    specs = module._model_specs(["ridge", "lstm"], CONFIG)
    assert list(specs) == ["ridge", "lstm", "random_walk"]
    assert module._tasks(2, specs, (4, 7)) == [
        *(Task(2, "lstm", 4), Task(2, "lstm", 7), Task(2, "ridge"), Task(2, "random_walk")),
        *(Task(1, "lstm", 4), Task(1, "lstm", 7), Task(1, "ridge"), Task(1, "random_walk")),
    ]
    assert [str(task) for task in (Task(1, "lstm", 4), Task(1, "har"))] == ["fold 1, lstm, seed 4", "fold 1, har"]


def test_built_in_models_that_depend_on_the_seed_are_known_without_importing_them():
    for name in ("random_walk", "ridge", "gradient_boosting", "har", "garch_t", "lstm", "combination"):
        assert is_stochastic(name) == getattr(create(name, CONFIG), "stochastic", False)


@pytest.mark.parametrize("task", [Task(1, "har"), Task(1, "combination", 0)], ids=str)
def test_nothing_after_the_last_test_origin_changes_a_forecast(prices, samples, task):
    windows, splits = samples
    end = prices.index.get_loc(windows.origins[splits[0].test[-1]]) + 1
    changed = prices.copy()
    changed.iloc[end:, :4] *= 1.5
    spec = module._model_specs([task.model], CONFIG)[task.model]
    frames = []
    for given in (prices, changed):
        windows = Recipe().all_windows(given, CONFIG)
        frames.append(compute(task, spec, windows, divide(windows, CONFIG, folds=2)[0], CONFIG))
    # The outcomes have changed, and with them CRPS; the forecasts have not, to the last bit.
    outcomes = ["actual_price", "crps"]
    pd.testing.assert_frame_equal(*(comparable(frame).drop(columns=outcomes) for frame in frames), check_exact=True)
    assert not frames[0]["crps"].equals(frames[1]["crps"])


# The result


@pytest.mark.slow
def test_every_model_has_forecast_every_test_origin_and_mc_dropout_every_fifth(result, samples):
    windows, splits = samples
    tested = np.concatenate([split.test for split in splits])
    counts = result.forecasts.groupby(["model", "horizon"]).size()
    models = {*OF_COMBINATION, "combination_adaptive", "har", "ridge", "random_walk"}
    assert set(counts.index.unique("model")) == set(result.models) == models
    for model in models - {DROPOUT}:
        assert counts[model].tolist() == [len(tested)] * 2
    assert counts[DROPOUT].tolist() == [sum(len(split.test[::5]) for split in splits)] * 2
    assert (result.models[0], result.main_model) == ("random_walk", "combination")
    assert set(result.forecasts) == {*COLUMNS, "crps", "fold", "actual_price", "direction_threshold"}
    for fold, split in enumerate(splits, start=1):
        of_fold = result.forecasts[(result.forecasts["fold"] == fold) & (result.forecasts["model"] == "lstm")]
        assert set(of_fold["origin"]) == set(windows.origins[split.test])


@pytest.mark.slow
def test_intervals_are_recalibrated_and_those_of_the_training_are_scored_too(result):
    by_model = result.forecasts.set_index(["model", "fold", "origin", "horizon"])
    recalibrated, trained = (by_model.loc[model] for model in ("combination", "combination_as_trained"))
    same = recalibrated["upper_95"] == trained["upper_95"]
    assert same.loc[1].iloc[0] and same.loc[2].mean() < 0.1
    assert (trained["crps"] > 0).all() and not recalibrated["crps"].equals(trained["crps"])


@pytest.mark.slow
def test_scores_equal_a_slow_loop(result, prices):
    close = prices["close"]
    for model in ("combination", "har", DROPOUT):
        for h in HORIZONS:
            rows = [r for r in result.forecasts.itertuples() if r.model == model and r.horizon == h]
            errors, walk, inside, crps = [], [], [], []
            for row in rows:
                actual = close.iloc[close.index.get_loc(row.origin) + h]
                assert row.actual_price == actual
                errors.append(abs(row.predicted_price - actual))
                walk.append(abs(close[row.origin] - actual))
                inside.append(row.lower_80 <= actual <= row.upper_80)
                crps.append(row.crps)
            found = result.scores.loc[(model, h)]
            assert found["n"] == len(rows)
            assert found["mae"] == pytest.approx(sum(errors) / len(rows))
            assert found["skill"] == pytest.approx(1 - sum(errors) / sum(walk))
            assert found["coverage_80"] == pytest.approx(sum(inside) / len(rows))
            assert found["crps"] == pytest.approx(sum(crps) / len(rows))


@pytest.mark.slow
def test_scores_have_block_bootstrap_intervals(result):
    for h in HORIZONS:
        row = result.scores.loc[("har", h)]
        rows = result.forecasts.query("model == 'har' and horizon == @h").sort_values("origin")
        errors = np.column_stack([abs(rows[n] - rows["actual_price"]) for n in ("predicted_price", "last_close")])
        expected = block_bootstrap(errors, block=2 * h, statistic=lambda m: 1 - m[..., 0] / m[..., 1])
        assert (row["skill_low"], row["skill_high"]) == pytest.approx(tuple(map(float, expected)))
        for name in WITH_INTERVALS:
            assert row[f"{name}_low"] < row[name] < row[f"{name}_high"]
    assert result.scores.loc["combination_adaptive", ["crps", "crps_skill_low"]].isna().all(axis=None)


@pytest.mark.slow
def test_verdicts_are_tests_over_all_folds(result):
    for h in HORIZONS:
        rows = result.forecasts[result.forecasts["horizon"] == h].sort_values("origin")
        own, har = (rows[rows["model"] == model] for model in ("combination", "har"))
        losses = [abs(own[n] - own["actual_price"]) / own["last_close"] for n in ("predicted_price", "last_close")]
        verdict = result.verdicts.loc[("combination", h)]
        assert verdict["p_value"] == pytest.approx(diebold_mariano(*losses, h).p_value)
        by_crps = diebold_mariano(own["crps"], har["crps"], h)
        assert verdict["crps_p_value"] == pytest.approx(by_crps.p_value)
        assert f"{by_crps.outcome()} HAR (" in verdict["crps_verdict"]
    for model in ("har", "combination_adaptive", DROPOUT):  # itself, no distribution, other origins
        assert (result.verdicts.loc[model, "crps_verdict"] == "").all()


@pytest.mark.slow
def test_scores_per_year_add_up_to_those_of_all_years(result):
    years = result.by_year
    assert set(years.index.unique("year")) == set(pd.DatetimeIndex(result.forecasts["origin"]).year)
    for model in ("random_walk", "combination", "combination_adaptive", DROPOUT):
        for h in HORIZONS:
            single = years.xs((model, h), level=("model", "horizon"))
            whole = result.scores.loc[(model, h)]
            assert single["n"].sum() == whole["n"]
            for name in ("mae", "coverage_80", "coverage_95", "interval_score_80"):
                assert np.average(single[name], weights=single["n"]) == pytest.approx(whole[name])
    assert set(SCORES) == set(years)


@pytest.mark.slow
def test_the_calibration_error_compares_stated_probabilities_with_outcomes(result):
    threshold = CONFIG.model.direction_threshold
    for h in (*HORIZONS, "all"):
        rows = result.forecasts.query("model == 'combination'")
        rows = rows if h == "all" else rows[rows["horizon"] == h]
        change = (rows["actual_price"] / rows["last_close"] - 1.0).to_numpy()
        hit = call_is_hit(rows["direction"].to_numpy(dtype=str)[:, None], change[:, None], threshold)[:, 0]
        error = result.calibration.loc[("combination", h)]
        assert error["p_up"] == pytest.approx(metrics.expected_calibration_error(rows["p_up"], change > 0))
        assert error["confidence"] == pytest.approx(metrics.expected_calibration_error(rows["confidence"], hit))
        table = result.reliability("p_up", horizon=None if h == "all" else h)
        assert table["count"].sum() == len(rows)


@pytest.mark.slow
def test_intervals_of_mc_dropout_are_narrower_than_calibrated_ones(result):
    for h in HORIZONS:
        assert result.scores.loc[(DROPOUT, h), "width_80"] < result.scores.loc[("combination_0", h), "width_80"]


@pytest.mark.slow
def test_the_result_shows_scores_with_their_intervals(result):
    html = result._repr_html_()
    skill = result.scores.loc[("combination", 3)]
    assert f"{skill['skill']:+.3f} [{skill['skill_low']:+.3f}, {skill['skill_high']:+.3f}]" in html
    assert "^IXIC: 2 folds, origins 2015-" in html
    assert "nan" not in html


# Runs in MLflow


@pytest.mark.slow
def test_every_task_is_a_run_nested_in_that_of_the_backtest(result):
    nested = found_runs(**{"`mlflow.parentRunId`": result.run_id})
    assert {run.info.status for run in nested} == {"FINISHED"}
    named = {run.data.tags["backtest_task"]: run for run in nested}
    tasks = ["combination, seed 0", "combination, seed 1", "har", "ridge", "random_walk"]
    assert sorted(named) == sorted(f"fold {fold}, {task}" for fold in (1, 2) for task in tasks)
    assert len(nested) == len(named)
    run = named["fold 2, combination, seed 1"]
    params = [run.data.params[name] for name in ("seed", "fold", "lookback", "model")]
    assert params == ["1", "2", "10", "combination"]
    assert run.info.run_id == result.tasks.loc[(2, "combination", 1), "run_id"]
    assert {"mae_3d", "crps_5d", "coverage_80_3d", "loss", "weight_lstm", "weight_drift"} <= set(run.data.metrics)
    losses = mlflow.MlflowClient().get_metric_history(run.info.run_id, "val_loss")
    assert [loss.step for loss in losses] == [1]
    rows = result.forecasts.query("fold == 2 and model == 'combination_1' and horizon == 3")
    assert run.data.metrics["mae_3d"] == pytest.approx(abs(rows["predicted_price"] - rows["actual_price"]).mean())
    assert "crps_5d" in named["fold 1, har"].data.metrics


@pytest.mark.slow
def test_the_run_of_the_backtest_has_its_scores_and_tables(result):
    run = mlflow.get_run(result.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.metrics["backtest/skill_3d"] == pytest.approx(result.scores.loc[("combination", 3), "skill"])
    assert (run.data.params["folds"], run.data.params["seeds"]) == ("2", "[0, 1]")
    for table in ("scores", "verdicts", "by_year", "by_period", "calibration", "folds", "tasks"):
        text = mlflow.artifacts.load_text(f"{run.info.artifact_uri}/backtest/{table}.csv")
        assert len(text.splitlines()) > 1


# Resuming


@pytest.mark.slow
def test_a_second_call_computes_nothing_and_returns_the_same_result(result, prices):
    before = len(found_runs())
    again = backtest(prices, CONFIG, models=MODELS, folds=2, seeds=SEEDS, workers=1, progress=False)
    assert not again.tasks["computed"].any()
    assert len(found_runs()) == before + 1
    assert again.tasks["run_id"].tolist() == result.tasks["run_id"].tolist()
    pd.testing.assert_frame_equal(again.scores, result.scores, check_exact=True)
    pd.testing.assert_frame_equal(comparable(again.forecasts), comparable(result.forecasts), check_exact=True)


@pytest.mark.slow
def test_another_list_of_models_computes_only_the_new_ones(result, prices):
    changed = backtest(prices, CONFIG, models=["ewma", "ridge"], folds=2, seeds=SEEDS, workers=1, progress=False)
    computed = changed.tasks["computed"].groupby("model").agg(["any", "all"])
    assert computed.loc["ewma"].all() and not computed.drop(index="ewma").to_numpy().any()
    pd.testing.assert_frame_equal(changed.scores.loc["ridge"], result.scores.loc["ridge"], check_exact=True)
    assert changed.models == ["random_walk", "ewma", "ridge"]


INTERRUPTED = """
import sys
sys.path.insert(0, sys.argv[1])
import tiny
from forecastlib import backtest
backtest(tiny.prices(), tiny.config(horizons=[3, 5], epochs=1), models=["combination", "har", "ridge"], folds=2,
         seeds=(0, 1), workers=1)
"""


@pytest.mark.slow
@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGINT], ids=["killed", "interrupted"])
def test_after_an_interruption_only_the_missing_tasks_are_computed_and_the_number_of_workers_changes_nothing(
    result, prices, tmp_path, sent
):
    with tiny.home(tmp_path):
        script = [sys.executable, "-c", INTERRUPTED, str(Path(__file__).parent)]
        folder = tmp_path / "reports" / file_name("^IXIC") / "backtest"
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        with subprocess.Popen(script, env=os.environ | {"TMPDIR": str(tmp_path)}, **quiet) as process:
            while len(list(folder.glob("*.parquet"))) < 2:
                assert process.poll() is None
                time.sleep(0.05)
            process.send_signal(sent)
        stored = {path.name.rpartition("_")[0] for path in folder.glob("*.parquet")}
        assert 2 <= len(stored) < 10

        resumed = backtest(prices, CONFIG, models=MODELS, folds=2, seeds=SEEDS, workers=1, progress=False)

        assert resumed.tasks["computed"].sum() == 10 - len(stored)
        assert len(found_runs(**{"`mlflow.parentRunId`": resumed.run_id})) == 10  # those computed before too
        assert {run.info.status for run in found_runs()} == {"FINISHED"}
    pd.testing.assert_frame_equal(comparable(resumed.forecasts), comparable(result.forecasts), check_exact=True)


@pytest.mark.slow
def test_the_command_reads_the_stored_forecasts_and_prints_the_same_scores(result, prices):
    settings = tiny.PARAMETERS | {"horizons": HORIZONS, "epochs": 1}
    words = [f"{n.upper()}={','.join(map(str, v)) if isinstance(v, list | tuple) else v}" for n, v in settings.items()]
    options = ["--folds", "2", "--seeds", "0,1", "--no-progress"]
    done = CliRunner().invoke(main, ["backtest", "^IXIC", *options, "--format", "json", *words])
    assert done.exit_code == 0, done.output
    (answer,) = json.loads(done.stdout)
    rows = {(row["model"], row["horizon"]): row for row in answer["scores"]}
    assert rows["combination", 3]["skill"] == pytest.approx(result.scores.loc[("combination", 3), "skill"])
    assert rows["combination_adaptive", 3]["crps"] is None
    shown = CliRunner().invoke(main, ["backtest", "^IXIC", *options, *words]).stdout
    assert result.verdicts.loc[("combination", 5), "verdict"] in " ".join(shown.split())
    wrong = CliRunner().invoke(main, ["backtest", "--seeds", "a"])
    assert (wrong.exit_code, "expected seeds as whole numbers" in wrong.stderr) == (1, True)


def test_a_key_changes_with_everything_that_determines_a_result_and_with_nothing_else(prices, samples, monkeypatch):
    windows, splits = samples

    def key(task=Task(1, "lstm", 0), prices=prices, split=splits[0], config=CONFIG, models=("lstm",)):  # noqa: B008
        specs = module._model_specs(models, config)
        shared = module._shared_facts(prices, windows, config)
        return module._key(task, specs[task.model], shared, windows, split)

    moved = prices.copy()
    moved.iloc[700, 3] *= 1.0001
    others = [
        key(task=Task(1, "lstm", 1)),
        key(task=Task(1, "har"), models=("har",)),
        key(prices=moved),
        key(split=splits[1]),
        key(config=CONFIG.replace(epochs=2)),
        key(config=CONFIG.replace(half_life=999.0)),
    ]
    assert len({key(), *others}) == 1 + len(others)
    assert key() == key(config=CONFIG.replace(source="yahoo", start=None)) == key(config=CONFIG.replace(seed=5))
    own = [key(task=Task(1, "wide"), models=(Wide(width),)) for width in (1.0, 1.0, 2.0)]
    assert own[0] == own[1] != own[2]
    before = key()
    monkeypatch.setattr(module, "RESULT_VERSION", module.RESULT_VERSION + 1)
    assert key() != before


def test_a_stored_file_is_read_back_exactly_and_a_damaged_one_counts_as_missing(tmp_path, caplog):
    frame = pd.DataFrame({"origin": pd.to_datetime(["2018-01-02"]).as_unit("us"), "crps": [0.1 + 0.2]})
    frame.attrs = {"seconds": 1.5, "history": {"loss": [0.5]}}
    path = tmp_path / "new" / module._file_name(Task(1, "my model", 3), "abc")
    assert module._read(path) is None
    module._write(frame, path)
    assert [file.name for file in path.parent.iterdir()] == ["fold1_my%20model_seed3_abc.parquet"]
    found = module._read(path)
    pd.testing.assert_frame_equal(found, frame, check_exact=True)
    assert found.attrs == frame.attrs
    path.write_bytes(path.read_bytes()[:-20])
    assert module._read(path) is None
    assert "is damaged" in caplog.text


# The user's models


class Wide:
    """The last close, with intervals of constant width."""

    name = "wide"

    def __init__(self, width):
        self.width = width

    def fit(self, train, validation):
        if self.width < 0:
            raise NotEnoughDataError("expected a width of at least 0")
        return self

    def predict(self, samples):
        shape = (len(samples), len(HORIZONS), 1)
        return Distribution(LEVELS, np.tile(self.width * (LEVELS - 0.5), shape))


@pytest.mark.slow
def test_a_model_given_as_an_object_is_compared_like_any_other(home, prices):
    result = backtest(prices, CONFIG, models=[Wide(0.1)], folds=2, workers=1, progress=False)
    assert result.models == ["random_walk", "wide"]
    assert result.scores.loc[("wide", 3), "width_80"] == pytest.approx(math.exp(0.04) - math.exp(-0.04))
    assert result.verdicts["crps_verdict"].tolist() == ["", ""]  # HAR was not requested


@pytest.mark.slow
def test_the_error_of_a_task_keeps_its_class_and_names_the_task(home, prices):
    with pytest.raises(NotEnoughDataError, match="fold 1, wide: expected a width of at least 0"):
        backtest(prices, CONFIG, models=[Wide(-1.0)], folds=1, workers=1, progress=False)


# Errors


@pytest.mark.parametrize("wrong", [{"seeds": ()}, {"seeds": (1, 1)}, {"seeds": -1}, {"workers": 0}, {"folds": 0}])
def test_invalid_settings_are_refused_before_anything_is_computed(prices, wrong):
    with pytest.raises(ConfigError, match="expected at least one"):
        backtest(prices, CONFIG, **wrong)


def test_two_models_with_the_same_name_are_refused(prices):
    with pytest.raises(ConfigError, match="'har' is given twice"):
        backtest(prices, CONFIG, models=["har", "har"])


def test_too_many_folds_for_the_history_are_refused(prices):
    with pytest.raises(NotEnoughDataError):
        backtest(prices, CONFIG, folds=2, test_size=1200)


# Parts


def test_the_mean_of_seeds_averages_quantiles():
    rng = np.random.default_rng(0)
    names = [f"quantile_{level!r}" for level in LEVELS.tolist()]
    origins = pd.date_range("2018-01-02", periods=4).repeat(2)
    shared = {"symbol": "^X", "origin": origins, "horizon": [3, 5] * 4, "target_date": origins, "last_close": 1.0}
    parts = []
    for _ in range(3):
        quantiles = np.sort(rng.normal(size=(8, len(LEVELS))), axis=1).astype(np.float32)
        frame = pd.DataFrame(quantiles, columns=names).assign(**shared, model="lstm", direction_threshold=0.01)
        parts.append(frame)
    found = mean_forecast(parts)
    assert found.distribution.quantiles.shape == (4, 2, len(LEVELS))
    np.testing.assert_array_equal(found.distribution.levels, LEVELS)
    expected = sum(float(part.loc[5, "quantile_0.5"]) for part in parts) / 3
    assert found.distribution.quantiles[2, 1, 99] == pytest.approx(expected, rel=1e-12)
    assert (found.model, found.horizons, len(found)) == ("lstm", (3, 5), 4)


def walk_forecasts(prices: pd.DataFrame, horizon: int = 5, width: float = 0.02, model: str = "lstm") -> pd.DataFrame:
    """Return forecasts of the last close, with intervals of a fixed width whose upper half is wider."""
    close = prices["close"].to_numpy()
    n = len(close) - horizon
    frame = pd.DataFrame(
        {
            "symbol": prices.attrs["symbol"],
            "origin": prices.index[:n],
            "horizon": horizon,
            "last_close": close[:n],
            "predicted_price": close[:n],
            "actual_price": close[horizon:],
            "direction": "neutral",
            "confidence": 0.5,
            "p_up": 0.5,
            "crps": 1.0,
            "model": model,
        }
    )
    for coverage, reach in ((80, width), (95, 1.6 * width)):
        frame[f"lower_{coverage}"] = close[:n] * math.exp(-reach)
        frame[f"upper_{coverage}"] = close[:n] * math.exp(1.5 * reach)
    return frame


def result_of(prices, *forecasts: pd.DataFrame) -> BacktestResult:
    """Return the result of some forecasts and the random walk."""
    horizons = sorted({horizon for frame in forecasts for horizon in frame["horizon"]})
    walks = [walk_forecasts(prices, horizon, model="random_walk") for horizon in horizons]
    return BacktestResult.of(pd.concat([*forecasts, *walks], ignore_index=True), prices)


def test_adaptive_intervals_depend_only_on_outcomes_that_were_known(make_prices):
    prices = make_prices(400, symbol="^X")
    static = walk_forecasts(prices)
    moved = adapted(static.sample(frac=1.0, random_state=0))
    assert moved["origin"].is_monotonic_increasing
    scores = []
    for row in static.itertuples():
        outcome = math.log(row.actual_price / row.predicted_price)
        scores.append(outcome / 0.03 if outcome > 0 else -outcome / 0.02)
    factors = adaptive_widening(scores, 0.80, 5)
    np.testing.assert_allclose(np.log(moved["upper_80"] / moved["predicted_price"]), 0.03 * factors, rtol=1e-9)
    np.testing.assert_allclose(np.log(moved["lower_80"] / moved["predicted_price"]), -0.02 * factors, rtol=1e-9)
    later = static.copy()
    later.loc[200:, "actual_price"] *= 1.2
    again = adapted(later)
    ends = ["lower_80", "upper_80", "lower_95", "upper_95"]
    pd.testing.assert_frame_equal(again.loc[:204, ends], moved.loc[:204, ends], check_exact=True)  # 200 is known at 205
    assert not again.loc[205:, ends].equals(moved.loc[205:, ends])


def test_periods_are_scored_by_the_dates_of_origins(gspc):
    forecasts = pd.concat([walk_forecasts(gspc, h, 0.03) for h in (5, 20)])
    table = result_of(gspc, forecasts).by_period
    assert list(table.index.unique("period")) == ["2008-09", "2011", "2015-16", "2017"]
    rows = forecasts.query("horizon == 20 and '2008-01-01' <= origin <= '2009-12-31'")
    inside = [row.lower_80 <= row.actual_price <= row.upper_80 for row in rows.itertuples()]
    crisis = table.loc[("2008-09", "lstm", 20)]
    assert (crisis["n"], crisis["independent"]) == (505, 505 / 20)
    assert crisis["coverage_80"] == pytest.approx(sum(inside) / len(inside))
    assert crisis["miss_80"] == pytest.approx(100 * sum(inside) / len(inside) - 80)
    moves = [math.log(row.actual_price / row.predicted_price) for row in rows.itertuples()]
    assert crisis["lean"] == pytest.approx(sum(m / 0.045 if m > 0 else m / 0.03 for m in moves) / len(moves))
    widened = rows.copy()
    for end in ("lower_80", "upper_80"):
        reach = np.log(rows[end] / rows["predicted_price"])
        widened[end] = rows["predicted_price"] * np.exp(1.0001 * crisis["factor_80"] * reach)
    assert describe_intervals(widened, 1.0, 20)["miss_80"] == pytest.approx(0.0, abs=0.2)
    before = walk_forecasts(gspc, 20).query("origin < '2008'")
    walk = walk_forecasts(gspc, 20, model="random_walk").query("origin < '2008'")
    assert BacktestResult.of(pd.concat([before, walk]), gspc).by_period.empty


def test_intervals_that_miss_by_more_than_eight_points_in_a_period_are_explained(gspc):
    result = result_of(gspc, walk_forecasts(gspc, 20, 0.04))
    table, sentences = result.by_period, result.explanations("lstm")
    rows = table.xs("lstm", level="model").iterrows()
    misses = [(period, c) for (period, _), row in rows for c in (80, 95) if abs(row[f"miss_{c}"]) > 8]
    assert [sentence.split(",")[0] for sentence in sentences] == [period for period, _ in misses]
    (crisis, *_), calm = sentences, next(sentence for sentence in sentences if sentence.startswith("2017"))
    row = table.loc[("2008-09", "lstm", 20)]
    assert f"80 % interval coverage {row['coverage_80']:.0%} ({row['miss_80']:+.0f} points)" in crisis
    assert f"At {row['factor_80']:.2f} times its width it would have been 80 %: these sessions were more" in crisis
    assert "calmer than the past had suggested" in calm
    assert "worth about 25 independent ones" in crisis


def test_skill_over_time_ends_with_that_of_all_origins(gspc):
    own = walk_forecasts(gspc, 20).assign(crps=1.0)
    own["predicted_price"] *= 1.005
    walk = walk_forecasts(gspc, 20, model="random_walk").assign(crps=1.0)
    seen = result_of(gspc, own).over_time("lstm", 20, window=250)
    losses = [abs(f["predicted_price"] - f["actual_price"]) / f["last_close"] for f in (own, walk)]
    last = seen.iloc[-1]
    assert seen.index[-1] == own["origin"].iloc[-1]
    assert last["skill"] == pytest.approx(1 - losses[0].mean() / losses[1].mean())
    assert last["rolling_skill"] == pytest.approx(1 - losses[0].tail(250).mean() / losses[1].tail(250).mean())
    inside = own["actual_price"].between(own["lower_95"], own["upper_95"])
    assert last["coverage_95"] == pytest.approx(inside.tail(250).mean())
    assert last["low"] < last["skill"] < last["high"]
    assert len(seen) == len(range(len(own) - 1, 248, -20))
