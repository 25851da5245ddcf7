import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
import tiny

from forecastlib.config import CalibrationConfig
from forecastlib.errors import IncompatibleModelError, NotEnoughDataError
from forecastlib.models.calibration import (
    MAX_NETWORK_WEIGHT,
    WARM_UP,
    Calibration,
    Outcomes,
    ValidationForecasts,
    calibrate,
    known_outcomes,
    posterior_drift,
    supported_weight,
)
from forecastlib.models.distribution import LEVELS
from forecastlib.samples.variance import session_variance, volatility_predictors

HORIZONS = (7, 14, 30)


@pytest.fixture(scope="module")
def prices() -> pd.DataFrame:
    return tiny.prices("^GSPC")


def outcomes_of(prices: pd.DataFrame) -> Outcomes:
    return known_outcomes(prices, HORIZONS)


def forecasts_of(prices: pd.DataFrame, log_returns: np.ndarray, first: int) -> ValidationForecasts:
    n = len(log_returns)
    return ValidationForecasts(
        np.zeros(n, dtype=np.int64), pd.DatetimeIndex(prices.index[first : first + n]), log_returns
    )


def calibration_of(prices: pd.DataFrame, config: CalibrationConfig | None = None) -> Calibration:
    """A calibration of a network that always predicts 0."""
    config = config or CalibrationConfig()
    return calibrate([outcomes_of(prices)], forecasts_of(prices, np.zeros((100, 3)), 900), HORIZONS, config)


# What was known


def test_outcomes_are_those_that_were_known_on_the_date(prices):
    until = prices.index[499]
    past = known_outcomes(prices.loc[:until], HORIZONS)
    close, variance = prices["close"].to_numpy(), session_variance(prices)
    assert past.dates[-1] == until and len(past.dates) == 500
    assert past.log_returns[492, 0] == pytest.approx(np.log(close[499] / close[492]))
    assert np.isnan(past.log_returns[493:, 0]).all() and np.isnan(past.log_returns[470:, 2]).all()
    assert past.log_variance[469, 2] == pytest.approx(np.log(variance[470:500].mean()))
    assert past.known(2).sum() == 500 - 30 - WARM_UP


def test_the_weight_of_a_session_halves_after_a_half_life(prices):
    weights = outcomes_of(prices).weights(100.0)
    assert weights[-1] == 1.0
    assert weights[-101] == pytest.approx(0.5) and weights[-201] == pytest.approx(0.25)


def test_too_few_sessions_to_calibrate_say_how_many_are_needed(prices):
    short = prices.iloc[:149]
    forecasts = forecasts_of(short, np.zeros((10, 3)), 70)
    with pytest.raises(NotEnoughDataError, match="at least 150 sessions"):
        calibrate([outcomes_of(short)], forecasts, HORIZONS, CalibrationConfig())


def test_outcomes_known_on_an_earlier_date_equal_those_of_prices_up_to_it(prices):
    date = prices.index[777]
    one, other = outcomes_of(prices).until(date), known_outcomes(prices.loc[:date], HORIZONS)
    for field in dataclasses.fields(Outcomes):
        np.testing.assert_array_equal(getattr(one, field.name), getattr(other, field.name))


# Volatility


def test_the_volatility_is_a_weighted_regression(prices):
    past = outcomes_of(prices)
    calibration = calibration_of(prices)
    rows = past.known(1)
    x, y, w = past.predictors[rows], past.log_variance[rows, 1], np.sqrt(past.weights(500.0)[rows])
    expected = np.linalg.lstsq(x * w[:, None], y * w, rcond=None)[0]
    np.testing.assert_allclose(x @ calibration.volatility[1], x @ expected, atol=5e-3)  # the penalty is negligible


def test_the_scale_is_the_square_root_of_the_expected_variance_over_the_horizon(prices):
    calibration = calibration_of(prices)
    expected = np.sqrt(np.exp(volatility_predictors(prices) @ calibration.volatility.T) * np.array(HORIZONS))
    np.testing.assert_allclose(calibration.scale(volatility_predictors(prices)), expected, rtol=1e-12)


