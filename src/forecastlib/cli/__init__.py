"""The command line: the use cases of the library, one command each."""

from forecastlib.cli.app import main

__all__ = ["main"]
