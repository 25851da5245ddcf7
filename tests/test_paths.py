"""The project folder, names of folders in it, and the current user."""

import getpass

import pytest

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
    ("symbol", "name"), [("^IXIC", "IXIC"), ("BTC-USD", "BTC_USD"), ("005930.KS", "005930_KS"), ("^", "unnamed")]
)
def test_a_slug_is_a_valid_folder_name(symbol, name):
    assert paths.slug(symbol) == name


def test_the_current_user_is_that_of_the_operating_system_if_there_is_one(monkeypatch):
    monkeypatch.setenv("LOGNAME", "ann")
    assert paths.current_user() == "ann"

    def no_entry():
        raise KeyError("getpwuid(): uid not found: 1234")

    monkeypatch.setattr(getpass, "getuser", no_entry)
    assert paths.current_user() is None
