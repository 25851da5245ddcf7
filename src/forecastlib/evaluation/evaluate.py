"""Evaluation: what forecasts were worth, beside the random walk and the drift, on the same origins.

Scores are in prices; the test of a difference is on absolute errors relative to the last close, so that times of high
prices do not count more.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from forecastlib.data.prices import require_prices
from forecastlib.errors import DataQualityError, NotEnoughDataError
from forecastlib.evaluation import metrics
from forecastlib.evaluation.metrics.comparison import SMALLEST_COUNT
from forecastlib.forecasts import COVERAGES, require_forecasts
from forecastlib.models.distribution import Distribution
from forecastlib.samples.windows import Windows

RANDOM_WALK, DRIFT = "random_walk", "drift"

SCORES = (
    "n",
    "mae",
    "skill",
    "rmse",
    "squared_skill",
    "mape",
    "mase",
    "r2",
    "bias",
    "directional_accuracy",
    *(f"{score}_{coverage}" for coverage in COVERAGES for score in ("coverage", "width", "interval_score")),
    "crps",
    "crps_skill",
)
"""The columns of :attr:`Evaluation.scores`; those of ranges are NaN for a model that gives none."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Scores and verdicts of models on the same origins.

    Attributes
    ----------
    scores : DataFrame
        One row for each model and horizon (index ``model, horizon``), the columns :data:`SCORES`. Coverages are shares,
        widths are relative to the last close, ``skill`` is 1 - MAE / MAE of the random walk. ``crps`` is in per cent,
        as :func:`crps` gives it, and ``crps_skill`` is 1 - CRPS / CRPS of the random walk.
    verdicts : DataFrame
        The same rows but for the random walk: Diebold-Mariano ``statistic``, ``p_value``, ``outcome`` and ``verdict``,
        a sentence.
    forecasts : DataFrame
        The forecasts that were scored, with the column ``actual_price``.
    symbol : str
    """

    scores: pd.DataFrame
    verdicts: pd.DataFrame
    forecasts: pd.DataFrame
    symbol: str

    @property
    def models(self) -> list[str]:
        """The models, in the order given, the random walk first."""
        return list(self.scores.index.unique("model"))

    def flat(self, model: str) -> dict[str, float]:
        """Return a model's scores by name and horizon, for instance ``mae_7d``, as metrics of a run."""
        rows = self.scores.loc[model]
        return {
            f"{score}_{horizon}d": float(value)
            for horizon, row in rows.iterrows()
            for score, value in row.items()
            if score != "n" and np.isfinite(value)
        }

    def table(self) -> pd.DataFrame:
        """Return MAE, skill and, where it is known, CRPS of every model, one row a model, to be read at a glance."""
        horizons = self.scores.index.unique("horizon")
        shown = [score for score in ("mae", "skill", "crps") if self.scores[score].notna().any()]
        return pd.DataFrame(
            {f"{score} {h}d": self.scores[score].xs(h, level="horizon") for score in shown for h in horizons}
        )

    def _repr_html_(self) -> str:
        table = self.table()
        kinds = {"mae": "{:,.1f}", "skill": "{:+.3f}", "crps": "{:.3f}"}
        formats: dict[Any, Any] = {name: kinds[str(name).split()[0]] for name in table}
        caption = f"{self.symbol}: error and skill" + (", and CRPS in per cent" if "crps" in str(list(table)) else "")
        html: str = table.style.format(formats, na_rep="–").set_caption(caption).to_html()
        return html


def crps(windows: Windows, distribution: Distribution) -> Floats:
    """Score predictive distributions by the continuous ranked probability score, in per cent.

    Parameters
    ----------
    windows
        The origins that are forecast, n rows, with their labels.
    distribution
        Predictive distributions of their log returns.

    Returns
    -------
    ndarray, shape (n, horizons)
        100 times the score of the log return, which is nearly per cent of the last close, so that times of high prices
        do not count more; NaN where the label is not known yet. In a forecast frame it is the column ``crps``, row by
        row: ``frame.assign(crps=crps(windows, distribution).ravel())``.
    """
    actual = windows.log_returns(windows.y)
    return 100.0 * metrics.crps_of_quantiles(actual, distribution.quantiles, distribution.levels)


