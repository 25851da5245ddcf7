import numpy as np
import pytest
import talib
from feature_oracles import assert_equal_to_definition, averages, bundled, computed, plain, price

from forecastlib.features import GROUPS


def slope(bars):
    days = np.arange(21) - 10
    return np.sum(days * bars.volume[-21:]) / np.sum(days**2)


def on_balance(window):
    def level(bars):
        return np.sum(np.sign(bars.changes[-window:]) * bars.volume[-window:])

    return (lambda bars: level(bars) / bars.volume[-window:].sum()), level


def accumulation(bars):
    return ((bars.close - bars.low) - (bars.high - bars.close)) / (bars.high - bars.low) * bars.volume


def chaikin_oscillator(bars):
    """Weigh each session's accumulation by what it adds to the fast mean of the line less to the slow one."""
    flow = accumulation(bars)
    return 9 / 2 * averages(flow, 10)[-1] - 2 / 2 * averages(flow, 3)[-1]


def money_flow_index(bars):
    flow, change = (bars.typical * bars.volume)[-14:], np.diff(bars.typical)[-14:]
    return 100 * flow[change > 0].sum() / (flow[change > 0].sum() + flow[change < 0].sum())


def force_index(bars):
    return averages(bars.returns * bars.volume[1:], 13)[-1] / averages(bars.volume, 13)[-1]


def vwap(window):
    return price(lambda b: np.average(b.typical[-window:], weights=b.volume[-window:]))


def amihud(bars):
    turnover = (bars.close * bars.volume)[-21:]
    traded = turnover > 0
    return np.sum(np.abs(bars.returns[-21:][traded]) / turnover[traded]) / 21


def z_score(values):
    return (values[-1] - values.mean()) / values.std()


ORACLES = {
    "volume": (
        lambda b: (b.volume[-1] - b.volume[-2]) / (b.volume[-1] + b.volume[-2]),
        lambda b: b.volume[-1],
    ),
    **{
        f"volume_mean_{w}": (lambda b, w=w: b.volume[-1] / b.volume[-w:].mean(), lambda b, w=w: b.volume[-w:].mean())
        for w in (5, 21, 63)
    },
    "volume_ratio_5_63": plain(lambda b: b.volume[-5:].mean() / b.volume[-63:].mean()),
    **{f"volume_z_{w}": plain(lambda b, w=w: z_score(b.volume[-w:])) for w in (21, 63)},
    "volume_variation_21": plain(lambda b: b.volume[-21:].std() / b.volume[-21:].mean()),
    "volume_rank_63": plain(lambda b: np.mean(b.volume[-63:-1] < b.volume[-1])),
    "volume_slope_21": (lambda b: slope(b) / b.volume[-21:].mean(), slope),
    **{f"obv_{w}": on_balance(w) for w in (21, 63)},
    **{
        f"chaikin_money_flow_{w}": plain(lambda b, w=w: accumulation(b)[-w:].sum() / b.volume[-w:].sum())
        for w in (21, 63)
    },
    "chaikin_oscillator": (lambda b: chaikin_oscillator(b) / averages(b.volume, 10)[-1], chaikin_oscillator),
    "mfi_14": plain(money_flow_index),
    "force_index_13": (force_index, lambda b: averages(b.changes * b.volume[1:], 13)[-1]),
    **{f"vwap_{w}": vwap(w) for w in (5, 21)},
    "return_volume_correlation_63": plain(lambda b: np.corrcoef(b.returns[-63:], b.volume[-63:])[0, 1]),
    "amihud_21": (lambda b: amihud(b) * (b.close * b.volume)[-21:].mean(), amihud),
    "volume_oscillator": plain(lambda b: averages(b.volume, 12)[-1] / averages(b.volume, 26)[-1] - 1),
}


def test_every_feature_of_the_group_has_a_slow_definition():
    assert list(ORACLES) == [feature.name for feature in GROUPS["volume"]]


@pytest.mark.parametrize("name", ORACLES)
def test_a_value_equals_its_slow_definition(name):
    assert_equal_to_definition(name, ORACLES[name])


@pytest.mark.parametrize(
    ("name", "indicator", "tolerance"),
    [
        ("mfi_14", lambda h, low, c, v: talib.MFI(h, low, c, v, 14), 1e-7),
        ("obv_21", lambda h, low, c, v: talib.MOM(talib.OBV(c, v), 21), 1.0),
        ("obv_63", lambda h, low, c, v: talib.MOM(talib.OBV(c, v), 63), 1.0),
        # TA-Lib's recursion looks back without limit; ours omits what is more than 4 spans old, 0.03 % of the weight.
        ("chaikin_oscillator", lambda h, low, c, v: talib.ADOSC(h, low, c, v, 3, 10), 5e6),
    ],
)
def test_standard_indicators_agree_with_talib_on_every_session(name, indicator, tolerance):
    prices = bundled("^IXIC")
    expected = indicator(*(prices[column].to_numpy() for column in ("high", "low", "close", "volume")))
    ours = computed("^IXIC", "level")[name]
    assert np.abs(expected[600:]).mean() > 100 * tolerance  # the tolerance is small against the values
    np.testing.assert_allclose(ours.iloc[600:], expected[600:], rtol=0, atol=tolerance)
