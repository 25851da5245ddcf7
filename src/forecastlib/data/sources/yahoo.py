"""Prices from Yahoo Finance, through the optional package yfinance."""

from __future__ import annotations

import datetime as dt
import re
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

import pandas as pd

from forecastlib.config import Adjust
from forecastlib.data.prices import PRICE_COLUMNS
from forecastlib.data.sources.assembly import adjusted
from forecastlib.data.sources.base import Day, day_range, served
from forecastlib.errors import ConfigError, SourceError

_Result = TypeVar("_Result")

_SYMBOL = re.compile(r"[A-Za-z0-9.^=&_-]{1,32}")
_COLUMNS = {
    "Open": "open",
    "High": "high",
    "Low": "low",
    "Close": "close",
    "Adj Close": "adjusted",
    "Volume": "volume",
}
_FIRST_PAUSE = 2.0  # seconds; each further pause is twice as long
_GRACE = 5.0  # seconds beyond the session's own bound, for what no session can bound, such as name resolution
_SETTLED_AFTER = dt.timedelta(minutes=30)  # quotes are delayed by up to 20 minutes
_ONE_AT_A_TIME = threading.Lock()  # yfinance keeps its session and its switches in globals


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


class YahooSource:
    """Daily prices from Yahoo Finance.

    A fetch ends within ``attempts`` times ``seconds`` and the pauses between them, whatever the connection does. What
    may pass (a lost connection, a rate limit, an answer that cannot be read) is tried again after a pause that
    doubles each time; what will not (a symbol that Yahoo does not have) is not.

    The bar of a session that is not over yet is dropped, and ``attrs["notes"]`` says so.

    Parameters
    ----------
    adjust
        ``"auto"`` and ``"close"`` scale open, high, low and close by Yahoo's adjusted close; ``"none"`` leaves prices
        as quoted (which Yahoo has adjusted for splits). The same code does it as for files: yfinance is asked with
        ``auto_adjust=False``.
    attempts
        How often to ask.
    seconds
        How long one attempt may take, all of its requests together.
    base_url
        A server that stands in for Yahoo's hosts; None: Yahoo.
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
        now: Callable[[], dt.datetime] = _now,
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
        first, _ = day_range(start, end)
        if not _SYMBOL.fullmatch(symbol):
            raise SourceError(f"expected a symbol as Yahoo writes them, such as ^GSPC or BRK-B; got {symbol!r}")
        failures: list[str] = []
        for attempt in range(self._attempts):
            if attempt:
                self._sleep(_FIRST_PAUSE * 2 ** (attempt - 1))
            try:
                bars, session_end = _within(self._seconds + _GRACE, lambda: self._ask(symbol, first))
            except _Retry as error:
                failures.append(str(error))
                continue
            return self._prices(bars, session_end, symbol, start, end)
        raise SourceError(f"yahoo gave no prices of {symbol} in {self._attempts} attempts: {'; '.join(failures)}")

    def _ask(self, symbol: str, first: pd.Timestamp | None) -> tuple[pd.DataFrame, dt.datetime | None]:
        """Ask yfinance once; return its bars, and when the present session ends if that is known."""
        try:
            import yfinance as yf
            from yfinance import exceptions

            from forecastlib.data.sources.yahoo_session import BoundedSession
        except ModuleNotFoundError as error:
            raise SourceError(f"yahoo needs the package {error.name}; pip install 'forecastlib[yahoo]'") from None

        if not _ONE_AT_A_TIME.acquire(timeout=self._seconds):
            raise _Retry("another fetch from Yahoo in this process does not end")
        hides = yf.config.debug.hide_exceptions
        try:
            yf.config.debug.hide_exceptions = False
            yf.data.YfData.cache_get.cache_clear()  # it keeps answers that are errors, and would give them again
            with BoundedSession(self._seconds, self._base_url) as session:
                ticker = yf.Ticker(symbol, session=session)
                # Always up to now: yfinance answers for a past end from a cache of its own.
                span: dict[str, Any] = {"period": "max"} if first is None else {"start": first.to_pydatetime()}
                bars = ticker.history(**span, interval="1d", auto_adjust=False, actions=False, timeout=self._seconds)
                period = ticker.history_metadata.get("currentTradingPeriod")
            return bars, _end_of(period)
        except exceptions.YFRateLimitError:
            raise _Retry("Yahoo limits the rate of requests (HTTP 429); wait some minutes, or ask for less") from None
        except exceptions.YFTickerMissingError as error:
            raise SourceError(f"yahoo has no prices of {symbol}: {error.rationale}") from None
        except OSError as error:  # what curl and requests raise
            raise _Retry(f"the connection failed ({type(error).__name__}: {_first_line(error)})") from None
        except Exception as error:
            raise _Retry(
                f"yfinance {yf.__version__} cannot read Yahoo's answer ({type(error).__name__}: {_first_line(error)})"
            ) from error
        finally:
            yf.config.debug.hide_exceptions = hides
            _ONE_AT_A_TIME.release()

    def _prices(
        self, bars: pd.DataFrame, session_end: dt.datetime | None, symbol: str, start: Day, end: Day
    ) -> pd.DataFrame:
        lacking = [name for name in _COLUMNS if name not in bars.columns and name != "Adj Close"]
        if lacking:
            raise SourceError(f"expected {', '.join(_COLUMNS)} from yfinance; it gave {list(bars.columns)}")
        frame = bars.rename(columns=_COLUMNS)[[name for old, name in _COLUMNS.items() if old in bars.columns]]
        notes, rows = [], len(frame)
        frame = frame[frame[list(PRICE_COLUMNS)].notna().any(axis=1)]
        if len(frame) < rows:
            notes.append(f"{rows - len(frame)} rows without any price were dropped")
        if len(frame) and _is_partial(frame.index[-1], session_end, self._now()):
            notes.append(f"the bar of {frame.index[-1]:%Y-%m-%d} was dropped: its session is not over")
            frame = frame.iloc[:-1]
        if frame.empty:
            raise SourceError(f"yahoo has no prices of {symbol} in this range" + "".join(f"; {note}" for note in notes))
        dropped = rows - len(frame)
        frame, was_adjusted = adjusted(frame.tz_localize(None), self._adjust)
        return served(
            frame, symbol, self.name, start=start, end=end, dropped=dropped, adjusted=was_adjusted, notes=notes
        )


class _Retry(SourceError):
    """A failure that may pass."""


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0][:200]


def _end_of(period: Any) -> dt.datetime | None:
    """Read when the regular session ends from Yahoo's metadata, in seconds or as yfinance converts them."""
    try:
        end = period["regular"]["end"]
        return dt.datetime.fromtimestamp(end, dt.UTC) if isinstance(end, (int, float)) else pd.Timestamp(end)
    except (TypeError, KeyError, ValueError, OverflowError, OSError):
        return None  # not known; the bar of today then counts as partial


def _is_partial(last: pd.Timestamp, session_end: dt.datetime | None, now: dt.datetime) -> bool:
    """Whether the newest bar belongs to a session of today that is not over, by the exchange's own clock."""
    today = pd.Timestamp(now).tz_convert(last.tz)
    if last.date() < today.date():
        return False
    if session_end is None or pd.Timestamp(session_end).tz_convert(last.tz).date() != last.date():
        return True
    return now < session_end + _SETTLED_AFTER


def _within(seconds: float, work: Callable[[], _Result]) -> _Result:
    """Do something in a thread that is left behind if it does not end in time."""
    outcome: list[_Result | BaseException] = []

    def run() -> None:
        try:
            outcome.append(work())
        except BaseException as error:
            outcome.append(error)

    thread = threading.Thread(target=run, daemon=True, name="yahoo")
    thread.start()
    thread.join(seconds)
    if not outcome:
        raise _Retry(f"no answer within {seconds:.0f} seconds")
    if isinstance(outcome[0], BaseException):
        raise outcome[0]
    return outcome[0]
