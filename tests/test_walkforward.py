"""The backtest as users run it: real processes, a real MLflow store, a network that is trained in seconds."""

import hashlib
import json
import math
import signal
import subprocess
import sys
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
import tiny
from click.testing import CliRunner
from forecastlib.evaluation.walkforward import BacktestResult, backtest, kept, scoring
from forecastlib.evaluation.walkforward.pooling import adapted, mean_of_seeds
from forecastlib.evaluation.walkforward.processes import compute_all
from forecastlib.evaluation.walkforward.tasks import MC_DROPOUT, QUANTILES, Folds, Task, compute, key, tasks_of
from forecastlib.models.baselines import all_baselines
from forecastlib.models.uncertainty import adaptive_widening, call_came_true

from forecastlib.cli import main
from forecastlib.config import RunConfig
from forecastlib.errors import ConfigError, ForecastError, NotEnoughDataError
from forecastlib.evaluation import metrics
from forecastlib.evaluation.evaluate import SCORES
from forecastlib.forecasts import COLUMNS
from forecastlib.models.distribution import LEVELS
from forecastlib.paths import file_lock
from forecastlib.tracking import runs

CONFIG = tiny.config(horizons=[3, 5], epochs=1)
HORIZONS = (3, 5)
SEEDS = (0, 1)
BASELINES = [baseline.name for baseline in all_baselines()]
TWO = Folds(2, None, True)


def found_runs(**tags: str) -> list[mlflow.entities.Run]:
    wanted = " and ".join(f"tags.{name} = '{value}'" for name, value in tags.items())
    return mlflow.search_runs(
        experiment_names=[runs.EXPERIMENT], filter_string=wanted, output_format="list", order_by=["start_time"]
    )


def comparable(frame: pd.DataFrame) -> pd.DataFrame:
    """Leave out what differs between two runs by intent."""
    bare = frame.drop(columns="batch_id")
    bare.attrs = {}
    return bare


@pytest.fixture(scope="module")
def prices() -> pd.DataFrame:
    return tiny.prices()


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    with tiny.home(tmp_path_factory.mktemp("project")) as folder:
        yield folder


@pytest.fixture(scope="module")
def result(home, prices) -> BacktestResult:
    return backtest(prices, CONFIG, folds=2, seeds=SEEDS, workers=2, progress=False)


# Folds


@pytest.mark.parametrize("expanding", [True, False])
@pytest.mark.parametrize("embargo", [0, 10])
def test_no_label_of_training_or_validation_is_known_after_the_first_test_origin_of_any_fold(ixic, expanding, embargo):
    config = RunConfig.from_parameters(embargo=embargo)
    windows, splits = Folds(5, None, expanding).of(ixic, config)
    assert len(splits) == 5
    for split in splits:
        train, validation, test = (windows.take(index) for index in split.sets().values())
        rows = ixic.index.get_indexer(pd.DatetimeIndex([test.origins.min(), validation.origins.min()]))
        known = ixic.index.get_indexer(pd.DatetimeIndex([validation.label_dates.max(), train.label_dates.max()]))
        assert (known <= rows - embargo).all()
        assert train.label_dates.max() <= test.origins.min()


def test_test_sets_follow_one_another_without_a_gap_to_the_last_known_label(ixic):
    windows, splits = Folds(5, None, True).of(ixic, RunConfig())
    tested = np.concatenate([split.test for split in splits])
    assert (np.diff(tested) == 1).all()
    assert windows.label_dates[tested[-1]] == ixic.index[-1]


def test_training_and_validation_share_what_is_before_a_test_set_as_configured(ixic):
    config = RunConfig.from_parameters(train_share=0.6, validation_share=0.2)
    _, splits = Folds(3, 500, True).of(ixic, config)
    for split in splits:
        before = split.test[0]
        assert split.validation[0] / before == pytest.approx(0.75, abs=0.01)


def test_the_tasks_are_the_baselines_and_every_seed_of_every_fold_the_longest_first():
    assert tasks_of(2, (4, 7)) == [
        Task(2, 4, dropout=True),
        Task(2, 7),
        Task(2),
        Task(1, 4, dropout=True),
        Task(1, 7),
        Task(1),
    ]
    assert [str(task) for task in tasks_of(1, (4,))] == ["fold 1, seed 4", "fold 1, baselines"]


