import numpy as np
import pandas as pd
import pytest
import talib
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import stats

from forecastlib.features.rolling import (
    Rolling,
    change,
    correlation,
    lag,
    memory,
    ratio,
    sign,
    split_window,
    without_rounding,
)

WINDOWS = (2, 3, 5, 7, 14, 20, 21, 23, 59, 63, 104, 117, 126)


def deepest_ratio(values):
    return min(value / values[: i + 1].max() for i, value in enumerate(values))


def exponential(values, span):
    return pd.Series(values).ewm(span=span).mean().iloc[-1]


DEFINITIONS = {
    "sum": np.sum,
    "mean": np.mean,
    "maximum": np.max,
    "minimum": np.min,
    "linear_mean": lambda x: np.average(x, weights=np.arange(1, len(x) + 1)),
    "variance": np.var,
    "deviation": np.std,
    "z_score": lambda x: (x[-1] - x.mean()) / x.std(),
    "skewness": stats.skew,
    "kurtosis": stats.kurtosis,
    "slope": lambda x: stats.linregress(np.arange(len(x)), x).slope,
    "r_squared": lambda x: stats.linregress(np.arange(len(x)), x).rvalue ** 2,
    "worst_ratio": deepest_ratio,
    "rank": lambda x: np.mean(x[:-1] < x[-1]),
}


@pytest.fixture(scope="module")
def walk():
    return 100.0 + np.cumsum(np.random.default_rng(3).standard_t(4, size=400))