def test_the_scale_of_the_newest_session_needs_only_the_newest_rows_to_the_last_bit(prices):
    calibration = calibration_of(prices)

    def predicted(some: pd.DataFrame) -> np.ndarray:
        return calibration.scale(volatility_predictors(some))

    np.testing.assert_array_equal(predicted(prices)[-1], predicted(prices.iloc[-121:])[-1])
    assert (predicted(prices)[-1] != predicted(prices.iloc[-119:])[-1]).any()


# Drift


def test_the_drift_lies_between_the_prior_and_the_mean_of_the_past(prices):
    past = outcomes_of(prices)
    seen = np.average(past.session_returns[1:], weights=past.weights(500.0)[1:])
    prior = np.log1p(CalibrationConfig().growth) / 252
    found = posterior_drift([past], CalibrationConfig())
    assert min(seen, prior) < found < max(seen, prior)


def test_a_certain_prior_dominates_and_a_vague_one_has_little_influence(prices):
    past = outcomes_of(prices)
    assert posterior_drift([past], CalibrationConfig(growth=0.1, growth_sd=0.0)) == pytest.approx(np.log(1.1) / 252)
    seen = np.average(past.session_returns[1:], weights=past.weights(500.0)[1:])
    assert posterior_drift([past], CalibrationConfig(growth_sd=0.99)) == pytest.approx(seen, rel=0.02)


# The weight of the network


def test_an_informative_network_gets_weight_and_a_guessing_one_gets_little():
    rng = np.random.default_rng(0)
    weights = {"knows": [], "guesses": [], "is wrong": []}
    for _ in range(200):
        actual = np.cumsum(rng.normal(size=(530, 3)), axis=0)
        actual = np.column_stack(
            [(actual[h : 500 + h, i] - actual[:500, i]) / np.sqrt(h) for i, h in enumerate(HORIZONS)]
        )
        weights["knows"].append(supported_weight(0.6 * actual, actual, HORIZONS))
        weights["guesses"].append(supported_weight(0.6 * actual[rng.permutation(500)], actual, HORIZONS))
        weights["is wrong"].append(supported_weight(-0.6 * actual, actual, HORIZONS))
    assert min(weights["knows"]) == MAX_NETWORK_WEIGHT
    assert np.mean(weights["guesses"]) < 0.02
    assert max(weights["is wrong"]) == 0.0


def test_forecasts_that_never_leave_the_drift_have_no_weight():
    assert supported_weight(np.zeros((50, 3)), np.ones((50, 3)), HORIZONS) == 0.0


def test_a_configured_weight_is_used_unchanged(prices):
    calibration = calibration_of(prices, CalibrationConfig(network_weight=0.6))
    assert calibration.network_weight == 0.6
    scale = calibration.scale(volatility_predictors(prices))[-1:]
    low, high = (calibration.distribution(np.full((1, 3), x), scale).median() for x in (0.0, 0.1))
    np.testing.assert_allclose(high - low, 0.06)


# The distribution


def test_quantiles_are_centre_plus_scale_times_scores(prices):
    calibration = calibration_of(prices)
    scale = calibration.scale(volatility_predictors(prices))[-5:]
    found = calibration.distribution(np.zeros((5, 3)), scale)
    centre = (1.0 - calibration.network_weight) * calibration.drift
    expected = centre[:, None] + scale[:, :, None] * calibration.scores
    np.testing.assert_allclose(found.quantiles, expected)
    np.testing.assert_array_equal(found.levels, LEVELS)


def test_intervals_have_nominal_coverage_on_the_outcomes_they_were_fitted_on(prices):
    config = CalibrationConfig(half_life=1e9, network_weight=0.0)
    past, calibration = outcomes_of(prices), calibration_of(prices, config)
    for i in range(3):
        rows = past.known(i)
        mean = past.log_returns[rows, i].mean()
        score = (past.log_returns[rows, i] - mean) / calibration.scale(volatility_predictors(prices))[rows, i]
        lower, upper = calibration.scores[i, [19, 179]]
        assert np.mean((score >= lower) & (score <= upper)) == pytest.approx(0.80, abs=0.005)


