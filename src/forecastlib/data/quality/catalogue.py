"""The catalogue of checks: name, severity, weight, function, and what to do about a finding.

An ``error`` means that prices cannot be trusted as they are; a ``warning`` that a finding may be real and should be
known of; a ``note`` neither fails nor costs. The ``weight`` is the part of the score lost if every row offends.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Generic, Literal, TypeVar, get_args

import pandas as pd

from forecastlib.config import unknown_name
from forecastlib.data.quality import row_checks, series_checks
from forecastlib.data.quality.subject import Finding, NotRun, Subject
from forecastlib.errors import ConfigError

Severity = Literal["error", "warning", "note"]
Looked = TypeVar("Looked")


@dataclass(frozen=True)
class Check(Generic[Looked]):
    """One check of the catalogue.

    Raises
    ------
    ConfigError
        If the severity is not known or the weight not between 0 and 1.
    """

    name: str
    severity: Severity
    weight: float
    find: Callable[[Looked], Finding | NotRun]
    remedy: str

    def __post_init__(self) -> None:
        """Refuse a severity or a weight that is not possible."""
        if self.severity not in get_args(Severity):
            raise ConfigError(unknown_name("severity", str(self.severity), get_args(Severity)))
        if not 0.0 <= self.weight <= 1.0:
            raise ConfigError(f"expected the weight of {self.name} between 0 and 1; got {self.weight}")


FRAME_CHECKS: tuple[Check[pd.DataFrame], ...] = (
    Check("columns", "error", 1.0, row_checks.columns, "rename the columns to open, high, low, close, volume"),
    Check("types", "error", 1.0, row_checks.types, "convert to float64 and to dates; repair() does where it is safe"),
    Check("index_order", "error", 0.5, row_checks.index_order, "sort by date; repair() does"),
    Check("duplicates", "error", 1.0, row_checks.duplicates, "keep one row a date; repair() drops identical copies"),
)
"""Checks of the frame itself, which always run."""

SERIES_CHECKS: tuple[Check[Subject], ...] = (
    Check("empty_rows", "error", 0.5, row_checks.empty_rows, "drop them; repair() does"),
    Check("missing_values", "error", 1.0, row_checks.missing_values, "fetch these days again, or drop them"),
    Check("non_positive", "error", 1.0, row_checks.non_positive, "fetch these days again, or drop them"),
    Check("high_below_low", "error", 1.0, row_checks.high_below_low, "fetch again; repair() mends small ones"),
    Check("outside_range", "error", 0.7, row_checks.outside_range, "fetch again; repair() mends small ones"),
    Check("zero_volume", "warning", 0.3, row_checks.zero_volume, "expect volume-based features to be blind there"),
    Check(
        "missing_sessions", "warning", 0.7, series_checks.missing_sessions, "fetch these days; a horizon counts rows"
    ),
    Check("extra_sessions", "warning", 0.5, series_checks.extra_sessions, "see whether the calendar is the right one"),
    Check("long_gaps", "warning", 0.7, series_checks.long_gaps, "fetch what is missing, or start after the gap"),
    Check("stale_close", "warning", 0.5, series_checks.stale_close, "see whether the price was just carried forward"),
    Check("outliers", "warning", 0.1, series_checks.outliers, "look at them; real crashes stay, none is ever deleted"),
    Check(
        "split_like", "error", 0.7, series_checks.split_like, "repair(prices, steps=('splits',)) adjusts, if it is one"
    ),
    Check("open_copied", "warning", 0.3, series_checks.open_copied, "mistrust features of the open and overnight gaps"),
    Check("short_history", "error", 1.0, series_checks.short_history, "fetch a longer history"),
    Check("stale_last_date", "warning", 0.3, series_checks.stale_last_date, "fetch the newest sessions"),
)
"""Checks of the series, which need the columns, the numbers and the dates to be there."""

NAMES = (*(check.name for check in FRAME_CHECKS), *(check.name for check in SERIES_CHECKS))


def configured(
    checks: tuple[Check[Looked], ...], severities: Mapping[str, Severity], weights: Mapping[str, float]
) -> tuple[Check[Looked], ...]:
    """Return checks with other severities and weights, by name.

    Raises
    ------
    ConfigError
        If a name, a severity or a weight is not a possible one.
    """
    for name in (*severities, *weights):
        if name not in NAMES:
            raise ConfigError(unknown_name("check", name, NAMES))
    return tuple(
        replace(
            check, severity=severities.get(check.name, check.severity), weight=weights.get(check.name, check.weight)
        )
        for check in checks
    )
