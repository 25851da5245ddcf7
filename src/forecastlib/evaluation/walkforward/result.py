"""What a backtest has found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from forecastlib.evaluation import metrics
from forecastlib.evaluation.walkforward import scoring
from forecastlib.evaluation.walkforward.tasks import LSTM
from forecastlib.forecasts import COVERAGES

WORTH_EXPLAINING = 8.0
"""Percentage points by which coverage in a period may miss before it is explained."""


@dataclass(frozen=True, eq=False)
class BacktestResult:
    """Forecasts of every model on the test sets of all folds, and what they were worth.

    Attributes
    ----------
    forecasts : DataFrame
        A forecast frame with ``actual_price``, ``crps`` (per cent) and ``fold``; models by ``model_version``.
    scores : DataFrame
        Index ``model, horizon``; the columns of :data:`forecastlib.evaluation.evaluate.SCORES`, and the ends of 95 % bootstrap
        intervals: ``skill_low``, ``skill_high``, and so on for ``coverage_80``, ``coverage_95`` and ``crps_skill``.
    verdicts : DataFrame
        Diebold-Mariano tests of all folds' errors together: of absolute errors against the random walk (``p_value``,
        ``outcome``, ``verdict``), and of CRPS against HAR (``crps_p_value``, ``crps_outcome``, ``crps_verdict``).
    by_year : DataFrame
        Index ``year, model, horizon``: the scores of each calendar year of origins.
    by_period : DataFrame
        Index ``period, model, horizon``: how the ranges fared in named periods, those that the origins reach into.
    calibration : DataFrame
        Index ``model, horizon``: expected calibration error of ``p_up`` and ``confidence``; horizon ``all`` is pooled.
    folds : DataFrame
        Index ``fold``: first and last origin of each set, and when the last label of training and validation was known.
    tasks : DataFrame
        Index ``fold, seed`` (-1: the baselines): seconds and epochs it took, the weight of the network against the
        drift that its validation set supported, whether it was computed now or kept from before, and its MLflow run.
    symbol : str
    run_id : str
        The MLflow run that those of the tasks are nested in.
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
    run_id: str

    @property
    def models(self) -> list[str]:
        """The models, the random walk first."""
        return list(self.scores.index.unique("model"))

    @property
    def horizons(self) -> list[int]:
        """Sessions ahead, increasing."""
        return sorted(int(h) for h in self.scores.index.unique("horizon"))

    def over_time(self, model: str, horizon: int, *, window: int = 250) -> pd.DataFrame:
        """Return a model's skill and coverage over time, see :func:`forecastlib.evaluation.walkforward.scoring.over_time`."""
        return scoring.over_time(self.forecasts, model, horizon, window=window)

    def reliability(self, stated: str, model: str = LSTM, horizon: int | None = None) -> pd.DataFrame:
        """Compare probabilities that were stated with how often their event happened.

        Parameters
        ----------
        stated
            ``p_up`` or ``confidence``.
        model, horizon
            Whose; None: all horizons.

        Returns
        -------
        DataFrame
            See :func:`forecastlib.evaluation.metrics.reliability`.
        """
        settled = scoring.settled_probabilities(self.forecasts, model, horizon, stated)
        return metrics.reliability(settled["stated"], settled["happened"])

    def explanations(self, model: str = LSTM) -> list[str]:
        """Explain each range whose coverage in a named period misses by more than 8 percentage points, in a sentence.

        Examples
        --------
        ``2017, 30 sessions ahead: the 80 % range held 96 % (+16 points). It would have been right at 0.60 times its
        width: most sessions ahead were calmer than the past had led to expect. The 251 forecasts share labels and are
        worth about 8.``
        """
        sentences = []
        rows = self.by_period[self.by_period.index.get_level_values("model") == model].droplevel("model")
        for (period, horizon), row in zip(rows.index.tolist(), rows.to_dict("records"), strict=True):
            sentences += [
                f"{period}, {horizon} sessions ahead: the {coverage} % range held {row[f'coverage_{coverage}']:.0%} "
                f"({row[f'miss_{coverage}']:+.0f} points). {_cause(row, coverage)} The {row['n']:.0f} forecasts share "
                f"labels and are worth about {max(row['independent'], 1):.0f}."
                for coverage in COVERAGES
                if abs(row[f"miss_{coverage}"]) > WORTH_EXPLAINING
            ]
        return sentences

    def table(self) -> pd.DataFrame:
        """Return skill, CRPS and coverage of every model and horizon with their intervals as text, to be read."""
        rows = self.scores
        shown = {
            "skill": _with_interval(rows, "skill", "{:+.3f}"),
            "CRPS, %": rows["crps"].map("{:.3f}".format),
            "CRPS skill": _with_interval(rows, "crps_skill", "{:+.3f}"),
            "80 % range held": _with_interval(rows, "coverage_80", "{:.1%}"),
            "95 % range held": _with_interval(rows, "coverage_95", "{:.1%}"),
            "interval score 80": rows["interval_score_80"].map("{:.4f}".format),
        }
        return pd.DataFrame(shown, index=rows.index).replace(to_replace=r"^[+-]?nan.*", value="–", regex=True)

    def _repr_html_(self) -> str:
        first, last = self.forecasts["origin"].min(), self.forecasts["origin"].max()
        caption = (
            f"{self.symbol}: {len(self.folds)} folds, origins {first:%Y-%m-%d} to {last:%Y-%m-%d}; "
            "in brackets, 95 % block-bootstrap intervals"
        )
        html: str = self.table().style.set_caption(caption).to_html()
        return html


def _with_interval(rows: pd.DataFrame, name: str, form: str) -> pd.Series[Any]:
    ends = [rows[name], rows[f"{name}_low"], rows[f"{name}_high"]]
    return pd.Series(
        [
            f"{form} [{form}, {form}]".format(*values) if low == low else form.format(values[0])
            for values in zip(*ends, strict=True)
            for low in [values[1]]
        ],
        index=rows.index,
    )


def _cause(row: Mapping[Any, float], coverage: int) -> str:
    """Say what made a range hold too much or too little: the size of the moves, or their direction."""
    factor = row[f"factor_{coverage}"]
    said = f"It would have been right at {factor:.2f} times its width"
    if factor < 1.0:
        beyond = ", though the largest moves went beyond the 95 % range" if row["factor_95"] > 1.0 else ""
        return f"{said}: most sessions ahead were calmer than the past had led to expect{beyond}."
    if abs(row["lean"]) > 0.5 * factor:
        way = "upwards" if row["lean"] > 0 else "downwards"
        return f"{said}: prices went one way for long, {way}."
    return f"{said}: the sessions ahead were wilder than the past had led to expect."
