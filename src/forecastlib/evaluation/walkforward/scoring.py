"""Scores of a backtest: over all of it with bootstrap intervals, by calendar year, in named periods, over time."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from forecastlib.evaluation import metrics
from forecastlib.evaluation.evaluate import RANDOM_WALK, Evaluation, evaluate
from forecastlib.evaluation.metrics.comparison import SMALLEST_COUNT
from forecastlib.evaluation.walkforward.tasks import MC_DROPOUT, THINNED
from forecastlib.forecasts import COVERAGES
from forecastlib.models.uncertainty import call_came_true

Floats = npt.NDArray[np.float64]

VOLATILITY_RIVAL = "har"
"""The baseline whose distributions are the ones to beat, its points being a random walk's."""

PERIODS = {
    "2008-09": ("2008-01-01", "2009-12-31"),
    "2011": ("2011-01-01", "2011-12-31"),
    "2015-16": ("2015-01-01", "2016-12-31"),
    "2017": ("2017-01-01", "2017-12-31"),
}
"""Periods by the dates of origins: a crisis, two shocks, and a year of unusual calm."""

SMALLEST_HALF_WIDTH = 1e-9
"""In log returns: the passes of MC dropout may all agree, and what they miss is then far outside."""

WITH_INTERVALS = ("skill", "coverage_80", "coverage_95", "crps_skill")


def evaluate_all(forecasts: pd.DataFrame, prices: pd.DataFrame) -> Evaluation:
    """Evaluate every model on all its origins; MC dropout, which has fewer, against the random walk on its own."""
    thinned = forecasts["model_version"] == MC_DROPOUT
    main = evaluate(forecasts[~thinned], prices)
    if not thinned.any():
        return main
    beside = evaluate(_with_walk(forecasts, forecasts[thinned]), prices)
    return Evaluation(
        pd.concat([main.scores, beside.scores.loc[[MC_DROPOUT]]]),
        pd.concat([main.verdicts, beside.verdicts.loc[[MC_DROPOUT]]]),
        pd.concat([main.forecasts, beside.forecasts], ignore_index=True),
        main.symbol,
    )


def _with_walk(forecasts: pd.DataFrame, some: pd.DataFrame) -> pd.DataFrame:
    """Add the random walk's forecasts of the same origins."""
    walk = forecasts[(forecasts["model_version"] == RANDOM_WALK) & forecasts["origin"].isin(some["origin"])]
    return pd.concat([walk, some], ignore_index=True)


def losses(forecasts: pd.DataFrame, model: str, horizon: int) -> pd.DataFrame:
    """Return what is averaged in scores, for one model and horizon beside the random walk.

    Returns
    -------
    DataFrame
        Index ``origin``, oldest first. ``error`` and ``walk_error`` are absolute and relative to the last close;
        ``price_error`` and ``walk_price_error`` absolute, in prices; ``held_80`` and ``held_95`` are 1 where the
        outcome was inside the range; ``crps`` and ``walk_crps``.
    """
    own, walk = (_rows(forecasts, name, horizon) for name in (model, RANDOM_WALK))
    walk = walk.loc[own.index]
    found = pd.DataFrame(index=own.index)
    for name, rows in (("", own), ("walk_", walk)):
        found[f"{name}price_error"] = (rows["predicted_price"] - rows["actual_price"]).abs()
        found[f"{name}error"] = found[f"{name}price_error"] / rows["last_close"]
        found[f"{name}crps"] = rows["crps"]
    for coverage in COVERAGES:
        inside = own["actual_price"].between(own[f"lower_{coverage}"], own[f"upper_{coverage}"])
        found[f"held_{coverage}"] = inside.astype(np.float64)
    return found


def _rows(forecasts: pd.DataFrame, model: str, horizon: int) -> pd.DataFrame:
    chosen = forecasts[(forecasts["model_version"] == model) & (forecasts["horizon"] == horizon)]
    return chosen.set_index("origin").sort_index()


def with_intervals(scores: pd.DataFrame, forecasts: pd.DataFrame) -> pd.DataFrame:
    """Add a 95 % block-bootstrap interval to some scores, as columns ``skill_low``, ``skill_high`` and so on.

    Blocks are two horizons long; where there are not two of them, or no score, the ends are NaN.
    """
    rows = [_intervals(losses(forecasts, str(m), h), h, THINNED if m == MC_DROPOUT else 1) for m, h in scores.index]
    return scores.join(pd.DataFrame(rows, index=scores.index))


