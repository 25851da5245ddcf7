from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forecastlib.data.quality import QualityLimits, check_quality
from forecastlib.data.quality_checks import FRAME_CHECKS, SERIES_CHECKS, SPLIT_RATIOS
from forecastlib.data.repair import repair
from forecastlib.data.sources import open_source
from forecastlib.errors import ConfigError, DataQualityError

PRICES = ["open", "high", "low", "close"]
NAMES = [check.name for check in (*FRAME_CHECKS, *SERIES_CHECKS)]
BLOCKED = {check.name for check in SERIES_CHECKS}


@pytest.fixture(scope="module")
def gspc() -> pd.DataFrame:
    return open_source("bundled").fetch("^GSPC")


@pytest.fixture(scope="module")
def ixic() -> pd.DataFrame:
    return open_source("bundled").fetch("^IXIC")


@pytest.fixture(scope="module")
def clean(gspc) -> pd.DataFrame:
    """Five years of real prices in which no check finds anything."""
    return gspc.loc["2014":]


def failed(report) -> set[str]:
    return set(report.checks.loc[report.checks["status"].isin(["failed", "warning"]), "check"])


def not_run(report) -> set[str]:
    return set(report.checks.loc[report.checks["status"] == "not run", "check"])


def count(report, check: str) -> int:
    return int(report.checks.set_index("check").loc[check, "count"])


def put(prices: pd.DataFrame, row: int, **values: float) -> pd.DataFrame:
    changed = prices.copy()
    for column, value in values.items():
        changed.iloc[row, changed.columns.get_loc(column)] = value
    return changed


def scaled(prices: pd.DataFrame, rows: slice, factor: float) -> pd.DataFrame:
    changed = prices.copy()
    changed.iloc[rows, :4] *= factor
    return changed


# The bundled data


def test_bundled_gspc_has_only_copied_opens_and_six_real_outliers(gspc):
    report = check_quality(gspc)
    assert report.passed
    assert failed(report) == {"outliers", "open_copied"}
    assert count(report, "outliers") == 6
    assert count(report, "missing_sessions") == count(report, "extra_sessions") == 0
    assert report.calendar == "NYSE"
    assert count(report, "open_copied") / len(gspc) == pytest.approx(0.398, abs=5e-4)
    detail = report.checks.set_index("check").loc["open_copied", "detail"]
    assert detail == "39.8% of all rows; 95% to 98% in each of 7 years from 1999 to 2005"


def test_bundled_ixic_has_only_two_days_without_volume_and_21_real_outliers(ixic):
    report = check_quality(ixic)
    assert report.passed
    assert failed(report) == {"outliers", "zero_volume"}
    assert list(report.finding("zero_volume").dates) == [pd.Timestamp("2015-05-12"), pd.Timestamp("2018-01-09")]
    assert count(report, "outliers") == 21
    assert count(report, "missing_sessions") == count(report, "extra_sessions") == 0


@pytest.mark.parametrize("symbol", ["^GSPC", "^IXIC"])
def test_outliers_of_the_bundled_data_are_the_days_beyond_seven_percent(symbol):
    prices = open_source("bundled").fetch(symbol)
    moves = np.log(prices["close"]).diff().abs()
    assert list(check_quality(prices).finding("outliers").dates) == list(prices.index[moves > 0.07])


def test_clean_real_prices_score_a_hundred_even_when_strict(clean):
    report = check_quality(clean, strict=True)
    assert report.score == 100.0
    assert report.passed
    assert failed(report) == not_run(report) == set()
    report.raise_for_errors()


# Each fault, planted in clean real prices, is found on the right dates, and no other check reports anything.


def plant_unsorted(prices):
    order = np.arange(len(prices))
    order[[100, 101]] = [101, 100]
    return prices.iloc[order], [prices.index[100]]


def plant_duplicates(prices):
    return prices.iloc[[*range(51), 50, *range(51, len(prices))]], [prices.index[50]]


def plant_conflicting_duplicate(prices):
    twice = prices.iloc[[*range(51), 50, *range(51, len(prices))]]
    return put(twice, 51, close=1.0), [prices.index[50]]


def plant_empty_row(prices):
    return put(prices, 77, **dict.fromkeys(PRICES, np.nan)), [prices.index[77]]


def plant_empty_holiday_row(prices):
    return put(prices, 77, **dict.fromkeys(PRICES, np.nan), volume=0.0), [prices.index[77]]


