import numpy as np
import pytest
from scipy import integrate, stats

from forecastlib.errors import ConfigError
from forecastlib.evaluation import metrics
from forecastlib.models.distribution import LEVELS

RNG_SHAPE = (300, 3)


def ranges() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(2)
    centre = rng.normal(0, 1, RNG_SHAPE)
    half = rng.uniform(0.5, 1.5, RNG_SHAPE)
    return rng.normal(0, 1, RNG_SHAPE), centre - half, centre + half


def test_coverage_counts_values_inside_their_range_and_on_its_ends():
    assert metrics.coverage([1.0, 2.0, 3.0, 4.0], [1.0, 0.0, 3.1, 0.0], [2.0, 2.0, 9.0, 3.9]) == 0.5


def test_the_interval_score_equals_a_slow_loop():
    actual, lower, upper = ranges()
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


def test_the_interval_score_is_lowest_for_the_true_range():
    y = stats.norm.rvs(size=200_000, random_state=0)
    ends = [stats.norm.ppf(0.9) * factor for factor in (0.7, 1.0, 1.4)]
    narrow, true, wide = (metrics.interval_score(y, np.full_like(y, -e), np.full_like(y, e), 0.80) for e in ends)
    assert true < narrow and true < wide


def test_the_pinball_loss_is_lowest_at_the_quantile_and_half_the_absolute_error_at_the_median():
    y = np.random.default_rng(0).exponential(size=5001)
    quantile = np.quantile(y, 0.9)
    losses = [metrics.pinball(y, np.full_like(y, quantile + shift), 0.9) for shift in (-0.1, 0.0, 0.1)]
    assert losses[1] < losses[0] and losses[1] < losses[2]
    assert metrics.pinball(y, np.ones_like(y), 0.5) == pytest.approx(metrics.mae(y, np.ones_like(y)) / 2)


def test_crps_of_samples_equals_all_pairs():
    rng = np.random.default_rng(4)
    actual, samples = rng.normal(size=(6, 2)), rng.normal(size=(6, 2, 25))
    samples[0, 0, :5] = samples[0, 0, 5]  # ties
    actual[1, 1] = samples[1, 1, 3]  # an outcome equal to a sample
    result = metrics.crps_of_samples(actual, samples)
    for i in np.ndindex(6, 2):
        x = samples[i]
        expected = np.abs(x - actual[i]).mean() - np.abs(x[:, None] - x[None, :]).mean() / 2
        assert result[i] == pytest.approx(expected, abs=1e-12)


def test_crps_of_samples_equals_the_integral_of_the_squared_difference_of_distributions():
    x, y = np.array([0.0, 1.0, 3.0]), 1.7
    expected = integrate.quad(lambda z: ((x <= z).mean() - (y <= z)) ** 2, -1, 4, points=[0, 1, 1.7, 3])[0]
    assert metrics.crps_of_samples(y, x) == pytest.approx(expected)


@pytest.mark.parametrize("y", [-3.0, -0.5, 0.0, 1.3, 4.0])
def test_crps_of_quantiles_approaches_the_closed_form_of_the_normal_distribution(y):
    exact = y * (2 * stats.norm.cdf(y) - 1) + 2 * stats.norm.pdf(y) - 1 / np.sqrt(np.pi)
    assert metrics.crps_of_quantiles(y, stats.norm.ppf(LEVELS), LEVELS) == pytest.approx(exact, rel=0.003)


def test_crps_of_a_certain_forecast_is_its_absolute_error():
    assert metrics.crps_of_samples(3.0, np.full(7, 5.0)) == pytest.approx(2.0)
    assert metrics.crps_of_quantiles(3.0, np.full(199, 5.0), LEVELS) == pytest.approx(2.0)


def test_reliability_sets_what_was_stated_beside_what_happened():
    table = metrics.reliability([0.05, 0.62, 0.68, 1.0], [0, 1, 0, 1])
    assert table["lower"].tolist() == pytest.approx([0.0, 0.6, 0.9])
    assert table["count"].tolist() == [1, 2, 1]
    assert table["stated"].tolist() == pytest.approx([0.05, 0.65, 1.0])
    assert table["observed"].tolist() == [0.0, 0.5, 1.0]
    assert metrics.expected_calibration_error([0.05, 0.62, 0.68, 1.0], [0, 1, 0, 1]) == pytest.approx(
        (0.05 + 2 * 0.15 + 0.0) / 4
    )


def test_probabilities_that_come_true_have_a_small_calibration_error_and_boasts_a_large_one():
    rng = np.random.default_rng(0)
    p = rng.uniform(0, 1, 20_000)
    happened = rng.uniform(size=p.shape) < p
    assert metrics.expected_calibration_error(p, happened) < 0.02
    assert metrics.expected_calibration_error(np.where(p > 0.5, 0.95, 0.05), happened) > 0.15
    assert metrics.brier(p, happened) == pytest.approx(1 / 6, abs=0.01)


def test_what_is_no_probability_or_has_another_shape_is_refused():
    with pytest.raises(ConfigError, match=r"in \[0, 1\]"):
        metrics.reliability([0.5, 1.2], [1, 0])
    with pytest.raises(ConfigError, match="between 0 and 1"):
        metrics.pinball([1.0], [1.0], 1.0)
    with pytest.raises(ConfigError, match="between 0 and 1; got 80"):
        metrics.interval_score([1.0], [0.0], [2.0], 80)
    with pytest.raises(ConfigError, match="one more axis"):
        metrics.crps_of_samples([1.0, 2.0], [1.0, 2.0])
    with pytest.raises(ConfigError, match=r"shape \(1, 199\)"):
        metrics.crps_of_quantiles([1.0], np.zeros((1, 5)), LEVELS)
