"""The ledger: every forecast is kept, and scored when its day has come.

- :mod:`~forecastlib.ledger.history` is the ledger itself: record, settle, look up.
- :mod:`~forecastlib.ledger.scores` says what settled forecasts were worth.
- :mod:`~forecastlib.ledger.schema` is its tables, and how an older database becomes a present one.
"""

from forecastlib.ledger.history import LEDGER_VARIABLE, Ledger

__all__ = ["LEDGER_VARIABLE", "Ledger"]
