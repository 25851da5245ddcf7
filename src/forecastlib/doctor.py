"""Examining prices before anything is trained on them: their source, their quality, and whether they suffice."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from itertools import count
from typing import ClassVar

import pandas as pd

from forecastlib.checks import Check, Outcome, Report, run_checks
from forecastlib.config import RunConfig
from forecastlib.data.calendars import LAST_YEAR, known_range
from forecastlib.data.quality import check_quality
from forecastlib.data.quality_checks import frequency_of
from forecastlib.errors import DataQualityError, ForecastError
from forecastlib.features import compute_features, warm_up
from forecastlib.samples.splits import holdout
from forecastlib.samples.windows import make_windows

MIN_HORIZONS_PER_SET = 5
"""Longest horizons that a set should span: labels less than one horizon apart overlap and add little evidence."""


@dataclass(frozen=True, eq=False, repr=False)
class Diagnosis(Report):
    """The result of :func:`examine`: facts about the prices, and a report on their quality and on training.

    Attributes
    ----------
    facts : mapping of str to str
        ``source sessions frequency calendar quality notes training``, each in a few words.
    """

    facts: Mapping[str, str]

    error: ClassVar = DataQualityError
    expectation: ClassVar = "prices to train on"

    def _repr_html_(self) -> str:
        """Return the facts and the report as HTML tables."""
        cells = '<td style="text-align:left"><b>{}</b></td><td style="text-align:left">{}</td>'
        rows = "".join(f"<tr>{cells.format(escape(name), escape(text))}</tr>" for name, text in self.facts.items())
        return f"<table><tbody>{rows}</tbody></table>{super()._repr_html_()}"


def examine(prices: pd.DataFrame, config: RunConfig | None = None, *, as_of: dt.date | None = None) -> Diagnosis:
    """Examine fetched prices: their source, range, quality and calendar, and whether they suffice for training.

    Parameters
    ----------
    prices
        Prices as a source returned them.
    config
        The run they are meant for; None: the defaults.
    as_of
        The day up to which the prices should reach; None: their age is not judged.

    Returns
    -------
    Diagnosis
        Displays itself as tables; ``.passed`` if the prices can be trained on, ``.facts``, ``.checks``.
    """
    config = config or RunConfig()
    quality = check_quality(prices, **config.data.quality, as_of=as_of)
    training = _Training(prices, config)
    findings = run_checks(TRAINING_CHECKS, training)
    attrs = prices.attrs
    fetched = f", fetched {attrs['fetched_at'][:16]} UTC" if "fetched_at" in attrs else ""
    adjusted = ", scaled by the adjusted close" if attrs.get("adjusted") else ""
    newest = pd.Timestamp(prices.index[-1])
    age = "" if as_of is None else f", the newest {max((as_of - newest.date()).days, 0):,} days old"
    known_to = known_range(quality.calendar)[1]
    ends = "" if known_to.year >= LAST_YEAR else f", holidays known up to {known_to:%Y-%m-%d}, then its weekdays"
    facts = {
        "source": f"{attrs.get('source', 'unknown')}{fetched}{adjusted}",
        "sessions": f"{len(prices):,} from {prices.index[0]:%Y-%m-%d} to {newest:%Y-%m-%d}{age}",
        "frequency": frequency_of(pd.DatetimeIndex(prices.index)),
        "calendar": f"{quality.calendar} ({quality.calendar_reason}){ends}",
        "quality": f"{'passed' if quality.passed else 'failed'}, score {quality.score:.1f} of 100",
        "training": training.detail if training.sizes else "not possible",
        "notes": "; ".join(attrs.get("notes", [])) or "none",
    }
    return Diagnosis(title=quality.symbol or "prices", findings=(*quality.findings, *findings), facts=facts)


def sessions_needed(config: RunConfig | None = None) -> int:
    """Return the number of sessions below which some set of the split would be empty.

    It is the sum of the features' warm-up, the lookback of one window, the labelled origins of which each set keeps one
    after purging, and the longest horizon after the last of them.

    Examples
    --------
    252 of warm-up, 59 before the first origin, 195 labelled origins (136, 30 and 29, of which the purge leaves 107, 1
    and 29), and 30 after the last:

    >>> sessions_needed()
    536
    """
    config = config or RunConfig()
    longest = config.window.horizons[-1]
    lost = longest + config.split.embargo  # a set must be this long for purging to leave one origin in it
    train, both = config.split.train_share, config.split.train_share + config.split.validation_share
    for origins in count(1):
        first, second = round(train * origins), round(both * origins)
        if first >= lost and second - first >= lost and origins > second:
            break
    return warm_up(config.features) + config.window.lookback - 1 + origins + longest


class _Training:
    """The sizes of the sets that a run would have of some prices, empty if it is not possible, and the reason."""

    def __init__(self, prices: pd.DataFrame, config: RunConfig) -> None:
        self.prices, self.longest, self.sizes = prices, config.window.horizons[-1], dict[str, int]()
        shares, sessions, enough = config.split, f"{len(prices):,} sessions", sessions_needed(config)
        needed = (
            f"{enough:,} needed (warm-up {warm_up(config.features)}, lookback {config.window.lookback}, horizon "
            f"{self.longest}, split {shares.train_share:.0%} / {shares.validation_share:.0%} / rest, purged by "
            f"{self.longest + shares.embargo})"
        )
        if len(prices) < enough:
            self.detail = f"{sessions}; {needed}"
            return
        try:
            windows = make_windows(prices, compute_features(prices, config.features), config.window)
            self.sizes = {name: len(index) for name, index in holdout(windows, shares).sets().items()}
        except ForecastError as error:
            self.detail = str(error)
            return
        sets = ", ".join(f"{name} {size:,}" for name, size in self.sizes.items())
        self.detail = f"{sets} samples of {sessions}, {needed}"


def _earlier_sources(training: _Training) -> Outcome:
    failures = training.prices.attrs.get("failures", [])
    return Outcome("failed" if failures else "passed", len(failures), detail="; ".join(failures))


def _training_possible(training: _Training) -> Outcome:
    return Outcome("passed" if training.sizes else "failed", len(training.prices), detail=training.detail)


def _set_sizes(training: _Training) -> Outcome:
    if not training.sizes:
        return Outcome("not applicable", detail="there are no sets")
    smallest, longest = min(training.sizes.values()), training.longest
    enough = smallest >= MIN_HORIZONS_PER_SET * longest
    detail = f"the smallest set has {smallest:,} samples, {smallest / longest:.1f} horizons of {longest} sessions"
    return Outcome("passed" if enough else "failed", smallest, detail=detail)


TRAINING_CHECKS = (
    Check(
        "earlier_sources",
        _earlier_sources,
        severity="warning",
        meaning="no preferred source failed",
        remedy="correct what the message says, or leave that source out",
    ),
    Check(
        "training_possible",
        _training_possible,
        meaning="there are enough sound sessions for every set",
        remedy="fetch a longer history, use fewer features (groups, names), choose shorter horizons or lookback, or "
        "REPAIR=true if values are wrong",
    ),
    Check(
        "set_sizes",
        _set_sizes,
        severity="warning",
        meaning=f"every set spans at least {MIN_HORIZONS_PER_SET} of the longest horizons",
        remedy="fetch a longer history",
    ),
)
"""What is examined besides the quality of the prices."""
