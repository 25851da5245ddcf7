"""Tabular models of the features on the origin's own session: ridge regression and gradient boosting."""

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

from forecastlib.models.naive import PointModel
from forecastlib.samples.windows import Windows

Floats = npt.NDArray[np.float64]


class Ridge(PointModel):
    """Ridge regression on standardised features, with a penalty for each horizon.

    The penalty is chosen by cross-validation forward in time; as many sessions as the longest horizon are left out
    between the rows that are fitted and the rows that follow, so that they share no label.
    """

    name = "ridge"

    def fit_location(self, train: Windows, validation: Windows) -> None:
        """Choose the penalty of each horizon forward in time, then fit on the whole training set."""
        # Pooled symbols follow one another: in order of date, no part is validated on rows that come before it.
        order = np.argsort(train.origins, kind="stable")
        features, returns = train.last_rows[order], train.labels()[order]
        gap = train.config.horizons[-1] * len(np.unique(train.symbols))
        with _one_thread():
            best = forward_errors(features, returns, gap).argmin(axis=0)
            self._model = make_pipeline(StandardScaler(), RidgeRegression(alpha=PENALTIES[best]))
            self._model.fit(features, returns)

    def location(self, samples: Windows) -> Floats:
        """Predict from the features of each origin's session."""
        predicted = self._model.predict(samples.last_rows)
        return np.reshape(predicted, (len(samples), -1))  # scikit-learn drops the axis of a single horizon


PENALTIES: Floats = np.logspace(0, 6, 13)
"""Ridge penalties to choose from: from almost no shrinkage to almost the mean."""

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
        Rows left out between the rows that are fitted and those that are predicted.

    Returns
    -------
    ndarray, shape (penalties, horizons)
        All penalties and horizons share one singular value decomposition per fold (Hastie, Tibshirani and Friedman,
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


class GradientBoosting(PointModel):
    """Histogram gradient boosting, one model per horizon: shallow trees, large leaves, a small learning rate.

    Boosting stops when the score on the validation set, which is later in time, no longer improves. The validation rows
    that scikit-learn would draw are random, and their labels overlap with those of the training rows.
    """

    name = "gradient_boosting"

    def fit_location(self, train: Windows, validation: Windows) -> None:
        """Boost each horizon until the score on the validation set no longer improves."""
        returns, later = train.labels(), validation.labels()
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
                ).fit(train.last_rows, returns[:, i], X_val=validation.last_rows, y_val=later[:, i])
                for i in range(returns.shape[1])
            ]

    def location(self, samples: Windows) -> Floats:
        """Predict from the features of each origin's session."""
        features = samples.last_rows
        with _one_thread():
            return np.column_stack([model.predict(features) for model in self._models])


def _one_thread() -> AbstractContextManager[Any]:
    """Limit linear algebra and trees to one thread.

    At these sizes threads spin after every few microseconds of work: two gain little on idle cores, and took 9 to 36
    times as long as one on busy cores.
    """
    limits: AbstractContextManager[Any] = threadpool_limits(limits=1)
    return limits
