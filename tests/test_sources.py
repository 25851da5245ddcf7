import subprocess
import sys

import pytest

from forecastlib.data.prices import require_prices
from forecastlib.data.sources import Source, open_source
from forecastlib.errors import ConfigError, SourceError


@pytest.mark.parametrize("symbol", ["^GSPC", "^IXIC"])
def test_bundled_prices_are_complete_and_have_the_known_sessions(symbol):
    prices = open_source("bundled").fetch(symbol)
    require_prices(prices)
    assert (len(prices), str(prices.index[0].date()), str(prices.index[-1].date())) == (
        5031,
        "1999-01-04",
        "2018-12-31",
    )
    assert prices.attrs == {"symbol": symbol, "source": "bundled", "failures": []}


def test_bundled_prices_are_the_quoted_ones():
    first = open_source("bundled").fetch("^IXIC").iloc[0]
    assert first.to_list() == [2207.540039, 2233.570068, 2192.679932, 2208.050049, 936660000.0]


def test_start_and_end_are_both_included():
    prices = open_source("bundled").fetch("^GSPC", start="1999-01-05", end="1999-01-07")
    assert [str(date.date()) for date in prices.index] == ["1999-01-05", "1999-01-06", "1999-01-07"]


def test_a_range_without_sessions_is_an_error_that_names_the_available_range():
    with pytest.raises(SourceError, match="from 1999-01-04 to 2018-12-31, but nothing from 2020-01-01 to its end"):
        open_source("bundled").fetch("^GSPC", start="2020-01-01")


def test_a_start_after_the_end_is_a_config_error():
    with pytest.raises(ConfigError, match="start must not be after end"):
        open_source("bundled").fetch("^GSPC", start="2010-01-02", end="2010-01-01")


@pytest.mark.parametrize("start", ["soon", float("nan"), object()])
def test_a_start_that_is_not_a_date_is_a_config_error(start):
    with pytest.raises(ConfigError, match="start must be a date"):
        open_source("bundled").fetch("^GSPC", start=start)


def test_an_unknown_symbol_is_an_error_that_names_the_bundled_ones():
    with pytest.raises(SourceError, match=r"\^GSPC, \^IXIC; got 'AAPL'"):
        open_source("bundled").fetch("AAPL")


def test_sources_satisfy_the_protocol():
    assert isinstance(open_source("bundled"), Source)


def test_reading_bundled_prices_does_not_import_arch():
    code = (
        "import sys; from forecastlib.data.sources import open_source; open_source('bundled').fetch('^GSPC');"
        "print([m for m in ('arch', 'sqlalchemy', 'yfinance', 'tensorflow', 'mlflow') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
