"""Running notebooks: papermill executes them with checked parameters, inside an MLflow run that holds the result."""

from __future__ import annotations

import ast
import contextlib
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import mlflow
import papermill
from papermill.exceptions import PapermillExecutionError
from traitlets.config import Config

from forecastlib.config import unknown_name
from forecastlib.errors import ConfigError, ForecastError
from forecastlib.paths import project_root, slug
from forecastlib.progress import report as report_progress
from forecastlib.report import write_html
from forecastlib.tracking.runs import RUN_VARIABLE, connect, experiment_id

Literal = str | int | float | bool | list[object] | None

DEAD_KERNEL = (RuntimeError, OSError)


@dataclass(frozen=True)
class Notebook:
    """A notebook with a ``parameters`` cell.

    Attributes
    ----------
    path : Path
    defaults : dict
        The literals of its ``parameters`` cell, by name.
    """

    path: Path
    defaults: dict[str, Literal]

    @property
    def name(self) -> str:
        """Its name without folder and ending, for instance ``03_train``."""
        return self.path.stem


def find_notebooks(names: Sequence[str], root: Path | None = None) -> list[Notebook]:
    """Find notebooks by name, with or without the number in front.

    Parameters
    ----------
    names
        For instance ``train`` or ``03_train``; none: all of them, in order.
    root
        The project's root folder.

    Raises
    ------
    ConfigError
        If there is no such notebook, or it has no ``parameters`` cell.
    """
    folder = (root or project_root()) / "notebooks"
    known = {path.stem: path for path in sorted(folder.glob("[0-9]*.ipynb"))}
    if not known:
        raise ConfigError(f"expected notebooks in {folder}; found none; run this in a checkout of the project")
    by_name = known | {stem.partition("_")[2]: path for stem, path in known.items()}
    for name in names:
        if name not in by_name:
            raise ConfigError(unknown_name("notebook", name, known))
    return [_read(by_name[name]) for name in names or known]


def _read(path: Path) -> Notebook:
    found = papermill.inspect_notebook(str(path))
    if not found:
        raise ConfigError(f"expected a cell tagged 'parameters' with at least one literal in {path.name}; found none")
    return Notebook(path, {name: ast.literal_eval(entry["default"]) for name, entry in found.items()})


def read_parameters(given: Mapping[str, str], notebooks: Sequence[Notebook]) -> dict[str, Literal]:
    """Read parameters as a command line gives them, names in any case, by the kind of literal that they replace.

    Parameters
    ----------
    given
        For instance ``{"SYMBOL": "^GSPC", "EPOCHS": "5", "HORIZONS": "5,10"}``.
    notebooks
        The notebooks that will run; each parameter must belong to at least one of them.

    Raises
    ------
    ConfigError
        If no notebook has a parameter of that name.

    Examples
    --------
    With the defaults ``symbol = "^IXIC"`` and ``epochs = 100`` the values above become ``"^GSPC"`` and ``5``.
    """
    defaults = {name: value for notebook in notebooks for name, value in notebook.defaults.items()}
    parameters: dict[str, Literal] = {}
    for name, text in given.items():
        if name.lower() not in defaults:
            raise ConfigError(unknown_name("parameter", name.lower(), defaults))
        parameters[name.lower()] = text if isinstance(defaults[name.lower()], str) else _literal(text)
    return parameters


def _literal(text: str) -> Literal:
    named: dict[str, Literal] = {"true": True, "false": False, "none": None}
    if text.lower() in named:
        return named[text.lower()]
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text  # dates, for instance
    return list(value) if isinstance(value, tuple) else value


def run_notebooks(
    notebooks: Sequence[Notebook],
    parameters: Mapping[str, Literal],
    *,
    root: Path | None = None,
    reports: Path | None = None,
    progress: bool = True,
) -> str:
    """Execute notebooks one after the other for one symbol, inside one MLflow run.

    Executed copies and their HTML go to ``reports/SYMBOL/`` and are attached to the run. If a cell fails, the partial
    notebook is kept and attached, and the run is left FAILED. Whoever asked for it is told when the run has begun and
    when all is done, see :mod:`forecastlib.progress`.

    Parameters
    ----------
    notebooks
        What to execute, in order; each gets those parameters that it has.
    parameters
        Of :func:`read_parameters`.
    root
        The project's root folder.
    reports
        Another folder for executed copies, for runs of one symbol at the same time.
    progress
        Whether to show a bar over cells.

    Returns
    -------
    str
        The id of the run.

    Raises
    ------
    ForecastError
        If a cell fails or the kernel dies: the message names notebook and cell.
    """
    home = root or project_root()
    symbol = str(
        parameters.get("symbol", next((n.defaults["symbol"] for n in notebooks if "symbol" in n.defaults), ""))
    )
    folder = reports or home / "reports" / slug(symbol)
    folder.mkdir(parents=True, exist_ok=True)
    with _run_of_notebooks(notebooks, symbol) as (client, run_id):
        report_progress("run", run_id=run_id)
        for notebook in notebooks:
            own = {name: value for name, value in parameters.items() if name in notebook.defaults}
            _execute(notebook, own, folder / notebook.path.name, home, progress=progress, client=client, run_id=run_id)
    report_progress("finished", run_id=run_id)
    return run_id


@contextlib.contextmanager
def _run_of_notebooks(notebooks: Sequence[Notebook], symbol: str) -> Iterator[tuple[mlflow.MlflowClient, str]]:
    """Open the run that the kernels resume, and set its status whatever happens to them."""
    client = connect()
    names = ",".join(notebook.name for notebook in notebooks)
    run = client.create_run(
        experiment_id(client),
        run_name=f"{slug(symbol)}_{notebooks[0].name if len(notebooks) == 1 else 'all'}",
        tags={"symbol": symbol, "notebooks": names},
    )
    run_id = run.info.run_id
    outside = {name: os.environ.get(name) for name in (RUN_VARIABLE, "TF_CPP_MIN_LOG_LEVEL")}
    os.environ[RUN_VARIABLE] = run_id
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    status = "FAILED"
    try:
        yield client, run_id
        status = "FINISHED"
    except KeyboardInterrupt:
        status = "KILLED"
        raise
    finally:
        for name, value in outside.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        client.set_terminated(run_id, status)


def _execute(
    notebook: Notebook,
    parameters: Mapping[str, Literal],
    output: Path,
    home: Path,
    *,
    progress: bool,
    client: mlflow.MlflowClient,
    run_id: str,
) -> None:
    try:
        # Kernels that talk over files cannot race for a port; in a folder of their own, not for a file either.
        with tempfile.TemporaryDirectory(prefix="kernel-") as sockets:
            papermill.execute_notebook(
                str(notebook.path),
                str(output),
                parameters=dict(parameters),
                cwd=str(home),
                kernel_name="python3",
                progress_bar={"desc": f"{output.parent.name} {notebook.name}", "ascii": True} if progress else False,
                config=Config({"KernelManager": {"transport": "ipc", "ip": f"{sockets}/socket"}}),
            )
    except PapermillExecutionError as error:
        raise ForecastError(
            f"{notebook.name}, cell {error.cell_index + 1} failed with {error.ename}: {error.evalue}\n"
            f"The notebook up to there, with the traceback: {output}"
        ) from error
    except DEAD_KERNEL as error:
        raise ForecastError(
            f"the kernel of {notebook.name} died: {error}\nThe notebook up to there: {output}; "
            "if memory ran out, use a shorter lookback or fewer units"
        ) from error
    finally:
        if output.is_file():
            for file in (output, write_html(output)):
                client.log_artifact(run_id, str(file), "notebooks")
