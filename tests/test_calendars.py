import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forecastlib.data import calendars
from forecastlib.data.calendars import (
    explain_calendar,
    known_range,
    next_sessions,
    resolve_calendar,
    sessions_between,
    target_dates,
)
from forecastlib.data.sources import open_source
from forecastlib.errors import ConfigError, DataQualityError, NotEnoughDataError

HORIZONS = (7, 14, 30)


@pytest.fixture(scope="module")
def known() -> pd.DatetimeIndex:
    return open_source("bundled").fetch("^GSPC").index


def iso(dates) -> list[str]:
    return [f"{date:%Y-%m-%d}" for date in pd.DatetimeIndex(dates)]


@pytest.mark.parametrize(
    ("symbol", "calendar"),
    [
        ("^GSPC", "NYSE"),
        ("^IXIC", "NYSE"),
        ("^dji", "NYSE"),
        ("AAPL", "NYSE"),
        ("BRK-B", "NYSE"),
        ("BRK.B", "NYSE"),
        ("^KS11", "XKRX"),
        ("^KQ11", "XKRX"),
        ("005930.KS", "XKRX"),
        ("035720.KQ", "XKRX"),
        ("BTC-USD", "24/7"),
        ("ETH-USDT", "24/7"),
        ("7203.T", "JPX"),
        ("^N225", "JPX"),
        ("VOD.L", "LSE"),
        ("^FTSE", "LSE"),
        ("SAP.DE", "XETR"),
        ("^HSI", "HKEX"),
        ("0700.HK", "HKEX"),
        ("EURUSD=X", "inferred"),
        ("CL=F", "inferred"),
        ("^NOSUCH", "inferred"),
        ("", "inferred"),
    ],
)
def test_the_calendar_of_a_symbol_is_that_of_its_exchange(symbol, calendar):
    assert resolve_calendar(symbol) == calendar


def test_an_explicit_calendar_takes_precedence_over_the_symbol():
    assert resolve_calendar("^GSPC", "24/7") == "24/7"
    assert resolve_calendar("^GSPC", "KRX") == "XKRX"
    assert resolve_calendar("^GSPC", "CME_Equity") == "CME_Equity"


@pytest.mark.parametrize(
    ("symbol", "calendar", "reason"),
    [
        ("^GSPC", "auto", "a known index"),
        ("BTC-USD", "auto", "a crypto pair"),
        ("005930.KS", "auto", "suffix .KS"),
        ("AAPL", "auto", "written like a US ticker"),
        ("^NOSUCH", "auto", "no exchange is known for this symbol"),
        ("AAPL", "KRX", "set in the configuration"),
    ],
)
def test_the_choice_of_a_calendar_is_explained(symbol, calendar, reason):
    name, given = explain_calendar(symbol, calendar)
    assert name == resolve_calendar(symbol, calendar)
    assert given.startswith(reason)


def test_an_unknown_calendar_is_an_error_that_names_the_nearest_one():
    with pytest.raises(ConfigError, match=r"unknown calendar 'nyse'; did you mean 'NYSE'\?.*XKRX"):
        resolve_calendar("^GSPC", "nyse")
    with pytest.raises(ConfigError, match="unknown calendar 'moon'"):
        sessions_between("moon", "2020-01-01", "2020-02-01")


def test_the_calendar_agrees_with_every_session_of_the_real_data(known):
    assert sessions_between("NYSE", known[0], known[-1]).equals(known)


def test_sessions_are_naive_midnights_in_microseconds():
    for sessions in (sessions_between("NYSE", "2020-01-01", "2020-02-01"), next_sessions("24/7", "2020-01-01", 3)):
        assert sessions.dtype == "datetime64[us]"
        assert sessions.equals(sessions.normalize())


