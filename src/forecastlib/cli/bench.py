"""The command that measures speed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click


@click.command(
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
    from forecastlib.paths import project_root

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
