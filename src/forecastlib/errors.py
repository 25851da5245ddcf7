"""The errors of forecastlib: one tree; every message says what was expected, what was received, and what to do.

::

    ForecastError
    ├── ConfigError               a setting is unknown, out of range, or contradicts another
    ├── SourceError               prices could not be read from any of the sources
    ├── DataQualityError          prices were read, but cannot be trusted as they are
    ├── NotEnoughDataError        there are too few sessions
    ├── LeakageError              the audit found that information from the future leaks into a forecast
    ├── NotFittedError            something was used before it was fitted, compiled or trained
    ├── ModelNotFoundError        no such bundle, registered model, version or alias
    ├── IncompatibleModelError    a bundle is damaged, or does not fit the data or this version
    └── LedgerError               the forecast history could not be read or written

Catch :class:`ForecastError` to catch everything that a user can cause; any other exception is a bug.
"""


class ForecastError(Exception):
    """Base of all errors that forecastlib raises deliberately."""


class ConfigError(ForecastError, ValueError):
    """A setting is unknown, out of range, or contradicts another one."""


class SourceError(ForecastError):
    """Prices could not be read from any of the sources."""


class DataQualityError(ForecastError, ValueError):
    """Prices were read, but cannot be trusted as they are."""


class NotEnoughDataError(ForecastError, ValueError):
    """There are too few sessions."""


class LeakageError(ForecastError):
    """The audit found that information from the future leaks into a forecast."""


class NotFittedError(ForecastError):
    """Something was used before it was fitted, compiled or trained."""


class ModelNotFoundError(ForecastError, LookupError):
    """There is no such bundle, registered model, version or alias."""


class IncompatibleModelError(ForecastError):
    """A bundle is damaged, or does not fit the data or this version of the library."""


class LedgerError(ForecastError):
    """The forecast history could not be read or written."""
