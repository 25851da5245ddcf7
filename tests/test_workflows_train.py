"""Training and forecasting as users run them, with a real MLflow store."""

import keras
import mlflow
import numpy as np
import pytest
import tiny

from forecastlib import forecaster, recipe, workflows
from forecastlib.data.prices import fingerprint
from forecastlib.errors import ConfigError, DataQualityError, ForecastError, ModelNotFoundError, SourceError
from forecastlib.evaluation.evaluate import evaluate
from forecastlib.models import BASELINES
from forecastlib.tracking import registry, runs

SYMBOL = "^IXIC"
WORSE = {"seed": 3, "target": "price", "epochs": 1, "network_weight": 1.0}
"""Settings of a network trained on prices for one epoch, which follows it wholly: it cannot beat the champion."""


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    with tiny.home(tmp_path_factory.mktemp("project")) as folder:
        runs.connect()
        yield folder


@pytest.fixture(scope="module")
def first(store):
    """The result of the first training; every test below sees the store as the tests above have left it."""
    return workflows.train(tiny.config(), progress=False)


@pytest.fixture(scope="module")
def second(first):
    return workflows.train(tiny.config(**WORSE), progress=False)


@pytest.fixture(scope="module")
def run(first):
    return mlflow.get_run(first.run_id)


def all_runs():
    return mlflow.search_runs(experiment_names=[runs.EXPERIMENT], output_format="list")


def versions():
    found = mlflow.MlflowClient().search_model_versions(f"name = '{registry.model_name(SYMBOL)}'")
    return sorted(int(one.version) for one in found)


def aliases():
    found = mlflow.MlflowClient().get_registered_model(registry.model_name(SYMBOL)).aliases
    return {alias: int(number) for alias, number in found.items()}


# The first training


def test_the_first_training_makes_the_champion(first):
    assert (first.status, first.symbol) == ("completed", SYMBOL)
    assert (first.promoted, first.reason) == (True, "the first version")
    assert len(first.history) == 2
    assert versions() == [1]
    assert aliases() == {"champion": 1}
    found = registry.find(SYMBOL)
    assert (found.name, found.run_id, found.tags["version"]) == ("^IXIC_lstm", first.run_id, first.version)


def test_the_run_has_every_setting_as_a_flat_parameter(run):
    config = tiny.config()
    assert set(run.data.params) == set(config.flat())
    assert (run.data.params["symbol"], run.data.params["lookback"], run.data.params["horizons"]) == (
        SYMBOL,
        "10",
        "[7, 14]",
    )


def test_the_run_has_the_losses_of_every_epoch_and_output(first, run):
    client = mlflow.MlflowClient()
    for output in ("price_prediction_7d", "price_prediction_14d"):
        for name in (f"{output}_loss", f"val_{output}_loss"):
            logged = client.get_metric_history(run.info.run_id, name)
            assert [(m.step, m.value) for m in logged] == list(first.history[name].items())


def test_the_run_has_the_test_scores_of_the_model_and_of_every_baseline(first, run):
    for name in ("mae_7d", "mae_14d", "skill_7d", "rmse_14d", "hit_rate_7d", "coverage_80_7d"):
        assert run.data.metrics[name] == pytest.approx(first.metrics[name])
        for other in ("lstm", *BASELINES):
            assert f"{other}/{name}" in run.data.metrics
    assert run.data.metrics["random_walk/skill_7d"] == 0.0
    for table in ("scores.csv", "verdicts.csv"):
        assert "combination" in mlflow.artifacts.load_text(f"{run.info.artifact_uri}/{table}")


def test_the_test_scores_are_those_of_the_test_set_only(first):
    loaded = registry.load(SYMBOL)
    prices = tiny.prices()
    after = loaded.metadata.sets["validation"]["last_label"]
    origins = prices.index[prices.index >= after][:-14]
    scores = evaluate(loaded.forecast(prices, origins), prices).flat("combination")
    assert {name: first.metrics[name] for name in ("mae_7d", "rmse_14d")} == pytest.approx(
        {name: scores[name] for name in ("mae_7d", "rmse_14d")}
    )
    assert loaded.metadata.metrics == first.metrics


