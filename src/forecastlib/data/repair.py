"""Repairs of prices: explicit, conservative, and each one listed; nothing is invented."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import pandas as pd

from forecastlib.checks import NO_DATES
from forecastlib.config import unknown_name
from forecastlib.data.prices import COLUMNS, PRICE_COLUMNS
from forecastlib.data.quality_checks import Bars, Mask, column_faults, index_faults
from forecastlib.errors import ConfigError, DataQualityError

Step = Literal["types", "order", "duplicates", "empty_rows", "carried_weekends", "range", "splits"]

SAFE_STEPS: tuple[Step, ...] = ("types", "order", "duplicates", "empty_rows", "carried_weekends", "range")
"""What :func:`repair` does by default: everything but the adjustment for splits, which is a judgement."""

MAX_RANGE_MOVE = 0.05
"""A high or low is moved by 5 % at most: beyond that another value is wrong, and is left to be reported."""


class Repair(NamedTuple):
    """Repaired prices, and one row per change: ``date column before after why``.

    The column is ``row`` for a row that was dropped (``before``: how many values it had), ``position`` for one that was
    moved (counted from 0), and a column of prices for a value that was changed.
    """

    prices: pd.DataFrame
    changes: pd.DataFrame


def repair(prices: pd.DataFrame, *, steps: tuple[Step, ...] = SAFE_STEPS) -> Repair:
    """Repair what can be repaired without inventing anything, and list every change.

    Parameters
    ----------
    prices
        A frame with the columns of prices and a DatetimeIndex; it is not changed.
    steps
        What may be done; the steps are always done in this order:

        - ``types``: numbers of another type become float64 (text is not parsed);
        - ``order``: rows are sorted from oldest to newest;
        - ``duplicates``: rows identical to an earlier one of the same date are dropped; different ones stay;
        - ``empty_rows``: rows without any price are dropped;
        - ``carried_weekends``: rows on weekends that only carry Friday's prices forward are dropped;
        - ``range``: high and low are moved, by 5 % at most, to include open and close, swapped ones included;
        - ``splits`` (not by default): prices before a split-like jump are divided by its ratio, volumes multiplied,
          as exchanges and data vendors adjust them.

    Returns
    -------
    Repair
        ``.prices``, a new frame with the same ``attrs``, and ``.changes``.

    Raises
    ------
    ConfigError
        If a step is not a possible one.
    DataQualityError
        If the frame lacks the columns, the numbers or the dates to work with, or is to be adjusted for splits while
        its dates are out of order or not unique.

    Examples
    --------
    >>> days = pd.DatetimeIndex(["2024-01-03", "2024-01-02"], name="date")
    >>> bars = {"open": [10.0, 9.0], "high": [10.2, 9.1], "low": [9.8, 8.9], "close": [10.3, 9.0], "volume": [5.0, 4.0]}
    >>> repaired, changes = repair(pd.DataFrame(bars, days))
    >>> repaired["high"].tolist()
    [9.1, 10.3]
    >>> changes["column"].tolist()
    ['position', 'position', 'high']
    """
    for step in steps:
        if step not in _STEPS:
            raise ConfigError(unknown_name("step of repair", str(step), _STEPS))
    faults = [f"{column} is missing or repeated" for column in column_faults(prices)] + index_faults(prices.index)
    faults = faults or [
        f"column {column!r} is {prices[column].dtype}, not numeric"
        for column in COLUMNS
        if not pd.api.types.is_any_real_numeric_dtype(prices[column].dtype)
    ]
    if faults:
        raise DataQualityError(
            f"expected numeric columns on dates; got: {'; '.join(faults)}; read files with "
            "open_source('csv:...'), which parses them"
        )
    repaired, changes = prices.copy(), []
    for step in get_args(Step):
        if step in steps:
            repaired, changed = _STEPS[step](repaired)
            changes.append(changed)
    repaired.attrs = dict(prices.attrs)
    found = [changed for changed in changes if len(changed)]
    return Repair(repaired, pd.concat(found, ignore_index=True) if found else _changes(NO_DATES))


def _changes(
    dates: pd.DatetimeIndex, column: str = "", before: object = np.nan, after: object = np.nan, why: object = ""
) -> pd.DataFrame:
    """Return one row of the record for each date."""
    record = pd.DataFrame({"date": dates, "column": column, "before": before, "after": after, "why": why})
    types: dict[Any, Any] = {
        "date": "datetime64[us]",
        "column": "str",
        "before": np.float64,
        "after": np.float64,
        "why": "str",
    }
    return record.astype(types)


Changed = tuple[pd.DataFrame, pd.DataFrame]


def _types(prices: pd.DataFrame) -> Changed:
    other = [column for column in COLUMNS if prices[column].dtype != np.float64]
    records = [
        _changes(pd.DatetimeIndex([pd.NaT]), column, why=f"{prices[column].dtype} became float64") for column in other
    ]
    converted = prices.astype(dict.fromkeys(other, np.float64))
    return converted, pd.concat(records) if records else _changes(NO_DATES)


def _order(prices: pd.DataFrame) -> Changed:
    order = np.argsort(_days(prices).to_numpy(), kind="stable")
    moved = np.flatnonzero(order != np.arange(len(order)))
    ordered = prices.iloc[order]
    return ordered, _changes(_days(ordered)[moved], "position", order[moved], moved, "sorted from oldest to newest")


def _duplicates(prices: pd.DataFrame) -> Changed:
    dated = prices.assign(**{"date of row": prices.index})
    return _drop(prices, dated.duplicated().to_numpy(), "identical to an earlier row of this date: dropped")


def _empty_rows(prices: pd.DataFrame) -> Changed:
    return _drop(prices, prices[list(PRICE_COLUMNS)].isna().all(axis=1).to_numpy(), "no price at all: dropped")


def _carried_weekends(prices: pd.DataFrame) -> Changed:
    bars = Bars.of(prices)
    if bars is None or len(bars) != len(prices) or not prices.index.is_monotonic_increasing:
        return prices, _changes(NO_DATES)
    return _drop(prices, bars.carried_weekends, "carries Friday's prices forward: dropped")


def _drop(prices: pd.DataFrame, dropped: Mask, why: str) -> Changed:
    values = prices[list(COLUMNS)].notna().sum(axis=1).to_numpy()[dropped]
    return prices[~dropped], _changes(_days(prices)[dropped], "row", values, 0, why)


def _range(prices: pd.DataFrame) -> Changed:
    bars = prices[list(PRICE_COLUMNS)].to_numpy(np.float64, na_value=np.nan)
    high, low = bars.max(axis=1), bars.min(axis=1)  # NaN, and so left alone, where any price is missing
    with np.errstate(invalid="ignore", divide="ignore"):
        near = (low > 0) & (high <= bars[:, 1] * (1 + MAX_RANGE_MOVE)) & (low >= bars[:, 2] * (1 - MAX_RANGE_MOVE))
    repaired, records = prices.copy(), []
    for column, before, after in (("high", bars[:, 1], high), ("low", bars[:, 2], low)):
        wrong = near & (before != after)
        why = "moved to include open and close"
        records.append(_changes(_days(prices)[wrong], column, before[wrong], after[wrong], why))
        repaired[column] = np.where(wrong, after, before)
    return repaired, pd.concat(records)


def _splits(prices: pd.DataFrame) -> Changed:
    bars = Bars.of(prices)
    if bars is None or len(bars) != len(prices) or not prices.index.is_monotonic_increasing:
        raise DataQualityError(
            "expected increasing, unique dates to adjust for splits; add the steps order and duplicates"
        )
    ratios = bars.split_ratios
    days = bars.dates[ratios > 0]
    # Each row is divided by the ratios of all splits after it, the latest prices staying as they are.
    later = np.where(ratios > 0, ratios, 1.0)[:0:-1]
    factor = np.cumprod(np.append(1.0, later))[::-1][: len(bars)]
    rows = np.flatnonzero(factor != 1.0)
    why = "adjusted for " + ", ".join(f"the split-like jump of {day:%Y-%m-%d}" for day in days)
    adjusted, records = prices.copy(), []
    for column in COLUMNS:
        before = getattr(bars, column)
        after = before * factor if column == "volume" else before / factor
        records.append(_changes(bars.dates[rows], column, before[rows], after[rows], why))
        adjusted[column] = after
    return adjusted, pd.concat(records)


def _days(prices: pd.DataFrame) -> pd.DatetimeIndex:
    return pd.DatetimeIndex(prices.index)


_STEPS: dict[Step, Callable[[pd.DataFrame], Changed]] = {
    "types": _types,
    "order": _order,
    "duplicates": _duplicates,
    "empty_rows": _empty_rows,
    "carried_weekends": _carried_weekends,
    "range": _range,
    "splits": _splits,
}
