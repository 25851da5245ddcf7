import math

import numpy as np
import pytest
import statsmodels.api as sm
from arch.bootstrap import CircularBlockBootstrap
from scipy import stats

from forecastlib.errors import ConfigError, NotEnoughDataError
from forecastlib.evaluation.significance import (
    DieboldMariano,
    block_bootstrap,
    diebold_mariano,
    fixed_b_p_value,
    long_run_variance,
    verdict,
)


def overlapping_errors(n: int, horizon: int, repetitions: int, seed: int, spread: float = 0.3):
    """Errors of two forecasts of equal accuracy: sums of the next returns, heavy-tailed with GARCH variance, and noise.

    Each forecast misses the outcome, which is the same for both, and adds a persistent signal without information.
    """
    rng = np.random.default_rng(seed)
    returns = np.empty((n + horizon + 100, repetitions))
    variance = np.ones(repetitions)
    for row in returns:
        row[:] = np.sqrt(variance) * rng.standard_t(5, repetitions) * math.sqrt(3 / 5)
        variance = 0.02 + 0.08 * row**2 + 0.90 * variance
    sums = np.cumsum(returns[100:], axis=0)
    outcome = (sums[horizon:] - sums[:-horizon])[:n] / math.sqrt(horizon)
    signals = rng.normal(size=(2, n, repetitions))
    for t in range(1, n):
        signals[:, t] = 0.95 * signals[:, t - 1] + math.sqrt(1 - 0.95**2) * signals[:, t]
    return outcome, outcome - spread * signals[0], outcome - spread * signals[1]


def rejections(loss_a, loss_b, horizon):
    results = [diebold_mariano(a, b, horizon) for a, b in zip(loss_a.T, loss_b.T, strict=True)]
    return np.mean([result.p_value < 0.05 for result in results])


@pytest.mark.parametrize(("n", "horizon"), [(250, 30), (1000, 30), (500, 7)])
def test_equal_forecasts_with_overlapping_heavy_tailed_errors_are_seldom_distinguished(n, horizon):
    _, a, b = overlapping_errors(n, horizon, repetitions=600, seed=3)
    # With 600 repetitions a true rate of 5 % is observed as 3.2 % to 6.8 % in nineteen cases out of twenty.
    assert 0.02 < rejections(a**2, b**2, horizon) < 0.08


def test_a_planted_difference_is_found():
    outcome, _, b = overlapping_errors(1000, 7, repetitions=100, seed=4, spread=0.6)
    assert rejections(outcome**2, b**2, 7) > 0.8


def test_an_ordinary_t_test_rejects_far_too_often_with_overlapping_labels():
    _, a, b = overlapping_errors(1000, 30, repetitions=300, seed=3)
    p = stats.ttest_1samp(a**2 - b**2, 0.0, axis=0).pvalue
    assert (p < 0.05).mean() > 0.4


def test_the_statistic_equals_the_newey_west_regression_of_statsmodels_up_to_the_correction():
    rng = np.random.default_rng(0)
    a, b = np.cumsum(rng.normal(size=400)) ** 2 / 100, rng.exponential(size=400)
    result = diebold_mariano(a, b, 14)
    assert result.lags == math.ceil(3 * math.sqrt(400)) - 1 >= 14 - 1
    fit = sm.OLS(a - b, np.ones(400)).fit(cov_type="HAC", cov_kwds={"maxlags": result.lags})
    correction = math.sqrt((400 + 1 - 2 * 14 + 14 * 13 / 400) / 400)
    assert result.statistic == pytest.approx(fit.tvalues[0] * correction)
    assert result.mean_difference == pytest.approx(fit.params[0])
    assert result.standard_error == pytest.approx(fit.bse[0] / correction)


def test_the_long_run_variance_equals_a_slow_loop():
    x = np.random.default_rng(1).normal(size=50)
    d = x - x.mean()
    expected = sum(
        max(0.0, 1 - abs(i - j) / 12) * d[i] * d[j] / 50 for i in range(50) for j in range(50)
    )  # the kernel as a quadratic form
    assert long_run_variance(x, 12) == pytest.approx(expected)


@pytest.mark.parametrize("b", [0.02, 0.1, 0.3, 0.6, 1.0])
def test_the_fixed_b_p_value_agrees_with_the_published_critical_values(b):
    for probability, c in (
        (0.10, (1.6449, 2.1859, 0.3142, -0.3427)),
        (0.05, (1.9600, 2.9694, 0.4160, -0.5324)),
        (0.02, (2.3263, 4.1618, 0.5368, -0.9060)),
    ):
        critical = c[0] + c[1] * b + c[2] * b**2 + c[3] * b**3
        assert fixed_b_p_value(critical, b) == pytest.approx(probability, rel=0.07)


def test_the_fixed_b_p_value_agrees_with_simulated_random_walks():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4000, 300))
    t = np.array([row.mean() / math.sqrt(long_run_variance(row, 60) / 300) for row in x])
    for critical in (1.5, 2.5, 4.0):
        assert (abs(t) > critical).mean() == pytest.approx(fixed_b_p_value(critical, 0.2), abs=0.015)


