"""Metrics compared with scikit-learn, closed forms and slow loops."""

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as oracle

from forecastlib.errors import ConfigError, NotEnoughDataError
from forecastlib.evaluation import metrics

RNG_SHAPE = (300, 3)

PAIRS = {
    "mae": oracle.mean_absolute_error,
    "rmse": oracle.root_mean_squared_error,
    "r2": oracle.r2_score,
}


def forecasts(n: int = 200, horizons: int = 3) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    last_close = 1000 * np.exp(np.cumsum(rng.normal(0, 0.01, n)))
    actual = last_close[:, None] * np.exp(rng.normal(0, 0.03, (n, horizons)))
    predicted = last_close[:, None] * np.exp(rng.normal(0, 0.02, (n, horizons)))
    return actual, predicted, last_close


@pytest.mark.parametrize("name", PAIRS)
def test_a_metric_equals_that_of_scikit_learn_for_each_horizon(name):
    actual, predicted, _ = forecasts()
    np.testing.assert_allclose(
        getattr(metrics, name)(actual, predicted), PAIRS[name](actual, predicted, multioutput="raw_values")
    )
    assert getattr(metrics, name)(actual[:, 0], predicted[:, 0]) == pytest.approx(
        PAIRS[name](actual[:, 0], predicted[:, 0])
    )


def test_mape_is_in_per_cent():
    actual, predicted, _ = forecasts()
    expected = 100 * oracle.mean_absolute_percentage_error(actual, predicted, multioutput="raw_values")
    np.testing.assert_allclose(metrics.mape(actual, predicted), expected)


def test_bias_is_positive_where_forecasts_are_too_high():
    assert metrics.bias([100.0, 100.0], [103.0, 101.0]) == 2.0


def test_r2_of_a_constant_price_is_not_a_number():
    assert np.isnan(metrics.r2([5.0, 5.0], [5.0, 6.0]))


def test_skill_compares_with_the_last_close():
    actual, predicted, last_close = forecasts()
    for h in range(3):
        ours = np.mean([abs(a - p) for a, p in zip(actual[:, h], predicted[:, h], strict=True)])
        walk = np.mean([abs(a - c) for a, c in zip(actual[:, h], last_close, strict=True)])
        assert metrics.skill(actual, predicted, last_close)[h] == pytest.approx(1 - ours / walk)
        ours = oracle.mean_squared_error(actual[:, h], predicted[:, h])
        walk = oracle.mean_squared_error(actual[:, h], last_close)
        assert metrics.squared_skill(actual, predicted, last_close)[h] == pytest.approx(1 - ours / walk)


def test_skill_is_0_for_the_random_walk_and_1_for_a_perfect_forecast():
    actual, _, last_close = forecasts()
    walk = metrics.random_walk(actual, last_close)
    np.testing.assert_array_equal(walk[:, 2], last_close)
    np.testing.assert_array_equal(metrics.skill(actual, walk, last_close), 0.0)
    np.testing.assert_array_equal(metrics.skill(actual, actual, last_close), 1.0)


def test_mase_is_scaled_by_the_error_of_the_random_walk_on_earlier_prices():
    actual, predicted, last_close = forecasts()
    one = np.mean([abs(last_close[t + 1] - last_close[t]) for t in range(len(last_close) - 1)])
    mae = metrics.mae(actual, predicted)
    np.testing.assert_allclose(metrics.mase(actual, predicted, last_close), mae / one)
    seven, fourteen = (
        np.mean([abs(last_close[t + h] - last_close[t]) for t in range(len(last_close) - h)]) for h in (7, 14)
    )
    np.testing.assert_allclose(
        metrics.mase(actual[:, :2], predicted[:, :2], last_close, steps=(7, 14)), mae[:2] / [seven, fourteen]
    )
    with pytest.raises(NotEnoughDataError, match="more than 14 closes"):
        metrics.mase(actual[:, :2], predicted[:, :2], last_close[:14], steps=(7, 14))


