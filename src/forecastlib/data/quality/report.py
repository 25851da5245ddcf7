"""What the gate found: a score, a verdict, a table, and a figure that marks the dates."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from html import escape
from typing import TYPE_CHECKING, Literal

import pandas as pd

from forecastlib.config import unknown_name
from forecastlib.data.quality.catalogue import Severity
from forecastlib.errors import ConfigError, DataQualityError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Status = Literal["passed", "failed", "not run", "not applicable"]

_SHOWN = 5  # offending dates that the table shows
# Okabe and Ito's colours, told apart by colour-blind eyes; the markers tell them apart in grey print too.
_LOOKS = {"error": ("#D55E00", "X"), "warning": ("#0072B2", "o"), "note": ("#7F7F7F", ".")}
_MARKS = {"passed": "✓", "failed": "✗", "not run": "–", "not applicable": "–"}


@dataclass(frozen=True)
class CheckResult:
    """What one check came to; the fields are the columns of :attr:`QualityReport.checks`.

    Attributes
    ----------
    check, severity
        The check's name, and its severity in this report.
    status
        ``not run``: another fault made it impossible; ``not applicable``: there is nothing to hold the prices against.
    count, dates
        How much it found, and the offending dates, increasing, where dates can be named.
    weight, loss
        The part of the score it can cost, and the part it does cost.
    detail, remedy
        Figures in a few words, and what to do about it.
    """

    check: str
    severity: Severity
    status: Status
    count: int
    dates: pd.DatetimeIndex
    weight: float
    loss: float
    detail: str
    remedy: str

    @property
    def first_dates(self) -> str:
        """The first offending dates in words, ending in an ellipsis if there are more."""
        shown = [f"{day:%Y-%m-%d}" for day in self.dates[:_SHOWN]]
        return ", ".join([*shown, "…"] if len(self.dates) > _SHOWN else shown)


@dataclass(frozen=True, eq=False, repr=False)
class QualityReport:
    """The result of :func:`check_quality`; shows itself as a table in a notebook.

    Attributes
    ----------
    symbol, calendar
        Whose prices, and the calendar they were held against.
    results
        What each check came to, in the catalogue's order.
    closes
        The closes that were looked at, for the figure; None if there were none to look at.
    """

    symbol: str
    calendar: str
    results: tuple[CheckResult, ...]
    closes: pd.Series[float] | None

    @property
    def score(self) -> float:
        """Score from 0 to 100; :func:`check_quality` says how it is made."""
        return 100.0 * math.prod(1.0 - result.loss for result in self.results)

    @property
    def passed(self) -> bool:
        """Whether no check of severity ``error`` failed, or could not run."""
        return not any(result.severity == "error" and result.status in ("failed", "not run") for result in self.results)

    @cached_property
    def checks(self) -> pd.DataFrame:
        """One row a check: ``check severity status count first_dates weight loss detail remedy``."""
        columns = ["check", "severity", "status", "count", "first_dates", "weight", "loss", "detail", "remedy"]
        return pd.DataFrame([[getattr(result, name) for name in columns] for result in self.results], columns=columns)

    def dates(self, check: str) -> pd.DatetimeIndex:
        """Return all dates that a check found.

        Raises
        ------
        ConfigError
            If there is no check of that name.
        """
        found = {result.check: result.dates for result in self.results}
        if check not in found:
            raise ConfigError(unknown_name("check", check, found))
        return found[check]

    def raise_for_errors(self) -> None:
        """Raise unless the prices passed.

        Raises
        ------
        DataQualityError
            Naming every check of severity ``error`` that failed, its count, its first dates, and what to do.
        """
        if self.passed:
            return
        failed = [result for result in self.results if result.severity == "error" and result.status == "failed"]
        raise DataQualityError("\n- ".join([f"expected sound prices; got {self._title()}:", *map(_line, failed)]))

    def plot(self) -> Figure:
        """Draw the close, and below it a mark on each offending date, one line for each check that found any.

        Returns
        -------
        matplotlib.figure.Figure
            Not registered with pyplot, so there is nothing to close.
        """
        from matplotlib.figure import Figure
        from matplotlib.ticker import AutoLocator, LogLocator, NullLocator, StrMethodFormatter

        marked = [result for result in self.results if len(result.dates)][::-1]
        figure = Figure(figsize=(10, 4 + 0.25 * len(marked)), layout="constrained")
        price, lines = figure.subplots(2, 1, sharex=True, height_ratios=[3, 0.4 + 0.25 * len(marked)])
        price.set_title(self._title(), loc="left", fontsize="medium")
        price.set_ylabel("close, log scale")
        price.set_yscale("log")
        if self.closes is not None:
            closes = self.closes.where(self.closes > 0)
            price.plot(closes.index, closes, color="#333333", linewidth=0.8)
            wide = bool(closes.max() > 20 * closes.min())  # too few powers of ten to read a narrow range by
            price.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)) if wide else AutoLocator())
            price.yaxis.set_minor_locator(NullLocator())
            price.yaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
        for line, result in enumerate(marked):
            colour, marker = _LOOKS[result.severity]
            lines.plot(
                result.dates, [line] * len(result.dates), linestyle="none", marker=marker, markersize=4, color=colour
            )
        lines.set_yticks(range(len(marked)), [f"{r.check} ({r.count:,}, {r.severity})" for r in marked])
        lines.set_ylim(-0.5, max(len(marked), 1) - 0.5)
        if not marked:
            lines.text(0.5, 0.5, "no offending dates", ha="center", va="center", transform=lines.transAxes)
        for axes in (price, lines):
            axes.spines[["top", "right"]].set_visible(False)
            axes.grid(axis="x", color="#DDDDDD", linewidth=0.5)
        return figure

    def _title(self) -> str:
        span = "no sessions"
        if self.closes is not None and len(self.closes):
            first, last = self.closes.index[0], self.closes.index[-1]
            span = f"{len(self.closes):,} sessions, {first:%Y-%m-%d} to {last:%Y-%m-%d}"
        verdict = "passed" if self.passed else "failed"
        return f"{self.symbol or 'prices'}: {verdict}, score {self.score:.1f} of 100 ({span}, calendar {self.calendar})"

    def __repr__(self) -> str:
        """Word the verdict, and one line for each check that did not pass."""
        notable = [f"  {result.severity:7} {_line(result)}" for result in self.results if result.status != "passed"]
        return "\n".join([self._title(), *notable])

    def _repr_html_(self) -> str:
        names = ["", "check", "severity", "found", "first dates", "detail", "what to do"]
        head = "".join(f'<th style="text-align:left">{name}</th>' for name in names)
        body = "".join(map(_html_row, self.results))
        return (
            f"<p><b>{escape(self._title())}</b></p><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        )


def _line(result: CheckResult) -> str:
    found = f"{result.count:,} found" if result.status == "failed" else result.status
    parts = [f"{result.check}: {found}", result.first_dates, result.detail, result.remedy]
    return "; ".join(part for part in parts if part)


def _html_row(result: CheckResult) -> str:
    ran = result.status in ("passed", "failed")
    cells = [
        _MARKS[result.status],
        result.check,
        result.severity,
        f"{result.count:,}" if ran else result.status,
        result.first_dates,
        result.detail,
        result.remedy,
    ]
    failed = result.status == "failed"
    style = f"color:{_LOOKS[result.severity][0]};font-weight:bold" if failed else "font-weight:normal"
    row = "".join(f'<td style="text-align:left">{escape(cell)}</td>' for cell in cells)
    return f'<tr style="{style}">{row}</tr>'
