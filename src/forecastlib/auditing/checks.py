"""The checks of the audit: each takes a run and tries one way in which the future could reach a forecast or a score.

================  ======================================================================================================
perturbation      ``future_cut_off``, ``future_changed``, ``served_features``, ``scalers``, ``model_predictions``,
                  ``model_fit``: the future is removed or replaced by arbitrary values, and nothing may change. Values
                  are compared to the last bit: a leak may be as small as the rounding of a sum over the whole series.
comparison        ``windows``, ``labels``, ``unlabelled_tail``, ``label_overlap``, ``calibration``: exact.
skill             ``single_features``, ``shuffled_targets``: statistical, against the spread of shuffles.
================  ======================================================================================================

The checks of skill find what perturbation cannot. *Shuffled targets* catch an evaluation that hands the answer to what
it evaluates: forecasts that are centred, blended or chosen by test labels keep a skill although nothing could be
learned. They do not catch a feature that knows the future, because shuffling destroys its relation to the targets.
*Single features* catch that, even if the future came in with the prices (smoothed, interpolated or misdated by their
provider), which leaves every feature perfectly causal.
"""

from __future__ import annotations

import copy
import itertools
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import wilcoxon

from forecastlib.checks import NO_DATES, Check, Outcome
from forecastlib.config import RunConfig
from forecastlib.errors import NotFittedError
from forecastlib.features import warm_up
from forecastlib.forecaster import Forecaster
from forecastlib.models import Model, create
from forecastlib.models.base import is_built_in
from forecastlib.models.tabular import Ridge
from forecastlib.recipe import Recipe, Samples
from forecastlib.samples.windows import Windows

Floats = npt.NDArray[np.float64]
Index = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
Number = TypeVar("Number", np.float32, np.float64)

EVEN_CUTS = 12
"""Cuts spread evenly over the history, besides those on revealing dates."""

SERVED_ORIGINS = 6
"""Origins at which the features of training and serving are compared."""

INSPECTED_WINDOWS = 7
"""Windows that are inspected row by row; of the others only the last row."""

TRIED_ORIGINS = 5
"""Test origins at which forecasts of the model are compared."""

RECENT_SAMPLES = 1000
"""Newest samples that a model is fitted on when it is only fitted for the audit."""

LABEL_TOLERANCE = 1e-9
"""Relative error of a price that went through a logarithm and back."""

QUICK = {"epochs": 1, "batch_size": RECENT_SAMPLES, "lstm_units": [4], "dense_units": [4], "branch_units": 4}
"""Settings of such a fit: whether a network looks ahead depends on its code, not on its size or training."""

SIGNIFICANCE = 0.001
"""Probability under no skill below which the skills with shuffled targets count as a leak."""

GENUINE_SKILL = 0.10
"""Skill that a feature may have beyond chance. The best known predictors of monthly index returns have an out-of-sample
R2 of 0.01 or less, a few per cent at longer horizons (Campbell and Thompson, "Predicting Excess Stock Returns Out of
Sample", *Review of Financial Studies* 21, 2008); this is far above it."""

OWN_RETURN = "return of the session"
"""The name of what is tried besides the features."""

CANARY = "shuffled_targets"
"""The check whose skills are drawn and logged."""


