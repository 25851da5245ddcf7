"""Prices in SQLite and in a real PostgreSQL."""

import contextlib
import datetime as dt
import os
import signal
import sqlite3
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import sqlalchemy as sa

from forecastlib.data.sources import open_source
from forecastlib.data.sql import SqlSource, import_prices
from forecastlib.database import masked, parse_url
from forecastlib.errors import ConfigError, DataQualityError, SourceError


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def url(request, tmp_path):
    """The URL of a database without a table of prices."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'prices.db'}"
    url = request.getfixturevalue("postgresql")
    execute(url, "DROP TABLE IF EXISTS prices")
    return url


def execute(url, *statements):
    """Change a database without the library."""
    with sa.create_engine(parse_url(url), poolclass=sa.NullPool).begin() as connection:
        for statement in statements:
            connection.execute(sa.text(statement))


def rows_in(url):
    """Read the table without the library, in order; None if it does not exist."""
    engine = sa.create_engine(parse_url(url), poolclass=sa.NullPool)
    if not sa.inspect(engine).has_table("prices"):
        return None
    with engine.connect() as connection:
        return connection.execute(sa.text("SELECT * FROM prices ORDER BY symbol, date")).all()


@pytest.fixture(scope="module")
def gspc():
    return open_source("bundled").fetch("^GSPC")


@pytest.fixture(scope="module")
def ixic():
    return open_source("bundled").fetch("^IXIC", "2018-01-01")


def test_prices_survive_a_round_trip_exactly(url, gspc):
    assert import_prices(gspc, url) == 5031
    source = SqlSource(url)
    pd.testing.assert_frame_equal(source.fetch("^GSPC"), gspc, check_exact=True)
    cut = source.fetch("^GSPC", start="2018-01-02", end="2018-01-31")
    pd.testing.assert_frame_equal(cut, gspc["2018-01-02":"2018-01-31"], check_exact=True)
    assert cut.attrs == {"symbol": "^GSPC", "source": source.name, "failures": []}


def test_an_import_can_be_repeated(url, gspc, ixic):
    for _ in range(2):
        assert import_prices([gspc.tail(1500), ixic], url) == 1500 + 251
        assert len(rows_in(url)) == 1500 + 251
    assert SqlSource(url).symbols() == ["^GSPC", "^IXIC"]


def test_an_import_replaces_changed_rows_and_keeps_the_others(url, ixic):
    import_prices(ixic, url)
    changed = ixic.tail(2) * 2
    later = changed.set_axis(changed.index + pd.Timedelta(days=1))  # one session is known, one is new
    import_prices(later, url)
    expected = pd.concat([ixic[~ixic.index.isin(later.index)], later]).sort_index()
    pd.testing.assert_frame_equal(SqlSource(url).fetch("^IXIC"), expected, check_freq=False)


def test_missing_values_are_null(url, ixic):
    holes = ixic.head(3).copy()
    holes.iloc[1] = np.nan
    import_prices(holes, url)
    assert [row[2] is None for row in rows_in(url)] == [False, True, False]
    pd.testing.assert_frame_equal(SqlSource(url).fetch("^IXIC"), holes)


def test_a_frame_without_the_shape_of_prices_is_not_written(url, ixic):
    with pytest.raises(DataQualityError, match="volume missing"):
        import_prices([ixic, ixic.drop(columns="volume")], url)
    nameless = ixic.copy()
    nameless.attrs = {}
    with pytest.raises(SourceError, match="attrs"):
        import_prices([ixic, nameless], url)
    assert rows_in(url) is None


def test_a_symbol_without_rows_is_an_error_that_names_those_with_some(url, gspc, ixic):
    import_prices([gspc.tail(3), ixic.tail(3)], url)
    with pytest.raises(SourceError, match=r"has no rows of 'AAPL'; it has \^GSPC, \^IXIC"):
        SqlSource(url).fetch("AAPL")
    with pytest.raises(SourceError, match="but nothing from 2030-01-01"):
        SqlSource(url).fetch("^GSPC", start="2030-01-01")


def test_a_database_without_the_table_is_an_error_that_says_how_to_create_it(url):
    execute(url, "CREATE TABLE IF NOT EXISTS other (a INTEGER)")
    with pytest.raises(SourceError, match="write it with `forecastlib import SOURCE --into sql:URL`"):
        SqlSource(url).fetch("^GSPC")


def test_a_symbol_is_data_and_never_sql(url, ixic):
    import_prices(ixic.tail(3), url)
    with pytest.raises(SourceError, match="has no rows of"):
        SqlSource(url).fetch("x'; DROP TABLE prices; --")
    quoted = ixic.tail(3).copy()
    quoted.attrs["symbol"] = "O'NEIL; --"
    import_prices(quoted, url)
    assert len(SqlSource(url).fetch("O'NEIL; --")) == 3


@pytest.mark.parametrize("date", ["DATE", "TIMESTAMP", "TEXT"])
def test_existing_tables_may_store_dates_in_other_types(url, date):
    columns = "open FLOAT, high FLOAT, low FLOAT, close FLOAT, volume BIGINT"
    execute(url, f"CREATE TABLE prices (id INTEGER, symbol TEXT, date {date}, {columns})")
    for day in (4, 3):
        execute(url, f"INSERT INTO prices VALUES (1, 'X', '2021-03-0{day}', 1, 2, 0.5, 1.5, {day})")
    prices = SqlSource(url).fetch("X")
    assert prices.index.strftime("%Y-%m-%d").to_list() == ["2021-03-03", "2021-03-04"]
    assert prices["volume"].to_list() == [3.0, 4.0]


def test_a_table_without_a_unique_key_cannot_be_written(url, ixic):
    columns = ", ".join(f"{name} FLOAT" for name in ("open", "high", "low", "close", "volume"))
    execute(url, f"CREATE TABLE prices (symbol TEXT, date DATE, {columns})")
    with pytest.raises(SourceError, match=r"ON CONFLICT"):
        import_prices(ixic, url)
    assert rows_in(url) == []


INTERRUPTED = """
import sys
import sqlalchemy as sa
from forecastlib.data.sources import open_source
from forecastlib.data.sql import import_prices

