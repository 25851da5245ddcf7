"""Chains of sources, and opening them by name."""

import pytest

from forecastlib.data.sources import Source, open_source
from forecastlib.errors import ConfigError, DataQualityError, SourceError


class FailingSource:
    def __init__(self, name, error):
        self.name = name
        self._error = error

    def fetch(self, symbol, start=None, end=None):
        raise self._error


def test_the_first_source_that_has_the_prices_serves_them(tmp_path):
    prices = open_source(f"csv:{tmp_path},bundled").fetch("^GSPC", end="1999-01-05")
    assert prices.attrs["source"] == "bundled"
    (failure,) = prices.attrs["failures"]
    assert failure.startswith(f"csv:{tmp_path}: looked")
    assert "^GSPC.csv or ^GSPC.parquet" in failure


def test_sources_after_the_one_that_has_the_prices_are_not_queried():
    never = FailingSource("never", AssertionError("a later source was asked"))
    prices = open_source(["bundled", never]).fetch("^GSPC")
    assert (prices.attrs["source"], prices.attrs["failures"]) == ("bundled", [])


def test_a_chain_continues_after_failures_but_not_after_config_errors():
    damaged = FailingSource("damaged", DataQualityError("two rows for one day"))
    assert open_source([damaged, "bundled"]).fetch("^GSPC").attrs["failures"] == ["damaged: two rows for one day"]
    with pytest.raises(ConfigError, match="start must be a date"):
        open_source([damaged, "bundled"]).fetch("^GSPC", start="soon")
    with pytest.raises(ConfigError, match="no such setting"):
        open_source([FailingSource("wrong", ConfigError("no such setting")), "bundled"]).fetch("^GSPC")


def test_a_bug_in_a_source_is_not_treated_as_a_failure():
    with pytest.raises(ZeroDivisionError):
        open_source([FailingSource("buggy", ZeroDivisionError()), "bundled"]).fetch("^GSPC")


def test_if_all_fail_every_attempt_is_listed(tmp_path):
    with pytest.raises(SourceError) as caught:
        open_source(f"csv:{tmp_path},sql:sqlite:///{tmp_path}/no.db,bundled", cache=False).fetch("AAPL")
    lines = str(caught.value).splitlines()
    assert lines[0] == "no source has prices of AAPL; tried"
    assert [line[:6] for line in lines[1:]] == ["  1. c", "  2. s", "  3. b"]
    assert "AAPL.csv" in lines[1]
    assert "there is no such file" in lines[2]
    assert "^GSPC, ^IXIC; got 'AAPL'" in lines[3]


def test_a_chain_inside_a_chain_reports_all_failures_in_order():
    first, second = (FailingSource(name, SourceError("gone")) for name in ("first", "second"))
    prices = open_source([first, open_source([second, "bundled"])]).fetch("^GSPC")
    assert prices.attrs["failures"] == ["first: gone", "second: gone"]


def test_a_chain_has_the_names_of_its_sources(tmp_path):
    assert open_source("yahoo, csv:data ,bundled").name == "yahoo,csv:data,bundled"
    assert isinstance(open_source("yahoo,bundled"), Source)


@pytest.mark.parametrize(
    ("spec", "names"),
    [
        ("csv:a,b.csv", ["csv:a,b.csv"]),
        ("csv:/data/one, two/,bundled", ["csv:/data/one, two/", "bundled"]),
        ("sql:postgresql://ann:p,w@host/db", ["sql:postgresql://ann:***@host/db"]),
        ("sql:postgresql://host1,host2/db,yahoo", ["sql:postgresql://host1,host2/db", "yahoo"]),
    ],
)
def test_a_comma_in_a_path_or_url_does_not_separate_sources(spec, names):
    assert open_source(spec).name == ",".join(names)


def test_paths_in_a_sequence_may_contain_commas(tmp_path):
    path = tmp_path / "prices,yahoo"
    path.mkdir()
    open_source("bundled").fetch("^GSPC").to_parquet(path / "X.parquet")
    assert len(open_source([f"csv:{path}"]).fetch("X")) == 5031


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("bundeld", "unknown source 'bundeld'; did you mean 'bundled'. Known: bundled, csv, sql, yahoo"),
        ("yahoo,foo:bar", "unknown source 'foo'; Known: bundled, csv, sql, yahoo"),
        ("", "unknown source ''"),
        ("yahoo,", "unknown source ''"),
        ("yahoo,,bundled", "unknown source ''"),
        ("CSV:x", "unknown source 'CSV'; "),
        ("csv", "expected csv:PATH; got 'csv'"),
        ("csv:", "expected csv:PATH; got 'csv'"),
        ("sql:", "expected sql:URL; got 'sql'"),
        ("bundled:x", "expected bundled; got 'bundled:...'"),
        ("yahoo:^GSPC", "expected yahoo; got 'yahoo:...'"),
        ([], "expected at least one source"),
    ],
)
def test_an_unknown_source_is_an_error_that_names_the_known_ones(spec, message):
    with pytest.raises(ConfigError) as caught:
        open_source(spec)
    assert message.replace("'. Known", "'? Known") in str(caught.value)


def test_error_messages_do_not_repeat_secrets_in_a_spec():
    for spec in (
        "sq:postgresql://ann:hunter2@host/db",
        "sql:mysql://ann:hunter2@host/db",
        "sql:hunter2",
        "sql://hunter2",
    ):
        with pytest.raises(ConfigError) as caught:
            open_source(spec)
        assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("decimal", ["", ";", "point"])
def test_decimal_must_be_a_point_or_a_comma(decimal):
    with pytest.raises(ConfigError, match=r"decimal must be '.' or ','"):
        open_source("csv:x", decimal=decimal)


def test_symbols_are_those_of_the_first_source_that_can_list_them():
    assert open_source("yahoo,bundled").symbols() == ["^GSPC", "^IXIC"]
    with pytest.raises(SourceError, match="yahoo cannot list its symbols; name them"):
        open_source("yahoo").symbols()
