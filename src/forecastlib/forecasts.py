"""Forecasts: predictive distributions of prices at known origins, and the frame that everything else reads.

A :class:`Forecast` is the one result of every model. Its :meth:`~Forecast.frame` has one row per symbol, origin and
horizon; scores, figures, the ledger and the service read that frame or the object.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Self

import numpy as np
import numpy.typing as npt
import pandas as pd

from forecastlib.errors import ConfigError, DataQualityError
from forecastlib.models.distribution import Distribution
from forecastlib.samples.windows import Windows, as_index

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Floats = npt.NDArray[np.float64]
Texts = npt.NDArray[np.str_]

COVERAGES = (80, 95)
"""The nominal coverages of the intervals in a frame, in per cent."""

COLUMNS = (
    "symbol",
    "origin",
    "horizon",
    "target_date",
    "last_close",
    "predicted_price",
    "change_pct",
    "direction",
    *(f"{end}_{coverage}" for coverage in COVERAGES for end in ("lower", "upper")),
    "p_up",
    "p_down",
    "confidence",
    "consistency",
    "model",
    "model_version",
    "batch_id",
)
"""The columns of a forecast frame, in order. ``change_pct`` is in per cent of the last close."""


@dataclass(frozen=True, eq=False)
class Forecast:
    """Forecasts of one model at n origins.

    Attributes
    ----------
    symbols : ndarray of str, shape (n,)
    origins : DatetimeIndex, length n
        The session after whose close each forecast is made.
    horizons : tuple of int
        Sessions ahead.
    target_dates : ndarray of datetime64, shape (n, horizons)
        The session that each horizon refers to.
    last_close : ndarray, shape (n,)
        The close of the origin.
    distribution : Distribution
        Of the log returns from the origin's close; the medians are the point forecasts.
    model : str
        The name of the model.
    model_version : str
        The version of the trained model, or its name where there are no versions.
    direction_threshold : float
        Relative change beyond which a call is "up" or "down".
    stated_confidence : ndarray, shape (n, horizons), or None
        A confidence from elsewhere; None: the probability of the called direction.
    known_until : Timestamp or None
        The last session of the prices that were given: with an earlier origin it is a hindsight forecast.
    batch_id : str
        Identifies the request that the forecasts were made for.

    Raises
    ------
    ConfigError
        If the distribution is not one per origin and horizon.
    """

    symbols: Texts
    origins: pd.DatetimeIndex
    horizons: tuple[int, ...]
    target_dates: npt.NDArray[np.datetime64]
    last_close: Floats
    distribution: Distribution
    model: str
    model_version: str
    direction_threshold: float
    stated_confidence: Floats | None = None
    known_until: pd.Timestamp | None = None
    batch_id: str = field(default_factory=lambda: uuid.uuid4().hex)

    def __post_init__(self) -> None:
        """Refuse the distributions of other origins or horizons, which numpy might broadcast."""
        expected, got = (len(self.origins), len(self.horizons)), self.distribution.quantiles.shape[:2]
        if got != expected:
            raise ConfigError(
                f"expected {self.model} to predict quantiles of shape (origins, horizons, levels) = "
                f"({expected[0]}, {expected[1]}, {len(self.distribution.levels)}); got "
                f"{self.distribution.quantiles.shape}"
            )

    @classmethod
    def of(
        cls,
        samples: Windows,
        target_dates: npt.NDArray[np.datetime64],
        distribution: Distribution,
        *,
        model: str,
        direction_threshold: float,
        model_version: str | None = None,
        stated_confidence: Floats | None = None,
        known_until: pd.Timestamp | None = None,
    ) -> Self:
        """Make a forecast of the origins of some samples; without a version, that is the name of the model."""
        return cls(
            symbols=samples.symbols,
            origins=samples.origins,
            horizons=samples.config.horizons,
            target_dates=target_dates,
            last_close=samples.last_close,
            distribution=distribution,
            model=model,
            model_version=model_version or model,
            direction_threshold=direction_threshold,
            stated_confidence=stated_confidence,
            known_until=known_until,
        )

    def __len__(self) -> int:
        """Return the number of origins."""
        return len(self.origins)

    def take(self, rows: npt.ArrayLike) -> Self:
        """Return the forecasts of some origins, by position or mask."""
        index = as_index(rows)
        stated = self.stated_confidence
        return replace(
            self,
            symbols=self.symbols[index],
            origins=self.origins[index],
            target_dates=self.target_dates[index],
            last_close=self.last_close[index],
            distribution=self.distribution.take(index),
            stated_confidence=None if stated is None else stated[index],
        )

    def interval(self, coverage: float) -> tuple[Floats, Floats]:
        """Return the ends of the central interval with a given probability in prices, each of shape (n, horizons)."""
        lower, upper = (self.last_close[:, None] * np.exp(end) for end in self.distribution.interval(coverage))
        return lower, upper

    def calls(self) -> Texts:
        """Return the called directions, shape (n, horizons): "up", "neutral" or "down"."""
        return direction(np.expm1(self.distribution.median()), self.direction_threshold)

    def confidence(self) -> Floats:
        """Return the confidence of the calls, shape (n, horizons)."""
        if self.stated_confidence is not None:
            return self.stated_confidence
        return confidence(self.distribution, self.calls(), self.direction_threshold)

    def frame(self) -> pd.DataFrame:
        """Return the forecast frame.

        Returns
        -------
        DataFrame
            n x horizons rows, the horizons of an origin in sequence; the columns are :data:`COLUMNS`.
            ``attrs["direction_threshold"]`` is the threshold of the calls, ``attrs["known_until"]`` the last session of
            the prices that were given.
        """
        n, horizons = len(self), len(self.horizons)
        change = np.expm1(self.distribution.median())
        calls, p_up = self.calls(), self.distribution.probability_above(0.0)
        ends = {
            f"{end}_{coverage}": prices.ravel()
            for coverage in COVERAGES
            for end, prices in zip(("lower", "upper"), self.interval(coverage / 100.0), strict=True)
        }
        columns: dict[str, object] = {
            "symbol": np.repeat(self.symbols, horizons),
            "origin": self.origins.repeat(horizons),
            "horizon": np.tile(np.asarray(self.horizons, dtype=np.int64), n),
            "target_date": pd.DatetimeIndex(self.target_dates.ravel()).as_unit("us"),
            "last_close": np.repeat(self.last_close, horizons),
            "predicted_price": (self.last_close[:, None] * (1.0 + change)).ravel(),
            "change_pct": (100.0 * change).ravel(),
            "direction": calls.ravel(),
            **ends,
            "p_up": p_up.ravel(),
            "p_down": (1.0 - p_up).ravel(),
            "confidence": self.confidence().ravel(),
            "consistency": np.repeat(consistency(calls), horizons),
            "model": self.model,
            "model_version": self.model_version,
            "batch_id": self.batch_id,
        }
        frame = pd.DataFrame(columns)
        frame.attrs["direction_threshold"] = self.direction_threshold
        if self.known_until is not None:
            frame.attrs["known_until"] = f"{self.known_until:%Y-%m-%d}"
        return frame

    def plot(self, prices: pd.DataFrame | None = None, *, sessions: int = 90) -> Figure:
        """Draw the forecast of one origin with its intervals.

        Parameters
        ----------
        prices
            Prices of the symbol: the closes before the origin are drawn too, and those after it, if any, as the
            outcome. None: only the forecast is drawn.
        sessions
            Closes shown before the origin.

        Returns
        -------
        matplotlib.figure.Figure

        Raises
        ------
        ConfigError
            If there are several origins; choose one with :meth:`take`.
        """
        from forecastlib.drawing import draw_forecast  # here: forecasts are made without loading matplotlib

        return draw_forecast(self.frame(), prices, sessions)

    def _repr_html_(self) -> str:
        shown = self.frame().drop(columns=["batch_id", "model_version", "model"]).head(30)
        html: str = shown.style.hide(axis="index").set_caption(f"{self.model}, version {self.model_version}").to_html()
        return html


def require_forecasts(forecasts: pd.DataFrame) -> None:
    """Raise unless a frame has the columns of forecasts and at least one row.

    Raises
    ------
    DataQualityError
        Naming the columns that are missing.
    """
    missing = [column for column in COLUMNS if column not in forecasts.columns]
    if missing:
        raise DataQualityError(f"expected a forecast frame; the columns {', '.join(missing)} are missing")
    if forecasts.empty:
        raise DataQualityError("expected forecasts of at least one origin; got an empty frame")


def direction(change: npt.ArrayLike, threshold: float | Floats) -> Texts:
    """Call the direction of changes: "up" above the threshold, "down" below its negative, else "neutral".

    Parameters
    ----------
    change
        Relative change of price from the origin, as a fraction: 0.01 is one per cent. Any shape.
    threshold
        Change that has to be exceeded, 0.005 by default in :class:`~forecastlib.config.ModelConfig`.

    Returns
    -------
    ndarray of str, same shape

    Examples
    --------
    >>> direction([0.02, 0.005, -0.006], 0.005).tolist()
    ['up', 'neutral', 'down']
    """
    moves = np.asarray(change, dtype=np.float64)
    return np.where(moves > threshold, "up", np.where(moves < -threshold, "down", "neutral"))


def consistency(directions: npt.ArrayLike) -> Floats:
    """Return how far the calls of neighbouring horizons agree, shape (n,), in [0, 1].

    The mean over neighbours of 1 (same call), 0.5 (one of them neutral) or 0 (opposite); 1 for a single horizon.

    Parameters
    ----------
    directions
        Calls, shape (n, horizons), as :func:`direction` gives them.

    Examples
    --------
    >>> consistency([["up", "up", "neutral"], ["up", "down", "down"]]).tolist()
    [0.75, 0.5]
    """
    steps = _as_steps(directions)
    if steps.shape[1] == 1:
        return np.ones(len(steps))
    agreement: Floats = (1.0 - np.abs(np.diff(steps, axis=1)) / 2.0).mean(axis=1)
    return agreement


def confidence(distribution: Distribution, directions: npt.ArrayLike, threshold: float) -> Floats:
    """Return the probability of the called direction, shape (n, horizons).

    For "up" and "down" it is the probability that the price ends above or below the close of the origin, ``p_up`` or
    ``p_down``; for "neutral" that it ends within the threshold. :func:`call_is_hit` is the same event, evaluated on the
    outcome.

    Parameters
    ----------
    distribution
        Predictive distributions of n origins.
    directions
        Their calls, shape (n, horizons).
    threshold
        The threshold of the calls.
    """
    steps = _as_steps(directions)
    above = distribution.probability_above(0.0)
    within = distribution.probability_above(np.log1p(-threshold)) - distribution.probability_above(np.log1p(threshold))
    return np.where(steps > 0, above, np.where(steps < 0, 1.0 - above, within))


def call_is_hit(directions: npt.ArrayLike, change: npt.ArrayLike, threshold: float | Floats) -> npt.NDArray[np.bool_]:
    """Return which calls were hits, shape (n, horizons), given the actual change of price as a fraction.

    "up" is a hit if the price ended above the close of the origin, "down" if below, "neutral" if within the threshold.
    """
    steps = _as_steps(directions)
    moves = np.asarray(change, dtype=np.float64)
    return np.where(steps > 0, moves > 0, np.where(steps < 0, moves < 0, np.abs(moves) <= threshold))


def mc_dropout_confidence(mean: npt.ArrayLike, std: npt.ArrayLike) -> Floats:
    """Return ``clip(1 - std / |mean|, 0.1, 0.9)`` of stochastic price forecasts, and 0.5 where the mean is 0.

    Parameters
    ----------
    mean, std
        Mean and standard deviation over the passes, in prices, same shape.

    Notes
    -----
    The spread of a price is small relative to the price, so this is nearly always 0.9: a convention that says little.
    The calibrated confidence is a probability and is evaluated as one.
    """
    centre, spread = np.abs(np.asarray(mean, dtype=np.float64)), np.asarray(std, dtype=np.float64)
    zero = centre == 0
    return np.where(zero, 0.5, np.clip(1.0 - spread / np.where(zero, 1.0, centre), 0.1, 0.9))


def _as_steps(directions: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """Turn calls (n, horizons) into -1, 0 and 1."""
    calls = np.asarray(directions)
    steps: npt.NDArray[np.int64] = (calls == "up").astype(np.int64) - (calls == "down").astype(np.int64)
    unknown = calls[(steps == 0) & (calls != "neutral")]
    if calls.ndim != 2 or len(unknown):
        got = f"shape {calls.shape}" if calls.ndim != 2 else repr(unknown[0])
        raise ConfigError(f'expected calls "up", "neutral" or "down" of shape (n, horizons); got {got}')
    return steps
