"""From raw prices to a forecast frame."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
import tiny
from own_model import OwnModel

from forecastlib.config import RunConfig
from forecastlib.errors import ConfigError, DataQualityError, NotEnoughDataError, NotFittedError
from forecastlib.forecaster import Forecaster
from forecastlib.forecasts import COLUMNS, mc_dropout_confidence
from forecastlib.models.calibration import MIN_OUTCOMES_TO_RECALIBRATE, known_outcomes
from forecastlib.models.naive import Drift
from forecastlib.recipe import Recipe
from forecastlib.samples.variance import volatility_predictors


@pytest.fixture(scope="module")
def prices():
    return tiny.prices()


@pytest.fixture(scope="module")
def fitted():
    return tiny.forecaster()


@pytest.fixture
def copy(fitted, tmp_path):
    """A forecaster that tests may modify."""
    return Forecaster.load(fitted.save(tmp_path / "bundle"))


def assert_same(got, expected, **tolerance):
    pd.testing.assert_frame_equal(
        tiny.numbers(got).reset_index(drop=True), tiny.numbers(expected).reset_index(drop=True), **tolerance
    )


# Forecasts


def test_a_forecast_has_one_row_per_horizon_from_the_newest_session(fitted, prices):
    forecast = fitted.predict(prices)
    assert list(forecast.columns) == list(COLUMNS)
    assert forecast["horizon"].tolist() == [7, 14]
    assert (forecast["symbol"] == "^IXIC").all()
    assert (forecast["origin"] == pd.Timestamp("2018-12-31")).all()
    assert (forecast["last_close"] == prices["close"].iloc[-1]).all()
    assert (forecast["model_version"] == fitted.metadata.version).all()
    assert forecast["batch_id"].nunique() == 1
    change = 100 * (forecast["predicted_price"] / forecast["last_close"] - 1)
    np.testing.assert_allclose(forecast["change_pct"], change)
    ends = forecast[["lower_95", "lower_80", "upper_80", "upper_95"]].to_numpy()
    assert (np.diff(ends, axis=1) > 0).all()
    np.testing.assert_allclose(forecast["p_up"] + forecast["p_down"], 1.0)
    assert forecast["confidence"].between(0, 1).all()


def test_target_dates_in_the_future_follow_the_calendar_of_the_exchange(fitted, prices):
    # 2019: closed on 1 January and on 21 January (Martin Luther King Jr. Day).
    dates = fitted.predict(prices)["target_date"]
    assert dates.tolist() == [pd.Timestamp("2019-01-10"), pd.Timestamp("2019-01-22")]


def test_target_dates_in_the_past_are_sessions_of_the_data(fitted, prices):
    origins = prices.index[[-40, -30, -20]]
    forecast = fitted.predict(prices, origins)
    at = prices.index.get_indexer(forecast["origin"])
    assert forecast["target_date"].tolist() == prices.index[at + forecast["horizon"]].tolist()


@pytest.mark.parametrize(
    "as_of",
    [
        "2018-06-29",
        pd.Timestamp("2018-06-29").date(),
        pd.Timestamp("2018-06-29"),
        np.datetime64("2018-06-29"),
        ["2018-06-29"],
        pd.DatetimeIndex(["2018-06-29"]),
        "2018-07-01",  # a Sunday: the session before it
    ],
)
def test_a_date_may_have_any_form(fitted, prices, as_of):
    forecast = fitted.predict(prices, as_of)
    assert forecast["origin"].unique().tolist() == [pd.Timestamp("2018-06-29")]


def test_several_dates_keep_their_order(fitted, prices):
    forecast = fitted.predict(prices, ["2018-06-29", "2017-03-01", "2018-12-03"])
    assert forecast["origin"].iloc[::2].dt.strftime("%Y-%m-%d").tolist() == ["2018-06-29", "2017-03-01", "2018-12-03"]
    assert_same(forecast.iloc[2:4], fitted.predict(prices, "2017-03-01"), rtol=1e-5)


def test_a_date_after_the_newest_session_means_the_newest_session(fitted, prices):
    assert_same(fitted.predict(prices, "2030-01-01"), fitted.predict(prices))


def test_a_date_before_the_first_session_is_refused(fitted, prices):
    with pytest.raises(NotEnoughDataError, match="on or after the first session 2013-01-16; got 2012-12-31"):
        fitted.predict(prices, "2012-12-31")


@pytest.mark.parametrize(
    "as_of", ["", "no date", "2018-13-45", pd.NaT, [None], [], 5, pd.Timestamp("2018-06-29", tz="UTC")]
)
def test_values_that_are_not_dates_are_refused(fitted, prices, as_of):
    with pytest.raises(ConfigError, match="date"):
        fitted.predict(prices, as_of)


def test_many_origins_in_one_pass_are_forecast_like_each_one_separately(fitted, prices):
    every = fitted.predict(prices, prices.index[-500:])
    assert len(every) == 1000
    for i in range(0, 500, 25):
        # Not to the last bit, because the rounding of matrix products depends on their shape; to 1e-5 relative.
        assert_same(every.iloc[2 * i : 2 * i + 2], fitted.predict(prices, prices.index[-500 + i]), rtol=1e-5)


def test_a_forecast_does_not_change_when_later_prices_do(fitted, prices):
    origin = prices.index[-100]
    later = prices.copy()
    later.iloc[-99:] *= np.random.default_rng(0).uniform(0.5, 2.0, (99, 5))
    expected = fitted.predict(prices, origin)
    assert_same(fitted.predict(later, origin), expected, check_exact=True)
    past_only = fitted.predict(prices.loc[:origin], origin)
    assert_same(past_only, expected, check_exact=True)


def test_the_newest_sessions_are_enough_to_the_last_bit_without_recalibration(fitted, prices):
    expected = fitted.predict(prices, recalibrate=False)
    assert fitted.sessions_needed < 300
    for needed in (fitted.sessions_needed, fitted.sessions_needed + 7):
        assert_same(fitted.predict(prices.iloc[-needed:], recalibrate=False), expected, check_exact=True)


def test_the_newest_sessions_are_enough_for_all_152_features():
    """This needs no training: the windows determine the forecasts."""
    config = RunConfig()
    forecaster = Forecaster(config)
    prices = tiny.prices()
    whole = Recipe().serve(prices, config)
    cut = Recipe().serve(prices.iloc[-forecaster.sessions_needed :], config)
    assert len(cut) == 1
    assert np.array_equal(cut.X[-1], whole.X[-1])
    assert cut.volatility[-1] == whole.volatility[-1]


# Wrong input


def test_too_short_a_history_says_how_many_sessions_are_needed_and_given(fitted, prices):
    with pytest.raises(
        NotEnoughDataError, match=r"at least (\d+) sessions up to the origin; got 12 up to 2018-12-31"
    ) as e:
        fitted.predict(prices.iloc[-12:])
    needed = int(str(e.value).split("at least ")[1].split()[0])
    assert len(fitted.predict(prices.iloc[-needed:])) == 2
    with pytest.raises(NotEnoughDataError):
        fitted.predict(prices.iloc[-needed + 1 :])


def test_too_early_an_origin_is_reported_even_among_valid_ones(fitted, prices):
    with pytest.raises(NotEnoughDataError, match="got 3 up to 2013-01-18"):
        fitted.predict(prices, ["2018-12-31", "2013-01-18"])


def damaged(prices, how):
    frame = prices.copy()
    if how == "a missing price":
        frame.iloc[-30, 3] = np.nan
    elif how == "not sorted":
        frame = frame.iloc[::-1]
    elif how == "a date twice":
        frame = pd.concat([frame, frame.iloc[-1:]])
    elif how == "no volume":
        frame = frame.drop(columns="volume")
    elif how == "whole numbers":
        frame = frame.astype({"volume": np.int64})
    elif how == "a time zone":
        frame.index = frame.index.tz_localize("UTC")
    elif how == "no dates":
        frame = frame.reset_index(drop=True)
    elif how == "a price of zero":
        frame.iloc[5, 0] = 0.0
    return frame


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("a missing price", "finite number.*close on 2018-11-1"),
        ("not sorted", "oldest to newest"),
        ("a date twice", "2018-12-31 is repeated"),
        ("no volume", "volume missing"),
        ("whole numbers", "float64 in column 'volume'; got int64"),
        ("a time zone", "without a time zone"),
        ("no dates", "DatetimeIndex"),
        ("a price of zero", "positive price"),
    ],
)
def test_prices_of_another_shape_are_refused_when_fitting_and_when_predicting(fitted, prices, how, message):
    frame = damaged(prices, how)
    with pytest.raises(DataQualityError, match=message):
        fitted.predict(frame)
    with pytest.raises(DataQualityError, match=message):
        Forecaster(tiny.config()).fit(frame, progress=False)


def test_too_few_sessions_to_train_are_refused(prices):
    with pytest.raises(NotEnoughDataError, match="expected"):
        Forecaster(tiny.config()).fit(prices.iloc[:40], progress=False)


def test_using_a_forecaster_before_it_is_fitted_says_what_to_call(prices, tmp_path):
    forecaster = Forecaster(tiny.config())
    for use in (
        lambda: forecaster.predict(prices),
        lambda: forecaster.sample(prices),
        lambda: forecaster.save(tmp_path),
    ):
        with pytest.raises(NotFittedError, match=r"call fit\(prices\), or Forecaster.load\(path\)"):
            use()


def test_a_failed_fit_does_not_leave_a_mixture_of_two_models(copy, prices):
    copy.predict(prices)
    with pytest.raises(NotEnoughDataError):
        copy.fit(prices.iloc[:40], progress=False)
    with pytest.raises(NotFittedError):
        copy.predict(prices)


# MC dropout


def test_sampled_prices_have_a_spread_and_are_the_same_each_time(fitted, prices):
    passes = fitted.sample(prices)
    assert passes.shape == (1, 100, 2)
    assert (passes > 0).all()
    assert (passes.std(axis=1) > 0).all()
    assert np.array_equal(fitted.sample(prices), passes)
    assert fitted.sample(prices, prices.index[-3:], passes=8).shape == (3, 8, 2)


def test_the_confidence_can_come_from_mc_dropout(copy, prices):
    copy.config = copy.config.replace(confidence_method="mc_dropout")
    passes = copy.sample(prices)
    expected = mc_dropout_confidence(passes.mean(axis=1), passes.std(axis=1))
    np.testing.assert_array_equal(copy.predict(prices)["confidence"], expected.ravel())


# Training


def test_the_metadata_name_the_dates_of_each_set(fitted, prices):
    sets = fitted.metadata.sets
    assert fitted.scaling.labels_to == sets["train"]["last_label"]
    assert sets["train"]["last_label"] <= sets["validation"]["first_origin"]
    assert sets["validation"]["last_label"] <= sets["test"]["first_origin"]
    assert len(fitted.history) == fitted.metadata.epochs == 2


@pytest.mark.slow
def test_training_takes_nothing_from_the_test_set_and_repeats_to_the_last_bit(fitted, prices):
    later = prices.copy()
    known_until = fitted.metadata.sets["validation"]["last_label"]
    later.loc[later.index > known_until] *= 1.5
    keras.utils.set_random_seed(4)
    other = Forecaster(tiny.config()).fit(later, progress=False)
    assert all(
        np.array_equal(a, b)
        for a, b in zip(*(one.model.lstm.network.get_weights() for one in (fitted, other)), strict=True)
    )
    pd.testing.assert_frame_equal(fitted.history, other.history, check_exact=True)
    assert fitted.scaling.to_dict() == other.scaling.to_dict()
    assert fitted.model.calibration.to_dict() == other.model.calibration.to_dict()
    assert_same(
        other.predict(prices).assign(model_version=fitted.metadata.version), fitted.predict(prices), check_exact=True
    )


@pytest.mark.slow
def test_one_model_can_learn_from_several_symbols():
    frames = [tiny.prices("^GSPC"), tiny.prices("^IXIC")]
    both = Forecaster(tiny.config(target="vol_scaled", horizons=[5])).fit(frames, progress=False)
    assert both.metadata.symbols == ("^GSPC", "^IXIC")
    assert both.metadata.sets["train"]["samples"] > 1.9 * tiny.forecaster().metadata.sets["train"]["samples"]
    for frame in frames:
        forecast = both.predict(frame)
        assert forecast["symbol"].tolist() == [frame.attrs["symbol"]]
        assert forecast["predicted_price"].iloc[0] == pytest.approx(frame["close"].iloc[-1], rel=0.2)


PREDICT_ELSEWHERE = """
import sys, tiny
from forecastlib.forecaster import Forecaster
for bundle, symbol in zip(sys.argv[1::2], sys.argv[2::2]):
    prices = tiny.prices(symbol)
    frame = tiny.numbers(Forecaster.load(bundle).predict(prices, prices.index[-5:]))
    print(frame.select_dtypes("float").map(float.hex).to_json())
