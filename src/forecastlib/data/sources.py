"""Opening sources of prices: bundled with the package, files, a database or the network, alone or as a chain.

>>> prices = open_source("bundled").fetch("^GSPC", start="2018-01-01")
>>> len(prices), prices.attrs["source"]
(251, 'bundled')
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import get_args

import pandas as pd

from forecastlib.config import Adjust, DataConfig, unknown_name
from forecastlib.data.cache import CachedSource
from forecastlib.data.files import FileSource
from forecastlib.data.prices import Day, Source, list_symbols, read_range, serve_prices
from forecastlib.data.repair import repair
from forecastlib.data.sql import SqlSource
from forecastlib.data.yahoo import YahooSource
from forecastlib.errors import ConfigError, ForecastError, SourceError
from forecastlib.paths import project_root

__all__ = ["BundledSource", "ChainSource", "Source", "fetch_prices", "list_symbols", "open_source"]

KINDS = ("bundled", "csv", "sql", "yahoo")

_BUNDLED_FILES = {"^GSPC": "sp500/sp500.csv.gz", "^IXIC": "nasdaq/nasdaq.csv.gz"}

# A comma separates sources only in front of what looks like another one: paths and URLs may contain commas.
_SEPARATOR = re.compile(r",(?=\s*[A-Za-z_-]+\s*(?:[:,]|$))|,(?=\s*(?:,|$))")


def open_source(
    spec: str | Source | Sequence[str | Source],
    *,
    date_format: str | None = None,
    decimal: str | None = None,
    adjust: Adjust = "auto",
    cache: str | Path | bool = True,
    force_refresh: bool = False,
) -> Source:
    """Open a source of prices, or a chain of sources that are tried in order.

    ========================  ====================================================================================
    ``bundled``               ^GSPC and ^IXIC, 1999-2018, installed with the package
    ``csv:PATH``              a CSV or Parquet file, or a folder of ``SYMBOL.csv`` and ``SYMBOL.parquet``; a relative
                              path starts at the working directory, or at the project
    ``sql:URL``               table ``prices`` of an SQLite or PostgreSQL database, by its SQLAlchemy URL
    ``yahoo``                 Yahoo Finance, through the optional package yfinance
    ``yahoo,csv:data,...``    each in turn, until one has the prices
    ========================  ====================================================================================

    Parameters
    ----------
    spec
        A source as above; or a sequence of them, in which paths may contain commas and items may be your own sources.
    date_format
        For files: how dates are written, in the notation of ``strptime`` (``"%d/%m/%Y"``); None: the column decides.
    decimal
        For files: the decimal sign, ``"."`` or ``","``; None: the columns decide.
    adjust
        For files and Yahoo: ``"auto"`` scales open, high, low and close by the adjusted close where there is one
        that differs from the close; ``"none"`` leaves prices as quoted; ``"close"`` requires an adjusted close.
    cache
        Where prices of networks and databases are cached for 24 hours: a folder; True for ``FORECASTLIB_CACHE`` or
        the user's cache folder; False for no cache.
    force_refresh
        Whether to fetch even what is cached.

    Returns
    -------
    Source
        Nothing is read before ``fetch``.

    Raises
    ------
    ConfigError
        If a source or an option is unknown.

    Examples
    --------
    >>> open_source("csv:no/such/folder,bundled").fetch("^GSPC").attrs["source"]
    'bundled'
    """
    if adjust not in get_args(Adjust):
        raise ConfigError(unknown_name("adjust", adjust, get_args(Adjust)))
    if decimal not in (None, ".", ","):
        raise ConfigError(f"decimal must be '.' or ','; got {decimal!r}")

    def open_part(part: str | Source) -> Source:
        if not isinstance(part, str):
            return part
        kind, _, place = (word.strip() for word in part.partition(":"))
        if kind not in KINDS:
            raise ConfigError(unknown_name("source", kind, KINDS))
        if bool(place) != (kind in ("csv", "sql")):
            expected = {"csv": "csv:PATH", "sql": "sql:URL"}.get(kind, kind)
            raise ConfigError(f"expected {expected}; got {kind + ':...' if place else kind!r}")
        if kind == "bundled":
            return BundledSource()
        if kind == "csv":
            return FileSource(_locate(place), date_format=date_format, decimal=decimal, adjust=adjust)
        source: Source = SqlSource(place) if kind == "sql" else YahooSource(adjust=adjust)
        if cache is False:
            return source
        folder = None if cache is True else cache
        options = {"adjust": adjust} if kind == "yahoo" else {}
        return CachedSource(source, options, folder=folder, force_refresh=force_refresh)

    parts = _SEPARATOR.split(spec) if isinstance(spec, str) else [spec] if isinstance(spec, Source) else list(spec)
    sources = [open_part(part) for part in parts]
    return sources[0] if len(sources) == 1 else ChainSource(sources)


def _locate(place: str) -> str | Path:
    """Return a path relative to the working directory, or to the project if it is only there.

    A champion is trained from the project's folder, and forecasts from wherever it is loaded.
    """
    path = Path(place).expanduser()
    in_project = project_root() / path
    return in_project if not path.exists() and in_project.exists() else place


def fetch_prices(config: DataConfig, *, force_refresh: bool = False) -> pd.DataFrame:
    """Fetch the prices that a configuration names.

    Parameters
    ----------
    config
        Symbol, source, range, how files are read, and whether prices are repaired.
    force_refresh
        Whether to fetch even what is cached.

    Raises
    ------
    SourceError
        If no source has them; the message lists every attempt.
    """
    source = open_source(
        config.source,
        date_format=config.date_format,
        decimal=config.decimal,
        adjust=config.adjust,
        force_refresh=force_refresh or config.force_refresh,
    )
    prices = source.fetch(config.symbol, config.start, config.end)
    if not config.repair:
        return prices
    repaired, changes = repair(prices)
    if len(changes):
        days = changes["date"].nunique()
        repaired.attrs["notes"] = [*prices.attrs.get("notes", []), f"{len(changes)} repairs on {days} days"]
    return repaired


class ChainSource:
    """Sources that are tried in order, until one has the prices.

    The prices say in ``attrs["source"]`` which source served them, and in ``attrs["failures"]`` why each earlier one
    did not. A mistake of the caller (:class:`ConfigError`) is not a failure of a source: it ends the chain.

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
        read_range(start, end)
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
        """List the symbols of the first source that can list them."""
        failures = []
        for source in self._sources:
            try:
                return list_symbols(source)
            except SourceError as error:
                failures.append(str(error))
        raise SourceError("; ".join(failures))


