"""The ledger: it stores every forecast, and scores it once its outcome is known.

:mod:`~forecastlib.ledger.ledger` records, settles, finds and scores forecasts; :mod:`~forecastlib.ledger.tables` holds
the tables, and ``migrations`` their versions.
"""

from forecastlib.ledger.ledger import LEDGER_VARIABLE, Ledger, over_time, scorecard

__all__ = ["LEDGER_VARIABLE", "Ledger", "over_time", "scorecard"]