def evaluate(forecasts: pd.DataFrame, prices: pd.DataFrame) -> Evaluation:
    """Score forecasts of one symbol against what happened.

    The random walk and the drift (the mean log return of all sessions up to the origin) are always scored beside
    them. Only origins and horizons count for which every model has a forecast and the outcome is known.

    Parameters
    ----------
    forecasts
        A forecast frame, of one or several models (``model_version``). It may have a further column ``crps``, see
        :func:`crps`: a frame has the ends of two ranges, but not the distribution that they are of.
    prices
        Prices of the symbol, reaching beyond the target dates.

    Returns
    -------
    Evaluation

    Raises
    ------
    DataQualityError
        If a frame has another shape, there is more than one symbol or another one than the prices are of, or a model
        has forecast the same origin and horizon twice.
    NotEnoughDataError
        If no outcome is known.

    Examples
    --------
    A forecast of origin row t for h = 7 is compared with the close of row t + 7 of ``prices``; if the frame ends before
    that row, the forecast does not count yet.
    """
    require_forecasts(forecasts)
    require_prices(prices)
    symbols = forecasts["symbol"].unique()
    if len(symbols) != 1:
        raise DataQualityError(
            f"expected forecasts of one symbol; got {', '.join(sorted(symbols))}; evaluate each apart"
        )
    if prices.attrs.get("symbol", symbols[0]) != symbols[0]:
        raise DataQualityError(f"expected prices of {symbols[0]}, as the forecasts are; got {prices.attrs['symbol']}")
    known = _with_outcomes(forecasts, prices)
    complete = pd.concat([*_reference(known, prices), known], ignore_index=True)
    groups = {key: group for key, group in complete.groupby(["model_version", "horizon"], sort=False)}
    models = [RANDOM_WALK, *(name for name in dict.fromkeys(complete["model_version"]) if name != RANDOM_WALK)]
    horizons = sorted(known["horizon"].unique())
    every = pd.MultiIndex.from_product([models, horizons], names=["model", "horizon"])
    rivals = every[every.get_level_values("model") != RANDOM_WALK]
    scores = [_score(groups[m, h], groups[RANDOM_WALK, h], prices, known["origin"].min()) for m, h in every]
    verdicts = [_compare(groups[m, h], groups[RANDOM_WALK, h], prices, h) for m, h in rivals]
    return Evaluation(
        pd.DataFrame(scores, index=every, columns=list(SCORES)),
        pd.DataFrame(verdicts, index=rivals),
        known,
        str(symbols[0]),
    )


def _with_outcomes(forecasts: pd.DataFrame, prices: pd.DataFrame) -> pd.DataFrame:
    """Add ``actual_price``, and keep what every model has forecast and whose outcome is known."""
    twice = forecasts.duplicated(["model_version", "origin", "horizon"])
    if twice.any():
        first = forecasts[twice].iloc[0]
        raise DataQualityError(
            f"expected one forecast for each model, origin and horizon; {first['model_version']} has several of "
            f"{first['origin']:%Y-%m-%d}, {first['horizon']} sessions ahead; keep one"
        )
    at = prices.index.get_indexer(pd.DatetimeIndex(forecasts["origin"]))
    target = at + forecasts["horizon"].to_numpy()
    close = prices["close"].to_numpy()
    known = (at >= 0) & (target < len(close))
    rows: pd.DataFrame = forecasts[known].assign(actual_price=close[target[known]])
    models = forecasts["model_version"].nunique()
    by_all = rows.groupby(["origin", "horizon"])["model_version"].transform("nunique") == models
    rows = rows[by_all].sort_values(["origin", "horizon"], kind="stable", ignore_index=True)
    if rows.empty:
        raise NotEnoughDataError(
            f"expected forecasts of the same origin and horizon by all of {models} models, whose outcome the prices "
            f"know; these end on {prices.index[-1]:%Y-%m-%d}, the origins are {forecasts['origin'].min():%Y-%m-%d} to "
            f"{forecasts['origin'].max():%Y-%m-%d}; give later prices, or forecasts of common origins"
        )
    return rows


