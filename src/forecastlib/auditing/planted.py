"""Planted leaks: steps and models that leak on purpose, to test the audit with; never use one.

Each of them is found in published work on forecasting prices. :data:`LEAKS` lists them, with the check that must catch
each and what it must name; :func:`caught` tries them all.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import numpy.typing as npt
import pandas as pd

from forecastlib.auditing.audit import FEATURE_CHECKS, MIN_SHUFFLES, MODEL_CHECKS, SET_CHECKS, audit
from forecastlib.auditing.checks import CANARY
from forecastlib.config import FeatureConfig, ModelConfig, RunConfig, SplitConfig, WindowConfig
from forecastlib.features import compute_features
from forecastlib.models import Distribution, Model
from forecastlib.models.naive import PointModel
from forecastlib.models.tabular import Ridge
from forecastlib.recipe import Recipe
from forecastlib.samples.scaling import Scaling
from forecastlib.samples.splits import Split
from forecastlib.samples.windows import Windows, build_windows

Floats = npt.NDArray[np.float64]
FeatureOfPrices = Callable[[pd.DataFrame], "pd.Series[float]"]


@dataclass(frozen=True)
class Leak:
    """A planted leak.

    Attributes
    ----------
    name : str
        What is wrong.
    check : str
        The check that must catch it.
    affected : str
        How one of the names that the check reports must begin.
    recipe : Recipe
        The recipe with the leaking step.
    prices : (prices) -> prices
        Makes the prices to audit; most leaks leave them as they are.
    """

    name: str
    check: str
    affected: str
    recipe: Recipe = field(default_factory=Recipe)
    prices: Callable[[pd.DataFrame], pd.DataFrame] = field(default=lambda prices: prices)


# Features


def with_feature(name: str, trained: FeatureOfPrices, served: FeatureOfPrices | None = None) -> Recipe:
    """Return the real recipe with one more feature, which may be computed in another way in serving."""

    def adding(feature: FeatureOfPrices) -> Callable[[pd.DataFrame, FeatureConfig], pd.DataFrame]:
        return lambda prices, config: compute_features(prices, config).assign(**{name: feature(prices)})

    return Recipe(features=adding(trained), served_features=adding(served or trained))


def centred_mean(prices: pd.DataFrame) -> pd.Series[float]:
    """Average the closes of ten sessions before and ten after, relative to the close."""
    sides = pd.concat([prices["close"].shift(lag) for lag in range(-10, 11)], axis=1)
    ratio: pd.Series[float] = sides.mean(axis=1) / prices["close"] - 1.0
    return ratio


def over_the_whole_series(prices: pd.DataFrame) -> pd.Series[float]:
    """Normalise the close by the mean and the standard deviation of the whole series."""
    close = np.log(prices["close"])
    normalised: pd.Series[float] = (close - close.mean()) / close.std()
    return normalised


def monthly_filled_backwards(prices: pd.DataFrame) -> pd.Series[float]:
    """Fill the volume of a month, known at its end, backwards into the days of that month."""
    months = pd.DatetimeIndex(prices.index).to_period("M")
    total: pd.Series[float] = np.log1p(prices["volume"]).groupby(months).cumsum()
    return total.where(months != np.roll(months, -1)).bfill().fillna(0.0)


def average_from_the_first_row(prices: pd.DataFrame) -> pd.Series[float]:
    """Average exponentially from the first row on: causal, but serving begins with another row."""
    average = prices["close"].ewm(span=200, adjust=False).mean()
    ratio: pd.Series[float] = average / prices["close"] - 1.0
    return ratio


def deviation(prices: pd.DataFrame, ddof: int = 1) -> pd.Series[float]:
    """Return the standard deviation of 21 log returns; other libraries divide by n, which is ``ddof=0``."""
    returns = np.log(prices["close"]).diff()
    lags = pd.concat([returns.shift(lag) for lag in range(21)], axis=1)
    spread: pd.Series[float] = lags.std(axis=1, ddof=ddof).fillna(0.0)
    return spread


# Samples and sets


def scaling_of_all_rows(windows: Windows, split: Split, config: ModelConfig) -> Scaling:
    """Fit the scalers before splitting."""
    return Scaling(config).fit(windows, np.flatnonzero(windows.labelled))


def cut_at_the_shares(rows: npt.NDArray[np.int64], config: SplitConfig) -> Split:
    """Divide samples at the shares, in the order given and without a gap."""
    first = round(config.train_share * len(rows))
    second = round((config.train_share + config.validation_share) * len(rows))
    return Split(*(np.sort(part) for part in np.split(rows, [first, second])))


def split_without_purge(windows: Windows, config: SplitConfig) -> Split:
    """Cut the labelled samples at the shares, without a gap."""
    return cut_at_the_shares(np.flatnonzero(windows.labelled), config)


def split_at_random(windows: Windows, config: SplitConfig) -> Split:
    """Divide the labelled samples at random: nearly every test window has neighbours in the training set."""
    return cut_at_the_shares(np.random.default_rng(0).permutation(np.flatnonzero(windows.labelled)), config)


def clipped_tail(prices: pd.DataFrame, features: pd.DataFrame, config: WindowConfig) -> Windows:
    """Label the newest sessions with the last close."""
    windows = build_windows(prices, features, config)
    rows = prices.index.get_indexer(windows.origins)
    ahead = np.minimum(rows[:, None] + np.asarray(config.horizons), len(prices) - 1)
    close = prices["close"].to_numpy()
    clipped = close[ahead] if config.target == "price" else np.log(close[ahead] / close[rows][:, None])
    return replace(
        windows,
        y=np.where(np.isnan(windows.y), clipped, windows.y),
        label_dates=pd.DatetimeIndex(windows.label_dates.fillna(prices.index[-1])),
    )


def calibration_into_the_test_set(windows: Windows, split: Split) -> npt.NDArray[np.int64]:
    """Calibrate on the first half of the test set as well."""
    return np.concatenate([split.validation, split.test[: len(split.test) // 2]])


def interpolated_between_weeks(prices: pd.DataFrame) -> pd.DataFrame:
    """Draw a straight line between every fifth close, as is done to turn weekly prices into daily ones."""
    weekly = prices["close"].where(np.arange(len(prices)) % 5 == 0)
    factor = weekly.interpolate().ffill() / prices["close"]
    drawn = prices.assign(**{name: prices[name] * factor for name in ("open", "high", "low", "close")})
    drawn.attrs = dict(prices.attrs)
    return drawn


# Models and forecasts


def corrected_on_the_test_set(model: Model, samples: Windows) -> Distribution:
    """Shift and stretch the forecasts of each horizon to fit the outcomes, as is done to correct a bias."""
    distribution, actual = model.predict(samples.without_labels()), samples.labels()
    centre = distribution.median()
    deviation = centre - centre.mean(axis=0)
    slope = (deviation * actual).sum(axis=0) / (deviation**2).sum(axis=0)
    corrected = actual.mean(axis=0) + slope * deviation
    return Distribution(distribution.levels, distribution.quantiles + (corrected - centre)[:, :, None])


class TowardsTheLastClose(PointModel):
    """Forecasts the last close of the prices it is given, whatever the origin."""

    name = "towards_the_last_close"

    def fit_location(self, train: Windows, validation: Windows) -> None:
        """Do nothing: there are no parameters."""

    def location(self, samples: Windows) -> Floats:
        """Return the change from each origin to the last session of the prices."""
        change = np.empty(len(samples))
        for part in samples.by_symbol():
            change[part.index] = np.log(part.prices["close"].iloc[-1] / samples.last_close[part.index])
        return np.repeat(change[:, None], len(samples.config.horizons), axis=1)


class ClippedByAllRows(Ridge):
    """Ridge regression on features whose outliers are clipped at quantiles of the whole series."""

    name = "clipped_by_all_rows"

    def fit_location(self, train: Windows, validation: Windows) -> None:
        """Take the quantiles over all rows of the shared matrix, the test set's included."""
        self._bounds = np.nanquantile(train.matrix, (0.05, 0.95), axis=0)
        super().fit_location(self._clipped(train), validation)

    def location(self, samples: Windows) -> Floats:
        """Predict from clipped features."""
        return super().location(self._clipped(samples))

    def _clipped(self, samples: Windows) -> Windows:
        return replace(samples, matrix=np.clip(samples.matrix, *self._bounds))


