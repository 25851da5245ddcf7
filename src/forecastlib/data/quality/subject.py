"""What the checks look at, the limits they are held against, and what they find."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pandas as pd

from forecastlib.data.calendars import INFERRED, known_range, sessions_between
from forecastlib.data.prices import COLUMNS
from forecastlib.errors import ConfigError

Numbers = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

NO_DATES = pd.DatetimeIndex([], dtype="datetime64[us]")


@dataclass(frozen=True, kw_only=True)
class QualityLimits:
    """The limits that checks are held against.

    Attributes
    ----------
    min_sessions
        Of ``short_history``: a trading year, the longest look back of a usual feature.
    outlier_move, outlier_scales
        Of ``outliers``: a log return beyond both, the second in robust standard deviations of the series.
    stale_run
        Of ``stale_close``: sessions on end with the same close.
    gap_days
        Of ``long_gaps``: calendar days from one session to the next; the longest lunar holidays take 11.
    copied_share
        Of ``open_copied``: the share of opens that may equal the previous close by chance.
    late_sessions
        Of ``stale_last_date``: sessions that may be missing at the end.
    rounding
        Of ``outside_range``: the relative excess that is only rounding.

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
    late_sessions: int = 5
    rounding: float = 1e-6

    def __post_init__(self) -> None:
        """Refuse a limit that is not possible."""
        for limit in fields(self):
            if not getattr(self, limit.name) >= 0:
                raise ConfigError(f"expected {limit.name} of at least 0; got {getattr(self, limit.name)}")


@dataclass(frozen=True)
class Finding:
    """What a check found.

    Attributes
    ----------
    count
        Offending rows, dates or columns; 0: the check passed.
    share
        The part of all it looked at which offends **or could not be judged** because of another fault, 0 to 1.
    dates
        The offending dates, increasing, where dates can be named.
    detail
        Figures, in a few words.
    """

    count: int
    share: float
    dates: pd.DatetimeIndex = field(default_factory=lambda: NO_DATES)
    detail: str = ""

    @classmethod
    def of_rows(cls, dates: pd.DatetimeIndex, offending: Mask, judged: Mask | None = None, detail: str = "") -> Finding:
        """Make the finding of a check that looks at rows, from masks of those that offend and those it can judge."""
        count = int(offending.sum())
        blamed = count if judged is None else int((offending | ~judged).sum())
        return cls(count, blamed / max(len(dates), 1), dates[offending].sort_values(), detail if count else "")


@dataclass(frozen=True)
class NotRun:
    """Why a check was not run: ``blocked`` by another fault, or else because it does not apply."""

    reason: str
    blocked: bool = False


@dataclass(frozen=True)
class Bars:
    """The rows of a frame from oldest to newest, the first of each date, whatever their values.

    The masks say which rows a check can judge: it never blames a row for what another check reports already.
    """

    dates: pd.DatetimeIndex
    open: Numbers
    high: Numbers
    low: Numbers
    close: Numbers
    volume: Numbers

    @classmethod
    def of(cls, frame: pd.DataFrame) -> Bars | None:
        """Take the bars out of a frame; None if it lacks the columns, the numbers or the dates for them."""
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
        return cls(index.as_unit("us"), *values)

    def __len__(self) -> int:
        """Return how many dates there are."""
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
        """Log return of the close since the row before; NaN on the first row, and where a close is not positive."""
        usable = np.where(np.isfinite(self.close) & (self.close > 0), self.close, np.nan)
        return np.diff(np.log(usable), prepend=np.nan)

    @cached_property
    def has_return(self) -> Mask:
        """Rows whose log return is known, and the first row, of which none is expected."""
        known = np.isfinite(self.log_returns)
        known[:1] = True
        return known

    @cached_property
    def scale(self) -> float:
        """Robust standard deviation of the log returns: 1.4826 times their median absolute deviation."""
        moves = self.log_returns[np.isfinite(self.log_returns)]
        return 1.4826 * float(np.median(np.abs(moves - np.median(moves)))) if len(moves) else 0.0


@dataclass(frozen=True)
class Subject:
    """A series under examination: its bars, its exchange's calendar, the limits, and the day it is looked at."""

    bars: Bars
    calendar: str
    limits: QualityLimits
    as_of: pd.Timestamp | None = None

    @cached_property
    def expected(self) -> pd.DatetimeIndex:
        """The exchange's sessions from the first bar to the last, as far as its calendar is known; else none."""
        if self.calendar == INFERRED or not len(self.bars):
            return NO_DATES
        first, last = known_range(self.calendar)
        start, end = max(first, self.bars.dates[0]), min(last, self.bars.dates[-1])
        return sessions_between(self.calendar, start, end) if start <= end else NO_DATES


def column_faults(frame: pd.DataFrame) -> list[str]:
    """Name the columns of prices that a frame lacks, or has more than once."""
    present = list(frame.columns)
    return [column for column in COLUMNS if present.count(column) != 1]


def index_faults(index: pd.Index) -> list[str]:
    """Word what keeps an index from being one of sessions, but for its order and duplicates."""
    if not isinstance(index, pd.DatetimeIndex):
        return [f"the index is {type(index).__name__}, not a DatetimeIndex"]
    faults = [f"the dates have the time zone {index.tz}"] if index.tz is not None else []
    if index.hasnans:
        faults.append(f"{int(np.isnat(index.to_numpy()).sum())} rows have no date (NaT)")
    if not index.equals(index.normalize()):
        faults.append("the dates have a time of day")
    return faults
