"""What settled forecasts were worth."""

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
        Of :meth:`~forecastlib.ledger.Ledger.history`.

    Returns
    -------
    DataFrame
        One row a group, the columns :data:`SCORES`; NaN where nothing is settled yet, or a model gave no ranges.
    """
    groups = list(rows.groupby(BY))
    index = pd.MultiIndex.from_tuples([key for key, _ in groups], names=BY)
    return pd.DataFrame([_score(group) for _, group in groups], index=index, columns=list(SCORES)).astype(
        {"n": "int64", "pending": "int64"}
    )


def over_time(settled: pd.DataFrame, window: int = 20) -> pd.DataFrame:
    """Score settled forecasts over the last so many of each horizon, at every origin.

    Parameters
    ----------
    settled
        Settled rows of one symbol, of any number of versions.
    window
        Forecasts that each score is taken over.

    Returns
    -------
    DataFrame
        Index ``horizon, origin``; columns ``hit_rate``, ``confidence``, ``skill`` and the coverages. The first
        ``window - 1`` origins of each horizon have no row.
    """
    rows = settled.sort_values(["horizon", "origin"], ignore_index=True)
    actual = rows["actual_price"]
    scored = pd.DataFrame(
        {
            "hit_rate": came_true(rows).astype(np.float64),
            "confidence": rows["confidence"],
            "error": (rows["predicted_price"] - actual).abs() / rows["last_close"],
            "walk": (rows["last_close"] - actual).abs() / rows["last_close"],
            **{
                f"coverage_{one}": actual.between(rows[f"lower_{one}"], rows[f"upper_{one}"]).astype(np.float64)
                for one in COVERAGES
            },
        }
    ).set_index(pd.MultiIndex.from_frame(rows[["horizon", "origin"]]))
    means = scored.groupby("horizon", group_keys=False).rolling(window).mean().dropna()
    means = means.droplevel(0) if means.index.nlevels > 2 else means
    skill = 1.0 - means["error"] / means["walk"]
    return means.drop(columns=["error", "walk"]).assign(skill=skill)


def came_true(rows: pd.DataFrame) -> npt.NDArray[np.bool_]:
    """Return whether the calls of settled rows came true: the event whose probability ``confidence`` states.

    "up" came true if the price ended above the origin's close, "down" if below, "neutral" if within the threshold that
    the call was made with; where that was not recorded, the default of :class:`~forecastlib.config.ModelConfig`.
    """
    threshold = rows["direction_threshold"].fillna(ModelConfig().direction_threshold).to_numpy()
    change = (rows["actual_price"] / rows["last_close"] - 1.0).to_numpy()
    hits = np.zeros(len(rows), dtype=np.bool_)
    for one in np.unique(threshold):
        at = threshold == one
        hits[at] = call_came_true(rows["direction"].to_numpy()[at, None], change[at, None], float(one))[:, 0]
    return hits


def _score(group: pd.DataFrame) -> dict[str, float]:
    settled = group[group["settled_at"].notna()]
    found: dict[str, float] = {"n": len(settled), "pending": len(group) - len(settled)}
    if settled.empty:
        return found
    actual, predicted, last = (settled[name].to_numpy() for name in ("actual_price", "predicted_price", "last_close"))
    hits = came_true(settled)
    found["mae"] = metrics.mae(actual, predicted)
    found["mae_random_walk"] = metrics.mae(actual, last)
    moved = found["mae_random_walk"] > 0
    found["skill"] = 1.0 - found["mae"] / found["mae_random_walk"] if moved else math.nan
    found["mape"] = metrics.mape(actual, predicted)
    found["hit_rate"] = hits.mean()
    if settled["confidence"].notna().all():
        found["confidence"] = settled["confidence"].mean()
        found["calibration_error"] = metrics.expected_calibration_error(settled["confidence"], hits)
    for coverage in COVERAGES:
        lower, upper = settled[f"lower_{coverage}"], settled[f"upper_{coverage}"]
        if lower.notna().all() and upper.notna().all():
            found[f"coverage_{coverage}"] = metrics.coverage(actual, lower, upper)
    return found


def widening(settled: pd.DataFrame, coverage: int) -> float:
    """Return the factor by which the next range should be wider than calibrated, from how those before have fared.

    Parameters
    ----------
    settled
        Settled rows of one symbol and horizon, of any number of versions: of each origin the newest counts.
    coverage
        Of the range, in per cent.

    Returns
    -------
    float
        For the half-width in log returns, about the middle of the range; 1 if nothing is settled.

    Notes
    -----
    :func:`~forecastlib.models.uncertainty.adaptive_widening` counts in origins. Here they come in the rhythm in which
    forecasts were made: the horizon is as many of them as lie, at the median, between an origin and its target date.
    """
    ranged = settled[settled[f"lower_{coverage}"].notna() & settled[f"upper_{coverage}"].notna()]
    rows = ranged.sort_values(["origin", "recorded_at"]).drop_duplicates("origin", keep="last")
    if rows.empty:
        return 1.0
    actual, lower, upper = (
        np.log(rows[name].to_numpy()) for name in ("actual_price", f"lower_{coverage}", f"upper_{coverage}")
    )
    scores = np.abs(actual - (lower + upper) / 2.0) / ((upper - lower) / 2.0)
    origins = rows["origin"].to_numpy()
    followed = np.searchsorted(origins, rows["target_date"].to_numpy()) - np.arange(len(rows))
    known_later = origins[-1] >= rows["target_date"].to_numpy()
    step = max(1, int(np.median(followed[known_later]))) if known_later.any() else 1
    # The newest entries are not looked at, so that the last factor has taken in all that is settled.
    padded = np.append(scores, np.full(step, np.nan))
    return float(adaptive_widening(padded, coverage / 100.0, step)[-1])
