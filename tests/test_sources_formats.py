"""Exports of many programs and languages, each written here, and files that combine their oddities at random."""

import datetime as dt
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from forecastlib.data.sources import open_source
from forecastlib.errors import ForecastError, SourceError

DAYS = pd.DatetimeIndex(["2024-03-07", "2024-03-08", "2024-03-11", "2024-03-22"])
TRUTH = pd.DataFrame(
    {
        "open": [70.1, 71.25, 70.8, 72.4],
        "high": [71.5, 71.9, 72.75, 73.1],
        "low": [69.85, 70.3, 70.45, 71.95],
        "close": [71.2, 70.75, 72.4, 72.05],
        "volume": [1200.0, 1350.0, 990.0, 1010.0],
    },
    DAYS,
)


def read(text, symbol="WIDX50", encoding="utf-8", **options):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "prices.csv")
        path.write_bytes(text.encode(encoding))
        return open_source(f"csv:{path}", **options).fetch(symbol)


def write(header, *, date="%Y-%m-%d", delimiter=",", order="ohlcv", before=(), behind=(), decimal="."):
    """Write the true prices below a header, with constant cells before and behind them."""
    names = {name[0]: name for name in TRUTH}
    lines = [header]
    for day, row in TRUTH.iterrows():
        values = [f"{row[names[letter]]:g}".replace(".", decimal) for letter in order]
        lines.append(delimiter.join([*before, f"{day:{date}}", *values, *behind]))
    return "\n".join(lines) + "\n"


COMMAS = {"delimiter": ";", "decimal": ","}

FORMATS = {
    "Japanese": ("日付,始値,高値,安値,終値,出来高", {"date": "%Y/%m/%d"}, ["utf-8", "utf-8-sig", "shift_jis"]),
    "Chinese": ("日期,开盘,收盘,最高,最低,成交量", {"order": "ochlv"}, ["utf-8", "gbk", "gb18030"]),
    "Taiwanese": ("日期,開盤價,最高價,最低價,收盤價,成交量", {}, ["utf-8", "big5"]),
    "Portuguese": ("Data;Abertura;Máxima;Mínima;Fechamento;Volume", COMMAS, ["utf-8", "cp1252"]),
    "German": ("Datum;Eröffnung;Hoch;Tief;Schlusskurs;Volumen", COMMAS | {"date": "%d.%m.%Y"}, ["utf-8", "cp1252"]),
    "French": ("Date;Ouverture;Plus haut;Plus bas;Clôture;Volume", COMMAS, ["utf-8", "cp1252"]),
    "Spanish": ("Fecha;Apertura;Máximo;Mínimo;Cierre;Volumen", COMMAS | {"date": "%d/%m/%Y"}, ["utf-8", "cp1252"]),
    "Stooq": ("Data,Otwarcie,Najwyzszy,Najnizszy,Zamkniecie,Wolumen", {}, ["utf-8"]),
    "MetaTrader": (
        "<DATE>\t<OPEN>\t<HIGH>\t<LOW>\t<CLOSE>\t<TICKVOL>\t<VOL>\t<SPREAD>",
        {"date": "%Y.%m.%d", "delimiter": "\t", "behind": ("0", "2")},
        ["utf-8", "utf-16"],
    ),
    "Alpha Vantage": ("timestamp,1. open,2. high,3. low,4. close,5. volume", {}, ["utf-8"]),
    "Tushare": (
        ",ts_code,trade_date,open,high,low,close,vol",
        {"date": "%Y%m%d", "before": ("7", "WIDX50")},
        ["utf-8"],
    ),
    "shares traded": ("Date ,Open ,High ,Low ,Close ,Shares Traded ", {"date": "%d-%b-%Y"}, ["utf-8"]),
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "encoding"), [(name, encoding) for name, (_, _, encodings) in FORMATS.items() for encoding in encodings]
)
def test_exports_of_other_programs_and_languages_are_read_exactly(name, encoding):
    header, options, _ = FORMATS[name]
    prices = read(write(header, **options), encoding=encoding)
    pd.testing.assert_frame_equal(prices, TRUTH, check_names=False, check_index_type=False)


def test_a_table_of_akshare_is_read_with_a_note_of_its_code():
    rows = [f"{day:%Y-%m-%d},600000,{r.open},{r.close},{r.high},{r.low},{r.volume}" for day, r in TRUTH.iterrows()]
    prices = read("日期,股票代码,开盘,收盘,最高,最低,成交量\n" + "\n".join(rows), encoding="gbk")
    np.testing.assert_array_equal(prices, TRUTH)
    assert prices.attrs["notes"] == ["the only series is called '600000'; it was taken for 'WIDX50'"]