def plant_nan(prices):
    return put(prices, 200, close=np.nan), [prices.index[200]]


def plant_partial_rows(prices):
    changed = put(put(prices, 10, open=np.nan, volume=np.nan), 300, volume=np.inf)
    return changed, [prices.index[10], prices.index[300]]


def plant_zero_price(prices):
    return put(prices, 5, close=0.0), [prices.index[5]]


def plant_negative_volume(prices):
    return put(prices, 6, volume=-1.0), [prices.index[6]]


def plant_high_below_low(prices):
    row = prices.iloc[44]
    return put(prices, 44, high=row["low"], low=row["high"]), [prices.index[44]]


def plant_open_above_high(prices):
    return put(prices, 45, open=prices["high"].iloc[45] * 1.001), [prices.index[45]]


def plant_close_below_low(prices):
    return put(prices, 46, close=prices["low"].iloc[46] * 0.999), [prices.index[46]]


def plant_zero_volume(prices):
    return put(prices, 900, volume=0.0), [prices.index[900]]


def plant_missing_sessions(prices):
    return prices.drop(prices.index[[30, 500, 501]]), list(prices.index[[30, 500, 501]])


def plant_extra_sessions(prices):
    holidays = pd.DatetimeIndex(["2016-07-02", "2016-07-04"])  # a Saturday, and Independence Day
    added = prices.loc[["2016-07-01", "2016-07-01"]].set_axis(holidays)
    return pd.concat([prices, added]).sort_index(), list(holidays)


def plant_stale_close(prices):
    changed = prices.copy()
    rows = changed.index[60:65]
    changed.loc[rows, "close"] = changed["close"].iloc[60]
    changed.loc[rows, "high"] = changed.loc[rows, "high"].max()
    changed.loc[rows, "low"] = changed.loc[rows, "low"].min()
    return changed, list(rows[1:])


def plant_outlier(prices):
    return scaled(prices, slice(700, 701), 1.10), [prices.index[700], prices.index[701]]


def plant_wrong_half_price(prices):
    return scaled(prices, slice(700, 701), 0.5), [prices.index[700], prices.index[701]]


def plant_split(prices):
    return scaled(prices, slice(640, None), 1 / 7), [prices.index[640]]


def plant_copied_opens(prices):
    changed = prices.copy()
    rows = np.arange(100, 300)
    changed.iloc[rows, 0] = changed["close"].to_numpy()[rows - 1]
    changed["high"] = changed[["open", "high"]].max(axis=1)
    changed["low"] = changed[["open", "low"]].min(axis=1)
    return changed, list(changed.index[1:][changed["open"].to_numpy()[1:] == changed["close"].to_numpy()[:-1]])


def plant_short_history(prices):
    return prices.iloc[-100:], []


PLANTED: list[tuple[Callable, str]] = [
    (plant_unsorted, "index_order"),
    (plant_duplicates, "duplicates"),
    (plant_conflicting_duplicate, "duplicates"),
    (plant_empty_row, "empty_rows"),
    (plant_empty_holiday_row, "empty_rows"),
    (plant_nan, "missing_values"),
    (plant_partial_rows, "missing_values"),
    (plant_zero_price, "non_positive"),
    (plant_negative_volume, "non_positive"),
    (plant_high_below_low, "high_below_low"),
    (plant_open_above_high, "outside_range"),
    (plant_close_below_low, "outside_range"),
    (plant_zero_volume, "zero_volume"),
    (plant_missing_sessions, "missing_sessions"),
    (plant_extra_sessions, "extra_sessions"),
    (plant_stale_close, "stale_close"),
    (plant_outlier, "outliers"),
    (plant_wrong_half_price, "outliers"),
    (plant_split, "split_like"),
    (plant_copied_opens, "open_copied"),
    (plant_short_history, "short_history"),
]


@pytest.mark.parametrize(("plant", "check"), PLANTED, ids=[plant.__name__ for plant, _ in PLANTED])
def test_a_planted_fault_is_found_on_its_dates_and_nothing_else_is(clean, plant, check):
    broken, dates = plant(clean)
    before = broken.copy()
    report = check_quality(broken)
    assert failed(report) == {check}
    assert list(report.finding(check).dates) == dates
    assert count(report, check) == (len(dates) if dates else 252 - len(broken))
    assert report.score < 100.0
    severity = report.checks.set_index("check").loc[check, "severity"]
    assert report.passed == (severity == "warning")
    assert not check_quality(broken, strict=True).passed
    pd.testing.assert_frame_equal(broken, before)  # checking does not change the prices