def _reference(known: pd.DataFrame, prices: pd.DataFrame) -> list[pd.DataFrame]:
    """Make the forecasts of random walk and drift, where they are not given, for the same origins; without ranges."""
    rows = known.drop_duplicates(["origin", "horizon"])
    shared = rows[["symbol", "origin", "horizon", "last_close", "actual_price"]]
    logs = np.log(prices["close"].to_numpy())
    at = prices.index.get_indexer(pd.DatetimeIndex(rows["origin"]))
    a_session = (logs[at] - logs[0]) / np.maximum(at, 1)
    drifted = rows["last_close"] * np.exp(a_session * rows["horizon"].to_numpy())
    parts = {RANDOM_WALK: rows["last_close"], DRIFT: drifted}
    made = [shared.assign(predicted_price=path, model_version=name) for name, path in parts.items()]
    return [frame for name, frame in zip(parts, made, strict=True) if name not in set(known["model_version"])]


def _score(rows: pd.DataFrame, walk: pd.DataFrame, prices: pd.DataFrame, first_origin: pd.Timestamp) -> list[float]:
    actual, predicted, last = (rows[name].to_numpy() for name in ("actual_price", "predicted_price", "last_close"))
    before = prices["close"].loc[:first_origin].to_numpy()
    horizon = int(rows["horizon"].iloc[0])
    scores = {
        "n": len(rows),
        "mae": metrics.mae(actual, predicted),
        "skill": metrics.skill(actual, predicted, last),
        "rmse": metrics.rmse(actual, predicted),
        "squared_skill": metrics.squared_skill(actual, predicted, last),
        "mape": metrics.mape(actual, predicted),
        "mase": metrics.mase(actual, predicted, before, horizon) if len(before) > horizon else math.nan,
        "r2": metrics.r2(actual, predicted),
        "bias": metrics.bias(actual, predicted),
        "directional_accuracy": metrics.directional_accuracy(actual, predicted, last),
    }
    for coverage in COVERAGES:
        if f"lower_{coverage}" in rows and rows[f"lower_{coverage}"].notna().all():
            lower, upper = (rows[f"{end}_{coverage}"].to_numpy() / last for end in ("lower", "upper"))
            scores |= {
                f"coverage_{coverage}": metrics.coverage(actual / last, lower, upper),
                f"width_{coverage}": metrics.mean_width(lower, upper),
                f"interval_score_{coverage}": metrics.interval_score(actual / last, lower, upper, coverage / 100.0),
            }
    if "crps" in rows:  # NaN where a model gives no distribution
        own = rows["crps"].mean(skipna=False)
        scores |= {"crps": own, "crps_skill": 1.0 - own / walk["crps"].mean(skipna=False)}
    return [float(scores.get(name, math.nan)) for name in SCORES]


def _compare(rows: pd.DataFrame, walk: pd.DataFrame, prices: pd.DataFrame, horizon: int) -> dict[str, object]:
    """Test a model against the random walk on the same origins."""
    # Labels overlap by as many forecasts as origins follow within one horizon.
    at = prices.index.get_indexer(pd.DatetimeIndex(rows["origin"]))
    spacing = float(np.median(np.diff(at))) if len(at) > 1 else 1.0
    overlap = max(1, math.ceil(horizon / spacing))
    if len(rows) < max(SMALLEST_COUNT, 2 * overlap):
        sentence = f"{horizon} sessions ahead: {len(rows)} forecasts are too few to tell it from the random walk"
        return {"statistic": math.nan, "p_value": math.nan, "outcome": "undecided", "verdict": sentence}
    result = metrics.diebold_mariano(_loss(rows), _loss(walk), overlap)
    return {
        "statistic": result.statistic,
        "p_value": result.p_value,
        "outcome": result.outcome(),
        "verdict": metrics.verdict(replace(result, horizon=horizon)),
    }


def _loss(rows: pd.DataFrame) -> Floats:
    error = (rows["predicted_price"] - rows["actual_price"]) / rows["last_close"]
    loss: Floats = np.abs(error.to_numpy(dtype=np.float64))
    return loss


def mean_relative_error(evaluation: Evaluation, model: str, horizons: Sequence[int] | None = None) -> float:
    """Return a model's MAE over that of the random walk, averaged over horizons: below 1 is better.

    This is what decides which model is champion.
    """
    skill = evaluation.scores.loc[model]["skill"]
    return float((1.0 - (skill if horizons is None else skill.loc[list(horizons)])).mean())
