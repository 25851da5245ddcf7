"""Models: everything that forecasts, behind one protocol.

=========================  =======================================================================================
``random_walk``            the last close
``drift``                  and the mean return of the training samples
``ridge``                  ridge regression on the features of the origin's session
``gradient_boosting``      histogram gradient boosting on them
``ewma``                   RiskMetrics variance, simulated with its past shocks
``garch_t``                GARCH(1,1) with Student's t, likewise
``gjr_skewt``              GJR-GARCH with a skewed t, likewise
``har``                    heterogeneous autoregression of range-based variance
``lstm``                   the network alone, with split-conformal intervals
``combination``            the network weighted against a drift, with calibrated intervals: served by default
=========================  =======================================================================================
"""

from forecastlib.models.base import BASELINES, Model, available, create, register_model
from forecastlib.models.distribution import LEVELS, Distribution

__all__ = ["BASELINES", "LEVELS", "Distribution", "Model", "available", "create", "register_model"]
