"""Who asks, and what they may do."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

from fastapi import Depends, Request, Security
from fastapi.security import APIKeyHeader

from forecastlib.errors import ConfigError
from forecastlib.serving.keys import ANYBODY
from forecastlib.serving.problems import Problem, busy
from forecastlib.serving.settings import is_loopback

if TYPE_CHECKING:
    from forecastlib.serving.service import Service

HEADER = "X-API-Key"
_KEY = APIKeyHeader(name=HEADER, auto_error=False, description="A key of `forecastlib keys add`, if keys are in use.")


@dataclass(frozen=True)
class Caller:
    """Who asks.

    Attributes
    ----------
    name : str
        Name of the key; ``local`` where there are no keys.
    may_train : bool
    sees_all : bool
        Whether forecasts of others are shown to them: only where there are no keys.
    """

    name: str
    may_train: bool
    sees_all: bool

    @property
    def owner(self) -> str | None:
        """Whose forecasts they see; None: everybody's."""
        return None if self.sees_all else self.name


def service_of(request: Request) -> Service:
    """Return the service that the application was made with."""
    service: Service = request.app.state.service
    return service


async def caller_of(request: Request, token: Annotated[str | None, Security(_KEY)] = None) -> Caller:
    """Identify the caller by the key, count the request, and refuse what may not be.

    Raises
    ------
    Problem
        401 without a valid key, 403 from beyond this machine without keys in use, 429 for too many requests.
    """
    service = service_of(request)
    host = request.client.host if request.client else ""
    try:
        keys = service.keys.all()
        key = service.keys.identify(token) if token else None
    except ConfigError as error:
        service.log.error("keys", error=str(error))
        raise busy(
            503, "keys_unavailable", "the keys of the service cannot be read; its operator must see to it"
        ) from None
    if keys and key is None:
        _count(service, f"stranger {host}")
        expected = f"expected a valid key in the header {HEADER}; got {'another one' if token else 'none'}"
        raise Problem(401, "unauthorized", expected, headers={"WWW-Authenticate": f"APIKey header={HEADER}"})
    if not keys:
        _refuse_strangers(request, host)
    caller = Caller(key.name, key.may_train, False) if key else Caller(ANYBODY, True, True)
    request.state.caller = caller.name
    _count(service, f"caller {caller.name}")
    return caller


async def trainer_of(caller: Annotated[Caller, Depends(caller_of)]) -> Caller:
    """Return the caller if they may start trainings; 403 otherwise."""
    if not caller.may_train:
        raise Problem(403, "forbidden", f"the key of {caller.name} may not start trainings; ask for another one")
    return caller


def _count(service: Service, caller: str) -> None:
    seconds = service.rate.wait_of(caller)
    if seconds:
        raise busy(429, "too_many_requests", f"too many requests; wait {seconds} s", seconds=seconds)


def _refuse_strangers(request: Request, host: str) -> None:
    """Serve this machine alone, and no web page of another site in a browser on it.

    A browser names the site it believes to talk to in ``Host``, and the page that asks in ``Origin``: a foreign name in
    either is a page that has been led here (DNS rebinding, cross-site requests). Names without a dot are local ones.
    """
    foreign = _is_address(host) and not is_loopback(host)
    named = urlsplit(f"//{request.headers.get('host', '')}").hostname or ""
    origin = request.headers.get("origin")
    foreign |= "." in named and not is_loopback(named)
    foreign |= origin is not None and urlsplit(origin).netloc != request.headers.get("host", "")
    if foreign:
        raise Problem(403, "forbidden", "without keys only this machine is served; make one with forecastlib keys add")


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
