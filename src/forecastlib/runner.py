"""Running notebooks: papermill executes them with checked parameters, inside an MLflow run that stores the results.

The report of an executed notebook is one self-contained HTML file, readable offline and printable.
"""

from __future__ import annotations

import ast
import contextlib
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import mlflow
import nbformat
import papermill
from nbconvert import HTMLExporter
from papermill.exceptions import PapermillExecutionError
from pygments.formatters import HtmlFormatter
from traitlets.config import Config

from forecastlib.config import unknown_name
from forecastlib.errors import ConfigError, ForecastError
from forecastlib.paths import project_root, slug
from forecastlib.processes import QUIET, report_progress
from forecastlib.tracking.runs import RUN_VARIABLE, connect, experiment_id

Literal = str | int | float | bool | list[object] | None
"""The value of a parameter."""

KERNEL_ERRORS = (RuntimeError, OSError)
"""What papermill raises if a kernel does not start or stops before its notebook ends."""


@dataclass(frozen=True)
class Notebook:
    """A notebook with a ``parameters`` cell.

    Attributes
    ----------
    path : Path
    defaults : dict
        The default values in its ``parameters`` cell, by name.
    """

    path: Path
    defaults: dict[str, Literal]

    @property
    def name(self) -> str:
        """The file name without its suffix, for instance ``03_train``."""
        return self.path.stem


def find_notebooks(names: Sequence[str], root: Path | None = None) -> list[Notebook]:
    """Find notebooks by name, with or without their leading number.

    Parameters
    ----------
    names
        For instance ``train`` or ``03_train``; if empty, all notebooks are returned, in order.
    root
        The project's root folder; by default :func:`forecastlib.paths.project_root`.

    Returns
    -------
    list of Notebook

    Raises
    ------
    ConfigError
        If there is no such notebook, or it has no ``parameters`` cell.
    """
    folder = (root or project_root()) / "notebooks"
    known = {path.stem: path for path in sorted(folder.glob("[0-9]*.ipynb"))}
    if not known:
        raise ConfigError(f"expected notebooks in {folder}; found none; run this command in a checkout of the project")
    by_name = known | {stem.partition("_")[2]: path for stem, path in known.items()}
    for name in names:
        if name not in by_name:
            raise ConfigError(unknown_name("notebook", name, known))
    return [_read(by_name[name]) for name in names or known]


def _read(path: Path) -> Notebook:
    found = papermill.inspect_notebook(str(path))
    if not found:
        raise ConfigError(f"expected a cell tagged 'parameters' with at least one parameter in {path.name}; found none")
    return Notebook(path, {name: ast.literal_eval(entry["default"]) for name, entry in found.items()})


def read_parameters(given: Mapping[str, str], notebooks: Sequence[Notebook]) -> dict[str, Literal]:
    """Convert parameters from the command line to the types of their defaults.

    Parameters
    ----------
    given
        Values by name in upper or lower case, for instance ``{"SYMBOL": "^GSPC", "EPOCHS": "5", "HORIZONS": "5,10"}``.
    notebooks
        The notebooks to run; each parameter must belong to at least one of them.

    Returns
    -------
    dict
        Values by name in lower case. A parameter whose default is text stays text.

    Raises
    ------
    ConfigError
        If no notebook has a parameter of that name.

    Examples
    --------
    With the defaults ``symbol = "^IXIC"``, ``epochs = 100`` and ``horizons = [7, 14, 30]``, the values above become
    ``"^GSPC"``, ``5`` and ``[5, 10]``.
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
        return text  # a date, for instance
    return list(value) if isinstance(value, tuple) else value


def run_notebooks(
    notebooks: Sequence[Notebook],
    parameters: Mapping[str, Literal],
    *,
    root: Path | None = None,
    reports: Path | None = None,
    progress: bool = True,
) -> str:
    """Execute notebooks in order for one symbol, inside one MLflow run.

    Executed copies and their HTML are written to ``reports/SYMBOL/`` and attached to the run. If a cell fails, the
    partly executed notebook is written and attached all the same, and the status of the run is FAILED. The start and
    the end of the run are reported as progress, see :func:`~forecastlib.processes.report_progress`.

    Parameters
    ----------
    notebooks
        The notebooks; each gets those of the parameters that it has.
    parameters
        Values as returned by :func:`read_parameters`.
    root
        The project's root folder; by default :func:`forecastlib.paths.project_root`.
    reports
        Folder of the executed copies; by default ``reports/SYMBOL/``. Concurrent runs of one symbol need different
        folders.
    progress
        Whether to show a progress bar over cells.

    Returns
    -------
    str
        The id of the run.

    Raises
    ------
    ForecastError
        If a cell fails or the kernel stops; the message names the notebook and the cell.

    Notes
    -----
    Kernels inherit the environment of this process, which is changed while they run and restored afterwards.
    """
    home = root or project_root()
    symbol = str(
        parameters.get("symbol", next((n.defaults["symbol"] for n in notebooks if "symbol" in n.defaults), ""))
    )
    folder = reports or home / "reports" / slug(symbol)
    folder.mkdir(parents=True, exist_ok=True)
    with _open_run(notebooks, symbol) as (client, run_id):
        report_progress("run", run_id=run_id)
        for notebook in notebooks:
            accepted = {name: value for name, value in parameters.items() if name in notebook.defaults}
            _execute(
                notebook, accepted, folder / notebook.path.name, home, progress=progress, client=client, run_id=run_id
            )
    report_progress("finished", run_id=run_id)
    return run_id


@contextlib.contextmanager
def _open_run(notebooks: Sequence[Notebook], symbol: str) -> Iterator[tuple[mlflow.MlflowClient, str]]:
    """Create the run that the kernels resume, and set its final status.

    Papermill does not set the status: MLflow would show a run as finished although a cell failed, or as running after
    its kernel was killed.
    """
    client = connect()
    run = client.create_run(
        experiment_id(client),
        run_name=f"{slug(symbol)}_{notebooks[0].name if len(notebooks) == 1 else 'all'}",
        tags={"symbol": symbol, "notebooks": ",".join(notebook.name for notebook in notebooks)},
    )
    run_id = run.info.run_id
    status = "FAILED"
    try:
        quiet = {name: value for name, value in QUIET.items() if name not in os.environ}
        with _environment(quiet | {RUN_VARIABLE: run_id}):
            yield client, run_id
        status = "FINISHED"
    except KeyboardInterrupt:
        status = "KILLED"
        raise
    finally:
        client.set_terminated(run_id, status)


@contextlib.contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables of this process and restore their previous values."""
    previous = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in previous.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


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
        # Kernels that communicate through sockets in separate folders cannot compete for a port or a file.
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
            f"The traceback is in the partly executed notebook: {output}"
        ) from error
    except KERNEL_ERRORS as error:
        raise ForecastError(
            f"the kernel of {notebook.name} stopped: {error}\nThe partly executed notebook: {output}; "
            "if memory ran out, use a shorter lookback or fewer units"
        ) from error
    finally:
        if output.is_file():
            for file in (output, write_html(output)):
                client.log_artifact(run_id, str(file), "notebooks")


