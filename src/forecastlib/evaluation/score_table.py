"""The one join of forecasts with their outcomes, and the one table of scores.

The test set of a training, the years and periods of a backtest, the ladder of leaks and the scorecard of the ledger
are all :func:`score_table` of rows from :func:`with_outcomes`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from forecastlib.config import ModelConfig
from forecastlib.evaluation import metrics
from forecastlib.forecasts import COVERAGES, call_is_hit, direction

Floats = npt.NDArray[np.float64]

RANDOM_WALK = "random_walk"

SAME_PRICE = 1e-6
"""Relative difference up to which the prices of two sources are regarded as equal."""


def with_outcomes(forecasts: pd.DataFrame, prices: pd.DataFrame) -> pd.DataFrame:
    """Add the column ``actual_price``: the close ``horizon`` sessions after the origin, NaN where it is not known.

    Parameters
    ----------
    forecasts
        Rows of one symbol with ``origin``, ``horizon`` and ``last_close``.
    prices
        Prices of the symbol. Where they have been adjusted since the forecast (a split, a dividend), so that the close
        of the origin differs from ``last_close``, the outcome is brought back to the level of the forecast, which
        leaves the return unchanged.

    Returns
    -------
    DataFrame
        The same rows, in the same order.

    Examples
    --------
    A forecast of origin row t for h = 7 gets the close of row t + 7. If the prices end before that row, or have no row
    for the origin, the outcome is not known.
    """
    close = prices["close"].to_numpy()
    origin = prices.index.get_indexer(pd.DatetimeIndex(forecasts["origin"]))
    target = origin + forecasts["horizon"].to_numpy(dtype=np.int64)
    known = (origin >= 0) & (target < len(close))
    level = forecasts["last_close"].to_numpy(dtype=np.float64)[known] / close[origin[known]]
    actual = np.full(len(forecasts), np.nan)
    actual[known] = close[target[known]] * np.where(np.abs(level - 1.0) <= SAME_PRICE, 1.0, level)
    return forecasts.assign(actual_price=actual)


def hits(rows: pd.DataFrame) -> npt.NDArray[np.bool_]:
    """Return which calls were hits: the events whose probabilities the column ``confidence`` states.

    "up" is a hit if the price ended above the close of the origin, "down" if below, "neutral" if within the threshold
    of the call.

    Parameters
    ----------
    rows
        With ``actual_price``. The threshold is the column ``direction_threshold``, or the entry of that name in
        ``attrs``, or the default of :class:`~forecastlib.config.ModelConfig`. Without the column ``direction`` the
        calls are made from ``predicted_price``.
    """
    change, threshold = _change(rows), _thresholds(rows)
    if "direction" in rows:
        calls = rows["direction"].to_numpy(dtype=np.str_)
    else:
        calls = direction(rows["predicted_price"] / rows["last_close"] - 1.0, threshold)
    return call_is_hit(calls[:, None], change[:, None], threshold[:, None])[:, 0]


def _thresholds(rows: pd.DataFrame) -> Floats:
    default = rows.attrs.get("direction_threshold") or ModelConfig().direction_threshold
    if "direction_threshold" not in rows:
        return np.full(len(rows), default)
    return rows["direction_threshold"].fillna(default).to_numpy(dtype=np.float64)


def _change(rows: pd.DataFrame) -> Floats:
    return (rows["actual_price"] / rows["last_close"] - 1.0).to_numpy(dtype=np.float64)


Rows = Mapping[str, Floats]
"""Columns of the scored rows of one group, as arrays."""

Metric = Callable[[Rows], float]


def _of_prices(metric: Callable[..., float]) -> Metric:
    return lambda rows: metric(rows["actual_price"], rows["predicted_price"])


def _against_random_walk(metric: Callable[..., float]) -> Metric:
    return lambda rows: metric(rows["actual_price"], rows["predicted_price"], rows["last_close"])


def _of_interval(coverage: int) -> dict[str, Metric]:
    """Score an interval in units of the last close, so that periods of high prices do not count more."""

    def scaled(rows: Rows) -> tuple[Floats, Floats, Floats]:
        actual, lower, upper = (
            rows[name] / rows["last_close"] for name in ("actual_price", f"lower_{coverage}", f"upper_{coverage}")
        )
        return actual, lower, upper

    return {
        f"coverage_{coverage}": lambda rows: float(metrics.coverage(*scaled(rows))),
        f"width_{coverage}": lambda rows: float(metrics.mean_width(*scaled(rows)[1:])),
        f"interval_score_{coverage}": lambda rows: float(metrics.interval_score(*scaled(rows), coverage / 100.0)),
    }


def _mase(rows: Rows) -> float:
    horizon, history = int(rows["horizon"][0]), rows["history"]
    if len(history) <= horizon:
        return math.nan
    return float(metrics.mase(rows["actual_price"], rows["predicted_price"], history, horizon))


METRICS: Mapping[str, Metric] = {
    "mae": _of_prices(metrics.mae),
    "mae_random_walk": lambda rows: float(metrics.mae(rows["actual_price"], rows["last_close"])),
    "skill": _against_random_walk(metrics.skill),
    "rmse": _of_prices(metrics.rmse),
    "squared_skill": _against_random_walk(metrics.squared_skill),
    "mape": _of_prices(metrics.mape),
    "mase": _mase,
    "r2": _of_prices(metrics.r2),
    "correlation": _of_prices(metrics.correlation),
    "bias": _of_prices(metrics.bias),
    "hit_rate": lambda rows: float(rows["hit"].mean()),
    "base_rate": lambda rows: float(max(rows["rise"].mean(), rows["fall"].mean(), rows["within"].mean())),
    "confidence": lambda rows: float(rows["confidence"].mean()),
    "calibration_error": lambda rows: metrics.expected_calibration_error(rows["confidence"], rows["hit"]),
    **_of_interval(80),
    **_of_interval(95),
    "crps": lambda rows: float(rows["crps"].mean()),
    "crps_skill": lambda rows: 1.0 - float(rows["crps"].mean() / rows["crps_random_walk"].mean()),
}
"""The metrics of :func:`score_table` by name: each takes the scored rows of a group.

