"""Between frames and the rows of the ledger."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from forecastlib.errors import ConfigError
from forecastlib.forecasts import COLUMNS as FORECAST_COLUMNS
from forecastlib.ledger.schema import KEY, NUMBERS

COLUMNS = (
    *FORECAST_COLUMNS,
    *("requested_by", "recorded_at", "actual_price", "settled_at", "direction_threshold", "known_until"),
)
"""The columns of :meth:`~forecastlib.ledger.Ledger.history`, in order."""

SAME_PRICE = 1e-6
"""Relative difference up to which two sources are taken to mean the same price."""


def rows_of(forecasts: pd.DataFrame, requested_by: str | None) -> Iterator[dict[str, Any]]:
    """Yield rows as the database takes them, in the order of their keys: writers in one order cannot block for good."""
    ordered = forecasts[list(FORECAST_COLUMNS)].sort_values(list(KEY))
    now = dt.datetime.now(dt.UTC)
    threshold, known_until = (forecasts.attrs.get(name) for name in ("direction_threshold", "known_until"))
    for row in ordered.to_dict("records"):
        numbers = {name: None if pd.isna(row[name]) else float(row[name]) for name in NUMBERS}
        texts = {name: str(row[name]) for name in ("symbol", "model_version", "direction", "batch_id")}
        dates = {name: pd.Timestamp(row[name]).date() for name in ("origin", "target_date")}
        yield {
            **numbers,
            **texts,
            **dates,
            "horizon": int(row["horizon"]),
            "requested_by": requested_by,
            "recorded_at": now,
            "direction_threshold": threshold,
            "known_until": known_until and date_of(known_until),
        }


def outcomes(pending: pd.DataFrame, prices: pd.DataFrame) -> list[dict[str, Any]]:
    """Return keys and actual prices of the rows whose target session the prices know."""
    at = prices.index.get_indexer(pd.DatetimeIndex(pending["origin"]))
    target = at + pending["horizon"].to_numpy(dtype=np.int64)
    known = (at >= 0) & (target < len(prices))
    rows, close = pending[known], prices["close"].to_numpy()
    level = rows["last_close"].to_numpy(dtype=np.float64) / close[at[known]]
    actual = close[target[known]] * np.where(np.abs(level - 1.0) <= SAME_PRICE, 1.0, level)
    keys = rows[list(KEY)].rename(columns=lambda name: f"of_{name}").to_dict("records")
    return [{**key, "actual": float(price)} for key, price in zip(keys, actual, strict=True)]


def date_of(day: str | dt.date) -> dt.date:
    """Read a date; NaT and what is no date are refused."""
    try:
        stamp = pd.Timestamp(day)
        if not pd.isna(stamp):
            return stamp.date()
    except (ValueError, TypeError):
        pass  # worded below, for all that is no date alike
    raise ConfigError(f"expected a date such as 2018-06-29; got {day!r}")


def frame_of(rows: Sequence[Any]) -> pd.DataFrame:
    """Give rows the types of a forecast frame, also where there are none."""
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    kinds: dict[str, str] = dict.fromkeys((*NUMBERS, "actual_price", "direction_threshold"), "float64")
    kinds |= dict.fromkeys(("symbol", "direction", "model_version", "batch_id"), "str")
    kinds |= dict.fromkeys(("origin", "target_date", "known_until"), "datetime64[us]")
    return frame.astype(
        kinds | {"horizon": "int64", "recorded_at": "datetime64[us, UTC]", "settled_at": "datetime64[us, UTC]"}
    )