_STYLE = """
body { font: 16px/1.55 system-ui, "Segoe UI", Helvetica, Arial, sans-serif; color: #1b1f24; max-width: 62rem;
       margin: 2rem auto; padding: 0 1.25rem; }
h1, h2, h3 { line-height: 1.25; margin: 2.2rem 0 .6rem; }
h1 { font-size: 1.9rem; margin-top: 0; } h2 { font-size: 1.35rem; } h3 { font-size: 1.1rem; }
pre, code { font: 13px/1.45 ui-monospace, "Cascadia Mono", Menlo, Consolas, monospace; }
div.input, .jp-InputArea { background: #f6f7f9; border-left: 3px solid #d5d9e0; padding: .15rem .8rem; margin: .8rem 0;
       overflow-x: auto; }
.prompt, .jp-InputPrompt, .jp-OutputPrompt { display: none; }
.jp-RenderedText pre, div.output pre { color: #4a5260; white-space: pre-wrap; overflow-wrap: anywhere; }
img, svg { max-width: 100%; height: auto; }
table { border-collapse: collapse; font-size: 14px; margin: .8rem 0; font-variant-numeric: tabular-nums; }
table { border: 0; } th, td { padding: .28rem .7rem; border: 0; border-bottom: 1px solid #e3e6eb; text-align: right; }
th { border-bottom: 2px solid #c4cad3; } td:first-child, th:first-child { text-align: left; }
.anchor-link { display: none; }
@media print { body { max-width: none; margin: 0; font-size: 11pt; } div.input, .jp-InputArea { break-inside: avoid; }
       img, table { break-inside: avoid; } }
@media (max-width: 40rem) { body { margin: 1rem auto; } table { display: block; overflow-x: auto; } }
"""

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{style}{highlighting}</style>
</head>
<body>
{body}
</body>
</html>
"""


def write_html(notebook: Path) -> Path:
    """Convert an executed notebook to an HTML file next to it.

    The file contains all figures and styles and loads nothing from a network.

    Parameters
    ----------
    notebook
        An ``.ipynb`` file; it may be executed only in part.

    Returns
    -------
    Path
        The ``.html`` file.
    """
    content = nbformat.read(notebook, as_version=4)
    for cell in content.cells:
        # Progress bars and log messages remain in the executed notebook, but do not belong in a report.
        cell["outputs"] = [output for output in cell.get("outputs", []) if output.get("name") != "stderr"]
    # Of nbconvert's templates, only "basic" does not load scripts from a network.
    body, _ = HTMLExporter(template_name="basic").from_notebook_node(content)
    page = _PAGE.format(
        title=f"{notebook.parent.name} {notebook.stem}",
        style=_STYLE,
        highlighting=HtmlFormatter(style="default").get_style_defs(".highlight"),
        body=body,
    )
    path = notebook.with_suffix(".html")
    path.write_text(page, encoding="utf-8")
    return path
