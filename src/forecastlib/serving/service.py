"""What the routes depend on: the parts of the service, the caller of a request, and the limits on requests."""

from __future__ import annotations

import ipaddress
import math
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Depends, Request, Security
from fastapi.security import APIKeyHeader
from limits import RateLimitItemPerSecond
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import FixedWindowRateLimiter
from structlog.typing import FilteringBoundLogger

from forecastlib.errors import ConfigError
from forecastlib.ledger import Ledger
from forecastlib.serving.predictions import Predictor
from forecastlib.serving.problems import Problem, busy
from forecastlib.serving.settings import LOCAL, KeyFile, Settings
from forecastlib.serving.trainings import JobTable, TrainingQueue

HEADER = "X-API-Key"
_KEY = APIKeyHeader(name=HEADER, auto_error=False, description="A key of `forecastlib keys add`, if keys are in use.")


class Service:
    """The parts of the service, created once per application.

    Parameters
    ----------
    settings
        Of the operator.
    log
        Receives what the service reports.
    """

    def __init__(self, settings: Settings, log: FilteringBoundLogger) -> None:
        self.settings = settings
        self.log = log
        self.keys = KeyFile(settings.keys_file)
        self.rate = RateLimit(per_second=settings.requests_per_second, burst=settings.request_burst)
        self.ledger = Ledger(settings.ledger_url, timeout=settings.database_seconds)
        self.jobs = JobTable(settings.database, settings.database_seconds)
        self.predictor = Predictor(settings, self.ledger)
        self.trainings = TrainingQueue(settings, self.jobs, log, on_change=self.predictor.version_of.cache_clear)
        self.handled: Counter[str] = Counter()  # requests in progress, by kind


class RateLimit:
    """A limit on the requests of each caller: a number of requests in each window of whole seconds.

    A window opens with a caller's first request. Callers of earlier windows are forgotten, so memory is bounded by the
    callers of one window.

    Parameters
    ----------
    per_second
        Requests allowed per second on average.
    burst
        Requests allowed per window, which is as many seconds long as that takes at the average rate, rounded up.

    Examples
    --------
    >>> import asyncio
    >>> async def waits():
    ...     limit = RateLimit(per_second=0.5, burst=1)
    ...     return [await limit.hit(caller) for caller in ("ann", "ann", "bob")]
    >>> asyncio.run(waits())
    [0, 2, 0]
    """

    def __init__(self, *, per_second: float, burst: int) -> None:
        self._limit = RateLimitItemPerSecond(burst, math.ceil(burst / per_second))
        self.storage = MemoryStorage()
        self._windows = FixedWindowRateLimiter(self.storage)

    async def hit(self, caller: str) -> int:
        """Count a request; return 0 if it is allowed, else after how many whole seconds the next one will be."""
        if await self._windows.hit(self._limit, caller):
            return 0
        end, _ = await self._windows.get_window_stats(self._limit, caller)
        # The microsecond exceeds the rounding error of the difference, which could otherwise end the wait too early.
        return max(1, math.ceil(end - time.time() + 1e-6))


@dataclass(frozen=True)
class Caller:
    """The caller of a request.

    Attributes
    ----------
    name : str
        Name of the key; ``local`` if the service has no keys.
    may_train : bool
    owner : str or None
        Whose forecasts the caller sees; None: those of all callers, if the service has no keys.
    """

    name: str
    may_train: bool
    owner: str | None


def service_for(kind: str) -> Callable[[Request], AsyncIterator[Service]]:
    """Return a dependency that gives a route the service, and refuses too many requests of a kind at once with 429."""

    async def dependency(request: Request) -> AsyncIterator[Service]:
        service: Service = request.app.state.service
        limit = service.settings.queued_requests
        if service.handled[kind] >= limit:
            raise busy(429, "overloaded", f"{limit} requests are being handled already; try again", seconds=1)
        service.handled[kind] += 1
        try:
            yield service
        finally:
            service.handled[kind] -= 1

    return dependency


async def caller_of(request: Request, token: Annotated[str | None, Security(_KEY)] = None) -> Caller:
    """Identify the caller by the key, and count the request.

    Raises
    ------
    Problem
        401 without a valid key, 403 for other machines if the service has no keys, 429 for too many requests.
    """
    service: Service = request.app.state.service
    host = request.client.host if request.client else ""
    try:
        keys = service.keys.all()
        key = service.keys.identify(token) if token else None
    except ConfigError as error:
        service.log.error("keys", error=str(error))
        raise busy(503, "keys_unavailable", "the API keys of the service cannot be read; tell its operator") from None
    if keys and key is None:
        await _check_rate(service, f"unknown {host}")
        expected = f"expected a valid key in the header {HEADER}; got {'an unknown one' if token else 'none'}"
        raise Problem(401, "unauthorized", expected, headers={"WWW-Authenticate": f"APIKey header={HEADER}"})
    if not keys:
        _refuse_remote(request, host)
    caller = Caller(key.name, key.may_train, key.name) if key else Caller(LOCAL, True, None)
    request.state.caller = caller.name
    await _check_rate(service, f"caller {caller.name}")
    return caller


async def trainer_of(caller: Annotated[Caller, Depends(caller_of)]) -> Caller:
    """Return the caller if they may start trainings; 403 otherwise."""
    if not caller.may_train:
        raise Problem(403, "forbidden", f"the key of {caller.name} may not start trainings; ask for another key")
    return caller


def is_loopback(host: str) -> bool:
    """Return whether an address can be reached from this machine only.

    Examples
    --------
    >>> is_loopback("127.0.0.1"), is_loopback("localhost"), is_loopback("::1"), is_loopback("0.0.0.0")
    (True, True, True, False)
    """
    address = _address(host.strip("[]"))
    return host.lower() == "localhost" or (address is not None and address.is_loopback)


async def _check_rate(service: Service, caller: str) -> None:
    seconds = await service.rate.hit(caller)
    if seconds:
        raise busy(429, "too_many_requests", f"too many requests; wait {seconds} s", seconds=seconds)


def _refuse_remote(request: Request, host: str) -> None:
    """Refuse other machines, and web pages of other sites that are open in a browser on this machine.

    A browser names the site it believes to talk to in ``Host``, and the site of the page that sends the request in
    ``Origin``. A foreign name in either means DNS rebinding or a cross-site request. Names without a dot are local.
    """
    named = urlsplit(f"//{request.headers.get('host', '')}").hostname or ""
    origin = request.headers.get("origin")
    remote = _address(host) is not None and not is_loopback(host)
    rebound = "." in named and not is_loopback(named)
    cross_site = origin is not None and urlsplit(origin).netloc != request.headers.get("host", "")
    if remote or rebound or cross_site:
        message = "without API keys only this machine is served; create one with: forecastlib keys add NAME"
        raise Problem(403, "forbidden", message)


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