def test_an_export_of_krx_has_thousands_between_commas():
    text = '"일자","종가","대비","시가","고가","저가","거래량"\n"2024/03/08","1,002","5","998","1,010","995","12,345"\n'
    assert read(text, encoding="cp949").iloc[0].to_list() == [998, 1010, 995, 1002, 12345]


@pytest.mark.parametrize("unit", [1, 10**3, 10**6, 10**9])
def test_dates_may_count_seconds_or_parts_of_them(unit):
    seconds = [int(pd.Timestamp(day).timestamp()) * unit for day in DAYS]
    rows = [f"{s}," + ",".join(map(str, row)) for s, row in zip(seconds, TRUTH.to_numpy(), strict=True)]
    prices = read("\n".join(["timestamp,open,high,low,close,volume", *rows]))
    pd.testing.assert_frame_equal(prices, TRUTH, check_names=False, check_index_type=False)
    assert "dates are epoch" in prices.attrs["notes"][0]


def test_klines_of_binance_need_no_header():
    starts = [int(day.timestamp() * 1000) for day in DAYS]
    cells = [[start, *row, start + 1, 9, 9, 9, 9, 0] for start, row in zip(starts, TRUTH.to_numpy(), strict=True)]
    rows = [",".join(map(str, row)) for row in cells]
    pd.testing.assert_frame_equal(read("\n".join(rows)), TRUTH, check_names=False, check_index_type=False)


def test_an_unknown_header_in_another_encoding_is_refused_without_garbled_text():
    with pytest.raises(SourceError, match=r"not UTF-8.*cp932.*save it as UTF-8") as caught:
        read("取引,寄付,上,下,引け\n2024/01/04,1,2,0.5,1\n", encoding="shift_jis")
    assert str(caught.value).split("prices.csv")[1].isascii()


class TestSeveralSeries:
    ROWS = "2024-01-02,10,11,9,10.5,100,A\n2024-01-03,10.5,11,10,10.8,110,A\n"
    OTHER = "2024-01-04,510,512,508,511,900,B\n2024-01-05,511,515,509,514,950,B\n"

    @pytest.mark.parametrize("column", ["Symbol", "Ticker", "Name", "Index", "Code", "Contract", "ts_code"])
    def test_a_column_of_symbols_chooses_the_rows(self, column):
        text = f"date,open,high,low,close,volume,{column}\n{self.ROWS}{self.OTHER}"
        assert read(text, "B")["close"].to_list() == [511, 514]
        with pytest.raises(SourceError, match=f"those of A, B, distinguished by the column '{column}'"):
            read(text, "C")

    def test_series_below_each_other_are_recognised_by_any_column_of_text(self):
        with pytest.raises(SourceError, match="found 2, distinguished by the column 'Markt'"):
            read(f"date,open,high,low,close,volume,Markt\n{self.ROWS}{self.OTHER}")

    def test_series_between_each_other_are_recognised_by_any_column_of_text(self):
        other = self.OTHER.replace("01-04", "01-02").replace("01-05", "01-03")
        with pytest.raises(SourceError, match="found 2, distinguished by the column 'Markt': A, B"):
            read(f"date,open,high,low,close,volume,Markt\n{self.ROWS}{other}")

    def test_a_column_of_text_that_describes_days_is_passed_over(self):
        rows = self.ROWS.replace("A\n", "Tue\n", 1) + self.ROWS.replace("01-0", "01-1").replace("A\n", "Tue\n", 1)
        assert len(read(f"date,open,high,low,close,volume,Weekday\n{rows}")) == 4

    def test_the_only_series_of_a_file_may_lack_the_caret_of_its_symbol(self):
        text = f"date,open,high,low,close,volume,symbol\n{self.ROWS}"
        prices = read(text, "^A")
        assert len(prices) == 2 and prices.attrs["symbol"] == "^A"
        assert prices.attrs["notes"] == ["the only series is called 'A'; it was taken for '^A'"]
        with pytest.raises(SourceError, match="expected rows of 'B'; the rows are those of A"):
            read(text, "B")