@pytest.mark.parametrize("task", [Task(1), Task(1, 0)], ids=str)
def test_what_comes_after_a_test_set_changes_no_forecast_of_it(prices, task):
    windows, splits = TWO.of(prices, CONFIG)
    end = prices.index.get_loc(windows.origins[splits[0].test[-1]]) + 1
    changed = prices.copy()
    changed.iloc[end:, :4] *= 1.5
    frames = []
    for one in (prices, changed):
        windows, splits = TWO.of(one, CONFIG)
        ((_, frame),) = compute([task], one, windows, splits[0], CONFIG)
        frames.append(frame)
    # What happened has changed, so that CRPS has; the forecasts have not, not in the last bit.
    pd.testing.assert_frame_equal(*(comparable(frame).drop(columns="crps") for frame in frames), check_exact=True)
    assert not frames[0]["crps"].equals(frames[1]["crps"])


# The result


@pytest.mark.slow
def test_every_model_has_forecast_every_test_origin_and_mc_dropout_every_fifth(result, prices):
    windows, splits = TWO.of(prices, CONFIG)
    tested = np.concatenate([split.test for split in splits])
    counts = result.forecasts.groupby(["model_version", "horizon"]).size()
    for model in (*BASELINES, "lstm_0", "lstm_1", "lstm", "lstm_as_trained", "lstm_adaptive"):
        assert counts[model].tolist() == [len(tested)] * 2
    assert counts[MC_DROPOUT].tolist() == [sum(len(split.test[::5]) for split in splits)] * 2
    assert result.models[0] == "random_walk"
    assert set(result.models) == set(counts.index.unique("model_version"))
    assert set(result.forecasts) == {*COLUMNS, "crps", "fold", "actual_price"}
    for fold, split in enumerate(splits, start=1):
        of_fold = result.forecasts[(result.forecasts["fold"] == fold) & (result.forecasts["model_version"] == "lstm")]
        assert set(of_fold["origin"]) == set(windows.origins[split.test])


@pytest.mark.slow
def test_ranges_are_renewed_and_those_as_trained_stand_beside_them(result):
    by_model = result.forecasts.set_index(["model_version", "fold", "origin", "horizon"])
    renewed, trained = (by_model.loc[model] for model in ("lstm", "lstm_as_trained"))
    same = renewed["upper_95"] == trained["upper_95"]
    assert same.loc[1].iloc[0] and same.loc[1].mean() > 0.5, "there was too little to renew from"
    assert same.loc[2].mean() < 0.1
    assert (trained["crps"] > 0).all() and not renewed["crps"].equals(trained["crps"])


@pytest.mark.slow
def test_scores_equal_a_slow_loop(result, prices):
    close = prices["close"]
    for model in ("lstm", "har", MC_DROPOUT):
        for h in HORIZONS:
            rows = [r for r in result.forecasts.itertuples() if r.model_version == model and r.horizon == h]
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
def test_intervals_are_those_of_a_block_bootstrap_and_hold_their_score(result):
    for h in HORIZONS:
        row = result.scores.loc[("har", h)]
        rows = result.forecasts.query("model_version == 'har' and horizon == @h").sort_values("origin")
        errors = np.column_stack([abs(rows[n] - rows["actual_price"]) for n in ("predicted_price", "last_close")])
        expected = metrics.block_bootstrap(errors, block=2 * h, statistic=lambda m: 1 - m[..., 0] / m[..., 1])
        assert (row["skill_low"], row["skill_high"]) == pytest.approx(tuple(map(float, expected)))
        for name in scoring.WITH_INTERVALS:
            assert row[f"{name}_low"] < row[name] < row[f"{name}_high"]
    assert result.scores.loc["lstm_adaptive", ["crps", "crps_skill_low"]].isna().all(axis=None)


@pytest.mark.slow
def test_verdicts_are_tests_of_all_folds_together(result):
    for h in HORIZONS:
        rows = result.forecasts[result.forecasts["horizon"] == h].sort_values("origin")
        own, har = (rows[rows["model_version"] == model] for model in ("lstm", "har"))
        losses = [abs(own[n] - own["actual_price"]) / own["last_close"] for n in ("predicted_price", "last_close")]
        verdict = result.verdicts.loc[("lstm", h)]
        assert verdict["p_value"] == pytest.approx(metrics.diebold_mariano(*losses, h).p_value)
        by_crps = metrics.diebold_mariano(own["crps"], har["crps"], h)
        assert verdict["crps_p_value"] == pytest.approx(by_crps.p_value)
        assert f"{by_crps.outcome()} HAR (" in verdict["crps_verdict"]
    for model in ("har", "lstm_adaptive", MC_DROPOUT):  # itself, no distribution, other origins
        assert (result.verdicts.loc[model, "crps_verdict"] == "").all()


