"""Prices from Yahoo Finance, through the optional package yfinance."""

from __future__ import annotations

import datetime as dt
import re
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pandas as pd

from forecastlib.config import Adjust
from forecastlib.data.prices import PRICE_COLUMNS, Day, read_range, serve_prices
from forecastlib.data.tables import adjust_prices
from forecastlib.errors import ConfigError, SourceError

if TYPE_CHECKING:
    from curl_cffi.requests import Response, Session

MAX_BYTES = 64 * 2**20
"""Size of an answer beyond which it is refused."""

FIRST_PAUSE = 2.0
"""Seconds before the second attempt; each further pause is twice as long."""

QUOTE_DELAY = dt.timedelta(minutes=30)
"""How long after the end of a session its bar counts as final: quotes are delayed by up to 20 minutes."""

_SYMBOL = re.compile(r"[A-Za-z0-9.^=&_-]{1,32}")
_COLUMNS = {
    "Open": "open",
    "High": "high",
    "Low": "low",
    "Close": "close",
    "Adj Close": "adjusted",
    "Volume": "volume",
}
_YFINANCE_LOCK = threading.Lock()  # yfinance keeps its session and its settings in globals


def _utc_now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


class YahooSource:
    """Daily prices from Yahoo Finance.

    A fetch ends within ``attempts`` times ``seconds`` and the pauses between them, whatever the connection does.
    Temporary failures (a lost connection, a rate limit, an unreadable answer) are retried after a pause that doubles
    each time; permanent ones (a symbol that Yahoo does not have) are not.

    The bar of a session that is not over yet is dropped, and ``attrs["notes"]`` says so.

    Parameters
    ----------
    adjust
        ``"auto"`` and ``"close"`` scale open, high, low and close by Yahoo's adjusted close; ``"none"`` leaves prices
        as quoted (which Yahoo has adjusted for splits). The same code does it as for files: yfinance is asked with
        ``auto_adjust=False``.
    attempts
        Maximum number of attempts.
    seconds
        Maximum duration of one attempt, all of its requests together.
    base_url
        A server to ask instead of Yahoo's hosts; None: Yahoo.
    sleep, now
        The pause and the clock.
    """

    name = "yahoo"

    def __init__(
        self,
        adjust: Adjust = "auto",
        *,
        attempts: int = 3,
        seconds: float = 20.0,
        base_url: str | None = None,
        sleep: Callable[[float], None] = time.sleep,
        now: Callable[[], dt.datetime] = _utc_now,
    ) -> None:
        if attempts < 1 or seconds <= 0:
            raise ConfigError(f"expected attempts >= 1 and seconds > 0; got attempts={attempts}, seconds={seconds}")
        self._adjust: Adjust = adjust
        self._attempts = attempts
        self._seconds = seconds
        self._base_url = base_url
        self._sleep = sleep
        self._now = now

    def fetch(self, symbol: str, start: Day = None, end: Day = None) -> pd.DataFrame:
        """Return Yahoo's daily prices; see :meth:`Source.fetch`.

        ``attrs`` also has ``dropped``, ``adjusted`` and ``notes``.
        """
        first, _ = read_range(start, end)
        if not _SYMBOL.fullmatch(symbol):
            raise SourceError(f"expected a symbol as Yahoo writes them, such as ^GSPC or BRK-B; got {symbol!r}")
        failures: list[str] = []
        for attempt in range(self._attempts):
            if attempt:
                self._sleep(FIRST_PAUSE * 2 ** (attempt - 1))
            try:
                bars, session_end = self._request(symbol, first)
            except _TemporaryError as error:
                failures.append(str(error))
                continue
            frame, notes = self._clean(bars, session_end, symbol)
            return serve_prices(frame, symbol, self.name, start=start, end=end, **notes)
        raise SourceError(f"yahoo gave no prices of {symbol} in {self._attempts} attempts: {'; '.join(failures)}")

    def _request(self, symbol: str, first: pd.Timestamp | None) -> tuple[pd.DataFrame, dt.datetime | None]:
        """Ask yfinance once; return its bars, and when the current session ends if that is known."""
        try:
            import curl_cffi  # noqa: F401 (for the session)
            import yfinance as yf
            from yfinance import exceptions
        except ModuleNotFoundError as error:
            raise SourceError(f"yahoo needs the package {error.name}; pip install 'forecastlib[yahoo]'") from None

        if not _YFINANCE_LOCK.acquire(timeout=self._seconds):
            raise _TemporaryError("another fetch from Yahoo in this process has not ended")
        hide_exceptions = yf.config.debug.hide_exceptions
        try:
            yf.config.debug.hide_exceptions = False  # restored below; the only way to learn why there are no prices
            # yfinance caches unreadable answers too, and has no documented way to clear its cache.
            yf.data.YfData.cache_get.cache_clear()
            with bounded_session(self._seconds, self._base_url) as session:
                ticker = yf.Ticker(symbol, session=session)
                # Always up to now: for an end in the past, yfinance answers from its cache.
                span: dict[str, Any] = {"period": "max"} if first is None else {"start": first.to_pydatetime()}
                bars = ticker.history(**span, interval="1d", auto_adjust=False, actions=False, timeout=self._seconds)
                period = ticker.history_metadata.get("currentTradingPeriod")
            return bars, _session_end(period)
        except exceptions.YFRateLimitError:
            raise _TemporaryError(
                "Yahoo limits the rate of requests (HTTP 429); wait some minutes, or request less"
            ) from None
        except exceptions.YFTickerMissingError as error:
            raise SourceError(f"yahoo has no prices of {symbol}: {error.rationale}") from None
        except OSError as error:  # what curl raises
            raise _TemporaryError(f"the connection failed ({type(error).__name__}: {_first_line(error)})") from None
        except Exception as error:
            reason = f"{type(error).__name__}: {_first_line(error)}"
            raise _TemporaryError(f"yfinance {yf.__version__} cannot read Yahoo's answer ({reason})") from error
        finally:
            yf.config.debug.hide_exceptions = hide_exceptions
            _YFINANCE_LOCK.release()

    def _clean(
        self, bars: pd.DataFrame, session_end: dt.datetime | None, symbol: str
    ) -> tuple[pd.DataFrame, dict[str, Any]]:
        """Rename the columns, drop empty rows and an unfinished session, and adjust."""
        missing = [name for name in _COLUMNS if name not in bars.columns and name != "Adj Close"]
        if missing:
            raise SourceError(f"expected {', '.join(_COLUMNS)} from yfinance; got {list(bars.columns)}")
        frame = bars.rename(columns=_COLUMNS)[[name for old, name in _COLUMNS.items() if old in bars.columns]]
        notes, rows = [], len(frame)
        frame = frame[frame[list(PRICE_COLUMNS)].notna().any(axis=1)]
        if len(frame) < rows:
            notes.append(f"{rows - len(frame)} rows without any price were dropped")
        if len(frame) and _is_unfinished(frame.index[-1], session_end, self._now()):
            notes.append(f"the bar of {frame.index[-1]:%Y-%m-%d} was dropped: its session is not over")
            frame = frame.iloc[:-1]
        if frame.empty:
            raise SourceError("; ".join([f"yahoo has no prices of {symbol} in this range", *notes]))
        dropped = rows - len(frame)
        frame, was_adjusted = adjust_prices(frame.tz_localize(None), self._adjust)
        return frame, {"dropped": dropped, "adjusted": was_adjusted, "notes": notes}


