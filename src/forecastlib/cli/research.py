"""The commands of research: run notebooks, backtest, audit, and redraw the figures of the README."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from forecastlib.cli.terminal import (
    FORMAT_OPTION,
    load_tensorflow,
    print_json,
    records,
    run_configs,
    split_list,
    split_settings,
)
from forecastlib.errors import ConfigError, ForecastError


@click.command(
    "run",
    epilog="""\b
Examples:
  forecastlib run
  forecastlib run train SYMBOL=^GSPC EPOCHS=5 LOOKBACK=90
  forecastlib run forecast AS_OF=2018-06-29
""",
)
@click.argument("arguments", nargs=-1, metavar="[NOTEBOOK]... [NAME=VALUE]...")
@click.option("--no-progress", is_flag=True, help="Do not show a progress bar over cells.")
@click.option(
    "--reports", type=click.Path(path_type=Path), help="Folder of the executed copies.  [default: reports/SYMBOL]"
)
def run_command(arguments: Sequence[str], no_progress: bool, reports: Path | None) -> None:
    """Execute notebooks, by default all of them, within an MLflow run.

    NAME=VALUE sets a parameter of the notebooks. SYMBOL takes several symbols, separated by commas: each gets a run,
    in parallel single-threaded processes, one per processor. Executed copies and their HTML go to reports/SYMBOL/.
    """
    from forecastlib.runner import find_notebooks, read_parameters, run_notebooks

    names, settings = split_settings(arguments)
    notebooks = find_notebooks(names)
    parameters = read_parameters(settings, notebooks)  # refuses wrong parameters before anything runs
    symbols = split_list(settings.pop("symbol", ""))
    if len(symbols) > 1:
        options = ["--no-progress"] * no_progress + (["--reports", str(reports)] if reports else [])
        shared = [*options, *names, *(f"{name}={value}" for name, value in settings.items())]
        _run_in_parallel(symbols, shared)
        return
    run_id = run_notebooks(notebooks, parameters, reports=reports, progress=not no_progress)
    click.echo(f"run {run_id}: {', '.join(notebook.name for notebook in notebooks)}")


def _run_in_parallel(symbols: Sequence[str], arguments: Sequence[str]) -> None:
    """Run ``forecastlib run`` once per symbol; a failure does not stop the other symbols and is reported at the end."""
    from concurrent.futures import ThreadPoolExecutor

    from forecastlib.processes import child_environment

    environment = child_environment()

    def run(symbol: str) -> int:
        command = [sys.executable, "-m", "forecastlib.cli", "run", *arguments, f"symbol={symbol}"]
        return subprocess.run(command, env=environment, check=False).returncode

    with ThreadPoolExecutor(os.cpu_count() or 1) as threads:
        codes = list(threads.map(run, symbols))
    failed = [symbol for symbol, code in zip(symbols, codes, strict=True) if code]
    if failed:
        raise ForecastError(f"the notebooks of {', '.join(failed)} failed, see above; those of other symbols are done")


@click.command(
    "backtest",
    epilog="""\b
Examples:
  forecastlib backtest
  forecastlib backtest ^GSPC --folds 3 --seeds 0,1 EPOCHS=20
  forecastlib backtest ^IXIC --rolling --format json
""",
)
@click.argument("arguments", nargs=-1, metavar="[SYMBOL]... [NAME=VALUE]...")
@click.option("--folds", default=5, show_default=True, help="Number of consecutive test sets, up to the newest data.")
@click.option("--seeds", default="0,1,2", show_default=True, help="Seeds of the network, separated by commas.")
@click.option("--test-size", type=int, help="Origins per test set.  [default: the data divided by folds + 1]")
@click.option("--rolling", is_flag=True, help="Use a rolling instead of an expanding training set.")
@click.option("--workers", type=int, help="Number of processes.  [default: one per core, at most four]")
@click.option("--no-progress", is_flag=True, help="Do not show a progress bar over tasks.")
@FORMAT_OPTION
def backtest_command(
    arguments: Sequence[str], seeds: str, rolling: bool, no_progress: bool, output_format: str, **options: Any
) -> None:
    """Refit the model and every baseline walking forward in time, and score their out-of-sample forecasts.

    NAME=VALUE changes a setting of the run. Each fold and seed is a nested MLflow run. Results are stored in
    reports/SYMBOL/backtest/: after an interruption, the same command continues where it stopped.
    """
    if not all(seed.strip().isdigit() for seed in seeds.split(",")):
        raise ConfigError(f"expected seeds as whole numbers separated by commas, such as 0,1,2; got {seeds!r}")
    configs = run_configs(arguments)
    load_tensorflow()
    from forecastlib.workflows import backtest, fetch

    results = []
    for config in configs:
        prices, _ = fetch(config.data)
        result = backtest(
            prices,
            config,
            seeds=[int(seed) for seed in seeds.split(",")],
            expanding=not rolling,
            progress=not no_progress,
            **options,
        )
        if output_format == "json":
            verdicts = result.verdicts.drop(columns=["statistic"]).reset_index()
            scores = {"scores": records(result.scores.reset_index()), "verdicts": records(verdicts)}
            results.append({"symbol": result.symbol, "run_id": result.run_id} | scores)
            continue
        click.echo(f"{result.symbol}: {len(result.folds)} folds, run {result.run_id}")
        click.echo(result.table().to_string())
        for model in result.models[1:]:
            for verdict in result.verdicts.xs(model, level="model")["verdict"]:
                click.echo(f"{model}, {verdict}")
    if output_format == "json":
        print_json(results)


@click.command(
    "audit",
    epilog="""\b
Examples:
  forecastlib audit
  forecastlib audit ^GSPC
  forecastlib audit ^KS11 SOURCE=csv:data LOOKBACK=90 HORIZONS=5,10
""",
)
@click.argument("arguments", nargs=-1, metavar="[SYMBOL]... [NAME=VALUE]...")
def audit_command(arguments: Sequence[str]) -> None:
    """Search for leaks of future data between prices and scores, and name the step that causes them.

    NAME=VALUE changes a setting of the run; SYMBOL=... takes several symbols, separated by commas. Exits with 1 if a
    leak is found.
    """
    load_tensorflow()
    from forecastlib.auditing import audit
    from forecastlib.data.sources import fetch_prices

    passed = True
    for config in run_configs(arguments):
        report = audit(fetch_prices(config.data), config)
        click.echo(report.headline)
        for finding in report.findings:
            click.echo(f"  {finding.status:7}  {finding.summary}")
        passed &= report.passed
    if not passed:
        raise click.exceptions.Exit(1)
