"""Exchanges' trading calendars: which one a symbol has, and its sessions from 1970 to 2050.

Calendars come from pandas_market_calendars, whose holidays are turned into one sorted array of sessions, once a
process; everything else only searches it. Closures that an exchange announces at short notice (an election, a day of
mourning, a typhoon) may be missing from it: where the data itself reaches, the data is asked instead.
"""

from __future__ import annotations

import difflib
import re
import warnings
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from forecastlib.errors import ConfigError, DataQualityError, NotEnoughDataError

Dates = npt.NDArray[np.datetime64]

INFERRED = "inferred"
"""The calendar of a symbol whose exchange is not known: the weekdays of its own sessions, without holidays."""

FIRST_YEAR, LAST_YEAR = 1970, 2050
"""Exchanges' holidays before 1970 are too uncertain to judge data by; lunar holidays end in 2050."""

_RECENT = 260  # sessions that tell today's weekdays: exchanges used to trade on Saturdays
_ALIASES = {"KRX": "XKRX", "XNYS": "NYSE", "XHKG": "HKEX", "XTKS": "JPX", "XLON": "LSE", "XTSE": "TSX", "XSHG": "SSE"}
_BY_INDEX = {
    "^GSPC ^IXIC ^DJI ^RUT ^NDX ^VIX ^NYA ^OEX ^SP400 ^SP600 ^RUA ^RUI ^SOX ^XAX ^DJT ^DJU ^W5000": "NYSE",
    "^KS11 ^KQ11 ^KS200": "XKRX",
    "^N225 ^TPX ^TOPX": "JPX",
    "^FTSE ^FTMC": "LSE",
    "^GDAXI ^MDAXI ^TECDAX": "XETR",
    "^FCHI": "XPAR",
    "^AEX": "XAMS",
    "^BFX": "XBRU",
    "^IBEX": "XMAD",
    "^SSMI": "SIX",
    "^OMX": "XSTO",
    "^ATX": "XWBO",
    "^HSI ^HSCE": "HKEX",
    "^TWII": "XTAI",
    "^AXJO ^AORD": "XASX",
    "^NZ50": "XNZE",
    "^GSPTSE": "TSX",
    "^BVSP": "BVMF",
    "^MXX": "XMEX",
}
_BY_SYMBOL = {symbol: calendar for symbols, calendar in _BY_INDEX.items() for symbol in symbols.split()}
_BY_SUFFIX = {
    "KS": "XKRX", "KQ": "XKRX", "T": "JPX", "L": "LSE", "DE": "XETR", "F": "XETR", "PA": "XPAR", "AS": "XAMS",
    "BR": "XBRU", "MI": "XMIL", "MC": "XMAD", "SW": "SIX", "ST": "XSTO", "VI": "XWBO", "HE": "XHEL", "CO": "XCSE",
    "OL": "XOSL", "HK": "HKEX", "SS": "SSE", "SZ": "SSE", "TW": "XTAI", "AX": "XASX", "NZ": "XNZE", "TO": "TSX",
    "SA": "BVMF", "MX": "XMEX",
}  # fmt: skip
_CRYPTO = re.compile(r"[A-Z0-9]{2,12}-(USD|USDT|USDC|EUR|GBP|JPY|KRW|BTC|ETH)")
_US_TICKER = re.compile(r"[A-Z]{1,5}([.-][ABC])?")


def resolve_calendar(symbol: str, calendar: str = "auto") -> str:
    """Return the name of the trading calendar of a symbol.

    Parameters
    ----------
    symbol
        As Yahoo writes it: an index (``^GSPC``), a US ticker (``AAPL``, ``BRK-B``), a ticker with the suffix of its
        exchange (``005930.KS``), or a crypto pair (``BTC-USD``).
    calendar
        ``"auto"``: by the symbol, ``"inferred"`` if its exchange is not known. Else a name: ``NYSE``, ``XKRX`` (or
        ``KRX``), ``24/7``, ``inferred``, or any that pandas_market_calendars knows.

    Returns
    -------
    str

    Raises
    ------
    ConfigError
        If an explicit name is not known.

    Examples
    --------
    >>> [resolve_calendar(symbol) for symbol in ("^GSPC", "005930.KS", "BTC-USD", "EURUSD=X")]
    ['NYSE', 'XKRX', '24/7', 'inferred']
    >>> resolve_calendar("anything", "KRX")
    'XKRX'
    """
    if calendar != "auto":
        return _explicit(calendar)
    name = symbol.strip().upper()
    if name in _BY_SYMBOL:
        return _BY_SYMBOL[name]
    if _CRYPTO.fullmatch(name):
        return "24/7"
    _, dot, suffix = name.rpartition(".")
    if dot and suffix in _BY_SUFFIX:
        return _BY_SUFFIX[suffix]
    return "NYSE" if _US_TICKER.fullmatch(name) else INFERRED


class Calendar(NamedTuple):
    """All sessions of a calendar, in microseconds, and the days between which its holidays are known."""

    first: np.datetime64
    last: np.datetime64
    sessions: Dates


def load_calendar(calendar: str, known: pd.DatetimeIndex | None = None) -> Calendar:
    """Return the sessions of a calendar; for ``"inferred"``, those on the weekdays of the known sessions.

    Raises
    ------
    ConfigError
        If the calendar is not known.
    NotEnoughDataError, DataQualityError
        If the known sessions are too few or too irregular to infer weekdays from.
    """
    return _every_week(_weekdays(known)) if calendar == INFERRED else _load(_explicit(calendar))


