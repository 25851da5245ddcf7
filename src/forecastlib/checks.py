"""Checks and their report: one framework for the quality of prices and for leaks.

A :class:`Check` is a named function that examines something and returns an :class:`Outcome`. :func:`run_checks` runs a
series of checks on the same object and turns each outcome into a :class:`Finding`, which also says what passing shows
and what to do otherwise. A :class:`Report` gathers the findings; it is a table, a text, an HTML table in a notebook, or
an error, and subclasses add what only they know, such as a score or a figure.

>>> short = Check("length", lambda text: Outcome("passed" if len(text) < 5 else "failed", measured=len(text)),
...               severity="warning", meaning="the text is short", remedy="shorten it")
>>> Report("a text", run_checks([short], "long enough"))
a text: passed, 1 of 1 checks with findings
  warning  length; shorten it
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field, fields
from functools import cached_property
from html import escape
from typing import ClassVar, Generic, Literal, TypeVar, get_args

import pandas as pd

from forecastlib.config import unknown_name
from forecastlib.errors import ConfigError, ForecastError

Examined = TypeVar("Examined")
Severity = Literal["error", "warning"]
Status = Literal["passed", "warning", "failed", "not run", "not applicable"]

NO_DATES = pd.DatetimeIndex([], dtype="datetime64[us]")

MAX_NAMES_SHOWN = 3
"""Names of affected things that a table or a message shows."""

MAX_DATES_SHOWN = 5
"""Dates that a table or a message shows."""

STATUS_MARKS = {"passed": "✓", "warning": "!", "failed": "✗", "not run": "–", "not applicable": "–"}

# Legible on white and on black; the mark and the word in the same cell say the same without any colour.
STATUS_COLOURS = {
    "passed": "#2E8540",
    "warning": "#1F78C1",
    "failed": "#C75300",
    "not run": "#757575",
    "not applicable": "#757575",
}


@dataclass(frozen=True)
class Outcome:
    """What examining something gave.

    Attributes
    ----------
    status : {"passed", "failed", "not run", "not applicable"}
        ``not run``: something else that is wrong prevented the check, so nothing was shown; ``not applicable``: there
        is nothing to compare with.
    measured : float
        The figure that decided: a number of rows, values or labels, or a skill.
    affected : tuple of str
        What is affected, by name.
    dates : DatetimeIndex
        The affected dates in increasing order, where there are any.
    detail : str
        The figures in a few words, or why the check was not run.
    share : float
        The part of what was examined that is affected or could not be judged, 0 to 1, where a score needs it.
    figures : DataFrame or None
        Everything that was measured, where that is more than one figure.
    """

    status: Status
    measured: float = 0.0
    affected: tuple[str, ...] = ()
    dates: pd.DatetimeIndex = field(default_factory=lambda: NO_DATES, compare=False)
    detail: str = ""
    share: float = 0.0
    figures: pd.DataFrame | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, kw_only=True)
class Finding(Outcome):
    """The outcome of one check, with what it means and what to do about it.

    Attributes
    ----------
    status : {"passed", "warning", "failed", "not run", "not applicable"}
        ``warning`` or ``failed``, by severity, if something was found; otherwise as in :class:`Outcome`.
    check : str
        The name of the check.
    severity : {"error", "warning"}
        How serious it is if the check does not pass.
    meaning : str
        What passing shows.
    remedy : str
        What to do; empty unless something was found.
    """

    check: str
    severity: Severity
    meaning: str
    remedy: str

    @property
    def found_something(self) -> bool:
        """Whether the check ran and did not pass, whatever its severity."""
        return self.status in ("warning", "failed")

    @property
    def affected_text(self) -> str:
        """The first affected names, and how many more there are."""
        return _first(self.affected, MAX_NAMES_SHOWN)

    @property
    def dates_text(self) -> str:
        """The first affected dates, and how many more there are."""
        shown = [f"{day:%Y-%m-%d}" for day in self.dates[: MAX_DATES_SHOWN + 1]]
        return _first(shown, MAX_DATES_SHOWN, len(self.dates))

    @property
    def summary(self) -> str:
        """The finding in one line: the check, what is affected, the figures and the remedy."""
        affected = self.affected_text or self.dates_text
        parts = [f"{self.check}: {affected}" if affected else self.check, self.detail, self.remedy]
        return "; ".join(part for part in parts if part)


@dataclass(frozen=True)
class Check(Generic[Examined]):
    """One check.

    Attributes
    ----------
    name : str
        The name by which it is chosen and reported.
    examine : callable
        Takes what is examined and returns an :class:`Outcome`; it changes nothing.
    severity : {"error", "warning"}
        ``error``: what was examined must not be used if the check fails; ``warning``: the finding may be legitimate
        and should be known.
    meaning : str
        What passing shows.
    remedy : str
        What to do if it does not pass.

    Raises
    ------
    ConfigError
        If the severity is unknown.
    """

    name: str
    examine: Callable[[Examined], Outcome]
    severity: Severity = field(default="error", kw_only=True)
    meaning: str = field(kw_only=True)
    remedy: str = field(kw_only=True)

    def __post_init__(self) -> None:
        """Refuse an unknown severity."""
        if self.severity not in get_args(Severity):
            raise ConfigError(unknown_name("severity", str(self.severity), get_args(Severity)))

    def finding(self, outcome: Outcome) -> Finding:
        """Return an outcome of this check as a finding."""
        failed = outcome.status == "failed"
        found = {item.name: getattr(outcome, item.name) for item in fields(outcome)}
        found["status"] = "warning" if failed and self.severity == "warning" else outcome.status
        remedy = self.remedy if failed else ""
        return Finding(**found, check=self.name, severity=self.severity, meaning=self.meaning, remedy=remedy)


def run_checks(
    checks: Iterable[Check[Examined]], examined: Examined, names: Collection[str] = ()
) -> tuple[Finding, ...]:
    """Run checks on one object.

    Parameters
    ----------
    checks
        The checks, in the order in which they are run and reported.
    examined
        What each of them examines.
    names
        Names of the checks to run; empty: all.

    Returns
    -------
    tuple of Finding

    Raises
    ------
    ConfigError
        If a name is not that of a check.
    """
    known = {check.name: check for check in checks}
    for name in names:
        if name not in known:
            raise ConfigError(unknown_name("check", name, known))
    return tuple(check.finding(check.examine(examined)) for name, check in known.items() if not names or name in names)


@dataclass(frozen=True, eq=False, repr=False)
class Report:
    """The findings of a series of checks; displays itself as a table in a notebook.

    Attributes
    ----------
    title : str
        What was examined.
    findings : tuple of Finding
        What each check found, in the order in which they were run.
    """

    title: str
    findings: tuple[Finding, ...]

    error: ClassVar[type[ForecastError]] = ForecastError
    """What :meth:`raise_for_errors` raises."""

    expectation: ClassVar[str] = "every check to pass"
    """What its message says was expected."""

    shown: ClassVar[tuple[str, ...]] = ("check", "status", "affected", "detail", "meaning", "remedy")
    """The columns of :attr:`checks` that the HTML table shows."""

    @property
    def passed(self) -> bool:
        """Whether no check of severity ``error`` failed, or was prevented from running."""
        return not any(
            finding.severity == "error" and finding.status in ("failed", "not run") for finding in self.findings
        )

    @property
    def headline(self) -> str:
        """What was examined, and the verdict, in one line."""
        found = sum(finding.found_something for finding in self.findings)
        verdict = "passed" if self.passed else "failed"
        return f"{self.title}: {verdict}, {found} of {len(self.findings)} checks with findings"

    @cached_property
    def checks(self) -> pd.DataFrame:
        """One row per check: ``check severity status measured affected first_dates detail meaning remedy``."""
        rows = [
            {
                "check": finding.check,
                "severity": finding.severity,
                "status": finding.status,
                "measured": finding.measured,
                "affected": finding.affected_text,
                "first_dates": finding.dates_text,
                "detail": finding.detail,
                "meaning": finding.meaning,
                "remedy": finding.remedy,
            }
            for finding in self.findings
        ]
        return pd.DataFrame(rows)

    def finding(self, check: str) -> Finding:
        """Return what a check found.

        Raises
        ------
        ConfigError
            If this report has no check of that name.
        """
        findings = {finding.check: finding for finding in self.findings}
        if check not in findings:
            raise ConfigError(unknown_name("check", check, findings))
        return findings[check]

    def affected(self) -> dict[str, tuple[str, ...]]:
        """Return the names of what is affected, for each check that found something."""
        return {finding.check: finding.affected for finding in self.findings if finding.found_something}

    def raise_for_errors(self) -> None:
        """Raise unless the report passed.

        Raises
        ------
        ForecastError
            Of the class :attr:`error`, with one line per check of severity ``error`` that failed or could not run.
        """
        if self.passed:
            return
        errors = [finding for finding in self.findings if finding.severity == "error"]
        blocking = [finding for finding in errors if finding.status == "failed"] or [
            finding for finding in errors if finding.status == "not run"
        ]
        lines = [f"expected {self.expectation}; got {self.headline}:", *(finding.summary for finding in blocking)]
        raise self.error("\n- ".join(lines))

    def __repr__(self) -> str:
        """Return the headline, and one line per check that did not pass."""
        lines = [f"  {finding.status:7}  {finding.summary}" for finding in self.findings if finding.status != "passed"]
        return "\n".join([self.headline, *lines])

    def _repr_html_(self) -> str:
        """Return the headline and the shown columns as one HTML table, which needs no style sheet."""
        head = "".join(f'<th style="text-align:left">{column.replace("_", " ")}</th>' for column in self.shown)
        table = self.checks
        body = "".join(
            f"<tr>{''.join(_html_cell(column, value) for column, value in zip(self.shown, row, strict=True))}</tr>"
            for row in table[list(self.shown)].itertuples(index=False, name=None)
        )
        return (
            f"<p><b>{escape(self.headline)}</b></p><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        )


def _html_cell(column: str, value: object) -> str:
    style, text = "text-align:left", f"{value:,g}" if isinstance(value, (int, float)) else str(value)
    if column == "status":
        style += f";white-space:nowrap;font-weight:bold;color:{STATUS_COLOURS[text]}"
        text = f"{STATUS_MARKS[text]} {text}"
    return f'<td style="{style}">{escape(text)}</td>'


def _first(names: Collection[str], most: int, count: int | None = None) -> str:
    more = (len(names) if count is None else count) - most
    return ", ".join([*list(names)[:most], *([f"and {more:,} more"] if more > 0 else [])])
