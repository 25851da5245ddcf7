"""Where prices come from: embedded, files, a database, or the network; alone or as a chain tried in order.

>>> prices = open_source("bundled").fetch("^GSPC", start="2018-01-01")
>>> len(prices), prices.attrs["source"]
(251, 'bundled')
"""

from forecastlib.data.sources.base import Source
from forecastlib.data.sources.opening import fetch_prices, open_source

__all__ = ["Source", "fetch_prices", "open_source"]
