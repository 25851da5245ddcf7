"""The checks of the quality of prices, and what they examine: the frame itself, or the bars in it.

To add a check, write a function that returns an :class:`~forecastlib.checks.Outcome`, decorate it with
:func:`quality_check`, and add it to :data:`FRAME_CHECKS` or :data:`SERIES_CHECKS`. Its docstring says what passing
shows.

An ``error`` means that prices cannot be trusted as they are; a ``warning`` that a finding may be real and should be
known. The ``weight`` of a check is the part of the score that is lost if every row is affected.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pandas as pd

from forecastlib.checks import NO_DATES, Check, Examined, Outcome, Severity
from forecastlib.data.calendars import INFERRED, known_range, sessions_between
from forecastlib.data.prices import COLUMNS
from forecastlib.errors import ConfigError, DataQualityError, NotEnoughDataError

Numbers = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

SPLIT_RATIOS = (2, 3, 4, 5, 6, 7, 8, 10, 12, 15, 20, 25, 30, 40, 50, 100, 1000)
"""Splits looked for, in either direction. Not 3:2, because shares do lose a third of their value overnight."""


@dataclass(frozen=True, kw_only=True)
class QualityLimits:
    """The limits of the checks.

    Attributes
    ----------
    min_sessions
        For ``short_history``: a trading year, the longest lookback of a common feature.
    outlier_move, outlier_scales
        For ``outliers``: a log return beyond both, the second in robust standard deviations of the series.
    stale_run
        For ``stale_close``: consecutive sessions with the same close.
    gap_days
        For ``long_gaps``: calendar days from one session to the next; the longest lunar holidays take 11.
    copied_share
        For ``open_copied``: the share of opens that may equal the previous close by chance.
    days_between
        For ``frequency``: the median number of calendar days from one session to the next that is still daily.
    moving_share
        For ``constant_price``: the share of closes that must differ from the one before.
    late_sessions
        For ``stale_last_date``: sessions that may be missing at the end.
    rounding
        For ``outside_range``: the relative excess that is only rounding.

    Raises
    ------
    ConfigError
        If a limit is negative.
    """

    min_sessions: int = 252
    outlier_move: float = 0.07
    outlier_scales: float = 6.0
    stale_run: int = 5
    gap_days: int = 14
    copied_share: float = 0.05
    days_between: float = 3.0
    moving_share: float = 0.01
    late_sessions: int = 5
    rounding: float = 1e-6

    def __post_init__(self) -> None:
        """Refuse negative limits."""
        for limit in fields(self):
            if not getattr(self, limit.name) >= 0:
                raise ConfigError(f"expected {limit.name} of at least 0; got {getattr(self, limit.name)}")


@dataclass(frozen=True)
class QualityCheck(Check[Examined]):
    """A check with the part of the score, 0 to 1, that is lost if every row is affected."""

    weight: float = field(kw_only=True)

    def __post_init__(self) -> None:
        """Refuse an unknown severity, and a weight that is not between 0 and 1."""
        super().__post_init__()
        if not 0.0 <= self.weight <= 1.0:
            raise ConfigError(f"expected the weight of {self.name} between 0 and 1; got {self.weight}")


def quality_check(
    severity: Severity, weight: float, *, remedy: str
) -> Callable[[Callable[[Examined], Outcome]], QualityCheck[Examined]]:
    """Turn a function into a check of the same name, whose docstring says what passing shows."""

    def decorate(examine: Callable[[Examined], Outcome]) -> QualityCheck[Examined]:
        name, meaning = getattr(examine, "__name__", ""), (examine.__doc__ or "").rstrip(".")
        return QualityCheck(name, examine, severity=severity, weight=weight, meaning=meaning, remedy=remedy)

    return decorate


# What is examined


@dataclass(frozen=True)
class Bars:
    """The rows of a frame from oldest to newest, the first of each date, and what they are compared with.

    The masks say which rows a check can judge: no row is reported for what another check reports already.

    Attributes
    ----------
    dates : DatetimeIndex
    open, high, low, close, volume : ndarray, shape (n,)
    calendar : str
        The name of the exchange's calendar.
    limits : QualityLimits
    as_of : Timestamp or None
        The day up to which the data should reach.
    """

    dates: pd.DatetimeIndex
    open: Numbers
    high: Numbers
    low: Numbers
    close: Numbers
    volume: Numbers
    calendar: str
    limits: QualityLimits
    as_of: pd.Timestamp | None

    @classmethod
    def of(
        cls,
        frame: pd.DataFrame,
        calendar: str = INFERRED,
        limits: QualityLimits | None = None,
        as_of: pd.Timestamp | None = None,
    ) -> Bars | None:
        """Return the bars of a frame; None if it lacks the columns, the numbers or the dates for them."""
        index = frame.index
        if column_faults(frame) or index_faults(index) or not isinstance(index, pd.DatetimeIndex):
            return None
        if not all(pd.api.types.is_any_real_numeric_dtype(frame[column].dtype) for column in COLUMNS):
            return None
        values = [frame[column].to_numpy(np.float64, na_value=np.nan) for column in COLUMNS]
        if not (index.is_monotonic_increasing and index.is_unique):
            order = np.argsort(index.to_numpy(), kind="stable")
            order = order[~index[order].duplicated()]
            index, values = index[order], [column[order] for column in values]
        bars = dict(zip(COLUMNS, values, strict=True))
        return cls(dates=index.as_unit("us"), **bars, calendar=calendar, limits=limits or QualityLimits(), as_of=as_of)

    def __len__(self) -> int:
        """Return the number of dates."""
        return len(self.dates)

    @cached_property
    def empty(self) -> Mask:
        """Rows without any price."""
        return np.isnan(np.fmax(np.fmax(self.open, self.high), np.fmax(self.low, self.close)))

    @cached_property
    def four_prices(self) -> Mask:
        """Rows whose four prices are all finite numbers."""
        return np.isfinite(self.open) & np.isfinite(self.high) & np.isfinite(self.low) & np.isfinite(self.close)

    @cached_property
    def priced(self) -> Mask:
        """Rows whose four prices are positive as well."""
        positive = (self.open > 0) & (self.high > 0) & (self.low > 0) & (self.close > 0)
        return self.four_prices & positive

    @cached_property
    def whole(self) -> Mask:
        """Rows that have four prices and a volume."""
        return self.four_prices & np.isfinite(self.volume)

    @cached_property
    def log_returns(self) -> Numbers:
        """Log return of the close since the row before; NaN in the first row and where a close is not positive."""
        usable = np.where(np.isfinite(self.close) & (self.close > 0), self.close, np.nan)
        return np.diff(np.log(usable), prepend=np.nan)

    @cached_property
    def has_return(self) -> Mask:
        """Rows whose log return is known, and the first row, which has none."""
        known = np.isfinite(self.log_returns)
        known[:1] = True
        return known

    @cached_property
    def scale(self) -> float:
        """Robust standard deviation of the log returns: 1.4826 times their median absolute deviation."""
        moves = self.log_returns[np.isfinite(self.log_returns)]
        return 1.4826 * float(np.median(np.abs(moves - np.median(moves)))) if len(moves) else 0.0

    @cached_property
    def carried_weekends(self) -> Mask:
        """Rows on Saturdays and Sundays that only carry prices forward, if nearly all rows on these days do.

        A row carries prices forward if its four prices are those of the row before, or all the close of the row before.
        """
        prices = np.column_stack([self.open, self.high, self.low, self.close])
        before = np.vstack([np.full((1, 4), np.nan), prices])[: len(prices)]
        same = (prices == before).all(axis=1) | (prices == before[:, 3:]).all(axis=1)
        weekend = np.asarray(self.dates.day_of_week >= 5)
        carried: Mask = weekend & same
        return carried if carried.sum() >= max(2, 0.9 * weekend.sum()) else np.zeros(len(self), dtype=np.bool_)

    @cached_property
    def expected_sessions(self) -> pd.DatetimeIndex:
        """The sessions of the exchange from the first bar to the last, where its calendar is known; otherwise none."""
        if self.calendar == INFERRED or not len(self):
            return NO_DATES
        first, last = known_range(self.calendar)
        start, end = max(first, self.dates[0]), min(last, self.dates[-1])
        return sessions_between(self.calendar, start, end) if start <= end else NO_DATES

    @cached_property
    def split_ratios(self) -> Numbers:
        """The ratio of each split-like jump on its first day, which tells splits from crashes; shape (n,).

        2.0 where prices halve (a 2:1 split), 0.5 where they double (a 1:2 reverse split), 0 where there is none.

        A split-like jump is near a whole ratio; it happens between two sessions, the ranges of both days leaving more
        than half of it untraded; and it lasts: a price that comes back the next day was a wrong one. In a crash,
        however deep, the market trades all the way, so that the day's range covers the move.

        A close of 700 followed by one of 101, on a day that traded from 99 to 103, gives 7.0. A close of 282.70
        followed by one of 224.84, on a day that traded from 282.70 to 224.83 (1987-10-19), gives 0.
        """
        found = np.zeros(len(self))
        moves = np.nan_to_num(self.log_returns)
        tolerance = float(np.clip(6 * self.scale, 0.05, 0.10))  # in logs; for the market's own move on that day
        rows = np.flatnonzero(np.abs(moves) > np.log(SPLIT_RATIOS[0]) - tolerance)  # never row 0, which has no return
        rows = rows[self.priced[rows] & self.priced[rows - 1]]
        if not len(rows):
            return found
        move, before, after = moves[rows], moves[rows - 1], np.append(moves, 0.0)[rows + 1]
        distance = np.abs(np.abs(move)[:, None] - np.log(SPLIT_RATIOS))
        falls = np.log(self.low[rows - 1] / self.high[rows])
        rises = np.log(self.low[rows] / self.high[rows - 1])
        overnight = np.where(move < 0, falls, rises) > np.abs(move) / 2
        lasting = (np.abs(move + after) > tolerance) & (np.abs(move + before) > tolerance)
        split = (distance.min(axis=1) <= tolerance) & overnight & lasting
        ratio = np.asarray(SPLIT_RATIOS, dtype=np.float64)[distance.argmin(axis=1)]
        found[rows[split]] = np.where(move < 0, ratio, 1 / ratio)[split]
        return found


def column_faults(frame: pd.DataFrame) -> list[str]:
    """Name the columns of prices that a frame lacks or repeats."""
    present = list(frame.columns)
    return [column for column in COLUMNS if present.count(column) != 1]


def index_faults(index: pd.Index) -> list[str]:
    """Say what keeps an index from being one of sessions, except for its order and duplicates."""
    if not isinstance(index, pd.DatetimeIndex):
        return [f"the index is {type(index).__name__}, not a DatetimeIndex"]
    faults = [f"the dates have the time zone {index.tz}"] if index.tz is not None else []
    if index.hasnans:
        faults.append(f"{int(np.isnat(index.to_numpy()).sum())} rows have no date (NaT)")
    if not index.equals(index.normalize()):
        faults.append("the dates have a time of day")
    return faults


# How outcomes are written


def _outcome(
    count: int, share: float, *, affected: Iterable[str] = (), dates: pd.DatetimeIndex = NO_DATES, detail: str = ""
) -> Outcome:
    """Return an outcome that failed if it counted anything; details of a check that passed are left out."""
    if not count:
        return Outcome("passed", share=share)
    return Outcome("failed", float(count), tuple(affected), dates, detail, share)


def _rows(
    dates: pd.DatetimeIndex,
    wrong: Mask,
    judged: Mask | None = None,
    *,
    affected: Iterable[str] = (),
    detail: str = "",
) -> Outcome:
    """Return the outcome of a check of rows, from masks of the rows that are wrong and of those it can judge."""
    count = int(wrong.sum())
    bad = count if judged is None else int((wrong | ~judged).sum())
    detail = "; ".join(filter(None, [f"{count:,} of {len(dates):,} rows", detail]))
    return _outcome(count, bad / max(len(dates), 1), affected=affected, dates=dates[wrong].sort_values(), detail=detail)


# Checks of the frame, which always run


@quality_check("error", 1.0, remedy="rename the columns to open, high, low, close, volume")
def columns(frame: pd.DataFrame) -> Outcome:
    """Every column of prices is present, once."""
    faults = column_faults(frame)
    detail = f"missing or repeated: {', '.join(faults)}; got {list(frame.columns)}"
    return _outcome(len(faults), len(faults) / len(COLUMNS), affected=faults, detail=detail)


@quality_check("error", 1.0, remedy="convert to float64 and to dates; repair() does where it is safe")
def types(frame: pd.DataFrame) -> Outcome:
    """Columns are float64, on days without a time zone."""
    dtypes = zip(frame.columns, frame.dtypes, strict=True)
    wrong = {str(name): dtype for name, dtype in dtypes if name in COLUMNS and dtype != np.float64}
    faults = [*(f"{name} is {dtype}" for name, dtype in wrong.items()), *index_faults(frame.index)]
    return _outcome(len(faults), min(1.0, len(faults) / (len(COLUMNS) + 1)), affected=wrong, detail="; ".join(faults))


@quality_check("error", 0.5, remedy="sort by date; repair() does")
def index_order(frame: pd.DataFrame) -> Outcome:
    """Rows go from oldest to newest."""
    if not isinstance(frame.index, pd.DatetimeIndex):
        return Outcome("not run", share=1.0, detail="the index has no dates")
    dates = frame.index[frame.index.notna()]
    return _rows(dates, np.diff(dates.asi8, prepend=dates.asi8[:1]) < 0)


@quality_check("error", 1.0, remedy="keep one row per date; repair() drops identical copies")
def duplicates(frame: pd.DataFrame) -> Outcome:
    """Every date has one row."""
    if not isinstance(frame.index, pd.DatetimeIndex):
        return Outcome("not run", share=1.0, detail="the index has no dates")
    dates = frame.index[frame.index.notna()]
    return _rows(dates, dates.duplicated())


FRAME_CHECKS = (columns, types, index_order, duplicates)
"""Checks of the frame itself, which always run."""


# Checks of single rows


@quality_check("error", 0.5, remedy="drop them; repair() does")
def empty_rows(bars: Bars) -> Outcome:
    """Every row has a price."""
    return _rows(bars.dates, bars.empty)


@quality_check("error", 1.0, remedy="fetch these days again, or leave them out with START=")
def missing_values(bars: Bars) -> Outcome:
    """No row lacks a value."""
    missing = ~bars.whole & ~bars.empty
    counts = {column: int((missing & ~np.isfinite(getattr(bars, column))).sum()) for column in COLUMNS}
    counts = {column: count for column, count in counts.items() if count}
    detail = ", ".join(f"{column} in {count}" for column, count in counts.items())
    last = int(np.flatnonzero(missing).max(initial=-1))
    if counts and len(bars) - last > bars.limits.min_sessions and missing[:last].mean() >= 0.5:
        later = f"{len(bars) - last - 1:,} rows from {bars.dates[last + 1]:%Y-%m-%d} on are whole"
        detail += f"; the {later}: START={bars.dates[last + 1]:%Y-%m-%d}"
    return _rows(bars.dates, missing, ~bars.empty, affected=counts, detail=detail)


@quality_check("error", 1.0, remedy="fetch these days again, or drop them")
def non_positive(bars: Bars) -> Outcome:
    """Prices are positive."""
    wrong = (bars.open <= 0) | (bars.high <= 0) | (bars.low <= 0) | (bars.close <= 0) | (bars.volume < 0)
    return _rows(bars.dates, wrong, bars.whole)


@quality_check("error", 1.0, remedy="fetch again; REPAIR=true corrects small ones")
def high_below_low(bars: Bars) -> Outcome:
    """No high is below its low."""
    return _rows(bars.dates, bars.priced & (bars.high < bars.low), bars.priced)


@quality_check(
    "error", 0.7, remedy="fetch again; REPAIR=true corrects small ones, LENIENT=outside_range accepts them as they are"
)
def outside_range(bars: Bars) -> Outcome:
    """All opens and closes lie between low and high."""
    judged = bars.priced & (bars.high >= bars.low)
    above = np.maximum(bars.open, bars.close) > bars.high * (1 + bars.limits.rounding)
    below = np.minimum(bars.open, bars.close) < bars.low * (1 - bars.limits.rounding)
    return _rows(bars.dates, judged & (above | below), judged)


@quality_check("warning", 0.3, remedy="do not rely on features of the volume on these days")
def zero_volume(bars: Bars) -> Outcome:
    """Every session has a volume."""
    judged = ~bars.empty & np.isfinite(bars.volume) & (bars.volume >= 0)
    return _rows(bars.dates, judged & (bars.volume == 0), judged)


# Checks of the series as a whole

_NO_CALENDAR = "no exchange is known for this symbol; CALENDAR= sets it, to tell holidays from gaps"


@quality_check("warning", 0.7, remedy="fetch these days; a horizon counts rows")
def missing_sessions(bars: Bars) -> Outcome:
    """No session of the exchange is missing."""
    expected = bars.expected_sessions
    if expected.empty:
        reason = _NO_CALENDAR if bars.calendar == INFERRED else "the calendar does not cover these dates"
        return Outcome("not applicable", detail=reason)
    return _rows(expected, ~expected.isin(bars.dates))


@quality_check("warning", 0.5, remedy="check whether the calendar is the right one; CALENDAR= sets another")
def extra_sessions(bars: Bars) -> Outcome:
    """Every date is a session of the exchange."""
    if bars.calendar == INFERRED:
        return Outcome("not applicable", detail=_NO_CALENDAR)
    first, last = known_range(bars.calendar)
    in_range = (bars.dates >= first) & (bars.dates <= last)
    return _rows(bars.dates, in_range & ~bars.dates.isin(bars.expected_sessions))


@quality_check("warning", 0.7, remedy="fetch what is missing, or start after the gap")
def long_gaps(bars: Bars) -> Outcome:
    """No long gap between sessions."""
    days = np.diff(bars.dates.to_numpy(), prepend=bars.dates.to_numpy()[:1]) // np.timedelta64(1, "D")
    detail = f"the longest gap is {int(days.max(initial=0))} days"
    return _rows(bars.dates, days > bars.limits.gap_days, detail=detail)


@quality_check("warning", 0.5, remedy="check whether the price was only carried forward")
def stale_close(bars: Bars) -> Outcome:
    """No long run of equal closes."""
    repeated = bars.log_returns == 0.0
    starts = np.flatnonzero(~repeated)
    lengths = np.diff(starts, append=len(bars))
    run = np.repeat(lengths, lengths)
    detail = f"the longest run is {int(lengths.max(initial=0))} sessions"
    return _rows(bars.dates, repeated & (run >= bars.limits.stale_run), bars.has_return, detail=detail)


@quality_check("warning", 0.1, remedy="look at them; real crashes stay, and none is ever deleted")
def outliers(bars: Bars) -> Outcome:
    """No extreme moves."""
    threshold = max(bars.limits.outlier_move, bars.limits.outlier_scales * bars.scale)
    judged = bars.has_return & (bars.split_ratios == 0)
    moves = np.where(judged, np.nan_to_num(np.abs(bars.log_returns)), 0.0)
    detail = f"|log return| above {threshold:.1%}, the largest {moves.max(initial=0.0):.1%}"
    return _rows(bars.dates, moves > threshold, judged, detail=detail)


def frequency_of(dates: pd.DatetimeIndex, days_between: float = QualityLimits.days_between) -> str:
    """Return how often there are rows: ``daily``, ``weekly``, ``monthly``, ``quarterly``, or ``irregular``.

    Examples
    --------
    >>> frequency_of(pd.date_range("2020-01-01", periods=50, freq="W-FRI"))
    'weekly'
    """
    if len(dates) < MIN_ROWS_WITH_FREQUENCY:
        return "daily"
    days = float(np.median(np.diff(dates.to_numpy()) / np.timedelta64(1, "D")))
    if days <= days_between:
        return "daily"
    named = {"weekly": (6, 8), "monthly": (27, 32), "quarterly": (88, 93)}
    return next((name for name, (least, most) in named.items() if least <= days <= most), "irregular")


MIN_ROWS_WITH_FREQUENCY = 5
"""Rows below which nothing is said about their frequency."""


@quality_check("error", 1.0, remedy="fetch daily prices; a horizon counts rows, which are taken for sessions")
def frequency(bars: Bars) -> Outcome:
    """Rows are daily."""
    found = frequency_of(bars.dates, bars.limits.days_between)
    if found == "daily":
        return _outcome(0, 0.0)
    days = float(np.median(np.diff(bars.dates.to_numpy()) / np.timedelta64(1, "D")))
    return _outcome(len(bars), 1.0, detail=f"the rows are {found}, {days:g} days apart at the median")


@quality_check("warning", 0.5, remedy="leave out the rows on weekends; REPAIR=true drops them")
def carried_weekends(bars: Bars) -> Outcome:
    """Weekends are not copies of Fridays."""
    carried = bars.carried_weekends
    return _rows(bars.dates, carried, detail="rows on weekends repeat the prices of the row before")


@quality_check("error", 1.0, remedy="choose another symbol; there is nothing to forecast")
def constant_price(bars: Bars) -> Outcome:
    """Prices move."""
    moves = bars.log_returns[np.isfinite(bars.log_returns)]
    share = float((moves != 0).mean()) if len(moves) else 1.0
    if share >= bars.limits.moving_share:
        return _outcome(0, 0.0)
    return _outcome(len(bars), 1.0, detail=f"the close differs from the one before in {share:.1%} of all rows")


@quality_check("error", 0.7, remedy="if it is one, repair(prices, steps=('splits',)) adjusts for it")
def split_like(bars: Bars) -> Outcome:
    """No jump looks like a split."""
    ratios = bars.split_ratios
    found = [f"{ratio:g}:1" if ratio > 1 else f"1:{1 / ratio:g}" for ratio in ratios[ratios > 0][:5].tolist()]
    return _rows(bars.dates, ratios > 0, bars.has_return, detail=f"like {', '.join(found)}")


@quality_check("warning", 0.3, remedy="do not rely on features of the open and of overnight gaps")
def open_copied(bars: Bars) -> Outcome:
    """Few opens are copied from the previous close."""
    allowed, size = bars.limits.copied_share, max(len(bars), 1)
    judged = bars.has_return & np.isfinite(bars.open)
    copied = np.zeros(len(bars), dtype=np.bool_)
    copied[1:] = bars.open[1:] == bars.close[:-1]
    share = max(0.0, int((copied | ~judged).sum()) / size - allowed) / (1 - allowed) if allowed < 1 else 0.0
    if copied.sum() <= allowed * size:
        return _outcome(0, share)
    years = bars.dates.year.to_numpy()
    share_by_year = np.bincount(years, weights=copied) / np.maximum(np.bincount(years), 1)
    worst = np.flatnonzero(share_by_year > 0.5)
    detail = f"{copied.sum() / size:.1%} of all rows"
    if len(worst):
        low, high = share_by_year[worst].min(), share_by_year[worst].max()
        detail += f"; {low:.0%} to {high:.0%} in each of {len(worst)} years from {worst[0]} to {worst[-1]}"
    return _outcome(int(copied.sum()), share, dates=bars.dates[copied], detail=detail)


@quality_check("error", 1.0, remedy="fetch a longer history")
def short_history(bars: Bars) -> Outcome:
    """Enough sessions to learn from."""
    closes, needed = int(np.isfinite(bars.close).sum()), bars.limits.min_sessions
    missing = max(0, needed - closes)
    return _outcome(missing, missing / max(needed, 1), detail=f"{closes} sessions, expected {needed}")


@quality_check("warning", 0.3, remedy="fetch the newest sessions")
def stale_last_date(bars: Bars) -> Outcome:
    """No session is missing up to the given day."""
    if bars.as_of is None or not len(bars):
        return Outcome("not applicable", detail="no day given (as_of) up to which the data should reach")
    yesterday = bars.as_of - np.timedelta64(1, "D")  # the session of the day itself may not be over
    first, last = known_range(bars.calendar)
    start, end = max(first, bars.dates[-1]), min(last, yesterday)
    if start >= end:
        return _outcome(0, 0.0)
    try:
        late = len(sessions_between(bars.calendar, start, end, bars.dates).difference(bars.dates))
    except (NotEnoughDataError, DataQualityError) as error:  # too little to infer weekdays from
        return Outcome("not applicable", detail=str(error))
    if late <= bars.limits.late_sessions:
        return _outcome(0, 0.0)
    detail = f"{late} sessions missing up to {end:%Y-%m-%d}"
    return _outcome(late, min(1.0, late / 252), dates=bars.dates[-1:], detail=detail)


SERIES_CHECKS = (
    empty_rows, missing_values, non_positive, high_below_low, outside_range, zero_volume, missing_sessions,
    extra_sessions, frequency, long_gaps, carried_weekends, constant_price, stale_close, outliers, split_like,
    open_copied, short_history, stale_last_date,
)  # fmt: skip
"""Checks of the bars, which need the columns, the numbers and the dates."""