@pytest.mark.parametrize("name", DEFINITIONS)
@pytest.mark.parametrize("window", WINDOWS)
def test_a_rolling_value_is_the_definition_applied_to_its_window(walk, name, window):
    rolled = getattr(Rolling(walk), name)(window)
    assert np.isnan(rolled[: window - 1]).all()
    for last in (window - 1, window, 200, 399):
        expected = DEFINITIONS[name](walk[last - window + 1 : last + 1])
        assert rolled[last] == pytest.approx(expected, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("span", [3, 5, 12, 27, 97 / 3])
def test_an_exponential_mean_equals_that_of_pandas_on_a_window_of_its_memory(walk, span):
    averaged = Rolling(walk).exponential_mean(span)
    window = memory(span)
    assert np.isnan(averaged[: window - 1]).all()
    for last in (window - 1, 250, 399):
        assert averaged[last] == pytest.approx(exponential(walk[last - window + 1 : last + 1], span), rel=1e-12)


def test_the_weights_of_wilders_mean_decay_by_one_over_the_period_per_row(walk):
    averaged = Rolling(walk).wilder_mean(14)
    weights = (13 / 14) ** np.arange(memory(27))[::-1]
    assert averaged[-1] == pytest.approx(np.average(walk[-len(weights) :], weights=weights), rel=1e-12)


@pytest.mark.parametrize("delay", [0, 1, 5])
def test_correlation_is_pearsons_of_x_and_lagged_y(walk, delay):
    x, y = np.diff(walk), np.abs(np.diff(walk))
    rolled = correlation(Rolling(x), Rolling(y), 63, delay=delay)
    assert np.isnan(rolled[: 62 + delay]).all()
    for last in (62 + delay, 200, 398):
        expected = np.corrcoef(x[last - 62 : last + 1], y[last - 62 - delay : last + 1 - delay])[0, 1]
        assert rolled[last] == pytest.approx(expected, rel=1e-10)


@settings(deadline=None, max_examples=60)
@given(
    values=arrays.arrays(np.float64, 60, elements=st.floats(0.01, 1e6)),
    window=st.integers(2, 40),
    data=st.data(),
)
@pytest.mark.parametrize("name", DEFINITIONS)
def test_a_window_of_the_same_content_gives_the_same_bits_in_any_history(name, values, window, data):
    start = data.draw(st.integers(0, 60 - window), label="start")
    stop = data.draw(st.integers(start + window, 60), label="stop")
    whole = getattr(Rolling(values), name)(window)
    part = getattr(Rolling(values[start:stop].copy()), name)(window)
    np.testing.assert_array_equal(part[window - 1 :], whole[start + window - 1 : stop])


def test_the_running_sums_of_talib_do_not_have_that_property():
    """The reason for merging windows in a fixed order: the same 20 closes, a different last bit."""
    walk = 100.0 + np.cumsum(np.random.default_rng(3).normal(size=400))
    assert (talib.SMA(walk[100:], 20)[19:] != talib.SMA(walk, 20)[119:]).any()
    assert (talib.RSI(walk[100:], 14)[250:] != talib.RSI(walk, 14)[350:]).any()


@given(level=st.floats(1e-6, 1e9), window=st.integers(2, 126))
def test_equal_values_have_no_spread_at_all(level, window):
    still = Rolling(np.full(126, level))
    for name in ("variance", "z_score", "skewness", "kurtosis", "r_squared"):
        assert (getattr(still, name)(window)[window - 1 :] == 0.0).all(), name


def test_moments_do_not_suffer_from_a_high_level():
    """Sums of powers would lose a spread of 0.01 at a level of one million."""
    random = np.random.default_rng(5)
    small = random.normal(0, 0.01, 200)
    high = Rolling(1e6 + small)
    centred = high.values - 1e6  # the precision of small values that a double has at this level
    for name in ("deviation", "skewness", "kurtosis"):
        expected = getattr(Rolling(centred), name)(63)
        np.testing.assert_allclose(getattr(high, name)(63)[62:], expected[62:], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", DEFINITIONS)
def test_leading_nan_propagate(walk, name):
    late = walk.copy()
    late[:10] = np.nan
    rolled = getattr(Rolling(late), name)(21)
    assert np.isnan(rolled[:30]).all()
    np.testing.assert_array_equal(rolled[30:], getattr(Rolling(walk[10:].copy()), name)(21)[20:])


@given(st.integers(2, 2000))
def test_a_window_is_split_into_two_shorter_ones(window):
    earlier, later = split_window(window)
    assert earlier + later == window
    assert earlier >= later >= 1


def test_rolling_does_not_change_its_input(walk):
    original = walk.copy()
    series = Rolling(walk)
    for name in DEFINITIONS:
        for window in WINDOWS:
            getattr(series, name)(window)
    series.exponential_mean(12)
    np.testing.assert_array_equal(walk, original)


def test_ranks_of_more_than_128_rows_raise_because_they_are_counted_in_8_bits():
    rising = Rolling(np.arange(200.0))
    assert (rising.rank(128)[127:] == 1.0).all()
    with pytest.raises(ValueError, match="at most 128"):
        rising.rank(129)


def test_lag_change_ratio_sign_and_rounding_at_the_edges():
    nan = np.nan
    np.testing.assert_array_equal(lag(np.array([1.0, 2.0, 3.0]), 2), [nan, nan, 1.0])
    np.testing.assert_array_equal(lag(np.array([1.0, 2.0]), 0), [1.0, 2.0])
    np.testing.assert_array_equal(change(np.array([1.0, 2.0, 5.0]), 2), [nan, nan, 4.0])
    np.testing.assert_array_equal(change(np.array([1.0, 2.0]), 0), [0.0, 0.0])
    numerator, denominator = np.array([1.0, 0.0, 3.0, nan, 1.0]), np.array([2.0, 0.0, 0.0, 1.0, nan])
    np.testing.assert_array_equal(ratio(numerator, denominator, 7.0), [0.5, 7.0, 7.0, nan, nan])
    np.testing.assert_array_equal(sign(np.array([-2.0, 1e-12, 0.0, 0.1, nan]), np.ones(5)), [-1.0, 0.0, 0.0, 1.0, nan])
    np.testing.assert_array_equal(without_rounding(np.array([1e-14, 1e-6, nan]), 1.0), [0.0, 1e-6, nan])