class _TemporaryError(SourceError):
    """A failure that may not happen again."""


def bounded_session(seconds: float, base_url: str | None = None) -> Session[Response]:
    """Open the session that yfinance would open itself, with a deadline and a bound on the size of an answer.

    yfinance passes its ``timeout`` to the request for prices only, not to those for cookies, consent and time zones
    that precede it; on a connection that hangs, ``timeout=2`` took 130 seconds. Here every request, name resolution
    included, gets the time that is left.

    Parameters
    ----------
    seconds
        Maximum duration of all requests together, from now.
    base_url
        Where requests go instead of their own host, which becomes the first part of the path; None: to their host.
    """
    from curl_cffi import CurlOpt, requests
    from curl_cffi.requests.exceptions import Timeout

    deadline = time.monotonic() + seconds

    class BoundedSession(requests.Session[requests.Response]):  # here because curl_cffi is optional
        def request(self, method: Any, url: str, *arguments: Any, **options: Any) -> Any:
            left = deadline - time.monotonic()
            if left <= 0:
                raise Timeout("the time for all requests together is over")
            if base_url is not None:
                parts = urlsplit(url)
                url = f"{base_url}/{parts.netloc}{parts.path}" + (f"?{parts.query}" if parts.query else "")
            return super().request(method, url, *arguments, **(options | {"timeout": left}))

    # QUICK_EXIT: do not wait for a name resolution that is still running at the deadline.
    options = {CurlOpt.MAXFILESIZE_LARGE: MAX_BYTES, CurlOpt.QUICK_EXIT: 1}
    return BoundedSession(impersonate="chrome", curl_options=options)


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0][:200]


def _session_end(period: Any) -> dt.datetime | None:
    """Read the end of the regular session from Yahoo's metadata, in seconds or as yfinance converts it."""
    try:
        end = period["regular"]["end"]
        return dt.datetime.fromtimestamp(end, dt.UTC) if isinstance(end, (int, float)) else pd.Timestamp(end)
    except (TypeError, KeyError, ValueError, OverflowError, OSError):
        return None  # unknown: a bar of today then counts as unfinished


def _is_unfinished(last: pd.Timestamp, session_end: dt.datetime | None, now: dt.datetime) -> bool:
    """Whether the newest bar belongs to a session of today, by the clock of the exchange, that is not over."""
    today = pd.Timestamp(now).tz_convert(last.tz)
    if last.date() < today.date():
        return False
    if session_end is None or pd.Timestamp(session_end).tz_convert(last.tz).date() != last.date():
        return True
    return now < session_end + QUOTE_DELAY
