"""Yahoo through the real yfinance, which talks to a local server that responds like Yahoo, or fails."""

import datetime as dt
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pandas as pd
import pytest
import yfinance as yf

from forecastlib.data.prices import require_prices
from forecastlib.data.sources import open_source
from forecastlib.data.yahoo import YahooSource
from forecastlib.errors import ConfigError, SourceError

# yfinance 1.7 uses what pandas 4 will remove; the library cannot change that.
pytestmark = pytest.mark.filterwarnings("ignore::pandas.errors.Pandas4Warning:yfinance")

NEW_YORK = "America/New_York"
SESSIONS = pd.bdate_range("2026-11-09", "2026-11-20", tz=NEW_YORK)
CLOSE = [100.0 + number for number in range(len(SESSIONS))]
AFTER = dt.datetime(2026, 11, 21, tzinfo=dt.UTC)


def chart(sessions=SESSIONS, *, adjust=1.0, session_end=None, **quote):
    """Return the prices of some sessions in the format of Yahoo's chart."""
    close = CLOSE[: len(sessions)]
    stamps = [int((session + pd.Timedelta(hours=9, minutes=30)).timestamp()) for session in sessions]
    fields = {
        "open": [value - 1 for value in close],
        "high": [value + 2 for value in close],
        "low": [value - 2 for value in close],
        "close": close,
        "volume": [1000] * len(close),
    } | quote
    end = session_end or int((sessions[-1] + pd.Timedelta(hours=16)).timestamp()) if len(sessions) else 0
    meta = {
        "symbol": "TEST",
        "currency": "USD",
        "instrumentType": "INDEX",
        "exchangeTimezoneName": NEW_YORK,
        "timezone": "EST",
        "gmtoffset": -18000,
        "regularMarketTime": end,
        "firstTradeDate": 0,
        "priceHint": 2,
        "dataGranularity": "1d",
        "validRanges": ["1d", "max"],
        "currentTradingPeriod": {
            name: {"timezone": "EST", "start": end - 23_400, "end": end, "gmtoffset": -18000}
            for name in ("pre", "regular", "post")
        },
    }
    adjusted = [value * adjust for value in close]
    result = {
        "meta": meta,
        "timestamp": stamps,
        "indicators": {"quote": [fields], "adjclose": [{"adjclose": adjusted}]},
    }
    return {"chart": {"result": [result], "error": None}}


def refusal(code, description):
    return {"chart": {"result": None, "error": {"code": code, "description": description}}}


