"""Looking at prices before anything is trained on them: their source, their quality, and whether they suffice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import count
from typing import Literal

import pandas as pd

from forecastlib.config import RunConfig
from forecastlib.data.quality import QualityReport, check_quality
from forecastlib.errors import DataQualityError, ForecastError
from forecastlib.features import warm_up
from forecastlib.samples.dataset import prepare

Level = Literal["good", "note", "warning", "error"]
_SEVERITY: dict[str, Level] = {"error": "error", "warning": "warning", "note": "note"}
_SPANS = 5  # longest horizons a set should span: labels nearer than one horizon overlap, and tell little anew


@dataclass(frozen=True)
class Finding:
    """One thing that is to be known about prices.

    Parameters
    ----------
    level
        ``good``, ``note``, ``warning``, or ``error``: as they are, these prices cannot be trained on.
    subject
        What it is about, in a word or two.
    text
        What was found.
    remedy
        What to do about it; empty if nothing is to be done.
    """

    level: Level
    subject: str
    text: str
    remedy: str = ""


def findings_table(findings: Sequence[Finding]) -> pd.DataFrame:
    """Return findings as a table, one row each, for showing in a notebook."""
    return pd.DataFrame([asdict(finding) for finding in findings]).set_index("subject")


def examine(prices: pd.DataFrame, config: RunConfig | None = None) -> list[Finding]:
    """Examine fetched prices: their source, range, quality and calendar, and whether they suffice for training.

    Parameters
    ----------
    prices
        Prices as a source gave them.
    config
        The run they are meant for.

    Returns
    -------
    list of Finding
    """
    config = config or RunConfig()
    report = check_quality(prices, calendar=config.data.calendar)
    return [*_origin(prices), *_quality(report), _training(prices, config)]


def sessions_needed(config: RunConfig | None = None) -> int:
    """Count the sessions without which some set of the split would be empty.

    They are the features' warm-up, one window's lookback, the labelled origins of which each set keeps one after
    purging, and the longest horizon behind the last of them.

    Examples
    --------
    252 of warm-up, 59 before the first origin, 195 labelled origins (136, 30 and 29, of which the purge leaves 107, 1
    and 29), and 30 behind the last:

    >>> sessions_needed()
    536
    """
    config = config or RunConfig()
    longest = config.window.horizons[-1]
    lost = longest + config.split.embargo  # a set must be this long, so that purging leaves one of it
    train, both = config.split.train_share, config.split.train_share + config.split.validation_share
    for origins in count(1):
        first, second = round(train * origins), round(both * origins)
        if first >= lost and second - first >= lost and origins > second:
            break
    return warm_up(config.features) + config.window.lookback - 1 + origins + longest


def _origin(prices: pd.DataFrame) -> list[Finding]:
    attrs = prices.attrs
    first, last = prices.index[0], prices.index[-1]
    findings = [
        Finding(
            "warning",
            "failed before",
            failure,
            "set right what it says, or leave that source out",
        )
        for failure in attrs.get("failures", [])
    ]
    kept = f", fetched {attrs['fetched_at'][:16]} UTC" if "fetched_at" in attrs else ""
    adjusted = ", scaled by the adjusted close" if attrs.get("adjusted") else ""
    findings.append(Finding("good", "source", f"{attrs.get('source', 'unknown')}{kept}{adjusted}"))
    findings.append(Finding("good", "range", f"{len(prices):,} sessions from {first:%Y-%m-%d} to {last:%Y-%m-%d}"))
    findings += [Finding("note", "reading", note) for note in attrs.get("notes", [])]
    return findings


def _quality(report: QualityReport) -> list[Finding]:
    level: Level = "good" if report.passed else "error"
    findings = [
        Finding(level, "quality", f"{'passed' if report.passed else 'failed'}, score {report.score:.1f} of 100"),
        Finding("good", "calendar", report.calendar),
    ]
    for result in report.results:
        if result.status == "failed":
            text = "; ".join(filter(None, [f"{result.count:,} found", result.first_dates, result.detail]))
            findings.append(Finding(_SEVERITY[result.severity], result.check, text, result.remedy))
        elif result.status != "passed":
            findings.append(Finding("note", result.check, f"{result.status}: {result.detail}"))
    return findings


def _training(prices: pd.DataFrame, config: RunConfig) -> Finding:
    needed = sessions_needed(config)
    longest = config.window.horizons[-1]
    shares = config.split
    split = f"{shares.train_share:.0%} / {shares.validation_share:.0%} / rest, purged by {longest + shares.embargo}"
    bill = f"warm-up {warm_up(config.features)}, lookback {config.window.lookback}, horizon {longest}, split {split}"
    if len(prices) < needed:
        return Finding(
            "error",
            "training",
            f"{len(prices):,} sessions; at least {needed:,} are needed ({bill})",
            "fetch a longer history, keep fewer features (groups, names), or choose shorter horizons or lookback",
        )
    try:
        sets = prepare(prices, config).split.sets()
    except DataQualityError as error:
        return Finding("error", "training", str(error), "repair(prices), or mend the source")
    except ForecastError as error:
        return Finding("error", "training", str(error), "choose other settings")
    sizes = ", ".join(f"{name} {len(index):,}" for name, index in sets.items())
    text = f"{sizes} samples of {len(prices):,} sessions, {needed:,} needed ({bill})"
    if min(map(len, sets.values())) < _SPANS * longest:
        return Finding(
            "warning", "training", f"{text}; a set spans fewer than {_SPANS} horizons", "fetch a longer history"
        )
    return Finding("good", "training", text)
