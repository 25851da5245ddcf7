"""The dates of sessions: between two days, after a day, and h sessions ahead of an origin."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pandas as pd

from forecastlib.data.calendars.calendars import Calendar, Dates, load_calendar, microseconds
from forecastlib.errors import ConfigError, DataQualityError, NotEnoughDataError

Day = str | dt.date | pd.Timestamp


def sessions_between(calendar: str, start: Day, end: Day, known: pd.DatetimeIndex | None = None) -> pd.DatetimeIndex:
    """Return a calendar's sessions from one day to another, both included.

    Parameters
    ----------
    calendar
        A calendar's name, as :func:`resolve_calendar` gives it.
    start, end
        Days without a time zone, within :func:`known_range`.
    known
        The sessions of the data, increasing; used (and needed) by ``"inferred"`` alone.

    Returns
    -------
    DatetimeIndex
        Tz-naive, at midnight, ``datetime64[us]``, increasing.

    Raises
    ------
    ConfigError
        If the calendar is unknown, or does not know these days' holidays.
    NotEnoughDataError, DataQualityError
        If ``known`` is too short or too irregular to infer weekdays from.

    Examples
    --------
    >>> [f"{day:%a %d}" for day in sessions_between("NYSE", "2012-10-26", "2012-11-01")]  # hurricane Sandy
    ['Fri 26', 'Wed 31', 'Thu 01']
    """
    loaded, first, last = load_calendar(calendar, known), _day(start), _day(end)
    if first < loaded.first or last > loaded.last:
        raise ConfigError(_beyond(calendar, loaded, f"{_iso(first)} to {_iso(last)}"))
    sessions = loaded.sessions
    return pd.DatetimeIndex(sessions[np.searchsorted(sessions, first) : np.searchsorted(sessions, last, side="right")])


def next_sessions(calendar: str, after: Day, count: int, known: pd.DatetimeIndex | None = None) -> pd.DatetimeIndex:
    """Return the first sessions of a calendar that come later than a day.

    Parameters
    ----------
    calendar
        A calendar's name, as :func:`resolve_calendar` gives it.
    after
        A day without a time zone, a session or not; it is not among those returned.
    count
        How many sessions.
    known
        The sessions of the data, increasing; used (and needed) by ``"inferred"`` alone.

    Returns
    -------
    DatetimeIndex
        ``count`` dates; tz-naive, at midnight, ``datetime64[us]``, increasing.

    Raises
    ------
    ConfigError
        If the calendar is unknown, or does not know that many sessions ahead.
    NotEnoughDataError, DataQualityError
        If ``known`` is too short or too irregular to infer weekdays from.

    Examples
    --------
    >>> [f"{day:%a %m-%d}" for day in next_sessions("NYSE", "2026-07-01", 3)]  # Friday the 3rd: a holiday observed
    ['Thu 07-02', 'Mon 07-06', 'Tue 07-07']
    """
    loaded, start = load_calendar(calendar, known), _day(after)
    position = int(np.searchsorted(loaded.sessions, start, side="right"))
    sessions = loaded.sessions[position : position + count]
    if start < loaded.first or len(sessions) < count:
        raise ConfigError(_beyond(calendar, loaded, f"{count} sessions after {_iso(start)}"))
    return pd.DatetimeIndex(sessions)


def target_dates(origins: pd.DatetimeIndex, horizons: tuple[int, ...], known: pd.DatetimeIndex, calendar: str) -> Dates:
    """Return the date of the h-th session after each origin, for each horizon h.

    It is the h-th date of the data after the origin where the data reaches that far (the same row whose close is
    the label), and beyond it the calendar's, counted on from the last known session.

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
        If a horizon is less than 1, the calendar is unknown, or does not know that far ahead.
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
    asked, sessions = microseconds(origins), microseconds(known)
    if not len(asked):
        return np.empty((0, len(horizons)), dtype="datetime64[us]")
    if not len(sessions) or asked.min() < sessions[0] or asked.max() > sessions[-1]:
        span = f"{_iso(sessions[0])} to {_iso(sessions[-1])}" if len(sessions) else "none"
        raise NotEnoughDataError(
            f"expected origins among the known sessions ({span}); got {_iso(asked.min())} to {_iso(asked.max())}"
        )
    positions = np.searchsorted(sessions, asked, side="right")[:, None] + (np.asarray(horizons) - 1)
    beyond = int(positions.max()) + 1 - len(sessions)
    if beyond > 0:
        ahead = next_sessions(calendar, pd.Timestamp(sessions[-1]), beyond, known)
        sessions = np.concatenate([sessions, ahead.to_numpy()])
    targets: Dates = sessions[positions]
    return targets


def _beyond(calendar: str, loaded: Calendar, asked: str) -> str:
    return (
        f"expected days for which calendar {calendar!r} knows the holidays, {_iso(loaded.first)} to "
        f"{_iso(loaded.last)}; got {asked}; calendar='inferred' goes without holidays"
    )


def _day(day: Day) -> np.datetime64:
    stamp = pd.Timestamp(day)
    if pd.isna(stamp) or stamp.tz is not None:
        raise ConfigError(f"expected a day without a time zone; got {day!r}; use tz_localize(None)")
    return stamp.normalize().as_unit("us").to_datetime64()


def _iso(day: np.datetime64) -> str:
    return str(np.datetime_as_string(day, "D"))