def test_there_is_a_planted_fault_for_every_check():
    elsewhere = {"columns", "types", "long_gaps", "stale_last_date", "frequency", "carried_weekends", "constant_price"}
    assert {check for _, check in PLANTED} | elsewhere == set(NAMES)


def test_missing_and_repeated_columns_are_named_and_prevent_other_checks(clean):
    for broken in (clean.drop(columns="volume"), clean.rename(columns=str.title), clean[[*clean.columns, "close"]]):
        report = check_quality(broken)
        assert failed(report) == {"columns"}
        assert not_run(report) == BLOCKED
        assert report.score == 0.0
        assert not report.passed
    assert "volume" in check_quality(clean.drop(columns="volume")).checks["detail"].iloc[0]


def test_integers_are_a_wrong_type_that_prevents_no_check(clean):
    report = check_quality(clean.astype({"volume": np.int64}))
    assert failed(report) == {"types"}
    assert not_run(report) == set()
    assert "volume is int64" in report.checks["detail"].iloc[1]


def test_text_and_unusable_dates_prevent_the_checks_that_need_numbers_and_dates(clean):
    for broken in (
        clean.astype({"close": str}),
        clean.tz_localize("America/New_York"),
        clean.set_axis(clean.index + pd.Timedelta(hours=16)),
        clean.set_axis(clean.index.where(np.arange(len(clean)) != 3)),
        clean.reset_index(drop=True),
    ):
        report = check_quality(broken)
        assert failed(report) == {"types"}
        assert not_run(report) >= BLOCKED
        assert not report.passed


def test_a_long_gap_is_found_without_a_calendar(clean):
    report = check_quality(clean.drop(clean.index[800:820]), calendar="inferred")
    assert failed(report) == {"long_gaps"}
    assert list(report.finding("long_gaps").dates) == [clean.index[820]]


def test_without_an_exchange_missing_sessions_are_not_judged_and_the_report_says_so(clean):
    nameless = clean.drop(clean.index[30])
    nameless.attrs = {}
    report = check_quality(nameless)
    assert report.calendar == "inferred"
    rows = report.checks.set_index("check").loc[["missing_sessions", "extra_sessions"]]
    assert set(rows["status"]) == {"not applicable"}
    assert rows["detail"].str.contains("no exchange is known").all()
    assert report.score == 100.0


def test_no_session_is_missing_before_1970(gspc):
    old = gspc.set_axis(pd.date_range("1965-01-04", periods=len(gspc), freq="B", unit="us"))
    assert check_quality(old.loc[:"1969"]).checks.set_index("check").loc["missing_sessions", "status"] == (
        "not applicable"
    )
    assert check_quality(old).finding("extra_sessions").dates[0] == pd.Timestamp(
        "1970-01-01"
    )  # all business days to 1984


@pytest.mark.parametrize("ratio", [*SPLIT_RATIOS, *(1 / ratio for ratio in SPLIT_RATIOS)])
@pytest.mark.parametrize("row", [2478, 400, 5000])  # 2008-11-07 in the most volatile weeks; copied opens; quiet days
def test_a_split_is_recognised_by_its_ratio_in_either_direction(gspc, ratio, row):
    report = check_quality(scaled(gspc, slice(row, None), 1 / ratio))
    assert list(report.finding("split_like").dates) == [gspc.index[row]]
    expected = f"{ratio:g}:1" if ratio > 1 else f"1:{1 / ratio:g}"
    assert report.checks.set_index("check").loc["split_like", "detail"] == f"1 of 5,031 rows; like {expected}"
    assert count(report, "outliers") in (5, 6)  # the jump itself is not reported twice


def test_the_crash_of_1987_is_an_outlier_and_not_a_split(clean):
    year = scaled(clean.iloc[:300], slice(None), 282.70 / clean["close"].iloc[299])
    crash = pd.DataFrame(
        [[298.08, 298.92, 281.52, 282.70, 3.4e8], [282.70, 282.70, 224.83, 224.84, 6.0e8]],
        columns=clean.columns,
    )
    prices = pd.concat([year, crash, scaled(clean.iloc[302:600], slice(None), 0.11)]).set_axis(clean.index[:600])
    prices.attrs = clean.attrs
    report = check_quality(prices)
    assert np.log(224.84 / 282.70) == pytest.approx(-0.229, abs=1e-3)
    assert clean.index[301] in report.finding("outliers").dates
    assert report.finding("split_like").dates.empty
    assert check_quality(prices.iloc[:302]).finding("split_like").dates.empty  # nor on the same evening


