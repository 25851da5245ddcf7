"""Parts that are wrong on purpose, to see the audit catch them; never use one.

Every one of them is found in published work on forecasting prices. :data:`LEAKS` names each, with the check that must
catch it and a word that must be among the culprits; :func:`caught` tries them all.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import pandas as pd

from forecastlib.auditing.auditing import FEATURE_CHECKS, SET_CHECKS, audit
from forecastlib.auditing.recipe import Recipe, ridge_forecast
from forecastlib.auditing.report import CANARY
from forecastlib.config import FeatureConfig, ModelConfig, RunConfig, SplitConfig, WindowConfig
from forecastlib.features import compute_features
from forecastlib.models.baselines.interface import labels
from forecastlib.models.uncertainty import Past, known_past
from forecastlib.samples.scaling import Scaling
from forecastlib.samples.splits import Split
from forecastlib.samples.windows import Windows, make_windows

Floats = npt.NDArray[np.float64]
FeatureOfPrices = Callable[[pd.DataFrame], "pd.Series[float]"]


def unspoiled(prices: pd.DataFrame) -> pd.DataFrame:
    """Leave the prices as they are."""
    return prices


@dataclass(frozen=True)
class Leak:
    """A planted leak.

    Attributes
    ----------
    name : str
        What is wrong.
    check : str
        The check that must catch it.
    culprit : str
        What that check must name: the beginning of one of its culprits.
    recipe : Recipe
        The recipe with the wrong part in it.
    spoil : (prices) -> prices
        What happened to the prices; most leaks leave them alone.
    """

    name: str
    check: str
    culprit: str
    recipe: Recipe = field(default_factory=Recipe)
    spoil: Callable[[pd.DataFrame], pd.DataFrame] = unspoiled


def with_feature(name: str, trained: FeatureOfPrices, served: FeatureOfPrices | None = None) -> Recipe:
    """Return the real recipe with one more feature; serving may compute it in another way."""

    def features(prices: pd.DataFrame, config: FeatureConfig) -> pd.DataFrame:
        return compute_features(prices, config).assign(**{name: trained(prices)})

    def serve(prices: pd.DataFrame, config: RunConfig) -> Windows:
        features = compute_features(prices, config.features).assign(**{name: (served or trained)(prices)})
        return make_windows(prices, features, config.window)

    return Recipe(features=features, serve=serve)


def centred_mean(prices: pd.DataFrame) -> pd.Series[float]:
    """Average the closes of ten sessions before and ten after, over the close."""
    sides = pd.concat([prices["close"].shift(lag) for lag in range(-10, 11)], axis=1)
    ratio: pd.Series[float] = sides.mean(axis=1) / prices["close"] - 1.0
    return ratio


def over_the_whole_series(prices: pd.DataFrame) -> pd.Series[float]:
    """Normalise the close by the mean and the standard deviation of the whole series."""
    close = np.log(prices["close"])
    normalised: pd.Series[float] = (close - close.mean()) / close.std()
    return normalised


def monthly_filled_backwards(prices: pd.DataFrame) -> pd.Series[float]:
    """Take the volume of a month, known at its end, and fill it backwards into the days of that month."""
    months = pd.DatetimeIndex(prices.index).to_period("M")
    total: pd.Series[float] = np.log1p(prices["volume"]).groupby(months).cumsum()
    return total.where(months != np.roll(months, -1)).bfill().fillna(0.0)


def average_from_the_first_row(prices: pd.DataFrame) -> pd.Series[float]:
    """Average exponentially from whatever row the prices begin with: causal, but serving begins with another one."""
    average = prices["close"].ewm(span=200, adjust=False).mean()
    ratio: pd.Series[float] = average / prices["close"] - 1.0
    return ratio


def scaling_of_all_rows(windows: Windows, split: Split, config: ModelConfig) -> Scaling:
    """Fit the scalers before splitting."""
    return Scaling(config).fit(windows, np.flatnonzero(windows.labelled))


def split_without_purge(windows: Windows, config: SplitConfig) -> Split:
    """Cut the labelled samples at the shares, and leave no gap."""
    rows = np.flatnonzero(windows.labelled)
    first = round(config.train_share * len(rows))
    second = round((config.train_share + config.validation_share) * len(rows))
    return Split(rows[:first], rows[first:second], rows[second:])


def clipped_tail(prices: pd.DataFrame, features: pd.DataFrame, config: WindowConfig) -> Windows:
    """Label the newest sessions with the last close that there is."""
    windows = make_windows(prices, features, config)
    rows = prices.index.get_indexer(windows.origins)
    ahead = np.minimum(rows[:, None] + np.asarray(config.horizons), len(prices) - 1)
    close = prices["close"].to_numpy()
    clipped = np.log(close[ahead] / close[rows][:, None])
    if config.target == "price":
        clipped = close[ahead]
    return replace(
        windows,
        y=np.where(np.isnan(windows.y), clipped, windows.y),
        label_dates=pd.DatetimeIndex(windows.label_dates.fillna(prices.index[-1])),
    )


def calibration_into_the_test(prices: pd.DataFrame, windows: Windows, split: Split, config: RunConfig) -> Past:
    """Calibrate the ranges on the first half of the test set as well."""
    until = windows.label_dates[split.test[len(split.test) // 2]]
    return known_past(prices, until, config.window.horizons)


def deviation(prices: pd.DataFrame, ddof: int = 1) -> pd.Series[float]:
    """Return the standard deviation of 21 log returns."""
    returns = np.log(prices["close"]).diff()
    lags = pd.concat([returns.shift(lag) for lag in range(21)], axis=1)
    spread: pd.Series[float] = lags.std(axis=1, ddof=ddof).fillna(0.0)
    return spread


def deviation_by_n(prices: pd.DataFrame) -> pd.Series[float]:
    """Return the same divided by n in the place of n - 1, as another library does."""
    return deviation(prices, ddof=0)


def corrected_on_the_test_set(train: Windows, validation: Windows, test: Windows, prices: pd.DataFrame) -> Floats:
    """Shift and stretch the forecasts of each horizon to fit the test set, as is done to correct a bias."""
    forecasts, actual = ridge_forecast(train, validation, test, prices), labels(test)
    deviation = forecasts - forecasts.mean(axis=0)
    slope = (deviation * actual).sum(axis=0) / (deviation**2).sum(axis=0)
    corrected: Floats = actual.mean(axis=0) + slope * deviation
    return corrected


def interpolated_between_weeks(prices: pd.DataFrame) -> pd.DataFrame:
    """Draw a straight line between every fifth close, as is done to turn weekly prices into daily ones."""
    kept = prices["close"].where(np.arange(len(prices)) % 5 == 0)
    factor = kept.interpolate().ffill() / prices["close"]
    drawn = prices.assign(**{name: prices[name] * factor for name in ("open", "high", "low", "close")})
    drawn.attrs = dict(prices.attrs)
    return drawn


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
        "calibration rows shared with the test set",
        "calibration",
        "test set",
        Recipe(calibration=calibration_into_the_test),
    ),
    Leak(
        "a feature computed by other code in serving",
        "served_features",
        "deviation_21",
        with_feature("deviation_21", deviation, deviation_by_n),
    ),
    Leak(
        "a feature that depends on where the history begins",
        "served_features",
        "average_200",
        with_feature("average_200", average_from_the_first_row),
    ),
    Leak(
        "prices interpolated between weeks",
        "single_features",
        "",
        spoil=interpolated_between_weeks,
    ),
    Leak(
        "forecasts corrected on the test set",
        CANARY,
        "corrected_on_the_test_set",
        Recipe(forecast=corrected_on_the_test_set),
    ),
)
"""One leak of each kind."""


def caught(prices: pd.DataFrame, config: RunConfig | None = None, leaks: Collection[Leak] = LEAKS) -> pd.DataFrame:
    """Audit each leak, by the check that must catch it and those of its kind.

    Parameters
    ----------
    prices, config
        As for :func:`forecastlib.audit`.
    leaks
        The leaks to try.

    Returns
    -------
    DataFrame
        One row a leak: ``leak``; ``caught``, whether the check meant for it named it; ``by``, the checks that found
        something; ``culprits``, what the check meant for it named.
    """
    rows = []
    for leak in leaks:
        report = audit(leak.spoil(prices), config, recipe=leak.recipe, checks=_of_its_kind(leak.check))
        finding = report.finding(leak.check)
        named = any(culprit.startswith(leak.culprit) for culprit in finding.culprits)
        rows.append((leak.name, named, ", ".join(report.culprits()), finding.named))
    return pd.DataFrame(rows, columns=["leak", "caught", "by", "culprits"])


def _of_its_kind(check: str) -> tuple[str, ...]:
    return next((kind for kind in (FEATURE_CHECKS, SET_CHECKS) if check in kind), (check,))
