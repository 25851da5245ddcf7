"""The commands of the HTTP service: start it, and manage its API keys."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from forecastlib.serving.settings import KeyFile

KEYS_OPTION = click.option(
    "--keys", type=click.Path(path_type=Path), help="File of API keys.  [default: mlruns/keys.json of the project]"
)


@click.command(
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
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=8000, show_default=True, help="Port to listen on; 0: any free one.")
@KEYS_OPTION
def serve_command(words: Sequence[str], host: str, port: int, keys: Path | None) -> None:
    """Serve trainings, forecasts, their history and their scores over HTTP, with a web page.

    NAME=VALUE sets a parameter of every training, for instance SOURCE; callers cannot change it. A service without API
    keys serves this machine only; see forecastlib keys.
    """
    from forecastlib.runner import find_notebooks, read_parameters
    from forecastlib.serving import Settings, serve

    given = dict(word.partition("=")[::2] for word in words)
    parameters = read_parameters(given, find_notebooks(["train"]))
    source = parameters.pop("source", "bundled")
    serve(Settings(host=host, port=port, source=source, keys=keys, parameters=parameters), click.echo)


@click.group(
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
    """Create, list and revoke the API keys of the service."""


def _key_file(keys: Path | None) -> KeyFile:
    from forecastlib.serving import Settings
    from forecastlib.serving.settings import KeyFile

    return KeyFile(Settings(keys=keys).keys_file)


@keys_group.command("add")
@click.argument("name")
@click.option("--no-training", is_flag=True, help="The key may not start trainings.")
@KEYS_OPTION
def add_key_command(name: str, no_training: bool, keys: Path | None) -> None:
    """Create a key and print it. Only its hash is stored, so it cannot be shown again."""
    click.echo(_key_file(keys).add(name, may_train=not no_training))


@keys_group.command("list")
@KEYS_OPTION
def list_keys_command(keys: Path | None) -> None:
    """List the keys."""
    for key in _key_file(keys).all():
        state = f"revoked {key.revoked_at}" if key.revoked_at else "valid"
        training = "may train" if key.may_train else "no training"
        click.echo(f"{key.name:20} {training:12} created {key.created_at}  {state}")


@keys_group.command("revoke")
@click.argument("name")
@KEYS_OPTION
def revoke_key_command(name: str, keys: Path | None) -> None:
    """Revoke a key. A running service refuses it at once."""
    _key_file(keys).revoke(name)
    click.echo(f"{name} is revoked")
