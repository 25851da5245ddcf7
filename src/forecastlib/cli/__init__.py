"""The command line: the same use cases as in notebooks, one command each.

Imports stand inside the commands, so that ``--help`` answers at once and no command loads TensorFlow or MLflow unless
it needs them.
"""

from __future__ import annotations

import gc
from typing import Any

import click

from forecastlib import __version__
from forecastlib.cli.data import doctor_command, import_command
from forecastlib.cli.judgement import audit_command, backtest_command
from forecastlib.cli.models import champion_command, forecast_command, score_command, train_command
from forecastlib.cli.notebooks import run_command
from forecastlib.cli.service import keys_group, serve_command
from forecastlib.cli.showcase import showcase_command
from forecastlib.errors import ForecastError

__all__ = ["BRIEF", "main"]

BRIEF = ("forecast", "score", "champion")
"""Commands that load much, then do little and end."""


class _Commands(click.Group):
    """A group that words every :class:`ForecastError` as one line, and exits with 1."""

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        """Be the whole of a process; who calls a command from a program of their own uses ``main.main``.

        TensorFlow and MLflow bring a million objects that stay to the end. Python would look through all of them for
        garbage again and again while more are made, and once more at the end, which takes a third of the time of
        importing them. Brief commands do without. At the end no command looks: the system takes all memory back.
        """
        gc.disable()
        try:
            return super().__call__(*arguments, **options)
        finally:
            gc.freeze()
            gc.enable()

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
@click.pass_context
def main(context: click.Context, debug: bool) -> None:
    """Honest multi-horizon forecasting of a stock index."""
    del debug  # read by _Commands
    if context.invoked_subcommand not in BRIEF:
        gc.enable()


for command in (
    run_command,
    import_command,
    doctor_command,
    audit_command,
    train_command,
    forecast_command,
    score_command,
    champion_command,
    backtest_command,
    serve_command,
    keys_group,
    showcase_command,
):
    main.add_command(command)
