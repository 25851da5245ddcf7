"""Scores of settled forecasts."""

from __future__ import annotations

import numpy as np
import pandas as pd

from forecastlib.evaluation.score_table import rolling_scores, score_table
from forecastlib.forecasts import COVERAGES
from forecastlib.models.conformal import adaptive_widening

SCORES = (
    "n",
    "pending",
    "mae",
    "mae_random_walk",
    "skill",
    "mape",
    "hit_rate",
    "base_rate",
    "confidence",
    "calibration_error",
    *(f"coverage_{coverage}" for coverage in COVERAGES),
)
"""The columns of a scorecard, see :data:`forecastlib.evaluation.score_table.METRICS`."""

BY = ["symbol", "horizon", "model_version"]
"""The index of a scorecard."""


def scorecard(rows: pd.DataFrame) -> pd.DataFrame:
    """Score forecasts, grouped by symbol, horizon and model version.

    Parameters
    ----------
    rows
        Rows of :meth:`~forecastlib.ledger.Ledger.history`.

    Returns
    -------
    DataFrame
        One row per group, the columns :data:`SCORES`; NaN where nothing is settled yet, or a model has no intervals.
    """
    pending = rows["actual_price"].isna().groupby([rows[name] for name in BY]).sum()
    table = score_table(rows, BY).reindex(pending.index)
    return table.assign(n=table["n"].fillna(0).astype("int64"), pending=pending.astype("int64"))[list(SCORES)]


def over_time(settled: pd.DataFrame, window: int = 20) -> pd.DataFrame:
    """Score settled forecasts in a rolling window over the origins of each horizon.

    Parameters
    ----------
    settled
        Settled rows of one symbol, of any number of versions.
    window
        Forecasts in each score.

    Returns
    -------
    DataFrame
        Index ``horizon, origin``; columns ``hit_rate``, ``confidence``, ``skill`` and the coverages. The first
        ``window - 1`` origins of each horizon have no row.
    """
    parts = {int(str(horizon)): rolling_scores(rows, window) for horizon, rows in settled.groupby("horizon")}
    if not parts:  # nothing is settled: an empty table with the same columns
        parts = {0: rolling_scores(settled, window)}
    return pd.concat(parts, names=["horizon"]).dropna()


def widening(settled: pd.DataFrame, coverage: int) -> float:
    """Return the factor by which to widen the next interval, given the coverage of earlier ones.

    Parameters
    ----------
    settled
        Settled rows of one symbol and horizon, of any number of versions: the newest forecast of each origin counts.
    coverage
        Nominal coverage of the interval, in per cent.

    Returns
    -------
    float
        For the half-width in log returns, about the middle of the interval; 1 if nothing is settled.

    Notes
    -----
    :func:`~forecastlib.models.conformal.adaptive_widening` counts in origins. Here they are as far apart as forecasts
    were made: the horizon is the median number of them between an origin and its target date.
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
    followed = np.searchsorted(origins, rows["target_date"].to_numpy()) - np.arange(len(rows))
    known_later = origins[-1] >= rows["target_date"].to_numpy()
    step = max(1, int(np.median(followed[known_later]))) if known_later.any() else 1
    # The newest entries are not used, so that the last factor includes everything that is settled.
    padded = np.append(scores, np.full(step, np.nan))
    return float(adaptive_widening(padded, coverage / 100.0, step)[-1])
