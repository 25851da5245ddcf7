"""The leakage audit: tests by trial that nothing of the future reaches a model, its scalers, intervals or scores.

:func:`audit` examines the :class:`~forecastlib.recipe.Recipe` and the model of a forecaster by trying each step.
:mod:`forecastlib.auditing.planted` holds steps that leak on purpose, one for each kind of leak, and
:mod:`forecastlib.auditing.ladder` shows how good a leaking evaluation can look.
"""

from forecastlib.auditing.audit import FEATURE_CHECKS, MODEL_CHECKS, SET_CHECKS, AuditReport, audit
from forecastlib.auditing.checks import CHECKS

__all__ = ["CHECKS", "FEATURE_CHECKS", "MODEL_CHECKS", "SET_CHECKS", "AuditReport", "audit"]
