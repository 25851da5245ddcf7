"""Checks of a series as a whole, which only show from one row to the next or against the exchange's calendar."""

from __future__ import annotations

import numpy as np

from forecastlib.data.calendars import INFERRED, known_range, sessions_between
from forecastlib.data.quality.subject import Bars, Finding, NotRun, Numbers, Subject
from forecastlib.errors import DataQualityError, NotEnoughDataError

SPLIT_RATIOS = (2, 3, 4, 5, 6, 7, 8, 10, 12, 15, 20, 25, 30, 40, 50, 100)
"""Splits looked for, in either direction. Not 3:2: shares do lose a third of their value overnight."""

_NO_CALENDAR = "no exchange is known for this symbol; name its calendar to have holidays told from holes"


def missing_sessions(subject: Subject) -> Finding | NotRun:
    """Find sessions of the exchange that the data lacks, from 1970 on."""
    expected = subject.expected
    if expected.empty:
        return NotRun(_NO_CALENDAR if subject.calendar == INFERRED else "the calendar does not reach these dates")
    missing = ~expected.isin(subject.bars.dates)
    return Finding.of_rows(expected, missing)


def extra_sessions(subject: Subject) -> Finding | NotRun:
    """Find dates on which the exchange was closed, from 1970 on."""
    expected, dates = subject.expected, subject.bars.dates
    if subject.calendar == INFERRED:
        return NotRun(_NO_CALENDAR)
    first, last = known_range(subject.calendar)
    return Finding.of_rows(dates, (dates >= first) & (dates <= last) & ~dates.isin(expected))


def long_gaps(subject: Subject) -> Finding:
    """Find sessions that come more than ``gap_days`` calendar days after the one before."""
    dates = subject.bars.dates
    days = np.diff(dates.to_numpy(), prepend=dates.to_numpy()[:1]) // np.timedelta64(1, "D")
    detail = f"the longest takes {int(days.max(initial=0))} days"
    return Finding.of_rows(dates, days > subject.limits.gap_days, detail=detail)


def stale_close(subject: Subject) -> Finding:
    """Find closes repeated from the day before, in runs of at least ``stale_run`` equal ones."""
    bars = subject.bars
    repeated = bars.log_returns == 0.0
    starts = np.flatnonzero(~repeated)
    lengths = np.diff(starts, append=len(bars))
    run = np.repeat(lengths, lengths)
    detail = f"the longest run takes {int(lengths.max(initial=0))} sessions"
    return Finding.of_rows(bars.dates, repeated & (run >= subject.limits.stale_run), bars.has_return, detail)


def outliers(subject: Subject) -> Finding:
    """Find log returns beyond both ``outlier_move`` and ``outlier_scales`` robust scales; split-like jumps apart."""
    bars, limits = subject.bars, subject.limits
    threshold = max(limits.outlier_move, limits.outlier_scales * bars.scale)
    judged = bars.has_return & (split_ratios(bars) == 0)
    moves = np.where(judged, np.nan_to_num(np.abs(bars.log_returns)), 0.0)
    detail = f"|log return| above {threshold:.1%}, the largest {moves.max(initial=0.0):.1%}"
    return Finding.of_rows(bars.dates, moves > threshold, judged, detail)


def split_like(subject: Subject) -> Finding:
    """Find jumps that look like splits the prices were not adjusted for."""
    bars = subject.bars
    ratios = split_ratios(bars)
    found = [f"{ratio:g}:1" if ratio > 1 else f"1:{1 / ratio:g}" for ratio in ratios[ratios > 0][:5].tolist()]
    return Finding.of_rows(bars.dates, ratios > 0, bars.has_return, f"like {', '.join(found)}")


