"""Notebooks: finding them, reading their parameters, and running them."""

import contextlib
import os
import re
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from forecastlib.errors import ConfigError, ForecastError
from forecastlib.runner import Notebook, find_notebooks, read_parameters, run_notebooks

ROOT = Path(__file__).parents[1]


def test_a_notebook_is_found_with_and_without_its_number():
    (long,) = find_notebooks(["03_train"], ROOT)
    (short,) = find_notebooks(["train"], ROOT)
    assert long == short
    assert long.name == "03_train"


def test_no_name_means_all_notebooks_in_order():
    names = [notebook.name for notebook in find_notebooks([], ROOT)]
    assert names == sorted(names)
    assert len(names) == len(list((ROOT / "notebooks").glob("*.ipynb")))


def test_an_unknown_notebook_is_refused_with_the_nearest_name():
    with pytest.raises(ConfigError, match=r"unknown notebook 'trian'.*03_train"):
        find_notebooks(["trian"], ROOT)


def test_a_folder_without_notebooks_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="found none"):
        find_notebooks([], tmp_path)


def test_a_notebook_without_a_parameters_cell_is_refused(tmp_path):
    (tmp_path / "notebooks").mkdir()
    empty = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("x = 1")])
    empty.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(empty, tmp_path / "notebooks" / "01_empty.ipynb")
    with pytest.raises(ConfigError, match="expected a cell tagged 'parameters'"):
        find_notebooks([], tmp_path)


def test_defaults_are_the_literals_of_the_parameters_cell():
    (train,) = find_notebooks(["train"], ROOT)
    assert train.defaults["symbol"] == "^IXIC"
    assert train.defaults["horizons"] == [7, 14, 30]
    assert train.defaults["force_retrain"] is False
    assert train.defaults["start"] is None


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("SYMBOL", "^GSPC", "^GSPC"),
        ("SYMBOL", "005930", "005930"),
        ("epochs", "5", 5),
        ("LEARNING_RATE", "1e-2", 0.01),
        ("HORIZONS", "5,10", [5, 10]),
        ("HORIZONS", "[5, 10]", [5, 10]),
        ("HORIZONS", "5", 5),
        ("FORCE_RETRAIN", "true", True),
        ("FORCE_RETRAIN", "False", False),
        ("START", "2010-01-04", "2010-01-04"),
        ("START", "2010-10-14", "2010-10-14"),
        ("START", "none", None),
    ],
)
def test_a_parameter_is_converted_to_the_type_of_its_default(name, text, value):
    train = find_notebooks(["train"], ROOT)
    assert read_parameters({name: text}, train) == {name.lower(): value}


def test_a_parameter_that_no_notebook_has_is_refused_by_name():
    with pytest.raises(ConfigError, match=r"unknown parameter 'epoch'; did you mean 'epochs'\?"):
        read_parameters({"EPOCH": "5"}, find_notebooks(["train"], ROOT))


def test_a_parameter_of_another_notebook_is_refused():
    with pytest.raises(ConfigError, match="unknown parameter 'epochs'"):
        read_parameters({"EPOCHS": "5"}, find_notebooks(["data"], ROOT))


def test_every_parameter_of_the_training_notebook_is_a_setting_with_the_same_default():
    from forecastlib import RunConfig

    (train,) = find_notebooks(["train"], ROOT)
    own = {name: value for name, value in train.defaults.items() if name != "force_retrain"}
    settings = RunConfig().flat()
    assert own == {name: settings[name] for name in own}


def test_a_copy_of_the_notebooks_elsewhere_is_found_by_its_root(tmp_path):
    shutil.copytree(ROOT / "notebooks", tmp_path / "notebooks")
    assert find_notebooks(["data"], tmp_path)[0].path.parent == tmp_path / "notebooks"


def write_notebook(home, parameters, code):
    """Create a project with one notebook of two cells, ``01_tiny``."""
    (home / "notebooks").mkdir()
    (home / "mlruns").mkdir()
    cells = [nbformat.v4.new_code_cell(source) for source in (parameters, code)]
    cells[0].metadata["tags"] = ["parameters"]
    notebook = nbformat.v4.new_notebook(cells=cells)
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, home / "notebooks" / "01_tiny.ipynb")


@pytest.mark.slow
def test_runs_that_start_at_the_same_time_use_different_kernels(tmp_path):
    write_notebook(tmp_path, "x = 0", "assert x > 0")
    program = """
import sys
from pathlib import Path
from forecastlib.runner import Notebook, find_notebooks, run_notebooks
notebooks = find_notebooks(["tiny"])
print("ready", flush=True)
sys.stdin.readline()
run_notebooks(notebooks, {"x": 1}, reports=Path(sys.argv[1]), progress=False)
"""
    outside = os.environ | {"FORECASTLIB_HOME": str(tmp_path)}
    with contextlib.ExitStack() as stack:
        runs = [
            stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", program, str(tmp_path / f"reports{n}")],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                    env=outside,
                )
            )
            for n in range(3)
        ]
        for run in runs:
            assert run.stdout.readline() == "ready\n"
        for run in runs:
            run.stdin.write("go\n")
            run.stdin.flush()
        assert [run.wait(120) for run in runs] == [0, 0, 0]


