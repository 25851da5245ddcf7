"""Replay: what the ledger would say today, had it been kept for the last years."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from forecastlib.config import RunConfig
from forecastlib.data.prices import require_prices
from forecastlib.errors import ConfigError, NotEnoughDataError
from forecastlib.forecaster import Forecaster
from forecastlib.ledger import Ledger


def replay(
    prices: pd.DataFrame,
    config: RunConfig,
    ledger: Ledger,
    *,
    years: float = 2.0,
    every: int = 5,
    refits: int = 4,
    progress: bool = True,
) -> pd.DataFrame:
    """Forecast the last years again, each day with a model of that time, record it and settle it.

    The years are cut into ``refits`` spans of equal length. The model of a span is trained on what was known at its
    first origin, in the same way as any other: scalers, early stopping and calibration included.

    Parameters
    ----------
    prices
        Prices of one symbol; ``attrs["symbol"]`` says which.
    config
        How every model is trained.
    ledger
        Where forecasts go. Give one of its own, such as ``Ledger("sqlite://")``: they were made with hindsight of
        their design, if not of prices, and are no part of the real history.
    years
        How far back.
    every
        Sessions from one forecast to the next.
    refits
        Models to train.
    progress
        Whether to show a progress bar for each training.

    Returns
    -------
    DataFrame
        Of :meth:`~forecastlib.ledger.Ledger.history`, oldest first: the replayed forecasts with what happened.
        ``model_version`` ends in the day that the model is of, as in ``v1.0.0_20261122_222805@20170103``.

    Raises
    ------
    ConfigError
        If a parameter is out of range.
    NotEnoughDataError
        If there are fewer origins than models, or too few sessions before them.

    Examples
    --------
    With 20 sessions in the years replayed, ``every=5`` and ``refits=2``, the origins are sessions 0, 5, 10 and 15. The
    first model knows sessions up to 0 and forecasts from 0 and 5, the second one up to 10 and forecasts from 10 and 15.
    """
    require_prices(prices)
    if not (math.isfinite(years) and years > 0 and every >= 1 and refits >= 1):
        raise ConfigError(
            f"expected years > 0, every >= 1 and refits >= 1; got years={years}, every={every}, refits={refits}"
        )
    index = pd.DatetimeIndex(prices.index)
    origins = index[index > index[-1] - pd.Timedelta(days=365.25 * years)][::every]
    if len(origins) < refits:
        raise NotEnoughDataError(f"expected at least an origin for each of {refits} models; got {len(origins)}")
    versions = []
    for part in np.array_split(np.arange(len(origins)), refits):
        span = origins[part]
        forecaster = Forecaster(config).fit(prices.loc[: span[0]], progress=progress)
        versions.append(f"{forecaster.metadata.version}@{span[0]:%Y%m%d}")
        # Cut off, so that nothing could look beyond the last origin.
        forecasts = forecaster.predict(prices.loc[: span[-1]], span, renew=True)
        forecasts.attrs.pop("known_until", None)  # each is made as if on the day of its origin
        ledger.record(forecasts.assign(model_version=versions[-1]), "replay")
    ledger.settle(prices)
    rows = ledger.history(symbol=str(prices.attrs["symbol"]), since=origins[0])
    return rows[rows["model_version"].isin(versions)].sort_values(["origin", "horizon"], ignore_index=True)