def _intervals(found: pd.DataFrame, horizon: int, spacing: int) -> dict[str, float]:
    parts: dict[str, tuple[list[str], Callable[[Floats], Floats] | None]] = {
        "skill": (["price_error", "walk_price_error"], _one_minus_ratio),
        "coverage_80": (["held_80"], _only),
        "coverage_95": (["held_95"], _only),
        "crps_skill": (["crps", "walk_crps"], _one_minus_ratio),
    }
    block = math.ceil(2 * horizon / spacing)
    ends: dict[str, float] = {}
    for name in WITH_INTERVALS:
        columns, statistic = parts[name]
        values = found[columns].to_numpy()
        low = high = math.nan
        if len(values) >= 2 * block and np.isfinite(values).all():
            low, high = map(float, metrics.block_bootstrap(values, block=block, statistic=statistic))
        ends |= {f"{name}_low": low, f"{name}_high": high}
    return ends


def _one_minus_ratio(means: Floats) -> Floats:
    return 1.0 - means[..., 0] / means[..., 1]


def _only(means: Floats) -> Floats:
    return means[..., 0]


def with_crps_verdicts(verdicts: pd.DataFrame, forecasts: pd.DataFrame) -> pd.DataFrame:
    """Add the Diebold-Mariano test of CRPS against HAR: ``crps_p_value``, ``crps_outcome`` and ``crps_verdict``.

    They are empty where a model has no CRPS, or other origins than HAR has.
    """
    rows = []
    for model, horizon in verdicts.index:
        own, rival = (_rows(forecasts, name, horizon)["crps"] for name in (str(model), VOLATILITY_RIVAL))
        comparable = (
            model != VOLATILITY_RIVAL
            and own.index.equals(rival.index)
            and len(own) >= max(SMALLEST_COUNT, 2 * horizon)
            and bool(own.notna().all() and rival.notna().all())
        )
        row: dict[str, object] = {"crps_p_value": math.nan, "crps_outcome": "", "crps_verdict": ""}
        if comparable:
            test = metrics.diebold_mariano(own, rival, horizon)
            said = metrics.verdict(test, rival="HAR")
            row = {"crps_p_value": test.p_value, "crps_outcome": test.outcome(), "crps_verdict": said}
        rows.append(row)
    return verdicts.join(pd.DataFrame(rows, index=verdicts.index))


def by_year(forecasts: pd.DataFrame, prices: pd.DataFrame) -> pd.DataFrame:
    """Return the scores of each calendar year of origins: index ``year, model, horizon``."""
    years = pd.DatetimeIndex(forecasts["origin"]).year
    return pd.concat(
        {year: evaluate_all(forecasts[years == year], prices).scores for year in sorted(set(years))}, names=["year"]
    )


def by_period(forecasts: pd.DataFrame) -> pd.DataFrame:
    """Return how ranges have fared in the named periods of :data:`PERIODS` that the origins reach into.

    Returns
    -------
    DataFrame
        Index ``period, model, horizon``. ``n`` forecasts, worth about ``independent`` ones as labels overlap;
        ``coverage_80`` and ``coverage_95``, and their distance from nominal in percentage points, ``miss_80`` and
        ``miss_95``; ``factor_80`` and ``factor_95``, by which the ranges would have had to be widened to hold exactly
        their share, below 1 where they were too wide; and ``lean``, where outcomes lay on average between the forecast
        (0) and an end of the 80 % range (1 the upper, -1 the lower).
    """
    rows = {}
    for period, model, horizon, part in _parts_of_periods(forecasts):
        found = {"n": float(len(part)), "independent": len(part) * _spacing(model) / horizon}
        for coverage in COVERAGES:
            inside = part["actual_price"].between(part[f"lower_{coverage}"], part[f"upper_{coverage}"]).mean()
            factor = float(np.quantile(np.abs(positions_in_range(part, coverage)), coverage / 100.0))
            found |= {f"coverage_{coverage}": inside, f"miss_{coverage}": 100.0 * inside - coverage}
            found[f"factor_{coverage}"] = factor
        rows[period, model, horizon] = found | {"lean": float(positions_in_range(part, 80).mean())}
    names = ["period", "model", "horizon"]
    index = (
        pd.MultiIndex.from_tuples(list(rows), names=names) if rows else pd.MultiIndex.from_arrays([[]] * 3, names=names)
    )
    ranges = [f"{name}_{coverage}" for coverage in COVERAGES for name in ("coverage", "miss", "factor")]
    return pd.DataFrame(list(rows.values()), index=index, columns=["n", "independent", *ranges, "lean"])


