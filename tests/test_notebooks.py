"""The notebooks: their form, and whether they run."""

import ast
import io
import re
import shutil
from pathlib import Path

import mlflow
import nbformat
import pandas as pd
import pytest

from forecastlib import Ledger
from forecastlib.paths import HOME_VARIABLE
from forecastlib.runner import find_notebooks, read_parameters, run_notebooks
from forecastlib.tracking import runs

FOLDER = Path(__file__).parents[1] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))

# Small enough to train in seconds, through parameters only: the same path as at full size.
SMALL = {
    "SYMBOL": "^IXIC",
    "START": "2013-06-01",
    "LOOKBACK": "10",
    "HORIZONS": "3,5",
    "LSTM_UNITS": "4",
    "DENSE_UNITS": "4",
    "BRANCH_UNITS": "4",
    "EPOCHS": "1",
    "BATCH_SIZE": "128",
    "FOLDS": "2",
    "SEEDS": "[0]",
    "REFITS": "1",
    "YEARS": "1",
}


def code_cells(path):
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


def python_of(cell):
    return ast.parse("\n".join(line for line in cell.source.splitlines() if not line.startswith("%")))


@pytest.fixture
def home(tmp_path, monkeypatch):
    """Return a new project folder with the notebooks."""
    shutil.copytree(FOLDER, tmp_path / "notebooks")
    (tmp_path / "mlruns").mkdir()
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_notebooks_are_numbered_without_gaps():
    assert [int(path.name[:2]) for path in NOTEBOOKS] == list(range(1, len(NOTEBOOKS) + 1))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
class TestForm:
    def test_it_opens_with_a_title_that_asks_a_question(self, path):
        first = nbformat.read(path, as_version=4).cells[0]
        assert first.cell_type == "markdown"
        assert re.match(r"# .+\?\n", first.source)

    def test_it_has_one_parameters_cell_of_literals_only(self, path):
        tagged = [cell for cell in code_cells(path) if "parameters" in cell.metadata.get("tags", [])]
        assert len(tagged) == 1
        for statement in python_of(tagged[0]).body:
            assert isinstance(statement, ast.Assign)
            ast.literal_eval(statement.value)

    def test_it_is_short(self, path):
        lines = [line for cell in code_cells(path) for line in cell.source.splitlines() if line.strip()]
        assert len(nbformat.read(path, as_version=4).cells) <= 25
        assert len(lines) <= 120

    def test_it_defines_nothing_that_belongs_in_the_library(self, path):
        defined = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef, ast.For, ast.While, ast.Try)
        assert [type(n) for cell in code_cells(path) for n in ast.walk(python_of(cell)) if isinstance(n, defined)] == []

    def test_its_outputs_are_stripped(self, path):
        assert all(cell.outputs == [] and cell.execution_count is None for cell in code_cells(path))

    def test_it_ends_with_findings_computed_from_the_results(self, path):
        cells = nbformat.read(path, as_version=4).cells
        heading = next(i for i, cell in enumerate(cells) if cell.source.startswith("## Findings"))
        shown = "\n".join(cell.source for cell in cells[heading:] if cell.cell_type == "code")
        assert 'f"' in shown

    def test_it_uses_the_default_python_kernel(self, path):
        assert nbformat.read(path, as_version=4).metadata.kernelspec.name == "python3"


@pytest.mark.slow
def test_all_notebooks_run_and_leave_reports_and_one_finished_run(home):
    notebooks = find_notebooks([])
    run_id = run_notebooks(notebooks, read_parameters(SMALL, notebooks), progress=False)

    client = runs.connect()
    run = client.get_run(run_id)
    assert run.info.status == "FINISHED"
    attached = {item.path for item in client.list_artifacts(run_id, "notebooks")}
    figures = {item.path for item in client.list_artifacts(run_id, "figures")}
    for notebook in notebooks:
        html = home / "reports" / "^IXIC" / f"{notebook.name}.html"
        assert f"notebooks/{notebook.name}.ipynb" in attached
        assert f"notebooks/{notebook.name}.html" in attached
        assert "data:image/png;base64" in html.read_text()
        # It can be read offline: nothing is loaded from elsewhere.
        assert re.findall(r'(?:src|href)="(?!data:|#)([^"]+)"', html.read_text()) == []
    assert {"figures/losses.png", "figures/predicted_against_real.png", "figures/forecast.png"} <= figures
    assert {"figures/skill_over_time.png", "figures/coverage_over_time.png", "figures/reliability.png"} <= figures
    assert "figures/scorecard.png" in figures
    tables = {item.path for item in client.list_artifacts(run_id, "tables")}
    assert {"tables/audit.csv", "tables/planted_leaks.csv"} <= tables
    leaks = pd.read_csv(io.StringIO(mlflow.artifacts.load_text(f"{run.info.artifact_uri}/tables/planted_leaks.csv")))
    assert len(leaks) == 13 and leaks["caught"].all()
    assert run.data.metrics["audit_checks_passed"] == run.data.metrics["audit_checks"] == 13
    assert run.data.params["lookback"] == "10"
    with Ledger() as ledger:  # what 05_forecast recorded; the replay has a separate ledger
        assert ledger.count() == ledger.count(version=run.data.tags["model_version"]) == 2
    assert "mae_3d" in run.data.metrics
    assert "random_walk/mae_3d" in run.data.metrics
    assert client.get_model_version_by_alias("^IXIC_lstm", "champion").run_id == run_id


@pytest.mark.slow
def test_a_failing_cell_is_named_what_ran_is_saved_and_the_run_is_marked_failed(home):
    from forecastlib.errors import ForecastError

    notebooks = find_notebooks(["data"])
    with pytest.raises(ForecastError, match=r"01_data, cell \d+ failed with SourceError: .*NOPE"):
        run_notebooks(notebooks, read_parameters({"SYMBOL": "NOPE"}, notebooks), progress=False)
    assert "SourceError" in (home / "reports" / "NOPE" / "01_data.ipynb").read_text()
    assert (home / "reports" / "NOPE" / "01_data.html").is_file()
    (run,) = mlflow.search_runs(experiment_names=[runs.EXPERIMENT], output_format="list")
    assert run.info.status == "FAILED"
    kept = runs.connect().list_artifacts(run.info.run_id, "notebooks")
    assert "notebooks/01_data.ipynb" in {item.path for item in kept}
