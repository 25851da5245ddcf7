"""The ledger: it stores every forecast, and scores it once its outcome is known.

- :mod:`~forecastlib.ledger.ledger` records, settles and finds forecasts.
- :mod:`~forecastlib.ledger.scores` scores settled forecasts.
- :mod:`~forecastlib.ledger.tables` holds the tables, ``migrations`` their versions.
"""

from forecastlib.ledger.ledger import LEDGER_VARIABLE, Ledger

__all__ = ["LEDGER_VARIABLE", "Ledger"]
