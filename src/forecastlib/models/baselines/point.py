"""Point baselines: random walk, drift, ridge regression and gradient boosting on the features of the last row."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import Ridge as RidgeRegression
from sklearn.model_selection import TimeSeriesSplit
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from forecastlib.models.baselines.interface import PointBaseline, labels, last_rows
from forecastlib.samples.windows import Windows

Floats = npt.NDArray[np.float64]


class RandomWalk(PointBaseline):
    """The last close, for every horizon: what any forecast has to beat."""

    name = "random_walk"

    def _fit(self, train: Windows, validation: Windows) -> None:
        pass  # there is nothing to learn

    def _predict(self, windows: Windows) -> Floats:
        return np.zeros((len(windows), len(windows.config.horizons)))


class Drift(PointBaseline):
    """The random walk with the mean log return a session of the training samples, times the horizon."""

    name = "drift"

    def _fit(self, train: Windows, validation: Windows) -> None:
        horizons = np.asarray(train.config.horizons)
        # The shortest horizon's labels: they overlap the least.
        self._change = labels(train)[:, 0].mean() / horizons[0] * horizons

    def _predict(self, windows: Windows) -> Floats:
        return np.tile(self._change, (len(windows), 1))


class Ridge(PointBaseline):
    """Ridge regression on standardised features, with a penalty for each horizon.

    The penalty is chosen by cross-validation forward in time; as many sessions as the longest horizon are left out
    between the part that is fitted and the part that follows, so that no label is shared.
    """

    name = "ridge"

    def _fit(self, train: Windows, validation: Windows) -> None:
        # Pooled symbols stand one after the other: ordered by date, no part is judged by what lies before it.
        order = np.argsort(train.origins, kind="stable")
        features, returns = last_rows(train)[order], labels(train)[order]
        gap = train.config.horizons[-1] * len(np.unique(train.symbols))
        with _one_thread():
            best = forward_errors(features, returns, gap).argmin(axis=0)
            self._model = make_pipeline(StandardScaler(), RidgeRegression(alpha=PENALTIES[best]))
            self._model.fit(features, returns)

    def _predict(self, windows: Windows) -> Floats:
        predicted = self._model.predict(last_rows(windows))
        return np.reshape(predicted, (len(windows), -1))  # scikit-learn drops the axis of a single horizon


PENALTIES: Floats = np.logspace(0, 6, 13)
"""Ridge penalties tried, from hardly any to nearly the mean."""

FOLDS = 5


def forward_errors(features: Floats, returns: Floats, gap: int) -> Floats:
    """Return the summed squared errors of ridge regression for each penalty and horizon, forward in time.

    Parameters
    ----------
    features
        Shape (n, features), oldest first.
    returns
        Shape (n, horizons).
    gap
        Rows left out between what is fitted and what is predicted.

    Returns
    -------
    ndarray, shape (penalties, horizons)
        All penalties and horizons share one singular value decomposition a fold (Hastie, Tibshirani and Friedman,
        *The Elements of Statistical Learning*, 2009, equation 3.47).
    """
    errors = np.zeros((len(PENALTIES), returns.shape[1]))
    for past, future in TimeSeriesSplit(n_splits=FOLDS, gap=gap).split(features):
        scaler = StandardScaler().fit(features[past])
        mean = returns[past].mean(axis=0)
        u, singular, vt = np.linalg.svd(scaler.transform(features[past]), full_matrices=False)
        shrunk = singular / (singular**2 + PENALTIES[:, None])
        projected = scaler.transform(features[future]) @ vt.T
        predicted = mean + (projected * shrunk[:, None, :]) @ (u.T @ (returns[past] - mean))
        errors += ((predicted - returns[future]) ** 2).sum(axis=1)
    return errors


class GradientBoosting(PointBaseline):
    """Histogram gradient boosting, one a horizon: shallow trees, large leaves, a small learning rate.

    It is stopped when the validation set, which follows in time, sees no more progress: what scikit-learn would
    set aside by itself is drawn at random, and shares labels with what is fitted.

    Parameters
    ----------
    seed
        Seed of the features drawn for each split.
    """

    name = "gradient_boosting"

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def _fit(self, train: Windows, validation: Windows) -> None:
        returns, later = labels(train), labels(validation)
        with _one_thread():
            self._models = [
                HistGradientBoostingRegressor(
                    learning_rate=0.03,
                    max_iter=300,
                    max_leaf_nodes=8,
                    min_samples_leaf=50,
                    l2_regularization=10.0,
                    max_features=0.3,
                    early_stopping=True,
                    n_iter_no_change=20,
                    random_state=self.seed,
                ).fit(last_rows(train), returns[:, i], X_val=last_rows(validation), y_val=later[:, i])
                for i in range(returns.shape[1])
            ]

    def _predict(self, windows: Windows) -> Floats:
        features = last_rows(windows)
        with _one_thread():
            return np.column_stack([model.predict(features) for model in self._models])


def _one_thread() -> AbstractContextManager[Any]:
    """Keep linear algebra and trees to one thread.

    Threads wait for each other by spinning after every few microseconds of work: on idle cores two of them bring little
    at these sizes, and on busy ones they took 9 to 36 times as long as one.
    """
    limits: AbstractContextManager[Any] = threadpool_limits(limits=1)
    return limits
