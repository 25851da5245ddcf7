import numpy as np
import pytest
import talib
from feature_oracles import (
    assert_equal_to_definition,
    averages,
    bundled,
    computed,
    linear_means,
    plain,
    price,
    span,
    wilder,
)

from forecastlib.features import GROUPS


def movement(bars):
    rise, fall = np.diff(bars.high), -np.diff(bars.low)
    return np.where((rise > fall) & (rise > 0), rise, 0.0), np.where((fall > rise) & (fall > 0), fall, 0.0)


def indicators(bars):
    plus, minus = movement(bars)
    ranges = wilder(bars.true_range, 14)
    return 100 * wilder(plus, 14) / ranges, 100 * wilder(minus, 14) / ranges


def adx(bars):
    plus, minus = indicators(bars)
    return wilder(100 * np.abs(plus - minus) / (plus + minus), 14)[-1]


def hull(bars):
    slow = linear_means(bars.close, 20)
    fast = linear_means(bars.close, 10)[-len(slow) :]
    return linear_means(2 * fast - slow, 4)[-1]


def repeated(values, span, times):
    for _ in range(times):
        values = averages(values, span)
    return values


def macd(bars):
    slow = averages(bars.close, 26)
    return averages(bars.close, 12)[-len(slow) :] - slow


def trix(bars):
    smooth = repeated(bars.close, 15, 3)
    return smooth[-1] / smooth[-2] - 1


def vortex(bars):
    plus, minus = np.abs(bars.high[1:] - bars.low[:-1]), np.abs(bars.low[1:] - bars.high[:-1])
    return (plus[-14:].sum() - minus[-14:].sum()) / bars.true_range[-14:].sum()


def sessions_since(values, newest_of):
    """Count the sessions since the extreme of 26, the newest one where it occurs twice."""
    return newest_of(values[-26:][::-1])


def line(bars, window):
    return np.polynomial.Polynomial.fit(np.arange(window), bars.close[-window:], 1).convert()


def r_squared(bars, window):
    return np.corrcoef(np.arange(window), bars.close[-window:])[0, 1] ** 2


def middle(window):
    return price(lambda b: (b.high[-window:].max() + b.low[-window:].min()) / 2)


ORACLES = {
    **{f"sma_{w}": price(lambda b, w=w: b.close[-w:].mean()) for w in (5, 10, 20, 50, 100, 200)},
    **{f"ema_{s}": price(lambda b, s=s: averages(b.close, s)[-1]) for s in (5, 10, 20, 50)},
    "wma_20": price(lambda b: linear_means(b.close, 20)[-1]),
    "hma_20": price(hull),
    "dema_20": price(lambda b: 2 * averages(b.close, 20)[-1] - repeated(b.close, 20, 2)[-1]),
    "tema_20": price(
        lambda b: 3 * averages(b.close, 20)[-1] - 3 * repeated(b.close, 20, 2)[-1] + repeated(b.close, 20, 3)[-1]
    ),
    "fit_20": price(lambda b: line(b, 20)(19)),
    "slope_20": span(lambda b: line(b, 20).coef[1]),
    "slope_63": span(lambda b: line(b, 63).coef[1]),
    "r_squared_20": plain(lambda b: r_squared(b, 20)),
    "r_squared_63": plain(lambda b: r_squared(b, 63)),
    "macd": span(lambda b: macd(b)[-1]),
    "macd_signal": span(lambda b: averages(macd(b), 9)[-1]),
    "macd_histogram": span(lambda b: macd(b)[-1] - averages(macd(b), 9)[-1]),
    "adx_14": plain(adx),
    "plus_di_14": plain(lambda b: indicators(b)[0][-1]),
    "minus_di_14": plain(lambda b: indicators(b)[1][-1]),
    "aroon_up_25": plain(lambda b: 100 * (25 - sessions_since(b.high, np.argmax)) / 25),
    "aroon_down_25": plain(lambda b: 100 * (25 - sessions_since(b.low, np.argmin)) / 25),
    "vortex_14": plain(vortex),
    "trix_15": plain(trix),
    **{f"midprice_{w}": middle(w) for w in (9, 26, 52)},
}


def test_every_feature_of_the_group_has_a_slow_definition():
    assert list(ORACLES) == [feature.name for feature in GROUPS["trend"]]


@pytest.mark.parametrize("name", ORACLES)
def test_a_value_equals_its_slow_definition(name):
    assert_equal_to_definition(name, ORACLES[name])


@pytest.mark.parametrize(
    ("name", "indicator"),
    [
        *((f"sma_{w}", lambda o, h, low, c, w=w: talib.SMA(c, w)) for w in (5, 10, 20, 50, 100, 200)),
        ("wma_20", lambda o, h, low, c: talib.WMA(c, 20)),
        ("fit_20", lambda o, h, low, c: talib.LINEARREG(c, 20)),
        ("slope_20", lambda o, h, low, c: talib.LINEARREG_SLOPE(c, 20)),
        ("slope_63", lambda o, h, low, c: talib.LINEARREG_SLOPE(c, 63)),
        ("aroon_up_25", lambda o, h, low, c: talib.AROON(h, low, 25)[1]),
        ("aroon_down_25", lambda o, h, low, c: talib.AROON(h, low, 25)[0]),
        *((f"midprice_{w}", lambda o, h, low, c, w=w: talib.MIDPRICE(h, low, w)) for w in (9, 26, 52)),
    ],
)
def test_windowed_indicators_agree_with_talib_on_every_session(name, indicator):
    prices = bundled("^IXIC")
    expected = indicator(*(prices[column].to_numpy() for column in ("open", "high", "low", "close")))
    np.testing.assert_allclose(computed("^IXIC", "level")[name].iloc[252:], expected[252:], rtol=1e-9, atol=1e-8)


@pytest.mark.parametrize(
    ("name", "indicator", "tolerance"),
    [
        # Ours omit what is more than 4 spans old, 0.03 % of the weight; TA-Lib's recursions look back without limit.
        *((f"ema_{s}", lambda h, low, c, s=s: talib.EMA(c, s), 5e-4) for s in (5, 10, 20, 50)),
        ("dema_20", lambda h, low, c: talib.DEMA(c, 20), 1e-3),
        ("tema_20", lambda h, low, c: talib.TEMA(c, 20), 2e-3),
        ("macd", lambda h, low, c: talib.MACD(c)[0] / c * 100, 0.05),
        ("macd_signal", lambda h, low, c: talib.MACD(c)[1] / c * 100, 0.05),
        ("macd_histogram", lambda h, low, c: talib.MACD(c)[2] / c * 100, 0.05),
        ("adx_14", lambda h, low, c: talib.ADX(h, low, c, 14), 0.2),
        ("plus_di_14", lambda h, low, c: talib.PLUS_DI(h, low, c, 14), 0.2),
        ("minus_di_14", lambda h, low, c: talib.MINUS_DI(h, low, c, 14), 0.2),
        ("trix_15", lambda h, low, c: talib.TRIX(c, 15), 0.01),
    ],
)
def test_averages_of_bounded_memory_stay_close_to_talibs_unbounded_ones(name, indicator, tolerance):
    prices = bundled("^IXIC")
    expected = indicator(*(prices[column].to_numpy() for column in ("high", "low", "close")))[600:]
    form, scale = ("relative", 100) if name.startswith(("macd", "trix")) else ("level", 1)
    ours = computed("^IXIC", form)[name].to_numpy()[600:] * scale
    unit = expected if name.endswith(("ema_5", "ema_10", "ema_20", "ema_50")) else 1.0
    assert np.abs((ours - expected) / unit).max() < tolerance
