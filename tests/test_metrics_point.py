import numpy as np
import pytest
from sklearn import metrics as oracle

from forecastlib.errors import ConfigError, NotEnoughDataError
from forecastlib.evaluation import metrics

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


def test_the_random_walk_has_no_skill_and_a_perfect_forecast_has_all():
    actual, _, last_close = forecasts()
    walk = metrics.random_walk(actual, last_close)
    np.testing.assert_array_equal(walk[:, 2], last_close)
    np.testing.assert_array_equal(metrics.skill(actual, walk, last_close), 0.0)
    np.testing.assert_array_equal(metrics.skill(actual, actual, last_close), 1.0)


def test_mase_is_scaled_by_the_random_walk_of_the_training_part():
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
    with pytest.raises(NotEnoughDataError, match="more than 14 training closes"):
        metrics.mase(actual[:, :2], predicted[:, :2], last_close[:14], steps=(7, 14))


def test_directional_accuracy_compares_signs_or_three_way_calls():
    last_close = np.full(6, 100.0)
    actual = np.array([101.0, 99.0, 100.2, 100.0, 99.0, 100.1])
    predicted = np.array([102.0, 101.0, 100.3, 100.0, 98.0, 102.0])
    assert metrics.directional_accuracy(actual, predicted, last_close) == pytest.approx(5 / 6)
    # With half a per cent: up/up, down/up, neutral/neutral, neutral/neutral, down/down, neutral/up.
    assert metrics.directional_accuracy(actual, predicted, last_close, threshold=0.005) == pytest.approx(4 / 6)


def test_the_random_walk_calls_no_direction():
    actual, _, last_close = forecasts()
    walk = metrics.random_walk(actual, last_close)
    np.testing.assert_array_equal(metrics.directional_accuracy(actual, walk, last_close), 0.0)


def test_what_cannot_be_scored_is_refused():
    with pytest.raises(ConfigError, match="one shape"):
        metrics.mae([1.0, 2.0], [1.0])
    with pytest.raises(NotEnoughDataError, match="at least one"):
        metrics.mae([], [])
    with pytest.raises(ConfigError, match="not known yet"):
        metrics.mae([1.0, np.nan], [1.0, 2.0])
    with pytest.raises(ConfigError, match="one last close"):
        metrics.skill([1.0, 2.0], [1.0, 2.0], [1.0])
