"""Benchmarks: how fast this library is beside its peers, measured on the machine at hand.

Every contender lives in a process of its own, and they take turns, so that whatever else the machine does meets all of
them alike. Ratios are taken within a round; what is told is their median, with the fastest and the slowest round.
"""

from forecastlib.bench.measuring import Measured, measure
from forecastlib.bench.report import write_report
from forecastlib.bench.works import WORKS

__all__ = ["WORKS", "Measured", "measure", "write_report"]
