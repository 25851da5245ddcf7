"""The command line: the same use cases as in notebooks, one command each.

Imports stand inside the commands, so that ``--help`` answers at once and no command loads TensorFlow or MLflow unless
it needs them.
"""

from __future__ import annotations

import click

from forecastlib import __version__
from forecastlib.cli.data import doctor_command, import_command
from forecastlib.cli.judgement import audit_command, backtest_command
from forecastlib.cli.models import champion_command, forecast_command, score_command, train_command
from forecastlib.cli.notebooks import run_command
from forecastlib.cli.service import keys_group, serve_command
from forecastlib.cli.showcase import bench_command, showcase_command
from forecastlib.errors import ForecastError

__all__ = ["main"]


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
    bench_command,
):
    main.add_command(command)