@dataclass(frozen=True, eq=False)
class AuditedRun:
    """Prices and a forecaster, and what its recipe makes of them, each part computed once and only if needed.

    Attributes
    ----------
    prices : DataFrame
        Prices of one symbol.
    forecaster : Forecaster
        Fitted or not; its configuration and its recipe are examined.
    given_samples : Samples or None
        What the recipe has already made of the prices.
    shuffles : int
        How often targets are shuffled.
    seed : int
        Seed of the values that replace the future, and of the shuffles.
    """

    prices: pd.DataFrame
    forecaster: Forecaster
    given_samples: Samples | None
    shuffles: int
    seed: int

    @property
    def config(self) -> RunConfig:
        """The configuration."""
        return self.forecaster.config

    @property
    def recipe(self) -> Recipe:
        """The steps from prices to a forecast."""
        return self.forecaster.recipe

    @cached_property
    def features(self) -> pd.DataFrame:
        """Features of the whole history."""
        return self.recipe.features(self.prices, self.config.features)

    @cached_property
    def samples(self) -> Samples:
        """The samples, divided and scaled."""
        if self.given_samples is not None:
            return self.given_samples
        windows = self.recipe.windows(self.prices, self.features, self.config.window)
        return self.recipe.divide(windows, self.config)

    @cached_property
    def positions(self) -> Index:
        """The row of the prices that is the origin of each sample, -1 where there is none."""
        return np.asarray(self.prices.index.get_indexer(self.samples.windows.origins), dtype=np.int64)

    @cached_property
    def cut_rows(self) -> tuple[int, ...]:
        """Rows at which the future is cut off, ascending; each has a future and complete features.

        The first and the last possible row, some spread evenly, and dates that reveal looking ahead: before the end of
        a month and of a year (a feature may wait for either) and before the largest move (a feature may smooth it).
        """
        rows = np.arange(warm_up(self.config.features) + 1, len(self.prices) - 1)
        index = pd.DatetimeIndex(self.prices.index)
        moves = np.abs(np.diff(np.log(self.prices["close"].to_numpy())))
        chosen = [rows[moves[rows].argmax()], *rows[_spread(len(rows), EVEN_CUTS)]]
        for period in (index.month, index.year):
            ends = rows[period[rows] != period[rows + 1]]
            if len(ends):
                end = ends[len(ends) // 2]
                chosen += [end, max(end - 1, rows[0])]
        return tuple(sorted({int(row) for row in chosen}))

    @cached_property
    def recent_samples(self) -> Samples:
        """Samples of the newest sessions, for a quick fit of the model."""
        config = self.config
        gaps = 4 * (config.window.horizons[-1] + config.split.embargo)
        sessions = RECENT_SAMPLES + warm_up(config.features) + config.window.lookback + gaps
        return self.recipe.prepare(self.prices.iloc[-sessions:], config)

    @cached_property
    def quick_model(self) -> Model:
        """The model after a quick fit on :attr:`recent_samples`."""
        return self.fit_quickly(self.recent_samples)

    def fit_quickly(self, samples: Samples) -> Model:
        """Fit a new model; networks are small and make a single step, as most of the time goes into tracing theirs."""
        config = self.config.replace(**QUICK)
        model = self.recipe.model(config)
        # A fitted network cannot be copied, so a built-in model is made anew.
        new = create(model.name, config) if is_built_in(model.name) else None
        unfitted = new if new is not None and type(new) is type(model) else copy.deepcopy(model)
        return unfitted.fit(samples.train, samples.validation)

    def fitted_model(self) -> tuple[Model, Windows]:
        """Return the model of the forecaster and its test set; after a quick fit if the forecaster is not fitted."""
        try:
            model = self.forecaster.model
        except NotFittedError:
            return self.quick_model, self.recent_samples.test
        return model, self.forecaster.scaling.apply(self.samples.test)


Examine = Callable[[AuditedRun], Outcome]

CHECKS: dict[str, Check[AuditedRun]] = {}
"""All checks by name, in the order in which prices become a score."""


def _check(*, meaning: str, remedy: str) -> Callable[[Examine], Examine]:
    """Add the decorated function to :data:`CHECKS`, under its name."""

    def add(examine: Examine) -> Examine:
        CHECKS[examine.__name__] = Check(examine.__name__, examine, meaning=meaning, remedy=remedy)
        return examine

    return add


# Features


@_check(
    meaning="no feature uses sessions after its own",
    remedy="compute the feature from its own session and those before it",
)
def future_cut_off(run: AuditedRun) -> Outcome:
    """Compute features from prices that end at a date; the features up to that date must stay the same."""
    return _changed_features(run, run.cut_rows, lambda row: run.prices.iloc[: row + 1], "cut off")


@_check(
    meaning="no feature uses values after its own session, nor is it filled from them",
    remedy="compute the feature from its own session and those before it; leave unknown values missing",
)
def future_changed(run: AuditedRun) -> Outcome:
    """Compute features from prices with another future; the features up to its beginning must stay the same.

    One of the dates lies inside the warm-up, where a value that is filled backwards would appear.
    """
    rows = (run.cut_rows[0] // 2, *run.cut_rows)
    return _changed_features(run, rows, lambda row: prices_with_other_future(run.prices, row, run.seed), "changed")


def _changed_features(
    run: AuditedRun, rows: tuple[int, ...], altered: Callable[[int], pd.DataFrame], how: str
) -> Outcome:
    """Compare features up to each row with those computed from prices that are altered after it."""
    names, index, known = run.features.columns, pd.DatetimeIndex(run.features.index), run.features.to_numpy()
    dates, count = NO_DATES, np.zeros(len(names), dtype=np.int64)
    for row in rows:
        again = run.recipe.features(altered(row), run.config.features)
        differ = _differ(known[: row + 1], again.reindex(index=index[: row + 1], columns=names).to_numpy())
        dates = dates.union(index[: row + 1][np.asarray(differ.any(axis=1))])
        count += differ.sum(axis=0)
    detail = f"the future {how} on {len(rows)} dates: {int(count.sum()):,} values of {len(names)} features changed"
    return _outcome(names[count > 0], count.sum(), detail, dates=dates)


@_check(
    meaning="a date has the same features in serving as in training, to the last bit",
    remedy="compute features in serving by the same code, from a bounded number of sessions",
)
def served_features(run: AuditedRun) -> Outcome:
    """Compare the window of an origin in training and in serving.

    In serving it is computed from prices that end at the origin, and from only the newest ``sessions_needed`` of them.
    """
    needed = run.forecaster.sessions_needed
    possible = np.flatnonzero(run.positions >= needed - 1)
    chosen = possible[_spread(len(possible), SERVED_ORIGINS)]
    counts: Counter[str] = Counter()
    first = ""
    for i in chosen:
        row = int(run.positions[i])
        for way, start in (("prices that end there", 0), (f"the newest {needed} sessions", row + 1 - needed)):
            served = run.recipe.serve(run.prices.iloc[start : row + 1], run.config)
            counts += _differing(run.samples.windows.take([i]), served.take([len(served) - 1]))
            if counts and not first:
                first = f"; first at {run.prices.index[row]:%Y-%m-%d} from {way}"
    detail = (
        f"{len(chosen)} origins, each from prices that end there and from the newest {needed} sessions: "
        f"{counts.total():,} values differ from training{first}"
    )
    return _outcome(counts, counts.total(), detail)


def _differing(trained: Windows, served: Windows) -> Counter[str]:
    """Count the values that differ, by feature; a feature that one of them lacks differs throughout."""
    expected = pd.DataFrame(trained.X[0], columns=list(trained.feature_names))
    got = pd.DataFrame(served.X[0], columns=list(served.feature_names))
    names = expected.columns.union(got.columns, sort=False)
    differ = _differ(expected.reindex(columns=names).to_numpy(), got.reindex(columns=names).to_numpy())
    counts = Counter({str(name): int(count) for name, count in zip(names, differ.sum(axis=0), strict=True) if count})
    origin = ("origins", "last_close", "volatility")
    return counts + Counter(name for name in origin if getattr(trained, name)[0] != getattr(served, name)[0])


# Samples and sets


@_check(
    meaning="a window ends with the session after whose close the forecast is made",
    remedy="take the rows origin - lookback + 1 ... origin",
)
def windows(run: AuditedRun) -> Outcome:
    """Make windows of features that are the number of their row; each must show the rows up to its own origin."""
    windows, lookback, n = run.samples.windows, run.config.window.lookback, len(run.prices)
    numbers = np.repeat(np.arange(n, dtype=np.float64)[:, None], len(windows.feature_names), axis=1)
    numbered = pd.DataFrame(numbers, index=run.prices.index, columns=list(windows.feature_names))
    tried = run.recipe.windows(run.prices, numbered, run.config.window)
    ends = np.asarray(run.prices.index.get_indexer(tried.origins), dtype=np.int64)
    wrong = (ends < lookback - 1) | (tried.last_rows != ends[:, None]).any(axis=1)
    for i in _spread(len(tried), INSPECTED_WINDOWS):
        wrong[i] |= bool((tried.take([i]).X[0] != np.arange(ends[i] - lookback + 1, ends[i] + 1)[:, None]).any())
    closes = np.append(run.prices["close"].to_numpy(), np.nan)[run.positions]  # position -1: NaN, equal to nothing
    misplaced = windows.last_close != closes
    dates = tried.origins[wrong].union(windows.origins[misplaced])
    detail = f"{int(wrong.sum()):,} of {len(tried):,} windows end elsewhere, {int(misplaced.sum())} last closes differ"
    affected = [f"window of {date:%Y-%m-%d}" for date in dates[:3]]
    return _outcome(affected, wrong.sum() + misplaced.sum(), detail, dates=dates)


@_check(
    meaning="a label is the close that many sessions after the origin",
    remedy="count the horizon from the origin, in rows of the prices",
)
def labels(run: AuditedRun) -> Outcome:
    """Compare every label with the close that many sessions later, and its date with that session."""
    windows, close, rows = run.samples.windows, run.prices["close"].to_numpy(), run.positions
    horizons = np.asarray(run.config.window.horizons)
    ahead = rows[:, None] + horizons
    known = (rows >= 0)[:, None] & (ahead < len(close))
    ahead = np.minimum(ahead, len(close) - 1)
    wrong = known & ~(np.abs(windows.to_prices(windows.y) - close[ahead]) <= LABEL_TOLERANCE * close[ahead])
    misdated = known[:, -1] & np.asarray(windows.label_dates != run.prices.index[ahead[:, -1]])
    affected = [f"labels {horizon} sessions ahead" for horizon in horizons[wrong.any(axis=0)]]
    affected += ["label_dates"] if misdated.any() else []
    total = int(wrong.sum() + misdated.sum())
    return _outcome(affected, total, f"{total:,} labels or dates of labels differ from the prices")


@_check(
    meaning="no sample is labelled before its outcome is known",
    remedy="leave the labels of the newest sessions missing, and such samples out of every set",
)
def unlabelled_tail(run: AuditedRun) -> Outcome:
    """Look for labels of outcomes that are not known yet, and for samples without a label in a set."""
    windows, last = run.samples.windows, len(run.prices) - 1
    unknown = run.positions[:, None] + np.asarray(run.config.window.horizons) > last
    tail = unknown.any(axis=1)
    invented = (unknown & ~np.isnan(windows.y)).any(axis=1) | (tail & windows.labelled)
    affected = [f"labels of {_span(windows.origins[invented])}"] if invented.any() else []
    in_sets = {name: int(tail[index].sum()) for name, index in run.samples.split.sets().items()}
    affected += [f"{count} samples of the {name} set" for name, count in in_sets.items() if count]
    total = sum(in_sets.values())
    detail = (
        f"the outcomes of the {int(tail.sum())} newest samples are not known yet; {int(invented.sum())} of them have a "
        f"label, {total} are in a set"
    )
    return _outcome(affected, invented.sum() + total, detail, dates=windows.origins[invented])


@_check(
    meaning="no label of a set becomes known after the first origin of the next set",
    remedy="drop the samples between two sets whose labels reach into the later one",
)
def label_overlap(run: AuditedRun) -> Outcome:
    """Count the labels of a set that become known after the first origin of the next one, less the embargo."""
    windows, sets, embargo = run.samples.windows, run.samples.split.sets(), run.config.split.embargo
    sessions = windows.origins.unique().sort_values()
    affected, counts = [], []
    for (name, earlier), (following, later) in itertools.pairwise(sets.items()):
        first = int(sessions.searchsorted(windows.origins[later].min()))
        latest = sessions[max(first - embargo, 0)]
        # NaT compares as not later: a sample without a label is for another check.
        late = np.asarray(windows.label_dates[earlier] > latest) | np.isin(earlier, later)
        counts.append(int(late.sum()))
        affected += [f"{name} into {following}: {_span(windows.origins[earlier[late]])}"] if late.any() else []
    detail = (
        f"labels known after the first origin of the next set{f', less an embargo of {embargo}' if embargo else ''}: "
        f"train {counts[0]}, validation {counts[1]}; sets of {', '.join(f'{len(index):,}' for index in sets.values())}"
    )
    return _outcome(affected, sum(counts), detail)


@_check(
    meaning="scalers are fitted on the training set only",
    remedy="fit the scalers after the split, on training rows and their targets",
)
def scalers(run: AuditedRun) -> Outcome:
    """Fit the scalers again with everything outside of the training set replaced; they must scale as before."""
    windows, split, scaling = run.samples.windows, run.samples.split, run.samples.scaling
    rows = windows.covered_rows(split.train)
    rng = np.random.default_rng(run.seed)
    altered = replace(
        windows, matrix=_other_values(windows.matrix, rows, rng), y=_other_values(windows.y, split.train, rng)
    )
    again = run.recipe.scaling(altered, split, run.config.model)
    features, targets = windows.matrix[rows], windows.y[split.train]
    moved_features = (scaling.features(features) != again.features(features)).any(axis=0)
    moved_targets = (scaling.targets(targets) != again.targets(targets)).any(axis=0)
    affected = [f"scaler of {name}" for name in np.asarray(windows.feature_names)[moved_features]]
    horizons = np.asarray(run.config.window.horizons)
    affected += [f"scaler of the target {horizon} sessions ahead" for horizon in horizons[moved_targets]]
    last_row, last_label = windows.origins[split.train].max(), windows.label_dates[split.train].max()
    # A scaler that does not state what it was fitted on counts as one that was fitted on everything.
    fitted_to, labels_to = scaling.fitted_to or "the end", scaling.labels_to or "the end"
    affected += ["fitted_to"] if fitted_to > f"{last_row:%Y-%m-%d}" else []
    affected += ["labels_to"] if labels_to > f"{last_label:%Y-%m-%d}" else []
    moved = int(moved_features.sum() + moved_targets.sum())
    detail = (
        f"fitted on rows to {fitted_to} and labels to {labels_to}; training ends on {last_row:%Y-%m-%d}, its labels on "
        f"{last_label:%Y-%m-%d}; {moved} of {len(moved_features) + len(moved_targets)} scales depend on other rows"
    )
    return _outcome(affected, moved, detail)


@_check(
    meaning="intervals are calibrated on nothing that the test set is scored on",
    remedy="calibrate on samples whose outcomes are known by the first test origin",
)
def calibration(run: AuditedRun) -> Outcome:
    """Look for calibration samples in the test set, and for outcomes or prices after the first test origin."""
    samples, windows = run.samples, run.samples.windows
    chosen, tested = samples.calibration, samples.split.test
    first = windows.origins[tested].min()
    shared = np.isin(chosen, tested)
    late = ~np.asarray(windows.label_dates[chosen] <= first) & ~shared  # an unknown label is late
    ends = {
        name: max(prices.index[-1] for prices in part.prices)
        for name, part in (("train", samples.train), ("validation", samples.validation))
    }
    affected = [f"test set: {_span(windows.origins[chosen[shared]])}"] if shared.any() else []
    if late.any():
        affected.append(f"outcomes known after {first:%Y-%m-%d}: {_span(windows.origins[chosen[late]])}")
    affected += [f"prices of the {name} set to {end:%Y-%m-%d}" for name, end in ends.items() if end > first]
    detail = (
        f"{len(chosen):,} samples calibrate; {int(shared.sum())} of them are in the test set, outcomes of "
        f"{int(late.sum())} others are known after its first origin, {first:%Y-%m-%d}; fitting sees prices to "
        f"{max(ends.values()):%Y-%m-%d}"
    )
    return _outcome(affected, shared.sum() + late.sum(), detail, dates=windows.origins[chosen[shared | late]])


# Skill


@_check(
    meaning="no single feature predicts returns better than chance and genuine predictors would",
    remedy="look for the future in the prices themselves: smoothed, interpolated or misdated values",
)
def single_features(run: AuditedRun) -> Outcome:
    """Regress returns on each feature separately, and compare its skill on the test set with chance.

    The return of the session itself is tried as well, whether it is among the features or not: with smoothed prices it
    predicts the next one. The limit, for each horizon and for the very next session, is the best skill that any feature
    reached with shuffled targets, plus :data:`GENUINE_SKILL`.
    """
    windows, split, rows = run.samples.windows, run.samples.split, run.positions
    ahead = np.unique([1, *run.config.window.horizons])
    close = run.prices["close"].to_numpy()
    labelled = (rows >= 0) & (rows + ahead[-1] < len(close))
    train, test = (index[labelled[index]] for index in (split.train, split.test))
    y_train, y_test = (np.log(close[rows[i][:, None] + ahead] / close[rows[i]][:, None]) for i in (train, test))
    session = np.log(close / np.roll(close, 1))  # no origin is the first row
    x_train, x_test = (np.column_stack([windows.last_rows[i], session[rows[i]]]) for i in (train, test))
    skills = _single_skills(x_train, y_train, x_test, y_test)
    rng = np.random.default_rng(run.seed)
    block = _block_length(len(train), int(ahead[-1]))
    shuffled = [
        _single_skills(x_train, y_train[_block_order(len(train), block, rng)], x_test, y_test).max(axis=0)
        for _ in range(run.shuffles)
    ]
    limit = np.max(shuffled, axis=0) + GENUINE_SKILL
    names = np.asarray([*windows.feature_names, OWN_RETURN])
    # The most suspicious first: a smoothed price shows in many features.
    excess = (skills - limit).max(axis=1)
    affected = [names[i] for i in np.argsort(-excess, kind="stable") if excess[i] > 0]
    best = "; ".join(
        f"{h}: {names[i]} {skills[i, k]:+.3f} (limit {limit[k]:.3f})"
        for k, (h, i) in enumerate(zip(ahead, skills.argmax(axis=0), strict=True))
    )
    figures = pd.DataFrame(skills, index=pd.Index(names, name="feature"), columns=ahead.tolist())
    return _outcome(affected, skills.max(), f"best skill of a single feature, {best}", figures=figures)


@_check(
    meaning="where nothing can be learned, the evaluation shows no skill",
    remedy="keep the labels of the test set out of everything that makes, corrects or chooses forecasts",
)
def shuffled_targets(run: AuditedRun) -> Outcome:
    """Fit ridge regression on shuffled targets, many times, and score what the recipe forecasts for the test set.

    Skill is 1 - MSE / MSE of the best constant, the mean of the training targets. With nothing to learn it is 0 or,
    because of fitted noise, less; it varies by chance, and as much above 0 as below. Wilcoxon's signed-rank test
    (one-sided, per horizon) tells whether the skills lie above 0 by more than their own spread explains.

    Targets of training and validation are shuffled in blocks of twice the longest horizon, which preserves the
    autocorrelation of overlapping labels. Targets are log returns, whatever the network learns.
    """
    samples, horizons = run.samples, run.config.window.horizons
    train, validation, test = (_on_log_returns(part) for part in (samples.train, samples.validation, samples.test))
    real = _skill(run, train, validation, test)
    rng = np.random.default_rng(run.seed)
    shuffled = np.array(
        [_skill(run, _shuffled(train, rng), _shuffled(validation, rng), test) for _ in range(run.shuffles)]
    )
    # Skills that are all 0 are no evidence, and nothing that the test could rank.
    significant = [
        skills.any() and wilcoxon(skills, alternative="greater").pvalue < SIGNIFICANCE for skills in shuffled.T
    ]
    mean = shuffled.mean(axis=0)
    step = getattr(run.recipe.predict, "__name__", type(run.recipe.predict).__name__)
    affected = [f"{step}, {h} sessions ahead" for h, found in zip(horizons, significant, strict=True) if found]
    names = ["real", *range(1, len(shuffled) + 1)]
    figures = pd.DataFrame(np.vstack([real, shuffled]), index=pd.Index(names, name="targets"), columns=list(horizons))
    skills = "; ".join(
        f"{h}: {m:+.3f} ± {s:.3f} (real targets {r:+.3f})"
        for h, m, s, r in zip(horizons, mean, shuffled.std(axis=0, ddof=1), real, strict=True)
    )
    return _outcome(affected, mean.max(), f"skill over {run.shuffles} shuffles, {skills}", figures=figures)


def _on_log_returns(samples: Windows) -> Windows:
    config = samples.config.model_copy(update={"target": "log_return"})
    return replace(samples, y=samples.log_returns(samples.y), config=config)


def _skill(run: AuditedRun, train: Windows, validation: Windows, test: Windows) -> Floats:
    forecasts = run.recipe.predict(Ridge(run.config).fit(train, validation), test).median()
    actual, constant = test.labels(), train.labels().mean(axis=0)
    skill: Floats = 1.0 - ((actual - forecasts) ** 2).mean(axis=0) / ((actual - constant) ** 2).mean(axis=0)
    return np.round(skill, 12)  # a constant forecast has no skill, whatever its rounding


def _single_skills(x_train: Floats, y_train: Floats, x_test: Floats, y_test: Floats) -> Floats:
    """Return the test skill of a straight line through the training set, shape (features, horizons)."""
    mean, constant = x_train.mean(axis=0), y_train.mean(axis=0)
    x, y, new, actual = x_train - mean, y_train - constant, x_test - mean, y_test - constant
    spread = (x**2).sum(axis=0)
    slope = x.T @ y / np.where(spread > 0.0, spread, np.inf)[:, None]
    error = -2.0 * slope * (new.T @ actual) + slope**2 * (new**2).sum(axis=0)[:, None]
    skill: Floats = -error / (actual**2).sum(axis=0)
    return skill


def _shuffled(windows: Windows, rng: np.random.Generator) -> Windows:
    block = _block_length(len(windows), windows.config.horizons[-1])
    return replace(windows, y=windows.y[_block_order(len(windows), block, rng)])


def _block_length(samples: int, longest: int) -> int:
    """Return the length of blocks: twice the longest label, but at most a tenth of the samples."""
    return max(1, min(2 * longest, samples // 10))


def _block_order(samples: int, block: int, rng: np.random.Generator) -> Index:
    """Return an order in which no block of samples stays in place (Sattolo's algorithm: one cycle through all).

    Examples
    --------
    Six samples in blocks of two: 4 5 0 1 2 3, or 2 3 4 5 0 1.
    """
    blocks = [np.arange(start, min(start + block, samples)) for start in range(0, samples, block)]
    for i in range(len(blocks) - 1, 0, -1):
        j = int(rng.integers(0, i))
        blocks[i], blocks[j] = blocks[j], blocks[i]
    return np.concatenate(blocks)


# The model


@_check(
    meaning="the model's forecasts do not depend on labels, nor on anything after their origins",
    remedy="in predict, use the window of each origin and the prices up to it, and nothing of other samples",
)
def model_predictions(run: AuditedRun) -> Outcome:
    """Forecast test origins with other labels and another future; no forecast may change."""
    model, test = run.fitted_model()
    test = test.take(_spread(len(test), TRIED_ORIGINS))
    direct = model.predict(test).quantiles  # an error here has nothing to do with labels: it is raised
    try:
        unlabelled = model.predict(test.without_labels()).quantiles
    except Exception as error:  # any kind: the model may be foreign, and its failure is the finding
        detail = f"forecasts fail once labels are withheld: {type(error).__name__}: {error}"
        return _outcome([f"{model.name}: labels"], len(test), detail, dates=test.origins)
    affected = [f"{model.name}: labels"] if not np.array_equal(direct, unlabelled) else []
    forecasts = run.recipe.predict(model, test).quantiles
    moved = np.zeros(len(test), dtype=np.bool_)
    for date in test.origins:
        changed = run.recipe.predict(model, samples_with_other_future(test, date, run.seed)).quantiles
        moved |= np.asarray(test.origins <= date) & (changed != forecasts).any(axis=(1, 2))
    affected += [f"{model.name}: forecast of {date:%Y-%m-%d}" for date in test.origins[moved]]
    if affected and not np.array_equal(run.recipe.predict(model, test).quantiles, forecasts):
        return Outcome("not run", detail=f"{model.name} gives other forecasts in each call; give it a fixed seed")
    detail = (
        f"{len(test)} test origins, with labels and without, and with another future after each of them: "
        f"{int(moved.sum())} forecasts changed"
    )
    return _outcome(affected, len(affected), detail, dates=test.origins[moved])


@_check(
    meaning="fitting the model uses nothing after the last validation label",
    remedy="in fit, use the windows and labels of the samples, not every row of the shared matrix",
)
def model_fit(run: AuditedRun) -> Outcome:
    """Fit the model with another future after the last validation label; its forecasts must stay the same."""
    samples, until = run.recent_samples, run.recent_samples.known_until
    altered = replace(samples, windows=samples_with_other_future(samples.windows, until, run.seed))
    test = samples.test.take(_spread(len(samples.test), TRIED_ORIGINS))

    def forecasts(model: Model) -> Floats:
        return run.recipe.predict(model, test).quantiles

    before, after = forecasts(run.quick_model), forecasts(run.fit_quickly(altered))
    moved = (before != after).any(axis=(0, 2))
    name = run.quick_model.name
    if moved.any() and not np.array_equal(before, forecasts(run.fit_quickly(samples))):
        return Outcome("not run", detail=f"{name} gives other forecasts after each fit; give it a fixed seed")
    horizons = np.asarray(run.config.window.horizons)[moved]
    detail = (
        f"fitted on {len(samples.train):,} and {len(samples.validation):,} recent samples, with another future after "
        f"{until:%Y-%m-%d}: forecasts of {len(test)} test origins changed at {len(horizons)} horizons"
    )
    return _outcome([f"{name}: {horizon} sessions ahead" for horizon in horizons], len(horizons), detail)


# Another future


def prices_with_other_future(prices: pd.DataFrame, row: int, seed: int) -> pd.DataFrame:
    """Return prices with everything after a row replaced by arbitrary values that are still valid prices."""
    rng = np.random.default_rng([seed, row])
    later = len(prices) - row - 1
    level = prices["close"].iloc[row] * np.exp(np.cumsum(rng.normal(0.0, 0.05, later)))
    # Of four prices per session the lowest and the highest bound the other two, which are open and close.
    low, first, second, high = np.sort(level[:, None] * rng.uniform(0.9, 1.1, (later, 4)), axis=1).T
    upwards = rng.random(later) < 0.5
    future = {
        "open": np.where(upwards, first, second),
        "high": high,
        "low": low,
        "close": np.where(upwards, second, first),
        "volume": rng.uniform(1e3, 1e9, later),
    }
    altered = prices.copy()
    for name in prices.columns:
        values = future[name] if name in future else rng.normal(size=later)
        altered[name] = np.concatenate([prices[name].to_numpy()[: row + 1], values])
    return altered


def samples_with_other_future(samples: Windows, date: pd.Timestamp, seed: int) -> Windows:
    """Return samples with everything that becomes known after a date replaced: rows, labels, later origins, prices."""
    rng = np.random.default_rng([seed, len(samples)])
    known_rows = np.asarray(samples.dates <= date)
    later = np.where(np.asarray(samples.origins > date), 3.0, 1.0)
    return replace(
        samples,
        matrix=_other_values(samples.matrix, known_rows, rng),
        scaled=None if samples.scaled is None else _other_values(samples.scaled, known_rows, rng),
        y=_other_values(samples.y, np.asarray(samples.label_dates <= date), rng),
        last_close=samples.last_close * later,
        volatility=samples.volatility * later,
        prices=tuple(
            prices_with_other_future(prices, int(prices.index.searchsorted(date, side="right")) - 1, seed)
            for prices in samples.prices
        ),
    )


def _other_values(
    values: npt.NDArray[Number], unchanged: Index | Mask, rng: np.random.Generator
) -> npt.NDArray[Number]:
    """Replace all rows but some by arbitrary values; what is missing stays missing."""
    noise = np.nanstd(values, axis=0) * rng.uniform(1.0, 9.0, values.shape)
    altered: npt.NDArray[Number] = (3.0 * values + noise).astype(values.dtype)
    altered[unchanged] = values[unchanged]
    return altered


def _differ(a: Floats, b: Floats) -> Mask:
    """Return where two arrays differ, to the last bit; a missing value is equal to another."""
    return np.asarray((a != b) & ~(np.isnan(a) & np.isnan(b)))


def _spread(count: int, number: int) -> Index:
    """Return up to a number of positions out of a count, spread evenly from the first to the last."""
    return np.unique(np.linspace(0, count - 1, min(number, count)).astype(np.int64))


def _outcome(
    affected: Iterable[str],
    measured: float,
    detail: str,
    *,
    dates: pd.DatetimeIndex = NO_DATES,
    figures: pd.DataFrame | None = None,
) -> Outcome:
    """Return an outcome, which failed if anything is affected."""
    names = tuple(affected)
    return Outcome("failed" if names else "passed", float(measured), names, dates, detail=detail, figures=figures)


def _span(origins: pd.DatetimeIndex) -> str:
    plural = "s" if len(origins) > 1 else ""
    return f"{len(origins)} origin{plural}, {origins.min():%Y-%m-%d} to {origins.max():%Y-%m-%d}"
