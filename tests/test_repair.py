import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forecastlib.data.prices import COLUMNS, require_prices
from forecastlib.data.quality import check_quality
from forecastlib.data.repair import SAFE_STEPS, repair
from forecastlib.data.sources import open_source
from forecastlib.errors import ConfigError, DataQualityError

PRICES = list(COLUMNS[:4])


@pytest.fixture(scope="module")
def clean() -> pd.DataFrame:
    return open_source("bundled").fetch("^GSPC").loc["2014":]


def put(prices: pd.DataFrame, row: int, **values: float) -> pd.DataFrame:
    changed = prices.copy()
    for column, value in values.items():
        changed.iloc[row, changed.columns.get_loc(column)] = value
    return changed


def test_valid_prices_are_returned_unchanged_with_an_empty_record(clean):
    repaired, changes = repair(clean, steps=(*SAFE_STEPS, "splits"))
    pd.testing.assert_frame_equal(repaired, clean)
    assert repaired.attrs == clean.attrs
    assert repaired is not clean
    assert changes.empty
    assert list(changes.columns) == ["date", "column", "before", "after", "why"]


def test_rows_out_of_order_are_sorted_and_every_moved_row_is_listed(clean):
    repaired, changes = repair(clean.iloc[::-1])
    pd.testing.assert_frame_equal(repaired, clean)
    assert set(changes["column"]) == {"position"}
    assert len(changes) == len(clean)  # an even number: each row moved
    assert changes["before"].tolist() == [float(len(clean) - 1 - row) for row in range(len(clean))]
    assert list(changes["date"]) == list(clean.index)


def test_identical_duplicates_are_dropped_and_conflicting_ones_stay(clean):
    twice = clean.iloc[[*range(51), 50, *range(51, len(clean))]]
    repaired, changes = repair(twice)
    pd.testing.assert_frame_equal(repaired, clean)
    assert changes[["date", "column", "before", "after"]].to_numpy().tolist() == [[clean.index[50], "row", 5.0, 0.0]]
    conflicting = put(twice, 51, volume=1.0)
    repaired, changes = repair(conflicting)
    pd.testing.assert_frame_equal(repaired, conflicting)
    assert changes.empty


def test_rows_without_a_price_are_dropped_and_partial_ones_stay(clean):
    holidays = put(put(clean, 7, **dict.fromkeys(PRICES, np.nan)), 8, close=np.nan)
    repaired, changes = repair(holidays)
    pd.testing.assert_frame_equal(repaired, holidays.drop(clean.index[7]))
    assert list(changes["date"]) == [clean.index[7]]
    assert changes["before"].tolist() == [1.0]  # its volume


def test_high_and_low_are_moved_to_include_open_and_close(clean):
    row, day = clean.iloc[30], clean.index[30]
    wrong = put(clean, 30, close=row["high"] * 1.01, open=row["low"] * 0.99)
    repaired, changes = repair(wrong)
    assert repaired.loc[day, "high"] == row["high"] * 1.01
    assert repaired.loc[day, "low"] == row["low"] * 0.99
    assert changes[["column", "before", "after"]].to_numpy().tolist() == [
        ["high", row["high"], row["high"] * 1.01],
        ["low", row["low"], row["low"] * 0.99],
    ]
    swapped = put(clean, 30, high=row["low"], low=row["high"])
    pd.testing.assert_frame_equal(repair(swapped).prices, clean)


def test_a_price_far_outside_the_range_is_not_changed(clean):
    wrong = put(clean, 30, close=clean["close"].iloc[30] * 10)
    repaired, changes = repair(wrong)
    pd.testing.assert_frame_equal(repaired, wrong)
    assert changes.empty
    assert "outside_range" in set(check_quality(repaired).checks.query("status == 'failed'")["check"])


def test_integers_become_float64_and_the_record_names_the_old_type(clean):
    repaired, changes = repair(clean.astype({"volume": np.int64}))
    pd.testing.assert_frame_equal(repaired, clean)
    assert changes[["column", "why"]].to_numpy().tolist() == [["volume", "int64 became float64"]]


