"""The commands for prices, and what all commands have in common."""

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner

from forecastlib.cli import main
from forecastlib.cli.terminal import print_table, symbols_and_settings
from forecastlib.data.sources import open_source
from forecastlib.data.sql import SqlSource
from forecastlib.processes import hidden_startup_messages

PRICES = Path(__file__).parent / "fixtures" / "prices"


def without_log_settings():
    """Return the environment without the variables that choose log levels."""
    return {name: value for name, value in os.environ.items() if not name.endswith(("LOG_LEVEL", "LOGGING_LEVEL"))}


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
def test_every_command_has_help_with_examples(run, command):
    code, output, _ = run(command, "--help")
    assert code == 0
    assert f"forecastlib {command}" in output.split("Examples:")[1]


def test_the_commands_are_listed(run):
    code, output, _ = run("--help")
    assert code == 0
    assert {"import", "doctor"} <= {line.split()[0] for line in output.splitlines() if line.startswith("  ")}


def test_symbols_are_positional_or_a_setting_and_setting_names_ignore_case():
    arguments = ["^GSPC", "epochs=5", "Lookback=90", "SYMBOL=^IXIC, ^KS11", "source=sql:sqlite:///a.db?x=1"]
    assert symbols_and_settings(arguments) == (
        ["^GSPC", "^IXIC", "^KS11"],
        {"epochs": "5", "lookback": "90", "source": "sql:sqlite:///a.db?x=1"},
    )


class TestTables:
    """Tables as they appear in a file or a pipe."""

    def test_numbers_are_right_aligned_and_text_is_left_aligned(self, capsys):
        rows = [{"symbol": "A", "mae": 1.5, "n": None}, {"symbol": "BTC-USD", "mae": 1234.5, "n": 12}]
        print_table(rows, {"mae": "{:,.1f}"})
        assert capsys.readouterr().out.splitlines() == [
            "symbol       mae   n",
            "A            1.5   -",
            "BTC-USD  1,234.5  12",
        ]

    def test_a_wide_table_is_neither_wrapped_nor_truncated_for_any_terminal(self, capsys, monkeypatch):
        monkeypatch.setenv("COLUMNS", "40")
        print_table([{f"column_{i}": 123456.789 for i in range(30)} | {"reason": "text " * 50}])
        header, row = capsys.readouterr().out.splitlines()
        assert header.split() == [*(f"column_{i}" for i in range(30)), "reason"]
        assert row.split() == ["123456.789"] * 30 + ["text"] * 50

    def test_brackets_and_colons_are_printed_unchanged(self, capsys):
        print_table([{"text": "[red]x[/red] :smile: \x1b"}], header=False)
        assert capsys.readouterr().out.startswith("[red]x[/red] :smile:")

    def test_colours_appear_on_a_terminal_only(self, run):
        assert "\x1b" not in run("doctor", "bundled", "^IXIC")[1]

    def test_no_rows_print_nothing(self, capsys):
        print_table([])
        assert capsys.readouterr().out == ""


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
    def test_incorrect_usage_exits_with_2(self, run, words):
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

    def test_failures_and_notes_of_sources_are_shown(self, run, tmp_path):
        source = f"csv:{tmp_path / 'nothing'},csv:{PRICES / 'holidays.csv'}"
        code, output, _ = run("import", source, "X", "--into", f"sqlite:///{tmp_path / 'prices.db'}")
        assert code == 0
        title, failure, note, total = output.splitlines()
        assert title == f"X: 7 sessions from 2018-12-06 to 2018-12-14, from csv:{PRICES / 'holidays.csv'}"
        assert failure.startswith("  failed: csv:") and failure.endswith("there is none")
        assert note == "  3 rows without any price were dropped"
        assert total.startswith("7 rows written")

    def test_options_are_passed_to_the_source(self, run, tmp_path):
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

    def test_a_source_that_cannot_list_symbols_requires_them_as_arguments(self, run, tmp_path):
        code, _, errors = run("import", "yahoo", "--into", f"sqlite:///{tmp_path / 'prices.db'}")
        assert (code, errors) == (1, "Error: yahoo cannot list its symbols; name them\n")

    def test_a_password_is_never_shown(self, run):
        code, output, errors = run("import", "bundled", "--into", "sql:postgresql://ann:hunter2@127.0.0.1:1/prices")
        assert code == 1
        assert "hunter2" not in output + errors
        assert "postgresql://ann:***@127.0.0.1:1/prices" in errors


