"""The commands around prices: copy them into a database, examine them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    import pandas as pd

_Command = TypeVar("_Command", bound=Callable[..., Any])


def source_options(command: _Command) -> _Command:
    """Add the options that say how a source is read; they arrive as ``start``, ``end`` and ``**options``."""
    for option in (
        click.option("--force-refresh", is_flag=True, help="Fetch even what is cached."),
        click.option(
            "--adjust",
            type=click.Choice(["auto", "none", "close"]),
            default="auto",
            show_default=True,
            help="Scale prices by the adjusted close: where it differs, never, or always.",
        ),
        click.option("--decimal", type=click.Choice([".", ","]), help="Decimal sign in files."),
        click.option("--date-format", help="How files write dates, such as %d/%m/%Y."),
        click.option("--end", help="Last session wanted, such as 2018-12-31."),
        click.option("--start", help="First session wanted."),
    ):
        command = option(command)
    return command


@click.command(
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

    Without a SYMBOL, all symbols of the source. Sessions that exist already get the new values. An import is one
    transaction: if anything fails, the table stays as it was.
    """
    from forecastlib.data.prices import list_symbols
    from forecastlib.data.sources import open_source
    from forecastlib.data.sql import import_prices
    from forecastlib.database import masked, parse_url

    target = masked(parse_url(into))
    opened = open_source(source, **options)
    frames = []
    for symbol in symbols or list_symbols(opened):
        frames.append(opened.fetch(symbol, start, end))
        click.echo(_served(frames[-1]))
    written = import_prices(frames, into)
    click.echo(f"{written:,} rows written to {target}")


def _served(prices: pd.DataFrame) -> str:
    """Say which source served prices, and what should be known about them."""
    first, last = prices.index[0], prices.index[-1]
    title = f"{prices.attrs['symbol']}: {len(prices):,} sessions from {first:%Y-%m-%d} to {last:%Y-%m-%d}"
    failed = [f"failed: {failure}" for failure in prices.attrs["failures"]]
    return "\n  ".join([f"{title}, from {prices.attrs['source']}", *failed, *prices.attrs.get("notes", [])])


_COLOURS = {"failed": "red", "warning": "yellow"}


@click.command(
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
    """Examine the prices of SYMBOL from SOURCE, and say what to do about each finding.

    Shows which source served them, their range, quality and calendar, and whether they suffice for training; exits
    with 1 if they cannot be trained on as they are.
    """
    from forecastlib.data.sources import open_source
    from forecastlib.doctor import examine

    diagnosis = examine(open_source(source, **options).fetch(symbol, start, end))
    for name, text in diagnosis.facts.items():
        click.echo(f"{name:9} {text}")
    for finding in diagnosis.findings:
        if finding.found_something:
            text = "; ".join(filter(None, [finding.dates_text, finding.detail]))
            click.echo(f"{click.style(f'{finding.status:9}', fg=_COLOURS[finding.status])} {finding.check}: {text}")
            click.echo(f"{'':9} -> {finding.remedy}")
    click.echo(diagnosis.headline)
    if not diagnosis.passed:
        raise click.exceptions.Exit(1)
