"""The registered model as MLflow loads it: raw prices in, forecast frame out ("models from code").

MLflow executes this file when it logs the model and again when it loads it; nothing else imports it.
"""

from __future__ import annotations

from typing import Any

import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel, PythonModelContext

from forecastlib.data.prices import COLUMNS, to_prices
from forecastlib.errors import DataQualityError
from forecastlib.forecaster import Forecaster


class ServedForecaster(PythonModel):
    """Forecast from raw prices.

    Takes a frame with the columns ``open high low close volume`` and the dates as its index or as a column ``date``.
    The parameters ``as_of`` (a date; empty: the newest session) and ``symbol`` (empty: the one it was trained on)
    are optional.
    """

    def load_context(self, context: PythonModelContext) -> None:
        """Load the bundle."""
        self._forecaster = Forecaster.load(context.artifacts["bundle"])

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Return the forecast frame."""
        options = params or {}
        symbol = options.get("symbol") or model_input.attrs.get("symbol") or self._forecaster.metadata.symbols[0]
        return self._forecaster.predict(_as_prices(model_input, str(symbol)), options.get("as_of") or None)


def _as_prices(frame: pd.DataFrame, symbol: str) -> pd.DataFrame:
    if "date" in frame.columns:
        try:
            dates = pd.DatetimeIndex(pd.to_datetime(frame["date"]))
        except ValueError as error:
            raise DataQualityError(f"expected dates such as 2018-12-31 in the column 'date': {error}") from error
    elif isinstance(frame.index, pd.DatetimeIndex):
        dates = frame.index
    else:
        raise DataQualityError(f"expected dates as the index or as a column 'date'; got columns {list(frame.columns)}")
    return to_prices(frame.loc[:, list(COLUMNS)].set_axis(dates, axis=0), symbol)


set_model(ServedForecaster())
