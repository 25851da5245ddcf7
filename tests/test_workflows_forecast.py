"""Forecasting with a registered model, and recording it."""

import getpass

import pandas as pd
import pytest
import tiny

from forecastlib import Forecaster, Ledger, forecast
from forecastlib.errors import ModelNotFoundError
from forecastlib.tracking import registry, runs

SYMBOL = "^IXIC"


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A project with a champion."""
    with tiny.home(tmp_path_factory.mktemp("project")) as folder, pytest.MonkeyPatch.context() as patch:
        patch.delenv("FORECASTLIB_LEDGER", raising=False)
        with runs.run("register", {}):
            registry.promote(registry.register(tiny.forecaster(), tiny.prices(), symbol=SYMBOL), "the first version")
        yield folder


@pytest.fixture
def ledger(store, tmp_path, monkeypatch):
    """The ledger that forecasts are recorded in, empty."""
    monkeypatch.setenv("FORECASTLIB_LEDGER", f"sqlite:///{tmp_path / 'ledger.db'}")
    with Ledger() as ledger:
        yield ledger


def test_a_forecast_uses_the_champion_and_its_source(ledger):
    found = forecast(SYMBOL, as_of="2018-06-30")
    expected = tiny.forecaster().predict(tiny.prices(), "2018-06-29")
    pd.testing.assert_frame_equal(tiny.numbers(found), tiny.numbers(expected), check_exact=True)


def test_a_forecast_is_recorded_once_for_several_requesters(ledger):
    forecast(SYMBOL, as_of="2018-06-29")
    found = forecast(SYMBOL, as_of="2018-06-29", requested_by="ann")
    recorded = ledger.history().sort_values("horizon", ignore_index=True)
    names = ["origin", "horizon", "predicted_price", "lower_95", "confidence", "model_version"]
    pd.testing.assert_frame_equal(recorded[names], found[names], check_exact=True)
    assert recorded["requested_by"].unique().tolist() == [getpass.getuser()]
    assert ledger.count(requested_by="ann") == 2


def test_a_forecast_also_settles_earlier_ones(ledger):
    forecast(SYMBOL, as_of="2018-06-29")
    assert ledger.count(settled=True) == 0
    forecast(SYMBOL)
    settled = ledger.history(settled=True)
    assert set(settled["origin"]) == {pd.Timestamp("2018-06-29")}
    assert ledger.count(settled=False) == 2


def test_a_champion_trained_up_to_an_end_forecasts_from_the_newest_session_and_knows_what_is_hindsight(ledger):
    fitted = Forecaster(tiny.config(end="2018-06-29")).fit(tiny.prices()[:"2018-06-29"], progress=False)
    with runs.run("register", {}):
        version = registry.register(fitted, tiny.prices()[:"2018-06-29"], symbol=SYMBOL).number
    newest = tiny.prices().index[-1]
    assert set(forecast(SYMBOL, version=str(version))["origin"]) == {newest}
    assert set(forecast(SYMBOL, version=str(version), as_of="2018-10-31")["origin"]) == {pd.Timestamp("2018-10-31")}
    assert set(ledger.history(hindsight=True)["origin"]) == {pd.Timestamp("2018-10-31")}
    assert set(ledger.history(hindsight=False)["origin"]) == {newest}


def test_forecasting_without_a_model_says_how_to_train_one_and_records_nothing(ledger):
    with pytest.raises(ModelNotFoundError, match=r"make train SYMBOL=\^GSPC"):
        forecast("^GSPC")
    assert ledger.count() == 0
