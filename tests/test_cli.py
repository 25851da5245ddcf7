"""The command line of sources: import and doctor, and what holds for every command."""

import gc
import subprocess
import sys
from pathlib import Path

import click
import pandas as pd
import pytest
from click.testing import CliRunner

from forecastlib.cli import BRIEF, main
from forecastlib.data.sources import open_source
from forecastlib.data.sql import SqlSource
from forecastlib.errors import SourceError

PRICES = Path(__file__).parent / "fixtures" / "prices"


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run a command and return its exit code, its output and its errors."""
    monkeypatch.setenv("FORECASTLIB_CACHE", str(tmp_path / "cache"))

    def invoke(*words):
        result = CliRunner().invoke(main, list(map(str, words)))
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result.exit_code, result.stdout, result.stderr

    return invoke


@pytest.mark.parametrize("command", sorted(main.commands))
def test_every_command_explains_itself_with_examples(run, command):
    code, output, _ = run(command, "--help")
    assert code == 0
    assert f"forecastlib {command}" in output.split("Examples:")[1]


def test_the_commands_are_listed(run):
    code, output, _ = run("--help")
    assert code == 0
    assert {"import", "doctor"} <= {line.split()[0] for line in output.splitlines() if line.startswith("  ")}


class TestGarbage:
    """When Python searches for garbage in cycles, which takes a third of the time of loading TensorFlow."""

    @pytest.fixture
    def command(self, monkeypatch):
        """Put a command in the place of another that says whether garbage is searched for, and then does something."""
        assert gc.isenabled() and not gc.get_freeze_count()

        def replace(name, then=lambda: None):
            def look():
                click.echo(f"searching: {gc.isenabled()}")
                then()

            monkeypatch.setitem(main.commands, name, click.Command(name, callback=look))
            return name

        yield replace
        gc.unfreeze()
        gc.enable()

    @pytest.mark.parametrize("name", sorted(main.commands))
    def test_only_a_brief_command_that_is_the_whole_of_a_process_does_without(self, command, run, capsys, name):
        command(name)
        assert run(name)[1] == "searching: True\n"
        assert gc.get_freeze_count() == 0  # whoever calls a command within a program of their own sees no difference
        with pytest.raises(SystemExit) as left:
            main([name])
        assert (left.value.code, capsys.readouterr().out) == (0, f"searching: {name not in BRIEF}\n")

    def test_brief_commands_are_those_that_load_much_and_then_do_little(self):
        assert set(BRIEF) == {"forecast", "score", "champion"} <= set(main.commands)

    @pytest.mark.parametrize("name", ["forecast", "train"])
    @pytest.mark.parametrize(
        "raised", [None, SourceError("no prices"), ZeroDivisionError("a bug"), KeyboardInterrupt()]
    )
    def test_at_the_end_nothing_is_left_to_search_however_it_ends(self, command, name, raised):
        def fail():
            if raised is not None:
                raise raised

        command(name, fail)
        with pytest.raises((SystemExit, ZeroDivisionError)) as left:
            main([name])
        if isinstance(raised, ZeroDivisionError):
            assert left.value is raised
        else:
            assert left.value.code == (0 if raised is None else 1)
        assert gc.get_freeze_count() > 10_000
        assert gc.isenabled()


class TestErrors:
    def test_an_error_is_one_message_without_a_traceback(self, run):
        assert run("doctor", "bundeld", "X") == (
            1,
            "",
            "Error: unknown source 'bundeld'; did you mean 'bundled'? Known: bundled, csv, sql, yahoo\n",
        )

    @pytest.mark.parametrize(
        "words", [["import", "bundled"], ["doctor"], ["doctr"], ["doctor", "bundled", "X", "--adjust", "?"]]
    )
    def test_a_wrong_use_exits_with_2(self, run, words):
        code, _, errors = run(*words)
        assert (code, "Usage:" in errors) == (2, True)

    def test_debug_shows_the_traceback(self):
        command = [sys.executable, "-m", "forecastlib.cli", "--debug", "doctor", "bundled", "AAPL"]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 1
        assert "Traceback" in done.stderr
        assert "forecastlib.errors.SourceError: bundled has the symbols" in done.stderr


class TestImport:
    def test_all_symbols_of_a_source_are_written(self, run, tmp_path):
        url = f"sql:sqlite:///{tmp_path / 'prices.db'}"
        for _ in range(2):  # an import can be repeated
            code, output, _ = run("import", "bundled", "--into", url)
            assert code == 0
            assert output.splitlines() == [
                "^GSPC: 5,031 sessions from 1999-01-04 to 2018-12-31, from bundled",
                "^IXIC: 5,031 sessions from 1999-01-04 to 2018-12-31, from bundled",
                f"10,062 rows written to sqlite:///{tmp_path / 'prices.db'}",
            ]
        assert SqlSource(url).symbols() == ["^GSPC", "^IXIC"]

    def test_what_a_source_says_is_shown(self, run, tmp_path):
        source = f"csv:{tmp_path / 'nothing'},csv:{PRICES / 'holidays.csv'}"
        code, output, _ = run("import", source, "X", "--into", f"sqlite:///{tmp_path / 'prices.db'}")
        assert code == 0
        title, failure, note, total = output.splitlines()
        assert title == f"X: 7 sessions from 2018-12-06 to 2018-12-14, from csv:{PRICES / 'holidays.csv'}"
        assert failure.startswith("  failed: csv:") and failure.endswith("there is none")
        assert note == "  3 rows without any price were dropped"
        assert total.startswith("7 rows written")

    def test_options_reach_the_source(self, run, tmp_path):
        path = tmp_path / "x.csv"
        path.write_text("Date;Open;High;Low;Close;Adj Close\n03/05/2021;1,100;2,200;1,000;1,500;0,750\n")
        url = f"sqlite:///{tmp_path / 'prices.db'}"
        options = ["--date-format", "%d/%m/%Y", "--decimal", ",", "--adjust", "close"]
        code, _, _ = run("import", f"csv:{path}", "X", "--into", url, *options)
        assert code == 0
        prices = SqlSource(url).fetch("X")
        assert prices.index[0] == pd.Timestamp("2021-05-03")
        assert prices.iloc[0].to_list() == [0.55, 1.1, 0.5, 0.75, 0.0]

    def test_if_one_symbol_fails_nothing_is_written(self, run, tmp_path):
        code, _, errors = run("import", "bundled", "^GSPC", "AAPL", "--into", f"sqlite:///{tmp_path / 'prices.db'}")
        assert (code, errors.startswith("Error: bundled has the symbols")) == (1, True)
        assert not (tmp_path / "prices.db").exists()

    def test_a_source_that_lists_no_symbols_wants_them_named(self, run, tmp_path):
        code, _, errors = run("import", "yahoo", "--into", f"sqlite:///{tmp_path / 'prices.db'}")
        assert (code, errors) == (1, "Error: yahoo cannot list its symbols; name them\n")

    def test_a_password_is_never_shown(self, run):
        code, output, errors = run("import", "bundled", "--into", "sql:postgresql://ann:hunter2@127.0.0.1:1/prices")
        assert code == 1
        assert "hunter2" not in output + errors
        assert "postgresql://ann:***@127.0.0.1:1/prices" in errors


class TestDoctor:
    def test_sound_prices_are_fit_for_training(self, run):
        code, output, _ = run("doctor", "csv:no/such/folder,bundled", "^IXIC")
        assert code == 0
        assert "source    bundled\n" in output
        assert "sessions  5,031 from 1999-01-04 to 2018-12-31\n" in output
        assert "calendar  NYSE (a known index)\n" in output
        assert "warning   zero_volume: 2015-05-12, 2018-01-09; 2 of 5,031 rows\n" in output
        assert "536 needed (warm-up 252, lookback 60, horizon 30, split 70% / 15% / rest, purged by 30)" in output
        assert "warning   earlier_sources: csv:no/such/folder: expected a file or a folder" in output
        assert output.endswith("^IXIC: passed, 3 of 22 checks with findings\n")

    def test_every_warning_and_error_says_what_to_do(self, run):
        _, output, _ = run("doctor", "csv:no,bundled", "^IXIC")
        lines = output.splitlines()
        for line, following in zip(lines, [*lines[1:], ""], strict=True):
            if line.startswith(("warning", "failed")):
                assert following.strip().startswith("-> ")

    def test_too_short_a_history_exits_with_1_and_says_what_is_needed(self, run):
        code, output, _ = run("doctor", "bundled", "^IXIC", "--start", "2018-01-01")
        assert code == 1
        assert "251 sessions; 536 needed" in output
        assert "-> fetch a longer history" in output

    def test_unsound_prices_exit_with_1_and_say_what_to_do(self, run, tmp_path):
        prices = open_source("bundled").fetch("^GSPC")
        prices.iloc[4000, 3] = float("nan")
        prices.to_csv(tmp_path / "x.csv")
        code, output, _ = run("doctor", f"csv:{tmp_path / 'x.csv'}", "^GSPC")
        assert code == 1
        assert "failed    missing_values" in output
        assert "failed    training_possible" in output


def test_no_command_of_sources_loads_tensorflow_or_mlflow(tmp_path):
    code = (
        "import sys\nfrom forecastlib.cli import main\n"
        "assert 'pandas' not in sys.modules and 'pydantic' not in sys.modules, 'the command line starts slowly'\n"
        "for words in (['doctor', 'bundled', '^GSPC'], ['import', 'bundled', '--into', sys.argv[1]]):\n"
        "    main(words, standalone_mode=False)\n"
        "print(sorted({'tensorflow', 'keras', 'mlflow', 'fastapi', 'yfinance', 'arch'} & set(sys.modules)))\n"
    )
    url = f"sqlite:///{tmp_path / 'prices.db'}"
    done = subprocess.run([sys.executable, "-c", code, url], capture_output=True, text=True)
    assert done.stderr == ""
    assert done.stdout.splitlines()[-1] == "[]"
