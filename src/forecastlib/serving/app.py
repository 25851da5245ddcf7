"""The application, and how it is served."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any, TextIO

import anyio
import uvicorn
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

import forecastlib
from forecastlib.errors import ConfigError
from forecastlib.serving.keys import KeyFile
from forecastlib.serving.middleware import BodyLimit, ConnectionTimeouts, RequestLog, open_log
from forecastlib.serving.pages import add_pages
from forecastlib.serving.problems import HANDLERS
from forecastlib.serving.routes import router
from forecastlib.serving.service import Service, is_loopback
from forecastlib.serving.settings import Settings

_DESCRIPTION = (
    "Forecasts of stock indices several trading sessions ahead, with calibrated prediction intervals; training, "
    "history and scores. Research, not advice."
)
_GRACE_SECONDS = 10
"""Time that requests get to be answered when the service is stopped."""


def create_app(settings: Settings | None = None, *, log_to: TextIO | None = None) -> FastAPI:
    """Return the service as an ASGI application.

    Parameters
    ----------
    settings
        By default those of a service for this machine only.
    log_to
        Where the log goes, one JSON object per line; None: standard error.

    Returns
    -------
    FastAPI
        Its lifespan starts and stops the queue of trainings, so the server has to run the lifespan, as uvicorn does.

    Raises
    ------
    ConfigError
        If a setting is invalid, or the file of API keys is damaged.
    LedgerError
        If the ledger cannot be opened.
    """
    settings = settings or Settings()
    service = Service(settings, open_log(log_to))
    service.keys.all()  # raises if the file is damaged

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await anyio.to_thread.run_sync(service.trainings.start)
        await anyio.to_thread.run_sync(service.warm_up)
        service.log.info("serving", home=str(settings.home), keys=len(service.keys.all()))
        yield
        await anyio.to_thread.run_sync(service.trainings.stop)
        service.close()
        service.log.info("stopped")

    app = FastAPI(
        title="forecastlib",
        version=forecastlib.__version__,
        description=_DESCRIPTION,
        docs_url=None,  # FastAPI's own pages load scripts from another site
        redoc_url=None,
        lifespan=lifespan,
        exception_handlers=HANDLERS,
    )
    app.state.service = service
    app.include_router(router)
    add_pages(app)
    _complete_openapi(app)
    app.add_middleware(BodyLimit, max_bytes=settings.body_bytes, max_seconds=settings.body_seconds)
    app.add_middleware(RequestLog, log=service.log)  # added last, so it is the outermost and sees every answer
    return app


def serve(settings: Settings, announce: Callable[[str], None] = print) -> None:
    """Serve until SIGTERM or SIGINT, then answer pending requests and let running trainings finish or end them.

    Parameters
    ----------
    settings
        Of the service.
    announce
        Called with a line that contains the address once connections are accepted.

    Raises
    ------
    ConfigError
        If other machines could connect and there are no keys, or the given file of keys does not exist.
    """
    if settings.keys is not None and not settings.keys.is_file():
        raise ConfigError(f"expected a file of keys at {settings.keys}; create it with: forecastlib keys add NAME")
    if not is_loopback(settings.host) and not KeyFile(settings.keys_file).all():
        raise ConfigError(
            f"expected keys before listening on {settings.host}, which other machines can reach; create one with: "
            "forecastlib keys add NAME"
        )
    # With its setting proxy_headers, uvicorn would hide the address of the connection from the timeouts.
    app = create_app(settings)
    app.add_middleware(ProxyHeadersMiddleware, trusted_hosts=os.environ.get("FORWARDED_ALLOW_IPS", "127.0.0.1"))
    timeouts = ConnectionTimeouts(app, settings.client_seconds)
    config = uvicorn.Config(
        timeouts,
        http=timeouts.protocol(),
        proxy_headers=False,
        host=settings.host,
        port=settings.port,
        access_log=False,  # the service writes its own log
        log_level="warning",
        server_header=False,
        timeout_graceful_shutdown=_GRACE_SECONDS,
    )
    listening = config.bind_socket()
    # asyncio sets this for sockets that it opens itself. Without it, each answer waits 40 ms for the client's ACK.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    listening.listen(config.backlog)  # connections are queued from now on, not refused
    host, port = listening.getsockname()[:2]
    announce(f"forecastlib serves at http://{f'[{host}]' if ':' in host else host}:{port}")
    uvicorn.Server(config).run(sockets=[listening])


def _complete_openapi(app: FastAPI) -> None:
    """Add the header of the request id to every response in the OpenAPI description, and that of a new job's place."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
            request_id = {"description": "Id of the request, as in the log.", "schema": {"type": "string"}}
            for path in schema["paths"].values():
                for operation in path.values():
                    for response in operation["responses"].values():
                        response.setdefault("headers", {})["X-Request-ID"] = request_id
            location = {"description": "Path of the job.", "schema": {"type": "string"}}
            schema["paths"]["/train"]["post"]["responses"]["201"]["headers"]["Location"] = location
            app.openapi_schema = schema
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign] # FastAPI's documented way
