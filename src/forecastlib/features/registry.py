"""The features that this process knows, choosing among them by a configuration, and computing them.

A feature of your own is a function of the prices of one symbol that returns one value per session. Register it under a
name, or write it in a module and refer to it as ``"package.module:function"``; then list it in
:attr:`forecastlib.FeatureConfig.custom`. A registered name is known in this process only. A function in a module is
found by every process that can import it, such as a scheduled forecast or a service, and so suits models to be saved.
"""

import itertools
import re
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from forecastlib.config import FeatureConfig, unknown_name
from forecastlib.data.prices import require_prices
from forecastlib.errors import ConfigError, DataQualityError, NotEnoughDataError
from forecastlib.features import bars, returns, trend
from forecastlib.features.base import Feature, History
from forecastlib.features.rolling import Array

FeatureFunction = Callable[[pd.DataFrame], Any]
F = TypeVar("F", bound=FeatureFunction)

GROUPS: dict[str, tuple[Feature, ...]] = {
    group: tuple(replace(feature, group=group) for feature in features)
    for group, features in {
        "bar": bars.BAR,
        "trend": trend.TREND,
        "momentum": trend.MOMENTUM,
        "volatility": returns.VOLATILITY,
        "volume": bars.VOLUME,
        "statistics": returns.STATISTICS,
        "calendar": bars.CALENDAR,
    }.items()
}
"""The built-in features by group, in the order of the columns."""

CATALOGUE: dict[str, Feature] = {feature.name: feature for group in GROUPS.values() for feature in group}
"""The built-in features by name, in the order of the columns."""

_registered: dict[str, Feature] = {}


def feature(*, lookback: int, group: str = "own") -> Callable[[F], F]:
    """Declare the lookback of a function that is listed as ``"package.module:function"``; its name is the feature's.

    Parameters
    ----------
    lookback, group
        As for :func:`register_feature`; set as attributes of the function.

    Examples
    --------
    >>> @feature(lookback=20, group="gaps")
    ... def mean_gap(prices):
    ...     return (prices["open"] / prices["close"].shift(1) - 1.0).rolling(20).mean()
    >>> mean_gap.lookback
    20
    """

    def declare(function: F) -> F:
        vars(function).update(lookback=lookback, group=group)
        return function

    return declare


def register_feature(
    name: str, *, lookback: int, function: FeatureFunction, group: str = "own", replace: bool = False
) -> None:
    """Register a feature of your own under a name, for this process.

    Parameters
    ----------
    name
        The name of its column; list it in ``FeatureConfig(custom=...)`` to compute it.
    lookback
        Number of earlier sessions that a value needs: the value of session t may depend on the rows t - lookback ... t
        of the prices only. Values before row ``lookback`` are discarded. The audit finds functions that look ahead.
    function
        Takes the prices of one symbol (columns ``open high low close volume``; changes to them are lost) and returns a
        Series on their index or an array of their length: numbers, finite from row ``lookback`` on. The form of
        :class:`~forecastlib.FeatureConfig` does not change it.
    group
        The group it is listed in by :func:`~forecastlib.features.catalogue`, a new one or a built-in one.
    replace
        Whether to replace a feature that is already registered under this name, as when a notebook cell is run again.

    Raises
    ------
    ConfigError
        If the name is taken or not allowed, or the lookback is not a number of sessions.

    Examples
    --------
    >>> register_feature("gap", lookback=1, function=lambda p: p["open"] / p["close"].shift(1) - 1.0, replace=True)
    >>> warm_up(FeatureConfig(names=("rsi_7",), custom=("gap",)))
    52
    """
    if name in _registered and not replace:
        raise ConfigError(
            f"a feature {name!r} is already registered; choose another name, or pass replace=True to replace it"
        )
    _registered[name] = _own_feature(name, lookback, function, group)


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
    own = _own_features(config.custom)
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


def unknown_features(config: FeatureConfig | None = None) -> tuple[str, ...]:
    """Return the features of a configuration that this process cannot compute, as they are listed there.

    These are names that are neither built in nor registered, and functions that cannot be imported or declare no
    lookback. :func:`~forecastlib.features.compute_features` raises for the first of them.

    Examples
    --------
    >>> unknown_features(FeatureConfig(names=("rsi_14",), custom=("my_spread",)))
    ('my_spread',)
    """
    config = config or FeatureConfig()
    known, unknown = set(CATALOGUE), []
    for entry in config.custom:
        try:
            known.add(_find(entry).name)
        except ConfigError:
            unknown.append(entry)
    return tuple(dict.fromkeys((*(name for name in config.names if name not in known), *unknown)))


