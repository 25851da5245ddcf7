import dataclasses
import math

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from arch import arch_model

from forecastlib.config import RunConfig, WindowConfig
from forecastlib.errors import ConfigError, DataQualityError, NotEnoughDataError, NotFittedError
from forecastlib.models import create
from forecastlib.models.distribution import quantiles_of_samples
from forecastlib.models.volatility import Ewma, Garch, GjrGarch, VarianceRecursion
from forecastlib.samples.splits import holdout
from forecastlib.samples.variance import session_variance
from forecastlib.samples.windows import Windows, make_windows, pool_windows

HORIZONS = (2, 5, 10)
NAMES = ("ewma", "garch_t", "gjr_skewt", "har")
SEEDED = RunConfig.from_parameters(seed=1)
TRUE = VarianceRecursion(mean=0.0003, constant=1.5e-6, reaction=0.03, asymmetry=0.08, persistence=0.91)


def garch_prices(n: int = 2500, seed: int = 0, symbol: str = "TEST") -> pd.DataFrame:
    """Prices with GJR-GARCH returns and t shocks, and bars whose range shows the session's volatility."""
    rng = np.random.default_rng(seed)
    shocks = rng.standard_t(6, n) * math.sqrt(4 / 6)
    returns, variances = np.empty(n), np.empty(n)
    variance = 1e-4
    for t in range(n):
        variances[t] = variance
        shock = math.sqrt(variance) * shocks[t]
        returns[t] = TRUE.mean + shock
        variance = (
            TRUE.constant + (TRUE.reaction + TRUE.asymmetry * (shock < 0)) * shock**2 + TRUE.persistence * variance
        )
    close = 100 * np.exp(np.cumsum(returns))
    open_ = np.concatenate([[100.0], close[:-1]])
    reach = np.sqrt(variances) * rng.uniform(0.1, 0.9, n)
    index = pd.DatetimeIndex(pd.bdate_range("2001-01-02", periods=n), name="date").as_unit("us")
    frame = pd.DataFrame(
        {
            "open": open_,
            "high": np.maximum(open_, close) * np.exp(reach),
            "low": np.minimum(open_, close) * np.exp(-reach),
            "close": close,
            "volume": 1e6,
        },
        index=index,
    )
    frame.attrs = {"symbol": symbol}
    return frame


def samples_of(prices: pd.DataFrame) -> tuple[Windows, Windows, Windows]:
    features = pd.DataFrame({"nothing": 0.0}, index=prices.index)
    windows = make_windows(prices, features, WindowConfig(lookback=30, horizons=HORIZONS))
    return tuple(windows.take(index) for index in holdout(windows).sets().values())


@pytest.fixture(scope="module")
def prices() -> pd.DataFrame:
    return garch_prices()


@pytest.fixture(scope="module")
def parts(prices):
    return samples_of(prices)


