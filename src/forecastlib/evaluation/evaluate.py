"""Evaluation of forecasts and of the random walk, on the same origins.

Scores are in prices; the test of a difference uses absolute errors relative to the last close, so that periods of high
prices do not count more.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from forecastlib.data.prices import require_prices
from forecastlib.errors import DataQualityError, NotEnoughDataError
from forecastlib.evaluation.score_table import RANDOM_WALK, flat_scores, relative_errors, score_table, with_outcomes
from forecastlib.evaluation.significance import MIN_LOSSES, diebold_mariano, verdict
from forecastlib.forecasts import Forecast, require_forecasts
from forecastlib.formatting import format_error

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Scores and verdicts of models on the same origins.

    Attributes
    ----------
    scores : DataFrame
        One row per model and horizon (index ``model, horizon``), the columns
        :data:`~forecastlib.evaluation.score_table.SCORES`.
    verdicts : DataFrame
        The same rows without the random walk: Diebold-Mariano ``statistic``, ``p_value``, ``outcome`` and ``verdict``,
        a sentence.
    forecasts : DataFrame
        The forecasts that were scored, with the columns ``actual_price`` and ``crps``.
    symbol : str
    """

    scores: pd.DataFrame
    verdicts: pd.DataFrame
    forecasts: pd.DataFrame
    symbol: str

    @property
    def models(self) -> list[str]:
        """The models in the order given, the random walk first."""
        return list(self.scores.index.unique("model"))

    def flat(self, model: str) -> dict[str, float]:
        """Return the scores of a model by name and horizon, for instance ``mae_7d``, as metrics of a run."""
        return flat_scores(self.scores, model)

    def table(self) -> pd.DataFrame:
        """Return MAE, skill and, where it is known, CRPS of every model, one row per model."""
        horizons = self.scores.index.unique("horizon")
        shown = [score for score in ("mae", "skill", "crps") if self.scores[score].notna().any()]
        return pd.DataFrame(
            {f"{score} {h}d": self.scores[score].xs(h, level="horizon") for score in shown for h in horizons}
        )

    def _repr_html_(self) -> str:
        table = self.table()
        kinds = {"mae": format_error, "skill": "{:+.3f}", "crps": "{:.3f}"}
        formats: dict[Any, Any] = {name: kinds[str(name).split()[0]] for name in table}
        caption = f"{self.symbol}: error and skill" + (", and CRPS in per cent" if "crps" in str(list(table)) else "")
        html: str = table.style.format(formats, na_rep="–").set_caption(caption).to_html()
        return html


def evaluate(
    forecasts: Forecast | pd.DataFrame | Sequence[Forecast | pd.DataFrame], prices: pd.DataFrame
) -> Evaluation:
    """Score forecasts of one symbol against their outcomes and compare them with the random walk.

    Only origins and horizons count for which every model has a forecast and the outcome is known.

    Parameters
    ----------
    forecasts
        Forecasts or forecast frames of one or several models, which the column ``model`` tells apart. A
        :class:`~forecastlib.forecasts.Forecast` is scored by CRPS too; a frame has the ends of two intervals but not
        the distribution, and may give the scores as a column ``crps``, in per cent.
    prices
        Prices of the symbol, reaching beyond the target dates.

    Returns
    -------
    Evaluation

    Raises
    ------
    DataQualityError
        If a frame has another shape, there is more than one symbol or a symbol other than that of the prices, or a
        model has several forecasts of the same origin and horizon.
    NotEnoughDataError
        If no outcome is known.

    Examples
    --------
    A forecast of origin row t for h = 7 is compared with the close of row t + 7 of ``prices``; if the prices end
    before that row, the forecast does not count yet.

    >>> evaluate(forecaster.forecast_test_set(["har"]), prices).scores     # doctest: +SKIP
    """
    require_prices(prices)
    given = [forecasts] if isinstance(forecasts, Forecast | pd.DataFrame) else list(forecasts)
    rows = pd.concat([scored_rows(part, prices) for part in given], ignore_index=True)
    known = _common(rows, prices)
    if RANDOM_WALK not in set(known["model"]):
        known = pd.concat([_random_walk(known), known], ignore_index=True)
    scores = score_table(known, history=prices["close"].loc[: known["origin"].min()])
    return Evaluation(scores, compare_with_random_walk(known, prices), known, str(known["symbol"].iloc[0]))


