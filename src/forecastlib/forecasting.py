"""The second use case: forecast with a registered model, and record it.

It stands apart from training, whose imports take longer than a forecast.
"""

from __future__ import annotations

import pandas as pd

from forecastlib.data.sources import fetch_prices
from forecastlib.forecaster import Origins
from forecastlib.ledger import Ledger
from forecastlib.paths import current_user
from forecastlib.tracking import registry
from forecastlib.tracking.registry import CHAMPION


def forecast(
    symbol: str, *, as_of: Origins | None = None, version: str = CHAMPION, requested_by: str | None = None
) -> pd.DataFrame:
    """Forecast with a registered model, from the source that it was trained from, and record it in the ledger.

    Earlier forecasts of the symbol whose day has come are settled on the way.

    Parameters
    ----------
    symbol
        Symbol.
    as_of
        The origin: the last session on or before this date; None: the newest session.
    version
        An alias such as ``champion``, the number of a version, or its tag ``v1.0.0_...``.
    requested_by
        Who asked, for the ledger; None: the user of the operating system.

    Returns
    -------
    DataFrame
        A forecast frame.

    Raises
    ------
    ModelNotFoundError
        If there is no such model.
    LedgerError
        If it cannot be recorded.
    """
    forecaster = registry.load(symbol, version)
    prices = fetch_prices(forecaster.config.data)
    forecasts = forecaster.predict(prices, as_of, renew=True)
    with Ledger() as ledger:
        ledger.settle(prices)
        ledger.record(forecasts, requested_by or current_user())
    return forecasts
