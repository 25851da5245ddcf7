"""The command line: the same use cases as in notebooks, one command each.

Imports stand inside the commands, so that ``--help`` answers at once and no command loads TensorFlow or MLflow unless
it needs them.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from forecastlib import __version__
from forecastlib.commands import COMMANDS
from forecastlib.errors import ForecastError

if TYPE_CHECKING:
    import pandas as pd

    from forecastlib.serving.keys import KeyFile

_Command = TypeVar("_Command", bound=Callable[..., Any])


class _Commands(click.Group):
    """A group that words every :class:`ForecastError` as one line, and exits with 1."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except ForecastError as error:
            if ctx.params.get("debug"):
                raise
            click.echo(f"Error: {error}", err=True)
            ctx.exit(1)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="forecastlib")
@click.option("--debug", is_flag=True, help="Show tracebacks of errors.")
def main(debug: bool) -> None:
    """Honest multi-horizon forecasting of a stock index."""
    del debug  # read by _Commands


def source_options(command: _Command) -> _Command:
    """Add the options that say how a source is read; they arrive as ``start``, ``end`` and ``**options``."""
    for option in (
        click.option("--force-refresh", is_flag=True, help="Fetch even what was kept for a day."),
        click.option(
            "--adjust",
            type=click.Choice(["auto", "none", "close"]),
            default="auto",
            show_default=True,
            help="Scale prices by the adjusted close: where it differs, never, or always.",
        ),
        click.option("--decimal", type=click.Choice([".", ","]), help="Sign in front of decimals in files."),
        click.option("--date-format", help="How files write dates, such as %d/%m/%Y."),
        click.option("--end", help="Last session wanted, such as 2018-12-31."),
        click.option("--start", help="First session wanted."),
    ):
        command = option(command)
    return command


