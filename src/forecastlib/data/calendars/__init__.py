"""Trading sessions: which days an exchange trades, and the date of the h-th session ahead.

A horizon of h is h **trading sessions** after its origin. Where the prices reach, the data itself says which session
that is; beyond their end the exchange's calendar goes on after the last known session. A symbol that no exchange is
known for has the calendar ``"inferred"``: the weekdays on which its own recent sessions fall, without holidays.
"""

from forecastlib.data.calendars.calendars import INFERRED, known_range, resolve_calendar
from forecastlib.data.calendars.dates import next_sessions, sessions_between, target_dates

__all__ = ["INFERRED", "known_range", "next_sessions", "resolve_calendar", "sessions_between", "target_dates"]