@pytest.mark.parametrize("ratio", [2.0, 7.0, 0.1])
def test_splits_are_adjusted_only_on_request(clean, ratio):
    unadjusted = clean.copy()
    unadjusted.iloc[:600, :4] *= ratio
    unadjusted.iloc[:600, 4] /= ratio
    assert repair(unadjusted).changes.empty
    repaired, changes = repair(unadjusted, steps=("splits",))
    pd.testing.assert_frame_equal(repaired, clean)
    assert len(changes) == 600 * 5
    assert set(changes["why"]) == {f"adjusted for the split-like jump of {clean.index[600]:%Y-%m-%d}"}
    assert check_quality(repaired).passed


def test_two_splits_multiply(clean):
    unadjusted = clean.copy()
    unadjusted.iloc[:900, :4] *= 2
    unadjusted.iloc[:300, :4] *= 3
    unadjusted.iloc[:900, 4] /= 2
    unadjusted.iloc[:300, 4] /= 3
    repaired, changes = repair(unadjusted, steps=("splits",))
    pd.testing.assert_frame_equal(repaired, clean)
    assert len(changes) == 900 * 5


def test_all_repairs_together_give_valid_prices(clean):
    broken = put(clean, 100, high=clean["low"].iloc[100], low=clean["high"].iloc[100])
    holiday = pd.DataFrame(np.nan, index=pd.DatetimeIndex(["2015-07-03"]), columns=clean.columns)
    broken = pd.concat([broken, holiday, broken.iloc[[5, 6]]]).iloc[::-1]
    broken.attrs = clean.attrs
    assert not check_quality(broken).passed
    repaired, changes = repair(broken)
    assert check_quality(repaired, strict=True).passed
    require_prices(repaired)
    pd.testing.assert_frame_equal(repaired.rename_axis("date"), clean, check_freq=False)
    assert {"position", "row", "high", "low"} == set(changes["column"])


def test_only_the_requested_steps_are_done(clean):
    broken = put(clean.iloc[::-1], 7, **dict.fromkeys(PRICES, np.nan))
    repaired, changes = repair(broken, steps=("empty_rows",))
    pd.testing.assert_frame_equal(repaired, broken.drop(broken.index[7]))
    assert len(changes) == 1


def test_frames_that_cannot_be_repaired_are_errors(clean):
    with pytest.raises(ConfigError, match=r"unknown step of repair 'split'; did you mean 'splits'\?"):
        repair(clean, steps=("split",))
    with pytest.raises(DataQualityError, match="volume is missing or repeated"):
        repair(clean.drop(columns="volume"))
    with pytest.raises(DataQualityError, match="time zone UTC"):
        repair(clean.tz_localize("UTC"))
    with pytest.raises(DataQualityError, match=r"column 'close' is .*, not numeric"):
        repair(clean.astype({"close": str}))
    with pytest.raises(DataQualityError, match="increasing, unique dates"):
        repair(clean.iloc[::-1], steps=("splits",))
    assert repair(clean.iloc[:0], steps=(*SAFE_STEPS, "splits")).prices.empty


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_the_record_lists_every_difference_and_the_input_is_not_modified(clean, data):
    broken = clean.iloc[:80].copy()
    for row in data.draw(st.lists(st.integers(0, 79), max_size=6, unique=True)):
        column = data.draw(st.sampled_from(PRICES))
        factor = data.draw(st.sampled_from([0.5, 0.97, 0.999, 1.001, 1.03, 2.0, np.nan]))
        broken.iloc[row, PRICES.index(column)] *= factor
    if data.draw(st.booleans()):
        broken.iloc[:20, :4] *= 4
    before = broken.copy()
    repaired, changes = repair(broken, steps=(*SAFE_STEPS, "splits"))
    pd.testing.assert_frame_equal(broken, before)
    replayed = broken.copy()
    for change in changes.itertuples():
        assert replayed.loc[change.date, change.column] == pytest.approx(change.before, nan_ok=True)
        replayed.loc[change.date, change.column] = change.after
    pd.testing.assert_frame_equal(replayed, repaired, rtol=1e-15)
    again = repair(repaired)
    pd.testing.assert_frame_equal(again.prices, repaired)  # repairing twice changes nothing