def _own_features(custom: tuple[str, ...]) -> tuple[Feature, ...]:
    """Return the user's own features that a configuration lists, importing those that are given by their module."""
    features: dict[str, Feature] = {}
    for entry in custom:
        own = _find(entry)
        if own.name in features:
            raise ConfigError(f"expected distinct names in custom; {own.name!r} is listed more than once")
        features[own.name] = own
    return tuple(features.values())


def _find(entry: str) -> Feature:
    """Return one of the user's own features by its registered name or its ``"package.module:function"``."""
    if entry in _registered:
        return _registered[entry]
    if ":" in entry:
        return _import_feature(entry)
    if entry in CATALOGUE:
        raise ConfigError(f"{entry!r} is a built-in feature; list it in names instead of custom")
    raise ConfigError(
        f"unknown feature {entry!r}: nothing is registered under this name in this process; call "
        f"register_feature({entry!r}, lookback=..., function=...) first, or list it as 'package.module:function', "
        f"which every process can import; registered: {', '.join(sorted(_registered)) or 'none'}"
    )


def _import_feature(entry: str) -> Feature:
    module, _, name = entry.partition(":")
    if not re.fullmatch(r"\w+(\.\w+)*:\w+", entry):
        raise ConfigError(f"expected a feature as 'package.module:function'; got {entry!r}")
    try:
        function = getattr(import_module(module), name)
    except Exception as error:  # importing runs the user's code, which may raise anything
        raise ConfigError(
            f"cannot import the feature {entry!r}: {type(error).__name__}: {error}; install its package, or add its "
            "folder to PYTHONPATH"
        ) from error
    if not hasattr(function, "lookback"):
        raise ConfigError(
            f"expected the feature {entry!r} to declare its lookback; decorate the function with "
            "@feature(lookback=...) from forecastlib.features"
        )
    return _own_feature(name, function.lookback, function, getattr(function, "group", "own"))


def _own_feature(name: str, lookback: int, function: FeatureFunction, group: str) -> Feature:
    for what, text in (("name", name), ("group", group)):
        if not isinstance(text, str) or not text or text != text.strip() or "," in text or ":" in text:
            raise ConfigError(f"expected the {what} of a feature as text without commas and colons; got {text!r}")
    if name in CATALOGUE:
        raise ConfigError(f"{name!r} is the name of a built-in feature; choose another name for your own")
    if isinstance(lookback, bool) or not isinstance(lookback, int) or lookback < 0:
        raise ConfigError(f"expected the lookback of the feature {name!r} as a number of sessions; got {lookback!r}")
    if not callable(function):
        raise ConfigError(f"expected the feature {name!r} as a function of prices; got {type(function).__name__}")

    def compute(history: History) -> Array:
        try:
            values = function(history.prices.copy(deep=False))  # copy-on-write: the function cannot change our prices
        except Exception as error:
            error.add_note(f"raised by the feature {name!r}")
            raise
        return _require_feature_values(name, lookback, values, history.prices.index)

    description = (function.__doc__ or "").strip().partition("\n")[0]
    return Feature(name, lookback, description, relative=compute, level=compute, group=group)


def _require_feature_values(name: str, lookback: int, values: Any, index: pd.Index) -> Array:
    """Return what a function of the user returned as an array, or raise if it is not one number per session."""
    if isinstance(values, pd.Series) and not values.index.equals(index):
        raise DataQualityError(
            f"expected the feature {name!r} on the index of the prices ({len(index)} sessions); got another index of "
            f"{len(values)} rows; return one value per session, in order"
        )
    series = values if isinstance(values, pd.Series) else np.asarray(values)
    if series.shape != (len(index),):
        raise DataQualityError(
            f"expected the feature {name!r} as a Series or an array of {len(index)} values, one per session; got the "
            f"shape {series.shape}"
        )
    if series.dtype.kind not in "biuf":
        raise DataQualityError(f"expected numbers from the feature {name!r}; got the type {series.dtype}")
    array: Array = pd.Series(series).to_numpy(dtype=np.float64, na_value=np.nan)
    bad = np.flatnonzero(~np.isfinite(array[lookback:])) + lookback
    if len(bad):
        raise DataQualityError(
            f"expected finite values of the feature {name!r} from row {lookback} on, its lookback; got "
            f"{array[bad[0]]} on {index[bad[0]]:%Y-%m-%d} ({len(bad)} such rows); declare a longer lookback, or define "
            "the value there"
        )
    return array