@pytest.mark.slow
def test_a_run_restores_the_environment_that_its_kernels_inherit(tmp_path, monkeypatch):
    monkeypatch.setenv("FORECASTLIB_HOME", str(tmp_path))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL", raising=False)
    monkeypatch.chdir(tmp_path)
    write_notebook(
        tmp_path,
        "x = 0",
        "import os\nassert os.environ['TF_CPP_MIN_LOG_LEVEL'] == '3' and os.environ['MLFLOW_RUN_ID'] and x == 1",
    )
    before = dict(os.environ)
    run_notebooks(find_notebooks(["tiny"]), {"x": 1}, progress=False)
    with pytest.raises(ForecastError, match="01_tiny, cell 3 failed with AssertionError"):
        run_notebooks(find_notebooks(["tiny"]), {"x": 2}, progress=False)
    changed = {name for name in before.keys() | os.environ.keys() if before.get(name) != os.environ.get(name)}
    assert not changed & {"TF_CPP_MIN_LOG_LEVEL", "MLFLOW_RUN_ID", "MLFLOW_LOGGING_LEVEL"}


@pytest.mark.slow
def test_a_failure_for_one_symbol_does_not_stop_the_other_symbols(tmp_path):
    write_notebook(tmp_path, 'symbol = ""', "assert symbol != '^BAD', 'no good'\nprint(2 * symbol)")
    words = ["run", "tiny", "SYMBOL=^BAD,^GOOD", "--no-progress"]
    done = subprocess.run(
        [sys.executable, "-m", "forecastlib.cli", *words],
        capture_output=True,
        text=True,
        env=os.environ | {"FORECASTLIB_HOME": str(tmp_path)},
    )
    assert done.returncode == 1
    assert re.search("01_tiny, cell [0-9] failed with AssertionError: no good", done.stderr)
    *_, last = done.stderr.splitlines()
    assert last == "Error: the notebooks of ^BAD failed, see above; those of other symbols are done"
    assert not re.search("absl|cuda|tensorflow|mlflow", done.stderr)
    assert "^GOOD^GOOD" in (tmp_path / "reports" / "^GOOD" / "01_tiny.ipynb").read_text()
    with contextlib.closing(sqlite3.connect(tmp_path / "mlruns" / "mlflow.db")) as database:
        statuses = database.execute("select name, status from runs order by name").fetchall()
    assert statuses == [("^BAD_01_tiny", "FAILED"), ("^GOOD_01_tiny", "FINISHED")]


@pytest.mark.parametrize(
    ("text", "value"), [("no", False), ("off", False), ("0", False), ("yes", True), ("TRUE", True)]
)
def test_parameters_that_are_true_or_false_take_the_usual_words(text, value):
    notebook = Notebook(Path("x.ipynb"), {"force_retrain": False})
    assert read_parameters({"FORCE_RETRAIN": text}, [notebook]) == {"force_retrain": value}
    with pytest.raises(ConfigError, match="expected true or false for FORCE_RETRAIN; got 'perhaps'"):
        read_parameters({"FORCE_RETRAIN": "perhaps"}, [notebook])


def test_dates_of_eight_digits_and_signs_stay_text():
    notebook = Notebook(Path("x.ipynb"), {"start": None, "decimal": None, "lenient": [], "workers": None})
    given = {"START": "20150101", "DECIMAL": ",", "LENIENT": "outside_range", "WORKERS": "2"}
    assert read_parameters(given, [notebook]) == {
        "start": "20150101",
        "decimal": ",",
        "lenient": ["outside_range"],
        "workers": 2,
    }


AWKWARD = [
    *("M&M.NS", "$X", "$(HOME)", "csv:data/a(b).csv", "it's", 'a "b"'),
    *("sql:postgresql://h/d?a=1&b=2", "a  b;c|d#e", "\\n"),
]


@pytest.mark.parametrize("value", AWKWARD)
def test_make_passes_every_value_literally(tmp_path, value):
    makefile = (Path(__file__).parents[1] / "Makefile").read_text()
    body = makefile[: makefile.index(".DEFAULT_GOAL")] + "show:\n\t@printf '%s\\n' $(PARAMETERS)\n"
    (tmp_path / "Makefile").write_text(body)
    command = ["make", "-s", "show", f"SOURCE={value}", "PORT=1"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == f"SOURCE={value}\n"
