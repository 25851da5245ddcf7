"""The parts of the service and how they belong together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import anyio
from structlog.typing import FilteringBoundLogger

from forecastlib.ledger import Ledger
from forecastlib.serving.jobs import Jobs
from forecastlib.serving.keys import KeyFile
from forecastlib.serving.limits import RateLimit
from forecastlib.serving.predictions import Forecast, Predictions, Question
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
        self.ledger = Ledger(settings.ledger_url, timeout=settings.database_seconds)
        self.store = JobStore(settings.database, settings.database_seconds)
        self.predictions = Predictions(settings, self.ledger)
        self.jobs = Jobs(settings, self.store, log, on_change=self.predictions.forget)
        # Forecasts have threads of their own, so that a slow source of prices or a long list never keeps them waiting.
        self._forecasts = _Room(settings.queued_requests)
        self._others = _Room(settings.queued_requests)
        self._threads = anyio.CapacityLimiter(4)

    async def forecast(self, symbol: str, version: str, question: Question) -> Forecast:
        """Wait for a forecast without holding up anything."""
        with self._forecasts.one():
            return await asyncio.wrap_future(self.predictions.ask(symbol, version, question))

    async def aside(self, work: Callable[[], T]) -> T:
        """Do anything else that would hold up the event loop, in a thread."""
        with self._others.one():
            return await anyio.to_thread.run_sync(work, limiter=self._threads)

    def warm_up(self) -> None:
        """Spare the first callers what has to be loaded once; a registry out of reach is their answer, not the end."""
        try:
            self.predictions.warm_up()
        except Exception as error:
            self.log.warning("not warmed up", exc_info=error)

    def close(self) -> None:
        """Answer what has been asked, and close the databases."""
        self.predictions.close()
        self.store.close()
        self.ledger.close()


class _Room:
    """Room for so many requests that are being handled; the next is told to come back."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._inside = 0

    @contextmanager
    def one(self) -> Iterator[None]:
        if self._inside >= self._most:
            raise busy(429, "overloaded", f"{self._most} requests are being handled already; try again", seconds=1)
        self._inside += 1
        try:
            yield
        finally:
            self._inside -= 1