class BundledSource:
    """Daily prices of ^GSPC and ^IXIC, 1999-01-04 to 2018-12-31, 5,031 sessions each.

    They are the ``sp500`` and ``nasdaq`` data sets of the package ``arch``. The files are read from where they are
    installed, because importing ``arch`` takes seconds. Prices are as quoted: for an index the adjusted close, which
    the files contain too, is the close.

    Examples
    --------
    >>> prices = BundledSource().fetch("^GSPC", end="1999-01-05")
    >>> prices["close"].round(2).to_list()
    [1228.1, 1244.78]
    """

    name = "bundled"

    def fetch(self, symbol: str, start: Day = None, end: Day = None) -> pd.DataFrame:
        """Return the prices of ``^GSPC`` or ``^IXIC``; see :meth:`Source.fetch`."""
        if symbol not in _BUNDLED_FILES:
            raise SourceError(
                f"bundled has the symbols {', '.join(_BUNDLED_FILES)}; got {symbol!r}; "
                "read others from csv:PATH, sql:URL or yahoo"
            )
        arch = find_spec("arch")
        if arch is None or not arch.submodule_search_locations:
            raise SourceError("bundled reads the data of the package arch, which is not installed; pip install arch")
        path = Path(arch.submodule_search_locations[0]) / "data" / _BUNDLED_FILES[symbol]
        with gzip.open(path, "rt", encoding="utf-8") as file:
            frame = pd.read_csv(file, index_col="Date")
        frame.index = pd.to_datetime(frame.index, format="%m/%d/%Y")
        frame.columns = frame.columns.str.lower()
        return serve_prices(frame, symbol, self.name, start=start, end=end)

    def symbols(self) -> list[str]:
        """List the symbols."""
        return list(_BUNDLED_FILES)
