"""The forecaster: a network with its scalers and its calibration, from raw prices to a forecast frame."""

from __future__ import annotations

import copy
import dataclasses
import datetime as dt
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import keras
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
from forecastlib.forecasts import forecast_frame
from forecastlib.models.distribution import Distribution
from forecastlib.models.lstm import (
    NetworkCaller,
    TrainingData,
    build_network,
    compile_network,
    fit_network,
)
from forecastlib.models.uncertainty import (
    OUTCOMES_TO_RENEW,
    Calibration,
    NetworkAnswers,
    calibrate,
    known_past,
    mc_dropout_confidence,
    past_at_the_end_of,
)
from forecastlib.samples.dataset import Dataset, all_windows
from forecastlib.samples.scaling import Scaling
from forecastlib.samples.splits import Split, holdout
from forecastlib.samples.variance import SESSIONS_NEEDED, volatility_predictors
from forecastlib.samples.windows import Windows

Floats = npt.NDArray[np.float64]
Origins = str | dt.date | np.datetime64 | pd.DatetimeIndex | Sequence[str] | Sequence[dt.date]


@dataclass(frozen=True, eq=False)
class _Samples:
    """What networks of one configuration train on, whatever their seed."""

    frames: list[pd.DataFrame]
    windows: Windows
    split: Split
    scaling: Scaling
    train: TrainingData
    validation: TrainingData

    @classmethod
    def of(cls, prices: pd.DataFrame | Sequence[pd.DataFrame], config: RunConfig, split: Split | None) -> Self:
        frames = [prices] if isinstance(prices, pd.DataFrame) else list(prices)
        windows = all_windows(frames, config)
        split = split or holdout(windows, config.split)
        scaling = Scaling(config.model).fit(windows, split.train)
        matrix = scaling.features(windows.matrix)
        train, validation = (
            TrainingData.of(windows.take(index), scaling, matrix) for index in (split.train, split.validation)
        )
        return cls(frames, windows, split, scaling, train, validation)