class TestDoctor:
    def test_valid_prices_are_suitable_for_training(self, run):
        code, output, _ = run("doctor", "csv:no/such/folder,bundled", "^IXIC")
        assert code == 0
        lines = [" ".join(line.split()) for line in output.splitlines()]
        assert "source bundled" in lines
        assert any(line.startswith("sessions 5,031 from 1999-01-04 to 2018-12-31, the newest 2,") for line in lines)
        assert "frequency daily" in lines
        assert "calendar NYSE (a known index)" in lines
        assert "warning zero_volume 2015-05-12, 2018-01-09; 2 of 5,031 rows" in lines
        assert "536 needed (warm-up 252, lookback 60, horizon 30, split 70% / 15% / rest, purged by 30)" in output
        assert any(line.startswith("warning earlier_sources csv:no/such/folder: expected a file") for line in lines)
        assert output.endswith("^IXIC: passed, 4 of 25 checks with findings\n")

    def test_settings_may_be_given_as_for_a_training(self, run, tmp_path):
        prices = open_source("bundled").fetch("^GSPC")
        prices.iloc[[300, 700], 0] = prices.iloc[[300, 700], 1] * 1.08
        prices.to_csv(tmp_path / "EURCHF=X.csv")
        code, output, _ = run("doctor", f"csv:{tmp_path}", "EURCHF=X", "CALENDAR=NYSE", "START=19990104")
        assert code == 1 and "LENIENT=outside_range accepts them" in output
        code, output, _ = run("doctor", f"csv:{tmp_path}", "EURCHF=X", "calendar=NYSE", "LENIENT=outside_range")
        assert code == 0 and "warning  outside_range" in output

    def test_every_warning_and_error_says_what_to_do(self, run):
        _, output, _ = run("doctor", "csv:no,bundled", "^IXIC")
        lines = output.splitlines()
        for line, following in zip(lines, [*lines[1:], ""], strict=True):
            if line.startswith(("warning", "failed")):
                assert following.strip().startswith("-> ")

    def test_too_short_a_history_exits_with_1_and_says_how_many_sessions_are_needed(self, run):
        code, output, _ = run("doctor", "bundled", "^IXIC", "--start", "2018-01-01")
        assert code == 1
        assert "251 sessions; 536 needed" in output
        assert "-> fetch a longer history" in output

    def test_invalid_prices_exit_with_1_and_a_remedy(self, run, tmp_path):
        prices = open_source("bundled").fetch("^GSPC")
        prices.iloc[4000, 3] = float("nan")
        prices.to_csv(tmp_path / "x.csv")
        code, output, _ = run("doctor", f"csv:{tmp_path / 'x.csv'}", "^GSPC")
        assert code == 1
        assert {"failed missing_values", "failed training_possible"} <= {
            " ".join(line.split()[:2]) for line in output.splitlines()
        }


def test_commands_for_prices_load_neither_tensorflow_nor_mlflow(tmp_path):
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


@pytest.mark.slow
def test_tensorflow_starts_without_messages():
    code = (
        "import os\nfrom forecastlib.cli import main\nfrom forecastlib.cli.terminal import load_tensorflow\n"
        "main(['doctor', 'bundled', '^GSPC'], standalone_mode=False)\n"
        "load_tensorflow()\n"
        "import tensorflow as tf\n"
        "tf.config.list_physical_devices()\n"
        "assert int(tf.constant(1) + 1) == 2\n"
        "os.write(2, b'written by the program')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=without_log_settings())
    assert (done.returncode, done.stderr) == (0, "written by the program")


def test_other_output_while_tensorflow_loads_is_shown_even_if_loading_fails():
    code = (
        "import os, sys\nfrom forecastlib.processes import hidden_startup_messages\n"
        "with hidden_startup_messages():\n"
        "    os.write(2, b'I0000 Could not find cuda drivers on your machine, GPU will not be used.\\n')\n"
        "    print('something else', file=sys.stderr)\n"
        "    raise ImportError('no TensorFlow')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=without_log_settings())
    lines = done.stderr.splitlines()
    assert (lines[0], lines[-1]) == ("something else", "ImportError: no TensorFlow")
    assert "cuda" not in lines[0]


def test_all_messages_of_tensorflow_are_shown_on_request(monkeypatch, capfd):
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "0")
    monkeypatch.delitem(sys.modules, "tensorflow", raising=False)
    message = b"Could not find cuda drivers on your machine, GPU will not be used.\n"
    with hidden_startup_messages():
        os.write(2, message)
    assert capfd.readouterr().err.encode() == message
