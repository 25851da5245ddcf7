"""What is known of a symbol's past on some date: for each session, what followed it and what could be seen before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import numpy.typing as npt
import pandas as pd

from forecastlib.errors import NotEnoughDataError
from forecastlib.samples.variance import SMALLEST_VOLATILITY, session_variance, volatility_predictors
from forecastlib.samples.windows import Windows

Floats = npt.NDArray[np.float64]

FIRST_ROW = 60
"""Rows before it are left out: they have too little behind them to say how volatile the market is."""

SMALLEST_PAST = 60
"""Sessions with a known outcome that are needed to learn from."""


@dataclass(frozen=True, eq=False)
class Past:
    """The sessions of one symbol up to a date, and what followed each of them as far as it was known on that date.

    Attributes
    ----------
    dates : DatetimeIndex, length n
        The sessions, oldest first.
    log_returns : ndarray, shape (n, horizons)
        From the close of a session to that h sessions later; NaN where it was not known yet.
    log_variance : ndarray, shape (n, horizons)
        Logarithm of the mean variance of the next h sessions, likewise.
    predictors : ndarray, shape (n, 8)
        What was known after each session, :func:`forecastlib.samples.variance.volatility_predictors`.
    session_returns : ndarray, shape (n,)
        Log return of each session itself; 0 for the first.
    horizons : tuple of int
        Sessions ahead, one a column.
    """

    dates: pd.DatetimeIndex
    log_returns: Floats
    log_variance: Floats
    predictors: Floats
    session_returns: Floats
    horizons: tuple[int, ...]

    def known(self, horizon: int) -> npt.NDArray[np.bool_]:
        """Tell which sessions are to be learnt from, for the horizon in a column."""
        usable = np.isfinite(self.log_returns[:, horizon])
        usable[:FIRST_ROW] = False
        return usable

    def weights(self, half_life: float) -> Floats:
        """Return how much each session counts: 1 the newest, half of it one that is ``half_life`` sessions older."""
        weights: Floats = 0.5 ** (np.arange(len(self.dates))[::-1] / half_life)
        return weights

    def until(self, date: pd.Timestamp) -> Self:
        """Return what was known on an earlier date: the same as :func:`known_past` finds for it."""
        n = int(self.dates.searchsorted(date, side="right"))
        log_returns, log_variance = self.log_returns[:n].copy(), self.log_variance[:n].copy()
        for i, h in enumerate(self.horizons):
            log_returns[max(n - h, 0) :, i] = log_variance[max(n - h, 0) :, i] = np.nan
        return replace(
            self,
            dates=self.dates[:n],
            log_returns=log_returns,
            log_variance=log_variance,
            predictors=self.predictors[:n],
            session_returns=self.session_returns[:n],
        )


def known_past(prices: pd.DataFrame, until: pd.Timestamp, horizons: Sequence[int]) -> Past:
    """Collect what was known on a date.

    Parameters
    ----------
    prices
        Prices of one symbol; sessions after ``until`` are not looked at.
    until
        The last session that may be known: that on which the last validation label is.
    horizons
        Sessions ahead, increasing.

    Raises
    ------
    NotEnoughDataError
        If fewer than :data:`SMALLEST_PAST` outcomes are known at the longest horizon.

    Examples
    --------
    With ten sessions (rows 0-9) up to ``until`` and the horizons 1 and 3, row 6 has both outcomes (rows 7 and 9), row
    8 only the first, row 9 none.
    """
    known = prices.loc[:until]
    n, longest = len(known), max(horizons)
    if n < FIRST_ROW + longest + SMALLEST_PAST:
        raise NotEnoughDataError(
            f"expected at least {FIRST_ROW + longest + SMALLEST_PAST} sessions up to {until:%Y-%m-%d} to learn ranges "
            f"from; got {n}; use a longer history or shorter horizons"
        )
    log_close = np.log(known["close"].to_numpy(dtype=np.float64))
    variance = np.maximum(session_variance(known), SMALLEST_VOLATILITY**2)
    summed = np.concatenate([[0.0], np.cumsum(variance)])
    log_returns, log_variance = np.full((n, len(horizons)), np.nan), np.full((n, len(horizons)), np.nan)
    for i, h in enumerate(horizons):
        log_returns[: n - h, i] = log_close[h:] - log_close[:-h]
        log_variance[: n - h, i] = np.log((summed[1 + h :] - summed[1:-h]) / h)
    return Past(
        dates=pd.DatetimeIndex(known.index),
        log_returns=log_returns,
        log_variance=log_variance,
        predictors=volatility_predictors(known),
        session_returns=np.diff(log_close, prepend=log_close[0]),
        horizons=tuple(int(h) for h in horizons),
    )


def past_at_the_end_of(validation: Windows, prices: pd.DataFrame) -> Past:
    """Collect what was known of a symbol on the day on which the last validation label was.

    Ranges are calibrated on it, whose last label comes before the first test origin.
    """
    return known_past(prices, validation.label_dates.max(), validation.config.horizons)
