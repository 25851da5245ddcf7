"""Windows and labels: what a model sees at an origin, and what it has to forecast.

The window of origin ``t`` is the feature rows ``t - lookback + 1 ... t``; the label for horizon ``h`` is the close of
row ``t + h``. A row whose label is not known yet has no label (NaN): it is used for forecasting, never for training.
Labels are not clipped to the last price.

All windows share one matrix of features. :attr:`Windows.X` is a view of it where the origins are consecutive, so
memory grows with the length of the series and not with ``lookback`` copies of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol, Self

import numpy as np
import numpy.typing as npt
import pandas as pd

from forecastlib.config import WindowConfig
from forecastlib.data.prices import require_prices
from forecastlib.errors import ConfigError, DataQualityError, NotEnoughDataError
from forecastlib.samples.variance import ewma_volatility, horizon_volatility

Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]

MIN_PRICE_RATIO = 1e-3
"""Lower bound of a forecast as a share of the last close: a network trained on prices may predict a negative one."""


class Scaler(Protocol):
    """Scales targets and inverts their scaling, as :class:`forecastlib.samples.scaling.Scaling` does."""

    def targets(self, y: Floats) -> npt.NDArray[np.float32]:
        """Scale targets, shape (n, horizons)."""
        ...

    def unscaled_targets(self, scaled: npt.ArrayLike) -> Floats:
        """Invert the scaling of targets, shape (n, horizons)."""
        ...


@dataclass(frozen=True, eq=False)
class SymbolSamples:
    """The samples of one symbol, and the prices that they may look at.

    Attributes
    ----------
    symbol : str
    prices : DataFrame
        Prices of the symbol, up to the last session that may be looked at.
    index : ndarray of int64, shape (m,)
        Positions of the samples in the set that they were taken from.
    rows : ndarray of int64, shape (m,)
        The row of ``prices`` that is the origin of each sample.
    """

    symbol: str
    prices: pd.DataFrame
    index: Rows
    rows: Rows


@dataclass(frozen=True, eq=False)
class Windows:
    """Samples of one or several symbols, one row per origin, oldest first within a symbol.

    Attributes
    ----------
    matrix : ndarray, shape (rows, features), float64
        The feature rows of every symbol, one symbol after the other. Shared by all windows.
    dates : DatetimeIndex, length rows
        The session of each row of ``matrix``.
    rows : ndarray of int64, shape (n,)
        The row of ``matrix`` that is each window's origin, its last row.
    y : ndarray, shape (n, horizons), float64
        Targets in the units of ``config.target``; NaN where the label is not known yet.
    label_dates : DatetimeIndex, length n
        The session on which the last of a row's labels becomes known; NaT where it is not known yet.
    last_close : ndarray, shape (n,), float64
        The close of the origin.
    volatility : ndarray, shape (n,), float64
        Volatility per session at the origin, by :func:`forecastlib.samples.variance.ewma_volatility`.
    symbols : ndarray of str, shape (n,)
        The symbol of each row.
    feature_names : tuple of str
        The columns of ``matrix``, in order.
    config : WindowConfig
        What the windows were made with.
    prices : tuple of DataFrame
        Prices of each symbol, in the order of the matrix, up to the last session that a model may look at.
    scaled : ndarray, shape (rows, features), float32, or None
        The matrix as scaled by ``scaler``.
    scaler : Scaler or None
        The scalers of the training set, once they are fitted.
    """

    matrix: Floats
    dates: pd.DatetimeIndex
    rows: Rows
    y: Floats
    label_dates: pd.DatetimeIndex
    last_close: Floats
    volatility: Floats
    symbols: npt.NDArray[np.str_]
    feature_names: tuple[str, ...]
    config: WindowConfig
    prices: tuple[pd.DataFrame, ...]
    scaled: npt.NDArray[np.float32] | None = None
    scaler: Scaler | None = None

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.rows)

    @property
    def X(self) -> Floats:
        """All windows, shape (n, lookback, features): a read-only view where the origins are consecutive rows.

        Windows pooled from several symbols, or a subset with holes, are gathered, which copies them; training
        gathers batch by batch instead.
        """
        every = np.lib.stride_tricks.sliding_window_view(self.matrix, self.config.lookback, axis=0).transpose(0, 2, 1)
        starts = self.rows - self.config.lookback + 1
        if len(starts) and starts[-1] - starts[0] + 1 == len(starts) and bool((np.diff(starts) == 1).all()):
            view: Floats = every[starts[0] : starts[-1] + 1]
            return view
        gathered: Floats = every[starts]
        return gathered

    @cached_property
    def origins(self) -> pd.DatetimeIndex:
        """The session after whose close each forecast is made, length n."""
        return self.dates[self.rows]

    @cached_property
    def labelled(self) -> npt.NDArray[np.bool_]:
        """Whether all labels of a row are known, shape (n,)."""
        return np.asarray(self.label_dates.notna())

    def covered_rows(self, index: npt.ArrayLike) -> Rows:
        """Return the rows of ``matrix`` that the windows at ``index`` see, each once and in order.

        Examples
        --------
        With a lookback of 3, the windows whose origins are rows 5 and 6 see rows 3, 4, 5 and 6.
        """
        seen = np.zeros(len(self.matrix) + 1, dtype=np.int64)
        ends = self.rows[as_index(index)]
        np.add.at(seen, ends - self.config.lookback + 1, 1)
        np.add.at(seen, ends + 1, -1)
        return np.flatnonzero(np.cumsum(seen[:-1]))

    def take(self, index: npt.ArrayLike) -> Self:
        """Return the samples at some positions, or where a mask is true; the matrix stays shared."""
        i = as_index(index)
        return replace(
            self,
            rows=self.rows[i],
            y=self.y[i],
            label_dates=self.label_dates[i],
            last_close=self.last_close[i],
            volatility=self.volatility[i],
            symbols=self.symbols[i],
        )

    @property
    def last_rows(self) -> Floats:
        """The features of each origin's own session, shape (n, features): the last row of each window."""
        return self.matrix[self.rows]

    def labels(self) -> Floats:
        """Return the log returns that the samples are labelled with, shape (n, horizons).

        Raises
        ------
        ConfigError
            If a label is not known yet.
        """
        if not self.labelled.all():
            raise ConfigError(
                f"expected labelled samples to fit on; {int((~self.labelled).sum())} of {len(self)} have no label yet; "
                "take a set from holdout(windows)"
            )
        return self.log_returns(self.y)

    def require_scaled(self) -> tuple[npt.NDArray[np.float32], Scaler]:
        """Return the scaled matrix and its scalers.

        Raises
        ------
        ConfigError
            If the samples are not scaled.
        """
        if self.scaled is None or self.scaler is None:
            raise ConfigError(
                "expected scaled samples; fit the scalers on the training set and call fit_scaling(...).apply(windows)"
            )
        return self.scaled, self.scaler

    def without_labels(self) -> Self:
        """Return the same samples as they are known at their origins, without labels."""
        return replace(self, y=np.full_like(self.y, np.nan), label_dates=pd.DatetimeIndex([pd.NaT] * len(self)))

    def until(self, date: pd.Timestamp) -> Self:
        """Return the same samples with prices that end on a date, so that no model can look at later ones."""
        return replace(self, prices=tuple(prices.loc[:date] for prices in self.prices))

    def by_symbol(self) -> Iterator[SymbolSamples]:
        """Yield the samples of each symbol with its prices.

        Raises
        ------
        DataQualityError
            If an origin is not among the sessions of the prices.
        """
        for prices in self.prices:
            symbol = str(prices.attrs.get("symbol", ""))
            index = np.flatnonzero(self.symbols == symbol)
            origins = self.origins[index]
            rows = np.asarray(prices.index.searchsorted(origins), dtype=np.int64)  # faster than hashing all sessions
            missing = rows == len(prices)
            missing[~missing] = prices.index[rows[~missing]] != origins[~missing]
            if missing.any():
                raise DataQualityError(
                    f"expected the prices of {symbol} that the samples were made of; {origins[missing][0]:%Y-%m-%d} "
                    "is missing"
                )
            yield SymbolSamples(symbol, prices, index, rows)

    def log_returns(self, targets: npt.ArrayLike) -> Floats:
        """Turn targets of these rows, shape (n, horizons), into log returns from the origin to the horizon."""
        values = np.asarray(targets, dtype=np.float64)
        if self.config.target == "price":
            return np.log(np.maximum(values, MIN_PRICE_RATIO * self.last_close[:, None]) / self.last_close[:, None])
        if self.config.target == "vol_scaled":
            values = values * horizon_volatility(self.volatility, self.config.horizons)
        return values

    def to_prices(self, targets: npt.ArrayLike) -> Floats:
        """Turn targets of these rows, shape (n, horizons), into prices, of which they are an exact inverse."""
        values: Floats = np.exp(self.log_returns(targets)) * self.last_close[:, None]
        return values