@pytest.mark.parametrize(
    ("calendar", "closed"),
    [
        ("NYSE", ["2012-10-29", "2012-10-30"]),  # hurricane Sandy
        ("NYSE", ["2018-12-05", "2007-01-02", "2004-06-11"]),  # mourning Bush, Ford, Reagan
        ("NYSE", ["2001-09-11", "2001-09-12", "2001-09-13", "2001-09-14"]),
        ("NYSE", ["2022-06-20", "2023-06-19", "2035-06-19"]),  # Juneteenth, from 2022
        ("NYSE", ["2026-07-03", "2027-07-05", "2032-07-05"]),  # Independence Day observed
        ("NYSE", ["2026-11-26", "2030-11-28", "2035-11-22"]),  # Thanksgiving
        ("NYSE", ["2026-04-03", "2030-04-19", "2035-03-23"]),  # Good Friday
        ("NYSE", ["2035-01-01", "2035-01-15", "2035-02-19", "2035-05-28", "2035-09-03", "2035-12-25"]),
        ("XKRX", ["2017-10-02", "2025-10-07", "2030-02-04", "2035-02-08", "2035-12-31"]),  # lunar holidays, year's end
        ("HKEX", ["2022-09-12", "2034-05-25", "2034-09-28"]),  # 2033-34 has the leap month many calendars get wrong
        ("JPX", ["2019-05-01", "2035-05-03"]),
        ("LSE", ["2012-06-05", "2022-09-19", "2035-08-27"]),
    ],
)
def test_known_holidays_are_not_sessions(calendar, closed):
    for day in closed:
        assert pd.Timestamp(day).weekday() < 5
        assert sessions_between(calendar, day, day).empty


def test_days_before_they_became_holidays_are_sessions():
    assert len(sessions_between("NYSE", "2021-06-18", "2021-06-18")) == 1  # Juneteenth not observed yet
    assert len(sessions_between("NYSE", "2021-12-31", "2021-12-31")) == 1  # a New Year on Saturday is not observed


def test_crypto_trades_every_day():
    assert len(sessions_between("24/7", "2024-01-01", "2024-12-31")) == 366


def test_the_seventh_next_session_is_nine_to_thirteen_days_ahead_through_2035():
    sessions = sessions_between("NYSE", "2019-01-01", "2035-12-31")
    ahead = (sessions[7:] - sessions[:-7]).days
    assert sorted(set(ahead)) == [9, 10, 11, 12, 13]
    # 260 to 262 weekdays less ten holidays; in 2028 and 2033 New Year's Day is a Saturday, and not observed.
    counts = [len(sessions_between("NYSE", f"{year}-01-01", f"{year}-12-31")) for year in range(2026, 2036)]
    assert counts == [251, 251, 251, 251, 251, 251, 252, 251, 250, 251]


def test_a_business_day_count_is_wrong_for_a_quarter_of_all_real_origins(known):
    right = target_dates(known, (7,), known, "NYSE")[:, 0].astype("datetime64[D]")
    naive = np.busday_offset(known.to_numpy().astype("datetime64[D]"), 7)
    assert np.mean(naive != right) == pytest.approx(0.25, abs=0.02)


def test_target_dates_are_rows_of_the_data_and_then_of_the_calendar(known):
    targets = target_dates(known, HORIZONS, known, "NYSE")
    assert targets.shape == (len(known), 3)
    assert targets.dtype == "datetime64[us]"
    continued = known.append(sessions_between("NYSE", "2019-01-01", "2019-06-30"))
    for column, horizon in enumerate(HORIZONS):
        slow = [continued[row + horizon] for row in range(len(known))]
        assert list(pd.DatetimeIndex(targets[:, column])) == slow


def test_the_worked_example_across_new_year(known):
    targets = target_dates(known[-1:], (1, 2, 14), known, "NYSE")  # 2019-01-21: Martin Luther King Day
    assert iso(targets[0]) == ["2019-01-02", "2019-01-03", "2019-01-22"]


def test_the_data_takes_precedence_over_the_calendar(known):
    holed = known.delete(1001)
    assert target_dates(known[1000:1001], (1,), holed, "NYSE")[0, 0] == known[1002].to_datetime64()


