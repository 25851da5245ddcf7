"""Formats of price files, and files without prices."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from forecastlib.data.prices import require_prices
from forecastlib.data.sources import open_source
from forecastlib.errors import ConfigError, DataQualityError, SourceError

PRICES = Path(__file__).parent / "fixtures" / "prices"
HEADER = "Date,Open,High,Low,Close,Volume\n"


@pytest.fixture(scope="module")
def truth():
    return open_source("bundled").fetch("^GSPC", "2018-12-06", "2018-12-14")


@pytest.fixture
def read(tmp_path):
    """Read a text as the file of a symbol."""

    def read_text(text, symbol="X", **options):
        path = tmp_path / "prices.csv"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return open_source(f"csv:{path}", **options).fetch(symbol)

    return read_text


def test_the_fixtures_are_all_read_by_a_test():
    exact, rounded = (set(mark.args[1]) for mark in (EXACT, ROUNDED))
    assert {path.name for path in PRICES.iterdir()} == exact | rounded


EXACT = pytest.mark.parametrize(
    "name",
    [
        "day_first.csv",
        "day_first_two_digit_year.csv",
        "holidays.csv",
        "lower_case.csv",
        "mixed_time_stamps.csv",
        "nasdaq.csv",
        "semicolons_decimal_comma.csv",
        "symbol_column.csv",
        "tabs_utf16.csv",
        "unnamed_index.csv",
        "yahoo.csv",
        "yfinance.csv",
        "yfinance_by_ticker.csv",
        "yfinance_time_zone.csv",
    ],
)
ROUNDED = pytest.mark.parametrize(
    "name",
    ["investing.csv", "investing_korean.csv", "investing_korean_cp949.csv", "investing_month_names.csv"],
)


@EXACT
def test_formats_are_read_exactly_without_options(name, truth):
    prices = open_source(f"csv:{PRICES / name}").fetch("^GSPC")
    require_prices(prices)
    pd.testing.assert_frame_equal(prices, truth, check_exact=True)


@ROUNDED
def test_rounded_exports_are_read_without_options(name, truth):
    prices = open_source(f"csv:{PRICES / name}").fetch("^GSPC")
    require_prices(prices)
    pd.testing.assert_frame_equal(prices[["open", "high", "low", "close"]], truth.drop(columns="volume").round(2))
    assert (prices["volume"] - truth["volume"]).abs().max() <= 0.005e9


@pytest.mark.parametrize(
    "rewrite",
    [
        lambda line: line,
        lambda line: ",".join(f'"{cell}"' for cell in line.split(",")),
        lambda line: line.replace("2018-12-10", '"2018-12-10"'),
        lambda line: line.replace(",", ", "),
        lambda line: line + ",",
        lambda line: line + "\r",
        lambda line: line + "\n \n",
        lambda line: line.replace(",", "\t"),
        lambda line: '"' + line.replace(",", '";"') + '" ',
    ],
    ids=["plain", "quoted", "one quoted", "spaces", "trailing", "crlf", "blank lines", "tabs", "quoted, spaces behind"],
)
def test_quotes_spaces_and_line_ends_change_nothing(read, truth, rewrite):
    lines = (PRICES / "yahoo.csv").read_text().splitlines()
    pd.testing.assert_frame_equal(read("\n".join(map(rewrite, lines)) + "\n"), truth, check_exact=True)


def test_attrs_record_the_source_and_the_rows_left_out():
    path = PRICES / "holidays.csv"
    assert open_source(f"csv:{path}").fetch("^GSPC").attrs == {
        "symbol": "^GSPC",
        "source": f"csv:{path}",
        "failures": [],
        "dropped": 3,
        "adjusted": False,
        "notes": ["3 rows without any price were dropped"],
    }


def test_every_notation_of_investing_com_is_understood(read):
    prices = read(
        '\ufeff"Date","Price","Open","High","Low","Vol.","Change %"\n'
        '"03/15/2021","1,234.56","1,200.00","1,300.1","1,100","12.3M","0.5%"\n'
        '"03/08/2021","","","","","",""\n'
        '"03/05/2021","999.50","990.00","1,000.00","980.25","-","0.5%"\n'
        '"03/04/2021","999.50","990.00","1,000.00","980.25","71.2K","-0.5%"\n'
    )
    assert prices.index.strftime("%m-%d").to_list() == ["03-04", "03-05", "03-15"]
    np.testing.assert_array_equal(prices["volume"], [71_200, np.nan, 12_300_000])
    assert prices.loc["2021-03-15"].to_list() == [1200.0, 1300.1, 1100.0, 1234.56, 12_300_000]
    assert prices.attrs["dropped"] == 1


def test_rows_that_lack_some_values_stay(read):
    prices = read(
        HEADER + "2021-03-04,1,2,0.5,,100\n2021-03-05,1,2,0.5,1.5,100\n2021-03-08,1,2\n2021-03-09,1,2,1,1,5\n"
    )
    assert prices.isna().sum().to_dict() == {"open": 0, "high": 0, "low": 1, "close": 2, "volume": 1}
    assert prices.attrs["dropped"] == 0


def test_a_missing_volume_becomes_zero_with_a_note(read):
    prices = read("Date,Open,High,Low,Close\n2021-03-04,1,2,0.5,1\n")
    assert prices["volume"].to_list() == [0.0]
    assert prices.attrs["notes"] == ["there is no volume; it was set to zero"]


def test_a_volume_of_dashes_counts_as_missing(read):
    prices = read(HEADER + "2021-03-04,1,2,0.5,1,-\n2021-03-05,1,2,0.5,1,-\n")
    assert prices["volume"].to_list() == [0.0, 0.0]
    assert prices.attrs["notes"] == ["there is no volume; it was set to zero"]


def test_a_last_line_that_is_cut_off_is_dropped_with_a_note(read):
    prices = read(HEADER + "2021-03-04,1,2,0.5,1,100\n2021-03-05,1,2,0.5,10")
    assert len(prices) == 1
    assert prices.attrs["dropped"] == 1
    assert prices.attrs["notes"] == ["line 3, the last one, is cut off; it was dropped"]


def test_exact_repetitions_are_dropped_and_conflicting_rows_raise(read):
    rows = "2021-03-04,1,2,0.5,1,100\n"
    assert read(HEADER + rows + rows).attrs["notes"] == ["1 exact repetitions of a row were dropped"]
    with pytest.raises(DataQualityError, match=r"line 2, .*line 3, .* are the same day"):
        read(HEADER + rows + rows.replace(",1,100", ",2,200"))


def test_of_rows_that_differ_only_in_their_volume_the_last_is_kept_with_a_note(read):
    rows = "2021-03-04,1,2,0.5,1,100\n"
    prices = read(HEADER + rows + rows.replace("100", "200"))
    assert prices["volume"].to_list() == [200.0]
    assert prices.attrs["dropped"] == 1
    assert "only the volume differs; the last was kept" in prices.attrs["notes"][0]


def test_intraday_bars_are_recognised(read):
    rows = "".join(f"2021-03-04 {hour:02}:00,1,2,0.5,{hour},100\n" for hour in range(9, 16))
    with pytest.raises(DataQualityError, match="intraday bars"):
        read(HEADER + rows)


class TestAdjusting:
    TEXT = (
        "Date,Open,High,Low,Close,Adj Close,Volume\n"
        "2021-03-04,8,12,6,10,5,100\n2021-03-05,5,6,4,5,5,200\n2021-03-08,5,6,4,,,200\n"
    )

    def test_auto_scales_all_prices_by_the_adjusted_close(self, read):
        prices = read(self.TEXT)
        assert prices.iloc[0].to_list() == [4.0, 6.0, 3.0, 5.0, 100.0]
        assert prices.iloc[1].to_list() == [5.0, 6.0, 4.0, 5.0, 200.0]
        assert prices.attrs["adjusted"] is True

    def test_none_leaves_prices_as_quoted(self, read):
        prices = read(self.TEXT, adjust="none")
        assert prices.iloc[0].to_list() == [8.0, 12.0, 6.0, 10.0, 100.0]
        assert prices.attrs["adjusted"] is False

    def test_close_requires_an_adjusted_close(self, read):
        assert read(self.TEXT, adjust="close").attrs["adjusted"] is True
        with pytest.raises(SourceError, match="needs an adjusted close"):
            read(HEADER + "2021-03-04,1,2,0.5,1,100\n", adjust="close")

    def test_an_adjusted_close_that_equals_the_close_changes_nothing(self, read):
        prices = read("Date,Open,High,Low,Close,Adj Close,Volume\n2021-03-04,0.1,0.3,0.1,0.3,0.3,1\n")
        assert prices.iloc[0].to_list() == [0.1, 0.3, 0.1, 0.3, 1.0]
        assert prices.attrs["adjusted"] is False

    def test_an_unknown_adjustment_is_a_config_error(self):
        with pytest.raises(ConfigError, match="unknown adjust 'clsoe'; did you mean 'close'"):
            open_source("csv:x", adjust="clsoe")


class TestDates:
    def dates(self, read, *cells, **options):
        rows = "".join(f'"{cell}",1,2,0.5,{1 + number},1\n' for number, cell in enumerate(cells))
        return read(HEADER + rows, **options).index.strftime("%Y-%m-%d").to_list()

    def test_one_row_decides_the_order_for_all(self, read):
        assert self.dates(read, "03/05/2021", "14/05/2021") == ["2021-05-03", "2021-05-14"]
        assert self.dates(read, "03/05/2021", "05/14/2021") == ["2021-03-05", "2021-05-14"]

    def test_an_ambiguous_order_is_an_error_that_names_the_options(self, read):
        with pytest.raises(SourceError, match=r"date_format='%d/%m/%Y' or date_format='%m/%d/%Y'"):
            self.dates(read, "03/05/2021", "04/05/2021")

    def test_date_format_decides_the_order(self, read):
        cells = "03/05/2021", "04/05/2021"
        assert self.dates(read, *cells, date_format="%d/%m/%Y") == ["2021-05-03", "2021-05-04"]
        assert self.dates(read, *cells, date_format="%m/%d/%Y") == ["2021-03-05", "2021-04-05"]

    def test_every_row_must_match_the_date_format(self, read):
        with pytest.raises(SourceError, match=r"line 3, column 'Date': '14/05/2021' does not match date_format"):
            self.dates(read, "03/05/2021", "14/05/2021", date_format="%m/%d/%Y")

    def test_an_invalid_date_format_is_an_error(self, read):
        with pytest.raises(SourceError, match="date_format='%Q'"):
            self.dates(read, "03/05/2021", date_format="%Q")

    def test_a_date_format_with_a_zone_keeps_the_written_date(self, read):
        cells = "04.03.2021 23:30 +0900", "05.03.2021 00:30 -0500"
        assert self.dates(read, "14.03.2021 01:00 +0900", *cells, date_format="%d.%m.%Y %H:%M %z") == [
            "2021-03-04",
            "2021-03-05",
            "2021-03-14",
        ]

    def test_conflicting_rows_are_both_named(self, read):
        with pytest.raises(SourceError, match=r"not day first because of line 3.*not month first because of line 2"):
            self.dates(read, "14/05/2021", "05/14/2021")

    def test_two_digit_years_may_come_first(self, read):
        assert self.dates(read, "99/12/30", "99/12/31") == ["1999-12-30", "1999-12-31"]
        with pytest.raises(SourceError, match="%y"):
            self.dates(read, "01/02/03", "01/02/04")

    @pytest.mark.parametrize(
        "cells",
        [
            ("5 Mar 2021", "15-Mar-2021"),
            ("Fri, 5 March 2021", "Mon, 15 March 2021"),
            ("Mar 5, 2021", "March 15 2021"),
            ("2021. 3. 5.", "2021. 3. 15."),
            ("2021년 3월 5일", "2021년 3월 15일"),
            ("20210305", "2021-03-15"),
            ("2021-03-05T16:00:00-05:00", "2021-03-15T16:00:00-04:00"),
            ("2021-03-05 15:00:00.000+09:00", "2021-03-15"),
            ("3/5/2021 4:00 PM", "3/15/2021 12:00 AM"),
            ("5/3/21", "15/3/21"),
            ("05.03.21", "15.03.21", "15.03.93"),
        ],
    )
    def test_common_notations_of_dates_are_read(self, read, cells):
        assert self.dates(read, *cells)[-2:] == ["2021-03-05", "2021-03-15"]

    @pytest.mark.parametrize("cell", ["2021-02-30", "2021-13-01", "2021-00-10", "soon", "1614902400", "30 Foo 2021"])
    def test_an_invalid_date_is_named_with_its_line(self, read, cell):
        with pytest.raises(SourceError, match=f"line 3, column 'Date': '{cell}'"):
            self.dates(read, "2021-03-04", cell)

    def test_time_stamps_of_utc_that_shift_an_eastern_exchange_are_refused(self, read):
        seoul = pd.date_range("2021-03-01", periods=10, freq="B", tz="Asia/Seoul").tz_convert("UTC")
        with pytest.raises(SourceError, match="fall on Sundays but never on a Friday"):
            self.dates(read, *seoul.strftime("%Y-%m-%dT%H:%M:%SZ"))
        new_york = pd.date_range("2021-03-01", periods=10, freq="B", tz="America/New_York").tz_convert("UTC")
        assert self.dates(read, *new_york.strftime("%Y-%m-%dT%H:%M:%SZ"))[0] == "2021-03-01"


class TestNumbers:
    def numbers(self, read, *cells, delimiter=",", **options):
        dates = pd.bdate_range("2021-03-01", periods=len(cells)).strftime("%Y-%m-%d")
        rows = [
            ["Date", "Open", "High", "Low", "Close"],
            *([day, *[f'"{cell}"'] * 4] for day, cell in zip(dates, cells, strict=True)),
        ]
        return read("\n".join(delimiter.join(row) for row in rows) + "\n", **options)["close"].to_list()

    @pytest.mark.parametrize(
        ("cells", "expected"),
        [
            (["1,234.56", "1,234,567"], [1234.56, 1234567.0]),
            (["1.234,56", "1.234.567"], [1234.56, 1234567.0]),
            (["12,5", "0,123"], [12.5, 0.123]),
            (["71,500", "71,600"], [71500.0, 71600.0]),
            (["1 234,5", "2 345,5"], [1234.5, 2345.5]),
            (["1'234.5", "1’234.5"], [1234.5, 1234.5]),
            (["$1,234.5", "₩71,500"], [1234.5, 71500.0]),
            (["12,34,567.5", "1.5"], [1234567.5, 1.5]),
            (["1e3", "1.5E-3"], [1000.0, 0.0015]),
            (["1.5k", "2T"], [1500.0, 2e12]),
            (["-37.63", "+5"], [-37.63, 5.0]),
        ],
    )
    def test_common_notations_of_numbers_are_read(self, read, cells, expected):
        assert self.numbers(read, *cells) == expected

    def test_every_notation_of_a_missing_value_is_read(self, read):
        cells = ["1", "", "-", "--", "N/A", "#N/A", "null", "None", "NaN", "."]
        assert self.numbers(read, *cells) == [1.0]

    def test_an_ambiguous_comma_in_a_file_with_semicolons_is_an_error(self, read):
        with pytest.raises(SourceError, match=r"line 2, column 'Open': '1,234' .*decimal='.' or decimal=','"):
            self.numbers(read, "1,234", "2,345", delimiter=";")
        assert self.numbers(read, "1,234", "2,345", delimiter=";", decimal=",") == [1.234, 2.345]
        assert self.numbers(read, "1,234", "2,345", delimiter=";", decimal=".") == [1234.0, 2345.0]

    def test_conflicting_decimal_signs_are_both_named(self, read):
        with pytest.raises(SourceError, match=r"'1.5' has a point.*'1,5' has a comma"):
            self.numbers(read, "1.5", "1,5")

    @pytest.mark.parametrize("cell", ["abc", "1_000", "0x10", "1e999", "-inf", "1.2.3", "5%", "1\x1f2", "12MM"])
    def test_an_invalid_number_is_named_with_its_line(self, read, cell):
        with pytest.raises(SourceError, match="line 3, column 'Open'"):
            self.numbers(read, "1", cell)


class TestNotPrices:
    @pytest.mark.parametrize(
        ("text", "found"),
        [
            ("", "an empty file"),
            ("\n\n \n", "an empty file"),
            ("<!DOCTYPE html>\n<p>Too many requests</p>", "the first line '<!DOCTYPE html>'"),
            ("Date,Price\n2021-03-04,5\n", "the header 'Date, Price' lacks open, high, low"),
            ("Date;Close;Open\n", "the header 'Date, Close, Open' lacks high, low"),
            (b"PK\x03\x04\x14\x00\x06\x00\x08\x00\x00\x00\x21\x00\xff\xd8\x00\x00", "binary data"),
        ],
    )
    def test_the_error_says_what_was_expected_and_what_was_found(self, read, text, found):
        with pytest.raises(SourceError, match=r"looked for .*header with date, open, high, low, close") as caught:
            read(text)
        assert found in str(caught.value)

    def test_a_header_without_rows_has_no_prices(self, read):
        with pytest.raises(SourceError, match="looked for rows with a price; found 0 rows"):
            read(HEADER)

    def test_an_unquoted_thousands_separator_is_recognised_by_the_number_of_fields(self, read):
        with pytest.raises(SourceError, match=r"line 2 has 7 fields where the header has 6.*need quotes"):
            read(HEADER + "2021-03-04,1,234.5,2,3,4,5\n")

    def test_an_unclosed_quote_is_an_error(self, read):
        rows = "".join(f"2021-03-{day:02},1,2,0.5,1,1\n" for day in range(1, 20))
        with pytest.raises(SourceError, match="line 21 opens a quote that it does not close"):
            read(
                HEADER + rows + '2021-03-20,"1,2,0.5,1,1\n' + rows.replace("-03-", "-04-") + '2021-05-01,"1,2,0.5,1,1\n'
            )

    def test_a_repeated_field_is_an_error(self, read):
        with pytest.raises(
            SourceError, match="expected one column for the close; the header has 'Close' more than once"
        ):
            read("Date,Open,High,Low,Close,Close\n2021-03-04,1,2,0.5,1,1\n")

    def test_an_unknown_symbol_is_an_error_that_names_those_in_the_file(self):
        for name in ("yfinance_by_ticker.csv", "symbol_column.csv"):
            with pytest.raises(SourceError, match=r"of 'AAPL'; the (columns|rows) are those of \^GSPC, \^IXIC"):
                open_source(f"csv:{PRICES / name}").fetch("AAPL")

    def test_a_symbol_never_gets_the_column_of_another(self, read):
        header = "Price,Open,High,Low,Close,High,Low,Close\nTicker,A,A,A,A,B,B,B\nDate,,,,,,,\n"
        row = "2021-03-04,1,2,1,1,2,1,1\n"
        assert len(read(header + row, symbol="A")) == 1
        with pytest.raises(SourceError, match="the columns of B lack open; got High, Low, Close"):
            read(header + row, symbol="B")

    def test_lines_above_the_header_are_skipped(self, read):
        assert len(read("S&P 500 Historical Data\nsource: somewhere\n\n" + HEADER + "2021-03-04,1,2,0.5,1,1\n")) == 1

    def test_a_huge_file_is_refused_without_reading_it(self, tmp_path):
        path = tmp_path / "huge.csv"
        with path.open("wb") as file:
            file.truncate(10**12)  # sparse: takes no space
        with pytest.raises(SourceError, match="found 953674 MB, more than 64"):
            open_source(f"csv:{path}").fetch("X")


class TestFolder:
    @pytest.fixture
    def folder(self, tmp_path):
        shutil.copy(PRICES / "yahoo.csv", tmp_path / "^GSPC.csv")
        shutil.copy(PRICES / "day_first.csv", tmp_path / "BRK.B.csv")
        open_source("bundled").fetch("^IXIC").to_parquet(tmp_path / "^IXIC.parquet")
        return tmp_path

    def test_each_symbol_has_its_file(self, folder, truth):
        source = open_source(f"csv:{folder}")
        pd.testing.assert_frame_equal(source.fetch("^GSPC"), truth)
        pd.testing.assert_frame_equal(source.fetch("BRK.B"), truth)
        pd.testing.assert_frame_equal(source.fetch("^IXIC"), open_source("bundled").fetch("^IXIC"))
        assert source.symbols() == ["BRK.B", "^GSPC", "^IXIC"]

    def test_a_symbol_without_a_file_is_an_error_that_names_those_with_one(self, folder):
        with pytest.raises(SourceError, match=r"AAPL.csv or AAPL.parquet; the folder has BRK.B, \^GSPC, \^IXIC"):
            open_source(f"csv:{folder}").fetch("AAPL")

    def test_two_files_of_one_symbol_are_an_error(self, folder):
        open_source("bundled").fetch("^GSPC").to_parquet(folder / "^GSPC.parquet")
        with pytest.raises(SourceError, match=r"both \^GSPC.csv and \^GSPC.parquet; remove"):
            open_source(f"csv:{folder}").fetch("^GSPC")

    @pytest.mark.parametrize(
        "symbol",
        ["../secret", "..", ".", "", "/etc/passwd", "a/../../secret", "..\\secret", "C:\\x", "C:x", "\0", "x" * 999],
    )
    def test_no_symbol_can_name_a_file_outside_the_folder(self, folder, symbol):
        inner = folder / "inner"
        inner.mkdir()
        shutil.copy(PRICES / "yahoo.csv", folder / "secret.csv")
        with pytest.raises(SourceError, match=r"expected a symbol|cannot be looked up|looked for"):
            open_source(f"csv:{inner}").fetch(symbol)

    def test_a_path_that_does_not_exist_is_an_error(self, tmp_path):
        with pytest.raises(SourceError, match=r"expected a file or a folder at .*nowhere; there is none"):
            open_source(f"csv:{tmp_path / 'nowhere'}").fetch("X")


class TestParquet:
    def fetch(self, tmp_path, frame, symbol="^GSPC", **options):
        frame.to_parquet(tmp_path / "prices.parquet")
        return open_source(f"csv:{tmp_path / 'prices.parquet'}", **options).fetch(symbol)

    def test_prices_survive_a_round_trip(self, tmp_path, truth):
        pd.testing.assert_frame_equal(self.fetch(tmp_path, truth), truth, check_exact=True)

    def test_headers_indexes_and_types_may_differ(self, tmp_path, truth):
        frame = truth.rename(columns=str.title).astype({"Volume": "int64", "Open": "float32"})
        for index in (
            truth.index.tz_localize("America/New_York"),
            truth.index.rename(None),
            truth.index.as_unit("ns").tz_localize("Asia/Seoul"),
            pd.Index(truth.index.date, name="Date"),
            pd.Index(truth.index.strftime("%d.%m.%Y"), name="Date"),
        ):
            prices = self.fetch(tmp_path, frame.set_axis(index))
            pd.testing.assert_frame_equal(prices, truth, rtol=1e-6)
        prices = self.fetch(tmp_path, truth.reset_index().sort_values("date", ascending=False))
        pd.testing.assert_frame_equal(prices, truth)

    def test_a_table_of_several_symbols_is_cut_to_one(self, tmp_path, truth):
        both = pd.concat([truth.assign(symbol="^GSPC"), (truth * 2).assign(symbol="^IXIC")]).reset_index()
        pd.testing.assert_frame_equal(self.fetch(tmp_path, both), truth)
        with pytest.raises(SourceError, match=r"are those of \^GSPC, \^IXIC"):
            self.fetch(tmp_path, both, symbol="AAPL")

    def test_rows_without_a_date_are_an_error(self, tmp_path, truth):
        with pytest.raises(SourceError, match="expected a date in every row"):
            self.fetch(tmp_path, truth.set_axis(truth.index.where(truth.index != truth.index[3])))

    def test_time_stamps_of_utc_that_shift_an_eastern_exchange_are_refused(self, tmp_path, truth):
        with pytest.raises(SourceError, match="fall on Sundays but never on a Friday"):
            self.fetch(tmp_path, truth.set_axis(truth.index.tz_localize("Asia/Seoul").tz_convert("UTC")))

    def test_another_table_is_an_error_that_names_its_columns(self, tmp_path):
        with pytest.raises(SourceError, match=r"looked for a header .*found the columns \['a'\]"):
            self.fetch(tmp_path, pd.DataFrame({"a": [1]}))

    @pytest.mark.parametrize("keep", [0, 3, 4, 100, -1, -8, -200])
    def test_a_truncated_file_is_an_error(self, tmp_path, truth, keep):
        path = tmp_path / "prices.parquet"
        truth.to_parquet(path)
        path.write_bytes(path.read_bytes()[:keep])
        with pytest.raises(SourceError, match=r"Parquet file is damaged, or is none|looked for"):
            open_source(f"csv:{path}").fetch("X")


def test_a_relative_path_that_is_only_in_the_project_is_found_from_any_directory(make_prices, tmp_path, monkeypatch):
    (tmp_path / "project" / "data").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    make_prices(30).to_csv(tmp_path / "project" / "data" / "TEST.csv")
    monkeypatch.setenv("FORECASTLIB_HOME", str(tmp_path / "project"))
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert len(open_source("csv:data").fetch("TEST")) == 30
