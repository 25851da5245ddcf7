"""The audit: all checks for leaks on one forecaster, and their report."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from forecastlib.auditing.checks import CANARY, CHECKS, AuditedRun
from forecastlib.checks import Report, run_checks
from forecastlib.config import RunConfig
from forecastlib.data.prices import require_prices
from forecastlib.errors import ConfigError, LeakageError
from forecastlib.forecaster import Forecaster
from forecastlib.models import Model
from forecastlib.recipe import Recipe, Samples

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FEATURE_CHECKS = ("future_cut_off", "future_changed", "served_features")
"""The checks that compute features again."""

SET_CHECKS = ("windows", "labels", "unlabelled_tail", "label_overlap", "scalers", "calibration")
"""The quick checks of samples that are given, which need no features and fit no model: run before every training."""

MODEL_CHECKS = ("model_predictions", "model_fit")
"""The checks of the model, which fit it twice on recent sessions; the first one needs no fit if it is fitted."""

MIN_SHUFFLES = 10
"""With fewer, even skills that are all above 0 could not be told from chance."""


@dataclass(frozen=True, eq=False, repr=False)
class AuditReport(Report):
    """The result of :func:`audit`."""

    error = LeakageError
    expectation = "no leaks"

    def metrics(self) -> dict[str, float]:
        """Return metrics for a run: number of checks, of those passed, and the mean skill with shuffled targets."""
        metrics = {
            "audit_checks": float(len(self.findings)),
            "audit_checks_passed": float(sum(finding.status == "passed" for finding in self.findings)),
        }
        skills = {finding.check: finding.figures for finding in self.findings}.get(CANARY)
        if skills is not None:
            metrics |= {f"audit_canary_skill_{h}d": float(skills[h].iloc[1:].mean()) for h in skills.columns}
        return metrics

    def plot(self) -> Figure:
        """Draw the skill on the test set after learning from shuffled targets, and from the real ones.

        Returns
        -------
        matplotlib.figure.Figure
            Not registered with pyplot, so there is nothing to close.

        Raises
        ------
        ConfigError
            If the check ``shuffled_targets`` was not run.
        """
        from matplotlib.figure import Figure

        from forecastlib.drawing import BLUE, GREY, RED

        skills = self.finding(CANARY).figures
        assert skills is not None, "this check always measures skills"
        figure = Figure(figsize=(10, 0.9 + 0.55 * len(skills.columns)), layout="constrained")
        axes = figure.subplots()
        axes.axvline(0.0, color=GREY, linewidth=0.8)
        for line, horizon in enumerate(skills.columns[::-1]):
            shuffled = skills[horizon].iloc[1:]
            axes.plot(shuffled, [line] * len(shuffled), "|", markersize=14, color=BLUE)
            axes.plot(skills[horizon].iloc[0], line, "D", markersize=6, color=RED)
        axes.plot([], [], "|", markersize=14, color=BLUE, label="shuffled targets, one mark per shuffle")
        axes.plot([], [], "D", markersize=6, color=RED, label="real targets")
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, 1.35), ncols=2, frameon=False, fontsize="small")
        axes.set_yticks(range(len(skills.columns)), [f"{horizon} sessions ahead" for horizon in skills.columns[::-1]])
        axes.set_ylim(-0.6, len(skills.columns) - 0.4)
        axes.set_xlabel("skill on the test set against the best constant")
        axes.spines[["top", "right"]].set_visible(False)
        return figure


def audit(
    prices: pd.DataFrame,
    config: RunConfig | Forecaster | Model | str | None = None,
    *,
    recipe: Recipe | None = None,
    model: str | Model | None = None,
    samples: Samples | None = None,
    checks: Collection[str] = (),
    shuffles: int = 20,
    seed: int = 0,
) -> AuditReport:
    """Look for leaks of the future anywhere between prices and a score.

    Nothing is assumed: features are computed again without the future and with a different one, scalers and the model
    are fitted again with everything they must not see replaced, labels are compared with prices, and a learner is
    fitted on targets that cannot be learned.

    Parameters
    ----------
    prices
        Prices of one symbol.
    config
        What to examine: a configuration; a model, by name or object; or a :class:`~forecastlib.Forecaster`, whose
        configuration, recipe and model are examined as they are. None: the default configuration.
    recipe
        The steps to examine; None: those of the library, or of the forecaster that is given.
    model
        The model to examine, by name or object; None: the one that the configuration names.
    samples
        Samples that the recipe has already prepared from the same prices and configuration; they are examined as they
        are, and not prepared again.
    checks
        Names of the checks to run, out of :data:`CHECKS`; empty: all.
    shuffles
        How often targets are shuffled for the two checks of skill, at least :data:`MIN_SHUFFLES`.
    seed
        Seed of the shuffles, and of the values that replace the future.

    Returns
    -------
    AuditReport
        ``.passed``, ``.checks``, ``.affected()``, ``.raise_for_errors()``, ``.plot()``, ``.metrics()``.

    Raises
    ------
    ConfigError
        If a check is unknown, there are too few shuffles, or more than one model is given.
    DataQualityError, NotEnoughDataError
        If the prices are not usable, or too few for the three sets.

    Notes
    -----
    What passing shows: on the dates tried, nothing of the future enters a feature or a forecast; labels, sets, scalers
    and calibration are separated as they must be; and the evaluation itself creates no skill. What it does not show:
    that no feature looks ahead on a date that was not tried, that a model was not chosen by its test score over many
    runs, that the prices were known on their dates (revised or adjusted data), or that any skill is real.

    A model that is not fitted is fitted on the newest sessions only, networks for a single step: whether it looks ahead
    depends on its code and not on how well it is trained. Copies are fitted, so a model that is given does not change.

    Examples
    --------
    >>> from forecastlib.data.sources import open_source
    >>> report = audit(open_source("bundled").fetch("^IXIC"), checks=("label_overlap", "unlabelled_tail"))
    >>> report.passed, report.checks["measured"].tolist()
    (True, [0.0, 0.0])
    """
    require_prices(prices)
    if shuffles < MIN_SHUFFLES:
        raise ConfigError(f"expected at least {MIN_SHUFFLES} shuffles; got {shuffles}")
    run = AuditedRun(prices, _forecaster(config, model, recipe), samples, shuffles, seed)
    span = f"{len(prices):,} sessions, {prices.index[0]:%Y-%m-%d} to {prices.index[-1]:%Y-%m-%d}"
    title = f"{prices.attrs.get('symbol') or 'prices'} ({span})"
    return AuditReport(title, run_checks(CHECKS.values(), run, checks))


def _forecaster(
    examined: RunConfig | Forecaster | Model | str | None, model: str | Model | None, recipe: Recipe | None
) -> Forecaster:
    """Return the forecaster to examine: the one that is given, or one that is made of what is given."""
    if examined is None or isinstance(examined, RunConfig):
        return Forecaster(examined, model=model, recipe=recipe)
    if model is not None:
        raise ConfigError(
            f"expected one model to audit; got both {type(examined).__name__} as the second argument and model="
        )
    if not isinstance(examined, Forecaster):
        return Forecaster(model=examined, recipe=recipe)
    return examined if recipe is None else Forecaster(examined.config, recipe=recipe)