def test_the_fixed_b_p_value_becomes_normal_for_a_small_bandwidth():
    assert fixed_b_p_value(1.96, 1e-4) == pytest.approx(0.05, abs=0.002)
    assert fixed_b_p_value(0.0, 0.3) == pytest.approx(1.0)
    assert fixed_b_p_value(math.inf, 0.3) == 0.0


def test_swapping_the_forecasts_changes_only_the_sign():
    rng = np.random.default_rng(2)
    a, b = rng.exponential(size=(2, 300))
    there, back = diebold_mariano(a, b, 7), diebold_mariano(b, a, 7)
    assert there.statistic == -back.statistic and there.p_value == back.p_value
    scaled = diebold_mariano(5 * a, 5 * b, 7)
    assert scaled.p_value == pytest.approx(there.p_value)
    assert scaled.mean_difference == pytest.approx(5 * there.mean_difference)


def test_the_same_forecast_is_no_different_from_itself():
    losses = np.random.default_rng(2).exponential(size=300)
    result = diebold_mariano(losses, losses, 7)
    assert result.statistic == 0.0 and result.p_value == pytest.approx(1.0)
    assert result.outcome() == "no different from"


def test_a_constant_difference_is_certain():
    result = diebold_mariano(np.zeros(100), np.ones(100), 1)
    assert result.statistic == -math.inf and result.p_value == 0.0 and result.outcome() == "better than"


def test_too_few_or_invalid_losses_are_refused():
    with pytest.raises(NotEnoughDataError, match="at least 60 forecasts"):
        diebold_mariano(np.ones(59), np.zeros(59), 30)
    assert diebold_mariano(np.arange(60.0), np.zeros(60), 30).p_value < 1
    with pytest.raises(ConfigError, match="one shape"):
        diebold_mariano(np.ones(59), np.zeros(60), 1)
    with pytest.raises(ConfigError, match="missing"):
        diebold_mariano([np.nan] * 60, np.zeros(60), 1)
    with pytest.raises(ConfigError, match="horizon of at least 1"):
        diebold_mariano(np.ones(60), np.zeros(60), 0)


@pytest.mark.parametrize(
    ("mean", "p", "words"),
    [(-0.1, 0.01, "better than"), (0.1, 0.0001, "worse than"), (-0.1, 0.05, "no different from")],
)
def test_the_verdict_is_a_plain_sentence(mean, p, words):
    sentence = verdict(DieboldMariano(10 * mean, p, mean, 0.1, 30, 59, 700))
    assert sentence.startswith(f"30 sessions ahead: {words} the random walk (Diebold-Mariano {10 * mean:.2f}, p ")
    assert ("p < 0.001" in sentence) == (p < 0.001)
    assert verdict(DieboldMariano(-2.0, p, mean, 0.1, 1, 59, 700), rival="drift").startswith("1 session ahead: ")


def test_the_bootstrap_equals_joining_blocks_one_by_one():
    rows = np.random.default_rng(0).normal(size=(25, 2))
    lower, upper = block_bootstrap(rows, block=10, samples=200, seed=7)
    means = []
    for starts in np.random.default_rng(7).integers(0, 25, (200, 3)):
        positions = np.concatenate([np.arange(s, s + length) for s, length in zip(starts, (10, 10, 5), strict=True)])
        means.append(rows[positions % 25].mean(axis=0))
    np.testing.assert_allclose(lower, np.quantile(means, 0.025, axis=0))
    np.testing.assert_allclose(upper, np.quantile(means, 0.975, axis=0))


def test_bootstrap_intervals_of_correlated_rows_need_blocks_longer_than_the_correlation():
    rng = np.random.default_rng(0)
    noise = np.cumsum(rng.normal(size=(1030, 100)), axis=0)
    series = noise[30:] - noise[:-30]  # MA(29) around 0
    covered = {}
    for block in (5, 60):
        lower, upper = block_bootstrap(series, block=block, samples=300)
        covered[block] = ((lower <= 0) & (upper >= 0)).mean()
    assert covered[60] > 0.82
    assert covered[5] < 0.65


def test_the_bootstrap_equals_that_of_arch():
    rows = np.random.default_rng(0).normal(size=(120, 2))
    reference = CircularBlockBootstrap(12, rows, seed=np.random.default_rng(3))
    expected = reference.conf_int(lambda sample: sample.mean(axis=0), reps=300, method="percentile")
    np.testing.assert_allclose(block_bootstrap(rows, block=12, samples=300, seed=3), expected)


def test_the_bootstrap_takes_a_function_of_means():
    rng = np.random.default_rng(0)
    losses = rng.exponential(size=(400, 2)) * [0.8, 1.0]
    lower, upper = block_bootstrap(losses, block=20, statistic=lambda mean: 1 - mean[..., 0] / mean[..., 1])
    assert lower.shape == ()
    assert lower < 1 - losses[:, 0].mean() / losses[:, 1].mean() < upper
    assert (
        block_bootstrap(losses, block=20, seed=1)[0].tolist() == block_bootstrap(losses, block=20, seed=1)[0].tolist()
    )


def test_a_bootstrap_without_two_blocks_is_refused():
    with pytest.raises(NotEnoughDataError, match="two blocks of 30"):
        block_bootstrap(np.zeros((59, 1)), block=30)
    with pytest.raises(ConfigError, match=r"\(n, k\)"):
        block_bootstrap(np.zeros(59), block=3)
