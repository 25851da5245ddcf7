import dataclasses

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import Ridge as RidgeRegression
from sklearn.model_selection import GridSearchCV, TimeSeriesSplit
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from forecastlib.config import RunConfig, WindowConfig
from forecastlib.errors import ConfigError, NotFittedError
from forecastlib.models.naive import Drift, RandomWalk
from forecastlib.models.tabular import FOLDS, PENALTIES, GradientBoosting, Ridge, forward_errors
from forecastlib.samples.splits import Split, holdout
from forecastlib.samples.windows import Windows, make_windows

HORIZONS = (3, 5, 10)
MODELS = [RandomWalk, Drift, Ridge, GradientBoosting]


def market(n: int = 900, seed: int = 0, signal: float = 0.6) -> pd.DataFrame:
    """Prices whose column ``hint`` (stored in attrs) predicts part of the next returns."""
    rng = np.random.default_rng(seed)
    hint = rng.normal(size=n)
    returns = 0.01 * rng.normal(size=n) + 0.0004
    returns[1:] += 0.01 * signal * hint[:-1]
    close = 100 * np.exp(np.cumsum(returns))
    index = pd.DatetimeIndex(pd.bdate_range("2001-01-02", periods=n), name="date").as_unit("us")
    spread = np.exp(0.003 * rng.uniform(0.5, 1.5, n))
    frame = pd.DataFrame({"open": close, "high": close * spread, "low": close / spread, "close": close}, index=index)
    frame["volume"] = 1e6
    frame.attrs = {"symbol": "TEST"}
    return frame.assign(hint=hint)


def samples(seed: int = 0, target: str = "log_return") -> tuple[Windows, Split, pd.DataFrame]:
    frame = market(seed=seed)
    prices = frame.drop(columns="hint")
    rng = np.random.default_rng(seed + 1)
    noise = {f"noise_{i}": rng.normal(size=len(frame)) for i in range(10)}
    features = pd.DataFrame({"hint": frame["hint"]} | noise, index=frame.index)
    windows = make_windows(prices, features, WindowConfig(lookback=5, horizons=HORIZONS, target=target))
    return windows, holdout(windows), prices


def sets(windows: Windows, split: Split) -> tuple[Windows, Windows, Windows]:
    return tuple(windows.take(index) for index in split.sets().values())


@pytest.mark.parametrize("kind", MODELS)
def test_a_point_model_gives_points_and_calibrated_intervals_for_every_origin(kind):
    windows, split, _ = samples()
    train, validation, test = sets(windows, split)
    distribution = kind().fit(train, validation).predict(test)
    points = distribution.median()
    assert points.shape == (len(test), 3)
    lower, upper = distribution.interval(0.80)
    assert (lower < points).all() and (points < upper).all()
    actual = test.labels()
    assert 0.65 < ((actual >= lower) & (actual <= upper)).mean() < 0.95


@pytest.mark.parametrize("kind", MODELS)
def test_a_point_model_never_sees_the_labels_it_forecasts(kind):
    windows, split, _ = samples()
    train, validation, test = sets(windows, split)
    model = kind().fit(train, validation)
    known = model.predict(test)
    np.testing.assert_array_equal(model.predict(test.without_labels()).quantiles, known.quantiles)
    one = model.predict(test.take([7]))
    np.testing.assert_allclose(one.median()[0], known.median()[7], rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("target", ["price", "vol_scaled"])
def test_forecasts_do_not_depend_on_the_target_of_the_network(target):
    by_target = []
    for kind in ("log_return", target):
        windows, split, _ = samples(target=kind)
        train, validation, test = sets(windows, split)
        by_target.append(Ridge().fit(train, validation).location(test))
    np.testing.assert_allclose(*by_target, rtol=1e-6, atol=1e-9)


def test_the_random_walk_forecasts_no_change():
    windows, split, _ = samples()
    train, validation, test = sets(windows, split)
    assert (RandomWalk().fit(train, validation).predict(test).median() == 0).all()


def test_the_drift_is_the_mean_return_per_session_of_the_training_samples_times_the_horizon():
    windows, split, prices = samples()
    train, validation, test = sets(windows, split)
    points = Drift().fit(train, validation).location(test)
    close = prices["close"].to_numpy()
    mean = np.mean([np.log(close[row + 3] / close[row]) / 3 for row in train.rows])
    np.testing.assert_allclose(points[0], mean * np.array(HORIZONS))


@pytest.mark.parametrize("kind", [Ridge, GradientBoosting])
def test_a_tabular_model_finds_a_planted_signal_and_shrinks_to_the_mean_without_one(kind):
    windows, split, _ = samples()
    train, validation, test = sets(windows, split)
    learned = kind().fit(train, validation).location(test)
    # The hint predicts one return in three, with a correlation of 0.6 / 1.17: at best 0.30 over three sessions.
    assert np.corrcoef(learned[:, 0], test.labels()[:, 0])[0, 1] > 0.15
    rng = np.random.default_rng(0)
    blind = [dataclasses.replace(part, matrix=rng.normal(size=part.matrix.shape)) for part in (train, validation, test)]
    guessed = kind().fit(blind[0], blind[1]).location(blind[2])
    assert guessed[:, 0].std() < 0.6 * learned[:, 0].std()


def test_the_errors_of_penalties_equal_those_of_scikit_learns_search():
    windows, split, _ = samples()
    train = windows.take(split.train)
    features, returns = train.last_rows, train.labels()
    ours = forward_errors(features, returns, gap=10)
    for horizon in range(3):
        search = GridSearchCV(
            make_pipeline(StandardScaler(), RidgeRegression()),
            {"ridge__alpha": PENALTIES},
            scoring="neg_mean_squared_error",
            cv=TimeSeriesSplit(n_splits=FOLDS, gap=10),
        ).fit(features, returns[:, horizon])
        size = len(features) // (FOLDS + 1) * FOLDS
        np.testing.assert_allclose(ours[:, horizon] / size, -search.cv_results_["mean_test_score"], rtol=1e-9)
        assert PENALTIES[ours[:, horizon].argmin()] == search.best_params_["ridge__alpha"]


def test_the_penalty_is_chosen_with_a_gap_of_the_longest_horizon():
    windows, split, _ = samples(seed=8)  # with these samples the gap makes a difference
    train, validation, _ = sets(windows, split)
    purged, adjacent = (forward_errors(train.last_rows, train.labels(), gap).argmin(axis=0) for gap in (10, 0))
    assert (purged != adjacent).any()
    model = Ridge().fit(train, validation)
    np.testing.assert_array_equal(model._model["ridge"].alpha, PENALTIES[purged])


def test_boosting_with_the_same_seed_gives_the_same_forecasts():
    windows, split, _ = samples()
    train, validation, test = sets(windows, split)
    config = RunConfig.from_parameters(seed=3)
    first, second = (GradientBoosting(config).fit(train, validation).location(test) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_one_horizon_is_enough():
    frame = market(400)
    prices = frame.drop(columns="hint")
    windows = make_windows(prices, frame[["hint"]], WindowConfig(lookback=5, horizons=(5,)))
    train, validation, test = sets(windows, holdout(windows))
    for kind in MODELS:
        assert kind().fit(train, validation).predict(test).median().shape == (len(test), 1)


def test_unlabelled_samples_and_unfitted_models_are_refused():
    windows, split, _ = samples()
    train, _, test = sets(windows, split)
    with pytest.raises(NotFittedError, match="ridge is not"):
        Ridge().predict(test)
    with pytest.raises(ConfigError, match="10 of 10 have no label yet"):
        RandomWalk().fit(train, windows.take(range(len(windows) - 10, len(windows))))