def test_the_residuals_of_the_validation_set_are_those_of_the_network(prices):
    close = np.log(prices["close"].to_numpy())
    known = np.column_stack([close[1000 + h : 1300 + h] - close[1000:1300] for h in HORIZONS])
    config = CalibrationConfig(network_weight=1.0)
    informed = calibrate([outcomes_of(prices)], forecasts_of(prices, known, 1000), HORIZONS, config)
    blind = calibrate([outcomes_of(prices)], forecasts_of(prices, np.zeros((300, 3)), 1000), HORIZONS, config)
    width = [c.scores[:, 179] - c.scores[:, 19] for c in (informed, blind)]
    assert (width[0] < 0.9 * width[1]).all()


def test_two_symbols_are_pooled_and_each_forecast_is_paired_with_its_outcome():
    frames = [tiny.prices("^GSPC"), tiny.prices("^IXIC")]
    config = CalibrationConfig(network_weight=1.0)
    close = [np.log(frame["close"].to_numpy()) for frame in frames]
    forecasts = ValidationForecasts(
        symbol=np.array([0] * 50 + [1] * 50),
        origins=pd.DatetimeIndex(np.concatenate([frame.index[1000:1050].to_numpy() for frame in frames])),
        log_returns=np.concatenate(
            [np.column_stack([one[1000 + h : 1050 + h] - one[1000:1050] for h in HORIZONS]) for one in close]
        ),
    )
    pasts = [outcomes_of(frame) for frame in frames]
    right = calibrate(pasts, forecasts, HORIZONS, config)
    swapped = calibrate(pasts, dataclasses.replace(forecasts, symbol=1 - forecasts.symbol), HORIZONS, config)
    assert right.count == sum(int(past.known(2).sum()) for past in pasts)
    assert np.abs(right.scores - swapped.scores).max() > 1e-3


# Recalibration


def test_recalibrated_intervals_are_those_of_a_new_calibration_around_the_old_median(prices):
    old = calibrate(
        [outcomes_of(prices).until(prices.index[999])], forecasts_of(prices, np.zeros((100, 3)), 800), HORIZONS,
        CalibrationConfig(network_weight=0.2),
    )  # fmt: skip
    renewed = old.recalibrated(outcomes_of(prices), CalibrationConfig())
    new = calibration_of(prices, CalibrationConfig(network_weight=0.0))
    np.testing.assert_array_equal(renewed.volatility, new.volatility)
    np.testing.assert_allclose(renewed.scores[:, 99], old.scores[:, 99], rtol=1e-12)
    spread, of_new = (c.scores - c.scores[:, 99:100] for c in (renewed, new))
    np.testing.assert_allclose(spread, of_new, atol=1e-12)
    assert (renewed.drift == old.drift).all() and renewed.network_weight == 0.2
    assert (renewed.until, renewed.count) == (new.until, new.count)


def test_too_few_or_no_new_outcomes_recalibrate_nothing(prices):
    calibration = calibration_of(prices)
    few = outcomes_of(prices.iloc[-(WARM_UP + 30 + 749) :])
    enough = outcomes_of(prices.iloc[-(WARM_UP + 30 + 750) :])
    old = dataclasses.replace(calibration, until=prices.index[-2])
    assert old.recalibrated(few, CalibrationConfig()) is old
    assert old.recalibrated(enough, CalibrationConfig()) is not old
    assert calibration.recalibrated(enough, CalibrationConfig()) is calibration


# Saving


def test_a_calibration_survives_json_to_the_last_bit(prices):
    calibration = calibration_of(prices)
    again = Calibration.from_dict(json.loads(json.dumps(calibration.to_dict())))
    for field in dataclasses.fields(Calibration):
        np.testing.assert_array_equal(getattr(again, field.name), getattr(calibration, field.name))


def test_a_damaged_saved_calibration_is_refused(prices):
    saved = calibration_of(prices).to_dict()
    with pytest.raises(IncompatibleModelError, match="lacks scores"):
        Calibration.from_dict({k: v for k, v in saved.items() if k != "scores"})
    with pytest.raises(IncompatibleModelError, match="expected finite numbers"):
        Calibration.from_dict(saved | {"scores": saved["scores"][:2]})
    with pytest.raises(IncompatibleModelError, match="expected finite numbers"):
        Calibration.from_dict(saved | {"drift": [float("nan")] * 3})
