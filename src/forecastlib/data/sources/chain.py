"""A chain of sources, tried in order."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from forecastlib.data.sources.base import Day, Source, day_range, symbols_of
from forecastlib.errors import ConfigError, ForecastError, SourceError


class ChainSource:
    """Sources tried in order, until one has the prices.

    What comes back says in ``attrs["source"]`` which source served it, and in ``attrs["failures"]`` why each earlier
    one did not. A mistake of the caller (:class:`ConfigError`) is not a failure of a source: it ends the chain.

    Parameters
    ----------
    sources
        The sources, the preferred one first.
    """

    def __init__(self, sources: Sequence[Source]) -> None:
        if not sources:
            raise ConfigError("expected at least one source; got none")
        self._sources = tuple(sources)
        self.name = ",".join(source.name for source in sources)

    def fetch(self, symbol: str, start: Day = None, end: Day = None) -> pd.DataFrame:
        """Return the prices of the first source that has them; see :meth:`Source.fetch`."""
        day_range(start, end)
        failures: list[str] = []
        for source in self._sources:
            try:
                prices = source.fetch(symbol, start, end)
            except ConfigError:
                raise
            except ForecastError as error:
                reason = str(error)
                failures.append(reason if reason.startswith(source.name) else f"{source.name}: {reason}")
                continue
            prices.attrs["failures"] = failures + list(prices.attrs.get("failures", []))
            return prices
        attempts = "".join(f"\n  {number}. {failure}" for number, failure in enumerate(failures, 1))
        raise SourceError(f"no source has prices of {symbol}; tried{attempts}")

    def symbols(self) -> list[str]:
        """List the symbols of the first source that can list its own."""
        failures = []
        for source in self._sources:
            try:
                return symbols_of(source)
            except SourceError as error:
                failures.append(str(error))
        raise SourceError("; ".join(failures))