@main.command(
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


@main.command(
    "import",
    epilog="""\b
Examples:
  forecastlib import bundled --into sql:sqlite:///prices.db
  forecastlib import csv:data ^GSPC ^IXIC --into sql:sqlite:///prices.db
  forecastlib import yahoo,csv:data ^KS11 --start 2000-01-01 --into sql:postgresql://USER:PASSWORD@HOST/DATABASE
""",
)
@click.argument("source")
@click.argument("symbols", nargs=-1, metavar="[SYMBOL]...")
@click.option("--into", required=True, metavar="sql:URL", help="Database to write to: sqlite or postgresql.")
@source_options
def import_command(
    source: str, symbols: Sequence[str], into: str, start: str | None, end: str | None, **options: Any
) -> None:
    """Copy prices of SOURCE into the table `prices` of a database.

    Without a SYMBOL, all that the source has. Sessions that are there already get the new values. It is one
    transaction: if anything fails, the table stays as it was.
    """
    from forecastlib.database import masked, parse_url
    from forecastlib.sources import open_source
    from forecastlib.sources.base import symbols_of
    from forecastlib.sources.sql import import_prices

    target = masked(parse_url(into))
    opened = open_source(source, **options)
    frames = []
    for symbol in symbols or symbols_of(opened):
        frames.append(opened.fetch(symbol, start, end))
        click.echo(_served(frames[-1]))
    written = import_prices(frames, into)
    click.echo(f"{written:,} rows written to {target}")


def _served(prices: pd.DataFrame) -> str:
    """Word which source served prices, and what is to be known about them."""
    first, last = prices.index[0], prices.index[-1]
    title = f"{prices.attrs['symbol']}: {len(prices):,} sessions from {first:%Y-%m-%d} to {last:%Y-%m-%d}"
    failed = [f"failed: {failure}" for failure in prices.attrs["failures"]]
    return "\n  ".join([f"{title}, from {prices.attrs['source']}", *failed, *prices.attrs.get("notes", [])])


_COLOURS = {"good": "green", "note": "cyan", "warning": "yellow", "error": "red"}


@main.command(
    "doctor",
    epilog="""\b
Examples:
  forecastlib doctor bundled ^GSPC
  forecastlib doctor yahoo,csv:data ^KS11 --start 2000-01-01
  forecastlib doctor csv:export.csv KOSPI --date-format %d/%m/%Y
""",
)
@click.argument("source")
@click.argument("symbol")
@source_options
def doctor_command(source: str, symbol: str, start: str | None, end: str | None, **options: Any) -> None:
    """Examine the prices of SYMBOL from SOURCE, and say what to do about what is found.

    Shows which source served them, their range, quality and calendar, and whether they suffice for training; exits
    with 1 if they cannot be trained on as they are.
    """
    from forecastlib.doctor import examine
    from forecastlib.sources import open_source

    findings = examine(open_source(source, **options).fetch(symbol, start, end))
    width = max(len(finding.subject) for finding in findings)
    for finding in findings:
        level = click.style(f"{finding.level:7}", fg=_COLOURS[finding.level])
        click.echo(f"{level}  {finding.subject:{width}}  {finding.text}")
        if finding.remedy:
            click.echo(f"{'':9}{'':{width}}  -> {finding.remedy}")
    if any(finding.level == "error" for finding in findings):
        raise click.exceptions.Exit(1)


@main.command(
    "audit",
    epilog="""\b
Examples:
  forecastlib audit
  forecastlib audit ^GSPC
  forecastlib audit ^KS11 SOURCE=csv:data LOOKBACK=90 HORIZONS=5,10
""",
)
@click.argument("words", nargs=-1, metavar="[SYMBOL]... [NAME=VALUE]...")
def audit_command(words: Sequence[str]) -> None:
    """Look for leaks of the future on the way from prices to a score, and name the culprits.

    NAME=VALUE gives a setting of the run; SYMBOL=... takes several symbols too, separated by commas. Exits with 1 if
    anything leaks.
    """
    from forecastlib.config import RunConfig
    from forecastlib.leakage import audit
    from forecastlib.sources import fetch_prices

    given = {name.lower(): value for name, _, value in (word.partition("=") for word in words if "=" in word)}
    symbols = [*(word for word in words if "=" not in word), *filter(None, given.pop("symbol", "").split(","))]
    passed = True
    for chosen in [given | {"symbol": symbol.strip()} for symbol in symbols] or [given]:
        config = RunConfig.from_parameters(**chosen)
        report = audit(fetch_prices(config.data), config)
        click.echo(repr(report))
        passed &= report.passed
    if not passed:
        raise click.exceptions.Exit(1)


@main.command(
    "showcase",
    epilog="""\b
Examples:
  forecastlib showcase
  forecastlib showcase ^GSPC
""",
)
@click.argument("symbols", nargs=-1, metavar="[SYMBOL]...")
def showcase_command(symbols: Sequence[str]) -> None:
    """Draw anew what the README shows, from the present champions: by default of both bundled indices."""
    from forecastlib.project import project_root
    from forecastlib.showcase import write_showcase

    for path in write_showcase(symbols or ("^GSPC", "^IXIC"), project_root()):
        click.echo(path)


@main.command(
    "bench",
    epilog="""\b
Examples:
  forecastlib bench
  forecastlib bench training dropout --rounds 9
""",
)
@click.argument("names", nargs=-1, metavar="[WORK]...")
@click.option("--rounds", default=5, show_default=True, help="Turns of every contender that count.")
@click.option("--into", type=click.Path(path_type=Path), help="Folder.  [default: reports/showcase of the project]")
def bench_command(names: Sequence[str], rounds: int, into: Path | None) -> None:
    """Measure how fast this is beside its peers on this machine, by default at every WORK.

    Peers that are no dependency of the project (torch, ta) come with the extra `bench`; without it their rows say so.
    Takes some minutes; leave the machine alone meanwhile.
    """
    from forecastlib.bench import WORKS, measure, write_report
    from forecastlib.bench.machine import describe, gemm_peak
    from forecastlib.bench.report import rows
    from forecastlib.config import unknown_name
    from forecastlib.errors import ConfigError
    from forecastlib.project import project_root

    for name in names:
        if name not in WORKS:
            raise ConfigError(unknown_name("work", name, WORKS))
    peak = gemm_peak()
    results = {}
    for name in names or WORKS:
        results[name] = measure(name, WORKS[name], rounds, lambda line: click.echo(f"  {line}", err=True))
        click.echo("\n".join(rows(name, results[name])))
    for path in write_report(results, describe(), peak, into or project_root() / "reports" / "showcase"):
        click.echo(path)


KEYS_OPTION = click.option(
    "--keys", type=click.Path(path_type=Path), help="File of keys.  [default: mlruns/keys.json of the project]"
)


@main.command(
    "serve",
    epilog="""\b
Examples:
  forecastlib serve
  forecastlib serve --port 9000 SOURCE=yahoo,bundled
  forecastlib serve EPOCHS=20 LOOKBACK=90
  forecastlib serve --host 0.0.0.0 --keys keys.json
""",
)
@click.argument("words", nargs=-1, metavar="[NAME=VALUE]...")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen at.")
@click.option("--port", default=8000, show_default=True, help="Port to listen at; 0: any that is free.")
@KEYS_OPTION
def serve_command(words: Sequence[str], host: str, port: int, keys: Path | None) -> None:
    """Serve training, forecasts, their history and scores over HTTP, with a page to look at them.

    NAME=VALUE gives a parameter of every training, SOURCE among them, which callers cannot change. Without keys only
    this machine is served; see forecastlib keys.
    """
    from forecastlib.runner import find_notebooks, read_parameters
    from forecastlib.serving.server import serve
    from forecastlib.serving.settings import Settings

    given = dict(word.partition("=")[::2] for word in words)
    parameters = read_parameters(given, find_notebooks(["train"]))
    source = parameters.pop("source", "bundled")
    serve(Settings(host=host, port=port, source=source, keys=keys, parameters=parameters), click.echo)


@main.group(
    "keys",
    epilog="""\b
Examples:
  forecastlib keys add ann
  forecastlib keys add dashboard --no-training
  forecastlib keys list
  forecastlib keys revoke ann
""",
)
def keys_group() -> None:
    """Make, list and revoke the keys that callers of the service identify themselves with."""


def _key_file(keys: Path | None) -> KeyFile:
    from forecastlib.serving.keys import KeyFile
    from forecastlib.serving.settings import Settings

    return KeyFile(Settings(keys=keys).keys_file)


@keys_group.command("add")
@click.argument("name")
@click.option("--no-training", is_flag=True, help="It may not start trainings.")
@KEYS_OPTION
def add_key_command(name: str, no_training: bool, keys: Path | None) -> None:
    """Make a key and show it: this once, as only its hash is kept."""
    click.echo(_key_file(keys).add(name, may_train=not no_training))


@keys_group.command("list")
@KEYS_OPTION
def list_keys_command(keys: Path | None) -> None:
    """List the keys."""
    for key in _key_file(keys).all():
        state = f"revoked {key.revoked_at}" if key.revoked_at else "valid"
        click.echo(f"{key.name:20} {'may train' if key.may_train else 'no training':12} made {key.created_at}  {state}")


@keys_group.command("revoke")
@click.argument("name")
@KEYS_OPTION
def revoke_key_command(name: str, keys: Path | None) -> None:
    """Refuse a key from now on; a running service knows at once."""
    _key_file(keys).revoke(name)
    click.echo(f"{name} is revoked")


for command in COMMANDS:
    main.add_command(command)


if __name__ == "__main__":
    sys.exit(main())