``mape`` and ``crps`` are in per cent, widths and interval scores are relative to the last close, and all rates are
shares. ``skill``, ``squared_skill`` and ``crps_skill`` are 1 - score / score of the random walk. ``hit_rate`` is the
share of calls that were :func:`hits`, and ``base_rate`` the share that the best constant call would have had: the
larger of the shares of rises, of falls, and of changes within the threshold. ``confidence`` is the mean that was
stated for the calls, ``calibration_error`` the distance between it and the hits. ``mase`` needs a history of prices.
"""

_NEEDED: Mapping[str, tuple[str, ...]] = {
    "mase": ("history",),
    "confidence": ("confidence",),
    "calibration_error": ("confidence",),
    **{
        f"{name}_{coverage}": (f"lower_{coverage}", f"upper_{coverage}")
        for coverage in COVERAGES
        for name in ("coverage", "width", "interval_score")
    },
    "crps": ("crps",),
    "crps_skill": ("crps", "crps_random_walk"),
}
"""Columns beyond those of every row that a metric needs: it is NaN where one of their values is missing."""

SCORES = ("n", *METRICS)
"""The columns of :func:`score_table`."""


def score_table(
    rows: pd.DataFrame, by: Sequence[str] = ("model", "horizon"), *, history: npt.ArrayLike | None = None
) -> pd.DataFrame:
    """Score forecasts group by group.

    Parameters
    ----------
    rows
        Rows with ``horizon``, ``last_close``, ``predicted_price``, ``actual_price`` (rows where it is NaN do not
        count) and the columns ``by``; further columns of a forecast frame, and ``crps`` in per cent, where there are
        any. ``crps_skill`` needs rows of the model "random_walk" for the same origins.
    by
        The columns that groups share; each group has one horizon.
    history
        Closes before the first origin, for ``mase``.

    Returns
    -------
    DataFrame
        Index ``by``, sorted, models in the order of the rows; the columns :data:`SCORES`. A score is NaN where what it
        needs is missing, for instance of a model without intervals.
    """
    by = list(by)
    known = rows[rows["actual_price"].notna()]
    prepared = _prepared(known)
    groups = prepared.groupby(by, sort=False).indices if len(prepared) else {}
    columns = {name: prepared[name].to_numpy(dtype=np.float64) for name in prepared if name in _NUMERIC}
    closes = None if history is None else np.asarray(history, dtype=np.float64)
    scores = {
        key if isinstance(key, tuple) else (key,): _score({n: values[chosen] for n, values in columns.items()}, closes)
        for key, chosen in groups.items()
    }
    empty = pd.MultiIndex.from_arrays([[]] * len(by), names=by)
    index = pd.MultiIndex.from_tuples(list(scores), names=by) if scores else empty
    table = pd.DataFrame(list(scores.values()), index=index, columns=list(SCORES)).astype({"n": "int64"})
    order = {RANDOM_WALK: -1}
    for model in known["model"].unique() if "model" in known else ():
        order.setdefault(model, len(order))
    return table.sort_index(key=lambda level: level.map(order) if level.name == "model" else level, kind="stable")


def relative_errors(rows: pd.DataFrame) -> pd.DataFrame:
    """Return ``error`` and ``error_random_walk``, absolute errors over the last close: every year counts equally."""
    actual, last = rows["actual_price"], rows["last_close"]
    error, walk = ((predicted - actual).abs() / last for predicted in (rows["predicted_price"], last))
    return pd.DataFrame({"error": error, "error_random_walk": walk})


def rolling_scores(rows: pd.DataFrame, window: int) -> pd.DataFrame:
    """Score forecasts of one horizon over the last ``window`` origins.

    Parameters
    ----------
    rows
        Rows with ``actual_price``, intervals and ``confidence``, in any order.
    window
        Origins in each score.

    Returns
    -------
    DataFrame
        Index ``origin``: ``hit_rate``, ``confidence``, ``coverage_80``, ``coverage_95``, and ``skill`` of errors
        relative to the last close, so that every year counts equally. The first ``window - 1`` rows are NaN.
    """
    rows = rows.sort_values("origin", kind="stable")
    actual = rows["actual_price"]
    losses = {
        "hit_rate": hits(rows).astype(np.float64),
        "confidence": rows["confidence"],
        **{f"coverage_{c}": 1.0 * actual.between(rows[f"lower_{c}"], rows[f"upper_{c}"]) for c in COVERAGES},
        **relative_errors(rows),
    }
    means = pd.DataFrame(losses).set_index(pd.DatetimeIndex(rows["origin"])).rolling(window).mean()
    skill = 1.0 - means.pop("error") / means.pop("error_random_walk")
    return means.assign(skill=skill)


def flat_scores(scores: pd.DataFrame, model: str) -> dict[str, float]:
    """Return the finite scores of one model in a table by model and horizon, by names such as ``mae_7d``."""
    return {
        f"{name}_{horizon}d": float(value)
        for horizon, row in pd.DataFrame(scores.xs(model, level="model")).iterrows()
        for name, value in row.items()
        if name != "n" and np.isfinite(value)
    }


_NUMERIC = {
    *("horizon", "last_close", "predicted_price", "actual_price", "confidence", "crps", "crps_random_walk"),
    *("hit", "rise", "fall", "within"),
    *(f"{end}_{coverage}" for coverage in COVERAGES for end in ("lower", "upper")),
}


def _prepared(rows: pd.DataFrame) -> pd.DataFrame:
    """Add whether calls were hits, which events happened, and the random walk's CRPS of the same origins."""
    change, threshold = _change(rows), _thresholds(rows)
    added = {"hit": hits(rows), "rise": change > 0, "fall": change < 0, "within": np.abs(change) <= threshold}
    prepared = rows.assign(**added)
    if "crps" in rows and "model" in rows:
        same = [name for name in ("symbol", "origin", "horizon") if name in rows]
        reference = rows.loc[rows["model"] == RANDOM_WALK, [*same, "crps"]].rename(columns={"crps": "crps_random_walk"})
        prepared = prepared.merge(reference, on=same, how="left")
    return prepared


def _score(rows: dict[str, Floats], history: Floats | None) -> dict[str, float]:
    usable = {name for name, values in rows.items() if np.isfinite(values).all()}
    if history is not None:
        rows, usable = rows | {"history": history}, usable | {"history"}
    scores: dict[str, float] = {"n": len(rows["horizon"])}
    for name, metric in METRICS.items():
        scores[name] = float(metric(rows)) if usable.issuperset(_NEEDED.get(name, ())) else math.nan
    return scores
