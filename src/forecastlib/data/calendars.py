"""Trading calendars: which days an exchange trades, and the date of the h-th session ahead.

A horizon of h is h **trading sessions** after its origin. Within the prices, the data itself says which session that
is; beyond their end the exchange's calendar continues after the last known session. A symbol whose exchange is not
known has the calendar ``"inferred"``: the weekdays of its own recent sessions, without holidays.

Exchange calendars come from pandas_market_calendars. Their holidays are turned into one sorted array of sessions, once
per process, which everything else only searches. Closures announced at short notice (an election, a day of mourning, a
typhoon) may be missing from it, which is why the data takes precedence wherever there is data.
"""

from __future__ import annotations

import datetime as dt
import difflib
import logging
import re
import warnings
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from forecastlib.errors import ConfigError, DataQualityError, NotEnoughDataError

_log = logging.getLogger(__name__)

Dates = npt.NDArray[np.datetime64]
Day = str | dt.date | pd.Timestamp

INFERRED = "inferred"
"""The calendar of a symbol whose exchange is not known: the weekdays of its own sessions, without holidays."""

FIRST_YEAR, LAST_YEAR = 1970, 2050
"""Holidays before 1970 are too uncertain to judge data by; lunar holidays are known up to 2050."""

MIN_SESSIONS = 10
"""Sessions needed to infer weekdays from."""

RECENT_SESSIONS = 260
"""Newest sessions that weekdays are inferred from: exchanges used to trade on Saturdays."""

_ALIASES = {"KRX": "XKRX", "XNYS": "NYSE", "XHKG": "HKEX", "XTKS": "JPX", "XLON": "LSE", "XTSE": "TSX", "XSHG": "SSE"}
_INDICES = {
    "^GSPC ^IXIC ^DJI ^RUT ^NDX ^VIX ^NYA ^OEX ^SP400 ^SP600 ^RUA ^RUI ^SOX ^XAX ^DJT ^DJU ^W5000": "NYSE",
    "SPX SP500 S&P500 DJI DJIA NDX NASDAQ NASDAQ100 IXIC GSPC RUSSELL2000 VIX": "NYSE",
    "^KS11 ^KQ11 ^KS200 KS11 KQ11 KS200 KOSPI KOSDAQ KOSPI200": "XKRX",
    "^N225 ^TPX ^TOPX N225 NI225 NIKKEI NIKKEI225 NKY TOPIX TPX JPX400 JPXNK400": "JPX",
    "^FTSE ^FTMC FTSE FTSE100 FTSE250 UKX": "LSE",
    "^GDAXI ^MDAXI ^TECDAX DAX DAX30 DAX40 GDAXI MDAX SDAX TECDAX": "XETR",
    "^FCHI CAC CAC40 FCHI SBF120": "XPAR",
    "^AEX AEX": "XAMS",
    "^BFX BEL20": "XBRU",
    "FTSEMIB FTMIB": "XMIL",
    "^IBEX IBEX IBEX35": "XMAD",
    "^SSMI SMI SSMI": "SIX",
    "^OMX OMX OMXS30": "XSTO",
    "^ATX ATX": "XWBO",
    "^HSI ^HSCE HSI HSCEI HSTECH HANGSENG": "HKEX",
    "^TWII TAIEX TWSE TWII": "XTAI",
    "SSEC SHCOMP CSI300 SZCOMP": "SSE",
    "^AXJO ^AORD ASX200 AXJO AORD": "XASX",
    "^NZ50 NZX50 NZ50": "XNZE",
    "^GSPTSE TSX60 GSPTSE SPTSX": "TSX",
    "^BVSP IBOV IBOVESPA BOVESPA BVSP": "BVMF",
    "^MXX MEXBOL MXX": "XMEX",
    "^NSEI ^NSEBANK ^CNX100 NIFTY NIFTY50 BANKNIFTY NSEI NIFTY100 NIFTY500": "NSE",
    "^BSESN SENSEX BSESN": "BSE",
    "WIG WIG20 WIG30 MWIG40 SWIG80": "XWAR",
    "BTC ETH XRP SOL ADA DOGE LTC BNB USDT XBT TRX DOT AVAX XMR BCH": "24/7",
}
_NOT_NEW_YORK = frozenset(
    {
        *("SET", "STI", "IPC", "MIB", "ASX", "TSX", "PSI", "PSI20", "JCI", "JKSE", "KLCI", "KLSE", "PSEI", "BIST"),
        *("MOEX", "IMOEX", "RTS", "RTSI", "TASI", "MERV", "MSCI", "EAFE", "STOXX", "SXXP", "ESTX", "MASI", "EGX"),
        *("DFM", "ADX", "ISEQ", "OBX", "OMXC", "OMXH", "VNI", "CSI", "SSE", "SZSE", "NSE", "BSE"),
        *("GOLD", "XAU", "XAG", "WTI", "BRENT", "DXY"),
    }
)
"""Names of indices, exchanges and goods that are written like US tickers."""
CALENDAR_BY_SYMBOL = {symbol: calendar for symbols, calendar in _INDICES.items() for symbol in symbols.split()}
CALENDAR_BY_SUFFIX = {
    "KS": "XKRX", "KQ": "XKRX", "T": "JPX", "L": "LSE", "DE": "XETR", "F": "XETR", "PA": "XPAR", "AS": "XAMS",
    "BR": "XBRU", "MI": "XMIL", "MC": "XMAD", "SW": "SIX", "ST": "XSTO", "VI": "XWBO", "HE": "XHEL", "CO": "XCSE",
    "OL": "XOSL", "HK": "HKEX", "SS": "SSE", "SZ": "SSE", "TW": "XTAI", "AX": "XASX", "NZ": "XNZE", "TO": "TSX",
    "SA": "BVMF", "MX": "XMEX", "NS": "NSE", "BO": "BSE", "WA": "XWAR",
}  # fmt: skip
_CRYPTO = re.compile(r"[A-Z0-9]{2,12}-(USD|USDT|USDC|EUR|GBP|JPY|KRW|BTC|ETH)")
_US_TICKER = re.compile(r"[A-Z]{1,5}([.-][ABC])?")


