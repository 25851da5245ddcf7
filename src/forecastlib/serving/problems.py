"""Errors as callers see them: one schema for all answers that report an error, without internals."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Mapping
from typing import Any

import structlog
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError
from starlette.exceptions import HTTPException
from starlette.requests import Request

from forecastlib.errors import (
    ConfigError,
    DataQualityError,
    ForecastError,
    IncompatibleModelError,
    LedgerError,
    ModelNotFoundError,
    NotEnoughDataError,
    SourceError,
)

RETRY_SECONDS = 5
"""Value of Retry-After when it is not known how long something will be busy."""


class Problem(Exception):
    """An answer that reports an error.

    Parameters
    ----------
    status
        HTTP status code.
    error
        Name of the error, for programs.
    message
        For people: what was expected, what was received, what to do.
    details
        ``where`` and ``message`` for each invalid part of the request.
    headers
        Additional headers.
    """

    def __init__(
        self,
        status: int,
        error: str,
        message: str,
        *,
        details: list[dict[str, str]] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.error = error
        self.message = message
        self.details = details or []
        self.headers = dict(headers or {})


def busy(status: int, error: str, message: str, seconds: int = RETRY_SECONDS) -> Problem:
    """Return a temporary problem, with the seconds to wait until the next attempt."""
    return Problem(status, error, message, headers={"Retry-After": str(seconds)})


def problem_response(problem: Problem) -> JSONResponse:
    """Return the answer that reports a problem, with the id of the current request."""
    content = {
        "error": problem.error,
        "message": problem.message,
        "details": problem.details,
        "request_id": structlog.contextvars.get_contextvars().get("request_id", ""),
    }
    return JSONResponse(content, problem.status, headers=problem.headers)


_FOLDERS = re.compile(r"(?<![\w./])(?:/[^\s/:;,'\"]+)+/(?=[^\s/:;,'\"])")

_ERRORS: list[tuple[type[ForecastError], int, str]] = [
    (ModelNotFoundError, 404, "model_not_found"),
    (IncompatibleModelError, 409, "model_unusable"),
    (NotEnoughDataError, 400, "not_enough_data"),
    (DataQualityError, 400, "prices_unusable"),
    (SourceError, 400, "prices_not_found"),
    (ConfigError, 400, "bad_request"),
]
_HTTP_ERRORS = {404: "not_found", 405: "method_not_allowed"}
_BUSY = (LedgerError, SQLAlchemyError, sqlite3.Error, MlflowException, TimeoutError)


def problem_of(error: Exception) -> Problem:
    """Return the problem that reports an error; one that is not expected is a 500 without its message."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, RequestValidationError):
        details = [{"where": ".".join(map(str, part["loc"])), "message": str(part["msg"])} for part in error.errors()]
        message = "the request does not match its schema, see /docs; details say where"
        return Problem(422, "invalid", message, details=details)
    if isinstance(error, HTTPException):  # an unknown path, a wrong method, or a body that is not text
        name = _HTTP_ERRORS.get(error.status_code, "bad_request")
        return Problem(error.status_code, name, str(error.detail), headers=error.headers)
    for kind, status, name in _ERRORS:
        if isinstance(error, kind):
            return Problem(status, name, without_paths(str(error)))
    if isinstance(error, _BUSY):
        # The messages of these errors name files, tables and servers.
        return busy(503, "store_unavailable", "a database of the service is busy or cannot be reached; try again")
    return Problem(500, "internal", "the service failed unexpectedly; its log has more under this request_id")


def without_paths(text: str) -> str:
    """Return the first line of a message, with file names in place of paths.

    Examples
    --------
    >>> without_paths("expected format 2; /srv/app/mlruns/bundle has 1; train it again")
    'expected format 2; bundle has 1; train it again'
    """
    return _FOLDERS.sub("", text.partition("\n")[0])


async def answer_error(request: Request, error: Exception) -> JSONResponse:
    """Answer an expected error, and log its message if the answer omits it."""
    problem = problem_of(error)
    if problem.status >= 500 and problem is not error:
        request.app.state.service.log.warning("unavailable", error=type(error).__name__, text=str(error))
    return problem_response(problem)


HANDLERS: dict[Any, Any] = dict.fromkeys(
    (Problem, RequestValidationError, HTTPException, ForecastError, *_BUSY), answer_error
)
"""Handlers by exception class; all other exceptions reach the middleware around the application."""
