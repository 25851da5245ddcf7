"""The audit: every check of the catalogue made on one recipe."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

import pandas as pd

from forecastlib.auditing import feature_checks, set_checks, skill_checks
from forecastlib.auditing.recipe import Recipe
from forecastlib.auditing.report import CANARY, AuditReport, Finding
from forecastlib.auditing.subject import Evidence, Subject
from forecastlib.config import RunConfig, unknown_name
from forecastlib.data.prices import require_prices
from forecastlib.errors import ConfigError


@dataclass(frozen=True)
class Check:
    """One check: its name, how it examines, what it shows, and what to do if it finds a leak."""

    name: str
    examine: Callable[[Subject], Evidence]
    meaning: str
    remedy: str


CHECKS = {
    check.name: check
    for check in (
        Check(
            "future_cut_off",
            feature_checks.future_cut_off,
            "no feature uses sessions after its own",
            "compute the feature from its own session and those before it",
        ),
        Check(
            "future_changed",
            feature_checks.future_changed,
            "no feature uses values after its own session, nor is filled from them",
            "compute the feature from its own session and those before it; leave unknown values unknown",
        ),
        Check(
            "served_features",
            feature_checks.served_features,
            "a date has the same features in serving as in training, to the last bit",
            "compute features in serving by the same code, from a bounded past",
        ),
        Check(
            "windows",
            set_checks.windows_end_at_their_origin,
            "a window ends with the session after whose close the forecast is made",
            "take the rows origin - lookback + 1 ... origin",
        ),
        Check(
            "labels",
            set_checks.labels_are_what_came,
            "a label is what the close came to, that many sessions after the origin",
            "count the horizon from the origin, in rows of the prices",
        ),
        Check(
            "unlabelled_tail",
            set_checks.tail_is_unlabelled,
            "what has not come yet is no label",
            "leave the labels of the newest sessions missing, and such samples out of every set",
        ),
        Check(
            "label_overlap",
            set_checks.labels_do_not_overlap,
            "no label of a set is known after the first origin of the next",
            "drop the samples between two sets whose labels reach into the later one",
        ),
        Check(
            "scalers",
            set_checks.scalers_know_training_alone,
            "scalers are fitted on what training sees, and on nothing else",
            "fit the scalers after the split, on training rows and their targets",
        ),
        Check(
            "calibration",
            set_checks.calibration_comes_before_the_test,
            "ranges are calibrated on nothing that the test set is scored on",
            "calibrate on sessions whose outcomes are known by the first test origin",
        ),
        Check(
            "single_features",
            skill_checks.skill_of_single_features,
            "no feature by itself foretells more than luck and any honest predictor would",
            "look for the future in the prices themselves: smoothed, interpolated or misdated values",
        ),
        Check(
            CANARY,
            skill_checks.skill_of_shuffled_targets,
            "where nothing can be learned, the evaluation sees no skill",
            "keep the labels of the test set out of everything that makes, corrects or chooses forecasts",
        ),
    )
}
"""All checks by name, along the way from prices to a score."""

FEATURE_CHECKS = ("future_cut_off", "future_changed", "served_features")
"""The checks that compute features again."""

SET_CHECKS = ("windows", "labels", "unlabelled_tail", "label_overlap", "scalers", "calibration")
"""The checks that take no time: each training makes them before it begins."""

FEWEST_SHUFFLES = 10
"""With fewer, even skills that are all above 0 could not be told from luck."""


def audit(
    prices: pd.DataFrame,
    config: RunConfig | None = None,
    *,
    recipe: Recipe | None = None,
    checks: Collection[str] = (),
    shuffles: int = 20,
    seed: int = 0,
) -> AuditReport:
    """Look for leaks of the future on the whole way from prices to a score, and name the culprits.

    Nothing is taken on trust: features are computed again without the future and with another one, scalers fitted
    again without the later sets, labels held against the prices; a learner is fitted on targets that cannot be learned.

    Parameters
    ----------
    prices
        Prices of one symbol.
    config
        The run to examine; None: the defaults.
    recipe
        The parts to examine; None: the library's own.
    checks
        Names of the checks to make, out of :data:`CHECKS`; empty: all.
    shuffles
        How often targets are shuffled for the two checks of skill, at least :data:`FEWEST_SHUFFLES`.
    seed
        Seed of the shuffles, and of the nonsense that replaces the future.

    Returns
    -------
    AuditReport
        ``.passed``, ``.checks``, ``.culprits()``, ``.raise_for_errors()``, ``.plot()``, ``.metrics()``.

    Raises
    ------
    ConfigError
        If a check is unknown, or the shuffles are too few.
    DataQualityError, NotEnoughDataError
        If the prices are not usable, or too few for the three sets.

    Notes
    -----
    What passing shows: at the dates tried, nothing of the future enters a feature; labels, sets, scalers and
    calibration are apart as they must be; and the way forecasts are scored hands out no skill. What it does not show:
    that no feature looks ahead on a date that was not tried, that a model was not chosen by its test score over many
    runs, that the prices were known on their dates (revised or adjusted data), or that any skill is real.

    Examples
    --------
    >>> from forecastlib.data.sources import open_source
    >>> report = audit(open_source("bundled").fetch("^IXIC"), checks=("label_overlap", "unlabelled_tail"))
    >>> report.passed, report.checks["measured"].tolist()
    (True, [0.0, 0.0])
    """
    require_prices(prices)
    for name in checks:
        if name not in CHECKS:
            raise ConfigError(unknown_name("check", name, CHECKS))
    if shuffles < FEWEST_SHUFFLES:
        raise ConfigError(f"expected at least {FEWEST_SHUFFLES} shuffles; got {shuffles}")
    subject = Subject(prices, config or RunConfig(), recipe or Recipe(), shuffles, seed)
    chosen = [check for name, check in CHECKS.items() if not checks or name in checks]
    span = f"{len(prices):,} sessions, {prices.index[0]:%Y-%m-%d} to {prices.index[-1]:%Y-%m-%d}"
    title = f"{prices.attrs.get('symbol') or 'prices'} ({span})"
    return AuditReport(title, tuple(_finding(check, check.examine(subject)) for check in chosen))


def _finding(check: Check, evidence: Evidence) -> Finding:
    passed = not evidence.culprits
    return Finding(
        check=check.name,
        passed=passed,
        culprits=evidence.culprits,
        measured=evidence.measured,
        detail=evidence.detail,
        meaning=check.meaning,
        remedy="" if passed else check.remedy,
        figures=evidence.figures,
    )
