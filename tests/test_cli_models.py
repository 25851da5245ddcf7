"""The commands for models, in separate processes and in this one."""

import json
import re
import subprocess
import sys

import pandas as pd
import pytest
import tiny
from click.testing import CliRunner

from forecastlib import Ledger
from forecastlib.cli import main
from forecastlib.forecasts import COLUMNS
from forecastlib.tracking import registry, runs

SYMBOL = "^IXIC"
SETTINGS = [
    f"{name.upper()}={','.join(map(str, value)) if isinstance(value, list) else value}"
    for name, value in tiny.PARAMETERS.items()
]


def process(*words):
    """Run a command in a new process and return its exit code, output and errors."""
    command = [sys.executable, "-m", "forecastlib.cli", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    return done.returncode, done.stdout, done.stderr


NOISE = re.compile(r"absl|cuda|oneDNN|TensorFlow|tensorflow|mlflow", re.IGNORECASE)
"""What a library writes to standard error begins like this."""


def run(*words):
    """Run a command in this process, which has TensorFlow loaded."""
    result = CliRunner().invoke(main, list(map(str, words)))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    with tiny.home(tmp_path_factory.mktemp("project")) as folder, pytest.MonkeyPatch.context() as patch:
        patch.delenv("FORECASTLIB_LEDGER", raising=False)
        yield folder


@pytest.fixture(scope="module")
def trained(project):
    """The result of the first `forecastlib train`, in a new process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TTY_COMPATIBLE", "1")  # rich then treats the pipe as a terminal, so that progress is shown
        return process("train", SYMBOL, *SETTINGS, "--format", "json")


@pytest.fixture
def empty(tmp_path, monkeypatch):
    """An empty project."""
    monkeypatch.delenv("FORECASTLIB_LEDGER", raising=False)
    with tiny.home(tmp_path):
        yield tmp_path


def table(output, header):
    """Return the header and the rows of a printed table whose header begins with a word."""
    lines = output.splitlines()
    start = next(number for number, line in enumerate(lines) if line.split()[:1] == [header])
    rows = []
    for line in lines[start + 1 :]:
        if not line.strip():
            break
        rows.append(line)
    return lines[start].split(), rows


# In separate processes


@pytest.mark.parametrize("command", sorted(main.commands))
def test_the_help_of_every_command_loads_no_heavy_library(command):
    code = (
        "import sys\nfrom forecastlib.cli import main\n"
        "try: main([sys.argv[1], '--help'])\n"
        "finally: print('loaded:', {'numpy', 'pandas', 'mlflow', 'tensorflow'} & set(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code, command], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "Examples:" in done.stdout
    assert done.stderr == "loaded: set()\n"


@pytest.mark.slow
def test_train_prints_its_result_and_shows_progress_on_standard_error(trained):
    code, output, errors = trained
    assert code == 0, errors
    (answer,) = json.loads(output)
    assert (answer["symbol"], answer["status"], answer["promoted"]) == (SYMBOL, "completed", True)
    assert answer["reason"] == "the first version"
    assert answer["version"] == registry.find(SYMBOL).tags["version"]
    assert answer["run_id"] == registry.find(SYMBOL).run_id
    assert {"mae_7d", "skill_14d", "coverage_80_7d"} <= set(answer["metrics"])
    assert "training" in errors and "epochs" in errors
    assert not NOISE.search(errors)


@pytest.mark.slow
def test_forecast_prints_intervals_direction_confidence_consistency_and_the_scores_so_far(trained):
    version = registry.find(SYMBOL).tags["version"]
    code, output, errors = process("forecast", SYMBOL, "--as-of", "2018-06-30")
    assert (code, errors) == (0, "")
    expected = registry.load(SYMBOL).predict(tiny.prices(), "2018-06-29")
    assert output.splitlines()[0] == f"{SYMBOL}: 7,510.30 on 2018-06-29, version {version}"
    names, rows = table(output, "sessions")
    assert {"sessions", "date", "call", "price", "change", "confidence"} <= set(names)
    for line, row in zip(rows, expected.itertuples(), strict=True):
        assert line.split()[:4] == [
            str(row.horizon),
            f"{row.target_date:%Y-%m-%d}",
            row.direction,
            f"{row.predicted_price:,.2f}",
        ]
        assert f"{row.lower_80:,.0f} to {row.upper_80:,.0f}" in line
        assert f"{row.lower_95:,.0f} to {row.upper_95:,.0f}" in line
        assert line.endswith(f"{row.confidence:.0%}")
    assert "Consistency of the horizons: " in output
    assert output.endswith("2 hindsight forecasts are not scored; to score them: forecastlib score --hindsight\n")
    with Ledger() as ledger:
        assert ledger.count(symbol=SYMBOL, version=version, since="2018-06-29", until="2018-06-29") == 2


@pytest.mark.slow
def test_a_forecast_loads_no_unnecessary_modules(trained):
    code = (
        "import json, sys\nfrom forecastlib.cli import main\n"
        "try: main(['forecast', sys.argv[1], '--as-of', '2018-06-29'])\n"
        "except SystemExit as left: assert left.code == 0\n"
        "print(json.dumps(list(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code, SYMBOL], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    modules = set(json.loads(done.stdout.splitlines()[-1]))
    assert {"tensorflow", "mlflow", "forecastlib.forecaster"} <= modules
    # Needed only by training, evaluation, serving, notebooks, other sources and ledgers, and MLflow's servers.
    assert not modules & {"arch", "papermill", "psycopg", "seaborn", "statsmodels", "uvicorn", "yfinance"}
    assert not modules & {"mlflow.pyfunc", "mlflow.server", "sklearn.ensemble", "sklearn.linear_model"}
    ours = {name.removeprefix("forecastlib.") for name in modules if name.startswith("forecastlib.")}
    assert not ours & {
        "auditing",
        "evaluation.backtest",
        "models.baselines",
        "pipeline",
        "plots",
        "runner",
        "serving",
    }


@pytest.mark.slow
def test_score_settles_from_the_source_of_the_champion_without_loading_tensorflow(trained):
    run("forecast", SYMBOL, "--as-of", "2018-03-28")
    with Ledger() as ledger:
        pending = ledger.count(settled=False)
    assert pending
    code, output, errors = process("score", "--hindsight")
    assert (code, errors) == (0, "")
    assert output.splitlines()[0].startswith(f"{pending} forecasts settled now, ")
    names, rows = table(output, "symbol")
    assert {"horizon", "mae", "skill", "hit_rate", "coverage_95"} <= set(names)
    assert [row.split()[:2] for row in rows] == [[SYMBOL, "7"], [SYMBOL, "14"]]


@pytest.mark.slow
def test_champion_shows_every_champion_with_its_dates_and_reason(trained):
    code, output, errors = process("champion", SYMBOL)
    assert (code, errors) == (0, "")
    names, (row,) = table(output, "number")
    assert names == ["number", "version", "since", "until", "change", "reason"]
    assert row.split()[:2] == ["1", registry.find(SYMBOL).tags["version"]]
    assert row.split()[4] == "now"
    assert row.endswith("promoted  the first version")


# In this process


@pytest.mark.slow
def test_training_again_with_the_same_settings_and_prices_keeps_the_champion(trained):
    code, output, _ = run("train", SYMBOL, *SETTINGS, "--no-progress")
    assert code == 0
    assert output.splitlines()[0] == f"{SYMBOL}: not trained, the champion stays"
    assert "because  the champion comes from the same configuration and the same prices; force_retrain" in output
    assert [row.split()[0] for row in table(output, "horizon")[1]] == ["7d", "14d"]


@pytest.mark.slow
def test_a_forecast_as_json_has_every_column_of_the_frame_and_the_scorecard(trained):
    run("forecast", SYMBOL, "--as-of", "2018-05-31", "--requested-by", "ann")
    code, output, _ = run("forecast", SYMBOL, "--as-of", "2018-05-31", "--requested-by", "bob", "--format", "json")
    assert code == 0
    answer = json.loads(output)
    expected = registry.load(SYMBOL).predict(tiny.prices(), "2018-05-31")
    shared = {"symbol", "origin", "last_close", "model_version", "batch_id"}
    assert shared <= set(answer)
    assert (answer["symbol"], answer["origin"]) == (SYMBOL, "2018-05-31")
    found = pd.DataFrame(answer["forecasts"])
    assert set(found) == set(COLUMNS) - shared
    assert found["predicted_price"].tolist() == pytest.approx(expected["predicted_price"].tolist(), rel=1e-12)
    assert found["target_date"].tolist() == [f"{day:%Y-%m-%d}" for day in expected["target_date"]]
    assert 0.0 <= answer["consistency"] <= 1.0
    assert answer["left_out"] >= 2
    # The second forecast has settled what the first one recorded.
    with Ledger() as ledger:
        card = ledger.scorecard(symbol=SYMBOL, version=answer["model_version"], hindsight=True)
        assert (card["n"] > 0).all()
        assert ledger.count(requested_by="ann") == ledger.count(requested_by="bob") == 2


@pytest.mark.slow
def test_a_scorecard_as_json_has_null_for_missing_scores(trained, monkeypatch, tmp_path):
    monkeypatch.setenv("FORECASTLIB_LEDGER", f"sqlite:///{tmp_path / 'ledger.db'}")
    run("forecast", SYMBOL)
    code, output, _ = run("score", SYMBOL, "SOURCE=bundled", "--format", "json")
    answer = json.loads(output)
    assert (code, answer["settled"]) == (0, 0)
    assert [(row["horizon"], row["n"], row["pending"], row["mae"]) for row in answer["scorecard"]] == [
        (7, 0, 1, None),
        (14, 0, 1, None),
    ]


@pytest.mark.slow
def test_the_champion_can_be_rolled_back_with_a_reason(trained):
    first, client = registry.find(SYMBOL), runs.connect()
    client.create_model_version(first.name, "nowhere", tags={"version": "v1.0.0_20300101_000000"})
    registry.promote(registry.find(SYMBOL, "2"), "by mistake")
    assert run("champion", SYMBOL, "--roll-back")[0] == 2
    code, output, _ = run("champion", SYMBOL, "--roll-back", "--reason", "it was a mistake", "--format", "json")
    assert code == 0
    history = json.loads(output)["history"]
    assert [(row["number"], row["change"]) for row in history] == [(1, "promoted"), (2, "promoted"), (1, "rolled back")]
    assert history[-1]["reason"] == "it was a mistake"
    assert history[-1]["until"] is None
    assert registry.find(SYMBOL).number == 1
    code, _, errors = run("champion", SYMBOL, "--to", "7", "--reason", "why not")
    assert (code, errors.startswith("Error: expected an earlier champion of '^IXIC' to roll back to, 7;")) == (1, True)


@pytest.mark.slow
def test_a_version_can_be_promoted_by_hand_with_a_reason(trained):
    code, output, _ = run("champion", SYMBOL, "--promote", "2", "--reason", "for a test", "--format", "json")
    assert code == 0
    last = json.loads(output)["history"][-1]
    assert (last["number"], last["change"], last["reason"]) == (2, "promoted", "for a test")
    code, _, errors = run("champion", SYMBOL, "--promote", "77", "--reason", "not there")
    assert (code, "expected a registered version of '^IXIC' to promote; got '77'" in errors) == (1, True)
    registry.promote(registry.find(SYMBOL, "1"), "as before")


# Errors and empty projects


@pytest.mark.slow
@pytest.mark.parametrize("called", [run, process])
def test_forecast_without_a_model_says_how_to_train_one(empty, called):
    code, output, errors = called("forecast", "^GSPC")
    assert (code, output) == (1, "")
    assert errors.splitlines()[-1] == (
        "Error: expected a model of '^GSPC' with version or alias 'champion'; registered versions: none; "
        "train one with: make train SYMBOL=^GSPC"
    )


def test_score_without_forecasts_has_nothing_to_score(empty):
    code, output, _ = run("score")
    assert (code, output) == (0, "0 forecasts settled now, 0 scored, 0 pending\n\n")
    code, _, errors = run("score", "^GSPC")
    assert code == 1
    assert errors.startswith(
        "Error: expected a symbol with recorded forecasts; got '^GSPC'; known: none; make a forecast with:"
    )


@pytest.mark.slow
def test_without_a_champion_there_is_no_history_and_score_asks_for_a_source(empty):
    code, output, _ = run("champion", "^GSPC")
    assert (code, output) == (0, "^GSPC has no champion yet; train one with: forecastlib train ^GSPC\n")
    with Ledger() as ledger:
        ledger.record(tiny.forecaster().predict(tiny.prices().loc[:"2018-06-29"]))
    code, _, errors = run("score")
    assert code == 1
    assert "or name a source of prices, for instance SOURCE=bundled" in errors
    assert run("score", "SOURCE=bundled")[1].startswith("2 forecasts settled now, 2 scored, 0 pending")


@pytest.mark.parametrize(
    "words",
    [
        ["train", "EPOCH=5"],
        ["train", "EPOCHS=many"],
        ["score", "SOURCE=nowhere", "SYMBOL="],
        ["score", "SOURCE=bundled", "--since", "someday"],
    ],
)
def test_an_invalid_setting_exits_with_1_and_a_one_line_message(empty, words):
    with Ledger() as ledger:
        ledger.record(tiny.forecaster().predict(tiny.prices(), "2018-06-29"))
    code, output, errors = run(*words)
    assert (code, output) == (1, "")
    assert errors.startswith("Error: ") and errors.count("\n") == 1


@pytest.mark.parametrize(
    "words",
    [
        ["forecast", "--format", "xml"],
        ["forecast", "A", "B"],
        ["champion", "--roll-back"],
        ["champion", "--promote", "1"],
        ["champion", "--promote", "1", "--to", "2", "--reason", "both"],
    ],
)
def test_incorrect_usage_exits_with_2(empty, words):
    code, _, errors = run(*words)
    assert (code, "Usage:" in errors) == (2, True)
