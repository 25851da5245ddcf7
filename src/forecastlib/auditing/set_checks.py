"""Checks of samples and sets: windows, labels, the tail, the split, the scalers, the calibration."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pandas as pd

from forecastlib.auditing.subject import Evidence, Subject
from forecastlib.samples.windows import Windows

LABEL_TOLERANCE = 1e-9
"""Relative error of a price that went through a logarithm and back."""

SHOWN_WINDOWS = 7


def windows_end_at_their_origin(subject: Subject) -> Evidence:
    """Look whether a window's last row is the origin's own, and the others are those before it."""
    windows, lookback = subject.windows, subject.config.window.lookback
    known = subject.features.to_numpy()
    outside = subject.positions < lookback - 1
    ends = np.where(outside, 0, subject.positions)
    wrong = outside | ~(windows.matrix[windows.rows] == known[ends]).all(axis=1)
    for i in np.linspace(0, len(windows) - 1, SHOWN_WINDOWS).astype(int).tolist():
        if not wrong[i]:
            wrong[i] = not (windows.take([i]).X[0] == known[ends[i] - lookback + 1 : ends[i] + 1]).all()
    culprits = tuple(f"window of {date:%Y-%m-%d}" for date in windows.origins[wrong][:3])
    return Evidence(culprits, float(wrong.sum()), f"{int(wrong.sum()):,} of {len(windows):,} windows end elsewhere")


def labels_are_what_came(subject: Subject) -> Evidence:
    """Hold every label against the close that many sessions later, and its date against the date of that session."""
    windows, rows = subject.windows, subject.positions
    close = subject.prices["close"].to_numpy()
    labelled = windows.prices(windows.y)
    culprits, wrong = [], 0
    for i, horizon in enumerate(subject.config.window.horizons):
        known = (rows >= 0) & (rows + horizon < len(close))
        came = close[rows[known] + horizon]
        off = ~(np.abs(labelled[known, i] - came) <= LABEL_TOLERANCE * came)
        wrong += int(off.sum())
        culprits += [f"labels {horizon} sessions ahead"] if off.any() else []
    known = (rows >= 0) & (rows + horizon < len(close))
    off = windows.label_dates[known] != subject.prices.index[rows[known] + horizon]
    wrong += int(off.sum())
    culprits += ["label_dates"] if off.any() else []
    return Evidence(tuple(culprits), float(wrong), f"{wrong:,} labels or dates of labels are not what came")


def tail_is_unlabelled(subject: Subject) -> Evidence:
    """Look for labels of sessions that have not come yet, and for samples without one in a set."""
    windows, last = subject.windows, len(subject.prices) - 1
    horizons = np.asarray(subject.config.window.horizons)
    not_yet = subject.positions[:, None] + horizons > last
    invented = (not_yet & ~np.isnan(windows.y)).any(axis=1) | (not_yet.any(axis=1) & windows.labelled)
    culprits = [f"labels of {_span(windows, invented)}"] if invented.any() else []
    in_sets = 0
    for name, index in subject.split.sets().items():
        count = int(not_yet.any(axis=1)[index].sum())
        in_sets += count
        culprits += [f"{count} samples of the {name} set"] if count else []
    detail = (
        f"{int(not_yet.any(axis=1).sum())} newest samples have no label yet; {int(invented.sum())} of them carry one, "
        f"{in_sets} are in a set"
    )
    return Evidence(tuple(culprits), float(invented.sum() + in_sets), detail)


def labels_do_not_overlap(subject: Subject) -> Evidence:
    """Count the labels of a set that are known later than the first origin of the next one, less the embargo."""
    windows = subject.windows
    sessions = windows.origins.unique().sort_values()
    culprits, counts = [], []
    for (name, earlier), (following, later) in itertools.pairwise(subject.split.sets().items()):
        first = int(sessions.searchsorted(windows.origins[later].min()))
        latest = sessions[max(first - subject.config.split.embargo, 0)]
        # NaT compares as not later: a sample without a label is for another check.
        late = np.asarray(windows.label_dates[earlier] > latest) | np.isin(earlier, later)
        counts.append(int(late.sum()))
        culprits += [f"{name} into {following}: {_span(windows, earlier[late])}"] if late.any() else []
    embargo = f", less an embargo of {subject.config.split.embargo}" if subject.config.split.embargo else ""
    detail = (
        f"labels known after the first origin of the next set{embargo}: train {counts[0]}, validation {counts[1]}; "
        f"sets of {', '.join(f'{len(index):,}' for index in subject.split.sets().values())}"
    )
    return Evidence(tuple(culprits), float(sum(counts)), detail)


def scalers_know_training_alone(subject: Subject) -> Evidence:
    """Fit the scalers again with all that training does not see replaced by nonsense; they must scale as before."""
    windows, split = subject.windows, subject.split
    rows = windows.covered_rows(split.train)
    rng = np.random.default_rng(subject.seed)
    altered = replace(
        windows,
        matrix=_nonsense(windows.matrix, rows, rng),
        y=_nonsense(windows.y, split.train, rng),
    )
    scalings = [subject.scaling, subject.recipe.scaling(altered, split, subject.config.model)]
    features = _moved_columns(*(one.features(windows.matrix[rows]) for one in scalings))
    targets = _moved_columns(*(one.targets(windows.y[split.train]) for one in scalings))
    culprits = [f"scaler of {name}" for name in np.asarray(windows.feature_names)[features][:3]]
    culprits += ["scaler of the other features"] if features.sum() > 3 else []
    horizons = np.asarray(subject.config.window.horizons)
    culprits += [f"scaler of the target {horizon} sessions ahead" for horizon in horizons[targets]]
    last_row, last_label = windows.origins[split.train].max(), windows.label_dates[split.train].max()
    # A scaler that does not say how far it was fitted counts as one that saw everything.
    fitted_to, labels_to = subject.scaling.fitted_to or "the end", subject.scaling.labels_to or "the end"
    culprits += ["fitted_to"] if fitted_to > f"{last_row:%Y-%m-%d}" else []
    culprits += ["labels_to"] if labels_to > f"{last_label:%Y-%m-%d}" else []
    moved = int(features.sum() + targets.sum())
    detail = (
        f"fitted on rows to {fitted_to} and labels to {labels_to}; training ends on {last_row:%Y-%m-%d}, its labels on "
        f"{last_label:%Y-%m-%d}; {moved} of {len(features) + len(targets)} scales depend on other rows"
    )
    return Evidence(tuple(culprits), float(moved), detail)


def calibration_comes_before_the_test(subject: Subject) -> Evidence:
    """Look for test origins among the sessions that calibrate, and for outcomes known after the first test origin.

    The past that calibrates is also collected again from prices that are nonsense after that origin; nothing in it may
    move.
    """
    recipe, windows, split, config = subject.recipe, subject.windows, subject.split, subject.config
    past = recipe.calibration(subject.prices, windows, split, config)
    index = pd.DatetimeIndex(subject.prices.index)
    tested = windows.origins[split.test]
    first = int(index.get_indexer(tested).min())
    rows = np.asarray(index.get_indexer(past.dates))
    known = np.isfinite(past.log_returns)
    used = np.asarray(known.any(axis=1))
    shared = used & np.asarray(past.dates.isin(tested))
    # An outcome is known when its own horizon is over, not only when the longest one is.
    late = (known & (rows[:, None] + np.asarray(config.window.horizons) > first)).any(axis=1) & ~shared
    again = recipe.calibration(subject.changed_after(first), windows, split, config)
    moved = [
        name
        for name in ("log_returns", "log_variance", "predictors", "session_returns")
        if not np.array_equal(getattr(past, name), getattr(again, name), equal_nan=True)
    ]
    culprits = [f"test set: {_dates(past.dates[shared])}"] if shared.any() else []
    culprits += [f"outcomes known after {index[first]:%Y-%m-%d}: {_dates(past.dates[late])}"] if late.any() else []
    culprits += [f"{name} of the past that calibrates" for name in moved]
    detail = (
        f"{int(used.sum()):,} sessions to {past.dates[used].max():%Y-%m-%d} calibrate; "
        f"{int(shared.sum())} of them are in the test set, outcomes of {int(late.sum())} others are known after its "
        f"first origin, {index[first]:%Y-%m-%d}; {len(moved)} of 5 arrays depend on later prices"
    )
    return Evidence(tuple(culprits), float(shared.sum() + late.sum() + len(moved)), detail)


def _span(windows: Windows, chosen: npt.ArrayLike) -> str:
    return _dates(windows.take(chosen).origins)


def _dates(origins: pd.DatetimeIndex) -> str:
    """Word how many origins there are, and from when to when."""
    return f"{len(origins)} origins, {origins.min():%Y-%m-%d} to {origins.max():%Y-%m-%d}"


def _nonsense(
    values: npt.NDArray[np.float64], but: npt.NDArray[np.int64], rng: np.random.Generator
) -> npt.NDArray[np.float64]:
    """Replace all rows but some, keeping what is missing."""
    altered: npt.NDArray[np.float64] = 3.0 * values + np.nanstd(values, axis=0) * rng.uniform(1.0, 9.0, values.shape)
    altered[but] = values[but]
    return altered


def _moved_columns(before: npt.NDArray[np.float32], after: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
    return np.asarray((before != after).any(axis=0))
