import numpy as np
import pandas as pd
import pytest
from feature_oracles import assert_equal_to_definition, plain
from scipy import stats

from forecastlib.config import FeatureConfig
from forecastlib.data.prices import to_prices
from forecastlib.features import GROUPS, compute_features


def lagged_correlation(later, earlier, delay, window=63):
    return np.corrcoef(later[-window:], earlier[-window - delay : -delay])[0, 1]


def variance_ratio(bars, sessions, window):
    closes = np.log(bars.close[-window - 1 :])
    return np.var(closes[sessions:] - closes[:-sessions]) / (sessions * np.var(np.diff(closes)))


def hurst(bars):
    closes = np.log(bars.close)
    long, short = (np.mean(np.abs(closes[step:] - closes[:-step])[-126:]) for step in (16, 1))
    return np.log(long / short) / np.log(16)


def z_score(values):
    return (values[-1] - values.mean()) / values.std()


def deepest_fall(bars):
    closes = bars.close[-126:]
    return min(later / closes[: i + 1].max() - 1 for i, later in enumerate(closes))


ORACLES = {
    **{f"skewness_{w}": plain(lambda b, w=w: stats.skew(b.returns[-w:])) for w in (21, 63, 126)},
    **{f"kurtosis_{w}": plain(lambda b, w=w: stats.kurtosis(b.returns[-w:])) for w in (21, 63, 126)},
    **{
        f"autocorrelation_{delay}_63": plain(lambda b, delay=delay: lagged_correlation(b.returns, b.returns, delay))
        for delay in (1, 5)
    },
    "volatility_clustering_63": plain(lambda b: lagged_correlation(np.abs(b.returns), np.abs(b.returns), 1)),
    "leverage_63": plain(lambda b: lagged_correlation(np.abs(b.returns), b.returns, 1)),
    "variance_ratio_5_63": plain(lambda b: variance_ratio(b, 5, 63)),
    "variance_ratio_10_126": plain(lambda b: variance_ratio(b, 10, 126)),
    "hurst_126": plain(hurst),
    **{f"z_{w}": plain(lambda b, w=w: z_score(b.close[-w:])) for w in (63, 126, 252)},
    "return_rank_63": plain(lambda b: np.mean(b.returns[-63:-1] < b.returns[-1])),
    "close_rank_126": plain(lambda b: np.mean(b.close[-126:-1] < b.close[-1])),
    "drawdown_252": plain(lambda b: b.close[-1] / b.close[-252:].max() - 1),
    "rebound_252": plain(lambda b: b.close[-1] / b.close[-252:].min() - 1),
    "max_drawdown_126": plain(deepest_fall),
    "max_return_21": plain(lambda b: b.returns[-21:].max()),
}


def test_every_feature_of_the_group_has_a_slow_definition():
    assert list(ORACLES) == [feature.name for feature in GROUPS["statistics"]]


@pytest.mark.parametrize("name", ORACLES)
def test_a_value_equals_its_slow_definition(name):
    assert_equal_to_definition(name, ORACLES[name])


def test_measures_of_memory_have_the_values_of_a_random_walk_on_one():
    random = np.random.default_rng(11)
    close = 100 * np.exp(np.cumsum(random.normal(0, 0.01, 20_000)))
    frame = pd.DataFrame({"open": close, "high": close, "low": close, "close": close, "volume": 1.0})
    prices = to_prices(frame.set_axis(pd.bdate_range("1940-01-01", periods=len(close))), "WALK")
    features = compute_features(prices, FeatureConfig(groups=("statistics",))).dropna()
    for name, expected in {
        "variance_ratio_5_63": 0.94,  # below 1 by (1 - 5/63): overlapping returns around the window's own mean
        "variance_ratio_10_126": 0.94,
        "hurst_126": 0.5,
        "autocorrelation_1_63": 0.0,
        "volatility_clustering_63": 0.0,
        "leverage_63": 0.0,
        "skewness_126": 0.0,
        "kurtosis_126": 0.0,
    }.items():
        assert features[name].mean() == pytest.approx(expected, abs=0.05), name
