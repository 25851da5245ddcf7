"""The quality gate: what is wrong with prices, how much, on which days, and what to do about it.

:func:`check_quality` looks and changes nothing; :func:`repair` changes what can be changed safely, and lists it.
"""

from forecastlib.data.quality.catalogue import FRAME_CHECKS, SERIES_CHECKS, Check
from forecastlib.data.quality.gate import check_quality
from forecastlib.data.quality.repair import Repair, repair
from forecastlib.data.quality.report import QualityReport
from forecastlib.data.quality.subject import QualityLimits

__all__ = [
    "FRAME_CHECKS",
    "SERIES_CHECKS",
    "Check",
    "QualityLimits",
    "QualityReport",
    "Repair",
    "check_quality",
    "repair",
]
