import numpy as np
import pytest
import talib
from feature_oracles import assert_equal_to_definition, bundled, computed, plain, price, span

from forecastlib.features import GROUPS


def change(sessions):
    return (
        lambda b: np.log(b.close[-1] / b.close[-1 - sessions]),
        lambda b: b.close[-1] - b.close[-1 - sessions],
    )


ORACLES = {
    "open": price(lambda b: b.open[-1]),
    "high": price(lambda b: b.high[-1]),
    "low": price(lambda b: b.low[-1]),
    "close": (lambda b: np.log(b.close[-1] / b.close[-2]), lambda b: b.close[-1]),
    "overnight": (lambda b: np.log(b.open[-1] / b.close[-2]), lambda b: b.open[-1] - b.close[-2]),
    "range": span(lambda b: b.high[-1] - b.low[-1]),
    "upper_shadow": span(lambda b: b.high[-1] - max(b.open[-1], b.close[-1])),
    "lower_shadow": span(lambda b: min(b.open[-1], b.close[-1]) - b.low[-1]),
    "close_location": plain(lambda b: 2 * (b.close[-1] - b.low[-1]) / (b.high[-1] - b.low[-1]) - 1),
    "balance_of_power": plain(lambda b: (b.close[-1] - b.open[-1]) / (b.high[-1] - b.low[-1])),
    **{f"return_{sessions}": change(sessions) for sessions in (2, 3, 5, 10)},
}


def test_every_feature_of_the_group_has_a_slow_definition():
    assert list(ORACLES) == [feature.name for feature in GROUPS["bar"]]


@pytest.mark.parametrize("name", ORACLES)
def test_a_value_equals_its_slow_definition(name):
    assert_equal_to_definition(name, ORACLES[name])


@pytest.mark.parametrize("sessions", [2, 3, 5, 10])
def test_changes_of_the_close_agree_with_talib(sessions):
    close = bundled("^GSPC")["close"].to_numpy()
    ours = computed("^GSPC", "level")[f"return_{sessions}"].to_numpy()[252:]
    np.testing.assert_array_equal(ours, talib.MOM(close, sessions)[252:])