batches = 0

@sa.event.listens_for(sa.Engine, "after_cursor_execute")
def stop_in_the_middle(connection, cursor, statement, parameters, context, executemany):
    global batches
    batches += statement.startswith("INSERT")
    if batches == 3:
        print("in the middle", flush=True)
        sys.stdin.readline()  # never comes

import_prices(open_source("bundled").fetch("^GSPC") * 2, sys.argv[1])
print("done")
"""


@pytest.mark.parametrize("before", ["no table", "rows"])
def test_a_killed_import_leaves_the_table_as_it_was(url, gspc, before):
    if before != "no table":
        import_prices(gspc.head(1500), url)
    expected = rows_in(url)
    assert (expected is None) == (before == "no table")
    with subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "in the middle\n"
        os.kill(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    assert rows_in(url) == expected
    assert import_prices(gspc, url) == 5031  # and no lock is left behind
    pd.testing.assert_frame_equal(SqlSource(url).fetch("^GSPC"), gspc)


def test_an_import_that_fails_midway_leaves_the_table_as_it_was(url, gspc):
    import_prices(gspc.head(10), url)
    expected = rows_in(url)
    long = gspc.tail(2500).copy()
    if url.startswith("postgresql"):
        long.attrs["symbol"] = "X" * 65  # refused by the database
    else:
        execute(
            url,
            "CREATE TRIGGER refuse BEFORE INSERT ON prices WHEN NEW.date = '2018-12-31' "
            "BEGIN SELECT RAISE(ABORT, 'refused'); END",
        )
    with pytest.raises(SourceError, match=r"refused|too long"):
        import_prices([gspc.head(2000) * 2, long], url)
    assert rows_in(url) == expected


# One interpreter that forks, so that pandas is loaded once; the children start together when the pipe is closed.
AT_ONCE = """
import os, sys
from forecastlib.database import parse_url
from forecastlib.data.sources import open_source
from forecastlib.data.sql import import_prices

prices = open_source("bundled").fetch("^GSPC", "2013-01-01")
parse_url(sys.argv[1])  # loads SQLAlchemy
waiting, begin = os.pipe()
children = []
for number in range(4):
    child = os.fork()
    if child == 0:
        os.close(begin)
        os.read(waiting, 1)
        try:
            import_prices(prices * (number + 1), sys.argv[1])
        except BaseException as error:
            print(repr(error), flush=True)
            os._exit(1)
        os._exit(0)
    children.append(child)
