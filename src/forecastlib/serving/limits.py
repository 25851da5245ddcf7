"""Limits: how often a caller may ask, and how large and how slow the body of a request may be."""

from __future__ import annotations

import asyncio
import math
import time
from collections import OrderedDict
from collections.abc import Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from forecastlib.serving.problems import Problem, problem_response

ROUNDING = 1e-7
"""Share of a request that may be lacking: whoever waits as long as told must not be refused by a rounding error."""


class RateLimit:
    """A token bucket for each caller: a burst, then a steady rate.

    To be used from the event loop alone, which is why there is no lock.

    Parameters
    ----------
    per_second
        Requests allowed a second, in the long run.
    burst
        Requests allowed at once.
    callers
        Most callers that are remembered; the one who has been silent longest is forgotten.
    clock
        Gives the time in seconds.

    Examples
    --------
    >>> limit = RateLimit(per_second=0.5, burst=1, clock=lambda: 0.0)
    >>> limit.wait_of("ann"), limit.wait_of("ann"), limit.wait_of("bob")
    (0, 2, 0)
    """

    def __init__(
        self, *, per_second: float, burst: int, callers: int = 10_000, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._rate = per_second
        self._burst = float(burst)
        self._callers = callers
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait_of(self, caller: str) -> int:
        """Count a request, and return 0 if it is allowed, else the whole seconds to wait; a refused one is free."""
        now = self._clock()
        tokens, since = self._buckets.pop(caller, (self._burst, now))
        tokens = min(self._burst, tokens + (now - since) * self._rate)
        allowed = tokens >= 1.0 - ROUNDING
        self._buckets[caller] = (tokens - allowed, now)
        if len(self._buckets) > self._callers:
            self._buckets.popitem(last=False)
        return 0 if allowed else max(1, math.ceil((1.0 - tokens) / self._rate))


class BodyLimit:
    """Middleware that reads a request's body before anything else, and refuses one that is too large or too slow.

    Bodies are small enough to be held whole, so a handler never waits for a client.

    Parameters
    ----------
    app
        The application behind it.
    most_bytes
        Largest body; a larger one is answered by 413, whether it says its size or not.
    most_seconds
        Longest time for it to arrive; 408 after that.
    """

    def __init__(self, app: ASGIApp, *, most_bytes: int, most_seconds: float) -> None:
        self._app = app
        self._most_bytes = most_bytes
        self._most_seconds = most_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection, as ASGI has it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        declared = dict(scope["headers"]).get(b"content-length", b"")
        if declared.isdigit() and int(declared) > self._most_bytes:
            await self._too_large()(scope, receive, send)
            return
        body = bytearray()
        try:
            async with asyncio.timeout(self._most_seconds):
                while True:
                    message = await receive()
                    if message["type"] != "http.request":
                        return  # the client has gone
                    body += message.get("body", b"")
                    if len(body) > self._most_bytes:
                        await self._too_large()(scope, receive, send)
                        return
                    if not message.get("more_body", False):
                        break
        except TimeoutError:
            late = f"expected the whole body within {self._most_seconds:g} s; send it at once"
            await problem_response(Problem(408, "body_too_slow", late, headers={"Connection": "close"}))(
                scope, receive, send
            )
            return
        whole: list[Message] = [{"type": "http.request", "body": bytes(body), "more_body": False}]

        async def replay() -> Message:
            return whole.pop() if whole else await receive()

        await self._app(scope, replay, send)

    def _too_large(self) -> ASGIApp:
        message = f"expected a body of at most {self._most_bytes:,} bytes; send less"
        return problem_response(Problem(413, "body_too_large", message, headers={"Connection": "close"}))
