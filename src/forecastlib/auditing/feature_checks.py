"""Checks by perturbation: take the future away, change it, reach a date in another way; nothing may move.

A value counts as moved unless it is equal to the last bit: a leak may be as small as the rounding of a sum that runs
over the whole series, and what is exact needs no tolerance.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import pandas as pd

from forecastlib.auditing.subject import Evidence, Subject
from forecastlib.samples.windows import Windows

SERVED_ORIGINS = 6
"""Origins at which the features of training and serving are compared."""


def future_cut_off(subject: Subject) -> Evidence:
    """Compute features from prices that end at a date; those of all dates up to it must be what they were."""
    recipe, config = subject.recipe, subject.config.features
    pairs = ((row, recipe.features(subject.prices.iloc[: row + 1], config)) for row in subject.cuts)
    return _moved_values(subject, pairs, "cut off")


def future_changed(subject: Subject) -> Evidence:
    """Compute features from prices whose future is nonsense; those of all dates before it must be what they were.

    One of the dates lies inside the warm-up, where a value that is filled backwards has its place.
    """
    recipe, config = subject.recipe, subject.config.features
    rows = (subject.cuts[0] // 2, *subject.cuts)
    pairs = ((row, recipe.features(subject.changed_after(row), config)) for row in rows)
    return _moved_values(subject, pairs, "changed")


def _moved_values(subject: Subject, pairs: Iterable[tuple[int, pd.DataFrame]], what: str) -> Evidence:
    names = subject.features.columns
    moved = np.zeros(len(names), dtype=np.int64)
    first: pd.Timestamp | None = None
    known, cuts = subject.features.to_numpy(), 0
    for row, again in pairs:
        cuts += 1
        there = again.reindex(index=subject.features.index[: row + 1], columns=names).to_numpy()
        differ = ~_equal(known[: row + 1], there)
        moved += differ.sum(axis=0)
        if differ.any():
            date = subject.features.index[int(differ.any(axis=1).argmax())]
            first = date if first is None else min(first, date)
    detail = f"the future {what} at {cuts} dates: {int(moved.sum()):,} values of {len(names)} features moved"
    detail += "" if first is None else f", the first on {first:%Y-%m-%d}"
    return Evidence(tuple(names[moved > 0]), float(moved.sum()), detail)


def served_features(subject: Subject) -> Evidence:
    """Compare the window of an origin, and what its volatility is computed from, in training and in serving.

    They are reached from the whole history, from prices cut at the origin, and from no more than the newest
    ``sessions_needed`` rows up to it.
    """
    needed = subject.recipe.sessions_needed(subject.config)
    possible = np.flatnonzero(subject.positions >= needed - 1)
    chosen = possible[np.linspace(0, len(possible) - 1, SERVED_ORIGINS).astype(int)] if len(possible) else possible
    volatility = subject.recipe.volatility(subject.prices)
    culprits: dict[str, str] = {}
    differing = 0
    for i in dict.fromkeys(chosen.tolist()):
        row = int(subject.positions[i])
        trained = subject.windows.take([i])
        for way, start in (("prices cut there", 0), (f"the newest {needed} sessions", row + 1 - needed)):
            seen = subject.prices.iloc[start : row + 1]
            windows = subject.recipe.serve(seen, subject.config)
            differ = _differing(trained, windows.take([len(windows) - 1]))
            moved = int((~_equal(volatility[row], subject.recipe.volatility(seen)[-1])).sum())
            differ |= {"volatility predictors": moved} if moved else {}
            differing += sum(differ.values())
            for name in differ:
                culprits.setdefault(name, f"{subject.prices.index[row]:%Y-%m-%d} from {way}")
    where = "" if not culprits else f"; first at {next(iter(culprits.values()))}"
    detail = f"{len(set(chosen.tolist()))} origins, each from prices cut there and from the newest {needed} sessions: "
    return Evidence(tuple(culprits), float(differing), f"{detail}{differing:,} values differ from training's{where}")


def _differing(trained: Windows, served: Windows) -> dict[str, int]:
    """Count the values that differ, by the name of the feature; a feature that one of them lacks differs throughout."""
    ours = pd.DataFrame(trained.X[0], columns=list(trained.feature_names))
    theirs = pd.DataFrame(served.X[0], columns=list(served.feature_names))
    names = ours.columns.union(theirs.columns, sort=False)
    differ = ~_equal(ours.reindex(columns=names).to_numpy(), theirs.reindex(columns=names).to_numpy())
    counts = {str(name): int(count) for name, count in zip(names, differ.sum(axis=0), strict=True) if count}
    for name in ("origins", "last_close", "volatility"):
        if getattr(trained, name)[0] != getattr(served, name)[0]:
            counts[name] = 1
    return counts


def _equal(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    return np.asarray((a == b) | (np.isnan(a) & np.isnan(b)))
