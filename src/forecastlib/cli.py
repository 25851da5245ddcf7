"""The command line: the same use cases as in notebooks, one command each.

Imports stand inside the commands, so that ``--help`` answers at once and no command loads TensorFlow or MLflow unless
it needs them.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click

from forecastlib import __version__
from forecastlib.errors import ForecastError


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


if __name__ == "__main__":
    sys.exit(main())
