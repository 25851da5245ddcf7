"""The quality of prices: what is wrong, how much, on which days, and what to do about it.

:func:`check_quality` runs the checks of :mod:`forecastlib.data.quality_checks` and changes nothing;
:func:`forecastlib.data.repair.repair` changes what can be changed safely.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pandas as pd

from forecastlib.checks import STATUS_COLOURS, Examined, Outcome, Report, Severity, run_checks
from forecastlib.config import unknown_name
from forecastlib.data.calendars import explain_calendar
from forecastlib.data.quality_checks import FRAME_CHECKS, SERIES_CHECKS, Bars, QualityCheck, QualityLimits
from forecastlib.errors import ConfigError, DataQualityError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["QualityLimits", "QualityReport", "check_quality"]


@dataclass(frozen=True, eq=False, repr=False)
class QualityReport(Report):
    """The result of :func:`check_quality`; displays itself as a table in a notebook.

    Attributes
    ----------
    symbol : str
    calendar : str
        The calendar with which the sessions were compared.
    calendar_reason : str
        Why it was this one.
    weights : mapping of str to float
        The weight of each check.
    closes : Series or None
        The closes that were examined, for the figure; None if the frame has none.
    """

    symbol: str
    calendar: str
    calendar_reason: str
    weights: Mapping[str, float]
    closes: pd.Series[float] | None

    error: ClassVar = DataQualityError
    expectation: ClassVar = "sound prices"
    shown: ClassVar = ("check", "status", "count", "first_dates", "detail", "remedy")

    @property
    def score(self) -> float:
        """Score from 0 to 100; :func:`check_quality` explains how it is computed."""
        return 100.0 * math.prod(1.0 - loss for loss in self._losses)

    @property
    def headline(self) -> str:
        """What was examined, the verdict and the score, in one line."""
        return f"{self.title}: {'passed' if self.passed else 'failed'}, score {self.score:.1f} of 100"

    @cached_property
    def checks(self) -> pd.DataFrame:
        """One row per check: ``check severity status count first_dates weight loss detail meaning remedy``."""
        table = super().checks
        table["count"] = table["measured"].astype(int)
        table["weight"] = [self.weights[check] for check in table["check"]]
        table["loss"] = self._losses
        columns = ["check", "severity", "status", "count", "first_dates", "weight", "loss"]
        return table[[*columns, "detail", "meaning", "remedy"]]

    @property
    def _losses(self) -> list[float]:
        return [self.weights[finding.check] * float(np.cbrt(finding.share)) for finding in self.findings]

    def plot(self) -> Figure:
        """Draw the close, and below it a mark on each affected date, one line per check with findings.

        Returns
        -------
        matplotlib.figure.Figure
            Not registered with pyplot, so there is nothing to close.
        """
        from matplotlib.figure import Figure
        from matplotlib.ticker import AutoLocator, LogLocator, NullLocator, StrMethodFormatter

        dated = [finding for finding in self.findings if len(finding.dates)][::-1]
        figure = Figure(figsize=(10, 4 + 0.25 * len(dated)), layout="constrained")
        price, marks = figure.subplots(2, 1, sharex=True, height_ratios=[3, 0.4 + 0.25 * len(dated)])
        price.set_title(self.headline, loc="left", fontsize="medium")
        price.set_ylabel("close, log scale")
        price.set_yscale("log")
        if self.closes is not None:
            closes = self.closes.where(self.closes > 0)
            price.plot(closes.index, closes, color="#333333", linewidth=0.8)
            wide = bool(closes.max() > 20 * closes.min())  # a narrow range has too few powers of ten to read it by
            price.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)) if wide else AutoLocator())
            price.yaxis.set_minor_locator(NullLocator())
            price.yaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
        for line, finding in enumerate(dated):
            marker = "X" if finding.status == "failed" else "o"
            style = {"marker": marker, "color": STATUS_COLOURS[finding.status], "linestyle": "none", "markersize": 4}
            marks.plot(finding.dates, [line] * len(finding.dates), **style)
        labels = [f"{finding.check} ({finding.measured:,g}, {finding.severity})" for finding in dated]
        marks.set_yticks(range(len(dated)), labels)
        marks.set_ylim(-0.5, max(len(dated), 1) - 0.5)
        if not dated:
            marks.text(0.5, 0.5, "no affected dates", ha="center", va="center", transform=marks.transAxes)
        for axes in (price, marks):
            axes.spines[["top", "right"]].set_visible(False)
            axes.grid(axis="x", color="#DDDDDD", linewidth=0.5)
        return figure


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
    """Run every check of quality on prices; nothing is changed, and no fault of the data raises.

    Parameters
    ----------
    prices
        A frame that is meant to be prices, however broken; ``attrs["symbol"]`` determines the calendar.
    calendar
        A calendar's name, or ``"auto"``: by the symbol, see :func:`forecastlib.data.calendars.resolve_calendar`. Where
        no exchange is known (``"inferred"``), missing and extra sessions cannot be judged, and the report says so.
    strict
        Make every warning an error, except for checks named in ``severities``.
    as_of
        The day up to which the data should reach. None: staleness is not judged, so that the report on a historical
        series is the same on every day; pass today's date for a live one.
    limits
        The limits of the checks; None: the defaults of :class:`QualityLimits`.
    severities, weights
        Changes to the checks, by name: ``severities={"short_history": "warning"}``, ``weights={"outliers": 0.0}``.

    Returns
    -------
    QualityReport
        ``.score`` from 0 to 100, ``.passed`` (no error), ``.checks``, ``.finding(name)``, ``.raise_for_errors()``,
        ``.plot()``.

    Raises
    ------
    ConfigError
        If a calendar, check, severity, weight or limit is not a possible one.
    DataQualityError
        If ``prices`` is not a DataFrame.

    Notes
    -----
    The score is 100 times the product, over all checks, of ``1 - weight * share ** (1/3)``, where ``share`` is the part
    of the rows that are affected or that the check could not judge because of another fault (all of them if it could
    not run). The cube root makes a few bad rows count: one in a thousand costs a tenth of the weight. Because what
    cannot be judged counts as bad, a fault in a sound row never raises the score.

    Examples
    --------
    >>> from forecastlib.data.sources import open_source
    >>> report = check_quality(open_source("bundled").fetch("^IXIC"))
    >>> report.passed, [f"{day:%Y-%m-%d}" for day in report.finding("zero_volume").dates]
    (True, ['2015-05-12', '2018-01-09'])
    """
    if not isinstance(prices, pd.DataFrame):
        raise DataQualityError(f"expected prices as a pandas DataFrame; got {type(prices).__name__}")
    symbol = str(prices.attrs.get("symbol", ""))
    calendar, reason = explain_calendar(symbol, calendar)
    day = None if as_of is None else pd.Timestamp(as_of).tz_localize(None).normalize()
    frame_checks = _configured(FRAME_CHECKS, strict, severities or {}, weights or {})
    series_checks = _configured(SERIES_CHECKS, strict, severities or {}, weights or {})

    bars = Bars.of(prices, calendar, limits, day)
    findings = run_checks(frame_checks, prices)
    span, closes = "no sessions", None
    if bars is None:
        blocked = Outcome("not run", share=1.0, detail="the columns, the types or the dates do not allow it")
        findings += tuple(check.finding(blocked) for check in series_checks)
    else:
        findings += run_checks(series_checks, bars)
        closes = pd.Series(bars.close, index=bars.dates, name="close")
        if len(bars):
            span = f"{len(bars):,} sessions, {bars.dates[0]:%Y-%m-%d} to {bars.dates[-1]:%Y-%m-%d}"
    return QualityReport(
        title=f"{symbol or 'prices'} ({span}, calendar {calendar})",
        findings=findings,
        symbol=symbol,
        calendar=calendar,
        calendar_reason=reason,
        weights={check.name: check.weight for check in frame_checks}
        | {check.name: check.weight for check in series_checks},
        closes=closes,
    )


def _configured(
    checks: Iterable[QualityCheck[Examined]],
    strict: bool,
    severities: Mapping[str, Severity],
    weights: Mapping[str, float],
) -> list[QualityCheck[Examined]]:
    names = [check.name for check in (*FRAME_CHECKS, *SERIES_CHECKS)]
    for name in (*severities, *weights):
        if name not in names:
            raise ConfigError(unknown_name("check", name, names))
    return [
        replace(
            check,
            severity=severities.get(check.name, "error" if strict else check.severity),
            weight=weights.get(check.name, check.weight),
        )
        for check in checks
    ]