class TestDatesThatCannotBe:
    def test_a_date_in_the_future_is_refused(self):
        year = dt.date.today().year + 1
        with pytest.raises(SourceError, match=f"line 3, column 'date'.*{year}-01-03, which is in the future"):
            read(f"date,open,high,low,close\n2024-01-02,1,2,0.5,1\n{year}-01-03,1,2,0.5,1\n")

    @pytest.mark.parametrize(
        "first", ["1925-06-01", "1928-03-01", "1957-01-02", "1967-12-01", "1999-11-01", "2015-01-05"]
    )
    @pytest.mark.parametrize("form", ["%m/%d/%y", "%d.%m.%y", "%d-%b-%y"])
    @pytest.mark.parametrize("given", [False, True])
    def test_the_century_of_two_digits_is_the_one_that_fits(self, first, form, given):
        days = pd.bdate_range(first, periods=80)
        rows = "".join(f"{day:{form}},1,2,0.5,{number + 1}\n" for number, day in enumerate(days))
        prices = read("date,open,high,low,close\n" + rows, **{"date_format": form} if given else {})
        assert prices.index.equals(days.as_unit("us"))

    def test_a_price_of_every_day_of_the_week_stays_in_this_century(self):
        days = pd.date_range("2021-01-01", periods=500)
        rows = "".join(f"{day:%d.%m.%y},1,2,0.5,{number + 1}\n" for number, day in enumerate(days))
        assert read("date,open,high,low,close\n" + rows).index.equals(days.as_unit("us"))

    @pytest.mark.parametrize("hours", [6, 9, 10])
    @pytest.mark.parametrize("form", ["%Y-%m-%d %H:%M:%S", "%Y%m%d%H%M", "%d/%m/%Y %H:%M"])
    def test_midnight_in_the_east_written_in_utc_without_a_zone_is_refused(self, hours, form):
        days = pd.bdate_range("2021-03-01", periods=30) - pd.Timedelta(hours=hours)
        rows = "".join(f"{day:{form}},1,2,0.5,1\n" for day in days)
        with pytest.raises(SourceError, match="every session is a day early"):
            read("date,open,high,low,close\n" + rows)

    def test_row_numbers_are_not_dates(self):
        with pytest.raises(SourceError, match=r"the header ', code, when, open.*lacks date"):
            read(",code,when,open,high,low,close\n0,X,20240103,1,2,0.5,1\n1,X,20240104,1,2,0.5,1\n")


class TestThousands:
    @pytest.mark.parametrize("closes", [["997", "1.002"], ["1.002", "1.010"]])
    def test_points_that_may_group_thousands_are_not_read_as_decimals(self, closes):
        rows = "".join(f'2024-01-0{n},"{c}","{c}","{c}","{c}"\n' for n, c in enumerate(closes, 2))
        with pytest.raises(SourceError, match=r"decimal='.' or decimal=','"):
            read("Date,Open,High,Low,Close\n" + rows)
        prices = read("Date,Open,High,Low,Close\n" + rows, decimal=",")
        assert prices["close"].to_list() == [float(close.replace(".", "")) for close in closes]

    def test_three_decimals_of_a_currency_are_decimals(self):
        rows = "2024-01-02,110.123,110.500,109.875,110.250,900\n2024-01-03,110.250,110.625,110.125,110.375,1000\n"
        header = "Date,Open,High,Low,Close,Volume\n"
        assert read(header + rows)["open"].to_list() == [110.123, 110.25]
        with pytest.raises(SourceError, match="set decimal="):  # a volume of 1000 without a separator had decided
            read(header + rows.replace("1000", "990"))
        assert read(header + rows.replace("1000", "990"), decimal=".")["open"].to_list() == [110.123, 110.25]

    @pytest.mark.parametrize("name", ["Datum;Eröffnung;Hoch;Tief;Schlusskurs", "Date;Open;High;Low;Close"])
    def test_groups_of_three_digits_decide_nothing_between_semicolons(self, name):
        rows = "02.01.2024;12.345;12.410;12.300;12.380\n15.01.2024;12.250;12.290;12.190;12.275\n"
        with pytest.raises(SourceError, match=r"'12.345' can be read with thousands or with decimals; set decimal"):
            read(f"{name}\n{rows}")


class TestVolumes:
    def test_an_adjusted_volume_belongs_to_adjusted_prices(self):
        header = "Date,Open,High,Low,Close,Volume,Adj. Close,Adj. Volume\n"
        rows = "2024-01-02,60,60.8,59.6,60.2,1000,30.1,2000\n2024-01-03,30.1,30.6,29.9,30.4,2000,30.4,2000\n"
        assert read(header + rows)["volume"].to_list() == [2000, 2000]
        assert read(header + rows, adjust="none")["volume"].to_list() == [1000, 2000]

    def test_columns_that_were_passed_over_are_named_where_there_is_no_volume(self):
        text = "Date,Open,High,Low,Close,Umsatz\n2024-01-02,1,2,0.5,1,7\n"
        assert read(text).attrs["notes"] == ["there is no volume; it was set to zero; columns passed over: 'Umsatz'"]


