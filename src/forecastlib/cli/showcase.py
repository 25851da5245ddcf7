"""The command that renders what the README shows: figures and scores of the champions."""

from __future__ import annotations

from collections.abc import Sequence

import click


@click.command(
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
    from forecastlib.paths import project_root
    from forecastlib.showcase import write_showcase

    for path in write_showcase(symbols or ("^GSPC", "^IXIC"), project_root()):
        click.echo(path)