class Forecaster:
    """Fit on prices, forecast from prices, save as one folder.

    Parameters
    ----------
    config
        All that determines the run; the section ``data`` is not used here, prices are given.

    Attributes
    ----------
    config : RunConfig
    network : keras.Model
    scaling : Scaling
    calibration : Calibration
    metadata : Metadata
    history : DataFrame
        Losses of each epoch; only after :meth:`fit`, not saved.

    Examples
    --------
    >>> forecaster = Forecaster(RunConfig()).fit(prices)                 # doctest: +SKIP
    >>> forecaster.predict(prices)                                       # doctest: +SKIP
    >>> forecaster.predict(prices, as_of="2018-06-29")                   # doctest: +SKIP
    >>> forecaster.save("model"); Forecaster.load("model")               # doctest: +SKIP
    """

    config: RunConfig
    network: keras.Model
    scaling: Scaling
    calibration: Calibration
    metadata: Metadata
    history: pd.DataFrame

    def __init__(self, config: RunConfig | None = None) -> None:
        self.config = config or RunConfig()
        self._caller: NetworkCaller | None = None

    def fit(
        self,
        prices: pd.DataFrame | Sequence[pd.DataFrame],
        *,
        split: Split | None = None,
        callbacks: Sequence[keras.callbacks.Callback] = (),
        progress: bool = True,
    ) -> Self:
        """Train on the training set, stop by the validation set, calibrate on what was known at its end.

        The test set takes no part in it.

        Parameters
        ----------
        prices
            Prices of a symbol, or of several for a global model.
        split
            Which samples of :func:`forecastlib.samples.dataset.all_windows` train and validate; None: as configured.
        callbacks
            Further Keras callbacks.
        progress
            Whether to show a progress bar.

        Returns
        -------
        Forecaster
            Itself.

        Raises
        ------
        DataQualityError, NotEnoughDataError
            If the prices are not usable, or too few.
        ForecastError
            If training diverged.
        """
        self._caller = None  # nothing may predict with parts of two models, should this fail half-way
        samples = _Samples.of(prices, self.config, split)
        self._begin(samples)
        self.history = fit_network(
            self.network, samples.train, samples.validation, self.config.train, callbacks=callbacks, progress=progress
        )
        self._end(samples)
        return self

    def _begin(self, samples: _Samples) -> None:
        """Build and compile a network for some samples."""
        config = self.config
        self.scaling = samples.scaling
        names = samples.windows.feature_names
        self.network = build_network(len(names), config.window, config.model, seed=config.train.seed)
        steps = samples.train.steps(config.train.batch_size)
        compile_network(self.network, config.window.horizons, config.train, steps=steps)

    def _end(self, samples: _Samples) -> None:
        """Calibrate a network that is trained."""
        self._caller = self._new_caller()
        validation = samples.windows.take(samples.split.validation)
        self.calibration = self._calibrate(samples.frames, validation, samples.train.matrix)
        dataset = Dataset(samples.windows, samples.split)
        self.metadata = bundle.describe(samples.frames, dataset, self.config, epochs=len(self.history))

    def predict(self, prices: pd.DataFrame, as_of: Origins | None = None, *, renew: bool = False) -> pd.DataFrame:
        """Forecast from raw prices.

        Parameters
        ----------
        prices
            Prices of one symbol; nothing after an origin is used for its forecast.
        as_of
            The origin: the last session on or before this date. Several dates give several origins, computed in one
            pass. None: the newest session.
        renew
            Whether ranges follow what became known since training: those of each month are calibrated anew at the end
            of the month before it, see :meth:`forecastlib.models.uncertainty.Calibration.renewed`. It takes prices that go
            back :data:`forecastlib.models.uncertainty.OUTCOMES_TO_RENEW` sessions and more; ranges stay as trained with
            fewer, and in the months up to the end of training.

        Returns
        -------
        DataFrame
            A forecast frame, see :data:`forecastlib.forecasts.COLUMNS`; one row for each origin and horizon.
            ``attrs["known_until"]`` is the last session of the prices: with an earlier origin, whoever asks can know
            what came.

        Raises
        ------
        NotFittedError
            If nothing was fitted or loaded.
        NotEnoughDataError
            If there are too few sessions up to an origin: the message says how many are needed and how many came.
        """
        windows, dates, matrix, predictors = self._origins(prices, as_of)
        stated = None
        if self.config.model.confidence_method == "mc_dropout":
            samples = self._sampled_prices(windows, matrix, self.config.model.mc_samples)
            stated = mc_dropout_confidence(samples.mean(axis=1), samples.std(axis=1))
        distribution = self._distribution(windows, matrix, predictors, renewing=prices if renew else None)
        frame = forecast_frame(
            windows,
            dates,
            distribution,
            config=self.config.model,
            model_version=self.metadata.version,
            stated_confidence=stated,
        )
        frame.attrs["known_until"] = f"{prices.index[-1]:%Y-%m-%d}"
        return frame

    def predict_distribution(
        self, prices: pd.DataFrame, as_of: Origins | None = None, *, renew: bool = False
    ) -> tuple[Windows, Distribution]:
        """Forecast as :meth:`predict` does, and return the origins and the whole distributions of their log returns."""
        windows, _, matrix, predictors = self._origins(prices, as_of)
        return windows, self._distribution(windows, matrix, predictors, renewing=prices if renew else None)

    def sample(self, prices: pd.DataFrame, as_of: Origins | None = None, *, samples: int | None = None) -> Floats:
        """Run MC dropout and return the prices of every pass.

        Parameters
        ----------
        prices, as_of
            As in :meth:`predict`.
        samples
            Passes; None: ``mc_samples`` of the configuration.

        Returns
        -------
        ndarray, shape (origins, samples, horizons)
        """
        windows, _, matrix, _ = self._origins(prices, as_of)
        return self._sampled_prices(windows, matrix, samples or self.config.model.mc_samples)

    def with_network_weight(self, weight: float) -> Self:
        """Return a forecaster that shares this one's parts, and follows the network as far as told.

        Parameters
        ----------
        weight
            1: the network alone; 0: the drift alone. The shape of the ranges stays what it is.
        """
        self._require_fitted()
        other = copy.copy(self)
        other.calibration = dataclasses.replace(self.calibration, network_weight=weight)
        return other

    @property
    def sessions_needed(self) -> int:
        """Sessions up to an origin that its forecast depends on; older ones change nothing, not in the last bit."""
        return max(self._fewest_sessions, SESSIONS_NEEDED)

    @property
    def _fewest_sessions(self) -> int:
        return warm_up(self.config.features) + self.config.window.lookback

    def save(self, path: str | Path) -> Path:
        """Write the bundle, one folder; an existing bundle there is replaced only once the new one is whole."""
        self._require_fitted()
        parts = bundle.Parts(self.network, self.scaling, self.calibration, self.config, self.metadata)
        return bundle.write(Path(path), parts)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a bundle.

        Raises
        ------
        ModelNotFoundError
            If there is none.
        IncompatibleModelError
            If it is damaged, or its parts do not fit each other or this version.
        """
        parts = bundle.read(Path(path))
        forecaster = cls(parts.config)
        forecaster.network = parts.network
        forecaster.scaling = parts.scaling
        forecaster.calibration = parts.calibration
        forecaster.metadata = parts.metadata
        forecaster._caller = forecaster._new_caller()
        return forecaster

    def _new_caller(self) -> NetworkCaller:
        return NetworkCaller(self.network, self.config.window.horizons, seed=self.config.train.seed)

    def _require_fitted(self) -> NetworkCaller:
        if self._caller is None:
            raise NotFittedError("this forecaster is not fitted yet; call fit(prices), or Forecaster.load(path)")
        return self._caller

    def _calibrate(
        self, frames: Sequence[pd.DataFrame], validation: Windows, matrix: npt.NDArray[np.float32]
    ) -> Calibration:
        horizons, config = self.config.window.horizons, self.config.calibration
        symbols = [str(one.attrs.get("symbol", "")) for one in frames]
        answers = NetworkAnswers(
            past=np.array([symbols.index(symbol) for symbol in validation.symbols]),
            origins=validation.origins,
            log_returns=self._answers(validation, matrix),
        )
        pasts = [past_at_the_end_of(validation, one) for one in frames]
        return calibrate(pasts, answers, horizons, config)

    def _distribution(
        self,
        windows: Windows,
        matrix: npt.NDArray[np.float32],
        predictors: Floats,
        *,
        renewing: pd.DataFrame | None,
    ) -> Distribution:
        """Return the distributions about the network's answers, each with the ranges that hold at its origin."""
        answers = self._answers(windows, matrix)
        quantiles = np.empty((*answers.shape, len(self.calibration.levels)))
        for calibration, rows in self._calibrations(windows.origins, renewing):
            quantiles[rows] = calibration.distribution(answers[rows], calibration.scale(predictors[rows])).quantiles
        return Distribution(self.calibration.levels, quantiles)

    def _calibrations(
        self, origins: pd.DatetimeIndex, renewing: pd.DataFrame | None
    ) -> Iterator[tuple[Calibration, npt.NDArray[np.int64]]]:
        """Yield the calibrations that hold at some origins, each with the positions of its own."""
        months = origins.to_numpy().astype("datetime64[M]")
        new = months > np.datetime64(self.calibration.until, "M")
        if renewing is None or len(renewing) < OUTCOMES_TO_RENEW or not new.any():
            yield self.calibration, np.arange(len(origins))
            return
        yield self.calibration, np.flatnonzero(~new)
        past = known_past(renewing, origins.max(), self.config.window.horizons)
        for month in np.unique(months[new]):
            known = past.until(pd.Timestamp(month) - pd.Timedelta(days=1))
            yield self.calibration.renewed(known, self.config.calibration), np.flatnonzero(months == month)

    def _answers(self, windows: Windows, matrix: npt.NDArray[np.float32]) -> Floats:
        """Return the log returns that the network answers, shape (n, horizons)."""
        scaled = self._require_fitted().predict(matrix, windows.rows)
        return windows.log_returns(self.scaling.unscaled_targets(scaled))

    def _sampled_prices(self, windows: Windows, matrix: npt.NDArray[np.float32], samples: int) -> Floats:
        scaled = self._require_fitted().sample(matrix, windows.rows, samples)
        targets = self.scaling.unscaled_targets(scaled.reshape(-1, scaled.shape[2]))
        repeated = windows.take(np.repeat(np.arange(len(windows)), samples))
        return repeated.prices(targets).reshape(scaled.shape)

    def _origins(
        self, prices: pd.DataFrame, as_of: Origins | None
    ) -> tuple[Windows, npt.NDArray[np.datetime64], npt.NDArray[np.float32], Floats]:
        """Return the origins asked for, target dates, the scaled matrix they look into, predictors of volatility."""
        self._require_fitted()
        require_prices(prices)
        positions = _positions(prices.index, as_of)
        if positions.min() + 1 < self._fewest_sessions:
            raise NotEnoughDataError(
                f"expected at least {self._fewest_sessions} sessions up to the origin; got {positions.min() + 1} up to "
                f"{prices.index[positions.min()]:%Y-%m-%d}; give a longer history or a later as_of"
            )
        first = max(0, int(positions.min()) + 1 - self.sessions_needed)
        seen = prices.iloc[first : positions.max() + 1]
        windows = all_windows(seen, self.config)
        if windows.feature_names != self.metadata.feature_names:
            raise IncompatibleModelError(_other_features(self.metadata.feature_names, windows.feature_names))
        chosen = windows.take(np.searchsorted(windows.rows, positions - first))
        calendar = resolve_calendar(str(prices.attrs.get("symbol", "")), self.config.data.calendar)
        dates = target_dates(chosen.origins, self.config.window.horizons, pd.DatetimeIndex(prices.index), calendar)
        predictors = volatility_predictors(seen)[positions - first]
        return chosen, np.asarray(dates), self.scaling.features(windows.matrix), predictors


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


def _other_features(expected: Sequence[str], got: Sequence[str]) -> str:
    lacking = [name for name in expected if name not in got]
    surplus = [name for name in got if name not in expected]
    return (
        f"expected the {len(expected)} features that the model was trained on; this version computes {len(got)}"
        f" (missing: {lacking[:3]}, not known to the model: {surplus[:3]}); train it again"
    )
