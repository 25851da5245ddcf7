"""The protocol of models: fitted on training and validation samples, they predict distributions.

Everything that forecasts is a :class:`Model`: the random walk, GARCH, the network, a combination, a user's own class.
The same functions score, backtest, audit, register and serve all of them.
"""

from __future__ import annotations

import copy
import importlib
from collections.abc import Callable, Mapping
from functools import partial
from operator import attrgetter
from typing import Any, Protocol, Self, runtime_checkable

import numpy as np
import numpy.typing as npt

from forecastlib.config import RunConfig, unknown_name
from forecastlib.errors import ConfigError, NotFittedError
from forecastlib.models.distribution import Distribution
from forecastlib.samples.windows import Windows

Floats = npt.NDArray[np.float64]


@runtime_checkable
class Model(Protocol):
    """A forecaster of log returns over the horizons of its samples.

    Attributes
    ----------
    name : str
        The name in tables, runs and figures.

    Notes
    -----
    Optional members that the library uses where a model has them:

    ``stochastic`` (bool)
        Whether results depend on ``config.train.seed``; a backtest then fits the model once per seed.
    ``components`` (mapping from name to model)
        Fitted parts that are scored under names of their own, such as the network inside a combination.
    ``thinning`` (int)
        Score the model at every n-th origin only, and in backtests only, as its forecasts take long.
    ``as_trained()``
        A variant that does not recalibrate with outcomes known after training.
    ``weights`` (mapping from name to float)
        The weights of a combination, shown wherever its scores are.
    ``save(folder)`` and ``load(folder, config)`` (a class method)
        How to store the fitted model; without them it is stored by skops, which covers objects that consist of numpy
        arrays, scikit-learn estimators and plain Python values.

    Examples
    --------
    >>> class Persistence:
    ...     name = "persistence"
    ...     def fit(self, train, validation):
    ...         self.spread = np.quantile(train.labels(), LEVELS, axis=0).T
    ...         return self
    ...     def predict(self, samples):
    ...         return Distribution(LEVELS, np.tile(self.spread, (len(samples), 1, 1)))
    """

    @property
    def name(self) -> str:
        """The name in tables, runs and figures."""
        ...

    def fit(self, train: Windows, validation: Windows) -> Self:
        """Fit on labelled samples; ``prices`` of both sets end where the validation labels are known."""
        ...

    def predict(self, samples: Windows) -> Distribution:
        """Return predictive distributions of the log returns from each origin to each horizon.

        Nothing after an origin may be used for its forecast.
        """
        ...


Factory = Callable[[RunConfig], Model]
"""Makes a model that is not fitted yet from a configuration."""

_BUILT_IN = {
    "random_walk": "naive:RandomWalk",
    "drift": "naive:Drift",
    "ridge": "tabular:Ridge",
    "gradient_boosting": "tabular:GradientBoosting",
    "ewma": "volatility:Ewma",
    "garch_t": "volatility:Garch",
    "gjr_skewt": "volatility:GjrGarch",
    "har": "volatility:Har",
    "lstm": "lstm.model:LSTM",
    "combination": "combination:Combination",
}
_registered: dict[str, Factory] = {}

BASELINES = ("random_walk", "drift", "ridge", "gradient_boosting", "ewma", "garch_t", "gjr_skewt", "har")
"""The built-in models that every trained model is compared with, in the order of the tables."""

_STOCHASTIC = ("lstm", "combination")  # as their attribute says; here so that asking does not import TensorFlow


def available() -> tuple[str, ...]:
    """Return the names that :func:`create` knows: the built-in models and those registered in this process."""
    return (*_BUILT_IN, *_registered)


def register_model(name: str, factory: Factory) -> None:
    """Register a model of your own under a name, in this process.

    Parameters
    ----------
    name
        The name to use in configurations and lists of models.
    factory
        Called with the :class:`~forecastlib.config.RunConfig`; returns a new model. A class whose constructor takes
        the configuration will do.

    Raises
    ------
    ConfigError
        If a built-in model has that name.

    Examples
    --------
    >>> register_model("persistence", lambda config: Persistence())     # doctest: +SKIP
    >>> Forecaster(RunConfig.from_parameters(model="persistence"))      # doctest: +SKIP
    """
    if name in _BUILT_IN or not name or ":" in name:
        raise ConfigError(
            f"expected a new name for a model, without a colon; got {name!r}; taken: {', '.join(_BUILT_IN)}"
        )
    _registered[name] = factory


