import itertools
import math

import numpy as np
import pytest
from scipy import stats
from scipy.stats import norm

from forecastlib.errors import ConfigError
from forecastlib.models.distribution import (
    LEVELS,
    Distribution,
    crps_of_quantiles,
    quantiles_of_samples,
    weighted_quantiles,
)


def normal(mean: float = 0.01, std: float = 0.05) -> Distribution:
    return Distribution(LEVELS, stats.norm.ppf(LEVELS, mean, std)[None, None, :])


def test_the_ends_of_both_intervals_are_levels():
    for coverage, z in ((0.80, 1.2815515655), (0.95, 1.9599639845)):
        lower, upper = normal(0.0, 1.0).interval(coverage)
        assert lower[0, 0] == pytest.approx(-z) and upper[0, 0] == pytest.approx(z)


def test_an_interval_whose_ends_are_not_levels_is_refused():
    with pytest.raises(ConfigError, match=r"0\.0005 is not"):
        normal().interval(0.999)


@pytest.mark.parametrize("value", [-0.08, -0.01, 0.0, 0.0123, 0.05])
def test_probabilities_are_those_of_the_distribution(value):
    assert normal().probability_above(value)[0, 0] == pytest.approx(stats.norm.sf(value, 0.01, 0.05), abs=1e-4)


def test_probabilities_equal_interpolation_row_by_row():
    quantiles = np.sort(np.random.default_rng(0).normal(0, 1, (50, 3, len(LEVELS))), axis=2)
    actual = Distribution(LEVELS, quantiles).probability_above(0.4)
    for i in range(50):
        for h in range(3):
            assert actual[i, h] == pytest.approx(1 - np.interp(0.4, quantiles[i, h], LEVELS), abs=1e-12)


def test_probabilities_never_reach_certainty():
    assert normal(5.0).probability_above(0.0)[0, 0] == pytest.approx(0.995)
    assert normal(-5.0).probability_above(0.0)[0, 0] == pytest.approx(0.005)


def test_equal_quantiles_give_a_probability_and_not_a_division_by_zero():
    flat = Distribution(LEVELS, np.zeros((1, 1, len(LEVELS))))
    assert flat.probability_above(0.0)[0, 0] == pytest.approx(0.005)
    assert flat.probability_above(-0.1)[0, 0] == pytest.approx(0.995)


def test_quantiles_that_are_not_a_distribution_are_refused():
    with pytest.raises(ConfigError, match="do not decrease"):
        Distribution(LEVELS, normal().quantiles[:, :, ::-1])
    with pytest.raises(ConfigError, match="NaN"):
        Distribution(LEVELS, np.full((1, 1, len(LEVELS)), np.nan))
    with pytest.raises(ConfigError, match="shape"):
        Distribution(LEVELS, normal().quantiles[0])


def test_taking_rows_keeps_their_order_and_reads_a_mask_as_a_mask():
    quantiles = np.sort(np.random.default_rng(0).normal(0, 1, (5, 2, len(LEVELS))), axis=2)
    distribution = Distribution(LEVELS, quantiles)
    np.testing.assert_array_equal(distribution.take([3, 1]).quantiles, quantiles[[3, 1]])
    np.testing.assert_array_equal(distribution.take(np.arange(5) > 2).quantiles, quantiles[3:])
    assert len(distribution.take([])) == 0


def test_quantiles_of_samples_approach_those_of_their_distribution():
    samples = stats.t.rvs(5, size=(2, 200_000), random_state=0)
    np.testing.assert_allclose(quantiles_of_samples(samples)[:, 5:-5], [stats.t.ppf(LEVELS, 5)[5:-5]] * 2, atol=0.03)


def test_quantiles_of_equal_weights_are_those_between_the_middles_of_the_shares():
    values = np.random.default_rng(0).normal(size=400)
    even = weighted_quantiles(values, np.ones(400))
    np.testing.assert_allclose(even, np.quantile(values, LEVELS, method="hazen"))


def test_a_value_that_counts_twice_is_like_two_values_in_the_middle_of_their_shares():
    values, weights = np.array([3.0, 1.0, 2.0]), np.array([1.0, 1.0, 2.0])
    found = weighted_quantiles(values, weights, np.array([0.05, 0.125, 0.5, 0.6875, 0.99]))
    np.testing.assert_allclose(found, [1.0, 1.0, 2.0, 2.5, 3.0])


