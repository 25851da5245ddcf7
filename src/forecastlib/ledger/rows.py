"""Conversions between data frames and the rows of the ledger."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd

from forecastlib.errors import ConfigError
from forecastlib.evaluation.score_table import with_outcomes
from forecastlib.forecasts import COLUMNS as FORECAST_COLUMNS
from forecastlib.ledger.tables import KEY, NUMBERS

COLUMNS = tuple(
    dict.fromkeys(
        (
            *FORECAST_COLUMNS,
            *("requested_by", "recorded_at", "actual_price", "settled_at", "direction_threshold", "known_until"),
            *("model", "consistency"),
        )
    )
)
"""The columns of :meth:`~forecastlib.ledger.Ledger.history`, in order."""


def rows_from_forecasts(forecasts: pd.DataFrame, requested_by: str | None) -> Iterator[dict[str, Any]]:
    """Yield rows as the database takes them, in the order of their keys, so that two writers cannot deadlock.

    ``model`` and ``consistency`` are optional columns; None is stored where they are missing.
    """
    now = dt.datetime.now(dt.UTC)
    threshold, known_until = (forecasts.attrs.get(name) for name in ("direction_threshold", "known_until"))
    for row in forecasts.sort_values(list(KEY)).to_dict("records"):
        optional = {name: None if pd.isna(row.get(name)) else row[name] for name in (*NUMBERS, "model", "consistency")}
        texts = {name: str(row[name]) for name in ("symbol", "model_version", "direction", "batch_id")}
        dates = {name: pd.Timestamp(row[name]).date() for name in ("origin", "target_date")}
        yield {
            **optional,
            **texts,
            **dates,
            "horizon": int(row["horizon"]),
            "requested_by": requested_by,
            "recorded_at": now,
            "direction_threshold": threshold,
            "known_until": known_until and parse_date(known_until),
        }


def outcomes(pending: pd.DataFrame, prices: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the keys and actual prices of the rows whose target session is in the prices."""
    known = with_outcomes(pending, prices).dropna(subset=["actual_price"])
    keys = known[list(KEY)].rename(columns=lambda name: f"of_{name}").to_dict("records")
    return [
        {**{str(name): value for name, value in key.items()}, "actual": float(price)}
        for key, price in zip(keys, known["actual_price"], strict=True)
    ]


def parse_date(day: str | dt.date) -> dt.date:
    """Parse a date.

    Raises
    ------
    ConfigError
        If it is not a date, or NaT.
    """
    stamp: pd.Timestamp | None
    try:
        stamp = pd.Timestamp(day)
    except (ValueError, TypeError):
        stamp = None
    if stamp is None or pd.isna(stamp):
        raise ConfigError(f"expected a date such as 2018-06-29; got {day!r}")
    return stamp.date()


def frame_from_rows(rows: Sequence[Any]) -> pd.DataFrame:
    """Return rows as a data frame with the types of a forecast frame, even if there are no rows."""
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    types: dict[str, str] = dict.fromkeys((*NUMBERS, "consistency", "actual_price", "direction_threshold"), "float64")
    types |= dict.fromkeys(("symbol", "direction", "model", "model_version", "batch_id"), "str")
    types |= dict.fromkeys(("origin", "target_date", "known_until"), "datetime64[us]")
    types |= dict.fromkeys(("recorded_at", "settled_at"), "datetime64[us, UTC]")
    return frame.astype(types | {"horizon": "int64"})