def create(model: str | Model, config: RunConfig | None = None) -> Model:
    """Make a model that is not fitted yet.

    Parameters
    ----------
    model
        A name of :func:`available`, ``"package.module:factory"``, or a model, which is returned as it is.
    config
        The configuration; None: the defaults.

    Raises
    ------
    ConfigError
        If no model has that name, or the factory cannot be imported.
    """
    config = config or RunConfig()
    if not isinstance(model, str):
        return require_model(model)
    if model in _BUILT_IN:
        factory: Any = import_object(f"forecastlib.models.{_BUILT_IN[model]}")
    elif model in _registered:
        factory = _registered[model]
    elif ":" in model:
        factory = import_object(model)
    else:
        hint = "; a model of your own is registered with register_model, or given as 'package.module:factory'"
        raise ConfigError(unknown_name("model", model, available()) + hint)
    return require_model(factory(config))


def is_built_in(name: str) -> bool:
    """Return whether a name is that of a model of this library."""
    return name in _BUILT_IN


def is_stochastic(model: str | Model, config: RunConfig | None = None) -> bool:
    """Return whether the results of a model depend on the seed; a built-in model is not imported to answer that."""
    if isinstance(model, str) and model in _BUILT_IN:
        return model in _STOCHASTIC
    return bool(getattr(create(model, config), "stochastic", False))


def factory_of(model: str | Model) -> Factory:
    """Return what makes new models from configurations.

    It works in other processes too, where a model registered in this process has no name. A model that is given as an
    object is copied.
    """
    if not isinstance(model, str):
        return partial(_copy_of, require_model(model))
    return _registered.get(model) or partial(create, model)


def _copy_of(model: Model, config: RunConfig) -> Model:
    return copy.deepcopy(model)


def require_model(candidate: Any) -> Model:
    """Return a model, having checked that it is one.

    Raises
    ------
    ConfigError
        If it lacks a member of :class:`Model`, or is a class.
    """
    if isinstance(candidate, type):
        raise ConfigError(f"expected a model; got the class {candidate.__name__}; give an instance of it")
    missing = [name for name in ("name", "fit", "predict") if not hasattr(candidate, name)]
    if missing:
        raise ConfigError(
            f"expected a model with name, fit(train, validation) and predict(samples); "
            f"{type(candidate).__name__} has no {', '.join(missing)}"
        )
    model: Model = candidate
    return model


def components_of(model: Model) -> Mapping[str, Model]:
    """Return the fitted parts of a model that are scored under names of their own, none for most models."""
    found: Mapping[str, Model] = getattr(model, "components", {})
    return found


def thinning_of(model: Model) -> int:
    """Return n for a model that is scored at every n-th origin only; 1 for most models."""
    return int(getattr(model, "thinning", 1))


def as_trained(model: Model) -> Model:
    """Return the variant of a model that ignores outcomes known after training; the model itself if it has none."""
    variant = getattr(model, "as_trained", None)
    return model if variant is None else variant()


def import_object(spec: str) -> Any:
    """Import what ``"package.module:name"`` names.

    Raises
    ------
    ConfigError
        If there is no such module, or nothing of that name in it.
    """
    module, _, name = spec.partition(":")
    try:
        return attrgetter(name)(importlib.import_module(module))
    except ImportError as error:
        raise ConfigError(f"cannot import {module!r} for {spec!r}: {error}; is it on the Python path?") from error
    except AttributeError as error:
        raise ConfigError(f"the module {module!r} has no {name!r}, which {spec!r} asks for") from error


def not_fitted(model: Model) -> NotFittedError:
    """Return the error of a model that is asked for forecasts before it is fitted."""
    return NotFittedError(f"expected a fitted model; {model.name} is not; call fit(train, validation) first")