LEAKS = (
    Leak(
        "a feature with a centred window", "future_cut_off", "centred_mean", with_feature("centred_mean", centred_mean)
    ),
    Leak(
        "a feature normalised over the whole series",
        "future_cut_off",
        "close_over_the_series",
        with_feature("close_over_the_series", over_the_whole_series),
    ),
    Leak(
        "a feature filled backwards",
        "future_changed",
        "volume_of_the_month",
        with_feature("volume_of_the_month", monthly_filled_backwards),
    ),
    Leak("a scaler fitted on all rows", "scalers", "scaler of", Recipe(scaling=scaling_of_all_rows)),
    Leak("a split without purge", "label_overlap", "train into validation", Recipe(split=split_without_purge)),
    Leak("a clipped tail", "unlabelled_tail", "labels of", Recipe(windows=clipped_tail)),
    Leak(
        "calibration samples shared with the test set",
        "calibration",
        "test set",
        Recipe(calibration=calibration_into_the_test_set),
    ),
    Leak(
        "a feature computed by other code in serving",
        "served_features",
        "deviation_21",
        with_feature("deviation_21", deviation, partial(deviation, ddof=0)),
    ),
    Leak(
        "a feature that depends on where the history begins",
        "served_features",
        "average_200",
        with_feature("average_200", average_from_the_first_row),
    ),
    Leak("prices interpolated between weeks", "single_features", "", prices=interpolated_between_weeks),
    Leak(
        "forecasts corrected on the test set",
        CANARY,
        "corrected_on_the_test_set",
        Recipe(predict=corrected_on_the_test_set),
    ),
    Leak(
        "a model that reads prices after the origin",
        "model_predictions",
        "towards_the_last_close",
        Recipe(model=TowardsTheLastClose),
    ),
    Leak(
        "a model that is fitted on rows of the test set",
        "model_fit",
        "clipped_by_all_rows",
        Recipe(model=ClippedByAllRows),
    ),
)
"""One leak of each kind."""


def caught(prices: pd.DataFrame, config: RunConfig | None = None, leaks: Collection[Leak] = LEAKS) -> pd.DataFrame:
    """Audit each leak, by the check that must catch it and related checks.

    Parameters
    ----------
    prices, config
        As for :func:`forecastlib.audit`.
    leaks
        The leaks to try.

    Returns
    -------
    DataFrame
        One row per leak: ``leak``; ``caught``, whether the check meant for it named it; ``by``, the checks that found
        something; ``affected``, what the check meant for it named.
    """
    rows = []
    for leak in leaks:
        kinds = (FEATURE_CHECKS, SET_CHECKS, MODEL_CHECKS, (leak.check,))
        checks = next(kind for kind in kinds if leak.check in kind)
        report = audit(leak.prices(prices), config, recipe=leak.recipe, checks=checks, shuffles=MIN_SHUFFLES)
        finding = report.finding(leak.check)
        named = any(name.startswith(leak.affected) for name in finding.affected)
        rows.append((leak.name, named, ", ".join(report.affected()), finding.affected_text))
    return pd.DataFrame(rows, columns=["leak", "caught", "by", "affected"])
