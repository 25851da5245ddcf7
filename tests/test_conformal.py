import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from forecastlib.errors import ConfigError, IncompatibleModelError, NotEnoughDataError
from forecastlib.forecasts import call_is_hit, confidence, consistency, direction, mc_dropout_confidence
from forecastlib.models.conformal import MIN_CALIBRATION_SET, Conformal, adaptive_widening, split_conformal
from forecastlib.models.distribution import LEVELS, Distribution

HORIZONS = (7, 14, 30)


def residuals_and_scale(n: int = 500, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    scale = np.exp(rng.normal(-4, 0.7, (n, 3)))
    return rng.standard_t(5, (n, 3)) * scale, scale


def test_the_half_width_is_the_finite_sample_corrected_order_statistic():
    residuals, scale = residuals_and_scale(99)
    conformal = split_conformal(residuals, scale, HORIZONS)
    for h in range(3):
        ordered = sorted(abs(residuals[:, h] / scale[:, h]))
        at = dict(zip(np.round(LEVELS, 3).tolist(), conformal.scores[h].tolist(), strict=True))
        assert at[0.975] == -at[0.025] == ordered[95 - 1]  # ceil(0.95 * 100) = 95th smallest
        assert at[0.9] == -at[0.1] == ordered[80 - 1]
        assert at[0.5] == 0.0


def test_too_large_a_coverage_for_the_sample_takes_the_largest_score():
    residuals, scale = residuals_and_scale(MIN_CALIBRATION_SET)
    largest = abs(residuals / scale).max(axis=0)
    conformal = split_conformal(residuals, scale, HORIZONS)
    _, upper = conformal.distribution(np.zeros((1, 3)), np.ones((1, 3))).interval(0.95)
    np.testing.assert_array_equal(upper[0], largest)
    np.testing.assert_array_equal(conformal.scores[:, -1], largest)


@pytest.mark.parametrize("n", [19, 60, 200])
@pytest.mark.parametrize("coverage", [0.80, 0.95])
def test_coverage_of_exchangeable_residuals_is_at_least_nominal_on_average(n, coverage):
    rng = np.random.default_rng(n)
    repetitions = 400
    scores = rng.standard_t(4, (n + 50, repetitions))
    scale = np.exp(rng.normal(-4, 0.5, scores.shape))
    conformal = split_conformal((scores * scale)[:n], scale[:n], range(1, repetitions + 1))
    distribution = conformal.distribution(np.zeros((50, repetitions)), scale[n:])
    lower, upper = distribution.interval(coverage)
    covered = ((scores * scale)[n:] >= lower) & ((scores * scale)[n:] <= upper)
    assert coverage - 0.005 < covered.mean() < coverage + 2.0 / n + 0.005


def test_too_few_residuals_are_refused_with_the_number_needed():
    residuals, scale = residuals_and_scale(MIN_CALIBRATION_SET - 1)
    with pytest.raises(NotEnoughDataError, match="at least 19 validation residuals"):
        split_conformal(residuals, scale, HORIZONS)


@pytest.mark.parametrize("spoil", ["nan", "zero scale", "shape"])
def test_residuals_that_cannot_be_scaled_are_refused(spoil):
    residuals, scale = residuals_and_scale(50)
    if spoil == "nan":
        residuals[-1, 2] = np.nan
    elif spoil == "zero scale":
        scale[3, 1] = 0.0
    else:
        scale = scale[:, :2]
    with pytest.raises(ConfigError, match="expected"):
        split_conformal(residuals, scale, HORIZONS)


def test_an_interval_is_the_forecast_plus_scaled_scores():
    residuals, scale = residuals_and_scale()
    conformal = split_conformal(residuals, scale, HORIZONS)
    distribution = conformal.distribution([[0.01, 0.02, 0.03]], [[0.05, 0.06, 0.07]])
    lower, upper = distribution.interval(0.80)
    assert lower[0, 1] == 0.02 + 0.06 * conformal.scores[1, np.searchsorted(LEVELS, 0.1)]
    assert upper[0, 1] == 0.02 + 0.06 * conformal.scores[1, np.searchsorted(LEVELS, 0.9)]


def test_intervals_are_nested_and_widen_with_volatility():
    residuals, scale = residuals_and_scale()
    conformal = split_conformal(residuals, scale, HORIZONS)
    calm, wild = (conformal.distribution(np.zeros((1, 3)), np.full((1, 3), s)) for s in (0.01, 0.03))
    (inner_low, inner_high), (outer_low, outer_high) = calm.interval(0.80), calm.interval(0.95)
    assert (outer_low < inner_low).all() and (inner_high < outer_high).all()
    low, high = wild.interval(0.95)
    np.testing.assert_allclose(high - low, 3 * (outer_high - outer_low))


def test_the_forecast_is_the_median_so_that_probabilities_never_contradict_the_call():
    residuals, scale = residuals_and_scale()
    predicted = np.array([[0.001, -0.001, 0.0]])
    distribution = split_conformal(residuals + 0.02, scale, HORIZONS).distribution(predicted, scale[:1])
    p_up = distribution.probability_above(0.0)[0]
    assert p_up[0] > 0.5 > p_up[1] and p_up[2] == pytest.approx(0.5)


def test_directions_need_a_change_beyond_the_threshold():
    changes = [[0.0051, 0.005, 0.0], [-0.005, -0.0051, math.nan]]
    assert direction(changes, 0.005).tolist() == [["up", "neutral", "neutral"], ["neutral", "down", "neutral"]]


def test_consistency_is_the_mean_agreement_of_neighbours():
    calls = [["up"] * 3, ["up", "neutral", "down"], ["up", "down", "up"], ["down", "down", "neutral"]]
    assert consistency(calls).tolist() == [1.0, 0.5, 0.0, 0.75]
    assert consistency([["up"], ["neutral"]]).tolist() == [1.0, 1.0]
    with pytest.raises(ConfigError, match="sideways"):
        consistency([["up", "sideways"]])


@given(arrays(np.int64, (4, 3), elements=st.integers(-1, 1)))
def test_consistency_lies_in_the_unit_interval_and_does_not_change_when_all_calls_are_reversed(steps):
    names = np.array(["neutral", "up", "down"])
    there, back = consistency(names[steps]), consistency(names[-steps])
    assert ((there >= 0) & (there <= 1)).all()
    np.testing.assert_array_equal(there, back)


def test_confidence_is_the_probability_of_the_event_that_is_called():
    grid = np.linspace(-0.06, 0.10, len(LEVELS))  # uniform: P(x > 0) = 0.625 up to the grid's ends
    distribution = Distribution(LEVELS, np.broadcast_to(grid, (1, 3, len(LEVELS))))
    result = confidence(distribution, [["up", "down", "neutral"]], 0.005)[0]
    p_up = distribution.probability_above(0.0)[0, 0]
    assert p_up == pytest.approx(0.623, abs=0.005)
    assert result[0] == p_up and result[1] == 1 - p_up
    assert result[2] == pytest.approx(0.01 / 0.16, abs=0.005)


def test_calls_up_and_down_are_hits_relative_to_the_last_close():
    calls = [["up", "up", "down", "down", "neutral", "neutral"]]
    changes = [[0.001, -0.001, -0.001, 0.001, 0.001, 0.006]]
    assert call_is_hit(calls, changes, 0.005).tolist() == [[True, False, True, False, True, False]]


def test_calibrated_confidence_equals_the_share_of_hits():
    residuals, scale = residuals_and_scale(6000)
    rng = np.random.default_rng(5)
    predicted = rng.normal(0, 1, scale.shape) * scale
    conformal = split_conformal(residuals[:3000], scale[:3000], HORIZONS)
    distribution = conformal.distribution(predicted[3000:], scale[3000:])
    calls = direction(np.expm1(predicted[3000:]), 0.005)
    stated = confidence(distribution, calls, 0.005)
    hits = call_is_hit(calls, np.expm1(predicted[3000:] + residuals[3000:]), 0.005)
    for low, high in ((0.2, 0.55), (0.55, 0.7), (0.7, 0.85), (0.85, 1.0)):
        chosen = (stated >= low) & (stated < high)
        assert chosen.sum() > 300
        assert hits[chosen].mean() == pytest.approx(stated[chosen].mean(), abs=0.05)


def test_mc_dropout_confidence_follows_its_formula_and_its_bounds():
    mean = np.array([[100.0, -100.0, 0.0], [100.0, 100.0, 100.0]])
    std = np.array([[30.0, 30.0, 5.0], [0.0, 95.0, 500.0]])
    np.testing.assert_allclose(mc_dropout_confidence(mean, std), [[0.7, 0.7, 0.5], [0.9, 0.1, 0.1]])


def track(scores: np.ndarray, coverage: float, horizon: int) -> float:
    factors = adaptive_widening(scores, coverage, horizon)
    return float((scores <= factors)[horizon:].mean())


@pytest.mark.parametrize("coverage", [0.80, 0.95])
def test_adaptive_intervals_have_nominal_coverage_in_the_long_run_when_volatility_shifts(coverage):
    rng = np.random.default_rng(0)
    half_width = np.quantile(abs(rng.normal(size=10_000)), coverage)
    regimes = np.repeat([1.0, 2.5, 0.6, 1.5], 1500)
    steps = rng.normal(size=6006)
    scores = abs(np.convolve(steps, np.ones(7), "valid")) / math.sqrt(7) * regimes / half_width
    assert abs((scores <= 1).mean() - coverage) > 0.03
    assert track(scores, coverage, 7) == pytest.approx(coverage, abs=0.015)


def test_adaptive_intervals_equal_a_slow_loop():
    scores = np.random.default_rng(1).exponential(size=60)
    factors = adaptive_widening(scores, 0.8, 5, rate=0.3)
    for t in range(60):
        misses = [scores[s] > factors[s] for s in range(t - 5 + 1)]
        assert math.log(factors[t]) == pytest.approx(0.3 / 5 * sum(missed - 0.2 for missed in misses))


def test_an_adaptive_interval_uses_only_outcomes_known_at_its_origin():
    scores = np.random.default_rng(1).exponential(size=100)
    factors = adaptive_widening(scores, 0.8, 30)
    changed = scores.copy()
    changed[40:] = 99.0
    np.testing.assert_array_equal(adaptive_widening(changed, 0.8, 30)[:70], factors[:70])
    assert adaptive_widening(changed, 0.8, 30)[70] != factors[70]
    unsettled = scores.copy()
    unsettled[-30:] = np.nan
    np.testing.assert_array_equal(adaptive_widening(unsettled, 0.8, 30), factors)


def test_adaptive_intervals_refuse_missing_outcomes_and_settings_out_of_range():
    with pytest.raises(ConfigError, match="up to the newest 2"):
        adaptive_widening([1.0, np.nan, 1.0, 1.0], 0.8, 2)
    with pytest.raises(ConfigError, match="coverage=80"):
        adaptive_widening([1.0], 80, 2)
    assert adaptive_widening([], 0.8, 2).shape == (0,)


def test_saved_intervals_survive_json_to_the_last_bit_and_damaged_ones_are_refused():
    conformal = split_conformal(*residuals_and_scale(), HORIZONS)
    saved = json.loads(json.dumps(conformal.to_dict()))
    again = Conformal.from_dict(saved)
    assert (again.horizons, again.count) == (conformal.horizons, conformal.count)
    np.testing.assert_array_equal(again.scores, conformal.scores)
    for damaged in (saved | {"scores": saved["scores"][:2]}, {"levels": saved["levels"]}):
        with pytest.raises(IncompatibleModelError, match="cannot read the saved intervals"):
            Conformal.from_dict(damaged)
