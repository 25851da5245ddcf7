"""Opening sources by name."""

from __future__ import annotations

from forecastlib.config import unknown_name
from forecastlib.errors import ConfigError
from forecastlib.sources.base import Source
from forecastlib.sources.bundled import BundledSource


def open_source(spec: str) -> Source:
    """Open a source by its name.

    Raises
    ------
    ConfigError
        If the name is unknown.
    """
    kind, _, _ = spec.partition(":")
    if kind != "bundled":
        raise ConfigError(unknown_name("source", kind, ["bundled"]))
    return BundledSource()
