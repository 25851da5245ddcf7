"""The gate: every check of the catalogue run on one frame, and a score of what they found."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from forecastlib.data.calendars import resolve_calendar
from forecastlib.data.quality.catalogue import FRAME_CHECKS, SERIES_CHECKS, Check, Severity, configured
from forecastlib.data.quality.report import CheckResult, QualityReport, Status
from forecastlib.data.quality.subject import Bars, Finding, NotRun, QualityLimits, Subject
from forecastlib.errors import DataQualityError


def check_quality(
    prices: pd.DataFrame,
    *,
    calendar: str = "auto",
    strict: bool = False,
    as_of: str | dt.date | pd.Timestamp | None = None,
    limits: QualityLimits | None = None,
    severities: Mapping[str, Severity] | None = None,
    weights: Mapping[str, float] | None = None,
) -> QualityReport:
    """Examine prices by every check of the catalogue; nothing is changed, and no fault of the data raises.

    Parameters
    ----------
    prices
        A frame that is meant to be prices, however broken; ``attrs["symbol"]`` chooses the calendar.
    calendar
        A calendar's name, or ``"auto"``: by the symbol (see :func:`forecastlib.data.calendars.resolve_calendar`). Where no
        exchange is known (``"inferred"``), missing and extra sessions cannot be judged, and the report says so.
    strict
        Make every warning an error.
    as_of
        The day on which the data should be up to date. None: staleness is not judged, so that the report on a
        historic series is the same on every day; pass today's date for a live one.
    limits
        What the checks are held against; None: the defaults of :class:`QualityLimits`.
    severities, weights
        Others than the catalogue's, by the names of checks: ``{"outliers": "note"}``, ``{"zero_volume": 0.0}``.

    Returns
    -------
    QualityReport
        ``.score`` from 0 to 100, ``.passed`` (no error), ``.checks``, ``.raise_for_errors()``, ``.plot()``.

    Raises
    ------
    ConfigError
        If a calendar, a check, a severity, a weight or a limit is not a possible one.
    DataQualityError
        If ``prices`` is no DataFrame.

    Notes
    -----
    The score is 100 times the product, over all checks but notes, of ``1 - weight * share ** (1/3)``, where ``share``
    is the part of the rows that offend or that the check could not judge because of another fault (all of them if
    it could not run). The cube root makes a few bad rows count: one in a thousand costs a tenth of the weight. Because
    what cannot be judged counts as bad, a fault in a sound row never raises the score.

    Examples
    --------
    >>> from forecastlib.data.sources import open_source
    >>> report = check_quality(open_source("bundled").fetch("^IXIC"))
    >>> report.passed, [f"{day:%Y-%m-%d}" for day in report.dates("zero_volume")]
    (True, ['2015-05-12', '2018-01-09'])
    """
    if not isinstance(prices, pd.DataFrame):
        raise DataQualityError(f"expected prices as a pandas DataFrame; got {type(prices).__name__}")
    symbol = str(prices.attrs.get("symbol", ""))
    name = resolve_calendar(symbol, calendar)
    day = None if as_of is None else pd.Timestamp(as_of).tz_localize(None).normalize()
    bars = Bars.of(prices)
    frame_checks = configured(FRAME_CHECKS, severities or {}, weights or {})
    series_checks = configured(SERIES_CHECKS, severities or {}, weights or {})
    results = [_result(check, check.find(prices), strict) for check in frame_checks]
    if bars is None:
        blocked = NotRun("the columns, the types or the dates do not allow it", blocked=True)
        results += [_result(check, blocked, strict) for check in series_checks]
    else:
        subject = Subject(bars, name, limits or QualityLimits(), day)
        results += [_result(check, check.find(subject), strict) for check in series_checks]
    closes = None if bars is None else pd.Series(bars.close, index=bars.dates, name="close")
    return QualityReport(symbol, name, tuple(results), closes)


def _result(check: Check[Any], found: Finding | NotRun, strict: bool) -> CheckResult:
    severity: Severity = "error" if strict and check.severity == "warning" else check.severity
    status: Status
    if isinstance(found, NotRun):
        status = "not run" if found.blocked else "not applicable"
        found = Finding(0, 1.0 if found.blocked else 0.0, detail=found.reason)
    else:
        status = "failed" if found.count else "passed"
    return CheckResult(
        check=check.name,
        severity=severity,
        status=status,
        count=found.count,
        dates=found.dates,
        weight=check.weight,
        loss=0.0 if severity == "note" else check.weight * float(np.cbrt(found.share)),
        detail=found.detail,
        remedy=check.remedy if status == "failed" else "",
    )
