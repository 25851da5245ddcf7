"""Logs of the service, a JSON object a line, and the middleware that gives every request an id and a line."""

from __future__ import annotations

import re
import sys
import time
import uuid
from typing import TextIO

import structlog
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.typing import FilteringBoundLogger

from forecastlib.serving.problems import problem_of, problem_response

REQUEST_ID = "X-Request-ID"
_GIVEN_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


def open_log(stream: TextIO | None = None) -> FilteringBoundLogger:
    """Return a logger that writes to a stream, standard error by default, and changes nothing global."""
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
    """Middleware: every answer carries its ``X-Request-ID``, every request leaves a line, no error gets out.

    Parameters
    ----------
    app
        The application behind it.
    log
        Where lines go; those written while a request is handled carry its id too.
    """

    def __init__(self, app: ASGIApp, log: FilteringBoundLogger) -> None:
        self._app = app
        self._log = log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection, as ASGI has it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = dict(scope["headers"]).get(REQUEST_ID.lower().encode(), b"").decode("latin-1")
        request_id = given if _GIVEN_ID.fullmatch(given) else uuid.uuid4().hex
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
                raise  # the answer has begun: all that is left is to close the connection
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