def test_correlation_equals_that_of_numpy_and_is_not_a_number_for_constant_prices():
    actual, predicted, _ = forecasts()
    expected = [np.corrcoef(actual[:, h], predicted[:, h])[0, 1] for h in range(3)]
    np.testing.assert_allclose(metrics.correlation(actual, predicted), expected)
    assert np.isnan(metrics.correlation([5.0, 5.0], [5.0, 6.0]))


def test_values_that_cannot_be_scored_are_refused():
    with pytest.raises(ConfigError, match="one shape"):
        metrics.mae([1.0, 2.0], [1.0])
    with pytest.raises(NotEnoughDataError, match="at least one"):
        metrics.mae([], [])
    with pytest.raises(ConfigError, match="not known yet"):
        metrics.mae([1.0, np.nan], [1.0, 2.0])
    with pytest.raises(ConfigError, match="one last close"):
        metrics.skill([1.0, 2.0], [1.0, 2.0], [1.0])


# Intervals, distributions and probabilities


def intervals() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(2)
    centre = rng.normal(0, 1, RNG_SHAPE)
    half = rng.uniform(0.5, 1.5, RNG_SHAPE)
    return rng.normal(0, 1, RNG_SHAPE), centre - half, centre + half


def test_coverage_counts_values_inside_their_interval_and_on_its_ends():
    assert metrics.coverage([1.0, 2.0, 3.0, 4.0], [1.0, 0.0, 3.1, 0.0], [2.0, 2.0, 9.0, 3.9]) == 0.5


def test_the_interval_score_equals_a_slow_loop():
    actual, lower, upper = intervals()
    for h in range(3):
        total = 0.0
        for y, low, high in zip(actual[:, h], lower[:, h], upper[:, h], strict=True):
            total += high - low
            if y < low:
                total += 2 / 0.05 * (low - y)
            if y > high:
                total += 2 / 0.05 * (y - high)
        assert metrics.interval_score(actual, lower, upper, 0.95)[h] == pytest.approx(total / len(actual))
    np.testing.assert_allclose(metrics.mean_width(lower, upper), (upper - lower).mean(axis=0))


def test_the_interval_score_is_lowest_for_the_true_interval():
    y = stats.norm.rvs(size=200_000, random_state=0)
    ends = [stats.norm.ppf(0.9) * factor for factor in (0.7, 1.0, 1.4)]
    narrow, true, wide = (metrics.interval_score(y, np.full_like(y, -e), np.full_like(y, e), 0.80) for e in ends)
    assert true < narrow and true < wide


def test_reliability_compares_stated_probabilities_with_observed_frequencies():
    table = metrics.reliability([0.05, 0.62, 0.68, 1.0], [0, 1, 0, 1])
    assert table["lower"].tolist() == pytest.approx([0.0, 0.6, 0.9])
    assert table["count"].tolist() == [1, 2, 1]
    assert table["stated"].tolist() == pytest.approx([0.05, 0.65, 1.0])
    assert table["observed"].tolist() == [0.0, 0.5, 1.0]
    assert metrics.expected_calibration_error([0.05, 0.62, 0.68, 1.0], [0, 1, 0, 1]) == pytest.approx(
        (0.05 + 2 * 0.15 + 0.0) / 4
    )


def test_calibrated_probabilities_have_a_small_calibration_error_and_overconfident_ones_a_large_one():
    rng = np.random.default_rng(0)
    p = rng.uniform(0, 1, 20_000)
    happened = rng.uniform(size=p.shape) < p
    assert metrics.expected_calibration_error(p, happened) < 0.02
    assert metrics.expected_calibration_error(np.where(p > 0.5, 0.95, 0.05), happened) > 0.15


def test_invalid_probabilities_and_other_shapes_are_refused():
    with pytest.raises(ConfigError, match=r"in \[0, 1\]"):
        metrics.reliability([0.5, 1.2], [1, 0])
    with pytest.raises(ConfigError, match="between 0 and 1; got 80"):
        metrics.interval_score([1.0], [0.0], [2.0], 80)
