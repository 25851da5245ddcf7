"""Features of one symbol: 152 columns per session, computed from open, high, low, close and volume, and the user's own.

Every built-in value is determined by its session and a declared number of sessions before it, at most 252, **to the
last bit**. So the features of a date are equal however they are reached: in 20 years of history or in the last 253
sessions, in training or in serving, today or after more sessions have been appended. Three rules ensure that:

- Windows are merged in a fixed order instead of summed from the first row on (:mod:`.rolling`). TA-Lib is used where it
  computes window by window as well (``AROON``, ``MIDPRICE``, ``AVGDEV``, ``TRANGE``); its running sums and
  recursions, whose rounding depends on where the history starts, are replaced, and serve as oracles in the tests.
- Exponential and Wilder's averages have a bounded memory of 4 spans, and weights that sum to 1. The weights cut off
  amount to 0.03 %. Indicators that average averages add up the memories.
- Lines that are sums from the first row on (on-balance volume, accumulation) appear as their change over a window.

A ratio whose denominator can be zero (no volume, no range, a constant close) has its value there documented where it
is computed; spreads that are mere rounding errors count as zero.

The ``relative`` form is free of scale: prices are divided by the close, and multiplying all prices or all volumes by a
constant changes nothing beyond rounding. The ``level`` form has prices, averages and volumes as they are. Names are
the same in both.

A feature of your own joins them by :func:`register_feature`, or by :func:`feature` and ``"package.module:function"``.
"""

from forecastlib.features.registry import (
    CATALOGUE,
    GROUPS,
    catalogue,
    choose_features,
    compute_features,
    feature,
    feature_frame,
    register_feature,
    unknown_features,
    warm_up,
)

__all__ = [
    "CATALOGUE",
    "GROUPS",
    "catalogue",
    "choose_features",
    "compute_features",
    "feature",
    "feature_frame",
    "register_feature",
    "unknown_features",
    "warm_up",
]
