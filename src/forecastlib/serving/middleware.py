"""ASGI middleware: the request log, the limits on request bodies, and the timeouts of connections."""

from __future__ import annotations

import asyncio
import re
import sys
import time
import uuid
from dataclasses import dataclass
from typing import Any, TextIO

import structlog
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.typing import FilteringBoundLogger
from uvicorn.protocols.http.h11_impl import H11Protocol

from forecastlib.serving.problems import Problem, problem_of, problem_response

REQUEST_ID = "X-Request-ID"
_VALID_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


def open_log(stream: TextIO | None = None) -> FilteringBoundLogger:
    """Return a logger that writes one JSON object per line to a stream, by default standard error."""
    log: FilteringBoundLogger = structlog.wrap_logger(
        structlog.PrintLogger(stream or sys.stderr),
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.dict_tracebacks,
            structlog.processors.JSONRenderer(ensure_ascii=False),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(20),
    )
    return log


class RequestLog:
    """Middleware that gives each request an id and a line in the log, and answers unexpected errors with 500.

    Parameters
    ----------
    app
        The wrapped application.
    log
        Where lines go; lines written while a request is handled carry its id too.
    """

    def __init__(self, app: ASGIApp, log: FilteringBoundLogger) -> None:
        self._app = app
        self._log = log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = dict(scope["headers"]).get(REQUEST_ID.lower().encode(), b"").decode("latin-1")
        request_id = given if _VALID_ID.fullmatch(given) else uuid.uuid4().hex
        status = 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)[REQUEST_ID] = request_id
            await send(message)

        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=request_id)
        began = time.perf_counter()
        try:
            await self._app(scope, receive, send_with_id)
        except Exception as error:
            self._log.error("unexpected error", exc_info=error)
            if status:
                raise  # the answer has begun, so the connection can only be closed
            await problem_response(problem_of(error))(scope, receive, send_with_id)
        milliseconds = round(1000.0 * (time.perf_counter() - began), 1)
        self._log.info(
            "request",
            method=scope["method"],
            path=scope["path"],
            status=status,
            ms=milliseconds,
            caller=scope.get("state", {}).get("caller"),
        )


class BodyLimit:
    """Middleware that reads the whole body of a request first, and refuses one that is too large or too slow.

    Bodies are small enough to be held in memory, so a handler never waits for a client.

    Parameters
    ----------
    app
        The wrapped application.
    max_bytes
        Maximum size; larger bodies are answered with 413, whether they declare their size or not.
    max_seconds
        Maximum time for a body to arrive; answered with 408 after that.
    """

    def __init__(self, app: ASGIApp, *, max_bytes: int, max_seconds: float) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._max_seconds = max_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        declared = dict(scope["headers"]).get(b"content-length", b"")
        if declared.isdigit() and int(declared) > self._max_bytes:
            await self._too_large()(scope, receive, send)
            return
        body = bytearray()
        try:
            async with asyncio.timeout(self._max_seconds):
                while True:
                    message = await receive()
                    if message["type"] != "http.request":
                        return  # the client has disconnected
                    body += message.get("body", b"")
                    if len(body) > self._max_bytes:
                        await self._too_large()(scope, receive, send)
                        return
                    if not message.get("more_body", False):
                        break
        except TimeoutError:
            text = f"expected the whole body within {self._max_seconds:g} s; send it at once"
            problem = Problem(408, "body_too_slow", text, headers={"Connection": "close"})
            await problem_response(problem)(scope, receive, send)
            return
        unread: list[Message] = [{"type": "http.request", "body": bytes(body), "more_body": False}]

        async def receive_body() -> Message:
            return unread.pop() if unread else await receive()

        await self._app(scope, receive_body, send)

    def _too_large(self) -> ASGIApp:
        message = f"expected a body of at most {self._max_bytes:,} bytes; send less"
        return problem_response(Problem(413, "body_too_large", message, headers={"Connection": "close"}))


@dataclass
class _Connection:
    """An open connection: how many requests are being handled, and have been, now and at the last check."""

    transport: asyncio.Transport
    active: int = 0
    handled: int = 0
    handled_before: int = 0
    unread_before: int = 0
    next_check: asyncio.TimerHandle | None = None


class ConnectionTimeouts:
    """Middleware that closes connections whose clients neither send a complete request nor read their answers.

    uvicorn has a timeout for idle connections between two requests, but none for the head of a request or for answers
    that are not read, so clients that send or read a byte now and then could occupy all connections.

    The middleware knows which requests are being handled. :meth:`protocol` returns a class for uvicorn's setting
    ``http``, which learns of connections by two methods of :class:`asyncio.Protocol`. The two meet by the address of
    the client, so this middleware has to be the outermost one, with uvicorn's setting ``proxy_headers`` off.

    Parameters
    ----------
    app
        The wrapped application.
    seconds
        Time between two checks of a connection. It is closed if no request was completed in between, unless one is
        being handled, or the client has read some of an answer and more is waiting to be read.
    """

    def __init__(self, app: ASGIApp, seconds: float) -> None:
        self._app = app
        self._seconds = seconds
        self._connections: dict[tuple[Any, ...], _Connection] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI connection."""
        connection = self._connections.get(scope["client"]) if scope.get("client") else None
        if connection is None:  # the lifespan, or a client that has disconnected
            await self._app(scope, receive, send)
            return
        connection.active += 1
        try:
            await self._app(scope, receive, send)
        finally:
            connection.active -= 1
            connection.handled += 1

    def protocol(self) -> type[asyncio.Protocol]:
        """Return the class of connections for uvicorn's setting ``http``."""
        timeouts = self

        # uvicorn has no public hook for connections; of its class, only methods of asyncio.Protocol are used here.
        class TimedProtocol(H11Protocol):
            def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as in uvicorn
                super().connection_made(transport)
                self.__address = transport.get_extra_info("peername")
                timeouts.add(self.__address, transport)

            def connection_lost(self, exc: Exception | None) -> None:
                timeouts.remove(self.__address)
                super().connection_lost(exc)

        return TimedProtocol

    def add(self, address: tuple[Any, ...] | None, transport: asyncio.Transport) -> None:
        """Watch a connection from now on; ``address`` is that of the client, None if it has disconnected already."""
        if address:
            self._connections[address[:2]] = connection = _Connection(transport)
            self._schedule(connection)

    def remove(self, address: tuple[Any, ...] | None) -> None:
        """Stop watching a connection."""
        if address:
            connection = self._connections.pop(address[:2])
            if connection.next_check is not None:
                connection.next_check.cancel()

    def _schedule(self, connection: _Connection) -> None:
        connection.next_check = asyncio.get_running_loop().call_later(self._seconds, self._check, connection)

    def _check(self, connection: _Connection) -> None:
        unread = connection.transport.get_write_buffer_size()
        waiting_for_client = unread >= connection.unread_before if unread else connection.active == 0
        if connection.handled == connection.handled_before and waiting_for_client:
            connection.transport.abort()  # close() would wait until the client has read everything
            return
        connection.handled_before, connection.unread_before = connection.handled, unread
        self._schedule(connection)
