"""The catalogue of features, and computing those a configuration chooses."""

import numpy as np
import pandas as pd

from forecastlib.config import FeatureConfig, unknown_name
from forecastlib.data.prices import require_prices
from forecastlib.errors import ConfigError, NotEnoughDataError
from forecastlib.features import bar, calendar, momentum, statistics, trend, volatility, volume
from forecastlib.features.feature import Feature
from forecastlib.features.history import History

GROUPS: dict[str, tuple[Feature, ...]] = {
    "bar": bar.FEATURES,
    "trend": trend.FEATURES,
    "momentum": momentum.FEATURES,
    "volatility": volatility.FEATURES,
    "volume": volume.FEATURES,
    "statistics": statistics.FEATURES,
    "calendar": calendar.FEATURES,
}
"""All features by group, in the order of the columns."""

CATALOGUE: dict[str, Feature] = {feature.name: feature for group in GROUPS.values() for feature in group}
"""All features by name, in the order of the columns."""

FORGET_AFTER = frozenset({*(features[-1].name for features in GROUPS.values()), "range_variation_21", "hurst_126"})
"""Features after which what was derived is let go: what follows shares little with what came before."""


def choose_features(config: FeatureConfig | None = None) -> tuple[Feature, ...]:
    """Return the features that a configuration keeps, in the catalogue's order.

    Parameters
    ----------
    config
        ``groups`` and ``names`` each keep what they list, and all when empty; with both, names must lie in the groups.
        None: all features.

    Raises
    ------
    ConfigError
        If a group or a name is unknown, or a name lies outside the groups.

    Examples
    --------
    >>> [feature.name for feature in choose_features(FeatureConfig(names=("rsi_14", "close")))]
    ['close', 'rsi_14']
    """
    config = config or FeatureConfig()
    for group in config.groups:
        if group not in GROUPS:
            raise ConfigError(unknown_name("feature group", group, GROUPS))
    for name in config.names:
        if name not in CATALOGUE:
            raise ConfigError(unknown_name("feature", name, CATALOGUE))
    kept = [feature for group in config.groups or GROUPS for feature in GROUPS[group]]
    outside = set(config.names) - {feature.name for feature in kept}
    if outside:
        raise ConfigError(
            f"expected names of features in the groups {', '.join(config.groups)}; "
            f"got {', '.join(sorted(outside))}; add their groups, or leave groups empty"
        )
    wanted = set(config.names) or {feature.name for feature in kept}
    return tuple(feature for name, feature in CATALOGUE.items() if name in wanted)


def warm_up(config: FeatureConfig | None = None) -> int:
    """Return the longest lookback of the features that a configuration keeps: the number of leading NaN rows.

    Examples
    --------
    >>> warm_up(), warm_up(FeatureConfig(names=("rsi_14",)))
    (252, 108)
    """
    return max(feature.lookback for feature in choose_features(config))


def catalogue(config: FeatureConfig | None = None) -> pd.DataFrame:
    """Return the features that a configuration keeps as a table: name, group, lookback, description.

    Examples
    --------
    >>> catalogue(FeatureConfig(groups=("calendar",)))["lookback"].tolist()
    [0, 0, 0, 0]
    """
    group_of = {feature.name: group for group, features in GROUPS.items() for feature in features}
    return pd.DataFrame(
        [(f.name, group_of[f.name], f.lookback, f.description) for f in choose_features(config)],
        columns=["name", "group", "lookback", "description"],
    ).set_index("name")


def compute_features(prices: pd.DataFrame, config: FeatureConfig | None = None) -> pd.DataFrame:
    """Compute technical features of one symbol.

    Parameters
    ----------
    prices
        Complete prices of n sessions.
    config
        The form, and the groups or names to keep; None: all features in the relative form.

    Returns
    -------
    DataFrame
        n rows on the index of ``prices``, one float64 column a feature (152 by default) in the catalogue's order;
        ``attrs["symbol"]`` as in ``prices``. The first :func:`warm_up` rows are NaN throughout, no later value is
        NaN or infinite. Row t depends on rows t - warm_up ... t of ``prices`` alone, to the last bit.

    Raises
    ------
    ConfigError
        If a group or a name is unknown.
    DataQualityError
        If ``prices`` is not a complete frame of prices.
    NotEnoughDataError
        If there are too few sessions for one whole row.

    Examples
    --------
    With the two features ``close`` (lookback 1) and ``return_3`` (lookback 3) the warm-up is 3::

        row          0    1    2    3                4
        close       NaN  NaN  NaN  log(c[3] / c[2])  log(c[4] / c[3])
        return_3    NaN  NaN  NaN  log(c[3] / c[0])  log(c[4] / c[1])
    """
    config = config or FeatureConfig()
    features = choose_features(config)
    require_prices(prices)
    first = max(feature.lookback for feature in features)
    if len(prices) <= first:
        raise NotEnoughDataError(
            f"expected at least {first + 1} sessions, of which {first} warm the features up; got {len(prices)}; "
            "give a longer history, or keep features of a shorter lookback only (see catalogue())"
        )
    history = History(prices)
    # One row a feature: each is written contiguously, and pandas takes the transposed block as it is.
    shape = len(features), len(prices)
    # A block that is given back at once: an allocator that adapts, as glibc's does, learns that as much comes and goes,
    # and keeps what is forgotten below for what is derived next. It would return it to the system each time, which
    # clears each page before it gives it out again; that took a third of the time.
    np.empty(shape)
    values = np.empty(shape)
    for row, feature in zip(values, features, strict=True):
        row[:] = feature.compute(history, config.form)
        if feature.name in FORGET_AFTER:
            history.forget()
    values[:, :first] = np.nan
    frame = pd.DataFrame(values.T, index=prices.index, columns=[feature.name for feature in features], copy=False)
    frame.attrs = {"symbol": prices.attrs["symbol"]} if "symbol" in prices.attrs else {}
    return frame
