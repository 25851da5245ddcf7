"""The bar of a session, its date in the week and the year, and its volume: how much is traded, and in which direction.

A session may have no volume (^IXIC has two). The value of each ratio there is given where it is computed; a series
without any volume gives constants. Sources: Granville (1963): on-balance volume; Chaikin: money flow and
oscillator; Quong and Soudack (1989): money flow index; Elder (1993): force index; Amihud (2002): illiquidity;
Karpoff (1987): price changes and volume.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from forecastlib.features.base import (
    Feature,
    History,
    bar_range,
    close_location,
    direction,
    log_return,
    over,
    overnight_returns,
    past_change,
    plain,
    price,
    price_change,
    returns,
    span,
    typical_price,
)
from forecastlib.features.rolling import Array, Rolling, change, correlation, lag, memory, ratio, shared, sign


@shared
def weekday(history: History) -> npt.NDArray[np.int64]:
    """Return the day of the week, 0 for Monday."""
    days = history.prices.index.to_numpy().astype("datetime64[D]").astype(np.int64)
    return (days + 3) % 7  # day 0 of the epoch was a Thursday


@shared
def yearday(history: History) -> npt.NDArray[np.int64]:
    """Return the day of the year, 0 for 1 January."""
    days = history.prices.index.to_numpy().astype("datetime64[D]")
    years = np.arange(days[0].astype("datetime64[Y]"), days[-1].astype("datetime64[Y]") + 1).astype("datetime64[D]")
    since_new_year = days - years[np.searchsorted(years, days, side="right") - 1]
    return np.asarray(since_new_year.astype(np.int64))


def circle(
    name: str, description: str, days: int, position: Callable[[History], npt.NDArray[np.int64]]
) -> tuple[Feature, Feature]:
    """Return the sine and the cosine of a position in a cycle, so that its last day is next to its first."""
    angle = 2.0 * np.pi * np.arange(days) / days
    sine, cosine = np.sin(angle), np.cos(angle)
    return (
        plain(f"{name}_sin", 0, f"Sine of the {description}", lambda h: sine[position(h)]),
        plain(f"{name}_cos", 0, f"Cosine of the {description}", lambda h: cosine[position(h)]),
    )


BAR = (
    price("open", 0, "Open over the close, minus 1", lambda h: h.open.values),
    price("high", 0, "High over the close, minus 1", lambda h: h.high.values),
    price("low", 0, "Low over the close, minus 1", lambda h: h.low.values),
    Feature("close", 1, "Log return over one session", lambda h: log_return(h, 1), lambda h: h.close.values),
    Feature(
        "overnight",
        1,
        "Log of the open over the previous close",
        relative=lambda h: overnight_returns(h).values,
        level=lambda h: h.open.values - lag(h.close.values, 1),
    ),
    span("range", 0, "High minus low", lambda h: bar_range(h).values),
    span(
        "upper_shadow",
        0,
        "High minus the higher of open and close",
        lambda h: h.high.values - np.maximum(h.open.values, h.close.values),
    ),
    span(
        "lower_shadow",
        0,
        "Lower of open and close minus low",
        lambda h: np.minimum(h.open.values, h.close.values) - h.low.values,
    ),
    plain("close_location", 0, "Position of the close between low (-1) and high (1)", close_location),
    plain(
        "balance_of_power",
        0,
        "Close minus open over high minus low",
        lambda h: ratio(h.close.values - h.open.values, bar_range(h).values, 0.0),
    ),
    *(past_change(f"return_{sessions}", sessions) for sessions in (2, 3, 5, 10)),
)

CALENDAR = (*circle("weekday", "day of the week", 7, weekday), *circle("yearday", "day of the year", 366, yearday))


def volume_change(history: History) -> Array:
    """Return the change of volume over the sum of both sessions, -1 to 1; 0 where both are zero."""
    volume, before = history.volume.values, lag(history.volume.values, 1)
    return ratio(volume - before, volume + before, 0.0)


@shared
def signed_volume(history: History) -> Rolling:
    """Return the volume with the sign of the change of the close."""
    return Rolling(direction(history).values * history.volume.values)


@shared
def money_flow_volume(history: History) -> Rolling:
    """Return the volume times the position of the close in its bar."""
    return Rolling(close_location(history) * history.volume.values)


def money_flow_index(history: History, window: int) -> Array:
    """Return the share of turnover on rises of the typical price, 0 to 100; 50 where that has not moved."""
    typical = typical_price(history).values
    flow = sign(change(typical, 1), typical) * (typical * history.volume.values)
    return 100.0 * ratio(Rolling(np.maximum(flow, 0.0)).sum(window), Rolling(np.abs(flow)).sum(window), 0.5)


@shared
def chaikin_oscillator(history: History) -> Array:
    """Return the exponential mean of 3 sessions of the accumulation line minus that of 10.

    The line is a sum from the first row on, but its level cancels: the line minus its mean is the mean of its
    increments times (span - 1) / 2, whose memory is bounded.
    """
    flow = money_flow_volume(history)
    return 4.5 * flow.exponential_mean(10) - 1.0 * flow.exponential_mean(3)


@shared
def vwap(history: History, window: int) -> Array:
    """Return the mean typical price weighted by volume; the plain mean where there is no volume."""
    typical = typical_price(history)
    turnover = Rolling(typical.values * history.volume.values).sum(window)
    volume = history.volume.sum(window)
    return np.where(volume == 0.0, typical.mean(window), ratio(turnover, volume, 0.0))


@shared
def turnover(history: History) -> Rolling:
    """Return close times volume."""
    return Rolling(history.close.values * history.volume.values)


def amihud(history: History, window: int) -> Array:
    """Return the mean of absolute return over turnover; sessions without volume count 0."""
    return Rolling(ratio(returns(history).absolute.values, turnover(history).values, 0.0)).mean(window)


def volume_oscillator(history: History) -> Array:
    """Return the exponential mean volume of 12 sessions over that of 26, minus 1; 0 without volume."""
    return ratio(history.volume.exponential_mean(12), history.volume.exponential_mean(26), 1.0) - 1.0


def volume_mean(window: int) -> Feature:
    """Return the feature of the mean volume; its relative form is the volume over that, 1 where it is zero."""
    return Feature(
        f"volume_mean_{window}",
        window - 1,
        f"Volume over its mean of {window} sessions",
        relative=lambda h: ratio(h.volume.values, h.volume.mean(window), 1.0),
        level=lambda h: h.volume.mean(window),
    )


def on_balance_volume(window: int) -> Feature:
    """Return the feature of on-balance volume; its relative form is a share of all volume, 0 without any."""
    return Feature(
        f"obv_{window}",
        window,
        f"On-balance volume of {window} sessions as a share of all volume",
        relative=lambda h: ratio(signed_volume(h).sum(window), h.volume.sum(window), 0.0),
        level=lambda h: signed_volume(h).sum(window),
    )


VOLUME = (
    Feature("volume", 1, "Change of volume over the sum of both sessions", volume_change, lambda h: h.volume.values),
    *(volume_mean(window) for window in (5, 21, 63)),
    plain(
        "volume_ratio_5_63",
        62,
        "Mean volume of 5 sessions over that of 63",
        lambda h: ratio(h.volume.mean(5), h.volume.mean(63), 1.0),
    ),
    *over((21, 63), plain, "volume_z_{}", -1, "z-score of volume over {} sessions", lambda h, w: h.volume.z_score(w)),
    plain(
        "volume_variation_21",
        20,
        "Standard deviation of volume over its mean",
        lambda h: ratio(h.volume.deviation(21), h.volume.mean(21), 0.0),
    ),
    plain("volume_rank_63", 62, "Rank of volume among 63 sessions", lambda h: h.volume.rank(63)),
    Feature(
        "volume_slope_21",
        20,
        "Slope of the line through volume over its mean",
        relative=lambda h: ratio(h.volume.slope(21), h.volume.mean(21), 0.0),
        level=lambda h: h.volume.slope(21),
    ),
    *(on_balance_volume(window) for window in (21, 63)),
    *over(
        (21, 63),
        plain,
        "chaikin_money_flow_{}",
        -1,
        "Chaikin's money flow of {} sessions",
        lambda h, w: ratio(money_flow_volume(h).sum(w), h.volume.sum(w), 0.0),
    ),
    Feature(
        "chaikin_oscillator",
        memory(10) - 1,
        "Chaikin's oscillator over the mean volume",
        relative=lambda h: ratio(chaikin_oscillator(h), h.volume.exponential_mean(10), 0.0),
        level=chaikin_oscillator,
    ),
    plain("mfi_14", 14, "Money flow index", money_flow_index, 14),
    Feature(
        "force_index_13",
        memory(13),
        "Return weighted by volume, smoothed",
        relative=lambda h: ratio(
            Rolling(returns(h).values * h.volume.values).exponential_mean(13), h.volume.exponential_mean(13), 0.0
        ),
        level=lambda h: Rolling(price_change(h, 1) * h.volume.values).exponential_mean(13),
    ),
    *over((5, 21), price, "vwap_{}", -1, "Volume-weighted mean price of {} sessions", vwap),
    plain(
        "return_volume_correlation_63",
        63,
        "Correlation of returns and volume over 63 sessions",
        lambda h: correlation(returns(h), h.volume, 63),
    ),
    Feature(
        "amihud_21",
        21,
        "Amihud's illiquidity in units of the mean turnover per session",
        relative=lambda h: amihud(h, 21) * turnover(h).mean(21),
        level=lambda h: amihud(h, 21),
    ),
    plain("volume_oscillator", memory(26) - 1, "Mean volume of 12 sessions over that of 26", volume_oscillator),
)
