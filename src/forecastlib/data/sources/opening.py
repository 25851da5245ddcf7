"""Opening sources by name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import pandas as pd

from forecastlib.config import Adjust, DataConfig, unknown_name
from forecastlib.data.sources.base import Source
from forecastlib.data.sources.bundled import BundledSource
from forecastlib.data.sources.cache import CachedSource
from forecastlib.data.sources.chain import ChainSource
from forecastlib.data.sources.files import FileSource
from forecastlib.data.sources.sql import SqlSource
from forecastlib.data.sources.yahoo import YahooSource
from forecastlib.errors import ConfigError

KINDS = ("bundled", "csv", "sql", "yahoo")
# A comma begins another source only in front of what looks like one: paths and addresses may have commas of their own.
_NEXT = re.compile(r",(?=\s*[A-Za-z_-]+\s*(?:[:,]|$))|,(?=\s*(?:,|$))")


def open_source(
    spec: str | Source | Sequence[str | Source],
    *,
    date_format: str | None = None,
    decimal: str | None = None,
    adjust: Adjust = "auto",
    cache: str | Path | bool = True,
    force_refresh: bool = False,
) -> Source:
    """Open a source of prices, or a chain of them that is tried in order.

    ========================  ====================================================================================
    ``bundled``               ^GSPC and ^IXIC, 1999-2018, embedded
    ``csv:PATH``              a CSV or Parquet file, or a folder of ``SYMBOL.csv`` and ``SYMBOL.parquet``
    ``sql:URL``               table ``prices`` of an SQLite or PostgreSQL database, by its SQLAlchemy URL
    ``yahoo``                 Yahoo Finance, through the optional package yfinance
    ``yahoo,csv:data,...``    each in turn, until one has the prices
    ========================  ====================================================================================

    Parameters
    ----------
    spec
        A source as above; or a sequence of them, in which a path may have commas and own sources have a place.
    date_format
        For files: how dates are written, as ``strptime`` has it (``"%d/%m/%Y"``); None: each file's column decides.
    decimal
        For files: the sign in front of decimals, ``"."`` or ``","``; None: each file's columns decide.
    adjust
        For files and Yahoo: ``"auto"`` scales open, high, low and close by the adjusted close where there is one
        that differs from the close; ``"none"`` leaves prices as quoted; ``"close"`` insists on an adjusted close.
    cache
        Where prices of networks and databases are kept for 24 hours: a folder; True for ``FORECASTLIB_CACHE`` or
        the user's own cache folder; False to keep nothing.
    force_refresh
        Whether to fetch even what is kept.

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

    def open_one(part: str | Source) -> Source:
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
            return FileSource(place, date_format=date_format, decimal=decimal, adjust=adjust)
        source: Source = SqlSource(place) if kind == "sql" else YahooSource(adjust=adjust)
        if cache is False:
            return source
        folder = None if cache is True else cache
        options = {"adjust": adjust} if kind == "yahoo" else {}
        return CachedSource(source, options, folder=folder, force_refresh=force_refresh)

    parts = _NEXT.split(spec) if isinstance(spec, str) else [spec] if isinstance(spec, Source) else list(spec)
    sources = [open_one(part) for part in parts]
    return sources[0] if len(sources) == 1 else ChainSource(sources)


def fetch_prices(config: DataConfig, *, force_refresh: bool = False) -> pd.DataFrame:
    """Fetch the prices that a configuration names.

    Parameters
    ----------
    config
        Symbol, source, range, and how files are read.
    force_refresh
        Whether to fetch even what is kept.

    Raises
    ------
    SourceError
        If no source has them: the message lists every attempt.
    """
    source = open_source(
        config.source,
        date_format=config.date_format,
        decimal=config.decimal,
        adjust=config.adjust,
        force_refresh=force_refresh,
    )
    return source.fetch(config.symbol, config.start, config.end)
