"""From what the tasks have led to, to the forecasts of every model: seeds are averaged, ranges adapt over time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from forecastlib.config import RunConfig
from forecastlib.evaluation.walkforward.scoring import positions_in_range
from forecastlib.evaluation.walkforward.tasks import AS_TRAINED, LSTM, QUANTILES, Task, worded
from forecastlib.forecasts import COLUMNS, COVERAGES
from forecastlib.models.distribution import LEVELS, Distribution
from forecastlib.models.uncertainty import adaptive_widening
from forecastlib.samples.splits import Split
from forecastlib.samples.windows import Windows

Floats = npt.NDArray[np.float64]

ADAPTIVE = f"{LSTM}_adaptive"


def pool(
    found: Mapping[Task, pd.DataFrame],
    prices: pd.DataFrame,
    windows: Windows,
    splits: Sequence[Split],
    config: RunConfig,
) -> pd.DataFrame:
    """Put the forecasts of all tasks together.

    Returns
    -------
    DataFrame
        A forecast frame with the columns ``crps``, ``fold`` and ``actual_price``, the models told apart by
        ``model_version``; those of :mod:`forecastlib.evaluation.walkforward`, fold by fold.
    """
    frames = []
    for fold, split in enumerate(splits, start=1):
        parts = [found[task] for task in sorted(found, key=_baselines_first) if task.fold == fold]
        test = windows.take(split.test)
        together = pd.concat(parts, ignore_index=True)
        as_trained = together["model_version"].str.startswith(AS_TRAINED)
        seeds = together[QUANTILES[0]].notna()
        means = {LSTM: together[seeds & ~as_trained], AS_TRAINED: together[seeds & as_trained]}
        averaged = [worded(test, prices, mean_of_seeds(rows), config, name) for name, rows in means.items()]
        frames += [part[[*COLUMNS, "crps"]].assign(fold=fold) for part in (together[~as_trained], *averaged)]
    own = pd.concat(frames, ignore_index=True)
    at = prices.index.get_indexer(pd.DatetimeIndex(own["origin"])) + own["horizon"].to_numpy()
    own = own.assign(actual_price=prices["close"].to_numpy()[at])
    adaptive = adapted(own[own["model_version"] == LSTM]).assign(model_version=ADAPTIVE, crps=np.nan)
    pooled = pd.concat([own, adaptive], ignore_index=True)
    pooled.attrs = {"direction_threshold": config.model.direction_threshold}
    return pooled


def _baselines_first(task: Task) -> tuple[int, int]:
    return task.fold, -1 if task.seed is None else task.seed


def mean_of_seeds(forecasts: pd.DataFrame) -> Distribution:
    """Average the distributions of networks that differ by their seed alone, quantile by quantile.

    Averaging quantiles keeps the width of the ranges as it is in the mean. Averaging probabilities would add to it the
    disagreement of the centres, for which the ranges of each network already allow (Lichtendahl, Grushka-Cockayne and
    Winkler, "Is It Better to Average Probabilities or Quantiles?", Management Science 59 (2013)).

    Parameters
    ----------
    forecasts
        Rows with :data:`~forecastlib.evaluation.walkforward.tasks.QUANTILES`, one model a seed, each of the same origins.
    """
    of_seeds = [rows[QUANTILES].to_numpy(dtype=np.float64) for _, rows in forecasts.groupby("model_version")]
    horizons = forecasts["horizon"].nunique()
    return Distribution(LEVELS, np.mean(of_seeds, axis=0).reshape(-1, horizons, len(LEVELS)))


def adapted(forecasts: pd.DataFrame) -> pd.DataFrame:
    """Widen or narrow ranges by how earlier ones have fared, see :func:`forecastlib.models.uncertainty.adaptive_widening`.

    Parameters
    ----------
    forecasts
        Forecasts of one model with ``actual_price``, one origin a session.

    Returns
    -------
    DataFrame
        The same rows, oldest origin first, their ranges moved about the point forecast in log returns; a range learns
        from those whose outcome was known at its origin alone. The rest is as it was.
    """
    ordered = forecasts.sort_values(["origin", "horizon"], kind="stable", ignore_index=True)
    changed = ordered.copy()
    for horizon, rows in ordered.groupby("horizon"):
        centre = np.log(rows["predicted_price"].to_numpy())
        for coverage in COVERAGES:
            scores = np.abs(positions_in_range(rows, coverage))
            factors = adaptive_widening(scores, coverage / 100.0, int(str(horizon)))
            for name in (f"lower_{coverage}", f"upper_{coverage}"):
                reach = np.log(rows[name].to_numpy()) - centre
                changed.loc[rows.index, name] = np.exp(centre + factors * reach)
    return changed