def test_an_origin_between_two_sessions_counts_from_the_next_one(known):
    saturday = pd.DatetimeIndex(["2018-12-22"])
    assert iso(target_dates(saturday, (1, 2), known, "NYSE")[0]) == ["2018-12-24", "2018-12-26"]


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_target_dates_do_not_depend_on_where_the_data_ends(known, data):
    """The calendar agrees with the data, so cutting the future off must not change a date."""
    end = data.draw(st.integers(20, len(known) - 1))
    row = data.draw(st.integers(0, end - 1))
    horizons = tuple(sorted(data.draw(st.sets(st.integers(1, 40), min_size=1, max_size=3))))
    cut = target_dates(known[row : row + 1], horizons, known[:end], "NYSE")
    assert np.array_equal(cut, target_dates(known[row : row + 1], horizons, known, "NYSE"))


@pytest.mark.parametrize("resolution", ["s", "ms", "us", "ns"])
def test_the_resolution_of_the_dates_does_not_matter(known, resolution):
    targets = target_dates(known[-3:].as_unit(resolution), HORIZONS, known.as_unit(resolution), "NYSE")
    assert np.array_equal(targets, target_dates(known[-3:], HORIZONS, known, "NYSE"))
    assert targets.dtype == "datetime64[us]"


def test_an_inferred_calendar_repeats_the_weekdays_of_the_data(known):
    assert iso(next_sessions("inferred", "2018-12-28", 3, known)) == ["2018-12-31", "2019-01-01", "2019-01-02"]
    everyday = pd.date_range("2024-01-01", periods=100)
    assert iso(next_sessions("inferred", everyday[-1], 2, everyday)) == ["2024-04-10", "2024-04-11"]
    sunday_to_thursday = everyday[~everyday.day_of_week.isin([4, 5])]
    assert set(next_sessions("inferred", "2024-06-01", 50, sunday_to_thursday).day_of_week) == {6, 0, 1, 2, 3}
    assert len(sessions_between("inferred", "2024-06-03", "2024-06-16", sunday_to_thursday)) == 10


def test_an_inferred_calendar_ignores_the_saturdays_of_the_past():
    old = pd.date_range("1990-01-01", "1997-12-31")
    new = pd.date_range("1998-01-01", "2000-12-31", freq="B")
    sessions = old[old.day_of_week < 6].append(new)
    assert set(next_sessions("inferred", sessions[-1], 30, sessions).day_of_week) == {0, 1, 2, 3, 4}


def test_weekly_data_has_weekly_inferred_sessions():
    fridays = pd.date_range("2020-01-03", periods=60, freq="7D")
    assert next_sessions("inferred", fridays[-1], 4, fridays).equals(
        pd.date_range(fridays[-1], periods=5, freq="7D")[1:].as_unit("us")
    )


def test_too_few_or_irregular_sessions_are_an_error():
    with pytest.raises(NotEnoughDataError, match=r"at least 10 sessions.*got 0"):
        next_sessions("inferred", "2020-01-01", 3)
    with pytest.raises(NotEnoughDataError, match="got 4"):
        next_sessions("inferred", "2020-01-01", 3, pd.date_range("2020-01-01", periods=4))
    with pytest.raises(DataQualityError, match="too irregular"):
        next_sessions("inferred", "2022-01-01", 3, pd.date_range("2020-01-01", periods=24, freq="MS"))


def test_days_outside_the_known_range_are_an_error():
    assert iso(known_range("NYSE")) == ["1970-01-01", "2050-12-31"]
    assert iso(known_range("BSE"))[1] < "2035"  # announced one year at a time
    for ask in (
        lambda: sessions_between("NYSE", "1969-12-31", "1970-02-01"),
        lambda: next_sessions("NYSE", "1960-01-01", 3),
        lambda: next_sessions("NYSE", "2050-12-20", 30),
    ):
        with pytest.raises(ConfigError, match=r"the holidays of calendar .* are known.*calendar='inferred'"):
            ask()


