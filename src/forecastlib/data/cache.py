"""A cache of fetched prices, so that a network or a database is asked once a day.

There is one file per source, symbol and range in the user's cache folder: the SHA-256 of its key and content, then the
prices as Parquet. It is written under a temporary name and then renamed, so that any number of processes can share the
folder: a reader sees a whole file or none. A damaged file is fetched again. Nothing is ever unpickled.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import io
import json
import logging
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from forecastlib.data.prices import Day, Source, list_symbols, read_range

MAX_AGE = dt.timedelta(hours=24)
CACHE_VARIABLE = "FORECASTLIB_CACHE"
FILE_FORMAT = 2
"""Version of the files; part of the key, so that another version never misreads them."""

_log = logging.getLogger(__name__)


def _utc_now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


def cache_folder(folder: str | Path | None = None) -> Path:
    """Return the folder of the cache: the one given, else ``FORECASTLIB_CACHE``, else the user's cache folder.

    Examples
    --------
    >>> cache_folder("prices").name
    'prices'
    """
    folder = folder or os.environ.get(CACHE_VARIABLE)
    if folder:
        return Path(folder).expanduser()
    from platformdirs import user_cache_path

    return user_cache_path("forecastlib", appauthor=False)


class CachedSource:
    """A source whose prices are cached for a day.

    Parameters
    ----------
    source
        Where prices come from if they are not cached. If it has a method ``version() -> str``, cached prices of
        another version are not used.
    options
        Everything besides the source's name that determines what it returns, in JSON's types.
    folder
        The folder of the cache; see :func:`cache_folder`.
    force_refresh
        Whether to fetch even if prices are cached, replacing them.
    now
        The clock.
    """

    def __init__(
        self,
        source: Source,
        options: dict[str, Any],
        *,
        folder: str | Path | None = None,
        force_refresh: bool = False,
        now: Callable[[], dt.datetime] = _utc_now,
    ) -> None:
        self.name = source.name
        self._source = source
        self._options = options
        self._folder = cache_folder(folder)
        self._force_refresh = force_refresh
        self._now = now

    def fetch(self, symbol: str, start: Day = None, end: Day = None) -> pd.DataFrame:
        """Return cached prices, or fetch and cache them; see :meth:`Source.fetch`.

        ``attrs["fetched_at"]`` is when they came from the source, as ISO text in UTC.
        """
        first, last = read_range(start, end)
        request = {
            "format": FILE_FORMAT,
            "source": self.name,
            "options": self._options,
            "version": getattr(self._source, "version", str)(),
            "symbol": symbol,
            "start": None if first is None else first.date().isoformat(),
            "end": None if last is None else last.date().isoformat(),
        }
        key = json.dumps(request, sort_keys=True)
        path = self._folder / f"{hashlib.sha256(key.encode()).hexdigest()}.prices"
        if not self._force_refresh:
            cached = self._cached(path, key)
            if cached is not None:
                return cached
        prices = self._source.fetch(symbol, start, end)
        prices.attrs["fetched_at"] = self._now().isoformat()
        try:
            _write(path, prices, key)
        except OSError as error:  # uncached prices are better than none
            _log.warning("prices of %s could not be cached in %s: %s", symbol, self._folder, error)
        return prices

    def symbols(self) -> list[str]:
        """List the symbols of the source, which are not cached."""
        return list_symbols(self._source)

    def _cached(self, path: Path, key: str) -> pd.DataFrame | None:
        try:
            prices = _read(path, key)
        except FileNotFoundError:
            return None
        except Exception as error:  # a damaged file can make a reader raise anything
            _log.warning("%s is damaged (%s: %s); it is fetched again", path, type(error).__name__, error)
            return None
        age = self._now() - dt.datetime.fromisoformat(prices.attrs["fetched_at"])
        return prices if dt.timedelta(0) <= age < MAX_AGE else None


def _write(path: Path, prices: pd.DataFrame, key: str) -> None:
    body = prices.to_parquet()  # pandas stores attrs as JSON beside the columns
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".writing-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(_digest(key, body) + body)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _read(path: Path, key: str) -> pd.DataFrame:
    data = path.read_bytes()
    size = hashlib.sha256().digest_size
    digest, body = data[:size], data[size:]
    if digest != _digest(key, body):
        raise ValueError("its content differs from what was written")
    return pd.read_parquet(io.BytesIO(body))


def _digest(key: str, body: bytes) -> bytes:
    return hashlib.sha256(key.encode() + body).digest()
