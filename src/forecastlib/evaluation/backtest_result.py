"""The result of a backtest: scores with bootstrap intervals, by calendar year, in named periods, and over time."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from forecastlib.evaluation import metrics
from forecastlib.evaluation.evaluate import compare_with_random_walk, spacing
from forecastlib.evaluation.score_table import RANDOM_WALK, hits, relative_errors, rolling_scores, score_table
from forecastlib.evaluation.significance import MIN_LOSSES, block_bootstrap, diebold_mariano, verdict
from forecastlib.forecasts import COVERAGES

Floats = npt.NDArray[np.float64]

VOLATILITY_RIVAL = "har"
"""The baseline whose distributions are the ones to beat; its point forecasts are those of a random walk."""

PERIODS = {
    "2008-09": ("2008-01-01", "2009-12-31"),
    "2011": ("2011-01-01", "2011-12-31"),
    "2015-16": ("2015-01-01", "2016-12-31"),
    "2017": ("2017-01-01", "2017-12-31"),
}
"""Periods by the dates of origins: a crisis, two shocks, and a year of unusual calm."""

WITH_INTERVALS = ("skill", "coverage_80", "coverage_95", "crps_skill")
"""The scores that have a bootstrap interval."""

MIN_HALF_WIDTH = 1e-9
"""In log returns: the passes of MC dropout may all agree, and an outcome beside them is then far outside."""

MISS_TO_EXPLAIN = 8.0
"""Percentage points by which coverage in a period has to differ from nominal to be explained."""


class Task(NamedTuple):
    """One model, fitted in one fold (from 1); the index of :attr:`BacktestResult.tasks`.

    The seed is -1 for a model that does not depend on it.
    """

    fold: int
    model: str
    seed: int = -1

    @property
    def seeded(self) -> bool:
        """Whether the model depends on the seed."""
        return self.seed >= 0

    def __str__(self) -> str:
        """Name the task in messages and runs."""
        return f"fold {self.fold}, {self.model}" + (f", seed {self.seed}" if self.seeded else "")


@dataclass(frozen=True, eq=False)
class BacktestResult:
    """Forecasts of every model on the test sets of all folds, and their scores.

    Attributes
    ----------
    forecasts : DataFrame
        A forecast frame with ``actual_price``, ``direction_threshold``, ``crps`` (per cent) and ``fold``.
    scores : DataFrame
        Index ``model, horizon``; the columns :data:`~forecastlib.evaluation.score_table.SCORES`, and the ends of 95 %
        bootstrap intervals: ``skill_low``, ``skill_high``, and likewise for the others in :data:`WITH_INTERVALS`.
    verdicts : DataFrame
        Diebold-Mariano tests over all folds: of absolute errors against the random walk (``p_value``, ``outcome``,
        ``verdict``), and of CRPS against HAR (``crps_p_value``, ``crps_outcome``, ``crps_verdict``).
    by_year : DataFrame
        Index ``year, model, horizon``: the scores of each calendar year of origins.
    by_period : DataFrame
        Index ``period, model, horizon``: the scores of the named periods :data:`PERIODS` that contain origins, with
        the columns of :func:`describe_intervals`.
    calibration : DataFrame
        Index ``model, horizon``: expected calibration error of ``p_up`` and ``confidence``; horizon ``all`` is pooled.
    folds : DataFrame
        Index ``fold``: first and last origin of each set, and when its last label became known.
    tasks : DataFrame
        Index ``fold, model, seed``, see :class:`Task`: the ``seconds`` and ``epochs`` of the
        training, ``weight_NAME`` for each weight of a combination, whether it was ``computed`` now or read from an
        earlier call, its ``key``, and its MLflow ``run_id``.
    symbol : str
    histories : dict
        Losses of each epoch, for the entries of ``tasks`` that were trained in epochs.
    run_id : str
        The MLflow run that the runs of the tasks are nested in; empty if it was not logged.
    """

    forecasts: pd.DataFrame
    scores: pd.DataFrame
    verdicts: pd.DataFrame
    by_year: pd.DataFrame
    by_period: pd.DataFrame
    calibration: pd.DataFrame
    folds: pd.DataFrame
    tasks: pd.DataFrame
    symbol: str
    histories: Mapping[Task, pd.DataFrame] = field(default_factory=dict)
    run_id: str = ""

    @classmethod
    def of(
        cls,
        forecasts: pd.DataFrame,
        prices: pd.DataFrame,
        *,
        folds: pd.DataFrame | None = None,
        tasks: pd.DataFrame | None = None,
        histories: Mapping[Task, pd.DataFrame] | None = None,
    ) -> BacktestResult:
        """Score the forecasts of a backtest.

        Parameters
        ----------
        forecasts
            Rows of one symbol with ``actual_price`` and ``crps``, of at least the random walk.
        prices
            Prices of the symbol.
        folds, tasks, histories
            See the attributes.
        """
        history = prices["close"].loc[: forecasts["origin"].min()]
        distances = {model: spacing(rows["origin"], prices) for model, rows in forecasts.groupby("model")}
        scores = score_table(forecasts, history=history)
        years = forecasts.assign(year=pd.DatetimeIndex(forecasts["origin"]).year)
        return cls(
            forecasts=forecasts,
            scores=scores.join(_bootstrap_intervals(scores.index, forecasts, distances)),
            verdicts=_with_crps_verdicts(compare_with_random_walk(forecasts, prices), forecasts),
            by_year=score_table(years, ("year", "model", "horizon"), history=history),
            by_period=_by_period(forecasts, distances),
            calibration=_calibration_errors(forecasts),
            folds=pd.DataFrame() if folds is None else folds,
            tasks=pd.DataFrame() if tasks is None else tasks,
            symbol=str(forecasts["symbol"].iloc[0]),
            histories=histories or {},
        )

    @property
    def models(self) -> list[str]:
        """The models, the random walk first."""
        return list(self.scores.index.unique("model"))

    @property
    def horizons(self) -> list[int]:
        """Sessions ahead, increasing."""
        return sorted(int(h) for h in self.scores.index.unique("horizon"))

    def over_time(self, model: str, horizon: int, *, window: int = 250, every: int = 20) -> pd.DataFrame:
        """Return skill and coverage of a model as they developed over time.

        Parameters
        ----------
        model, horizon
            The rows to look at.
        window
            Origins in a rolling mean.
        every
            Origins from one row to the next.

        Returns
        -------
        DataFrame
            Index ``origin``, the last one that a row includes. ``rolling_skill``, ``coverage_80`` and ``coverage_95``
            over the window; ``skill`` of all origins until then, with the ends ``low`` and ``high`` of its 95 %
            block-bootstrap interval. Errors are relative to the last close, so that every year counts equally.
        """
        rows = self._rows(model, horizon).sort_values("origin")
        window = min(window, len(rows))
        ends = list(range(len(rows) - 1, window - 2, -every))[::-1]
        errors = relative_errors(rows).to_numpy()
        skills = []
        for end in ends:
            low = high = math.nan
            if end + 1 >= 4 * horizon:
                found = block_bootstrap(errors[: end + 1], block=2 * horizon, statistic=_one_minus_ratio, samples=500)
                low, high = map(float, found)
            skills.append({"skill": float(_one_minus_ratio(errors[: end + 1].mean(axis=0))), "low": low, "high": high})
        rolling = rolling_scores(rows, window).iloc[ends].rename(columns={"skill": "rolling_skill"})
        shown = rolling[["rolling_skill", *(f"coverage_{coverage}" for coverage in COVERAGES)]]
        return shown.join(pd.DataFrame(skills, index=rolling.index))

    def reliability(self, stated: str, model: str | None = None, horizon: int | None = None) -> pd.DataFrame:
        """Compare stated probabilities with the observed frequency of their events.

        Parameters
        ----------
        stated
            ``p_up``, that the price ends above the close of the origin, or ``confidence``, that the call is a hit.
        model, horizon
            The rows to look at; None: the model that was listed first, all horizons.

        Returns
        -------
        DataFrame
            See :func:`forecastlib.evaluation.metrics.reliability`.
        """
        return metrics.reliability(*_stated_and_happened(self._rows(model or self.main_model, horizon), stated))

    def explanations(self, model: str | None = None) -> list[str]:
        """Explain each interval whose coverage in a named period misses by more than 8 percentage points.

        Without a model, those of the one that was listed first are explained.

        Examples
        --------
        ``2017, 30 sessions ahead: 80 % interval coverage 96 % (+16 points). At 0.60 times its width it would have been
        80 %: most of these sessions were calmer than the past had suggested. The 251 forecasts share labels and are
        worth about 8 independent ones.``
        """
        sentences = []
        rows = self.by_period[self.by_period.index.get_level_values("model") == (model or self.main_model)]
        for (period, _, horizon), row in zip(rows.index.tolist(), rows.to_dict("records"), strict=True):
            sentences += [
                f"{period}, {horizon} sessions ahead: {coverage} % interval coverage {row[f'coverage_{coverage}']:.0%} "
                f"({row[f'miss_{coverage}']:+.0f} points). {_cause(row, coverage)} The {row['n']:.0f} forecasts share "
                f"labels and are worth about {max(row['independent'], 1):.0f} independent ones."
                for coverage in COVERAGES
                if abs(row[f"miss_{coverage}"]) > MISS_TO_EXPLAIN
            ]
        return sentences

    def table(self) -> pd.DataFrame:
        """Return skill, CRPS and coverage of every model and horizon, with their intervals, as text."""
        rows = self.scores
        shown = {
            "skill": _with_interval(rows, "skill", "{:+.3f}"),
            "CRPS, %": rows["crps"].map("{:.3f}".format),
            "CRPS skill": _with_interval(rows, "crps_skill", "{:+.3f}"),
            "80 % interval coverage": _with_interval(rows, "coverage_80", "{:.1%}"),
            "95 % interval coverage": _with_interval(rows, "coverage_95", "{:.1%}"),
            "interval score 80": rows["interval_score_80"].map("{:.4f}".format),
        }
        return pd.DataFrame(shown, index=rows.index).replace(to_replace=r"^[+-]?nan.*", value="–", regex=True)

    def _rows(self, model: str, horizon: int | None) -> pd.DataFrame:
        rows = self.forecasts[self.forecasts["model"] == model]
        return rows if horizon is None else rows[rows["horizon"] == horizon]

    @property
    def main_model(self) -> str:
        """The model that was listed first: its rows come first in the forecasts."""
        if not self.forecasts.empty:
            return str(self.forecasts["model"].iloc[0])
        return str(self.by_period.index.get_level_values("model")[0])

    def _repr_html_(self) -> str:
        first, last = self.forecasts["origin"].min(), self.forecasts["origin"].max()
        caption = (
            f"{self.symbol}: {len(self.folds)} folds, origins {first:%Y-%m-%d} to {last:%Y-%m-%d}; "
            "in brackets, 95 % block-bootstrap intervals"
        )
        html: str = self.table().style.set_caption(caption).to_html()
        return html


def describe_intervals(rows: pd.DataFrame, distance: float, horizon: int) -> dict[str, float]:
    """Describe why intervals covered more or fewer outcomes than they should.

    Parameters
    ----------
    rows
        Forecasts of one model and horizon with ``actual_price``.
    distance
        Sessions from one origin to the next.
    horizon
        Sessions ahead.

    Returns
    -------
    dict
        ``independent``, the number of forecasts without shared labels that they are worth; ``miss_80`` and ``miss_95``,
        coverage minus nominal in percentage points; ``factor_80`` and ``factor_95``, the factor for their width that
        would have made coverage nominal, below 1 where they were too wide; and ``lean``, the mean position of outcomes
        between the forecast (0) and an end of the 80 % interval (1 the upper, -1 the lower).
    """
    found = {"independent": len(rows) * distance / horizon}
    for coverage in COVERAGES:
        covered = rows["actual_price"].between(rows[f"lower_{coverage}"], rows[f"upper_{coverage}"]).mean()
        found[f"miss_{coverage}"] = 100.0 * float(covered) - coverage
        found[f"factor_{coverage}"] = float(
            np.quantile(np.abs(positions_in_interval(rows, coverage)), coverage / 100.0)
        )
    return found | {"lean": float(positions_in_interval(rows, 80).mean())}


def positions_in_interval(rows: pd.DataFrame, coverage: int) -> Floats:
    """Return where outcomes lie between the forecast and the ends of an interval, in log returns.

    1 is the upper end and -1 the lower. Intervals need not be symmetric: an outcome is measured on its own side.
    """
    centre = np.log(rows["predicted_price"].to_numpy(dtype=np.float64))
    moved, lower, upper = (
        np.log(rows[name].to_numpy(dtype=np.float64)) - centre
        for name in ("actual_price", f"lower_{coverage}", f"upper_{coverage}")
    )
    positions: Floats = moved / np.maximum(np.where(moved < 0, -lower, upper), MIN_HALF_WIDTH)
    return positions


def _by_period(forecasts: pd.DataFrame, distances: Mapping[Any, float]) -> pd.DataFrame:
    parts = [
        forecasts[forecasts["origin"].between(pd.Timestamp(first), pd.Timestamp(last))].assign(period=period)
        for period, (first, last) in PERIODS.items()
    ]
    rows = pd.concat(parts, ignore_index=True)
    by = ["period", "model", "horizon"]
    table = score_table(rows, by)
    described = {
        key: describe_intervals(group, distances[key[1]], int(str(key[2])))
        for key, group in rows.groupby(by, sort=False)
    }
    columns = ["independent", *(f"{n}_{c}" for c in COVERAGES for n in ("miss", "factor")), "lean"]
    return table.join(pd.DataFrame([described[key] for key in table.index], table.index, columns))


def _bootstrap_intervals(index: pd.Index[Any], forecasts: pd.DataFrame, distances: Mapping[Any, float]) -> pd.DataFrame:
    """Return the ends of 95 % block-bootstrap intervals of :data:`WITH_INTERVALS`.

    Blocks are two horizons long; where there are fewer than two blocks, or no score, the ends are NaN.
    """
    actual = forecasts["actual_price"]
    losses = forecasts[["model", "horizon", "origin", "crps"]].assign(
        error=(forecasts["predicted_price"] - actual).abs(),
        **{f"coverage_{c}": 1.0 * actual.between(forecasts[f"lower_{c}"], forecasts[f"upper_{c}"]) for c in COVERAGES},
    )
    walk = losses.loc[losses["model"] == RANDOM_WALK, ["horizon", "origin", "crps", "error"]]
    losses = losses.merge(walk, on=["horizon", "origin"], how="left", suffixes=("", "_random_walk"))
    ratios = {"skill": ["error", "error_random_walk"], "crps_skill": ["crps", "crps_random_walk"]}
    groups = dict(list(losses.sort_values("origin").groupby(["model", "horizon"])))
    ends = []
    for model, horizon in index:
        block = math.ceil(2 * horizon / distances[model])
        row: dict[str, float] = {}
        for name in WITH_INTERVALS:
            values = groups[model, horizon][ratios.get(name, [name])].to_numpy()
            low = high = math.nan
            if len(values) >= 2 * block and np.isfinite(values).all():
                statistic = _one_minus_ratio if name in ratios else _first
                low, high = map(float, block_bootstrap(values, block=block, statistic=statistic))
            row |= {f"{name}_low": low, f"{name}_high": high}
        ends.append(row)
    return pd.DataFrame(ends, index=index)


def _one_minus_ratio(means: Floats) -> Floats:
    return 1.0 - means[..., 0] / means[..., 1]


def _first(means: Floats) -> Floats:
    return means[..., 0]


def _with_crps_verdicts(verdicts: pd.DataFrame, forecasts: pd.DataFrame) -> pd.DataFrame:
    """Add the Diebold-Mariano test of CRPS against HAR; empty where a model has no CRPS, or other origins than HAR."""
    crps = forecasts.set_index(["model", "horizon", "origin"])["crps"].sort_index()
    rows = []
    for model, horizon in verdicts.index:
        row: dict[str, object] = {"crps_p_value": math.nan, "crps_outcome": "", "crps_verdict": ""}
        if model != VOLATILITY_RIVAL and (VOLATILITY_RIVAL, horizon) in verdicts.index:
            own, rival = crps.loc[(model, horizon)], crps.loc[(VOLATILITY_RIVAL, horizon)]
            enough = own.index.equals(rival.index) and len(own) >= max(MIN_LOSSES, 2 * horizon)
            if enough and own.notna().all() and rival.notna().all():
                test = diebold_mariano(own, rival, horizon)
                row = dict(zip(row, (test.p_value, test.outcome(), verdict(test, rival="HAR")), strict=True))
        rows.append(row)
    return verdicts.join(pd.DataFrame(rows, index=verdicts.index))


def _calibration_errors(forecasts: pd.DataFrame) -> pd.DataFrame:
    """Return the expected calibration error of ``p_up`` and ``confidence`` per model and horizon, and pooled."""
    errors: dict[tuple[Any, Any], dict[str, float]] = {}
    for model, rows in forecasts.groupby("model", sort=False):
        for horizon, part in [*rows.groupby("horizon"), ("all", rows)]:
            errors[model, horizon] = {
                stated: metrics.expected_calibration_error(*_stated_and_happened(part, stated))
                for stated in ("p_up", "confidence")
            }
    index = pd.MultiIndex.from_tuples(list(errors), names=["model", "horizon"])
    return pd.DataFrame(list(errors.values()), index=index)


def _stated_and_happened(rows: pd.DataFrame, stated: str) -> tuple[Floats, Floats]:
    """Return stated probabilities, and 1 or 0 for whether their event happened."""
    happened = hits(rows) if stated == "confidence" else (rows["actual_price"] > rows["last_close"]).to_numpy()
    return rows[stated].to_numpy(dtype=np.float64), happened.astype(np.float64)


def _with_interval(rows: pd.DataFrame, name: str, form: str) -> pd.Series[Any]:
    texts = [
        form.format(value) if math.isnan(low) else f"{form} [{form}, {form}]".format(value, low, high)
        for value, low, high in rows[[name, f"{name}_low", f"{name}_high"]].itertuples(index=False)
    ]
    return pd.Series(texts, index=rows.index)


def _cause(row: Mapping[Any, float], coverage: int) -> str:
    """Say what made coverage too high or too low: the size of the moves, or their direction."""
    factor = row[f"factor_{coverage}"]
    sentence = f"At {factor:.2f} times its width it would have been {coverage} %"
    if factor < 1.0:
        beyond = ", although the largest moves exceeded the 95 % interval" if row["factor_95"] > 1.0 else ""
        return f"{sentence}: most of these sessions were calmer than the past had suggested{beyond}."
    if abs(row["lean"]) > 0.5 * factor:
        return f"{sentence}: prices trended {'upwards' if row['lean'] > 0 else 'downwards'} for long."
    return f"{sentence}: these sessions were more volatile than the past had suggested."
