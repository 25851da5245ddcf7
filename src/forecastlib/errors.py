"""The errors of forecastlib: one tree, every message saying what was expected, what came, and what to do.

::

    ForecastError
    ├── ConfigError               a setting is unknown, out of range, or contradicts another
    ├── SourceError               prices could not be read from any of the sources asked
    ├── DataQualityError          prices were read, but cannot be trusted as they are
    ├── NotEnoughDataError        too few sessions for what was asked
    ├── LeakageError              the audit found that something of the future leaks into the past
    ├── NotFittedError            something was used before it was fitted, compiled or trained
    ├── ModelNotFoundError        no such bundle, registered model, version or alias
    ├── TrackingError             MLflow's store cannot be reached, or cannot be used as it is
    ├── IncompatibleModelError    a bundle is damaged, or does not fit the data or this version
    └── LedgerError               the forecast history could not be read or written

Catch :class:`ForecastError` to catch all that a user can cause; anything else is a bug.
"""


class ForecastError(Exception):
    """Base of all errors that forecastlib raises on purpose."""


class ConfigError(ForecastError, ValueError):
    """A setting is unknown, out of range, or contradicts another one."""


class SourceError(ForecastError):
    """Prices could not be read from any of the sources asked."""


class DataQualityError(ForecastError, ValueError):
    """Prices were read, but cannot be trusted as they are."""


class NotEnoughDataError(ForecastError, ValueError):
    """There are too few sessions for what was asked."""


class LeakageError(ForecastError):
    """The audit found that something of the future leaks into the past."""


class NotFittedError(ForecastError):
    """Something was used before it was fitted, compiled or trained."""


class ModelNotFoundError(ForecastError, LookupError):
    """There is no such bundle, registered model, version or alias."""


class TrackingError(ForecastError):
    """MLflow's store cannot be reached, or cannot be used as it is."""


class IncompatibleModelError(ForecastError):
    """A bundle is damaged, or does not fit the data or this version of the library."""


class LedgerError(ForecastError):
    """The forecast history could not be read or written."""
