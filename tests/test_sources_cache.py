"""Fetched prices are cached for a day, shared by processes, and never trusted when damaged."""

import datetime as dt
import os
import stat
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from forecastlib.data.cache import CachedSource, cache_folder
from forecastlib.data.sources import open_source
from forecastlib.errors import SourceError

NOON = dt.datetime(2026, 11, 20, 12, tzinfo=dt.UTC)


class CountingSource:
    """The bundled prices, with a count of how often they were fetched."""

    def __init__(self, name="counting"):
        self.name = name
        self.asked = 0

    def fetch(self, symbol, start=None, end=None):
        self.asked += 1
        prices = open_source("bundled").fetch(symbol, start, end)
        prices.attrs |= {"source": self.name, "notes": ["é"], "dropped": 3}
        return prices


@pytest.fixture
def inner():
    return CountingSource()


def cached(inner, folder, options=None, at=NOON, **more):
    return CachedSource(inner, options or {}, folder=folder, now=lambda: at, **more)


def test_cached_prices_have_the_same_values_and_attrs(inner, tmp_path):
    source = cached(inner, tmp_path)
    first, second = source.fetch("^GSPC"), source.fetch("^GSPC")
    assert inner.asked == 1
    pd.testing.assert_frame_equal(first, second, check_exact=True)
    assert first.attrs == second.attrs
    assert second.attrs["fetched_at"] == "2026-11-20T12:00:00+00:00"
    assert second.attrs["notes"] == ["é"]


def test_missing_values_stay_missing_in_the_cache(tmp_path):
    class Holes(CountingSource):
        def fetch(self, symbol, start=None, end=None):
            prices = super().fetch(symbol, start, end)
            prices.iloc[3, 4] = np.nan
            return prices

    source = cached(Holes(), tmp_path)
    pd.testing.assert_frame_equal(source.fetch("^GSPC"), source.fetch("^GSPC"))


def test_prices_are_fetched_again_after_a_day(inner, tmp_path):
    cached(inner, tmp_path).fetch("^GSPC")
    cached(inner, tmp_path, at=NOON + dt.timedelta(hours=23, minutes=59)).fetch("^GSPC")
    assert inner.asked == 1
    cached(inner, tmp_path, at=NOON + dt.timedelta(hours=24)).fetch("^GSPC")
    assert inner.asked == 2


def test_cached_prices_from_the_future_are_not_used(inner, tmp_path):
    cached(inner, tmp_path).fetch("^GSPC")
    cached(inner, tmp_path, at=NOON - dt.timedelta(seconds=1)).fetch("^GSPC")
    assert inner.asked == 2


def test_a_forced_refresh_fetches_and_replaces_the_cached_prices(inner, tmp_path):
    cached(inner, tmp_path).fetch("^GSPC")
    later = NOON + dt.timedelta(hours=20)
    assert cached(inner, tmp_path, at=later, force_refresh=True).fetch("^GSPC").attrs["fetched_at"] == later.isoformat()
    assert inner.asked == 2
    cached(inner, tmp_path, at=later + dt.timedelta(hours=20)).fetch("^GSPC")
    assert inner.asked == 2


def test_everything_that_determines_prices_is_in_the_key(tmp_path):
    asked = []
    for name, options, symbol, start, end in [
        ("a", {}, "^GSPC", None, None),
        ("b", {}, "^GSPC", None, None),
        ("a", {"adjust": "none"}, "^GSPC", None, None),
        ("a", {"adjust": "auto"}, "^GSPC", None, None),
        ("a", {}, "^IXIC", None, None),
        ("a", {}, "^GSPC", "2018-01-02", None),
        ("a", {}, "^GSPC", None, "2018-01-02"),
        ("a", {}, "^GSPC", "2018-01-02", "2018-01-03"),
    ]:
        inner = CountingSource(name)
        cached(inner, tmp_path, options).fetch(symbol, start, end)
        asked.append(inner.asked)
    assert asked == [1] * len(asked)
    assert len(list(tmp_path.iterdir())) == len(asked)


def test_different_spellings_of_a_range_have_the_same_key(inner, tmp_path):
    source = cached(inner, tmp_path)
    for start in ("2018-01-02", dt.date(2018, 1, 2), pd.Timestamp("2018-01-02 15:00"), "Jan 2, 2018"):
        source.fetch("^GSPC", start)
    assert inner.asked == 1


def test_changing_fetched_prices_does_not_change_the_cache(inner, tmp_path):
    source = cached(inner, tmp_path)
    first = source.fetch("^GSPC")
    expected = first.copy()
    first.iloc[:] = 0.0
    source.fetch("^GSPC").attrs["failures"].append("changed")
    pd.testing.assert_frame_equal(source.fetch("^GSPC"), expected)
    assert source.fetch("^GSPC").attrs["failures"] == []


def test_failures_are_not_cached(tmp_path):
    class Failing(CountingSource):
        def fetch(self, symbol, start=None, end=None):
            self.asked += 1
            raise SourceError("not today")

    inner = Failing()
    for _ in range(2):
        with pytest.raises(SourceError, match="not today"):
            cached(inner, tmp_path).fetch("^GSPC")
    assert inner.asked == 2
    assert list(tmp_path.iterdir()) == []


