"""The commands for prices: copy them into a database, examine them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from forecastlib.cli.terminal import print_table, split_settings

if TYPE_CHECKING:
    import pandas as pd

_Command = TypeVar("_Command", bound=Callable[..., Any])


def source_options(command: _Command) -> _Command:
    """Add the options for reading a source; the command gets them as ``start``, ``end`` and ``**options``."""
    for option in (
        click.option("--force-refresh", is_flag=True, help="Fetch again even if prices were cached within a day."),
        click.option(
            "--adjust",
            type=click.Choice(["auto", "none", "close"]),
            default="auto",
            show_default=True,
            help="Scale prices by the adjusted close: where it differs, never, or always.",
        ),
        click.option("--decimal", type=click.Choice([".", ","]), help="Decimal separator of files."),
        click.option("--date-format", help="Date format of files, such as %d/%m/%Y."),
        click.option("--end", help="Last session to read, such as 2018-12-31."),
        click.option("--start", help="First session to read."),
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

    Without a SYMBOL, copies every symbol of the source. Sessions that already exist are updated. Everything is written
    in one transaction: if anything fails, the table is unchanged.
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
        click.echo(_description(frames[-1]))
    written = import_prices(frames, into)
    click.echo(f"{written:,} rows written to {target}")


def _description(prices: pd.DataFrame) -> str:
    """Describe fetched prices: their range, the source that returned them, failed sources and notes."""
    first, last = prices.index[0], prices.index[-1]
    title = f"{prices.attrs['symbol']}: {len(prices):,} sessions from {first:%Y-%m-%d} to {last:%Y-%m-%d}"
    failed = [f"failed: {failure}" for failure in prices.attrs["failures"]]
    return "\n  ".join([f"{title}, from {prices.attrs['source']}", *failed, *prices.attrs.get("notes", [])])


_STYLES = {"warning": "yellow", "failed": "red"}


@click.command(
    "doctor",
    epilog="""\b
Examples:
  forecastlib doctor bundled ^GSPC
  forecastlib doctor yahoo,csv:data ^KS11 --start 2000-01-01
  forecastlib doctor csv:export.csv KOSPI --date-format %d/%m/%Y
  forecastlib doctor csv:export.csv ^VIX REPAIR=true LENIENT=outside_range
""",
)
@click.argument("source")
@click.argument("symbol")
@click.argument("settings", nargs=-1, metavar="[NAME=VALUE]...")
@source_options
def doctor_command(source: str, symbol: str, settings: Sequence[str], **options: Any) -> None:
    """Examine the prices of SYMBOL from SOURCE, and recommend what to do about each problem.

    Shows the source that returned the prices, their range, age, quality and calendar, and whether there are enough for
    training. NAME=VALUE changes a setting of the run they are meant for. Exits with 1 if a model cannot be trained on
    them as they are.
    """
    import datetime as dt

    from rich.text import Text

    from forecastlib.config import RunConfig
    from forecastlib.data.sources import fetch_prices
    from forecastlib.doctor import examine

    unnamed, named = split_settings(settings)
    if unnamed:
        raise click.UsageError(f"expected one symbol and settings as NAME=VALUE; got {unnamed[0]!r} as well")
    config = RunConfig.from_parameters(**options | {"source": source, "symbol": symbol} | named)
    diagnosis = examine(fetch_prices(config.data), config, as_of=dt.date.today())
    rows = [{"status": "", "about": name, "text": text} for name, text in diagnosis.facts.items()]
    for finding in diagnosis.findings:
        if finding.found_something:
            text = "; ".join(filter(None, [finding.dates_text, finding.detail]))
            rows.append({"status": finding.status, "about": finding.check, "text": text})
            rows.append({"status": "", "about": "", "text": f"-> {finding.remedy}"})
    print_table(rows, {"status": lambda status: Text(status, style=_STYLES.get(status, ""))}, header=False)
    click.echo(diagnosis.headline)
    if not diagnosis.passed:
        raise click.exceptions.Exit(1)