@pytest.mark.slow
def test_years_add_up_to_the_whole(result):
    years = result.by_year
    assert set(years.index.unique("year")) == set(pd.DatetimeIndex(result.forecasts["origin"]).year)
    for model in ("random_walk", "lstm", "lstm_adaptive", MC_DROPOUT):
        for h in HORIZONS:
            one = years.xs((model, h), level=("model", "horizon"))
            whole = result.scores.loc[(model, h)]
            assert one["n"].sum() == whole["n"]
            for name in ("mae", "coverage_80", "coverage_95", "interval_score_80"):
                assert np.average(one[name], weights=one["n"]) == pytest.approx(whole[name])
    assert set(SCORES) == set(years)


@pytest.mark.slow
def test_the_calibration_error_is_that_of_what_was_stated_and_what_happened(result):
    threshold = CONFIG.model.direction_threshold
    for h in (*HORIZONS, "all"):
        rows = result.forecasts.query("model_version == 'lstm'")
        rows = rows if h == "all" else rows[rows["horizon"] == h]
        change = (rows["actual_price"] / rows["last_close"] - 1.0).to_numpy()
        true = call_came_true(rows["direction"].to_numpy(dtype=str)[:, None], change[:, None], threshold)[:, 0]
        error = result.calibration.loc[("lstm", h)]
        assert error["p_up"] == pytest.approx(metrics.expected_calibration_error(rows["p_up"], change > 0))
        assert error["confidence"] == pytest.approx(metrics.expected_calibration_error(rows["confidence"], true))
        table = result.reliability("p_up", horizon=None if h == "all" else h)
        assert table["count"].sum() == len(rows)


@pytest.mark.slow
def test_mc_dropout_alone_is_narrower_than_what_is_calibrated(result):
    for h in HORIZONS:
        assert result.scores.loc[(MC_DROPOUT, h), "width_80"] < result.scores.loc[("lstm_0", h), "width_80"]


@pytest.mark.slow
def test_the_result_shows_itself_with_its_intervals(result):
    html = result._repr_html_()
    skill = result.scores.loc[("lstm", 3)]
    assert f"{skill['skill']:+.3f} [{skill['skill_low']:+.3f}, {skill['skill_high']:+.3f}]" in html
    assert "^IXIC: 2 folds, origins 2015-" in html
    assert "nan" not in html


# Runs in MLflow


@pytest.mark.slow
def test_every_task_is_a_run_nested_in_that_of_the_backtest(result):
    nested = found_runs(**{"`mlflow.parentRunId`": result.run_id})
    assert len(nested) == 2 * (1 + len(SEEDS))
    assert {run.info.status for run in nested} == {"FINISHED"}
    named = {run.data.tags["backtest_task"]: run for run in nested}
    assert set(named) == {f"fold {f}, {what}" for f in (1, 2) for what in ("baselines", "seed 0", "seed 1")}
    one = named["fold 2, seed 1"]
    assert (one.data.params["seed"], one.data.params["fold"], one.data.params["lookback"]) == ("1", "2", "10")
    assert one.info.run_id == result.tasks.loc[(2, 1), "run_id"]
    assert {"mae_3d", "crps_5d", "coverage_80_3d", "loss", "network_weight"} <= set(one.data.metrics)
    losses = mlflow.MlflowClient().get_metric_history(one.info.run_id, "val_loss")
    assert [loss.step for loss in losses] == [1]
    rows = result.forecasts.query("fold == 2 and model_version == 'lstm_1' and horizon == 3")
    assert one.data.metrics["mae_3d"] == pytest.approx(abs(rows["predicted_price"] - rows["actual_price"]).mean())
    assert "har/crps_5d" in named["fold 1, baselines"].data.metrics


