import numpy as np
import pytest
import talib
from feature_oracles import (
    assert_equal_to_definition,
    averages,
    bundled,
    computed,
    linear_means,
    means,
    plain,
    span,
    wilder,
)

from forecastlib.features import GROUPS


def change(newest, oldest):
    """Expect the change between two sessions, both counted back from the last."""
    return (
        lambda b: np.log(b.close[-1 - newest] / b.close[-1 - oldest]),
        lambda b: b.close[-1 - newest] - b.close[-1 - oldest],
    )


def acceleration(newer, older):
    return tuple(lambda b, n=n, o=o: n(b) - o(b) for n, o in zip(newer, older, strict=True))


def over_volatility(bars, window):
    returns = bars.returns[-window:]
    return returns.sum() / np.sqrt(np.sum(returns**2))


def rsi(bars, period):
    gains, losses = np.maximum(bars.changes, 0), np.maximum(-bars.changes, 0)
    strength = wilder(gains, period) / wilder(losses, period)
    return 100 - 100 / (1 + strength)


def stochastic_rsi(bars):
    recent = rsi(bars, 14)[-14:]
    return (recent[-1] - recent.min()) / (recent.max() - recent.min())


def fast_stochastic(bars):
    places = []
    for last in range(14, len(bars.close) + 1):
        lowest, highest = bars.low[last - 14 : last].min(), bars.high[last - 14 : last].max()
        places.append(100 * (bars.close[last - 1] - lowest) / (highest - lowest))
    return np.array(places)


def cci(bars):
    typical = bars.typical[-20:]
    return (typical[-1] - typical.mean()) / (0.015 * np.abs(typical - typical.mean()).mean())


def ultimate(bars):
    pressure = bars.close[1:] - np.minimum(bars.low[1:], bars.close[:-1])
    fast, middle, slow = (pressure[-w:].sum() / bars.true_range[-w:].sum() for w in (7, 14, 28))
    return 100 * (4 * fast + 2 * middle + slow) / 7


def awesome(bars):
    middle = (bars.high + bars.low) / 2
    return middle[-5:].mean() - middle[-34:].mean()


def true_strength(bars):
    def smooth(values):
        return averages(averages(values, 25), 13)[-1]

    return 100 * smooth(bars.changes) / smooth(np.abs(bars.changes))


def chande(bars):
    recent = bars.changes[-14:]
    return 100 * recent.sum() / np.abs(recent).sum()


def rate(bars, sessions):
    return bars.close[sessions:] / bars.close[:-sessions] - 1


def coppock(bars):
    slow = rate(bars, 14)
    return linear_means(slow + rate(bars, 11)[-len(slow) :], 10)[-1]


def know_sure_thing(bars):
    terms = ((1, 10, 10), (2, 15, 10), (3, 20, 10), (4, 30, 15))
    return sum(weight * means(rate(bars, sessions), window)[-1] for weight, sessions, window in terms)


def efficiency(bars, window):
    return abs(bars.close[-1] - bars.close[-1 - window]) / np.abs(bars.changes[-window:]).sum()


def rises(bars, window):
    recent = bars.changes[-window:]
    return np.mean(recent > 0) + np.mean(recent == 0) / 2


ORACLES = {
    **{f"momentum_{sessions}": change(0, sessions) for sessions in (21, 42, 63, 126, 252)},
    "momentum_252_21": change(21, 252),
    "momentum_change_21": acceleration(change(0, 21), change(21, 42)),
    **{f"momentum_volatility_{w}": plain(lambda b, w=w: over_volatility(b, w)) for w in (21, 63, 126)},
    **{f"rsi_{period}": plain(lambda b, period=period: rsi(b, period)[-1]) for period in (7, 14, 28)},
    "stochastic_k_14": plain(lambda b: fast_stochastic(b)[-3:].mean()),
    "stochastic_d_14": plain(lambda b: means(means(fast_stochastic(b), 3), 3)[-1]),
    "williams_r_14": plain(lambda b: fast_stochastic(b)[-1] - 100),
    "stochastic_rsi_14": plain(stochastic_rsi),
    "cci_20": plain(cci),
    "ultimate_oscillator": plain(ultimate),
    "awesome_oscillator": span(awesome),
    "true_strength_index": plain(true_strength),
    "cmo_14": plain(chande),
    "coppock_curve": plain(coppock),
    "know_sure_thing": plain(know_sure_thing),
    **{f"efficiency_{w}": plain(lambda b, w=w: efficiency(b, w)) for w in (10, 21)},
    **{f"rises_{w}": plain(lambda b, w=w: rises(b, w)) for w in (21, 63)},
}


def test_every_feature_of_the_group_has_a_slow_definition():
    assert list(ORACLES) == [feature.name for feature in GROUPS["momentum"]]


@pytest.mark.parametrize("name", ORACLES)
def test_a_value_equals_its_slow_definition(name):
    assert_equal_to_definition(name, ORACLES[name])


@pytest.mark.parametrize(
    ("name", "indicator", "tolerance"),
    [
        *((f"momentum_{n}", lambda h, low, c, n=n: talib.MOM(c, n), 0.0) for n in (21, 42, 63, 126, 252)),
        ("stochastic_k_14", lambda h, low, c: talib.STOCH(h, low, c, 14, 3, 0, 3, 0)[0], 1e-8),
        ("stochastic_d_14", lambda h, low, c: talib.STOCH(h, low, c, 14, 3, 0, 3, 0)[1], 1e-8),
        ("williams_r_14", lambda h, low, c: talib.WILLR(h, low, c, 14), 1e-8),
        ("cci_20", lambda h, low, c: talib.CCI(h, low, c, 20), 1e-6),
        ("ultimate_oscillator", lambda h, low, c: talib.ULTOSC(h, low, c, 7, 14, 28), 1e-8),
        # TA-Lib's recursions look back without limit; ours omit what is more than 4 spans old, 0.03 % of the weight.
        *((f"rsi_{n}", lambda h, low, c, n=n: talib.RSI(c, n), 0.1) for n in (7, 14, 28)),
    ],
)
def test_standard_indicators_agree_with_talib_on_every_session(name, indicator, tolerance):
    prices = bundled("^IXIC")
    expected = indicator(*(prices[column].to_numpy() for column in ("high", "low", "close")))
    ours = computed("^IXIC", "level")[name]
    np.testing.assert_allclose(ours.iloc[600:], expected[600:], rtol=0, atol=tolerance)
