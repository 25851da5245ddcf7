"""Keeping what was fetched, so that a network or a database is asked once a day.

One Parquet file for each source, symbol and range, in a folder of the user. A file is written aside and put in place
at once, so that any number of processes can share the folder: a reader sees a whole file or none. A file says when it
was fetched and what its content hashes to; one that is damaged is fetched again. Nothing is ever unpickled.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from forecastlib.data.prices import COLUMNS, to_prices
from forecastlib.data.sources.base import Day, Source, day_range, symbols_of

KEPT_FOR = dt.timedelta(hours=24)
_ENVIRONMENT = "FORECASTLIB_CACHE"
_METADATA = b"forecastlib"
_FORMAT = 1  # of the files; part of the key, so that another version never reads them wrongly

_log = logging.getLogger(__name__)


def utc_now() -> dt.datetime:
    """Return the present moment, in UTC."""
    return dt.datetime.now(dt.UTC)


def cache_folder(folder: str | Path | None = None) -> Path:
    """Return where fetched prices are kept: the folder given, else ``FORECASTLIB_CACHE``, else the user's own cache.

    Examples
    --------
    >>> cache_folder("prices").name
    'prices'
    """
    if folder is None:
        folder = os.environ.get(_ENVIRONMENT) or None
    if folder is not None:
        return Path(folder).expanduser()
    from platformdirs import user_cache_path

    return user_cache_path("forecastlib", appauthor=False)


class CachedSource:
    """A source whose prices are kept for a day.

    Parameters
    ----------
    source
        Where prices come from if they are not kept. If it has a method ``version() -> str``, prices that were kept of
        another version are not used.
    options
        Everything beside the source's name that determines what it returns, in JSON's types.
    folder
        Where files are kept; see :func:`cache_folder`.
    force_refresh
        Whether to fetch even if prices are kept; they are then kept anew.
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
        now: Callable[[], dt.datetime] = utc_now,
    ) -> None:
        self.name = source.name
        self._source = source
        self._options = options
        self._folder = cache_folder(folder)
        self._force_refresh = force_refresh
        self._now = now

    def fetch(self, symbol: str, start: Day = None, end: Day = None) -> pd.DataFrame:
        """Return the prices that are kept, or fetch and keep them; see :meth:`Source.fetch`.

        ``attrs["fetched_at"]`` says when they came from the source, as ISO text in UTC.
        """
        first, last = day_range(start, end)
        asked = {
            "format": _FORMAT,
            "source": self.name,
            "options": self._options,
            "version": getattr(self._source, "version", str)(),
            "symbol": symbol,
            "start": None if first is None else first.date().isoformat(),
            "end": None if last is None else last.date().isoformat(),
        }
        key = json.dumps(asked, sort_keys=True)
        path = self._folder / f"{hashlib.sha256(key.encode()).hexdigest()}.parquet"
        if not self._force_refresh:
            kept = self._kept(path, key)
            if kept is not None:
                return kept
        prices = self._source.fetch(symbol, start, end)
        prices.attrs["fetched_at"] = self._now().isoformat()
        try:
            _write(path, prices, key)
        except OSError as error:  # prices without a cache are better than none; but it is said
            _log.warning("prices of %s could not be kept in %s: %s", symbol, self._folder, error)
        return prices

    def symbols(self) -> list[str]:
        """List the symbols of the source, always afresh."""
        return symbols_of(self._source)

    def _kept(self, path: Path, key: str) -> pd.DataFrame | None:
        try:
            prices = _read(path, key)
        except FileNotFoundError:
            return None
        except Exception as error:  # whatever a damaged file makes a reader raise: it is said, and fetched again
            _log.warning("%s is damaged (%s: %s); it is fetched again", path, type(error).__name__, error)
            return None
        age = self._now() - dt.datetime.fromisoformat(prices.attrs["fetched_at"])
        return prices if dt.timedelta(0) <= age < KEPT_FOR else None


def _digest(prices: pd.DataFrame, key: str, attrs: str) -> str:
    values = np.ascontiguousarray(prices[list(COLUMNS)].to_numpy())
    return hashlib.sha256(
        b"\0".join([key.encode(), attrs.encode(), prices.index.to_numpy().tobytes(), values.tobytes()])
    ).hexdigest()


def _write(path: Path, prices: pd.DataFrame, key: str) -> None:
    import pyarrow as pa  # type: ignore[import-untyped]
    import pyarrow.parquet as pq  # type: ignore[import-untyped]

    attrs = json.dumps(prices.attrs)
    note = json.dumps({"key": key, "attrs": attrs, "digest": _digest(prices, key, attrs)})
    bare = prices.reset_index()
    bare.attrs = {}
    table = pa.Table.from_pandas(bare, preserve_index=False).replace_schema_metadata({_METADATA: note})
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle, aside = tempfile.mkstemp(dir=path.parent, prefix=".writing-", suffix=".parquet")
    try:
        with os.fdopen(handle, "wb") as file:
            pq.write_table(table, file)
        os.replace(aside, path)
    except BaseException:
        Path(aside).unlink(missing_ok=True)
        raise


def _read(path: Path, key: str) -> pd.DataFrame:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pq.read_table(pa.BufferReader(path.read_bytes()))
    note = json.loads(table.schema.metadata[_METADATA])
    dates = pd.DatetimeIndex(table.column("date").to_numpy())
    values = {name: table.column(name).to_numpy() for name in COLUMNS}
    attrs = json.loads(note["attrs"])
    prices = to_prices(pd.DataFrame(values, index=dates), attrs["symbol"])
    if note["key"] != key or note["digest"] != _digest(prices, key, note["attrs"]):
        raise ValueError("its content is not what was written")
    prices.attrs = attrs
    return prices
