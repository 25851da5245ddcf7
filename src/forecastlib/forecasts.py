"""The one shape of forecasts: a frame with one row for each symbol, origin and horizon.

The network, every baseline, the figures, the ledger and the service read the same columns.
"""

from __future__ import annotations

import uuid

import numpy as np
import numpy.typing as npt
import pandas as pd

from forecastlib.config import ModelConfig
from forecastlib.errors import DataQualityError
from forecastlib.models.distribution import Distribution
from forecastlib.models.uncertainty import confidence, direction
from forecastlib.samples.windows import Windows

COLUMNS = (
    "symbol",
    "origin",
    "horizon",
    "target_date",
    "last_close",
    "predicted_price",
    "change_pct",
    "direction",
    "lower_80",
    "upper_80",
    "lower_95",
    "upper_95",
    "p_up",
    "p_down",
    "confidence",
    "model_version",
    "batch_id",
)
"""The columns of a forecast frame, in order. ``change_pct`` is in per cent of the last close."""

COVERAGES = (80, 95)
"""The nominal coverages of the ranges, in per cent."""

Floats = npt.NDArray[np.float64]


def forecast_frame(
    windows: Windows,
    target_dates: npt.NDArray[np.datetime64],
    distribution: Distribution,
    *,
    config: ModelConfig,
    model_version: str,
    stated_confidence: Floats | None = None,
) -> pd.DataFrame:
    """Word forecasts as a frame.

    Parameters
    ----------
    windows
        The origins that are forecast, n rows.
    target_dates : ndarray of datetime64, shape (n, horizons)
        The session that each horizon means.
    distribution
        Predictive distributions of the log returns from the origin's close; their medians are the point forecasts.
    config
        Its ``direction_threshold``.
    model_version
        Who made the forecasts.
    stated_confidence : ndarray, shape (n, horizons), optional
        A confidence from elsewhere; by default the probability of the called direction.

    Returns
    -------
    DataFrame
        n x horizons rows, the horizons of an origin one after the other; the columns are :data:`COLUMNS`.
        ``attrs["direction_threshold"]`` is what the calls were made with.
    """
    log_returns = distribution.median()
    n, horizons = log_returns.shape
    close = windows.last_close[:, None]
    change = np.expm1(log_returns)
    calls = direction(change, config.direction_threshold)
    if stated_confidence is None:
        stated_confidence = confidence(distribution, calls, config.direction_threshold)
    p_up = distribution.probability_above(0.0)
    ends = {coverage: distribution.interval(coverage / 100.0) for coverage in COVERAGES}
    ranges = {
        f"{side}_{coverage}": (close * np.exp(ends[coverage][i])).ravel()
        for coverage in COVERAGES
        for i, side in enumerate(("lower", "upper"))
    }
    columns: dict[str, object] = {
        "symbol": np.repeat(windows.symbols, horizons),
        "origin": windows.origins.repeat(horizons),
        "horizon": np.tile(np.asarray(windows.config.horizons, dtype=np.int64), n),
        "target_date": pd.DatetimeIndex(target_dates.ravel()).as_unit("us"),
        "last_close": np.repeat(windows.last_close, horizons),
        "predicted_price": (close * (1.0 + change)).ravel(),
        "change_pct": (100.0 * change).ravel(),
        "direction": calls.ravel(),
        **ranges,
        "p_up": p_up.ravel(),
        "p_down": (1.0 - p_up).ravel(),
        "confidence": stated_confidence.ravel(),
        "model_version": model_version,
        "batch_id": uuid.uuid4().hex,
    }
    frame = pd.DataFrame(columns)
    frame.attrs["direction_threshold"] = config.direction_threshold
    return frame


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
