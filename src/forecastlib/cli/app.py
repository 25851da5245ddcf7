"""The command ``forecastlib``: its subcommands, how errors are shown, and what libraries may write to the terminal.

The modules of commands import the library inside their functions, so that ``--help`` answers at once and no command
loads TensorFlow or MLflow unless it needs them.
"""

from __future__ import annotations

import os
import sys

import click

from forecastlib import __version__
from forecastlib.cli.data import doctor_command, import_command
from forecastlib.cli.models import champion_command, forecast_command, score_command, train_command
from forecastlib.cli.research import audit_command, backtest_command, run_command
from forecastlib.cli.service import keys_group, serve_command
from forecastlib.errors import ForecastError
from forecastlib.processes import QUIET


class _Group(click.Group):
    """A group of commands that shows a :class:`ForecastError` as one message and exits with 1."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except ForecastError as error:
            if ctx.params.get("debug"):
                raise
            click.echo(f"Error: {error}", err=True)
            ctx.exit(1)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="forecastlib")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def main(debug: bool) -> None:
    """Multi-horizon forecasts of a stock index with a neural network, always compared with the random walk.

    TensorFlow and MLflow are kept quiet. To see their log messages, set TF_CPP_MIN_LOG_LEVEL=0 and
    MLFLOW_LOGGING_LEVEL=INFO.
    """
    del debug  # read by _Group
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    if "" not in sys.path and os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # so that models and features of your own are found, as with python -m


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
):
    main.add_command(command)
