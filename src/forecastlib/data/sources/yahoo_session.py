"""A browser-like session for yfinance whose requests all end by one deadline.

yfinance passes its ``timeout`` to the request for prices only, not to those for cookies, crumbs, consent and time
zones that go before it; on a connection that hangs, ``timeout=2`` took 130 seconds. Here every request gets what is
left.
"""

from __future__ import annotations

import time
from typing import Any
from urllib.parse import urlsplit

from curl_cffi import CurlOpt, requests
from curl_cffi.requests.exceptions import Timeout

_MOST_BYTES = 64 * 2**20


class BoundedSession(requests.Session[requests.Response]):
    """The session yfinance would open itself, with a deadline and a bound on the size of an answer.

    Parameters
    ----------
    seconds
        How long all requests together may take, from now.
    base_url
        Where requests go instead of their own host, which becomes the first part of the path; None: to their host.
    """

    def __init__(self, seconds: float, base_url: str | None = None) -> None:
        options = {CurlOpt.MAXFILESIZE_LARGE: _MOST_BYTES, CurlOpt.QUICK_EXIT: 1}
        super().__init__(impersonate="chrome", curl_options=options)
        self._deadline = time.monotonic() + seconds
        self._base_url = base_url

    def request(self, method: Any, url: str, *arguments: Any, **options: Any) -> Any:
        """Send a request that ends by the deadline, whatever ``timeout`` says."""
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise Timeout("the time for all requests together is over")
        if self._base_url is not None:
            parts = urlsplit(url)
            url = f"{self._base_url}/{parts.netloc}{parts.path}" + (f"?{parts.query}" if parts.query else "")
        return super().request(method, url, *arguments, **(options | {"timeout": left}))
