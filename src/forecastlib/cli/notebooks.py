"""The command that executes notebooks."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click

from forecastlib.errors import ForecastError


@click.command(
    "run",
    epilog="""\b
Examples:
  forecastlib run
  forecastlib run train SYMBOL=^GSPC EPOCHS=5 LOOKBACK=90
  forecastlib run forecast AS_OF=2018-06-29
""",
)
@click.argument("words", nargs=-1, metavar="[NOTEBOOK]... [NAME=VALUE]...")
@click.option("--no-progress", is_flag=True, help="Show no bar over cells.")
@click.option("--reports", type=click.Path(path_type=Path), help="Another folder for the executed copies.")
def run_command(words: Sequence[str], no_progress: bool, reports: Path | None) -> None:
    """Execute notebooks, by default all of them, inside an MLflow run.

    NAME=VALUE gives a parameter of the notebooks; SYMBOL takes several, separated by commas: one run each, side by side
    in processes of one thread, as many as there are processors. Executed copies and their HTML go to reports/SYMBOL/.
    """
    from forecastlib.runner import find_notebooks, read_parameters, run_notebooks

    given = {name.lower(): value for name, value in (word.split("=", 1) for word in words if "=" in word)}
    names = [word for word in words if "=" not in word]
    notebooks = find_notebooks(names)
    parameters = read_parameters(given, notebooks)  # refused before anything runs
    symbols = [symbol.strip() for symbol in given.pop("symbol", "").split(",") if symbol.strip()]
    if len(symbols) > 1:
        options = ["--no-progress"] * no_progress + (["--reports", str(reports)] if reports else [])
        others = [f"{name}={value}" for name, value in given.items()]
        _run_side_by_side([[*options, *names, *others, f"symbol={symbol}"] for symbol in symbols])
        return
    run_id = run_notebooks(notebooks, parameters, reports=reports, progress=not no_progress)
    click.echo(f"run {run_id}: {', '.join(notebook.name for notebook in notebooks)}")


def _run_side_by_side(runs: Sequence[Sequence[str]]) -> None:
    """Run `forecastlib run` several times at once; if one fails, the others go on, and it is said at the end."""
    # Twice one thread does more than one process of two threads, most of which is not parallel.
    outside = dict.fromkeys(("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"), "1") | os.environ

    def run(words: Sequence[str]) -> int:
        command = [sys.executable, "-m", "forecastlib.cli", "run", *words]
        return subprocess.run(command, env=outside, check=False).returncode

    with ThreadPoolExecutor(os.cpu_count() or 1) as processes:
        codes = list(processes.map(run, runs))
    failed = [words[-1].partition("=")[2] for words, code in zip(runs, codes, strict=True) if code]
    if failed:
        raise ForecastError(f"the notebooks of {', '.join(failed)} failed, see above; those of other symbols are done")