def test_the_run_has_the_data_set_the_tags_and_the_costs(first, run):
    (used,) = run.inputs.dataset_inputs
    assert (used.dataset.name, used.dataset.digest) == (SYMBOL, fingerprint(tiny.prices()))
    tags = run.data.tags
    assert (tags["symbol"], tags["source"], tags["promoted"]) == (SYMBOL, "bundled", "True")
    assert (tags["model_version"], tags["reason"]) == (first.version, "the first version")
    assert len(tags["git_commit"]) == 40 or tags["git_commit"] == "unknown"
    metrics = run.data.metrics
    assert metrics["parameters"] == registry.load(SYMBOL).model.lstm.network.count_params()
    assert 0 < metrics["forecast_ms"] < 10_000
    assert 1e8 < metrics["peak_memory_bytes"] < 1e11
    assert 1e4 < metrics["bundle_bytes"] < 1e6
    assert run.info.status == "FINISHED"
    assert "check" in mlflow.artifacts.load_text(f"{run.info.artifact_uri}/quality.csv").splitlines()[0]


# Training again


def test_the_same_training_again_is_skipped_and_says_why(first):
    before = len(all_runs())
    again = workflows.train(tiny.config(), progress=False)
    assert (again.status, again.promoted) == ("skipped", False)
    assert again.reason == (
        "the champion comes from the same configuration and the same prices; force_retrain trains anyway"
    )
    assert (again.run_id, again.version, again.metrics) == (first.run_id, first.version, first.metrics)
    assert again.history.empty
    assert (len(all_runs()), versions()) == (before, [1])


@pytest.mark.slow
def test_a_model_that_is_no_better_becomes_the_challenger(second):
    assert (second.status, second.promoted) == ("completed", False)
    assert second.reason.startswith("MAE / MAE of the random walk ")
    own, champion = (float(word.strip(",")) for word in second.reason.split() if word[0].isdigit())
    assert own > champion
    assert aliases() == {"champion": 1, "challenger": 2}


@pytest.mark.slow
def test_a_model_that_is_better_on_the_same_newest_origins_becomes_champion(first, second):
    # With force_retrain the same configuration gives the same forecasts, so the bad model becomes champion first.
    registry.promote(registry.find(SYMBOL, "2"), "for this test")
    third = workflows.train(tiny.config(), force_retrain=True, progress=False)
    assert (third.status, third.promoted) == ("completed", True)
    assert aliases() == {"champion": 3}
    same = [name for name in third.metrics if third.metrics[name] == first.metrics[name]]
    assert len(same) == len(first.metrics)  # the same seed, the same scores
    both = registry.load(SYMBOL), registry.load(SYMBOL, "2")
    after = max(one.metadata.sets["validation"]["last_label"] for one in both)
    prices = tiny.prices()
    origins = prices.index[prices.index > after][:-14]
    scores = [evaluate(one.forecast(prices, origins), prices).scores.loc["combination"] for one in both]
    ratios = [(1 - score["skill"]).mean() for score in scores]
    assert third.reason == (
        f"MAE / MAE of the random walk {ratios[0]:.4f}, champion {ratios[1]:.4f}, on the same newest origins"
    )


def test_if_another_machine_was_faster_the_new_model_competes_with_its_champion(first, monkeypatch):
    fitted, register, seen = tiny.forecaster(), registry.register, []

    def register_while_another_promotes(*args, **options):
        registered = register(*args, **options)
        registry.promote(registry.find(SYMBOL, "2"), "from another machine")
        return registered

    def contest(forecaster, champion, prices):
        seen.append(champion.number)
        return len(seen) == 1, "decided by the test"

    champion = registry.find(SYMBOL)
    monkeypatch.setattr(registry, "register", register_while_another_promotes)
    monkeypatch.setattr(workflows, "_contest", contest)
    try:
        with runs.run("faster", {}):
            assert workflows._register(fitted, tiny.prices(), SYMBOL)[1:] == (False, "decided by the test")
        assert seen == [champion.number, 2]
        assert aliases() == {"champion": 2, "challenger": max(versions())}
    finally:
        registry.promote(champion, "as it was")


# Failing