def test_the_median_is_the_quantile_of_one_half():
    quantiles = np.sort(np.random.default_rng(1).normal(size=(4, 2, len(LEVELS))), axis=2)
    np.testing.assert_array_equal(Distribution(LEVELS, quantiles).median(), quantiles[:, :, 99])


@pytest.mark.parametrize("levels", [[0.0, 0.5, 0.9], [0.1, 0.5, 1.0], [0.5, 0.1, 0.9], [0.1, 0.1, 0.9]])
def test_levels_that_do_not_increase_inside_zero_and_one_are_refused(levels):
    with pytest.raises(ConfigError, match="levels that increase inside"):
        Distribution(np.array(levels), np.zeros((1, 1, 3)))


@pytest.mark.parametrize("ends", [(-np.inf, 1.0), (0.0, np.inf), (np.nan, np.nan)])
def test_quantiles_that_are_not_finite_are_refused(ends):
    with pytest.raises(ConfigError, match="expected finite quantiles"):
        Distribution(np.array([0.1, 0.9]), np.array([[ends]]))


# Scores


@pytest.mark.parametrize("outcome", [-3.0, -0.5, 0.0, 1.0, 4.0])
def test_the_crps_of_a_normal_distribution_is_that_of_its_closed_form(outcome):
    z = (outcome - 0.2) / 1.5
    expected = 1.5 * (z * (2 * norm.cdf(z) - 1) + 2 * norm.pdf(z) - 1 / math.sqrt(math.pi))
    assert normal(0.2, 1.5).crps([[outcome]])[0, 0] == pytest.approx(expected, rel=3e-3)


def test_the_crps_of_quantiles_equals_a_slow_sum_of_pinball_losses():
    rng = np.random.default_rng(0)
    quantiles = np.sort(rng.normal(size=(4, 2, len(LEVELS))), axis=-1)
    actual = rng.normal(size=(4, 2))
    edges = [0.0, *((a + b) / 2 for a, b in itertools.pairwise(LEVELS)), 1.0]
    for i, h in np.ndindex(4, 2):
        losses = [
            (edges[k + 1] - edges[k]) * max(p * (actual[i, h] - q), (1 - p) * (q - actual[i, h]))
            for k, (p, q) in enumerate(zip(LEVELS, quantiles[i, h], strict=True))
        ]
        assert crps_of_quantiles(actual, quantiles, LEVELS)[i, h] == pytest.approx(2 * sum(losses))


def test_an_unknown_outcome_has_no_score():
    assert np.isnan(normal(0.0, 1.0).crps([[math.nan]])).all()
    assert np.isnan(normal(0.0, 1.0).log_score([[math.nan]])).all()


@pytest.mark.parametrize("outcome", [-1.6, -0.4, 0.0, 1.3, 1.8])
def test_the_log_score_is_the_negative_log_density_where_there_are_quantiles(outcome):
    assert normal(0.0, 1.0).log_score([[outcome]])[0, 0] == pytest.approx(-norm.logpdf(outcome), abs=0.05)


def test_the_density_behind_the_log_score_integrates_to_one_and_falls_beyond_the_quantiles():
    grid = np.linspace(-12.0, 12.0, 20_001)
    wide = Distribution(LEVELS, np.repeat(norm.ppf(LEVELS)[None, None], len(grid), axis=0))
    scores = wide.log_score(grid[:, None])[:, 0]
    assert np.exp(-scores).sum() * (grid[1] - grid[0]) == pytest.approx(1.0, abs=2e-3)
    assert (np.diff(scores[grid > 2.7]) > 0).all()


def test_samples_have_the_quantiles_of_the_distribution_and_repeat_with_their_seed():
    drawn = normal(0.1, 0.5).sample(20_000, seed=3)
    assert drawn.shape == (1, 1, 20_000)
    np.testing.assert_allclose(np.quantile(drawn, [0.1, 0.5, 0.9]), norm.ppf([0.1, 0.5, 0.9], 0.1, 0.5), atol=0.02)
    np.testing.assert_array_equal(normal(0.1, 0.5).sample(20_000, seed=3), drawn)
