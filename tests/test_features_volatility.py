import numpy as np
import pandas as pd
import pytest
import talib
from feature_oracles import assert_equal_to_definition, averages, bundled, computed, plain, span, wilder

from forecastlib.data.prices import to_prices
from forecastlib.features import GROUPS, compute_features


def realised(bars, window):
    return np.sqrt(np.mean(bars.returns[-window:] ** 2))


def downside(bars, window):
    return np.sqrt(np.mean(np.minimum(bars.returns[-window:], 0) ** 2))


def parkinson(bars, window):
    return np.sqrt(np.mean(np.log(bars.high / bars.low)[-window:] ** 2) / (4 * np.log(2)))


def garman_klass(bars, window):
    ranges, body = np.log(bars.high / bars.low)[-window:], bars.intraday[-window:]
    intraday = 0.5 * ranges**2 - (2 * np.log(2) - 1) * body**2
    return np.sqrt(np.mean(bars.overnight[-window:] ** 2 + intraday))


def rogers_satchell_variance(bars, window):
    high, low, open_, close = (x[-window:] for x in (bars.high, bars.low, bars.open, bars.close))
    up, down = np.log(high / close) * np.log(high / open_), np.log(low / close) * np.log(low / open_)
    return np.mean(up + down)


def yang_zhang(bars, window):
    share = 0.34 / (1.34 + (window + 1) / (window - 1))
    night, day = np.var(bars.overnight[-window:], ddof=1), np.var(bars.intraday[-window:], ddof=1)
    return np.sqrt(night + share * day + (1 - share) * rogers_satchell_variance(bars, window))


def jumps(bars):
    absolute = np.abs(bars.returns[-21:])
    bipower = np.pi / 2 * 21 / 20 * np.sum(absolute[1:] * absolute[:-1])
    return 1 - bipower / np.sum(absolute**2)


def keltner(bars):
    return (bars.close[-1] - averages(bars.close, 20)[-1]) / wilder(bars.true_range, 14)[-1]


def bands(bars):
    middle, width = bars.close[-20:].mean(), 2 * bars.close[-20:].std()
    return middle - width, middle + width


def position(bars):
    lower, upper = bands(bars)
    return (bars.close[-1] - lower) / (upper - lower)


def mass(bars):
    once = averages(bars.high - bars.low, 9)
    twice = averages(once, 9)
    return np.sum((once[-len(twice) :] / twice)[-25:])


def share(part, other):
    return part / (part + other)


ORACLES = {
    **{f"volatility_{w}": plain(lambda b, w=w: realised(b, w)) for w in (5, 10, 21, 63, 126)},
    "riskmetrics": plain(lambda b: np.sqrt(averages(b.returns**2, 1.94 / 0.06)[-1])),
    **{f"downside_volatility_{w}": plain(lambda b, w=w: downside(b, w)) for w in (21, 63)},
    **{f"parkinson_{w}": plain(lambda b, w=w: parkinson(b, w)) for w in (10, 21)},
    **{f"garman_klass_{w}": plain(lambda b, w=w: garman_klass(b, w)) for w in (5, 21, 63)},
    "rogers_satchell_21": plain(lambda b: np.sqrt(rogers_satchell_variance(b, 21))),
    **{f"yang_zhang_{w}": plain(lambda b, w=w: yang_zhang(b, w)) for w in (21, 63)},
    "volatility_ratio_5_21": plain(lambda b: realised(b, 5) / realised(b, 21)),
    "volatility_ratio_21_63": plain(lambda b: realised(b, 21) / realised(b, 63)),
    "downside_share_63": plain(lambda b: downside(b, 63) ** 2 / realised(b, 63) ** 2),
    "range_share_21": plain(lambda b: share(parkinson(b, 21) ** 2, realised(b, 21) ** 2)),
    "overnight_share_21": plain(lambda b: share(np.sum(b.overnight[-21:] ** 2), np.sum(b.intraday[-21:] ** 2))),
    "jump_share_21": plain(jumps),
    "range_variation_21": plain(lambda b: np.log(b.high / b.low)[-21:].std() / np.log(b.high / b.low)[-21:].mean()),
    "true_range": span(lambda b: b.true_range[-1]),
    "atr_14": span(lambda b: wilder(b.true_range, 14)[-1]),
    "bollinger_width_20": span(lambda b: bands(b)[1] - bands(b)[0]),
    "bollinger_position_20": plain(position),
    "keltner_position_20": plain(keltner),
    "donchian_width_20": span(lambda b: b.high[-20:].max() - b.low[-20:].min()),
    "mass_index_25": plain(mass),
}


def test_every_feature_of_the_group_has_a_slow_definition():
    assert list(ORACLES) == [feature.name for feature in GROUPS["volatility"]]


@pytest.mark.parametrize("name", ORACLES)
def test_a_value_equals_its_slow_definition(name):
    assert_equal_to_definition(name, ORACLES[name])


@pytest.mark.parametrize(
    ("name", "indicator", "tolerance"),
    [
        ("true_range", lambda h, low, c: talib.TRANGE(h, low, c), 1e-12),
        ("bollinger_width_20", lambda h, low, c: 4 * talib.STDDEV(c, 20), 1e-6),
        ("donchian_width_20", lambda h, low, c: talib.MAX(h, 20) - talib.MIN(low, 20), 1e-12),
        # TA-Lib's recursion looks back without limit; ours omits what is more than 4 spans old, 0.03 % of the weight.
        ("atr_14", lambda h, low, c: talib.ATR(h, low, c, 14), 0.1),
    ],
)
def test_standard_indicators_agree_with_talib_on_every_session(name, indicator, tolerance):
    prices = bundled("^IXIC")
    expected = indicator(*(prices[column].to_numpy() for column in ("high", "low", "close")))
    ours = computed("^IXIC", "level")[name]
    np.testing.assert_allclose(ours.iloc[600:], expected[600:], rtol=0, atol=tolerance)


def test_estimators_recover_the_volatility_of_a_simulated_walk():
    # Twenty years at 1 % per session, 390 ticks per day and no overnight gap: every estimator must give about 1 %.
    random = np.random.default_rng(7)
    ticks = np.cumsum(random.normal(0, 0.01 / np.sqrt(390), size=5000 * 390)).reshape(5000, 390)
    bars = np.exp(ticks)
    opens = np.concatenate([[1.0], bars[:-1, -1]])
    frame = pd.DataFrame(
        {
            "open": opens,
            "high": np.maximum(bars.max(axis=1), opens),
            "low": np.minimum(bars.min(axis=1), opens),
            "close": bars[:, -1],
            "volume": 1e6,
        },
        index=pd.bdate_range("1990-01-01", periods=5000),
    )
    features = compute_features(to_prices(frame, "WALK")).iloc[252:]
    names = ["volatility_63", "riskmetrics", "parkinson_21", "garman_klass_63", "rogers_satchell_21", "yang_zhang_63"]
    variances = (features[names] ** 2).mean()
    # The range over 390 ticks misses a little of the walk between them.
    np.testing.assert_allclose(np.sqrt(variances), 0.01, rtol=0.06)