# Everything combined

HEADERS = {
    "en": "Date Open High Low Close Volume",
    "ko": "일자 시가 고가 저가 종가 거래량",
    "ja": "日付 始値 高値 安値 終値 出来高",
    "zh": "日期 开盘 最高 最低 收盘 成交量",
    "de": "Datum Eröffnung Hoch Tief Schlusskurs Volumen",
    "pl": "Data Otwarcie Najwyższy Najniższy Zamknięcie Wolumen",
    "pt": "Data Abertura Máxima Mínima Fechamento Volume",
}
ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "cp949", "cp932", "gb18030", "big5", "cp1252", "cp1250"]
DATES = [
    "%Y-%m-%d",
    "%Y%m%d",
    "%d.%m.%Y",
    "%m/%d/%Y",
    "%d/%m/%y",
    "%m/%d/%y",
    "%Y-%m-%d %H:%M:%S",
    "%Y-%m-%dT%H:%M:%S%z",
]


def number(value, digits, decimal, grouping):
    text = f"{value:{',' if grouping else ''}.{digits}f}"
    return text.translate(str.maketrans({",": {",": "."}.get(decimal, ","), ".": decimal}))


@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_a_file_gives_the_right_prices_or_a_reason_that_names_what_decides(data):
    choose = lambda *values: data.draw(st.sampled_from(values))  # noqa: E731
    names, encoding = HEADERS[choose(*HEADERS)].split(), choose(*ENCODINGS)
    delimiter, decimal, grouping = choose(",", ";", "\t", "|"), choose(".", ","), choose(True, False)
    # Between commas, or in English, "12,345" has thousands, by a rule that the documentation states.
    digits = choose(0, 2, 3, 5) if decimal == "." or delimiter == ";" else choose(0, 2, 5)
    level = choose(0.5, 5.0, 90.0, 990.0, 12_000.0)
    form, zone = choose(*DATES), choose("", "UTC", "Asia/Seoul", "America/New_York")
    rng = np.random.default_rng(data.draw(st.integers(0, 1_000)))
    days = pd.bdate_range(choose("1965-02-01", "1998-12-20", "2019-05-06"), periods=choose(3, 12, 40))
    closes = level * np.exp(np.cumsum(rng.normal(0, 0.01, len(days))))
    truth = pd.DataFrame({"open": closes * 0.999, "high": closes * 1.01, "low": closes * 0.99, "close": closes}, days)
    truth = truth.round(digits).assign(volume=rng.integers(1, 3_000_000, len(days)).astype(float))
    if (truth <= 0).to_numpy().any():
        return
    stamps = days.tz_localize(zone).tz_convert("UTC") if zone and "%H" in form else days.tz_localize("UTC")
    has_volume, newest_first, quotes = choose(True, False), choose(True, False), choose(True, False)
    columns = list(range(6 if has_volume else 5))
    data.draw(st.randoms()).shuffle(columns)
    rows = [names]
    for stamp, (_, row) in zip(stamps, truth.iterrows(), strict=True):
        numbers = [number(v, 0 if name == "volume" else digits, decimal, grouping) for name, v in row.items()]
        rows.append([f"{stamp:{form}}", *numbers])
    if newest_first:
        rows[1:] = rows[:0:-1]
    cells = [[row[column] for column in columns] for row in rows]
    if quotes or delimiter == ",":
        cells = [[f'"{cell}"' for cell in row] for row in cells]
    try:
        content = "\n".join(delimiter.join(row) for row in cells).encode(encoding)
    except UnicodeEncodeError:
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "prices.csv")
        path.write_bytes(content + ("\n".encode(encoding) if encoding == "utf-8" else b""))
        try:
            prices = open_source(f"csv:{path}").fetch("X")
        except ForecastError as error:
            reason = str(error).partition("prices.csv")[2]
            event("refused")
            decides = ("decimal=", "date_format=", "a day early", "no order of day and month", "save it as UTF-8")
            assert any(part in reason for part in decides), reason
            return
    event("read")
    expected = truth if has_volume else truth.assign(volume=0.0)
    np.testing.assert_array_equal(prices.index, expected.index)
    np.testing.assert_array_equal(prices.to_numpy(), expected.to_numpy())