def known_range(calendar: str) -> tuple[pd.Timestamp, pd.Timestamp]:
    """Return the first and the last day for which a calendar's holidays are known.

    Some exchanges announce theirs one year at a time; the calendar then ends there, rather than silently going on
    without holidays.

    Examples
    --------
    >>> [f"{day:%Y-%m-%d}" for day in known_range("NYSE")]
    ['1970-01-01', '2050-12-31']
    """
    if calendar == INFERRED:
        return pd.Timestamp(FIRST_YEAR, 1, 1), pd.Timestamp(LAST_YEAR, 12, 31)
    loaded = load_calendar(calendar)
    return pd.Timestamp(loaded.first), pd.Timestamp(loaded.last)


def microseconds(index: pd.DatetimeIndex) -> Dates:
    """Return the dates of an index as ``datetime64[us]``, refusing those with a time zone."""
    if index.tz is not None:
        raise DataQualityError(f"expected dates without a time zone; got {index.tz}; use index.tz_localize(None)")
    return index.as_unit("us").to_numpy()


@lru_cache(maxsize=64)
def _explicit(calendar: str) -> str:
    name = _ALIASES.get(calendar, calendar)
    usual = {*_BY_SYMBOL.values(), *_BY_SUFFIX.values(), "24/7", INFERRED}
    if name in usual:
        return name
    import pandas_market_calendars

    names = pandas_market_calendars.get_calendar_names()
    if name in names:
        return name
    near = difflib.get_close_matches(name.upper(), [*usual, *names], n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise ConfigError(
        f"unknown calendar {calendar!r}; {hint}Expected 'auto', one of {', '.join(sorted(usual))}, or another name of "
        "pandas_market_calendars.get_calendar_names()"
    )


@lru_cache(maxsize=64)
def _load(calendar: str) -> Calendar:
    """Compute a calendar's sessions, within the years of whose holidays it knows."""
    import pandas_market_calendars  # takes a quarter of a second: only when a calendar is really needed

    with warnings.catch_warnings():
        # Of opening hours, which are not used here: the lunch break of XKRX ended.
        warnings.filterwarnings("ignore", message=".*are discontinued", category=UserWarning)
        exchange = pandas_market_calendars.get_calendar(calendar)
        days = exchange.valid_days(f"{FIRST_YEAR}-01-01", f"{LAST_YEAR}-12-31", tz=None)
    sessions = microseconds(pd.DatetimeIndex(days))
    traded, every = _by_year_and_weekday(sessions), _by_year_and_weekday(_all_days())
    closed = np.where(traded > 0, every - traded, 0).sum(axis=1)
    # A year without a single holiday is one that the calendar knows nothing of, unless it never has any.
    years = FIRST_YEAR + (np.flatnonzero(closed) if closed.any() else np.arange(len(closed)))
    return _within(sessions, int(years[0]), int(years[-1]))


@lru_cache(maxsize=64)
def _every_week(weekdays: tuple[int, ...]) -> Calendar:
    days = _all_days()
    return _within(days[np.isin(_weekday(days), weekdays)].astype("datetime64[us]"), FIRST_YEAR, LAST_YEAR)


def _weekdays(known: pd.DatetimeIndex | None) -> tuple[int, ...]:
    """Return the weekdays (Monday: 0) that recent sessions fall on at least half as often as on the most usual one."""
    if known is None or len(known) < 10:
        raise NotEnoughDataError(
            f"expected at least 10 sessions to infer the weekdays from; got {0 if known is None else len(known)}; "
            "name the calendar of the exchange instead"
        )
    recent = microseconds(known[-_RECENT:]).astype("datetime64[D]")
    counts = np.bincount(_weekday(recent), minlength=7)
    usual = np.flatnonzero(counts >= counts.max() / 2)
    weeks = (int((recent[-1] - recent[0]).astype(np.int64)) + 1) / 7
    if len(recent) < weeks * len(usual) / 2:
        raise DataQualityError(
            f"expected daily sessions; got {len(recent)} in {weeks:.0f} weeks, too irregular to infer the weekdays "
            "from; name the calendar of the exchange instead"
        )
    return tuple(usual.tolist())


def _within(sessions: Dates, first_year: int, last_year: int) -> Calendar:
    first, last = np.datetime64(f"{first_year}-01-01", "us"), np.datetime64(f"{last_year}-12-31", "us")
    kept = sessions[(sessions >= first) & (sessions <= last)]
    kept.flags.writeable = False  # shared by every caller
    return Calendar(first, last, kept)


def _all_days() -> Dates:
    return np.arange(np.datetime64(f"{FIRST_YEAR}-01-01"), np.datetime64(f"{LAST_YEAR + 1}-01-01"))


def _by_year_and_weekday(days: Dates) -> npt.NDArray[np.int64]:
    year = days.astype("datetime64[Y]").astype(np.int64) + 1970 - FIRST_YEAR
    counts = np.bincount(7 * year + _weekday(days), minlength=7 * (LAST_YEAR - FIRST_YEAR + 1))
    return counts.reshape(-1, 7)


def _weekday(days: Dates) -> npt.NDArray[np.int64]:
    return (days.astype("datetime64[D]").astype(np.int64) + 3) % 7  # 1970-01-01 was a Thursday