@pytest.mark.slow
def test_the_run_of_the_backtest_has_its_scores_and_tables(result):
    run = mlflow.get_run(result.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.metrics["backtest/skill_3d"] == pytest.approx(result.scores.loc[("lstm", 3), "skill"])
    assert (run.data.params["folds"], run.data.params["seeds"]) == ("2", "[0, 1]")
    for table in ("scores", "verdicts", "by_year", "by_period", "calibration", "folds", "tasks"):
        text = mlflow.artifacts.load_text(f"{run.info.artifact_uri}/backtest/{table}.csv")
        assert len(text.splitlines()) > 1


# Going on after an interruption


@pytest.mark.slow
def test_a_second_call_computes_nothing_and_finds_the_same(result, prices):
    before = len(found_runs())
    again = backtest(prices, CONFIG, folds=2, seeds=SEEDS, workers=1, progress=False)
    assert not again.tasks["computed"].any()
    assert len(found_runs()) == before + 1
    pd.testing.assert_frame_equal(again.scores, result.scores, check_exact=True)
    pd.testing.assert_frame_equal(comparable(again.forecasts), comparable(result.forecasts), check_exact=True)


@pytest.mark.slow
def test_the_command_finds_what_was_kept_and_prints_the_same_scores(result):
    settings = tiny.PARAMETERS | {"horizons": HORIZONS, "epochs": 1}
    words = [f"{n.upper()}={','.join(map(str, v)) if isinstance(v, list | tuple) else v}" for n, v in settings.items()]
    options = ["--folds", "2", "--seeds", "0,1", "--no-progress"]
    before = len(found_runs())
    done = CliRunner().invoke(main, ["backtest", "^IXIC", *options, "--format", "json", *words])
    assert done.exit_code == 0, done.output
    assert len(found_runs()) == before + 1
    (answer,) = json.loads(done.stdout)
    rows = {(row["model"], row["horizon"]): row for row in answer["scores"]}
    assert rows["lstm", 3]["skill"] == pytest.approx(result.scores.loc[("lstm", 3), "skill"])
    assert rows["lstm_adaptive", 3]["crps"] is None
    shown = CliRunner().invoke(main, ["backtest", "^IXIC", *options, *words]).stdout
    assert shown.startswith("^IXIC: 2 folds, run ")
    assert f"lstm, {result.verdicts.loc[('lstm', 5), 'verdict']}" in shown.splitlines()
    wrong = CliRunner().invoke(main, ["backtest", "--seeds", "a"])
    assert (wrong.exit_code, "expected seeds as whole numbers" in wrong.stderr) == (1, True)


KILLED = """
import sys
sys.path.insert(0, sys.argv[1])
import tiny
from forecastlib import backtest
backtest(tiny.prices(), tiny.config(horizons=[3, 5], epochs=1), folds=2, seeds=(0, 1), workers=1)
"""


@pytest.mark.slow
def test_after_a_kill_only_what_is_missing_is_computed_and_the_number_of_workers_changes_nothing(
    result, prices, tmp_path
):
    with tiny.home(tmp_path):
        script = [sys.executable, "-c", KILLED, str(Path(__file__).parent)]
        with subprocess.Popen(script, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:
            shown = b""
            while b" 2/6 " not in shown:  # the bar says that two of six tasks are done
                piece = process.stderr.read(1)
                assert piece, shown.decode()
                shown += piece
            process.send_signal(signal.SIGKILL)
        runs.connect()
        left = {run.info.run_id for run in found_runs() if run.info.status == "RUNNING"}
        done = [run.data.tags["backtest_task"] for run in found_runs() if run.info.status == "FINISHED"]
        assert {"fold 2, seed 0", "fold 2, seed 1"} <= set(done)  # trained together
        assert left
        files = [path.name for path in (tmp_path / "reports" / "IXIC" / "backtest").glob("*.parquet")]
        lost = {
            (task.fold, -1 if task.seed is None else task.seed): not any(name.startswith(start) for name in files)
            for task in tasks_of(2, SEEDS)
            for start in [f"fold{task.fold}_{'baselines' if task.seed is None else f'seed{task.seed}'}_"]
        }
        assert sum(lost.values()) >= 3  # nothing of fold 1 at least

        resumed = backtest(prices, CONFIG, folds=2, seeds=SEEDS, workers=1, progress=False)

        assert resumed.tasks["computed"].to_dict() == lost
        assert {mlflow.get_run(run_id).info.status for run_id in left} == {"KILLED"}
        assert {run.info.status for run in found_runs()} == {"FINISHED", "KILLED"}
    with_one, with_two = (comparable(one.forecasts).reset_index(drop=True) for one in (resumed, result))
    pd.testing.assert_frame_equal(with_one, with_two, check_exact=True)


@pytest.mark.slow
def test_a_seed_that_is_added_later_is_what_it_would_have_been_from_the_beginning(result, prices, tmp_path):
    with tiny.home(tmp_path):
        for seeds in (SEEDS[:1], SEEDS):
            added = backtest(prices, CONFIG, folds=2, seeds=seeds, workers=1, progress=False)
    assert added.tasks["computed"].to_dict() == {
        (fold, seed): seed == SEEDS[1] for fold in (1, 2) for seed in (-1, *SEEDS)
    }
    one, other = (comparable(each.forecasts).reset_index(drop=True) for each in (added, result))
    pd.testing.assert_frame_equal(one, other, rtol=1e-4)  # networks that train together differ by rounding


def test_another_process_at_the_same_backtest_is_not_joined(prices, home, monkeypatch):
    monkeypatch.chdir(home)
    windows, splits = TWO.of(prices, CONFIG)
    folder = home / "reports" / "IXIC" / "backtest"
    names = [
        kept.place(folder, task, key(task, prices, windows, splits[task.fold - 1], CONFIG)).name
        for task in tasks_of(2, (9,))
    ]
    digest = hashlib.sha256("\n".join(names).encode()).hexdigest()[:16]
    with file_lock(folder / f".{digest}.lock"), pytest.raises(ForecastError, match="another process is at this very"):
        backtest(prices, CONFIG, folds=2, seeds=9, progress=False)


def test_a_key_changes_with_everything_that_matters_and_with_nothing_else(prices):
    windows, splits = TWO.of(prices, CONFIG)

    def of(task=Task(1, 0), prices=prices, split=splits[0], config=CONFIG):  # noqa: B008
        return key(task, prices, windows, split, config)

    moved = prices.copy()
    moved.iloc[700, 3] *= 1.0001
    others = [
        of(task=Task(1, 1)),
        of(task=Task(1)),
        of(task=Task(1, 0, dropout=True)),
        of(prices=moved),
        of(split=splits[1]),
        of(config=CONFIG.replace(epochs=2)),
        of(config=CONFIG.replace(half_life=999.0)),
    ]
    assert len({of(), *others}) == 1 + len(others)
    assert of() == of(config=CONFIG.replace(source="yahoo", start=None)) == of(config=CONFIG.replace(seed=5))


def test_a_kept_file_has_all_that_was_computed_and_a_damaged_one_is_none(tmp_path, caplog):
    frame = pd.DataFrame({"origin": pd.to_datetime(["2018-01-02"]).as_unit("us"), "crps": [0.1 + 0.2]})
    frame.attrs = {"seconds": 1.5, "history": {"loss": [0.5]}}
    path = kept.place(tmp_path / "new", Task(1, 3), "abc")
    assert kept.find(path) is None
    kept.keep(frame, path)
    assert [file.name for file in path.parent.iterdir()] == ["fold1_seed3_abc.parquet"]
    found = kept.find(path)
    pd.testing.assert_frame_equal(found, frame, check_exact=True)
    assert found.attrs == frame.attrs
    path.write_bytes(path.read_bytes()[:-20])
    assert kept.find(path) is None
    assert "is damaged" in caplog.text


# What goes wrong


@pytest.mark.parametrize("wrong", [{"seeds": ()}, {"seeds": (1, 1)}, {"seeds": -1}, {"workers": 0}, {"folds": 0}])
def test_settings_that_make_no_sense_are_refused_before_anything_is_computed(prices, wrong):
    with pytest.raises(ConfigError, match="expected at least one"):
        backtest(prices, CONFIG, **wrong)


def test_too_many_folds_for_the_history_are_refused(prices):
    with pytest.raises(NotEnoughDataError):
        backtest(prices, CONFIG, folds=2, test_size=1200)


@pytest.mark.slow
def test_a_task_that_fails_is_named_and_its_processes_end(prices, tmp_path):
    division = Folds(1, 1380, True)  # too few samples validate for a range
    places = {Task(1): tmp_path / "a.parquet", Task(1, 0): tmp_path / "b.parquet"}
    with pytest.raises(ForecastError, match=r"fold 1, baselines: NotEnoughDataError: expected at least"):
        list(compute_all(places, prices, CONFIG, division, workers=1))
    assert not list(tmp_path.iterdir())


# Parts by themselves


def test_the_mean_of_seeds_averages_quantiles():
    rng = np.random.default_rng(0)
    parts = []
    for seed in range(3):
        quantiles = np.sort(rng.normal(size=(8, len(LEVELS))), axis=1).astype(np.float32)
        parts.append(
            pd.DataFrame(quantiles, columns=QUANTILES).assign(horizon=[3, 5] * 4, model_version=f"lstm_{seed}")
        )
    found = mean_of_seeds(pd.concat(parts, ignore_index=True)).quantiles
    assert found.shape == (4, 2, len(LEVELS))
    expected = sum(float(part.loc[5, "quantile_0.500"]) for part in parts) / 3
    assert found[2, 1, 99] == pytest.approx(expected, rel=1e-12)


def walk_forecasts(prices: pd.DataFrame, horizon: int = 5, width: float = 0.02, model: str = "lstm") -> pd.DataFrame:
    """Forecast nothing but the last close, with ranges of a fixed width, of which the upper half is wider."""
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
            "model_version": model,
        }
    )
    for coverage, reach in ((80, width), (95, 1.6 * width)):
        frame[f"lower_{coverage}"] = close[:n] * math.exp(-reach)
        frame[f"upper_{coverage}"] = close[:n] * math.exp(1.5 * reach)
    return frame


