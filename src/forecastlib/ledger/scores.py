"""Scores of settled forecasts."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pandas as pd

from forecastlib.config import ModelConfig
from forecastlib.evaluation import metrics
from forecastlib.forecasts import COVERAGES
from forecastlib.models.uncertainty import adaptive_widening, call_came_true

SCORES = (
    "n",
    "pending",
    "mae",
    "mae_random_walk",
    "skill",
    "mape",
    "hit_rate",
    "confidence",
    "calibration_error",
    *(f"coverage_{coverage}" for coverage in COVERAGES),
)
"""The columns of a scorecard. Rates, coverages and confidence are shares, ``mape`` is in per cent."""

BY = ["symbol", "horizon", "model_version"]
"""The index of a scorecard."""


def scorecard(rows: pd.DataFrame) -> pd.DataFrame:
    """Score forecasts, grouped by symbol, horizon and model version.

    Parameters
    ----------
    rows
        As returned by :meth:`~forecastlib.ledger.Ledger.history`.

    Returns
    -------
    DataFrame
        One row per group, columns :data:`SCORES`; NaN where nothing is settled yet or the model gave no intervals.
    """
    groups = list(rows.groupby(BY))
    index = pd.MultiIndex.from_tuples([key for key, _ in groups], names=BY)
    return pd.DataFrame([_score(group) for _, group in groups], index=index, columns=list(SCORES)).astype(
        {"n": "int64", "pending": "int64"}
    )


def over_time(settled: pd.DataFrame, window: int = 20) -> pd.DataFrame:
    """Score settled forecasts in a rolling window, per horizon and origin.

    Parameters
    ----------
    settled
        Settled rows of one symbol, of any number of versions.
    window
        Number of consecutive forecasts of a horizon in each score.

    Returns
    -------
    DataFrame
        Index ``horizon, origin``; columns ``hit_rate``, ``confidence``, ``skill`` and the coverages. The first
        ``window - 1`` origins of each horizon have no row.
    """
    rows = settled.sort_values(["horizon", "origin"], ignore_index=True)
    actual = rows["actual_price"]
    inside = {
        coverage: actual.between(rows[f"lower_{coverage}"], rows[f"upper_{coverage}"]).astype(np.float64)
        for coverage in COVERAGES
    }
    scored = pd.DataFrame(
        {
            "hit_rate": came_true(rows).astype(np.float64),
            "confidence": rows["confidence"],
            "error": (rows["predicted_price"] - actual).abs() / rows["last_close"],
            "walk": (rows["last_close"] - actual).abs() / rows["last_close"],
            **{f"coverage_{coverage}": values for coverage, values in inside.items()},
        }
    ).set_index(pd.MultiIndex.from_frame(rows[["horizon", "origin"]]))
    means = scored.groupby("horizon", group_keys=False).rolling(window).mean().dropna()
    means = means.droplevel(0) if means.index.nlevels > 2 else means
    skill = 1.0 - means["error"] / means["walk"]
    return means.drop(columns=["error", "walk"]).assign(skill=skill)


def came_true(rows: pd.DataFrame) -> npt.NDArray[np.bool_]:
    """Return whether the calls of settled rows were correct: the event whose probability ``confidence`` states.

    "up" is correct if the price ended above the origin's close, "down" if below, "neutral" if within the threshold of
    the call. Where the threshold was not recorded, the default of :class:`~forecastlib.config.ModelConfig` applies.
    """
    threshold = rows["direction_threshold"].fillna(ModelConfig().direction_threshold).to_numpy()
    change = (rows["actual_price"] / rows["last_close"] - 1.0).to_numpy()
    hits = np.zeros(len(rows), dtype=np.bool_)
    for value in np.unique(threshold):
        at = threshold == value
        hits[at] = call_came_true(rows["direction"].to_numpy()[at, None], change[at, None], float(value))[:, 0]
    return hits


def _score(group: pd.DataFrame) -> dict[str, float]:
    settled = group[group["settled_at"].notna()]
    scores: dict[str, float] = {"n": len(settled), "pending": len(group) - len(settled)}
    if settled.empty:
        return scores
    actual, predicted, last = (settled[name].to_numpy() for name in ("actual_price", "predicted_price", "last_close"))
    hits = came_true(settled)
    scores["mae"] = metrics.mae(actual, predicted)
    scores["mae_random_walk"] = metrics.mae(actual, last)
    prices_moved = scores["mae_random_walk"] > 0
    scores["skill"] = 1.0 - scores["mae"] / scores["mae_random_walk"] if prices_moved else math.nan
    scores["mape"] = metrics.mape(actual, predicted)
    scores["hit_rate"] = hits.mean()
    if settled["confidence"].notna().all():
        scores["confidence"] = settled["confidence"].mean()
        scores["calibration_error"] = metrics.expected_calibration_error(settled["confidence"], hits)
    for coverage in COVERAGES:
        lower, upper = settled[f"lower_{coverage}"], settled[f"upper_{coverage}"]
        if lower.notna().all() and upper.notna().all():
            scores[f"coverage_{coverage}"] = metrics.coverage(actual, lower, upper)
    return scores


def widening(settled: pd.DataFrame, coverage: int) -> float:
    """Return the factor by which to widen the next interval, given the outcomes of the earlier ones.

    Parameters
    ----------
    settled
        Settled rows of one symbol and horizon, of any number of versions. The most recent forecast of each origin is
        used.
    coverage
        Nominal coverage of the interval in per cent.

    Returns
    -------
    float
        Factor of the half-width in log returns, around the middle of the interval; 1 if nothing is settled.

    Notes
    -----
    :func:`~forecastlib.models.uncertainty.adaptive_widening` counts the horizon in origins, but forecasts need not have
    been made every session. The horizon is therefore the median number of origins from an origin to its target date.
    """
    with_interval = settled[settled[f"lower_{coverage}"].notna() & settled[f"upper_{coverage}"].notna()]
    rows = with_interval.sort_values(["origin", "recorded_at"]).drop_duplicates("origin", keep="last")
    if rows.empty:
        return 1.0
    actual, lower, upper = (
        np.log(rows[name].to_numpy()) for name in ("actual_price", f"lower_{coverage}", f"upper_{coverage}")
    )
    scores = np.abs(actual - (lower + upper) / 2.0) / ((upper - lower) / 2.0)
    origins = rows["origin"].to_numpy()
    origins_to_target = np.searchsorted(origins, rows["target_date"].to_numpy()) - np.arange(len(rows))
    target_reached = origins[-1] >= rows["target_date"].to_numpy()
    step = max(1, int(np.median(origins_to_target[target_reached]))) if target_reached.any() else 1
    # The last ``step`` entries are ignored by the function: pad them, so that its last factor uses every outcome.
    padded = np.append(scores, np.full(step, np.nan))
    return float(adaptive_widening(padded, coverage / 100.0, step)[-1])
