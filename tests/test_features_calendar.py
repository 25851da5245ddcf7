import numpy as np
import pandas as pd
import pytest
from feature_oracles import assert_equal_to_definition, plain

from forecastlib.features import GROUPS
from forecastlib.features.bars import weekday, yearday
from forecastlib.features.base import History


def angle(place, of):
    return 2 * np.pi * place / of


ORACLES = {
    "weekday_sin": plain(lambda b: np.sin(angle(b.date.weekday(), 7))),
    "weekday_cos": plain(lambda b: np.cos(angle(b.date.weekday(), 7))),
    "yearday_sin": plain(lambda b: np.sin(angle(b.date.day_of_year - 1, 366))),
    "yearday_cos": plain(lambda b: np.cos(angle(b.date.day_of_year - 1, 366))),
}


def test_every_feature_of_the_group_has_a_slow_definition():
    assert list(ORACLES) == [feature.name for feature in GROUPS["calendar"]]


@pytest.mark.parametrize("name", ORACLES)
def test_a_value_equals_its_slow_definition(name):
    assert_equal_to_definition(name, ORACLES[name])


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_days_equal_those_of_pandas_before_and_after_1970_and_in_any_resolution(unit):
    dates = pd.date_range("1950-01-01", "2030-12-31", freq="D").as_unit(unit)
    columns = dict.fromkeys(("open", "high", "low", "close", "volume"), 1.0)
    history = History(pd.DataFrame(columns, index=dates))
    np.testing.assert_array_equal(weekday(history), dates.day_of_week)
    np.testing.assert_array_equal(yearday(history), dates.day_of_year - 1)