def split_ratios(bars: Bars) -> Numbers:
    """Tell splits from crashes: the ratio of each split-like jump on its first day.

    Such a jump is near a whole ratio; it happens between two sessions, the ranges of both days leaving more than half
    of it untraded; and it lasts: a price that comes back the next day was a wrong one. A crash trades its way down,
    however deep it is, so that its range covers the move.

    Returns
    -------
    ndarray of shape (n,)
        2.0 where prices halve (a 2:1 split), 0.5 where they double (a 1:2 reverse split), 0 where there is none.

    Examples
    --------
    A close of 700 followed by one of 101, on a day that traded from 99 to 103, gives 7.0. A close of 282.70 followed
    by one of 224.84, on a day that traded from 282.70 to 224.83 (1987-10-19), gives 0: the market traded all the way.
    """
    found = np.zeros(len(bars))
    moves = np.nan_to_num(bars.log_returns)
    tolerance = float(np.clip(6 * bars.scale, 0.05, 0.10))  # in logs; leaves room for the market's own move that day
    rows = np.flatnonzero(np.abs(moves) > np.log(SPLIT_RATIOS[0]) - tolerance)  # never row 0, which has no return
    rows = rows[bars.priced[rows] & bars.priced[rows - 1]]
    if not len(rows):
        return found
    move, before, after = moves[rows], moves[rows - 1], np.append(moves, 0.0)[rows + 1]
    distance = np.abs(np.abs(move)[:, None] - np.log(SPLIT_RATIOS))
    falls = np.log(bars.low[rows - 1] / bars.high[rows])
    rises = np.log(bars.low[rows] / bars.high[rows - 1])
    overnight = np.where(move < 0, falls, rises) > np.abs(move) / 2
    lasting = (np.abs(move + after) > tolerance) & (np.abs(move + before) > tolerance)
    split = (distance.min(axis=1) <= tolerance) & overnight & lasting
    ratio = np.asarray(SPLIT_RATIOS, dtype=np.float64)[distance.argmin(axis=1)]
    found[rows[split]] = np.where(move < 0, ratio, 1 / ratio)[split]
    return found


def open_copied(subject: Subject) -> Finding:
    """Find opens equal to the previous close, if they are more than ``copied_share`` of all: no real opens."""
    bars, allowed = subject.bars, subject.limits.copied_share
    judged = bars.has_return & np.isfinite(bars.open)
    copied = np.zeros(len(bars), dtype=np.bool_)
    copied[1:] = bars.open[1:] == bars.close[:-1]
    size = max(len(bars), 1)
    share = max(0.0, int((copied | ~judged).sum()) / size - allowed) / (1 - allowed) if allowed < 1 else 0.0
    if copied.sum() <= allowed * size:
        return Finding(0, share)
    years = bars.dates.year.to_numpy()
    of_year = np.bincount(years, weights=copied) / np.maximum(np.bincount(years), 1)
    worst = np.flatnonzero(of_year > 0.5)
    detail = f"{copied.sum() / size:.1%} of all rows"
    if len(worst):
        low, high = of_year[worst].min(), of_year[worst].max()
        detail += f"; {low:.0%} to {high:.0%} in each of {len(worst)} years from {worst[0]} to {worst[-1]}"
    return Finding(int(copied.sum()), share, bars.dates[copied], detail)


def short_history(subject: Subject) -> Finding:
    """Find out whether there are fewer than ``min_sessions`` rows with a close."""
    closes, least = int(np.isfinite(subject.bars.close).sum()), subject.limits.min_sessions
    short = max(0, least - closes)
    return Finding(short, short / max(least, 1), detail=f"{closes} sessions, expected {least}" if short else "")


def stale_last_date(subject: Subject) -> Finding | NotRun:
    """Find out whether more than ``late_sessions`` sessions are missing between the last date and ``as_of``."""
    dates, as_of = subject.bars.dates, subject.as_of
    if as_of is None or not len(dates):
        return NotRun("no day given (as_of) that the data should reach")
    yesterday = as_of - np.timedelta64(1, "D")  # the session of the day itself may not be over
    first, last = known_range(subject.calendar)
    start, end = max(first, dates[-1]), min(last, yesterday)
    if start >= end:
        return Finding(0, 0.0)
    try:
        late = len(sessions_between(subject.calendar, start, end, dates).difference(dates))
    except (NotEnoughDataError, DataQualityError) as reason:  # too little to infer weekdays from
        return NotRun(str(reason))
    if late <= subject.limits.late_sessions:
        return Finding(0, 0.0)
    detail = f"{late} sessions missing up to {end:%Y-%m-%d}"
    return Finding(late, min(1.0, late / 252), dates[-1:], detail)
