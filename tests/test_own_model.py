"""A user's own model works everywhere without changes to the library."""

import mlflow
import numpy as np
import pandas as pd
import pytest
import tiny
from own_model import OwnModel

from forecastlib import Ledger, audit, evaluate, forecast, models
from forecastlib.errors import ConfigError
from forecastlib.evaluation.backtest import run_backtest
from forecastlib.forecaster import Forecaster
from forecastlib.tracking import registry
from forecastlib.workflows import train

SPEC = "own_model:factory"


@pytest.fixture(autouse=True)
def _forget_registered_models(monkeypatch):
    monkeypatch.setattr(models.base, "_registered", {})


@pytest.fixture(scope="module")
def prices():
    return tiny.prices()


def same(one: pd.DataFrame, other: pd.DataFrame) -> bool:
    names = ["origin", "horizon", "predicted_price", "lower_95", "upper_80", "p_up"]
    return one[names].equals(other[names])


def test_it_is_fitted_scored_and_saved_as_an_object_by_name_and_by_path(prices, tmp_path):
    models.register_model("mine", lambda config: OwnModel())
    by_object = Forecaster(tiny.config(), model=OwnModel()).fit(prices, progress=False)
    by_name = Forecaster(tiny.config(model="mine")).fit(prices, progress=False)
    by_path = Forecaster(tiny.config(model=SPEC)).fit(prices, progress=False)
    frames = [one.predict(prices) for one in (by_object, by_name, by_path)]
    assert same(frames[0], frames[1]) and same(frames[0], frames[2])
    assert (frames[0]["model"] == "own_ridge").all()
    evaluation = evaluate(by_path.forecast_test_set(["har"]), prices)
    assert set(evaluation.models) >= {"random_walk", "own_ridge", "har"}
    beside = Forecaster(tiny.config(model="drift")).fit(prices, progress=False).forecast_test_set([OwnModel()])[1]
    assert evaluate(beside, prices).scores.loc["own_ridge"].equals(evaluation.scores.loc["own_ridge"])
    loaded = Forecaster.load(by_path.save(tmp_path / "bundle"))
    assert isinstance(loaded.model, OwnModel)
    assert same(loaded.predict(prices), frames[2])


def test_it_is_listed_among_models_and_cannot_reuse_a_name(prices):
    models.register_model("mine", lambda config: OwnModel())
    assert "mine" in models.available()
    with pytest.raises(ConfigError, match="expected a new name for a model"):
        models.register_model("har", lambda config: OwnModel())


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("nothing_like_it", "unknown model 'nothing_like_it'.*register_model, or given as 'package.module:factory'"),
        ("no_such_module:factory", "cannot import 'no_such_module'.*Python path"),
        ("own_model:nothing", "the module 'own_model' has no 'nothing'"),
    ],
)
def test_a_model_that_cannot_be_created_is_an_error_that_names_it(spec, message):
    with pytest.raises(ConfigError, match=message):
        models.create(spec)


def test_an_object_that_is_not_a_model_is_refused_with_the_missing_attributes():
    with pytest.raises(ConfigError, match=r"expected a model with name, fit.*str has no"):
        models.base.require_model("text")


def test_it_passes_the_audit(prices):
    report = audit(prices, Forecaster(tiny.config(), model=OwnModel()))
    assert report.passed, report


@pytest.mark.slow
def test_it_is_backtested_with_the_others(prices, tmp_path, monkeypatch):
    monkeypatch.setenv("FORECASTLIB_HOME", str(tmp_path))
    result = run_backtest(prices, tiny.config(), models=[SPEC, "har"], folds=2, seeds=0, workers=1, progress=False)
    assert {"own_ridge", "har", "random_walk"} <= set(result.models)
    assert np.isfinite(result.scores.loc["own_ridge", "crps"]).all()


@pytest.mark.slow
def test_it_is_trained_registered_served_and_recorded(prices, tmp_path):
    with tiny.home(tmp_path):
        result = train(tiny.config(model=SPEC), models=["har"], progress=False)
        assert result.promoted
        served = forecast("^IXIC")
        assert (served["model"] == "own_ridge").all()
        champion = mlflow.pyfunc.load_model(f"models:/{registry.model_name('^IXIC')}@champion")
        assert same(champion.predict(tiny.prices()), served)
        with Ledger() as ledger:
            assert ledger.count(symbol="^IXIC") == len(served)