def positions_in_range(rows: pd.DataFrame, coverage: int) -> Floats:
    """Return where outcomes lay between forecast and the ends of a range, in log returns: 1 the upper, -1 the lower.

    Ranges need not be symmetric: an outcome is measured by the side on which it fell.
    """
    centre = np.log(rows["predicted_price"].to_numpy(dtype=np.float64))
    moved, lower, upper = (
        np.log(rows[name].to_numpy(dtype=np.float64)) - centre
        for name in ("actual_price", f"lower_{coverage}", f"upper_{coverage}")
    )
    positions: Floats = moved / np.maximum(np.where(moved < 0, -lower, upper), SMALLEST_HALF_WIDTH)
    return positions


def _parts_of_periods(forecasts: pd.DataFrame) -> Iterator[tuple[str, str, int, pd.DataFrame]]:
    for period, (first, last) in PERIODS.items():
        inside = forecasts[forecasts["origin"].between(pd.Timestamp(first), pd.Timestamp(last))]
        for model, of_model in inside.groupby("model_version", sort=False):
            for horizon, part in of_model.groupby("horizon"):
                yield period, str(model), int(str(horizon)), part


def _spacing(model: str) -> int:
    return THINNED if model == MC_DROPOUT else 1


def settled_probabilities(forecasts: pd.DataFrame, model: str, horizon: int | None, stated: str) -> pd.DataFrame:
    """Return probabilities that were stated and whether their event happened: columns ``stated`` and ``happened``.

    Parameters
    ----------
    forecasts
        With ``actual_price``, and ``attrs["direction_threshold"]``.
    model, horizon
        Whose; None: all horizons.
    stated
        ``p_up``: that the price ends above the origin's close; ``confidence``: that the call comes true.
    """
    rows = forecasts[forecasts["model_version"] == model]
    if horizon is not None:
        rows = rows[rows["horizon"] == horizon]
    change = (rows["actual_price"] / rows["last_close"] - 1.0).to_numpy()
    happened = change > 0
    if stated == "confidence":
        calls = rows["direction"].to_numpy(dtype=np.str_)[:, None]
        happened = call_came_true(calls, change[:, None], forecasts.attrs["direction_threshold"])[:, 0]
    return pd.DataFrame({"stated": rows[stated].to_numpy(), "happened": happened.astype(np.float64)})


def calibration_errors(forecasts: pd.DataFrame) -> pd.DataFrame:
    """Return the expected calibration error of ``p_up`` and ``confidence`` of each model and horizon, and pooled.

    Returns
    -------
    DataFrame
        Index ``model, horizon``, where ``all`` is every horizon together.
    """
    models = list(dict.fromkeys(forecasts["model_version"]))
    horizons: list[Any] = [*sorted(forecasts["horizon"].unique()), "all"]
    index = pd.MultiIndex.from_product([models, horizons], names=["model", "horizon"])
    rows = [
        {
            stated: metrics.expected_calibration_error(settled["stated"], settled["happened"])
            for stated in ("p_up", "confidence")
            for settled in [settled_probabilities(forecasts, model, None if h == "all" else h, stated)]
        }
        for model, h in index
    ]
    return pd.DataFrame(rows, index=index)


def over_time(forecasts: pd.DataFrame, model: str, horizon: int, *, window: int = 250, every: int = 20) -> pd.DataFrame:
    """Return skill and coverage as they were seen over time.

    Parameters
    ----------
    forecasts
        With ``actual_price``.
    model, horizon
        Whose.
    window
        Origins in a rolling mean.
    every
        Origins from one row to the next.

    Returns
    -------
    DataFrame
        Index ``origin``, the last one that a row takes in. ``rolling_skill``, ``coverage_80`` and ``coverage_95`` over
        the window; ``skill`` of all origins until then, with its 95 % block-bootstrap interval ``low`` and ``high``.
        Skill here is of errors relative to the last close, so that a year counts like another.
    """
    found = losses(forecasts, model, horizon)
    window = min(window, len(found))
    ends = range(len(found) - 1, window - 2, -every)
    means = found.rolling(window).mean()
    rows = []
    for end in reversed(ends):
        until = found[["error", "walk_error"]].to_numpy()[: end + 1]
        low = high = math.nan
        if len(until) >= 4 * horizon:
            low, high = map(
                float, metrics.block_bootstrap(until, block=2 * horizon, statistic=_one_minus_ratio, samples=500)
            )
        mean = means.iloc[end]
        rows.append(
            {
                "rolling_skill": 1.0 - mean["error"] / mean["walk_error"],
                "coverage_80": mean["held_80"],
                "coverage_95": mean["held_95"],
                "skill": float(_one_minus_ratio(until.mean(axis=0))),
                "low": low,
                "high": high,
            }
        )
    return pd.DataFrame(rows, index=found.index[list(reversed(ends))])
