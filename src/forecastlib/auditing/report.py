"""What the audit found: a verdict, a table, a figure of the canary, and figures for the run."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from html import escape
from typing import TYPE_CHECKING

import pandas as pd

from forecastlib.config import unknown_name
from forecastlib.errors import ConfigError, LeakageError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CANARY = "shuffled_targets"
"""The check whose figures are drawn and logged: one row of skills for the real targets and one for each shuffle."""

_SHOWN = 3  # culprits that a table shows
_LEAK, _SHUFFLED = "#D55E00", "#0072B2"  # Okabe and Ito, as in the quality report


@dataclass(frozen=True)
class Finding:
    """What one check came to; the fields are the columns of :attr:`AuditReport.checks`.

    Attributes
    ----------
    check : str
    passed : bool
    culprits : tuple of str
        What leaks, by name; none if the check passed.
    measured : float
        The figure that decided: values, rows or labels that leak (0 when none does), or a skill.
    detail : str
        All figures, in a few words.
    meaning : str
        What the check shows.
    remedy : str
        What to do about it; empty if it passed.
    figures : DataFrame or None
        Everything that was measured, where that is more than one figure.
    """

    check: str
    passed: bool
    culprits: tuple[str, ...]
    measured: float
    detail: str
    meaning: str
    remedy: str
    figures: pd.DataFrame | None = field(default=None, repr=False, compare=False)

    @property
    def named(self) -> str:
        """The culprits in words, ending in their number if there are many."""
        more = len(self.culprits) - _SHOWN
        return ", ".join([*self.culprits[:_SHOWN], *([f"and {more} more"] if more > 0 else [])])


@dataclass(frozen=True, eq=False, repr=False)
class AuditReport:
    """The result of :func:`audit`; shows itself as a table in a notebook.

    Attributes
    ----------
    title : str
        What was examined.
    findings : tuple of Finding
        What each check came to, along the way from prices to a score.
    """

    title: str
    findings: tuple[Finding, ...]

    @property
    def passed(self) -> bool:
        """Whether no check found a leak."""
        return all(finding.passed for finding in self.findings)

    @cached_property
    def checks(self) -> pd.DataFrame:
        """One row a check: ``check passed culprits measured detail meaning remedy``."""
        rows = [(f.check, f.passed, f.named, f.measured, f.detail, f.meaning, f.remedy) for f in self.findings]
        return pd.DataFrame(rows, columns=["check", "passed", "culprits", "measured", "detail", "meaning", "remedy"])

    def finding(self, check: str) -> Finding:
        """Return what a check came to.

        Raises
        ------
        ConfigError
            If there is no check of that name in this report.
        """
        found = {finding.check: finding for finding in self.findings}
        if check not in found:
            raise ConfigError(unknown_name("check", check, found))
        return found[check]

    def culprits(self) -> dict[str, tuple[str, ...]]:
        """Return the culprits of each check that found a leak."""
        return {finding.check: finding.culprits for finding in self.findings if not finding.passed}

    def metrics(self) -> dict[str, float]:
        """Return the figures for a run: checks, those passed, and the canary's mean skill for each horizon."""
        figures = {
            "audit_checks": float(len(self.findings)),
            "audit_checks_passed": float(sum(finding.passed for finding in self.findings)),
        }
        canary = {finding.check: finding.figures for finding in self.findings}.get(CANARY)
        if canary is not None:
            figures |= {f"audit_canary_skill_{h}d": float(canary[h].iloc[1:].mean()) for h in canary.columns}
        return figures

    def raise_for_errors(self) -> None:
        """Raise unless the audit passed.

        Raises
        ------
        LeakageError
            Naming every check that found a leak, the culprits, and what to do.
        """
        if not self.passed:
            failed = [_line(finding) for finding in self.findings if not finding.passed]
            raise LeakageError("\n- ".join([f"expected nothing to leak; got {self._verdict()}:", *failed]))

    def plot(self) -> Figure:
        """Draw the canary: test skill after learning from shuffled targets, and from the real ones.

        Returns
        -------
        matplotlib.figure.Figure
            Not registered with pyplot, so there is nothing to close.

        Raises
        ------
        ConfigError
            If the check ``shuffled_targets`` was not among those made.
        """
        from matplotlib.figure import Figure

        skills = self.finding(CANARY).figures
        assert skills is not None, "the canary measures skills"
        figure = Figure(figsize=(10, 0.9 + 0.55 * len(skills.columns)), layout="constrained")
        axes = figure.subplots()
        axes.axvline(0.0, color="#7F7F7F", linewidth=0.8)
        for line, horizon in enumerate(skills.columns[::-1]):
            shuffled = skills[horizon].iloc[1:]
            axes.plot(shuffled, [line] * len(shuffled), "|", markersize=14, color=_SHUFFLED)
            axes.plot(skills[horizon].iloc[0], line, "D", markersize=6, color=_LEAK)
        axes.plot([], [], "|", markersize=14, color=_SHUFFLED, label="shuffled targets, one mark each")
        axes.plot([], [], "D", markersize=6, color=_LEAK, label="real targets")
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, 1.35), ncols=2, frameon=False, fontsize="small")
        axes.set_yticks(range(len(skills.columns)), [f"{horizon} sessions ahead" for horizon in skills.columns[::-1]])
        axes.set_ylim(-0.6, len(skills.columns) - 0.4)
        axes.set_xlabel("skill on the test set against the best constant")
        axes.spines[["top", "right"]].set_visible(False)
        return figure

    def _verdict(self) -> str:
        number = sum(finding.passed for finding in self.findings)
        return f"{self.title}: {'passed' if self.passed else 'failed'}, {number} of {len(self.findings)} checks"

    def __repr__(self) -> str:
        """Word the verdict, and one line a check."""
        marks = [f"  {'passed' if finding.passed else 'FAILED'}  {_line(finding)}" for finding in self.findings]
        return "\n".join([self._verdict(), *marks])

    def _repr_html_(self) -> str:
        names = ["", "check", "culprits", "figures", "what it shows", "what to do"]
        head = "".join(f'<th style="text-align:left">{name}</th>' for name in names)
        body = "".join(map(_html_row, self.findings))
        return (
            f"<p><b>{escape(self._verdict())}</b></p><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        )


def _line(finding: Finding) -> str:
    named = f"{finding.check}: {finding.named}" if finding.culprits else finding.check
    return "; ".join(part for part in (named, finding.detail, finding.remedy) if part)


def _html_row(finding: Finding) -> str:
    cells = [
        "✓" if finding.passed else "✗",
        finding.check,
        finding.named,
        finding.detail,
        finding.meaning,
        finding.remedy,
    ]
    row = "".join(f'<td style="text-align:left">{escape(cell)}</td>' for cell in cells)
    style = "font-weight:normal" if finding.passed else f"color:{_LEAK};font-weight:bold"
    return f'<tr style="{style}">{row}</tr>'
