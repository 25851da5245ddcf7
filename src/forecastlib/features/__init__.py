"""Technical features of one symbol: 152 columns a session, computed from open, high, low, close and volume alone.

Every value is determined by the session and a stated number of sessions before it, at most 252, **to the last bit**.
So the features of a date are equal however they are reached: in 20 years of history or in the last 253 sessions, in
training or in serving, today or after more sessions have been appended. Three rules bring that about:

- Windows are folded in a fixed order instead of summed from the first row on (:mod:`.fold`). TA-Lib computes what it
  computes window by window as well (``AROON``, ``MIDPRICE``, ``AVGDEV``, ``BOP``, ``TRANGE``); its running sums and
  recursions, whose rounding depends on where the history starts, are replaced, and serve as the oracle in the tests.
- Exponential and Wilder's averages see a bounded memory of 4 spans, their weights summing to 1. What is cut off had
  0.03 % of the weight. Indicators on averages of averages add the memories up.
- Lines that are sums from the first row on (on-balance volume, accumulation) appear as their change over a window.

A ratio whose denominator can be zero (no volume, no range, a close that stands still) has its value there stated
where it is computed; spreads that are mere rounding errors count as zero.

The ``relative`` form is free of scale: prices appear over the close, and multiplying all prices or all volumes by a
constant changes nothing beyond rounding. The ``level`` form has prices, averages and volumes as they are. Names are
the same in both.
"""

from forecastlib.features.catalogue import CATALOGUE, GROUPS, catalogue, choose_features, compute_features, warm_up

__all__ = ["CATALOGUE", "GROUPS", "catalogue", "choose_features", "compute_features", "warm_up"]
