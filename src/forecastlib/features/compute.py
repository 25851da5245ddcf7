"""Choosing features by a configuration, and computing them."""

import itertools

import numpy as np
import pandas as pd

from forecastlib.config import FeatureConfig, unknown_name
from forecastlib.data.prices import require_prices
from forecastlib.errors import ConfigError, NotEnoughDataError
from forecastlib.features.base import Feature, History
from forecastlib.features.registry import CATALOGUE, GROUPS, own_features
from forecastlib.features.rolling import Array


def choose_features(config: FeatureConfig | None = None) -> tuple[Feature, ...]:
    """Return the features that a configuration chooses: built-in ones in the catalogue's order, then the user's own.

    Parameters
    ----------
    config
        ``groups`` and ``names`` choose among the built-in features, each all of them when empty; with both, the names
        must lie in the groups. The features in ``custom`` are always added; to compute only these, choose their group.
        None: all built-in features.

    Raises
    ------
    ConfigError
        If a group or a feature is unknown, or a name lies outside the groups.

    Examples
    --------
    >>> [feature.name for feature in choose_features(FeatureConfig(names=("rsi_14", "close")))]
    ['close', 'rsi_14']
    """
    config = config or FeatureConfig()
    own = own_features(config.custom)
    groups = dict.fromkeys((*GROUPS, *(feature.group for feature in own)))
    names = dict.fromkeys((*CATALOGUE, *(feature.name for feature in own)))
    for group in config.groups:
        if group not in groups:
            raise ConfigError(unknown_name("feature group", group, groups))
    for name in config.names:
        if name not in names:
            raise ConfigError(unknown_name("feature", name, names) + "; list features of your own in custom")
    available = [feature for feature in CATALOGUE.values() if feature.group in (config.groups or GROUPS)]
    outside = set(config.names) - {feature.name for feature in (*available, *own)}
    if outside:
        raise ConfigError(
            f"expected names of features in the groups {', '.join(config.groups)}; "
            f"got {', '.join(sorted(outside))}; add their groups, or leave groups empty"
        )
    return (*(feature for feature in available if not config.names or feature.name in config.names), *own)


def warm_up(config: FeatureConfig | None = None) -> int:
    """Return the longest lookback of the features that a configuration chooses: the number of leading NaN rows.

    Examples
    --------
    >>> warm_up(), warm_up(FeatureConfig(names=("rsi_14",)))
    (252, 108)
    """
    return max(feature.lookback for feature in choose_features(config))


def catalogue(config: FeatureConfig | None = None) -> pd.DataFrame:
    """Return the features that a configuration chooses as a table: name, group, lookback, description.

    Examples
    --------
    >>> catalogue(FeatureConfig(groups=("calendar",)))["lookback"].tolist()
    [0, 0, 0, 0]
    """
    return pd.DataFrame(
        [(f.name, f.group, f.lookback, f.description) for f in choose_features(config)],
        columns=["name", "group", "lookback", "description"],
    ).set_index("name")


def compute_features(prices: pd.DataFrame, config: FeatureConfig | None = None) -> pd.DataFrame:
    """Compute the features of one symbol.

    Parameters
    ----------
    prices
        Complete prices of n sessions.
    config
        The form, the groups or names to choose, and the user's own features; None: all built-in features in the
        relative form.

    Returns
    -------
    DataFrame
        n rows on the index of ``prices``, one float64 column per feature (152 by default) in the order of
        :func:`choose_features`; ``attrs["symbol"]`` as in ``prices``. The first :func:`warm_up` rows are NaN in all
        columns, no later value is NaN or infinite. Row t depends on rows t - warm_up ... t of ``prices`` only, to the
        last bit.

    Raises
    ------
    ConfigError
        If a group or a feature is unknown.
    DataQualityError
        If ``prices`` is not a complete frame of prices, or a feature of the user returns something else than one finite
        number per session.
    NotEnoughDataError
        If there are too few sessions for one complete row.

    Examples
    --------
    With the two features ``close`` (lookback 1) and ``return_3`` (lookback 3) the warm-up is 3::

        row          0    1    2    3                4
        close       NaN  NaN  NaN  log(c[3] / c[2])  log(c[4] / c[3])
        return_3    NaN  NaN  NaN  log(c[3] / c[0])  log(c[4] / c[1])
    """
    require_prices(prices)
    return feature_frame(prices, config)


def feature_frame(prices: pd.DataFrame, config: FeatureConfig | None = None) -> pd.DataFrame:
    """Compute the features of prices that :func:`~forecastlib.data.prices.require_prices` has already validated.

    Parameters, result and other errors are those of :func:`compute_features`.
    """
    config = config or FeatureConfig()
    features = choose_features(config)
    first = max(feature.lookback for feature in features)
    if len(prices) <= first:
        raise NotEnoughDataError(
            f"expected at least {first + 1} sessions, of which {first} are the warm-up of the features; got "
            f"{len(prices)}; provide a longer history, or choose features of shorter lookbacks (see catalogue())"
        )
    history = History(prices)
    rows: list[Array] = []
    for _, group in itertools.groupby(features, lambda feature: feature.group):
        rows.extend(feature.compute(history, config.form) for feature in group)
        history.clear()  # groups share little
    values = np.stack(rows)
    values[:, :first] = np.nan
    frame = pd.DataFrame(values.T, index=prices.index, columns=[feature.name for feature in features], copy=False)
    frame.attrs = {"symbol": prices.attrs["symbol"]} if "symbol" in prices.attrs else {}
    return frame