os.close(begin)
print([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children])
"""


@pytest.mark.slow
def test_four_imports_at_once_go_one_after_the_other(url, gspc):
    command = [sys.executable, "-c", AT_ONCE, url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (done.stdout, done.stderr) == ("[0, 0, 0, 0]\n", "")
    ratio = SqlSource(url).fetch("^GSPC") / gspc["2013-01-01":]
    assert ratio["close"].round(12).nunique() == 1  # all rows come from one import, not from two


class TestSecrets:
    URL = "postgresql://ann:hunt%40er2@127.0.0.1:1/prices?application_name=x&sslpassword=seCret"

    def test_a_name_contains_no_secret(self):
        name = SqlSource(self.URL).name
        assert name == "sql:postgresql://ann:***@127.0.0.1:1/prices?application_name=x&sslpassword=***"
        assert masked(parse_url("sqlite:///prices.db")) == "sqlite:///prices.db"

    def test_neither_messages_nor_the_cache_contain_a_secret(self, tmp_path):
        for source in (SqlSource(self.URL), open_source(f"sql:{self.URL}", cache=tmp_path)):
            with pytest.raises(SourceError) as caught:
                source.fetch("X")
            chain, shown = caught.value, []
            while chain is not None and chain.__suppress_context__ is False:
                shown.append(str(chain))
                chain = chain.__cause__ or chain.__context__
            shown.append(str(chain))
            assert "connection" in shown[0]
            assert not any(secret in text for text in shown for secret in ("hunt@er2", "hunt%40er2", "seCret"))
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.slow
    def test_a_failed_chain_contains_no_secret(self):
        with pytest.raises(SourceError) as caught:
            open_source(["bundled", f"sql:{self.URL}"], cache=False).fetch("X")
        assert "hunt" not in str(caught.value)
        assert "***" in str(caught.value)


class TestUrl:
    @pytest.mark.parametrize("url", ["", "prices.db", "mysql://h/d", "postgresql:/x y", "://", "sqlite", "mongodb://x"])
    def test_only_sqlite_and_postgresql_are_accepted(self, url):
        with pytest.raises(ConfigError, match="expected a database as sqlite:///FILE or postgresql://"):
            SqlSource(url)

    def test_postgresql_urls_use_psycopg_in_every_version_of_sqlalchemy(self):
        for name in ("postgres", "postgresql", "postgresql+psycopg"):
            assert parse_url(f"{name}://h/d").drivername == "postgresql+psycopg"

    def test_the_prefix_of_a_source_is_accepted(self, tmp_path, ixic):
        assert import_prices(ixic, f"sql:sqlite:///{tmp_path / 'x.db'}") == 251

    def test_a_missing_driver_is_an_error_that_says_how_to_install_it(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "psycopg", None)
        with pytest.raises(SourceError, match=r"pip install 'forecastlib\[postgres\]'"):
            SqlSource("postgresql://h/d").fetch("X")


class TestSqliteFile:
    def test_reading_creates_no_file(self, tmp_path):
        with pytest.raises(SourceError, match="there is no such file; write it with `forecastlib import"):
            SqlSource(f"sqlite:///{tmp_path / 'no.db'}").fetch("X")
        assert list(tmp_path.iterdir()) == []

    def test_reading_does_not_wait_for_an_import(self, tmp_path, ixic):
        import_prices(ixic, f"sqlite:///{tmp_path / 'x.db'}")
        with contextlib.closing(sqlite3.connect(tmp_path / "x.db", isolation_level=None)) as importing:
            importing.execute("BEGIN IMMEDIATE")
            importing.execute("DELETE FROM prices")
            assert len(SqlSource(f"sqlite:///{tmp_path / 'x.db'}").fetch("^IXIC")) == 251

    def test_a_file_that_is_not_a_database_is_an_error(self, tmp_path):
        (tmp_path / "x.db").write_text("Date,Open\n" * 1000)
        with pytest.raises(SourceError, match="not a database"):
            SqlSource(f"sqlite:///{tmp_path / 'x.db'}").fetch("X")

    def test_a_folder_that_does_not_exist_is_an_error(self, tmp_path, ixic):
        with pytest.raises(SourceError, match="unable to open database file"):
            import_prices(ixic, f"sqlite:///{tmp_path / 'no' / 'x.db'}")

    def test_values_that_are_not_numbers_are_an_error(self, tmp_path):
        url = f"sqlite:///{tmp_path / 'x.db'}"
        execute(
            url,
            "CREATE TABLE prices (symbol, date, open, high, low, close, volume)",
            "INSERT INTO prices VALUES ('X', '2021-03-04', 'a', 2, 1, 1, 1)",
            "INSERT INTO prices VALUES ('Y', 'someday', 1, 2, 1, 1, 1)",
        )
        with pytest.raises(SourceError, match="not all numbers"):
            SqlSource(url).fetch("X")
        with pytest.raises(SourceError, match="'someday' is not a date"):
            SqlSource(url).fetch("Y")


def test_dates_are_written_as_dates(url, ixic):
    import_prices(ixic.tail(1), url)
    (row,) = rows_in(url)
    assert row[:2] in (("^IXIC", "2018-12-31"), ("^IXIC", dt.date(2018, 12, 31)))