def test_the_crash_of_2008_is_an_outlier_and_not_a_split(gspc):
    report = check_quality(gspc)
    assert pd.Timestamp("2008-10-15") in report.finding("outliers").dates
    assert report.finding("split_like").dates.empty


def test_prices_that_halve_during_a_session_are_not_a_split(clean):
    halved = scaled(clean, slice(600, None), 0.5)
    crash = put(halved, 600, open=clean["close"].iloc[599], high=clean["close"].iloc[599])
    report = check_quality(crash)
    assert failed(report) == {"outliers"}
    assert list(report.finding("outliers").dates) == [clean.index[600]]


def test_staleness_is_checked_only_if_a_day_is_given(clean, gspc):
    assert "stale_last_date" not in failed(check_quality(clean))
    assert check_quality(clean).checks.set_index("check").loc["stale_last_date", "status"] == "not applicable"
    for fresh in ("2018-12-31", "2019-01-02", "2019-01-09"):  # the close of the 9th is not known yet: 5 are missing
        assert "stale_last_date" not in failed(check_quality(clean, as_of=fresh))
    report = check_quality(clean, as_of="2019-01-10")
    assert failed(report) == {"stale_last_date"}
    assert count(report, "stale_last_date") == 6
    assert list(report.finding("stale_last_date").dates) == [clean.index[-1]]
    assert check_quality(gspc, as_of=pd.Timestamp("2026-11-20")).passed  # old, but valid


def test_a_short_history_counts_the_closes_it_has(clean):
    assert failed(check_quality(clean.iloc[-252:])) == set()
    assert failed(check_quality(clean.iloc[-251:])) == {"short_history"}
    assert failed(check_quality(clean.iloc[-251:], limits=QualityLimits(min_sessions=60))) == set()


@pytest.mark.parametrize(
    "frame",
    [
        pd.DataFrame(),
        pd.DataFrame(columns=[*PRICES, "volume"]),
        pd.DataFrame(columns=[*PRICES, "volume"], index=pd.DatetimeIndex([]), dtype=float),
        pd.DataFrame({name: ["a", None] for name in [*PRICES, "volume"]}, index=pd.date_range("2020", periods=2)),
        pd.DataFrame(1.0, index=pd.period_range("2020-01", periods=3, freq="M"), columns=[*PRICES, "volume"]),
        pd.DataFrame(1.0, index=pd.date_range("2020", periods=1), columns=[*PRICES, "volume"]),
        pd.DataFrame(np.nan, index=pd.date_range("2020", periods=400), columns=[*PRICES, "volume"]),
        pd.DataFrame(np.inf, index=pd.date_range("2020", periods=400), columns=[*PRICES, "volume"]),
        pd.DataFrame(-np.inf, index=pd.date_range("2020", periods=400), columns=[*PRICES, "volume"]),
        pd.DataFrame(0.0, index=pd.date_range("2020", periods=400), columns=[*PRICES, "volume"]),
        pd.DataFrame(7.0, index=pd.date_range("2020", periods=400), columns=[*PRICES, "volume"]),
        pd.DataFrame(True, index=pd.date_range("2020", periods=4), columns=[*PRICES, "volume"]),
        pd.DataFrame(1j, index=pd.date_range("2020", periods=4), columns=[*PRICES, "volume"]),
        pd.DataFrame(pd.NA, index=pd.date_range("2020", periods=4), columns=[*PRICES, "volume"], dtype="Float64"),
        pd.DataFrame(1.0, index=pd.DatetimeIndex(["NaT"] * 3), columns=[*PRICES, "volume"]),
        pd.DataFrame(1.0, index=["2020-01-02", "x"], columns=pd.MultiIndex.from_product([PRICES, ["^GSPC"]])),
        pd.DataFrame(1.0, index=pd.to_datetime(["2020-01-02"] * 5), columns=[*PRICES, "volume"]),
        pd.DataFrame(1.0, index=pd.date_range("1900-01-01", periods=9, freq="400D"), columns=[*PRICES, "volume"]),
        pd.DataFrame(1.0, index=pd.date_range("2049-12-01", periods=900), columns=[*PRICES, "volume"]),
    ],
)
@pytest.mark.parametrize("calendar", ["auto", "NYSE"])
def test_broken_frames_are_reported_without_an_exception(frame, calendar):
    report = check_quality(frame, calendar=calendar, as_of="2026-01-01")
    assert list(report.checks["check"]) == NAMES
    assert 0.0 <= report.score < 40.0
    strict = check_quality(frame, calendar=calendar, as_of="2026-01-01", strict=True)
    with pytest.raises(DataQualityError, match="expected sound prices"):
        strict.raise_for_errors()
    assert "<table>" in report._repr_html_()
    assert repr(report)
    report.plot()


