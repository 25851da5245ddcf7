"""forecastlib: honest multi-horizon forecasting of a stock index with a neural network.

Data flows one way: prices -> features -> windows -> splits -> scaled -> model -> forecast -> ledger. The names
below are the public ones; each is imported from its module when first used, so that ``import forecastlib`` stays
light and commands that need no TensorFlow or MLflow never load them.
"""

import os
from importlib import import_module
from typing import Any

__version__ = "1.0.0"

# MLflow calls home when it is imported; this is the one place that always comes before.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

_HOMES = {
    "config": (
        "CalibrationConfig",
        "DataConfig",
        "FeatureConfig",
        "ModelConfig",
        "RunConfig",
        "SplitConfig",
        "TrainConfig",
        "WindowConfig",
    ),
    "errors": (
        "ConfigError",
        "DataQualityError",
        "ForecastError",
        "IncompatibleModelError",
        "LeakageError",
        "LedgerError",
        "ModelNotFoundError",
        "NotEnoughDataError",
        "NotFittedError",
        "SourceError",
        "TrackingError",
    ),
    "evaluation.evaluate": ("evaluate",),
    "features": ("compute_features", "register_feature"),
    "forecaster": ("Forecaster",),
    "auditing": ("AuditReport", "audit"),
    "forecasts": ("Forecast",),
    "ledger": ("Ledger",),
    "models": ("Distribution", "Model", "register_model"),
    "recipe": ("Recipe",),
    "workflows": ("backtest", "forecast", "replay", "train"),
    "models.lstm": ("FastLSTM",),
    "data.quality": ("QualityReport", "check_quality"),
    "data.repair": ("repair",),
    "serving": ("create_app",),
    "data.sources": ("open_source",),
    "samples.splits": ("holdout", "walk_forward"),
    "evaluation.backtest_result": ("BacktestResult",),
    "samples.windows": ("make_windows",),
}
_MODULE_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = sorted([*_MODULE_OF, "__version__"])


def __getattr__(name: str) -> Any:
    """Import a public name from its module when it is first asked for."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'forecastlib' has no attribute {name!r}")
    value = getattr(import_module(f"forecastlib.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names, loaded or not."""
    return __all__
