import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forecastlib.data.prices import COLUMNS, fingerprint, require_prices, to_prices
from forecastlib.errors import DataQualityError, NotEnoughDataError


@pytest.fixture
def prices(make_prices):
    return make_prices(6)


def test_the_bundled_prices_have_the_required_shape(gspc, ixic):
    for frame, symbol in ((gspc, "^GSPC"), (ixic, "^IXIC")):
        require_prices(frame)
        assert tuple(frame.columns) == COLUMNS
        assert frame.index.dtype == "datetime64[us]"
        assert frame.index.name == "date"
        assert frame.attrs["symbol"] == symbol


def test_checking_prices_does_not_change_them(prices):
    before = prices.copy(deep=True)
    require_prices(prices)
    pd.testing.assert_frame_equal(prices, before)


def with_index(frame: pd.DataFrame, index: object) -> pd.DataFrame:
    return frame.set_axis(index, axis=0)


FAULTS = {
    "no frame": (lambda p: p["close"], "expected prices as a pandas DataFrame; got Series"),
    "missing columns": (
        lambda p: p.drop(columns=["open", "volume"]),
        r"expected the columns open, high, low, close, volume; open, volume missing from \['high', 'low', 'close'\]",
    ),
    "a column twice": (
        lambda p: pd.concat([p, p[["close"]]], axis=1),
        "expected each column once; close is repeated; drop one of them",
    ),
    "no dates": (lambda p: p.reset_index(drop=True), "expected a DatetimeIndex of sessions; got RangeIndex"),
    "a time zone": (
        lambda p: p.tz_localize("America/New_York"),
        "expected dates without a time zone; got America/New_York",
    ),
    "a missing date": (
        lambda p: with_index(p, p.index.where(p.index != p.index[2])),
        "expected a date in every row; some are missing",
    ),
    "a date twice": (
        lambda p: p.iloc[[0, 1, 1, 2]],
        "expected each session once; 2015-01-02 is repeated",
    ),
    "newest first": (
        lambda p: p.iloc[[0, 2, 1, 3]],
        "expected sessions from oldest to newest; 2015-01-02 is out of order",
    ),
    "a time of day": (
        lambda p: with_index(p, p.index + pd.Timedelta(hours=16)),
        "expected dates at midnight, one per session; got 2015-01-01 16:00:00",
    ),
    "whole numbers": (lambda p: p.astype({"volume": "int64"}), "expected float64 in column 'volume'; got int64"),
    "single precision": (lambda p: p.astype({"close": "float32"}), "expected float64 in column 'close'; got float32"),
}


@pytest.mark.parametrize(("spoil", "message"), FAULTS.values(), ids=FAULTS)
@pytest.mark.parametrize("complete", [True, False])
def test_another_shape_is_an_error_that_names_the_first_difference(prices, spoil, message, complete):
    with pytest.raises(DataQualityError, match=message):
        require_prices(spoil(prices), complete=complete)


def test_an_empty_frame_is_not_enough_data(prices):
    with pytest.raises(NotEnoughDataError, match="at least one session"):
        require_prices(prices.iloc[:0])


@pytest.mark.parametrize("column", COLUMNS)
@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.nan, "expected a finite number in every row; got nan for {} on 2015-01-05 .1 such rows."),
        (np.inf, "expected a finite number in every row; got inf for {} on 2015-01-05"),
        (-1.0, "expected a positive price in every row; got -1.0 for {} on 2015-01-05"),
    ],
)
def test_a_missing_or_negative_value_is_an_error_that_names_the_row(prices, column, value, message):
    prices.iloc[2, prices.columns.get_loc(column)] = value
    require_prices(prices, complete=False)
    with pytest.raises(DataQualityError, match=message.format(column)):
        require_prices(prices)


def test_a_price_of_zero_is_an_error_and_a_volume_of_zero_is_not(prices):
    prices.iloc[[1, 3], prices.columns.get_loc("volume")] = 0.0
    require_prices(prices)
    prices.iloc[[1, 3], prices.columns.get_loc("low")] = 0.0
    with pytest.raises(DataQualityError, match=r"got 0\.0 for low on 2015-01-02 \(2 such rows\); see check_quality"):
        require_prices(prices)


def test_to_prices_sorts_converts_and_keeps_every_value(prices):
    messy = prices[["volume", "close", "low", "high", "open"]].iloc[::-1].assign(extra="x")
    messy = messy.astype({"volume": "int64"}).set_axis(messy.index.as_unit("s").rename("Day"), axis=0)
    before = messy.copy(deep=True)
    made = to_prices(messy, "^X")
    pd.testing.assert_frame_equal(made, prices)
    assert made.attrs == {"symbol": "^X"}
    pd.testing.assert_frame_equal(messy, before)


def test_to_prices_leaves_missing_values_for_the_quality_checks(prices):
    prices.iloc[2, 0] = np.nan
    pd.testing.assert_frame_equal(to_prices(prices, "TEST"), prices)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda p: p.drop(columns="low"), "low missing from"),
        (lambda p: p.reset_index(drop=True), "expected a DatetimeIndex of sessions; got RangeIndex"),
        (
            lambda p: p.astype({"open": object}).assign(open="n/a"),
            "expected numbers in the columns .* could not convert",
        ),
        (lambda p: p.iloc[[0, 0, 1]], "expected each session once; 2015-01-01"),
        (lambda p: p.tz_localize("UTC"), "without a time zone; got UTC"),
    ],
)
def test_to_prices_raises_for_frames_that_cannot_be_converted(prices, spoil, message):
    with pytest.raises(DataQualityError, match=message):
        to_prices(spoil(prices), "TEST")


def test_equal_data_in_any_form_has_equal_fingerprints(prices):
    same = fingerprint(prices)
    assert len(same) == 16
    assert int(same, 16) >= 0
    other = prices[list(reversed(COLUMNS))].assign(extra=1.0).rename_axis("Day")
    other.index = other.index.as_unit("ns")
    other.attrs = {"symbol": "OTHER", "source": "csv"}
    assert fingerprint(other) == same


@given(row=st.integers(0, 5), column=st.sampled_from(COLUMNS))
def test_the_fingerprint_changes_with_the_last_bit_of_a_value(make_prices, row, column):
    prices = make_prices(6)
    changed = prices.copy()
    at = changed.columns.get_loc(column)
    changed.iloc[row, at] = np.nextafter(changed.iloc[row, at], np.inf)
    assert fingerprint(changed) != fingerprint(prices)


def test_the_fingerprint_depends_on_dates_and_length(prices):
    moved = with_index(prices, prices.index + pd.Timedelta(days=1))
    assert (
        len({fingerprint(prices), fingerprint(moved), fingerprint(prices.iloc[1:]), fingerprint(prices.iloc[:-1])}) == 4
    )