def make_windows(prices: pd.DataFrame, features: pd.DataFrame, config: WindowConfig | None = None) -> Windows:
    """Make the windows and labels of one symbol.

    Parameters
    ----------
    prices
        Prices, n sessions.
    features
        Features on the same index; rows at the beginning may be NaN (warm-up), later ones may not.
    config
        Lookback, horizons and target.

    Returns
    -------
    Windows
        One row for each session with a full window, including the newest ones, which have no label yet.

    Raises
    ------
    DataQualityError
        If the indices differ, or a feature is not finite after the warm-up.
    NotEnoughDataError
        If not even one window is full.

    Examples
    --------
    Ten sessions (rows 0-9), the first two of which are warm-up, lookback 3, horizons 1 and 2:

    ====== ============ ======================= =================
    row    window       labels about the closes label known after
    ====== ============ ======================= =================
    4      rows 2, 3, 4 rows 5 and 6            row 6
    5      rows 3, 4, 5 rows 6 and 7            row 7
    ...
    7      rows 5, 6, 7 rows 8 and 9            row 9
    8      rows 6, 7, 8 row 9; row 10 unknown   unknown (NaT)
    9      rows 7, 8, 9 unknown                 unknown (NaT)
    ====== ============ ======================= =================
    """
    require_prices(prices)
    return build_windows(prices, features, config or WindowConfig())


