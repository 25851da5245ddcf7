"""The parts of the service and how they belong together."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import anyio
from structlog.typing import FilteringBoundLogger

from forecastlib.ledger import Ledger
from forecastlib.serving.jobs import Jobs
from forecastlib.serving.keys import KeyFile
from forecastlib.serving.limits import RateLimit
from forecastlib.serving.predictions import Predictions
from forecastlib.serving.problems import busy
from forecastlib.serving.settings import Settings
from forecastlib.serving.store import JobStore

T = TypeVar("T")


class Service:
    """All that the routes need, made once for an application.

    Parameters
    ----------
    settings
        Of the operator.
    log
        Where it tells what it does.
    """

    def __init__(self, settings: Settings, log: FilteringBoundLogger) -> None:
        self.settings = settings
        self.log = log
        self.keys = KeyFile(settings.keys_file)
        self.rate = RateLimit(per_second=settings.requests_per_second, burst=settings.request_burst)
        self.ledger = Ledger(settings.ledger_url)
        self.store = JobStore(settings.database, settings.database_seconds)
        self.predictions = Predictions(settings, self.ledger)
        self.jobs = Jobs(settings, self.store, log, on_change=self.predictions.forget)
        # Two pools, so that a slow source of prices or a long list never keeps predictions waiting.
        self._predicting = _Pool(settings.prediction_threads, settings.queued_requests)
        self._others = _Pool(4, settings.queued_requests)

    async def predicting(self, work: Callable[[], T]) -> T:
        """Compute a forecast in one of the threads for them."""
        return await self._predicting.run(work)

    async def aside(self, work: Callable[[], T]) -> T:
        """Do anything else that would hold up the event loop, in a thread."""
        return await self._others.run(work)

    def close(self) -> None:
        """Close the databases."""
        self.store.close()
        self.ledger.close()


class _Pool:
    """So many threads, and so many requests that wait for one; the next is told to come back."""

    def __init__(self, threads: int, queued: int) -> None:
        self._limiter = anyio.CapacityLimiter(threads)
        self._most = threads + queued
        self._inside = 0

    async def run(self, work: Callable[[], T]) -> T:
        if self._inside >= self._most:
            raise busy(429, "overloaded", f"{self._most} requests are being handled already; try again", seconds=1)
        self._inside += 1
        try:
            return await anyio.to_thread.run_sync(work, limiter=self._limiter)
        finally:
            self._inside -= 1
