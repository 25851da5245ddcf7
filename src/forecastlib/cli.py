"""The command line: the same use cases as in notebooks, one command each.

Imports stand inside the commands, so that ``--help`` answers at once and no command loads TensorFlow or MLflow unless
it needs them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from forecastlib import __version__
from forecastlib.errors import ForecastError

if TYPE_CHECKING:
    import pandas as pd

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
def run_command(words: Sequence[str], no_progress: bool) -> None:
    """Execute notebooks, by default all of them, inside an MLflow run.

    NAME=VALUE gives a parameter of the notebooks; SYMBOL takes several, separated by commas, one run each. Executed
    copies and their HTML go to reports/SYMBOL/.
    """
    from forecastlib.runner import find_notebooks, read_parameters, run_notebooks

    given = dict(word.split("=", 1) for word in words if "=" in word)
    notebooks = find_notebooks([word for word in words if "=" not in word])
    symbols = [name for name in given if name.lower() == "symbol"]
    for symbol in given.pop(symbols[0]).split(",") if symbols else [""]:
        chosen = given | {"symbol": symbol.strip()} if symbol else given
        run_id = run_notebooks(notebooks, read_parameters(chosen, notebooks), progress=not no_progress)
        click.echo(f"run {run_id}: {', '.join(notebook.name for notebook in notebooks)}")


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
    from forecastlib.showcase import write_showcase
    from forecastlib.tracking import project_root

    for path in write_showcase(symbols or ("^GSPC", "^IXIC"), project_root()):
        click.echo(path)


if __name__ == "__main__":
    sys.exit(main())
