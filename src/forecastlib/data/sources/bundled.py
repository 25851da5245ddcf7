"""The embedded prices: two real indices, so that everything runs without a network."""

from __future__ import annotations

import gzip
from importlib.util import find_spec
from pathlib import Path

import pandas as pd

from forecastlib.data.sources.base import Day, served
from forecastlib.errors import SourceError

_FILES = {"^GSPC": "sp500/sp500.csv.gz", "^IXIC": "nasdaq/nasdaq.csv.gz"}


class BundledSource:
    """Daily prices of ^GSPC and ^IXIC, 1999-01-04 to 2018-12-31, 5,031 sessions each.

    They are the ``sp500`` and ``nasdaq`` data sets that the ``arch`` package ships. The files are read where they
    are installed; importing ``arch`` for them would take seconds. Prices are as they were quoted: for an index the
    adjusted close, which the files hold too, is the close.

    Examples
    --------
    >>> prices = BundledSource().fetch("^GSPC", end="1999-01-05")
    >>> prices["close"].round(2).to_list()
    [1228.1, 1244.78]
    """

    name = "bundled"

    def fetch(self, symbol: str, start: Day = None, end: Day = None) -> pd.DataFrame:
        """Return the prices of ``^GSPC`` or ``^IXIC``; see :meth:`Source.fetch`."""
        if symbol not in _FILES:
            raise SourceError(
                f"bundled has the symbols {', '.join(_FILES)}; got {symbol!r}; "
                "read others from csv:PATH, sql:URL or yahoo"
            )
        with gzip.open(_folder() / _FILES[symbol], "rt", encoding="utf-8") as file:
            frame = pd.read_csv(file, index_col="Date")
        frame.index = pd.to_datetime(frame.index, format="%m/%d/%Y")
        frame.columns = frame.columns.str.lower()
        return served(frame, symbol, self.name, start=start, end=end)

    def symbols(self) -> list[str]:
        """List the symbols there are."""
        return list(_FILES)


def _folder() -> Path:
    spec = find_spec("arch")
    if spec is None or not spec.submodule_search_locations:
        raise SourceError("bundled reads the data of the package arch, which is not installed; pip install arch")
    return Path(spec.submodule_search_locations[0]) / "data"