def scored_rows(forecasts: Forecast | pd.DataFrame, prices: pd.DataFrame) -> pd.DataFrame:
    """Return forecasts as rows with their outcomes, their threshold, and their CRPS.

    Returns
    -------
    DataFrame
        The forecast frame with ``actual_price`` (NaN where it is not known), ``direction_threshold`` and ``crps``: 100
        times the continuous ranked probability score of the log return, which is close to per cent of the last close;
        NaN for a frame that has no such column.

    Raises
    ------
    DataQualityError
        If it is not a forecast frame, or of other symbols than the prices.
    """
    frame = forecasts.frame() if isinstance(forecasts, Forecast) else forecasts
    require_forecasts(frame)
    symbols = sorted(frame["symbol"].unique())
    expected = prices.attrs.get("symbol", symbols[0])
    if len(symbols) != 1:
        raise DataQualityError(
            f"expected forecasts of one symbol; got {', '.join(symbols)}; evaluate each symbol separately"
        )
    if symbols[0] != expected:
        raise DataQualityError(f"expected prices of {symbols[0]}, the symbol of the forecasts; got {expected}")
    rows = with_outcomes(frame, prices)
    if "direction_threshold" not in rows:
        rows["direction_threshold"] = frame.attrs.get("direction_threshold", math.nan)
    if isinstance(forecasts, Forecast):
        returns = np.log((rows["actual_price"] / rows["last_close"]).to_numpy()).reshape(len(forecasts), -1)
        rows["crps"] = 100.0 * forecasts.distribution.crps(returns).ravel()
    elif "crps" not in rows:
        rows["crps"] = math.nan
    rows.attrs = {}
    return rows


def _common(rows: pd.DataFrame, prices: pd.DataFrame) -> pd.DataFrame:
    """Keep the origins and horizons that every model has forecast and whose outcome is known."""
    symbols, repeated = rows["symbol"].unique(), rows.duplicated(["model", "origin", "horizon"])
    if len(symbols) != 1:
        raise DataQualityError(
            f"expected forecasts of one symbol; got {', '.join(sorted(symbols))}; evaluate each symbol separately"
        )
    if repeated.any():
        first = rows[repeated].iloc[0]
        raise DataQualityError(
            f"expected one forecast for each model, origin and horizon; {first['model']} has several of "
            f"{first['origin']:%Y-%m-%d}, {first['horizon']} sessions ahead; drop the others, or give each version a "
            "model name"
        )
    models = rows["model"].nunique()
    known = rows[rows["actual_price"].notna()]
    by_all = known.groupby(["origin", "horizon"])["model"].transform("nunique") == models
    known = known[by_all].sort_values(["origin", "horizon"], kind="stable", ignore_index=True)
    if known.empty:
        raise NotEnoughDataError(
            f"expected forecasts of the same origin and horizon by all of {models} models, whose outcome the prices "
            f"contain; these end on {prices.index[-1]:%Y-%m-%d}, the origins are {rows['origin'].min():%Y-%m-%d} to "
            f"{rows['origin'].max():%Y-%m-%d}; give later prices, or forecasts of common origins"
        )
    return known


def _random_walk(known: pd.DataFrame) -> pd.DataFrame:
    """Return the point forecasts of the random walk for the same origins and horizons; it has no intervals."""
    rows = known.drop_duplicates(["origin", "horizon"])
    shared = rows[["symbol", "origin", "horizon", "target_date", "last_close", "actual_price", "direction_threshold"]]
    names = {"model": RANDOM_WALK, "model_version": RANDOM_WALK}
    return shared.assign(predicted_price=rows["last_close"], change_pct=0.0, direction="neutral", **names)


def compare_with_random_walk(rows: pd.DataFrame, prices: pd.DataFrame) -> pd.DataFrame:
    """Test every model against the random walk on its own origins.

    Parameters
    ----------
    rows
        Forecasts with ``actual_price``.
    prices
        Prices of the symbol, from which the distance between origins is taken.

    Returns
    -------
    DataFrame
        Index ``model, horizon``: ``statistic``, ``p_value``, ``outcome`` and ``verdict`` of the Diebold-Mariano test
        of absolute errors relative to the last close; "undecided" where there are too few forecasts for the overlap of
        their labels.
    """
    rivals = rows[rows["model"] != RANDOM_WALK]
    verdicts = {
        (str(model), int(str(horizon))): _compare(group.sort_values("origin"), prices, int(str(horizon)))
        for model in rivals["model"].unique()
        for horizon, group in rivals[rivals["model"] == model].groupby("horizon")
    }
    index = pd.MultiIndex.from_tuples(list(verdicts), names=["model", "horizon"])
    return pd.DataFrame(list(verdicts.values()), index, columns=["statistic", "p_value", "outcome", "verdict"])


def _compare(rows: pd.DataFrame, prices: pd.DataFrame, horizon: int) -> dict[str, object]:
    overlap = math.ceil(horizon / spacing(rows["origin"], prices))
    if len(rows) < max(MIN_LOSSES, 2 * overlap):
        sentence = f"{horizon} sessions ahead: {len(rows)} forecasts are too few to compare with the random walk"
        return {"statistic": math.nan, "p_value": math.nan, "outcome": "undecided", "verdict": sentence}
    own, walk = relative_errors(rows).to_numpy(dtype=np.float64).T
    result = replace(diebold_mariano(own, walk, overlap), horizon=horizon)
    found = {"statistic": result.statistic, "p_value": result.p_value}
    return {**found, "outcome": result.outcome(), "verdict": verdict(result)}


def spacing(origins: Iterable[pd.Timestamp], prices: pd.DataFrame) -> float:
    """Return the median number of sessions from one origin to the next, at least 1.

    Labels overlap by as many forecasts as there are origins within one horizon.
    """
    rows = np.unique(prices.index.get_indexer(pd.DatetimeIndex(list(origins))))
    return max(1.0, float(np.median(np.diff(rows)))) if len(rows) > 1 else 1.0