class Calendar(NamedTuple):
    """All sessions of a calendar, in microseconds, and the range of days for which its holidays are known."""

    first: np.datetime64
    last: np.datetime64
    sessions: Dates


def resolve_calendar(symbol: str, calendar: str = "auto") -> str:
    """Return the name of the trading calendar of a symbol.

    Parameters
    ----------
    symbol
        As Yahoo writes it: an index (``^GSPC``), a US ticker (``AAPL``, ``BRK-B``), a ticker with the suffix of its
        exchange (``005930.KS``), or a crypto pair (``BTC-USD``).
    calendar
        ``"auto"``: by the symbol, ``"inferred"`` if its exchange is not known. Otherwise a name: ``NYSE``, ``XKRX``
        (or ``KRX``), ``24/7``, ``inferred``, or any that pandas_market_calendars knows.

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
    return explain_calendar(symbol, calendar)[0]


def explain_calendar(symbol: str, calendar: str = "auto") -> tuple[str, str]:
    """Return the name of the trading calendar of a symbol, as :func:`resolve_calendar` does, and why it is that one.

    Examples
    --------
    >>> explain_calendar("005930.KS")
    ('XKRX', 'suffix .KS')
    """
    if calendar != "auto":
        return _known_name(calendar), "set in the configuration"
    name = symbol.strip().upper()
    if name in CALENDAR_BY_SYMBOL:
        calendar = CALENDAR_BY_SYMBOL[name]
        return calendar, "a coin" if calendar == "24/7" else "a known index"
    if _CRYPTO.fullmatch(name):
        return "24/7", "a crypto pair"
    _, dot, suffix = name.rpartition(".")
    if dot and suffix in CALENDAR_BY_SUFFIX:
        return CALENDAR_BY_SUFFIX[suffix], f"suffix .{suffix}"
    if _US_TICKER.fullmatch(name) and name not in _NOT_NEW_YORK:
        return "NYSE", "written like a US ticker; if it is none, set the calendar"
    return INFERRED, "no exchange is known for this symbol, so the weekdays of its own sessions, without holidays"


def known_range(calendar: str) -> tuple[pd.Timestamp, pd.Timestamp]:
    """Return the first and the last day for which a calendar's holidays are known.

    Some exchanges announce their holidays one year at a time; the known range then ends there, and
    :func:`next_sessions` says so where it goes beyond it.

    Examples
    --------
    >>> [f"{day:%Y-%m-%d}" for day in known_range("NYSE")]
    ['1970-01-01', '2050-12-31']
    """
    if calendar == INFERRED:
        return pd.Timestamp(FIRST_YEAR, 1, 1), pd.Timestamp(LAST_YEAR, 12, 31)
    loaded = _calendar(calendar)
    return pd.Timestamp(loaded.first), pd.Timestamp(loaded.last)


def sessions_between(calendar: str, start: Day, end: Day, known: pd.DatetimeIndex | None = None) -> pd.DatetimeIndex:
    """Return the sessions of a calendar between two days, both included.

    Parameters
    ----------
    calendar
        A calendar's name, as :func:`resolve_calendar` gives it.
    start, end
        Days without a time zone, within :func:`known_range`.
    known
        The sessions of the data, increasing; needed for ``"inferred"``, ignored otherwise.

    Returns
    -------
    DatetimeIndex
        Tz-naive, at midnight, ``datetime64[us]``, increasing.

    Raises
    ------
    ConfigError
        If the calendar is unknown, or its holidays on these days are.
    NotEnoughDataError, DataQualityError
        If ``known`` is too short or too irregular to infer weekdays from.

    Examples
    --------
    >>> [f"{day:%a %d}" for day in sessions_between("NYSE", "2012-10-26", "2012-11-01")]  # hurricane Sandy
    ['Fri 26', 'Wed 31', 'Thu 01']
    """
    loaded, first, last = _calendar(calendar, known), _day(start), _day(end)
    if first < loaded.first or last > loaded.last:
        raise _unknown_days(calendar, loaded, f"{_iso(first)} to {_iso(last)}")
    sessions = loaded.sessions
    return pd.DatetimeIndex(sessions[np.searchsorted(sessions, first) : np.searchsorted(sessions, last, side="right")])


def next_sessions(calendar: str, after: Day, count: int, known: pd.DatetimeIndex | None = None) -> pd.DatetimeIndex:
    """Return the first sessions of a calendar after a day.

    Some exchanges announce their holidays one year at a time. After the last day that is known, a calendar goes on with
    the weekdays of its recent sessions, without holidays, and a warning is logged.

    Parameters
    ----------
    calendar
        A calendar's name, as :func:`resolve_calendar` gives it.
    after
        A day without a time zone, a session or not; it is not itself returned.
    count
        How many sessions.
    known
        The sessions of the data, increasing; needed for ``"inferred"``, ignored otherwise.

    Returns
    -------
    DatetimeIndex
        ``count`` dates; tz-naive, at midnight, ``datetime64[us]``, increasing.

    Raises
    ------
    ConfigError
        If the calendar is unknown, or the day or the last session is outside 1970 to 2050.
    NotEnoughDataError, DataQualityError
        If ``known`` is too short or too irregular to infer weekdays from.

    Examples
    --------
    >>> [f"{day:%a %m-%d}" for day in next_sessions("NYSE", "2026-07-01", 3)]  # Friday the 3rd: a holiday observed
    ['Thu 07-02', 'Mon 07-06', 'Tue 07-07']
    """
    loaded, start = _calendar(calendar, known), _day(after)
    position = int(np.searchsorted(loaded.sessions, start, side="right"))
    sessions = loaded.sessions[position : position + count]
    if len(sessions) < count and calendar != INFERRED and start >= loaded.first:
        sessions = _continued(_known_name(calendar))[position : position + count]
    if start < loaded.first or len(sessions) < count:
        raise _unknown_days(calendar, loaded, f"{count} sessions after {_iso(start)}")
    return pd.DatetimeIndex(sessions)


def target_dates(origins: pd.DatetimeIndex, horizons: tuple[int, ...], known: pd.DatetimeIndex, calendar: str) -> Dates:
    """Return the date of the h-th session after each origin, for each horizon h.

    This is the h-th date of the data after the origin where the data reaches that far (the row whose close is the
    label); beyond it, the calendar continues from the last known session.

    Parameters
    ----------
    origins
        Dates without a time zone, from the first known session to the last.
    horizons
        Sessions ahead, each at least 1.
    known
        The index of the prices: increasing, unique.
    calendar
        A calendar's name, as :func:`resolve_calendar` gives it.

    Returns
    -------
    ndarray of datetime64[us], shape (n_origins, n_horizons)

    Raises
    ------
    ConfigError
        If a horizon is less than 1, or the calendar is unknown, or is not known that far ahead.
    DataQualityError
        If the known sessions are not increasing.
    NotEnoughDataError
        If an origin lies outside the known sessions.

    Examples
    --------
    The data ends on Friday 2018-12-28. From Thursday the 27th, one session ahead is the last row; two ahead is Monday;
    three is Wednesday, for the exchange is closed on Tuesday, New Year's Day.

    >>> known = pd.DatetimeIndex(["2018-12-26", "2018-12-27", "2018-12-28"])
    >>> target_dates(known[1:2], (1, 2, 3), known, "NYSE").astype("datetime64[D]").tolist()[0]
    [datetime.date(2018, 12, 28), datetime.date(2018, 12, 31), datetime.date(2019, 1, 2)]
    """
    if not horizons or min(horizons) < 1:
        raise ConfigError(f"expected horizons of at least one session; got {horizons}")
    if not (known.is_monotonic_increasing and known.is_unique):
        raise DataQualityError("expected the known sessions from oldest to newest, each once; sort the prices first")
    requested, sessions = _microseconds(origins), _microseconds(known)
    if not len(requested):
        return np.empty((0, len(horizons)), dtype="datetime64[us]")
    if not len(sessions) or requested.min() < sessions[0] or requested.max() > sessions[-1]:
        span = f"{_iso(sessions[0])} to {_iso(sessions[-1])}" if len(sessions) else "none"
        raise NotEnoughDataError(
            f"expected origins among the known sessions ({span}); got {_iso(requested.min())} to "
            f"{_iso(requested.max())}"
        )
    positions = np.searchsorted(sessions, requested, side="right")[:, None] + (np.asarray(horizons) - 1)
    beyond = int(positions.max()) + 1 - len(sessions)
    if beyond > 0:
        ahead = next_sessions(calendar, pd.Timestamp(sessions[-1]), beyond, known)
        sessions = np.concatenate([sessions, ahead.to_numpy()])
    targets: Dates = sessions[positions]
    return targets


def _unknown_days(calendar: str, loaded: Calendar, requested: str) -> ConfigError:
    return ConfigError(
        f"expected days for which the holidays of calendar {calendar!r} are known, {_iso(loaded.first)} to "
        f"{_iso(loaded.last)}; got {requested}; calendar='inferred' does without holidays"
    )


def _day(day: Day) -> np.datetime64:
    stamp = pd.Timestamp(day)
    if pd.isna(stamp) or stamp.tz is not None:
        raise ConfigError(f"expected a day without a time zone; got {day!r}; use tz_localize(None)")
    return stamp.normalize().as_unit("us").to_datetime64()


def _iso(day: np.datetime64) -> str:
    return str(np.datetime_as_string(day, "D"))


def _microseconds(index: pd.DatetimeIndex) -> Dates:
    if index.tz is not None:
        raise DataQualityError(f"expected dates without a time zone; got {index.tz}; use index.tz_localize(None)")
    return index.as_unit("us").to_numpy()


def _calendar(calendar: str, known: pd.DatetimeIndex | None = None) -> Calendar:
    """Return the sessions of a calendar; for ``"inferred"``, all days on the weekdays of the known sessions."""
    return _every_week(_weekdays_of(known)) if calendar == INFERRED else _load(_known_name(calendar))


@lru_cache(maxsize=64)
def _known_name(calendar: str) -> str:
    name = _ALIASES.get(calendar, calendar)
    common = {*CALENDAR_BY_SYMBOL.values(), *CALENDAR_BY_SUFFIX.values(), "24/7", INFERRED}
    if name in common:
        return name
    import pandas_market_calendars

    names = pandas_market_calendars.get_calendar_names()
    if name in names:
        return name
    near = difflib.get_close_matches(name.upper(), [*common, *names], n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise ConfigError(
        f"unknown calendar {calendar!r}; {hint}Expected 'auto', one of {', '.join(sorted(common))}, or another name of "
        "pandas_market_calendars.get_calendar_names()"
    )


@lru_cache(maxsize=64)
def _load(calendar: str) -> Calendar:
    """Compute the sessions of an exchange, for the years whose holidays are known."""
    import pandas_market_calendars  # takes a quarter of a second, so only when a calendar is needed

    with warnings.catch_warnings():
        # About opening hours, which are not used here: the lunch break of XKRX was discontinued.
        warnings.filterwarnings("ignore", message=".*are discontinued", category=UserWarning)
        exchange = pandas_market_calendars.get_calendar(calendar)
        days = exchange.valid_days(f"{FIRST_YEAR}-01-01", f"{LAST_YEAR}-12-31", tz=None)
    sessions = _microseconds(pd.DatetimeIndex(days))
    traded, possible = _count_by_year_and_weekday(sessions), _count_by_year_and_weekday(_all_days())
    closed = np.where(traded > 0, possible - traded, 0).sum(axis=1)
    # A year without a single holiday is one whose holidays are not known, unless the exchange never has any.
    years = FIRST_YEAR + (np.flatnonzero(closed) if closed.any() else np.arange(len(closed)))
    return _between_years(sessions, int(years[0]), int(years[-1]))


@lru_cache(maxsize=64)
def _continued(calendar: str) -> Dates:
    """Return the sessions of an exchange, continued with its weekdays after the last day whose holidays are known."""
    loaded = _load(calendar)
    usual = _every_week(_weekdays_of(pd.DatetimeIndex(loaded.sessions))).sessions
    beyond = usual[usual > loaded.last]
    if len(beyond):
        _log.warning(
            "the holidays of calendar %s are known up to %s; later dates are taken from its weekdays and may be off by "
            "the holidays",
            calendar,
            _iso(loaded.last),
        )
    return np.concatenate([loaded.sessions, beyond])


@lru_cache(maxsize=64)
def _every_week(weekdays: tuple[int, ...]) -> Calendar:
    days = _all_days()
    return _between_years(days[np.isin(_weekday(days), weekdays)].astype("datetime64[us]"), FIRST_YEAR, LAST_YEAR)


def _weekdays_of(known: pd.DatetimeIndex | None) -> tuple[int, ...]:
    """Return the weekdays (Monday: 0) with at least half as many recent sessions as the most frequent one."""
    if known is None or len(known) < MIN_SESSIONS:
        raise NotEnoughDataError(
            f"expected at least {MIN_SESSIONS} sessions to infer the weekdays from; got "
            f"{0 if known is None else len(known)}; set the calendar of the exchange instead"
        )
    recent = _microseconds(known[-RECENT_SESSIONS:]).astype("datetime64[D]")
    counts = np.bincount(_weekday(recent), minlength=7)
    usual = np.flatnonzero(counts >= counts.max() / 2)
    weeks = (int((recent[-1] - recent[0]).astype(np.int64)) + 1) / 7
    if len(recent) < weeks * len(usual) / 2:
        raise DataQualityError(
            f"expected daily sessions; got {len(recent)} in {weeks:.0f} weeks, too irregular to infer the weekdays "
            "from; set the calendar of the exchange instead"
        )
    return tuple(usual.tolist())


def _between_years(sessions: Dates, first_year: int, last_year: int) -> Calendar:
    first, last = np.datetime64(f"{first_year}-01-01", "us"), np.datetime64(f"{last_year}-12-31", "us")
    sessions = sessions[(sessions >= first) & (sessions <= last)]
    sessions.flags.writeable = False  # shared by every caller
    return Calendar(first, last, sessions)


def _all_days() -> Dates:
    return np.arange(np.datetime64(f"{FIRST_YEAR}-01-01"), np.datetime64(f"{LAST_YEAR + 1}-01-01"))


def _count_by_year_and_weekday(days: Dates) -> npt.NDArray[np.int64]:
    year = days.astype("datetime64[Y]").astype(np.int64) + 1970 - FIRST_YEAR
    counts = np.bincount(7 * year + _weekday(days), minlength=7 * (LAST_YEAR - FIRST_YEAR + 1))
    return counts.reshape(-1, 7)


def _weekday(days: Dates) -> npt.NDArray[np.int64]:
    return (days.astype("datetime64[D]").astype(np.int64) + 3) % 7  # 1970-01-01 was a Thursday
