"""The leakage audit: proof by trial that nothing of the future reaches a model, its scalers, its ranges or its score.

:func:`audit` examines a :class:`Recipe`, the parts that lead from prices to a score; by default the library's own. A
part that is suspicious is put in the place of the real one, and the audit names it if it leaks. Each check is a
pure function of a subject; together they are :data:`CHECKS`. :mod:`forecastlib.auditing.planted` holds parts that are
wrong on purpose, one for each kind of leak.

=====================  =====================================================================================
perturbation           ``future_cut_off``, ``future_changed``, ``served_features``, ``scalers``: exact, no tolerance
bookkeeping            ``windows``, ``labels``, ``unlabelled_tail``, ``label_overlap``, ``calibration``: exact
skill                  ``single_features``, ``shuffled_targets``: statistical, against the spread of shuffles
=====================  =====================================================================================
"""

from forecastlib.auditing.auditing import CHECKS, FEATURE_CHECKS, SET_CHECKS, audit
from forecastlib.auditing.recipe import Recipe
from forecastlib.auditing.report import AuditReport, Finding

__all__ = ["CHECKS", "FEATURE_CHECKS", "SET_CHECKS", "AuditReport", "Finding", "Recipe", "audit"]
