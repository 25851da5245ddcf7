"""The application: parts, limits, routes and the page, put together by one function."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import AsyncIterator
from importlib.resources import files
from typing import Any, TextIO

import anyio
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.responses import HTMLResponse, Response

import forecastlib
from forecastlib.serving.docs import docs_page
from forecastlib.serving.limits import BodyLimit
from forecastlib.serving.logs import RequestLog, open_log
from forecastlib.serving.problems import HANDLERS
from forecastlib.serving.routes import router
from forecastlib.serving.service import Service
from forecastlib.serving.settings import Settings

_DESCRIPTION = (
    "Forecasts of stock indices some trading sessions ahead, with calibrated ranges; training, history and scores. "
    "Research, not advice."
)
_PAGE = {
    "/": ("page.html", "text/html; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
}
_FROM_HERE_ALONE = {
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
        What the operator decides; by default that of a service for this machine alone.
    log_to
        Where its log goes, a JSON object a line; None: standard error.

    Returns
    -------
    FastAPI
        Trainings are taken over and started while its lifespan runs, so a server has to run it (uvicorn does).

    Raises
    ------
    ConfigError
        If a setting is wrong, or the file of keys is damaged.
    LedgerError
        If the ledger cannot be opened.
    """
    settings = settings or Settings()
    service = Service(settings, open_log(log_to))
    service.keys.all()  # a damaged file is told before anything is served

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await anyio.to_thread.run_sync(service.jobs.start)
        await anyio.to_thread.run_sync(service.warm_up)
        # What the libraries have allocated stays for good: looked through again in each full collection, it would hold
        # up the event loop for as long as whoever waits for an answer can feel.
        gc.collect()
        gc.freeze()
        service.log.info("serving", home=str(settings.home), keys=len(service.keys.all()))
        yield
        await anyio.to_thread.run_sync(service.jobs.stop)
        service.close()
        service.log.info("stopped")

    app = FastAPI(
        title="forecastlib",
        version=forecastlib.__version__,
        description=_DESCRIPTION,
        docs_url=None,  # the usual page loads its script from a network
        redoc_url=None,
        lifespan=lifespan,
        exception_handlers=HANDLERS,
    )
    app.state.service = service
    app.include_router(router)
    _add_page(app)
    _describe(app)
    app.add_middleware(BodyLimit, most_bytes=settings.body_bytes, most_seconds=settings.body_seconds)
    app.add_middleware(RequestLog, log=service.log)  # added last, so outermost: it sees every answer
    return app


def _add_page(app: FastAPI) -> None:
    """Serve the page and its parts, and the documentation."""
    folder = files("forecastlib.serving") / "page"

    def serve(path: str, name: str, media_type: str) -> None:
        content = (folder / name).read_bytes()

        @app.get(path, include_in_schema=False)
        async def part() -> Response:
            return Response(content, media_type=media_type, headers=_FROM_HERE_ALONE)

    for path, (name, media_type) in _PAGE.items():
        serve(path, name, media_type)

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(docs_page(app.openapi()), headers=_FROM_HERE_ALONE)


def _describe(app: FastAPI) -> None:
    """Complete the OpenAPI description: every answer carries its request's id, a training the place of its job."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
            header = {"description": "The request's id, as in the log.", "schema": {"type": "string"}}
            for path in schema["paths"].values():
                for operation in path.values():
                    for answer in operation["responses"].values():
                        answer.setdefault("headers", {})["X-Request-ID"] = header
            place = {"description": "Where the job is.", "schema": {"type": "string"}}
            schema["paths"]["/train"]["post"]["responses"]["201"]["headers"]["Location"] = place
            app.openapi_schema = schema
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign] # FastAPI's documented way