def build_windows(prices: pd.DataFrame, features: pd.DataFrame, config: WindowConfig) -> Windows:
    """Make the windows and labels of one symbol, as :func:`make_windows` does, from prices that are validated."""
    if not features.index.equals(prices.index):
        raise DataQualityError(
            f"expected features on the index of the prices; got {len(features)} rows for {len(prices)} sessions, "
            "or other dates; compute the features from these prices"
        )
    matrix = features.to_numpy(dtype=np.float64)
    warm_up = _warm_up(features, matrix)
    first = warm_up + config.lookback - 1
    if first >= len(prices):
        raise NotEnoughDataError(
            f"expected at least {first + 1} sessions for one window ({warm_up} of warm-up and a lookback of "
            f"{config.lookback}); got {len(prices)}"
        )
    close = prices["close"].to_numpy()
    rows = np.arange(first, len(prices), dtype=np.int64)
    volatility = ewma_volatility(prices)[rows]
    longest = config.horizons[-1]
    dates = pd.DatetimeIndex(prices.index)
    known = _join([dates, pd.DatetimeIndex(np.full(longest, "NaT", dtype="datetime64[us]"))])
    return Windows(
        matrix=matrix,
        dates=dates,
        rows=rows,
        y=_targets(close, rows, volatility, config),
        label_dates=known[rows + longest],
        last_close=close[rows],
        volatility=volatility,
        symbols=np.full(len(rows), str(prices.attrs.get("symbol", ""))),
        feature_names=tuple(features.columns),
        config=config,
        prices=(prices,),
    )


def as_index(index: npt.ArrayLike) -> npt.NDArray[np.bool_] | Rows:
    """Return positions or a mask as an index: a mask taken for numbers would mean the samples 0 and 1."""
    chosen = np.asarray(index)
    return chosen if chosen.dtype == np.bool_ else chosen.astype(np.int64)


def _warm_up(features: pd.DataFrame, matrix: Floats) -> int:
    """Return the number of incomplete rows at the beginning; raise if a later row is incomplete."""
    complete = np.asarray(np.isfinite(matrix).all(axis=1))
    warm_up = int(np.argmax(complete)) if complete.any() else len(complete)
    holes = np.flatnonzero(~complete[warm_up:]) + warm_up
    if len(holes):
        name = features.columns[~np.isfinite(matrix[holes[0]])][0]
        raise DataQualityError(
            f"expected finite features after the warm-up of {warm_up} sessions; {name!r} is "
            f"{matrix[holes[0], features.columns.get_loc(name)]} on {features.index[holes[0]]:%Y-%m-%d}"
        )
    return warm_up


def _targets(close: Floats, rows: Rows, volatility: Floats, config: WindowConfig) -> Floats:
    longest = config.horizons[-1]
    extended = np.concatenate([close, np.full(longest, np.nan)])
    targets: Floats = extended[rows[:, None] + np.asarray(config.horizons)]
    if config.target != "price":
        targets = np.log(targets / close[rows][:, None])
    if config.target == "vol_scaled":
        targets = targets / horizon_volatility(volatility, config.horizons)
    return targets


def pool_windows(parts: Sequence[Windows]) -> Windows:
    """Pool the windows of several symbols into one set, for a global model.

    No window contains rows of two symbols.

    Parameters
    ----------
    parts
        Windows of the same configuration and features, one per symbol.

    Returns
    -------
    Windows
        The samples of all symbols, one symbol after the other.

    Raises
    ------
    ConfigError
        If there are none, or their configurations or features differ.
    """
    if not parts:
        raise ConfigError("expected the windows of at least one symbol to pool; got none")
    first = parts[0]
    for part in parts[1:]:
        if part.config != first.config or part.feature_names != first.feature_names:
            raise ConfigError("expected windows of the same configuration and the same features in the same order")
    if len(parts) == 1:
        return first
    symbols = [str(prices.attrs.get("symbol", "")) for part in parts for prices in part.prices]
    if len(set(symbols)) < len(symbols):
        raise ConfigError(f"expected different symbols to pool; got {', '.join(map(repr, symbols))}")
    offsets = np.cumsum([0, *(len(part.matrix) for part in parts[:-1])])
    return Windows(
        matrix=np.concatenate([part.matrix for part in parts]),
        dates=_join([part.dates for part in parts]),
        rows=np.concatenate([part.rows + offset for part, offset in zip(parts, offsets, strict=True)]),
        y=np.concatenate([part.y for part in parts]),
        label_dates=_join([part.label_dates for part in parts]),
        last_close=np.concatenate([part.last_close for part in parts]),
        volatility=np.concatenate([part.volatility for part in parts]),
        symbols=np.concatenate([part.symbols for part in parts]),
        feature_names=first.feature_names,
        config=first.config,
        prices=tuple(prices for part in parts for prices in part.prices),
    )


def _join(dates: Sequence[pd.DatetimeIndex]) -> pd.DatetimeIndex:
    return pd.DatetimeIndex(np.concatenate([part.to_numpy() for part in dates]))