"""


@pytest.mark.slow
def test_loaded_models_forecast_as_in_separate_processes_to_the_last_bit(tmp_path):
    symbols = ("^IXIC", "^GSPC")
    bundles = {symbol: tiny.forecaster(symbol).save(tmp_path / symbol) for symbol in symbols}
    apart = {}
    for symbol in symbols:
        command = [sys.executable, "-c", PREDICT_ELSEWHERE, str(bundles[symbol]), symbol]
        environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"}
        done = subprocess.run(
            command, cwd=Path(__file__).parent, env=environment, capture_output=True, text=True, check=True
        )
        apart[symbol] = json.loads(done.stdout.strip().splitlines()[-1])
    loaded = {symbol: Forecaster.load(bundles[symbol]) for symbol in symbols}
    for symbol in (*symbols, *reversed(symbols)):  # one after the other and back: neither uses the scalers of the other
        prices = tiny.prices(symbol)
        frame = tiny.numbers(loaded[symbol].predict(prices, prices.index[-5:]))
        assert json.loads(frame.select_dtypes("float").map(float.hex).to_json()) == apart[symbol]
        assert_same(
            tiny.forecaster(symbol).predict(prices, prices.index[-5:]), frame.assign(batch_id=""), check_exact=True
        )
    assert apart["^IXIC"] != apart["^GSPC"]


# Recalibration


def recalibrated_intervals(fitted, prices, origins):
    """Return the distributions of the drift only, whose last bits do not depend on the number of origins."""
    fitted.model.calibration = dataclasses.replace(fitted.model.calibration, network_weight=0.0)
    return fitted.forecast(prices, origins).distribution


def test_intervals_of_a_month_use_what_was_known_at_the_end_of_the_month_before(copy, prices):
    origins = prices.loc["2018-08-20":"2018-09-28"].index
    found = recalibrated_intervals(copy, prices, origins)
    calibration, config = copy.model.calibration, copy.config
    predictors = volatility_predictors(prices)[prices.index.get_indexer(origins)]
    for month, end in ((8, "2018-07-31"), (9, "2018-08-31")):
        outcomes = known_outcomes(prices.loc[:end], config.window.horizons)
        expected = calibration.recalibrated(outcomes, config.calibration)
        rows = origins.month == month
        distribution = expected.distribution(np.zeros((rows.sum(), 2)), expected.scale(predictors[rows]))
        np.testing.assert_array_equal(found.take(rows).quantiles, distribution.quantiles)


def test_recalibration_uses_nothing_after_the_origin(copy, prices):
    origins = prices.loc["2018-06-01":"2018-09-28":9].index
    altered = prices.copy()
    altered.loc["2018-09-29":] *= 2.0
    found = recalibrated_intervals(copy, altered, origins)
    np.testing.assert_array_equal(found.quantiles, recalibrated_intervals(copy, prices, origins).quantiles)
    for origin in origins[::3]:
        alone = recalibrated_intervals(copy, prices.loc[:origin], origin)
        np.testing.assert_array_equal(alone.quantiles, found.take(origins == origin).quantiles)


def test_intervals_stay_as_trained_before_the_end_of_training_and_with_too_few_outcomes(fitted, prices):
    early, newest = fitted.model.calibration.until - pd.Timedelta(days=40), prices.index[-1]
    short = prices.iloc[-MIN_OUTCOMES_TO_RECALIBRATE + 1 :]
    for some, origin in ((prices, early), (short, newest)):
        assert_same(fitted.predict(some, origin), fitted.predict(some, origin, recalibrate=False), check_exact=True)
    lower = [fitted.predict(prices, newest, recalibrate=choice)["lower_80"] for choice in (True, False)]
    assert (lower[0] != lower[1]).all()


# The test set


def test_forecasts_of_the_test_set_equal_those_of_the_same_origins_from_prices(prices):
    forecaster = Forecaster(tiny.config(model="har")).fit(prices, progress=False)
    (served, ridge) = forecaster.forecast_test_set(["ridge"])
    origins = forecaster.samples.test.origins
    assert_same(served.frame(), forecaster.predict(prices, origins), check_exact=True)
    assert (ridge.model, ridge.model_version) == ("ridge", "ridge")
    assert ridge.origins.equals(served.origins)


def test_a_component_is_forecast_without_fitting_it_again(fitted):
    _, network, dropout = fitted.forecast_test_set(["lstm", "mc_dropout"])
    np.testing.assert_array_equal(network.distribution.median(), fitted.model.lstm.location(fitted.samples.test))
    assert (network.model, dropout.model) == ("lstm", "mc_dropout")


def test_a_loaded_forecaster_has_no_samples(copy):
    with pytest.raises(NotFittedError, match="this forecaster has no test set"):
        copy.forecast_test_set()


def test_the_samples_of_a_loaded_forecaster_are_prepared_again_with_its_own_scalers(fitted, copy, prices):
    (again,), (first,) = copy.prepare_again(prices).forecast_test_set(), fitted.forecast_test_set()
    assert_same(again.frame(), first.frame(), check_exact=True)


def test_prices_of_which_the_test_set_would_contain_sessions_of_the_training_are_refused(fitted, copy, prices):
    with pytest.raises(ConfigError, match=r"the prices that the model was fitted on.*the model knows labels up to"):
        copy.prepare_again(prices.iloc[:1000])
    assert copy.samples is None


def test_samples_are_not_prepared_for_a_forecaster_that_is_not_fitted(prices):
    with pytest.raises(NotFittedError, match="not fitted yet"):
        Forecaster(tiny.config()).prepare_again(prices)


def test_no_model_is_forecast_twice_on_the_test_set(prices):
    forecaster = Forecaster(tiny.config(model="drift")).fit(prices, progress=False)
    forecasts = forecaster.forecast_test_set(["random_walk", "drift", "random_walk"])
    assert [forecast.model for forecast in forecasts] == ["drift", "random_walk"]
    with pytest.raises(ConfigError, match="two called drift"):
        forecaster.forecast_test_set([Drift()])


# Models of the user


def test_a_fit_method_may_forget_to_return_the_model(prices):
    class Forgetful(OwnModel):
        def fit(self, train, validation):
            super().fit(train, validation)

    forecaster = Forecaster(tiny.config(), model=Forgetful()).fit(prices, progress=False)
    assert len(forecaster.predict(prices)) == 2


def test_the_confidence_of_mc_dropout_is_refused_before_a_model_without_dropout_is_fitted(prices):
    forecaster = Forecaster(tiny.config(model="drift", confidence_method="mc_dropout"))
    with pytest.raises(ConfigError, match="expected a model with MC dropout, such as lstm; drift has none"):
        forecaster.fit(prices, progress=False)


def test_a_model_that_predicts_other_origins_is_named(prices):
    class Single(OwnModel):
        def predict(self, samples):
            return super().predict(samples.take([0]))

    forecaster = Forecaster(tiny.config(), model=Single()).fit(prices, progress=False)
    with pytest.raises(ConfigError, match=r"expected own_ridge to predict.*\(3, 2, 199\); got \(1, 2, 199\)"):
        forecaster.predict(prices, prices.index[-3:])


@pytest.mark.parametrize("model", [OwnModel, object()])
def test_an_object_that_is_not_a_model_is_refused(model):
    with pytest.raises(ConfigError, match="expected a model"):
        Forecaster(tiny.config(), model=model)