def test_anything_but_a_frame_is_an_error():
    with pytest.raises(DataQualityError, match="pandas DataFrame; got list"):
        check_quality([1, 2, 3])


def test_severities_and_weights_can_be_chosen(gspc):
    lenient = {"open_copied": "warning", "outliers": "warning"}
    report = check_quality(gspc, severities=lenient, weights=dict.fromkeys(lenient, 0.0), strict=True)
    assert report.passed
    assert report.score == 100.0
    assert failed(report) == {"open_copied", "outliers"}
    assert not check_quality(gspc, severities={"outliers": "error"}).passed
    assert check_quality(gspc, weights={"open_copied": 0.0}).score > 98.0
    assert not check_quality(gspc, strict=True).passed


def test_invalid_settings_are_config_errors(clean):
    with pytest.raises(ConfigError, match=r"unknown check 'outlier'; did you mean 'outliers'\?"):
        check_quality(clean, severities={"outlier": "warning"})
    with pytest.raises(ConfigError, match="unknown severity 'fatal'"):
        check_quality(clean, severities={"outliers": "fatal"})
    with pytest.raises(ConfigError, match=r"weight of outliers between 0 and 1; got 1\.5"):
        check_quality(clean, weights={"outliers": 1.5})
    with pytest.raises(ConfigError, match="min_sessions of at least 0; got -1"):
        QualityLimits(min_sessions=-1)
    with pytest.raises(ConfigError, match="unknown calendar 'moon'"):
        check_quality(clean, calendar="moon")


def test_the_score_is_the_documented_product(clean):
    broken = put(put(clean, 900, volume=0.0), 45, open=clean["high"].iloc[45] * 1.001)
    report = check_quality(broken)
    share = 1 / len(clean)
    expected = 100 * (1 - 0.3 * share ** (1 / 3)) * (1 - 0.7 * share ** (1 / 3))
    assert report.score == pytest.approx(expected, rel=1e-12)
    assert report.score == pytest.approx(100 * np.prod(1 - report.checks["loss"]), rel=1e-12)


def insert(prices: pd.DataFrame, row: int, days: int) -> pd.DataFrame:
    copy = prices.iloc[[row]].set_axis(prices.index[[row]] + pd.Timedelta(days=days))
    return pd.concat([prices.iloc[: row + 1], copy, prices.iloc[row + 1 :]])


FAULTS: dict[str, Callable[[pd.DataFrame, int], pd.DataFrame]] = {
    "lost close": lambda prices, row: put(prices, row, close=np.nan),
    "lost open": lambda prices, row: put(prices, row, open=np.nan),
    "lost volume": lambda prices, row: put(prices, row, volume=np.inf),
    "lost row": lambda prices, row: put(prices, row, **dict.fromkeys([*PRICES, "volume"], np.nan)),
    "zero price": lambda prices, row: put(prices, row, low=0.0),
    "zero volume": lambda prices, row: put(prices, row, volume=0.0),
    "high below low": lambda prices, row: put(prices, row, high=1.0),
    "close outside": lambda prices, row: put(prices, row, low=prices["high"].iloc[row]),
    "twice": lambda prices, row: insert(prices, row, days=0),
    "saturday": lambda prices, row: insert(prices, row, days=1),
    "missing": lambda prices, row: prices.iloc[[*range(row), *range(row + 1, len(prices))]],
    "late row": lambda prices, row: prices.iloc[[*range(row), row + 1, row, *range(row + 2, len(prices))]],
    "outlier": lambda prices, row: scaled(prices, slice(row, row + 1), 1.2),
    "split": lambda prices, row: scaled(prices, slice(row, None), 0.5),
}