def test_a_calendar_goes_on_with_its_weekdays_where_its_holidays_are_not_known_yet(caplog):
    last = known_range("BSE")[1]
    ahead = next_sessions("BSE", last - pd.Timedelta(days=10), 30)
    assert ahead.is_unique and ahead.is_monotonic_increasing and ahead[-1] > last
    later = ahead[ahead > last]
    assert list(later) == list(pd.bdate_range(last + pd.Timedelta(days=1), periods=len(later)))
    calendars._continued.cache_clear()
    next_sessions("BSE", last, 1)
    assert "the holidays of calendar BSE are known up to" in caplog.text


@pytest.mark.parametrize(
    ("symbols", "calendar"),
    [
        (("KOSPI", "KOSDAQ", "KS11", "kospi"), "XKRX"),
        (("DAX", "MDAX"), "XETR"),
        (("NIFTY", "NIFTY50", "RELIANCE.NS", "^NSEI"), "NSE"),
        (("SENSEX",), "BSE"),
        (("TOPIX", "NIKKEI"), "JPX"),
        (("HSI",), "HKEX"),
        (("FTSE",), "LSE"),
        (("IBOV",), "BVMF"),
        (("WIG", "WIG20"), "XWAR"),
        (("BTC", "ETH"), "24/7"),
        (("STOXX", "TASI", "XAU", "DXY"), "inferred"),
        (("AAPL", "BRK-B", "SPX"), "NYSE"),
    ],
)
def test_bare_names_of_indices_and_coins_are_not_taken_for_tickers_of_new_york(symbols, calendar):
    assert {resolve_calendar(symbol) for symbol in symbols} == {calendar}


def test_wrong_arguments_of_target_dates_are_errors(known):
    with pytest.raises(ConfigError, match="horizons of at least one"):
        target_dates(known[-1:], (0, 7), known, "NYSE")
    with pytest.raises(NotEnoughDataError, match=r"1999-01-04 to 2018-12-31.*got 1998-12-31"):
        target_dates(pd.DatetimeIndex(["1998-12-31"]), (7,), known, "NYSE")
    with pytest.raises(NotEnoughDataError, match="got 2019-01-02"):
        target_dates(pd.DatetimeIndex(["2019-01-02"]), (7,), known, "NYSE")
    with pytest.raises(DataQualityError, match="oldest to newest"):
        target_dates(known[-1:], (7,), known[::-1], "NYSE")
    with pytest.raises(DataQualityError, match="without a time zone"):
        target_dates(known[-1:], (7,), known.tz_localize("UTC"), "NYSE")
    with pytest.raises(ConfigError, match="without a time zone"):
        next_sessions("NYSE", pd.Timestamp("2020-01-01", tz="UTC"), 1)
    assert target_dates(known[:0], HORIZONS, known, "NYSE").shape == (0, 3)


def test_sessions_are_shared_and_read_only():
    first = sessions_between("NYSE", "2020-01-01", "2020-02-01").to_numpy()
    with pytest.raises(ValueError, match="read-only"):
        first[0] = np.datetime64("1999-01-01")


@pytest.mark.slow
def test_importing_calendars_is_light_and_every_known_calendar_loads_without_a_warning():
    code = (
        "import sys; from forecastlib.data import calendars; assert 'pandas_market_calendars' not in sys.modules\n"
        "from forecastlib.data.calendars import CALENDAR_BY_SUFFIX, CALENDAR_BY_SYMBOL\n"
        "for name in {*CALENDAR_BY_SYMBOL.values(), *CALENDAR_BY_SUFFIX.values(), '24/7'}:\n"
        "    first, last = calendars.known_range(name); assert first.year <= 1997, name\n"
        "    assert last.year >= 2035 or name in ('NSE', 'BSE'), name\n"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