@pytest.fixture(scope="module")
def fitted(prices, parts):
    train, validation, _ = parts
    return {name: create(name, SEEDED).fit(train, validation) for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_intervals_have_about_their_nominal_coverage(name, prices, parts, fitted):
    test = parts[2]
    distribution = fitted[name].predict(test)
    for coverage in (0.80, 0.95):
        lower, upper = distribution.interval(coverage)
        assert ((test.y >= lower) & (test.y <= upper)).mean() == pytest.approx(coverage, abs=0.07)


@pytest.mark.parametrize("name", NAMES)
def test_intervals_are_wider_where_volatility_is_higher_and_for_longer_horizons(name, prices, parts, fitted):
    test = parts[2]
    lower, upper = fitted[name].predict(test).interval(0.80)
    width = upper - lower
    assert (np.diff(width, axis=1) > 0).all()
    assert np.corrcoef(np.log(width[:, 0]), np.log(test.volatility))[0, 1] > 0.7


@pytest.mark.parametrize("name", NAMES)
def test_a_forecast_does_not_change_with_later_data(name, prices, parts, fitted):
    test = parts[2]
    later = prices.copy()
    row = prices.index.get_loc(test.origins[100])
    later.iloc[row + 1 :, :4] *= np.linspace(1.5, 3.0, len(prices) - row - 1)[:, None]
    altered = dataclasses.replace(test.without_labels(), prices=(later,))
    quantiles, changed = (fitted[name].predict(samples).quantiles for samples in (test, altered))
    np.testing.assert_array_equal(changed[:101], quantiles[:101])
    assert (changed[101] != quantiles[101]).any()


@pytest.mark.parametrize("name", NAMES)
def test_fitting_looks_at_no_price_after_the_last_validation_label(name, prices, parts, fitted):
    train, validation, test = parts
    altered = prices.copy()
    altered.loc[altered.index > validation.label_dates.max(), ["open", "high", "low", "close"]] *= 9.0
    sets = [dataclasses.replace(samples, prices=(altered,)) for samples in (train, validation)]
    other = create(name, SEEDED).fit(*sets)
    np.testing.assert_array_equal(other.predict(test).quantiles, fitted[name].predict(test).quantiles)


def test_the_variance_recursion_equals_a_slow_loop():
    returns = np.random.default_rng(0).normal(0, 0.01, 50)
    variance = 2e-4
    actual = TRUE.next_variance(returns, 2e-4)
    for t, value in enumerate(returns):
        shock = value - TRUE.mean
        reaction = TRUE.reaction + (TRUE.asymmetry if shock < 0 else 0.0)
        variance = TRUE.constant + reaction * shock**2 + TRUE.persistence * variance
        assert actual[t] == pytest.approx(variance, rel=1e-12)


def test_the_filtered_variance_equals_that_of_arch_with_the_same_parameters(prices, parts, fitted):
    recursion, start, _, _ = fitted["gjr_skewt"]._fitted["TEST"]
    returns = np.diff(np.log(prices["close"].to_numpy()))
    model = arch_model(100 * returns, mean="Constant", vol="GARCH", o=1, rescale=False)
    r = recursion
    fixed = model.fix([100 * r.mean, 1e4 * r.constant, r.reaction, r.asymmetry, r.persistence])
    # Each starts from a different variance, whose influence fades after some hundred sessions.
    ours = np.sqrt(recursion.next_variance(returns, start))[499:-1]
    np.testing.assert_allclose(ours, fixed.conditional_volatility[500:] / 100, rtol=1e-6)


def test_maximum_likelihood_recovers_the_parameters_of_simulated_returns():
    long = garch_prices(6000, seed=3)
    train, validation, _ = samples_of(long)
    recursion = GjrGarch().fit(train, validation)._fitted["TEST"][0]
    assert recursion.persistence == pytest.approx(TRUE.persistence, abs=0.03)
    assert recursion.reaction + recursion.asymmetry / 2 == pytest.approx(0.07, abs=0.02)
    assert recursion.asymmetry > 0.04
    assert Garch().fit(train, validation)._fitted["TEST"][0].asymmetry == 0.0
    ewma = Ewma().fit(train, validation)._fitted["TEST"][0]
    assert ewma == VarianceRecursion(0.0, 0.0, pytest.approx(0.06), 0.0, 0.94)


def test_simulated_sums_equal_a_slow_loop():
    shocks = np.random.default_rng(0).normal(size=(5, 4))
    sums = TRUE.simulate(np.array([1e-4, 9e-4]), shocks, (2, 5))
    for g, first in enumerate((1e-4, 9e-4)):
        for path in range(4):
            variance, total, expected = first, 0.0, []
            for session in range(5):
                shock = math.sqrt(variance) * shocks[session, path]
                total += TRUE.mean + shock
                reaction = TRUE.reaction + (TRUE.asymmetry if shock < 0 else 0.0)
                variance = TRUE.constant + reaction * shock**2 + TRUE.persistence * variance
                if session + 1 in (2, 5):
                    expected.append(total)
            np.testing.assert_allclose(sums[g, :, path], expected, rtol=1e-12)


def test_reading_distributions_off_the_grid_equals_simulating_every_origin(prices, parts, fitted):
    model = fitted["gjr_skewt"]
    test = parts[2].take(range(0, 300, 30))
    recursion, start, _, _ = model._fitted["TEST"]
    returns = np.diff(np.log(prices["close"].to_numpy()))
    variance = np.concatenate([[start], recursion.next_variance(returns, start)])
    known = returns[: prices.index.get_loc(parts[1].label_dates.max())]
    past = np.concatenate([[start], recursion.next_variance(known, start)])[:-1]
    shocks = model._draw((known - recursion.mean) / np.sqrt(past), HORIZONS[-1])
    at_origins = variance[prices.index.get_indexer(test.origins)]
    simulated = quantiles_of_samples(recursion.simulate(at_origins, shocks, HORIZONS))
    read = model.predict(test).quantiles
    scale = np.sqrt(at_origins[:, None, None] * np.array(HORIZONS)[:, None])
    assert (abs(read - simulated) / scale).max() < 0.01


def test_simulated_shocks_are_drawn_evenly_from_the_past_ones(fitted):
    past = np.random.default_rng(0).standard_t(4, 800)
    drawn = fitted["ewma"]._draw(past, 6)
    np.testing.assert_allclose(np.sort(drawn[0]), np.sort(drawn[5]))
    assert (drawn[0] != drawn[5]).mean() > 0.9
    np.testing.assert_allclose(drawn.mean(axis=1), past.mean(), atol=0.02)
    assert abs(np.corrcoef(drawn[0], drawn[1])[0, 1]) < 0.05


def test_the_har_regression_equals_that_of_statsmodels(prices, parts, fitted):
    known = prices.loc[: parts[1].label_dates.max()]
    v = session_variance(known)
    rows = range(21, len(known) - 5)
    ahead = [math.log(np.mean(v[t + 1 : t + 6])) for t in rows]
    past = [[math.log(v[t]), math.log(np.mean(v[t - 4 : t + 1])), math.log(np.mean(v[t - 21 : t + 1]))] for t in rows]
    expected = sm.OLS(ahead, sm.add_constant(np.array(past))).fit().params
    np.testing.assert_allclose(fitted["har"]._fitted["TEST"][0][1], expected, rtol=1e-6)


def test_the_same_seed_gives_the_same_distributions(prices, parts):
    train, validation, test = parts
    first, second, other = (
        Ewma(RunConfig.from_parameters(seed=seed)).fit(train, validation).predict(test).quantiles for seed in (4, 4, 5)
    )
    np.testing.assert_array_equal(first, second)
    assert (first != other).any()


@pytest.mark.parametrize("name", NAMES)
def test_input_that_a_volatility_model_cannot_use_is_refused(name, prices, parts):
    train, validation, test = parts
    model = create(name)
    with pytest.raises(NotFittedError, match="call fit"):
        model.predict(test)
    newest = validation.take([len(validation) - 1])
    short = prices.loc[: validation.label_dates.max()].iloc[-249:]
    with pytest.raises(NotEnoughDataError, match="at least 250 sessions"):
        model.fit(train, dataclasses.replace(newest, prices=(short,)))
    model.fit(train, validation)
    with pytest.raises(DataQualityError, match="the prices of TEST that the samples were made of"):
        model.predict(dataclasses.replace(test, prices=(prices.drop(test.origins[3]),)))
    with pytest.raises(ConfigError, match=r"fitted to \(TEST\); got OTHER"):
        model.predict(samples_of(garch_prices(600, symbol="OTHER"))[2])


def test_each_symbol_of_a_pool_is_fitted_and_forecast_as_if_it_were_the_only_one(prices, parts, fitted):
    other = samples_of(garch_prices(2500, seed=5, symbol="OTHER"))
    pooled = [pool_windows(pair) for pair in zip(parts, other, strict=True)]
    model = create("har").fit(*pooled[:2])
    n = len(parts[2])
    np.testing.assert_array_equal(model.predict(pooled[2]).quantiles[:n], fitted["har"].predict(parts[2]).quantiles)


def test_a_symbol_with_constant_volatility_gets_intervals_of_constant_width():
    quiet = garch_prices(1500, seed=8)
    returns = np.random.default_rng(0).normal(0, 0.01, len(quiet))
    quiet["close"] = 100 * np.exp(np.cumsum(returns))
    quiet[["open", "high", "low"]] = quiet[["close", "close", "close"]].to_numpy()
    train, validation, test = samples_of(quiet)
    lower, upper = Garch().fit(train, validation).predict(test).interval(0.80)
    np.testing.assert_allclose((upper - lower)[:, 0], 2 * 1.2816 * 0.01 * math.sqrt(2), rtol=0.2)