class TestDamage:
    @pytest.fixture
    def kept(self, inner, tmp_path):
        cached(inner, tmp_path).fetch("^GSPC", "2018-12-01")
        (path,) = tmp_path.iterdir()
        return path

    def refetched(self, inner, path, caplog):
        inner.asked = 0
        prices = cached(inner, path.parent).fetch("^GSPC", "2018-12-01")
        pd.testing.assert_frame_equal(prices, open_source("bundled").fetch("^GSPC", "2018-12-01"), check_exact=True)
        return inner.asked == 1 and "is damaged" in caplog.text

    @pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.9, 0.999])
    def test_a_truncated_file_is_fetched_again(self, inner, kept, caplog, share):
        data = kept.read_bytes()
        kept.write_bytes(data[: int(share * len(data))])
        assert self.refetched(inner, kept, caplog)

    def test_no_flipped_bit_ever_reaches_the_prices(self, inner, kept, caplog):
        data = kept.read_bytes()
        rng = np.random.default_rng(0)
        truth = cached(inner, kept.parent).fetch("^GSPC", "2018-12-01")
        inner.fetch = lambda symbol, start, end: truth.copy()
        noticed = 0
        for position in rng.integers(0, len(data), 100):
            broken = bytearray(data)
            broken[position] ^= 1 << rng.integers(8)
            kept.write_bytes(broken)
            caplog.clear()
            prices = cached(inner, kept.parent).fetch("^GSPC", "2018-12-01")
            pd.testing.assert_frame_equal(prices, truth, check_exact=True)
            assert prices.attrs == truth.attrs
            noticed += "is damaged" in caplog.text
        assert noticed > 10

    def test_a_file_with_another_key_is_not_used(self, inner, kept, caplog):
        cached(inner, kept.parent).fetch("^IXIC", "2018-12-01")
        (other,) = set(kept.parent.iterdir()) - {kept}
        os.replace(other, kept)
        assert self.refetched(inner, kept, caplog)

    def test_a_plain_parquet_file_is_not_used(self, inner, kept, caplog):
        open_source("bundled").fetch("^IXIC").to_parquet(kept)
        assert self.refetched(inner, kept, caplog)


def test_prices_are_still_fetched_if_the_folder_cannot_be_written(inner, tmp_path, caplog):
    (tmp_path / "file").write_text("in the way")
    source = cached(inner, tmp_path / "file" / "folder")
    assert len(source.fetch("^GSPC")) == 5031
    assert "could not be cached" in caplog.text


def test_no_temporary_file_remains(inner, tmp_path):
    cached(inner, tmp_path).fetch("^GSPC")
    assert [path.suffix for path in tmp_path.iterdir()] == [".prices"]
    assert not any(path.name.startswith(".") for path in tmp_path.iterdir())


def test_only_the_user_can_read_the_folder(inner, tmp_path):
    cached(inner, tmp_path / "new").fetch("^GSPC")
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700


def test_the_folder_comes_from_the_argument_then_the_environment_then_the_user_cache(tmp_path, monkeypatch):
    monkeypatch.delenv("FORECASTLIB_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder().name == "forecastlib"
    monkeypatch.setenv("FORECASTLIB_CACHE", str(tmp_path / "environment"))
    assert cache_folder() == tmp_path / "environment"
    assert cache_folder(tmp_path / "argument") == tmp_path / "argument"


# One interpreter that forks, so that pandas is loaded once; the children start together when the pipe is closed.
WORKERS = """
import os, sys
import pyarrow.parquet
from forecastlib.data.sources import open_source
from forecastlib.data.cache import CachedSource

truth = open_source("bundled").fetch("^GSPC", "2018-01-01")
waiting, begin = os.pipe()
children = []
for _ in range(8):
    child = os.fork()
    if child == 0:
        os.close(begin)
        os.read(waiting, 1)
        wrong = 0
        for turn in range(30):
            source = CachedSource(open_source("bundled"), {}, folder=sys.argv[1], force_refresh=turn % 3 == 0)
            wrong += not source.fetch("^GSPC", "2018-01-01").equals(truth)
        os._exit(wrong)
    children.append(child)
os.close(begin)
print([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children])
"""


@pytest.mark.slow
def test_eight_processes_share_a_folder(tmp_path):
    command = [sys.executable, "-c", WORKERS, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (done.stdout, done.stderr) == ("[0, 0, 0, 0, 0, 0, 0, 0]\n", "")
    assert len(list(tmp_path.iterdir())) == 1


def test_nothing_is_pickled(inner, tmp_path, monkeypatch):
    import pickle

    def refuse(*_, **__):
        raise AssertionError("pickle was used")

    for name in ("dump", "dumps", "load", "loads", "Pickler", "Unpickler"):
        monkeypatch.setattr(pickle, name, refuse)
    source = cached(inner, tmp_path)
    source.fetch("^GSPC")
    source.fetch("^GSPC")
    assert inner.asked == 1


def test_only_databases_and_networks_are_cached(tmp_path):
    assert isinstance(open_source("yahoo"), CachedSource)
    assert isinstance(open_source("sql:sqlite:///x.db"), CachedSource)
    for source in (open_source("bundled"), open_source("csv:x"), open_source("yahoo", cache=False)):
        assert not isinstance(source, CachedSource)


def test_a_new_version_of_a_source_is_fetched_at_once(inner, tmp_path):
    inner.version = lambda: "1"
    for _ in range(2):
        cached(inner, tmp_path).fetch("^GSPC")
    assert inner.asked == 1
    inner.version = lambda: "2"
    cached(inner, tmp_path).fetch("^GSPC")
    assert inner.asked == 2


def test_an_import_into_sqlite_is_visible_at_once(tmp_path):
    from forecastlib.data.sql import import_prices

    url = f"sqlite:///{tmp_path / 'prices.db'}"
    source = open_source(f"sql:{url}", cache=tmp_path / "cache")
    prices = open_source("bundled").fetch("^GSPC", end="1999-01-05")
    import_prices(prices, url)
    for _ in range(2):
        assert source.fetch("^GSPC").equals(prices)
    assert len(list((tmp_path / "cache").iterdir())) == 1
    import_prices(prices * 2, url)
    assert source.fetch("^GSPC").equals(prices * 2)
