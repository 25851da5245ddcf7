"""The forecaster: a model with its scalers, from raw prices to a forecast."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pandas as pd

from forecastlib import bundle
from forecastlib.bundle import Metadata
from forecastlib.config import RunConfig
from forecastlib.data.calendars import resolve_calendar, target_dates
from forecastlib.data.prices import require_prices
from forecastlib.errors import ConfigError, IncompatibleModelError, NotEnoughDataError, NotFittedError
from forecastlib.features import warm_up
from forecastlib.forecasts import Forecast, mc_dropout_confidence
from forecastlib.models import Model, create
from forecastlib.models.base import as_trained, components_of
from forecastlib.recipe import Recipe, Samples
from forecastlib.samples.scaling import Scaling
from forecastlib.samples.variance import SESSIONS_NEEDED
from forecastlib.samples.windows import Windows

Floats = npt.NDArray[np.float64]
_NOT_FITTED = "this forecaster is not fitted yet; call fit(prices), or Forecaster.load(path)"

Origins = str | dt.date | np.datetime64 | pd.DatetimeIndex | Sequence[str] | Sequence[dt.date]


class Forecaster:
    """Fit on prices, forecast from prices, save as a folder.

    Parameters
    ----------
    config
        All that determines the run; the section ``data`` is not used here, as prices are given.
    model
        A model, a name or ``"package.module:factory"``; None: the one that ``config`` names.
    recipe
        The steps from prices to a forecast.

    Attributes
    ----------
    config : RunConfig
    recipe : Recipe
    model : Model
        The fitted model.
    scaling : Scaling
    metadata : Metadata
    samples : Samples or None
        What it was fitted on; None for a forecaster that was loaded.

    Examples
    --------
    >>> forecaster = Forecaster(RunConfig()).fit(prices)                 # doctest: +SKIP
    >>> forecaster.predict(prices)                                       # doctest: +SKIP
    >>> forecaster.predict(prices, as_of="2018-06-29")                   # doctest: +SKIP
    >>> forecaster.save("model"); Forecaster.load("model")               # doctest: +SKIP
    """

    config: RunConfig
    scaling: Scaling
    metadata: Metadata

    def __init__(
        self, config: RunConfig | None = None, *, model: str | Model | None = None, recipe: Recipe | None = None
    ) -> None:
        self.config = config or RunConfig()
        self.recipe = recipe or Recipe()
        if isinstance(model, str):
            self.config = self.config.replace(model=model)
        elif model is not None:
            given = create(model)
            self.config = self.config.replace(model=given.name)
            self.recipe = replace(self.recipe, model=lambda config: given)
        self.samples: Samples | None = None
        self._model: Model | None = None

    @property
    def model(self) -> Model:
        """The fitted model.

        Raises
        ------
        NotFittedError
            If nothing was fitted or loaded.
        """
        if self._model is None:
            raise NotFittedError(_NOT_FITTED)
        return self._model

    @property
    def history(self) -> pd.DataFrame:
        """Losses of each epoch, for a model that was trained in epochs; empty otherwise."""
        history: pd.DataFrame = getattr(self.model, "history", pd.DataFrame())
        return history

    @property
    def weights(self) -> Mapping[str, float]:
        """The weights of a combination; empty for other models."""
        weights: Mapping[str, float] = getattr(self.model, "weights", {})
        return weights

    def fit(
        self,
        prices: pd.DataFrame | Sequence[pd.DataFrame],
        *,
        samples: Samples | None = None,
        callbacks: Sequence[Any] = (),
        progress: bool = True,
    ) -> Self:
        """Fit on the training set; the validation set stops the training and calibrates the intervals.

        The test set takes no part in it.

        Parameters
        ----------
        prices
            Prices of a symbol, or of several that are pooled into one model.
        samples
            Of :meth:`Recipe.prepare` for the same prices and configuration, where the caller has them already.
        callbacks
            Further Keras callbacks, for a model that is a network.
        progress
            Whether to show a progress bar.

        Raises
        ------
        DataQualityError, NotEnoughDataError
            If the prices are not usable, or too few.
        ConfigError
            If the confidence is to come from MC dropout and the model has none.
        ForecastError
            If training diverges.
        """
        frames = [prices] if isinstance(prices, pd.DataFrame) else list(prices)
        for frame in frames:
            require_prices(frame)
        self._model = None  # a failed fit must not leave parts of two models behind
        model = self.recipe.model(self.config)
        if self.config.model.confidence_method == "mc_dropout":
            _require_dropout(model)
        self.samples = samples or self.recipe.prepare(frames, self.config)
        self.scaling = self.samples.scaling
        for part in (model, *components_of(model).values()):
            if hasattr(part, "callbacks") and hasattr(part, "progress"):
                part.callbacks, part.progress = callbacks, progress
        model.fit(self.samples.train, self.samples.validation)
        self._model = model
        self.metadata = bundle.describe(frames, self.samples, self.config, model)
        return self

    def forecast(self, prices: pd.DataFrame, as_of: Origins | None = None, *, recalibrate: bool = True) -> Forecast:
        """Forecast from raw prices.

        Parameters
        ----------
        prices
            Prices of one symbol; nothing after an origin is used for its forecast.
        as_of
            The origin: the last session on or before this date. Several dates give several origins, computed in one
            pass. None: the newest session.
        recalibrate
            Whether intervals use what became known since training, up to the end of the month before each origin. That
            takes prices that reach back about three years; with fewer, and in the months up to the end of training,
            intervals are those of the training.

        Raises
        ------
        NotFittedError
            If nothing was fitted or loaded.
        NotEnoughDataError
            If there are too few sessions up to an origin: the message says how many are needed.
        """
        model = self.model
        require_prices(prices)
        samples = self._origins(prices, as_of)
        distribution = self.recipe.predict(model if recalibrate else as_trained(model), samples)
        stated = None
        if self.config.model.confidence_method == "mc_dropout":
            passes = _require_dropout(model)(samples, self.config.model.mc_samples)
            stated = mc_dropout_confidence(passes.mean(axis=1), passes.std(axis=1))
        return Forecast.of(
            samples,
            self._target_dates(samples, [prices]),
            distribution,
            model=model.name,
            model_version=self.metadata.version,
            direction_threshold=self.config.model.direction_threshold,
            stated_confidence=stated,
            known_until=pd.Timestamp(prices.index[-1]),
        )

    def predict(self, prices: pd.DataFrame, as_of: Origins | None = None, *, recalibrate: bool = True) -> pd.DataFrame:
        """Forecast from raw prices, as :meth:`forecast` does, and return the forecast frame.

        Returns
        -------
        DataFrame
            One row per origin and horizon, see :data:`forecastlib.forecasts.COLUMNS`.
        """
        return self.forecast(prices, as_of, recalibrate=recalibrate).frame()

    def prepare_again(self, prices: pd.DataFrame | Sequence[pd.DataFrame]) -> Self:
        """Compute the samples of the prices that a loaded forecaster was fitted on, with the scalers that it has.

        The prices may have more sessions by now: the sets then end later.

        Raises
        ------
        NotFittedError
            If nothing was fitted or loaded.
        ConfigError
            If the test set would begin before the last label that the forecaster was fitted on.
        """
        if self._model is None:
            raise NotFittedError(_NOT_FITTED)
        frames = [prices] if isinstance(prices, pd.DataFrame) else list(prices)
        for frame in frames:
            require_prices(frame)
        windows = self.recipe.all_windows(frames, self.config)
        split = self.recipe.split(windows, self.config.split)
        calibration = self.recipe.calibration(windows, split)
        samples = Samples(self.scaling.apply(windows), split, self.scaling, calibration)
        first, last_label = samples.test.origins.min(), self.metadata.sets["validation"]["last_label"]
        if first < pd.Timestamp(last_label):
            raise ConfigError(
                f"expected the prices that the model was fitted on; of these, the test set would begin on "
                f"{first:%Y-%m-%d}, and the model knows labels up to {last_label}"
            )
        self.samples = samples
        return self

    def forecast_test_set(self, models: Sequence[str | Model] = ()) -> list[Forecast]:
        """Forecast the test set of the samples that the forecaster was fitted on, without computing features again.

        Parameters
        ----------
        models
            Further models by name or object, which are fitted on the same training and validation set; a component of
            the fitted model is used as it is, and no name is forecast twice. The fitted model comes first in the
            result.

        Raises
        ------
        NotFittedError
            If the forecaster was loaded: samples are not saved.
        ConfigError
            If an object has the name of another model.
        """
        samples = self.samples
        if samples is None:
            raise NotFittedError(
                "this forecaster has no test set; call fit(prices), or load it and call prepare_again(prices)"
            )
        test = samples.test
        dates = self._target_dates(test, test.prices)
        found = {self.model.name: self.model}
        for given in models:
            part = components_of(self.model).get(given) if isinstance(given, str) else None
            model = part or create(given, self.config)
            if model.name in found and not isinstance(given, str):
                raise ConfigError(f"expected models of different names; got two called {model.name}; rename one")
            if model.name not in found and part is None:
                model.fit(samples.train, samples.validation)
            found.setdefault(model.name, model)
        return [
            Forecast.of(
                test,
                dates,
                self.recipe.predict(model, test),
                model=model.name,
                model_version=self.metadata.version if model is self.model else model.name,
                direction_threshold=self.config.model.direction_threshold,
            )
            for model in found.values()
        ]

    def sample(self, prices: pd.DataFrame, as_of: Origins | None = None, *, passes: int | None = None) -> Floats:
        """Run MC dropout and return the prices of every pass, shape (origins, passes, horizons).

        Parameters
        ----------
        prices, as_of
            As in :meth:`forecast`.
        passes
            Stochastic passes per origin; None: ``mc_samples`` of the configuration.

        Raises
        ------
        ConfigError
            If the model has no dropout.
        """
        draw = _require_dropout(self.model)
        require_prices(prices)
        return draw(self._origins(prices, as_of), passes)

    @property
    def sessions_needed(self) -> int:
        """Sessions up to an origin that the inputs of its forecast depend on; recalibration uses all that are given."""
        return max(self._min_sessions, SESSIONS_NEEDED)

    @property
    def _min_sessions(self) -> int:
        return warm_up(self.config.features) + self.config.window.lookback

    def save(self, path: str | Path) -> Path:
        """Write the bundle, a folder; an existing bundle is replaced only once the new one is complete."""
        return bundle.write(Path(path), bundle.Parts(self.model, self.scaling, self.config, self.metadata))

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a bundle.

        Raises
        ------
        ModelNotFoundError
            If there is none.
        IncompatibleModelError
            If it is damaged, or its parts do not match each other or this version.
        """
        parts = bundle.read(Path(path))
        forecaster = cls(parts.config)
        forecaster.scaling = parts.scaling
        forecaster.metadata = parts.metadata
        forecaster._model = parts.model
        return forecaster

    def _target_dates(self, samples: Windows, prices: Sequence[pd.DataFrame]) -> npt.NDArray[np.datetime64]:
        """Return the session that each horizon of each origin refers to, shape (n, horizons)."""
        horizons = samples.config.horizons
        dates = np.empty((len(samples), len(horizons)), dtype="datetime64[us]")
        for part, known in zip(samples.by_symbol(), prices, strict=True):
            calendar = resolve_calendar(part.symbol, self.config.data.calendar)
            origins = samples.origins[part.index]
            dates[part.index] = target_dates(origins, horizons, pd.DatetimeIndex(known.index), calendar)
        return dates

    def _origins(self, prices: pd.DataFrame, as_of: Origins | None) -> Windows:
        """Return the scaled samples of the origins, whose features are computed from the sessions that they need."""
        positions = _positions(prices.index, as_of)
        oldest, newest = int(positions.min()), int(positions.max())
        if oldest + 1 < self._min_sessions:
            raise NotEnoughDataError(
                f"expected at least {self._min_sessions} sessions up to the origin; got {oldest + 1} up to "
                f"{prices.index[oldest]:%Y-%m-%d}; give a longer history or a later as_of"
            )
        first = max(0, oldest + 1 - self.sessions_needed)
        windows = self.recipe.serve(prices.iloc[first : newest + 1], self.config)
        if windows.feature_names != self.metadata.feature_names:
            raise IncompatibleModelError(_other_features(self.metadata.feature_names, windows.feature_names))
        chosen = windows.take(np.searchsorted(windows.rows, positions - first))
        return self.scaling.apply(replace(chosen, prices=(prices.iloc[: newest + 1],)))