@settings(max_examples=25, deadline=None)
@given(
    symbol=st.sampled_from(["^GSPC", "^IXIC"]),
    faults=st.lists(st.sampled_from(sorted(FAULTS)), min_size=1, max_size=6),
    weeks=st.permutations(range(6)),
)
def test_adding_a_fault_to_a_valid_row_never_raises_the_score(gspc, ixic, symbol, faults, weeks):
    prices = {"^GSPC": gspc, "^IXIC": ixic}[symbol].loc["2014":"2016"]
    fridays = prices.index[prices.index.day_of_week == 4]
    days = [fridays[10 + 20 * week] for week in weeks]
    score = check_quality(prices).score
    for fault, day in zip(faults, days, strict=False):
        prices = FAULTS[fault](prices, int(np.flatnonzero(prices.index == day)[0]))
        worse = check_quality(prices).score
        assert worse < score, fault
        score = worse


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_a_missing_value_never_hides_the_faults_around_it_from_the_score(ixic, data):
    """This includes rows with other faults: what can no longer be checked counts as a fault."""
    prices = ixic.loc["2000-03":"2002-03"].copy()
    score = check_quality(prices).score
    outliers = [prices.index.get_loc(day) for day in check_quality(prices).finding("outliers").dates]
    for row in data.draw(st.permutations(outliers))[:4]:
        prices = put(prices, row - data.draw(st.integers(0, 1)), close=np.nan)
        worse = check_quality(prices).score
        assert worse <= score
        score = worse


class TestRowsThatAreNoSessions:
    """Nothing about single rows is wrong, but they do not come once per session, or say nothing."""

    @staticmethod
    def frame(days, symbol="WIDX50"):
        closes = 100 * np.exp(np.cumsum(np.random.default_rng(0).normal(0, 0.01, len(days))))
        columns = {"open": closes, "high": closes * 1.01, "low": closes * 0.99, "close": closes, "volume": 1e6}
        prices = pd.DataFrame(columns, pd.DatetimeIndex(days, name="date").as_unit("us"))
        prices.attrs["symbol"] = symbol
        return prices

    @pytest.mark.parametrize(("freq", "name"), [("W-FRI", "weekly"), ("BME", "monthly"), ("BQE", "quarterly")])
    @pytest.mark.parametrize("symbol", ["WIDX50", "^GSPC"])
    def test_rows_of_weeks_and_months_are_named(self, freq, name, symbol):
        prices = self.frame(pd.date_range("1940-01-05", periods=300, freq=freq), symbol)
        finding = check_quality(prices).finding("frequency")
        assert finding.status == "failed" and f"the rows are {name}, " in finding.detail

    @pytest.mark.parametrize("freq", ["B", "D"])
    def test_daily_rows_pass(self, freq):
        report = check_quality(self.frame(pd.date_range("2015-01-01", periods=400, freq=freq)))
        for check in ("frequency", "carried_weekends", "constant_price"):
            assert report.finding(check).status == "passed"

    @pytest.mark.parametrize("flat", [False, True])
    def test_weekends_that_were_carried_forward_are_found_and_repaired(self, flat):
        daily = self.frame(pd.bdate_range("2015-01-05", periods=300))
        carried = daily.asfreq("D").ffill()
        if flat:
            weekend = carried.index.day_of_week >= 5
            carried.loc[weekend, ["open", "high", "low"]] = carried.loc[weekend, ["close"]].to_numpy()
        carried.attrs = daily.attrs
        finding = check_quality(carried).finding("carried_weekends")
        assert (finding.status, finding.measured) == ("warning", len(carried) - len(daily))
        pd.testing.assert_frame_equal(repair(carried).prices, daily, check_freq=False)

    def test_a_price_that_never_moves_is_an_error(self):
        constant = self.frame(pd.bdate_range("2015-01-01", periods=400))
        constant[["open", "high", "low", "close"]] = 7.5
        report = check_quality(constant)
        assert report.finding("constant_price").status == "failed" and not report.passed

    def test_a_jump_by_a_thousand_is_an_error(self):
        prices = self.frame(pd.bdate_range("2015-01-01", periods=400))
        prices.iloc[200:, :4] /= 1000
        assert check_quality(prices).finding("split_like").detail.endswith("like 1000:1")

    @pytest.mark.parametrize("columns", [["volume"], ["open", "high", "low"]])
    def test_the_first_day_of_whole_rows_is_named_where_old_ones_lack_values(self, columns):
        prices = self.frame(pd.bdate_range("2015-01-01", periods=700))
        prices.loc[prices.index[:300], columns] = np.nan
        detail = check_quality(prices).finding("missing_values").detail
        assert f"START={prices.index[300]:%Y-%m-%d}" in detail
