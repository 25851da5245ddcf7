"""The project folder, names of folders in it, and the current user."""

import getpass
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forecastlib import paths


def test_the_root_is_the_folder_named_by_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv(paths.HOME_VARIABLE, str(tmp_path))
    assert paths.project_root() == tmp_path


def test_without_the_variable_the_root_is_the_nearest_folder_with_mlruns_and_notebooks(tmp_path, monkeypatch):
    monkeypatch.delenv("FORECASTLIB_HOME", raising=False)
    inner = tmp_path / "notebooks" / "deep"
    inner.mkdir(parents=True)
    monkeypatch.chdir(inner)
    assert paths.project_root() == inner
    (tmp_path / "mlruns").mkdir()
    assert paths.project_root() == tmp_path


@pytest.mark.parametrize(
    ("symbol", "name"),
    [
        ("^IXIC", "^IXIC"),
        ("BTC-USD", "BTC-USD"),
        ("EURCHF=X", "EURCHF=X"),
        ("005930.KS", "005930.KS"),
        ("A/B", "A%2FB"),
        ("A%2FB", "A%252FB"),
        (".", "%2E"),
        (".A.B.", "%2EA.B%2E"),
        ("코스피", "코스피"),
    ],
)
def test_the_name_of_a_symbols_files_is_readable_where_it_can_be(symbol, name):
    assert paths.file_name(symbol) == name


@given(st.text(min_size=1, max_size=32).filter(lambda text: text.isprintable()))
def test_the_symbol_can_be_read_back_from_the_name_of_its_files(symbol):
    name = paths.file_name(symbol)
    assert unquote(name) == symbol
    assert name not in (".", "..") and not set(name) & set('/\\:*?"<>|')


def test_the_current_user_is_that_of_the_operating_system_if_there_is_one(monkeypatch):
    monkeypatch.setenv("LOGNAME", "ann")
    assert paths.current_user() == "ann"

    def no_entry():
        raise KeyError("getpwuid(): uid not found: 1234")

    monkeypatch.setattr(getpass, "getuser", no_entry)
    assert paths.current_user() is None
