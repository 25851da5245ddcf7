import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forecastlib.errors import ConfigError
from forecastlib.samples.variance import (
    MIN_VOLATILITY,
    PREDICTOR_SESSIONS,
    SESSIONS_NEEDED,
    ewma_volatility,
    garman_klass,
    horizon_volatility,
    overnight,
    session_variance,
    volatility_predictors,
)


def make_prices(n: int = 600, seed: int = 0, volatility: float = 0.01, steps: int = 50) -> pd.DataFrame:
    """Prices whose bars summarise a finely sampled random walk, with a gap before each open."""
    rng = np.random.default_rng(seed)
    gaps = rng.normal(0, volatility * 0.5, n)
    inside = np.cumsum(rng.normal(0, volatility / math.sqrt(steps), (n, steps)), axis=1)
    start = 7.0 + np.concatenate([[0], np.cumsum(gaps[1:] + inside[:-1, -1])])
    paths = start[:, None] + np.concatenate([np.zeros((n, 1)), inside], axis=1)
    bars = np.exp(np.column_stack([paths[:, 0], paths.max(1), paths.min(1), paths[:, -1]]))
    index = pd.DatetimeIndex(pd.bdate_range("2001-01-02", periods=n), name="date").as_unit("us")
    frame = pd.DataFrame(bars, columns=["open", "high", "low", "close"], index=index)
    frame["volume"] = 1e6
    return frame


def test_garman_klass_equals_the_published_formula():
    prices = make_prices(5)
    expected = [
        0.5 * math.log(r.high / r.low) ** 2 - (2 * math.log(2) - 1) * math.log(r.close / r.open) ** 2
        for r in prices.itertuples()
    ]
    np.testing.assert_allclose(garman_klass(prices), expected, rtol=1e-12)


def test_session_variance_recovers_the_true_variance_of_a_random_walk():
    prices = make_prices(4000, steps=400)
    true = 0.01**2 * (1 + 0.25)
    # A walk sampled at 400 points has a slightly smaller range than a continuous one.
    assert session_variance(prices).mean() == pytest.approx(true, rel=0.08)
    squared_returns = np.diff(np.log(prices["close"])) ** 2
    assert session_variance(prices).std() < 0.6 * squared_returns.std()


@given(st.lists(st.floats(0.5, 2.0), min_size=4, max_size=4))
def test_garman_klass_is_never_negative_even_where_the_open_lies_outside_the_range(values):
    o, a, b, c = values
    prices = make_prices(1)
    prices[["open", "high", "low", "close"]] = [[o, max(a, b), min(a, b), c]]
    assert garman_klass(prices)[0] >= 0


def test_the_first_session_has_no_overnight_return():
    prices = make_prices(3)
    expected = [0.0, *(math.log(prices["open"].iloc[i] / prices["close"].iloc[i - 1]) ** 2 for i in (1, 2))]
    np.testing.assert_allclose(overnight(prices), expected, rtol=1e-12)


def test_ewma_volatility_equals_a_slow_loop():
    prices = make_prices(40)
    v = session_variance(prices)
    actual = ewma_volatility(prices, decay=0.9, window=15)
    for t in range(40):
        lags = range(min(15, t + 1))
        expected = math.sqrt(sum(0.9**k * v[t - k] for k in lags) / sum(0.9**k for k in lags))
        assert actual[t] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("rows", [SESSIONS_NEEDED, 300, 400, 401])
def test_the_newest_rows_are_enough_for_the_same_value_to_the_last_bit(rows):
    prices = make_prices(700)
    whole = ewma_volatility(prices)
    for end in (450, 500, 633, 700):
        assert ewma_volatility(prices.iloc[end - rows : end])[-1] == whole[end - 1]


def test_a_changed_future_changes_no_past_value():
    prices = make_prices(300)
    changed = prices.copy()
    changed.iloc[200:, :4] *= 3.0
    np.testing.assert_array_equal(ewma_volatility(changed)[:200], ewma_volatility(prices)[:200])
    assert (ewma_volatility(changed)[200:] != ewma_volatility(prices)[200:]).all()


def test_volatility_does_not_depend_on_the_price_level():
    prices = make_prices(100)
    scaled = prices.copy()
    scaled[["open", "high", "low", "close"]] *= 7.0
    np.testing.assert_allclose(ewma_volatility(scaled), ewma_volatility(prices), rtol=1e-10)


def test_constant_prices_have_the_minimum_volatility_and_not_zero():
    prices = make_prices(30)
    prices[["open", "high", "low", "close"]] = 100.0
    assert (ewma_volatility(prices) == MIN_VOLATILITY).all()


def test_horizon_volatility_grows_with_the_square_root_of_time():
    np.testing.assert_allclose(horizon_volatility([0.01, 0.02], (1, 4, 9)), [[0.01, 0.02, 0.03], [0.02, 0.04, 0.06]])


def test_settings_out_of_range_are_refused():
    prices = make_prices(30)
    with pytest.raises(ConfigError, match="decay"):
        ewma_volatility(prices, decay=0.0)
    with pytest.raises(ConfigError, match="window"):
        ewma_volatility(prices, window=0)


# Predictors of future volatility


def test_the_predictors_equal_a_slow_loop():
    prices = make_prices(300)
    variance, close = session_variance(prices), prices["close"].to_numpy()
    found = volatility_predictors(prices)
    for row in (0, 4, 21, 119, 120, 299):
        seen = [variance[max(0, row - span + 1) : row + 1].mean() for span in (1, 5, 22, 120)]
        falls = [
            min(math.log(close[row] / close[max(0, row - span)]), 0.0) / math.sqrt(span * seen[2])
            for span in (1, 5, 22)
        ]
        np.testing.assert_allclose(found[row], [1.0, *np.log(seen), *falls], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("rows", [PREDICTOR_SESSIONS, 200])
def test_the_newest_rows_are_enough_for_the_same_predictors_to_the_last_bit(rows):
    prices = make_prices(400)
    np.testing.assert_array_equal(volatility_predictors(prices)[-1], volatility_predictors(prices.iloc[-rows:])[-1])


def test_a_changed_future_changes_no_past_predictor():
    prices = make_prices(300)
    altered = prices.copy()
    altered.iloc[200:] *= 2.5
    np.testing.assert_array_equal(volatility_predictors(altered)[:200], volatility_predictors(prices)[:200])
