"""Checks of the frame itself and of single rows: each a short pure function that finds one kind of fault."""

from __future__ import annotations

import numpy as np
import pandas as pd

from forecastlib.data.prices import COLUMNS
from forecastlib.data.quality.subject import Finding, NotRun, Subject, column_faults, index_faults


def columns(frame: pd.DataFrame) -> Finding:
    """Find columns of prices that are missing, or there more than once."""
    faults = column_faults(frame)
    detail = f"missing or repeated: {', '.join(faults)}; got {list(frame.columns)}" if faults else ""
    return Finding(len(faults), len(faults) / len(COLUMNS), detail=detail)


def types(frame: pd.DataFrame) -> Finding:
    """Find columns that are not float64, and an index that is not of days without a time zone."""
    dtypes = zip(frame.columns, frame.dtypes, strict=True)
    faults = [f"{name} is {dtype}" for name, dtype in dtypes if name in COLUMNS and dtype != np.float64]
    faults += index_faults(frame.index)
    return Finding(len(faults), min(1.0, len(faults) / (len(COLUMNS) + 1)), detail="; ".join(faults))


def index_order(frame: pd.DataFrame) -> Finding | NotRun:
    """Find rows that are older than the row before them."""
    if not isinstance(frame.index, pd.DatetimeIndex):
        return NotRun("the index has no dates", blocked=True)
    dates = frame.index[frame.index.notna()]
    return Finding.of_rows(dates, np.diff(dates.asi8, prepend=dates.asi8[:1]) < 0)


def duplicates(frame: pd.DataFrame) -> Finding | NotRun:
    """Find rows whose date an earlier row has already."""
    if not isinstance(frame.index, pd.DatetimeIndex):
        return NotRun("the index has no dates", blocked=True)
    dates = frame.index[frame.index.notna()]
    return Finding.of_rows(dates, dates.duplicated())


def empty_rows(subject: Subject) -> Finding:
    """Find rows without any price."""
    return Finding.of_rows(subject.bars.dates, subject.bars.empty)


def missing_values(subject: Subject) -> Finding:
    """Find rows that have some price but lack another value: NaN or infinite."""
    bars = subject.bars
    lacking = ~bars.whole & ~bars.empty
    counts = {column: int((lacking & ~np.isfinite(getattr(bars, column))).sum()) for column in COLUMNS}
    detail = ", ".join(f"{column} in {count}" for column, count in counts.items() if count)
    return Finding.of_rows(bars.dates, lacking, ~bars.empty, detail)


def non_positive(subject: Subject) -> Finding:
    """Find prices of zero or less, and negative volumes."""
    bars = subject.bars
    offending = (bars.open <= 0) | (bars.high <= 0) | (bars.low <= 0) | (bars.close <= 0) | (bars.volume < 0)
    return Finding.of_rows(bars.dates, offending, bars.whole)


def high_below_low(subject: Subject) -> Finding:
    """Find bars whose high is below their low."""
    bars = subject.bars
    return Finding.of_rows(bars.dates, bars.priced & (bars.high < bars.low), bars.priced)


def outside_range(subject: Subject) -> Finding:
    """Find bars that open or close outside their low and high, by more than rounding."""
    bars, rounding = subject.bars, subject.limits.rounding
    judged = bars.priced & (bars.high >= bars.low)
    above = np.maximum(bars.open, bars.close) > bars.high * (1 + rounding)
    below = np.minimum(bars.open, bars.close) < bars.low * (1 - rounding)
    return Finding.of_rows(bars.dates, judged & (above | below), judged)


def zero_volume(subject: Subject) -> Finding:
    """Find sessions on which nothing was traded."""
    bars = subject.bars
    judged = ~bars.empty & np.isfinite(bars.volume) & (bars.volume >= 0)
    return Finding.of_rows(bars.dates, judged & (bars.volume == 0), judged)