class Fails(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        raise ForecastError("the power went off")


def test_a_training_that_fails_leaves_the_run_failed_and_the_registry_as_it_was(first):
    before = versions(), aliases()
    with pytest.raises(ForecastError, match="the power went off"):
        workflows.train(tiny.config(seed=9), callbacks=[Fails()], progress=False)
    assert (versions(), aliases()) == before
    assert all_runs()[0].info.status == "FAILED"
    assert mlflow.active_run() is None


def test_a_failure_after_training_leaves_the_registry_as_it_was_too(first, monkeypatch):
    def fail(*_):
        raise OSError("no space left on device")

    before = versions(), aliases()
    monkeypatch.setattr(workflows, "_costs", fail)
    with pytest.raises(OSError, match="no space left"):
        workflows.train(tiny.config(seed=9), progress=False)
    assert (versions(), aliases()) == before
    assert all_runs()[0].info.status == "FAILED"


@pytest.mark.parametrize(
    ("parameters", "error", "message"),
    [
        ({"symbol": "^NOPE"}, SourceError, "NOPE"),
        ({"source": "nowhere"}, ConfigError, "nowhere"),
        ({"start": "2018-12-20"}, DataQualityError, "sessions"),
    ],
)
def test_prices_that_cannot_be_fetched_or_trusted_stop_training_before_a_run_begins(store, parameters, error, message):
    before = len(all_runs())
    with pytest.raises(error, match=message):
        workflows.train(tiny.config(**parameters), progress=False)
    assert len(all_runs()) == before


def test_prices_with_errors_are_refused(store):
    prices = tiny.prices()
    prices.iloc[700, 1] = np.nan
    prices.to_csv(store / "damaged.csv")
    with pytest.raises(DataQualityError):
        workflows.train(tiny.config(source="csv:damaged.csv"), progress=False)  # a path from the project's root


# The contest


def test_a_champion_that_cannot_be_loaded_stays_champion_and_the_reason_says_what_to_do(first, monkeypatch):
    def missing(symbol, version):
        raise ModelNotFoundError("its files are missing")

    monkeypatch.setattr(registry, "load", missing)
    won, reason = workflows._contest(tiny.forecaster(), registry.find(SYMBOL), tiny.prices())
    assert not won
    assert "--promote NUMBER --reason" in reason and reason.endswith("its files are missing")
    assert workflows._reusable_champion(registry.find(SYMBOL), tiny.config(), tiny.prices()) is None


def test_without_common_newest_origins_the_champion_stays(first):
    prices = tiny.prices()
    known_until = tiny.forecaster().metadata.sets["validation"]["last_label"]
    won, reason = workflows._contest(tiny.forecaster(), registry.find(SYMBOL), prices.loc[:known_until])
    assert not won
    assert "no origins" in reason


def test_other_prices_are_a_reason_to_train_again(first):
    champion = registry.find(SYMBOL)
    assert workflows._reusable_champion(champion, tiny.config(), tiny.prices()) is not None
    assert workflows._reusable_champion(champion, tiny.config(), tiny.prices().iloc[:-1]) is None
    assert workflows._reusable_champion(champion, tiny.config(seed=1), tiny.prices()) is None
    assert workflows._reusable_champion(None, tiny.config(), tiny.prices()) is None


def test_a_loaded_model_is_evaluated_on_the_same_test_set_as_when_it_was_trained(first):
    evaluation = workflows.evaluate_test_set(registry.load(SYMBOL), tiny.prices(), ["har"])
    assert {"random_walk", "combination", "lstm", "har"} <= set(evaluation.models)
    assert evaluation.flat("combination")["mae_7d"] == pytest.approx(first.metrics["mae_7d"])
    assert evaluation.scores["n"].groupby("horizon").nunique().tolist() == [1, 1]


# Once


def test_a_training_computes_features_and_forecasts_its_test_set_once(store, monkeypatch):
    computed, forecast = [], []
    prices = tiny.prices()
    features, predict = recipe.Recipe().features, recipe.predict_without_labels
    counted = recipe.Recipe(
        features=lambda frame, config: computed.append(len(frame)) or features(frame, config),
        predict=lambda model, samples: forecast.append((model.name, len(samples))) or predict(model, samples),
    )
    monkeypatch.setattr(forecaster, "Recipe", lambda: counted)
    workflows.train(tiny.config(), models=["har"], register=False, progress=False)
    assert computed.count(len(prices)) == 1
    tested = max(count for _, count in forecast)
    assert sorted(name for name, count in forecast if count == tested) == ["combination", "har", "lstm"]


def test_a_training_that_is_not_registered_leaves_the_registry_as_it_was(first):
    before = versions(), aliases()
    result = workflows.train(tiny.config(seed=5), models=[], register=False, progress=False)
    assert (result.status, result.promoted, result.reason) == ("completed", False, "not registered, as asked")
    assert (versions(), aliases()) == before