def test_adaptive_ranges_learn_from_outcomes_that_were_known_and_from_no_others(make_prices):
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


def test_named_periods_count_what_their_origins_led_to(gspc):
    forecasts = pd.concat([walk_forecasts(gspc, h, 0.03) for h in (5, 20)])
    table = scoring.by_period(forecasts)
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
    right = scoring.by_period(widened).loc[("2008-09", "lstm", 20), "coverage_80"]
    assert right == pytest.approx(0.80, abs=0.002)
    assert scoring.by_period(forecasts[forecasts["origin"] < "2008"]).empty


@pytest.fixture
def fixed_ranges(gspc) -> BacktestResult:
    """A result whose ranges have a fixed width, so that they miss in a crisis and in a calm."""
    nothing = pd.DataFrame()
    periods = scoring.by_period(walk_forecasts(gspc, 20, 0.04))
    return BacktestResult(nothing, nothing, nothing, nothing, periods, nothing, nothing, nothing, "^GSPC", "")


def test_ranges_that_miss_by_more_than_eight_points_in_a_period_are_explained(fixed_ranges):
    table, said = fixed_ranges.by_period, fixed_ranges.explanations()
    misses = [(p, c) for (p, _, _), row in table.iterrows() for c in (80, 95) if abs(row[f"miss_{c}"]) > 8]
    assert [sentence.split(",")[0] for sentence in said] == [period for period, _ in misses]
    (crisis, *_), calm = said, next(sentence for sentence in said if sentence.startswith("2017"))
    row = table.loc[("2008-09", "lstm", 20)]
    assert f"20 sessions ahead: the 80 % range held {row['coverage_80']:.0%} ({row['miss_80']:+.0f} points)" in crisis
    assert f"right at {row['factor_80']:.2f} times its width: the sessions ahead were wilder" in crisis
    assert "calmer than the past had led to expect" in calm
    assert "worth about 25" in crisis


def test_skill_over_time_ends_with_that_of_all_origins(gspc):
    own = walk_forecasts(gspc, 20).assign(crps=1.0)
    own["predicted_price"] *= 1.005
    walk = walk_forecasts(gspc, 20, model="random_walk").assign(crps=1.0)
    seen = scoring.over_time(pd.concat([own, walk]), "lstm", 20, window=250)
    losses = [abs(f["predicted_price"] - f["actual_price"]) / f["last_close"] for f in (own, walk)]
    last = seen.iloc[-1]
    assert seen.index[-1] == own["origin"].iloc[-1]
    assert last["skill"] == pytest.approx(1 - losses[0].mean() / losses[1].mean())
    assert last["rolling_skill"] == pytest.approx(1 - losses[0].tail(250).mean() / losses[1].tail(250).mean())
    inside = own["actual_price"].between(own["lower_95"], own["upper_95"])
    assert last["coverage_95"] == pytest.approx(inside.tail(250).mean())
    assert last["low"] < last["skill"] < last["high"]
    assert len(seen) == len(range(len(own) - 1, 248, -20))