def _positions(index: pd.Index, as_of: Origins | None) -> npt.NDArray[np.int64]:
    """Return the position of the last session on or before each date."""
    if as_of is None:
        return np.array([len(index) - 1])
    try:
        dates: list[Any] = [as_of] if isinstance(as_of, str | dt.date | np.datetime64) else list(as_of)
        wanted = pd.DatetimeIndex([pd.Timestamp(date) for date in dates])
    except (ValueError, TypeError) as error:
        raise ConfigError(f"expected as_of as a date such as 2018-06-29, or several; got {as_of!r}") from error
    if wanted.hasnans or wanted.tz is not None:
        raise ConfigError(f"expected as_of as a date without a time zone, none of them missing; got {as_of!r}")
    if len(wanted) == 0:
        raise ConfigError("expected at least one date in as_of; got none")
    positions = index.searchsorted(wanted.to_numpy(), side="right") - 1
    if positions.min() < 0:
        raise NotEnoughDataError(
            f"expected as_of on or after the first session {index[0]:%Y-%m-%d}; got {wanted.min():%Y-%m-%d}"
        )
    return np.asarray(positions, dtype=np.int64)


def _require_dropout(model: Model) -> Callable[[Windows, int | None], Floats]:
    """Return the method of a model that runs MC dropout."""
    sample: Callable[[Windows, int | None], Floats] | None = getattr(model, "sample", None)
    if sample is None:
        raise ConfigError(
            f"expected a model with MC dropout, such as lstm; {model.name} has none; use confidence_method=calibrated"
        )
    return sample


def _other_features(expected: Sequence[str], got: Sequence[str]) -> str:
    missing = [name for name in expected if name not in got]
    unknown = [name for name in got if name not in expected]
    return (
        f"expected the {len(expected)} features that the model was trained on; this version computes {len(got)}"
        f" (missing: {missing[:3]}, unknown to the model: {unknown[:3]}); train it again"
    )
