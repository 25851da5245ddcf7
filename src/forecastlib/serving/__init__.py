"""The HTTP service: train models, forecast, and look at past forecasts and their scores, with a web page.

- :mod:`~forecastlib.serving.app` builds the application with its web pages and runs it, with the
  :mod:`~forecastlib.serving.settings` and API keys of its operator.
- :mod:`~forecastlib.serving.routes` and :mod:`~forecastlib.serving.schemas` define the API.
- :mod:`~forecastlib.serving.service` identifies and limits callers, and holds the parts that routes use:
  :mod:`~forecastlib.serving.predictions` forecasts with registered models, :mod:`~forecastlib.serving.trainings` runs
  trainings as separate processes and records them in the table of jobs.
- :mod:`~forecastlib.serving.middleware` limits slow and large requests and logs each one;
  :mod:`~forecastlib.serving.problems` turns errors into answers.

>>> from forecastlib.serving import Settings, create_app
>>> app = create_app(Settings(source="bundled"))                         # doctest: +SKIP
"""

from importlib import import_module
from typing import Any

_MODULES = {"Settings": "settings", "create_app": "app", "serve": "app"}

__all__ = ["Settings", "create_app", "serve"]


def __getattr__(name: str) -> Any:
    """Import a public name from its module on first use."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
