"""The service: training, forecasts and their history over HTTP, with a page to look at them.

- :mod:`~forecastlib.serving.app` puts it together; :mod:`~forecastlib.serving.server` runs it.
- :mod:`~forecastlib.serving.routes` and :mod:`~forecastlib.serving.schemas` are what callers see,
  :mod:`~forecastlib.serving.access`, :mod:`~forecastlib.serving.keys` and :mod:`~forecastlib.serving.limits` who may
  see it, :mod:`~forecastlib.serving.problems` what they are told if it fails.
- :mod:`~forecastlib.serving.jobs` are trainings: each a :mod:`~forecastlib.serving.worker`, kept in a
  :mod:`~forecastlib.serving.store`.
- :mod:`~forecastlib.serving.predictions` forecasts, with models in a :mod:`~forecastlib.serving.cache`.

>>> from forecastlib.serving import Settings, create_app
>>> app = create_app(Settings(source="bundled"))                         # doctest: +SKIP
"""

from importlib import import_module
from typing import Any

_HOMES = {"Settings": "settings", "create_app": "app"}

__all__ = ["Settings", "create_app"]


def __getattr__(name: str) -> Any:
    """Import a public name from its module when it is first asked for."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
