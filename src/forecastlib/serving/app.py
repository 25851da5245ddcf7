"""The application, its web pages, and how it is served."""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import AsyncIterator, Callable
from html import escape
from importlib.resources import files
from typing import Any, TextIO

import anyio
import uvicorn
from fastapi import FastAPI
from fastapi.responses import HTMLResponse, Response
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

import forecastlib
from forecastlib.errors import ConfigError
from forecastlib.serving.middleware import BodyLimit, ConnectionTimeouts, RequestLog, open_log
from forecastlib.serving.problems import HANDLERS
from forecastlib.serving.routes import router
from forecastlib.serving.service import Service, is_loopback
from forecastlib.serving.settings import KeyFile, Settings

_DESCRIPTION = (
    "Forecasts of stock indices several trading sessions ahead, with calibrated prediction intervals; training, "
    "history and scores. Research, not advice."
)
_THREADS = 4
"""Threads for requests other than forecasts."""

_GRACE_SECONDS = 10
"""Time that requests get to be answered when the service is stopped."""

_PARTS = {
    "/": ("page.html", "text/html; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
}
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


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
        # Forecasts have their own threads, so that a slow source of prices or a long list does not delay them.
        anyio.to_thread.current_default_thread_limiter().total_tokens = _THREADS
        await anyio.to_thread.run_sync(service.trainings.start)
        try:
            await anyio.to_thread.run_sync(service.predictor.warm_up)
        except Exception as error:  # the first requests take longer
            service.log.warning("not warmed up", exc_info=error)
        service.log.info("serving", home=str(settings.home), keys=len(service.keys.all()))
        yield
        # With a separate limiter, stopping does not wait for a thread that a slow request occupies.
        await anyio.to_thread.run_sync(service.trainings.stop, limiter=anyio.CapacityLimiter(1))
        service.jobs.close()
        service.ledger.close()
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
    _add_pages(app)
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


def _add_pages(app: FastAPI) -> None:
    """Add the routes of the page, its script and style, and the documentation."""
    folder = files("forecastlib.serving") / "page"

    def add(path: str, name: str, media_type: str) -> None:
        content = (folder / name).read_bytes()

        @app.get(path, include_in_schema=False)
        async def part() -> Response:
            return Response(content, media_type=media_type, headers=_HEADERS)

    for path, (name, media_type) in _PARTS.items():
        add(path, name, media_type)

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(docs_page(app.openapi()), headers=_HEADERS)


def docs_page(openapi: dict[str, Any]) -> str:
    """Return the HTML page of an OpenAPI description."""
    paths = openapi["paths"].items()
    routes = [_route(method.upper(), path, route) for path, methods in paths for method, route in methods.items()]
    schemas = [_schema(name, schema) for name, schema in openapi["components"]["schemas"].items()]
    title = escape(f"{openapi['info']['title']} {openapi['info']['version']}")
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
        '<meta name="viewport" content="width=device-width"><link rel="stylesheet" href="page.css">'
        f"<main><h1>{title}</h1><p>{escape(openapi['info']['description'])} For programs: "
        '<a href="openapi.json">openapi.json</a>.</p>'
        f"<h2>Routes</h2>{''.join(routes)}<h2>Schemas</h2>{''.join(schemas)}</main></html>"
    )


def _route(method: str, path: str, operation: dict[str, Any]) -> str:
    rows = [
        (f"{parameter['name']} ({parameter['in']})", _type(parameter["schema"]), parameter.get("description", ""))
        for parameter in operation.get("parameters", [])
    ]
    body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
    request = f"<p>Body: {_type(body)}.</p>" if body else ""
    responses = [
        (status, _type(response["content"]["application/json"]["schema"]), response["description"])
        for status, response in operation["responses"].items()
    ]
    description = "".join(f"<p>{escape(part)}</p>" for part in operation.get("description", "").split("\n\n"))
    return (
        f"<section><h3><code>{method} {escape(path)}</code></h3>{description}{request}"
        f"{_table('parameter', 'type', rows)}{_table('status', 'answer', responses)}</section>"
    )


def _schema(name: str, schema: dict[str, Any]) -> str:
    required = set(schema.get("required", []))
    rows = [
        (field + ("" if field in required else " (optional)"), _type(part), part.get("description", ""))
        for field, part in schema.get("properties", {}).items()
    ]
    examples = [f"<pre>{escape(json.dumps(example, indent=2))}</pre>" for example in schema.get("examples", [])]
    title, description = escape(name), escape(schema.get("description", ""))
    return (
        f'<section id="{title}"><h3><code>{title}</code></h3><p>{description}</p>'
        f"{''.join(examples)}{_table('field', 'type', rows)}</section>"
    )


def _table(first: str, second: str, rows: list[tuple[str, str, str]]) -> str:
    """Return a table of text, with HTML in the second column; nothing if it has no rows."""
    if not rows:
        return ""
    titles = "".join(f'<th scope="col">{title}</th>' for title in (first, second, "meaning"))
    lines = [f"<tr><td><code>{escape(a)}</code><td>{b}<td>{escape(c)}</tr>" for a, b, c in rows]
    return f'<div class="scroll"><table><thead><tr>{titles}</tr></thead><tbody>{"".join(lines)}</tbody></table></div>'


def _type(schema: dict[str, Any]) -> str:
    """Return the type of a value as HTML, with links to its schemas."""
    if "$ref" in schema:
        name = escape(schema["$ref"].rsplit("/", 1)[1])
        return f'<a href="#{name}">{name}</a>'
    if "anyOf" in schema:
        return " or ".join(_type(part) for part in schema["anyOf"])
    if "enum" in schema:
        return " | ".join(escape(str(value)) for value in schema["enum"])
    if schema.get("type") == "array":
        return f"list of {_type(schema['items'])}"
    words = {"minimum": "from", "maximum": "to", "pattern": "like"}
    limits = [f"{word} {schema[name]}" for name, word in words.items() if name in schema]
    return escape(" ".join([schema.get("format", schema.get("type", "anything")), *limits]))