class Yahoo(ThreadingHTTPServer):
    """A server that responds to requests for charts as the test specifies, and records them."""

    daemon_threads = True
    block_on_close = False

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.received: list[tuple[str, dict]] = []
        self.answers: Callable[[str, dict], tuple[int, object]] = lambda path, query: (200, chart())
        self.everything = False  # whether `answers` also serves cookies and crumbs
        self.ended = threading.Event()

    def handle_error(self, request, client_address):
        """Ignore clients that gave up, which these tests provoke."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        parts = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        if "/v8/finance/chart/" in parts.path or self.server.everything:
            self.server.received.append((parts.path, query))
            status, body = self.server.answers(parts.path, query)
        else:
            status, body = 200, "crumb" if "getcrumb" in parts.path else ""
        if callable(body):
            body(self)
            return
        data = body if isinstance(body, bytes) else (body if isinstance(body, str) else json.dumps(body)).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_POST = do_GET

    def log_message(self, *arguments):
        """Log nothing."""


@pytest.fixture(autouse=True)
def _own_folder_for_yfinance(tmp_path):
    yf.set_tz_cache_location(str(tmp_path / "yfinance"))


@pytest.fixture
def yahoo():
    server = Yahoo()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.ended.set()
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def pauses():
    return []


@pytest.fixture
def source(yahoo, pauses):
    return YahooSource(base_url=yahoo.url, seconds=10, sleep=pauses.append, now=lambda: AFTER)


def charts_asked(yahoo):
    return [query for path, query in yahoo.received if "chart" in path and query.get("range") != "1d"]


def test_prices_have_the_shape_of_prices(source, yahoo):
    prices = source.fetch("^GSPC")
    require_prices(prices)
    assert prices.index.equals(pd.DatetimeIndex(SESSIONS.tz_localize(None)))
    assert prices.iloc[0].to_list() == [99.0, 102.0, 98.0, 100.0, 1000.0]
    assert prices.attrs == {
        "symbol": "^GSPC",
        "source": "yahoo",
        "failures": [],
        "dropped": 0,
        "adjusted": False,
        "notes": [],
    }
    assert {path for path, _ in yahoo.received} == {"/query2.finance.yahoo.com/v8/finance/chart/%5EGSPC"}


def test_only_the_requested_sessions_are_returned(source, yahoo):
    prices = source.fetch("TEST", start="2026-11-11", end="2026-11-13")
    assert prices.index.strftime("%d").to_list() == ["11", "12", "13"]
    asked = charts_asked(yahoo)[-1]
    assert pd.Timestamp(int(asked["period1"]), unit="s", tz=NEW_YORK) == pd.Timestamp("2026-11-11", tz=NEW_YORK)


def test_prices_are_scaled_by_the_adjusted_close_by_default(yahoo):
    yahoo.answers = lambda path, query: (200, chart(adjust=0.5))
    options = {"base_url": yahoo.url, "now": lambda: AFTER}
    for adjust, factor in (("auto", 0.5), ("close", 0.5), ("none", 1.0)):
        prices = YahooSource(adjust, **options).fetch("TEST")
        assert prices.iloc[0].to_list() == [99.0 * factor, 102.0 * factor, 98.0 * factor, 100.0 * factor, 1000.0]
        assert prices.attrs["adjusted"] is (factor != 1.0)


def test_scaling_agrees_with_yfinance_itself(yahoo, tmp_path):
    yahoo.answers = lambda path, query: (200, chart(adjust=0.37))
    ours = YahooSource("close", base_url=yahoo.url, now=lambda: AFTER).fetch("TEST")
    from forecastlib.data.yahoo import bounded_session

    with bounded_session(10, yahoo.url) as session:
        theirs = yf.Ticker("TEST", session=session).history(period="max", auto_adjust=True)
    for column in ("Open", "High", "Low", "Close"):
        np.testing.assert_allclose(ours[column.lower()], theirs[column], rtol=1e-15)


def test_the_bar_of_a_session_that_is_not_over_is_dropped_with_a_note(yahoo):
    during = dt.datetime(2026, 11, 20, 18, 0, tzinfo=dt.UTC)  # 13:00 in New York
    prices = YahooSource(base_url=yahoo.url, now=lambda: during).fetch("TEST")
    assert str(prices.index[-1].date()) == "2026-11-19"
    assert prices.attrs["dropped"] == 1
    assert prices.attrs["notes"] == ["the bar of 2026-11-20 was dropped: its session is not over"]


@pytest.mark.parametrize(("minutes", "kept"), [(10, False), (40, True)])
def test_a_bar_is_final_once_delayed_quotes_have_arrived(yahoo, minutes, kept):
    now = dt.datetime(2026, 11, 20, 21, minutes, tzinfo=dt.UTC)  # the session ends at 21:00 UTC
    prices = YahooSource(base_url=yahoo.url, now=lambda: now).fetch("TEST")
    assert (str(prices.index[-1].date()) == "2026-11-20") is kept


def test_a_single_unfinished_bar_is_not_enough(yahoo):
    yahoo.answers = lambda path, query: (200, chart(SESSIONS[:1]))
    during = dt.datetime(2026, 11, 9, 18, 0, tzinfo=dt.UTC)
    with pytest.raises(SourceError, match="no prices of TEST in this range; the bar of 2026-11-09 was dropped"):
        YahooSource(base_url=yahoo.url, now=lambda: during).fetch("TEST")


def test_rows_without_any_price_are_dropped_and_counted(source, yahoo):
    hole = {name: [None, *[50.0] * (len(SESSIONS) - 1)] for name in ("open", "high", "low", "close")}
    yahoo.answers = lambda path, query: (200, chart(**hole))
    assert source.fetch("TEST").attrs["notes"] == ["1 rows without any price were dropped"]


class TestFailures:
    def fails(self, source, match):
        with pytest.raises(SourceError, match=match) as caught:
            source.fetch("TEST")
        return str(caught.value)

    def test_a_missing_symbol_is_not_retried(self, source, yahoo, pauses):
        yahoo.answers = lambda path, query: (404, refusal("Not Found", "No data found, symbol may be delisted"))
        self.fails(source, r"(?i)yahoo has no prices of TEST: .*(delisted|no timezone found)")
        assert pauses == []

    def test_the_error_for_a_delisted_symbol_repeats_yahoos_reason(self, source, yahoo, pauses):
        def answers(path, query):
            if query.get("range") == "1d":
                return 200, chart()
            return 400, refusal("Bad Request", "Data doesn't exist for startDate = 1, endDate = 2")

        yahoo.answers = answers
        self.fails(source, "yahoo has no prices of TEST: Data doesn't exist for startDate")
        assert pauses == []

    def test_an_empty_response_is_an_error(self, source, yahoo):
        yahoo.answers = lambda path, query: (
            200,
            chart() if query.get("range") == "1d" else {"chart": {"result": [], "error": None}},
        )
        self.fails(source, "yahoo has no prices of TEST: ")

    def test_a_rate_limit_is_reported_and_retried_with_growing_pauses(self, source, yahoo, pauses):
        yahoo.answers = lambda path, query: (429, "Too Many Requests")
        message = self.fails(source, "in 3 attempts")
        assert message.count("Yahoo limits the rate of requests (HTTP 429); wait some minutes") == 3
        assert pauses == [2.0, 4.0]

    def test_a_temporary_failure_is_retried(self, source, yahoo, pauses):
        def answers(path, query):
            return (200, chart()) if pauses else (500, "Internal Server Error")

        yahoo.answers = answers
        assert len(source.fetch("TEST")) == len(SESSIONS)
        assert pauses == [2.0]

    @pytest.mark.parametrize(
        "body",
        [
            "<html>Will be right back</html>",
            "not json",
            b"\xff\xfe\x00garbage",
            "[]",
            "{}",
            "null",
            {"chart": {}},
            {"chart": {"result": [{}], "error": None}},
            {"chart": {"result": [{"meta": {"exchangeTimezoneName": NEW_YORK}}], "error": None}},
            chart(close=["a"] * len(SESSIONS)),
            chart(close=[1.0]),
        ],
    )
    def test_an_unreadable_response_is_a_source_error(self, source, yahoo, body):
        yahoo.answers = lambda path, query: (200, body)
        self.fails(source, r"yahoo (gave|has) no prices of TEST")

    def test_a_missing_column_is_a_source_error(self, source, yahoo):
        def without_low(path, query):
            answer = chart()
            del answer["chart"]["result"][0]["indicators"]["quote"][0]["low"]
            return 200, answer

        yahoo.answers = without_low
        self.fails(source, "cannot read Yahoo's answer .KeyError: 'low'")

    def test_an_unreachable_server_is_a_source_error(self, pauses):
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        gone = YahooSource(base_url=f"http://127.0.0.1:{port}", sleep=pauses.append)
        self.fails(gone, "the connection failed")
        assert pauses == [2.0, 4.0]

    @pytest.mark.parametrize("symbol", ["", "../../v1/test", "A B", "A?range=max", "A/B", "A#", "Ä", "X" * 40])
    def test_a_symbol_cannot_change_the_url(self, source, yahoo, symbol):
        with pytest.raises(SourceError, match="expected a symbol as Yahoo writes them"):
            source.fetch(symbol)
        assert yahoo.received == []

    @pytest.mark.parametrize("options", [{"attempts": 0}, {"seconds": 0}])
    def test_invalid_bounds_are_a_config_error(self, options):
        with pytest.raises(ConfigError, match="expected attempts >= 1 and seconds > 0"):
            YahooSource(**options)


def hang(handler):
    handler.server.ended.wait()


def drip(handler):
    handler.send_response(200)
    handler.end_headers()
    while not handler.server.ended.wait(0.05):
        handler.wfile.write(b" ")
        handler.wfile.flush()


def pour(handler):
    handler.send_response(200)
    handler.end_headers()
    while not handler.server.ended.is_set():
        handler.wfile.write(b" " * 2**20)


def hang_up(handler):
    handler.close_connection = True
    handler.connection.shutdown(socket.SHUT_RDWR)


def redirect(handler):
    handler.send_response(302)
    handler.send_header("Location", handler.path)
    handler.send_header("Content-Length", "0")
    handler.end_headers()


class TestWallTime:
    @pytest.mark.parametrize("body", [hang, drip, pour, hang_up, redirect])
    @pytest.mark.parametrize("everything", [False, True])
    def test_a_fetch_ends_in_time_even_if_the_server_stalls(self, yahoo, pauses, body, everything):
        yahoo.everything = everything
        yahoo.answers = lambda path, query: (200, body)
        source = YahooSource(base_url=yahoo.url, attempts=2, seconds=0.5, sleep=pauses.append)
        started = time.monotonic()
        with pytest.raises(SourceError, match=r"in 2 attempts: (the connection failed|yfinance)"):
            source.fetch("TEST")
        assert time.monotonic() - started < 4  # 2 x 0.5 s, with a margin for a busy machine
        assert pauses == [2.0]

    def test_a_source_works_again_after_a_connection_that_hung(self, yahoo):
        yahoo.everything = True
        yahoo.answers = lambda path, query: (200, hang)
        with pytest.raises(SourceError):
            YahooSource(base_url=yahoo.url, attempts=1, seconds=0.3).fetch("TEST")
        yahoo.everything = False
        yahoo.answers = lambda path, query: (200, chart())
        assert len(YahooSource(base_url=yahoo.url, now=lambda: AFTER).fetch("TEST")) == len(SESSIONS)

    def test_threads_fetch_one_after_the_other(self, yahoo):
        source = YahooSource(base_url=yahoo.url, seconds=30, now=lambda: AFTER)
        fetched = {}
        threads = [
            threading.Thread(target=lambda name=name: fetched.update({name: source.fetch(name)})) for name in "ABCD"
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert {name: prices.attrs["symbol"] for name, prices in fetched.items()} == {name: name for name in "ABCD"}


def test_the_settings_of_yfinance_are_restored(source, yahoo):
    for hides in (True, False):
        yf.config.debug.hide_exceptions = hides
        source.fetch("TEST")
        assert yf.config.debug.hide_exceptions is hides
    yf.config.debug.hide_exceptions = True


def test_without_yfinance_the_error_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "yfinance", None)
    with pytest.raises(SourceError, match=r"needs the package yfinance; pip install 'forecastlib\[yahoo\]'"):
        open_source("yahoo", cache=False).fetch("^GSPC")


def test_yfinance_is_not_imported_before_a_fetch():
    code = (
        "import sys; from forecastlib.data.sources import open_source; open_source('yahoo');"
        "print('yfinance' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_open_source_opens_yahoo():
    assert open_source("yahoo").name == "yahoo"


@pytest.mark.slow
def test_requests_still_work_where_tensorflow_is_loaded():
    # TensorFlow's libcurl must not replace the one that yfinance's requests need.
    code = """
import forecastlib.models.lstm
from curl_cffi import requests
try:
    requests.get("http://127.0.0.1:9", impersonate="chrome", timeout=5)
except requests.exceptions.ConnectionError as error:
    print("refused", error.code)
"""
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.split() == ["refused", "7"]
