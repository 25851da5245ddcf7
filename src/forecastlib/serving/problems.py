"""What goes wrong, as callers see it: one shape of answer for every error, without internals."""

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
"""What Retry-After says when something is busy for an unknown time."""


class Problem(Exception):
    """An answer that is an error.

    Parameters
    ----------
    status
        Status code of HTTP.
    error
        Its name for programs.
    message
        For people: what was expected, what came, what to do.
    details
        For each wrong part of a request, where it is and what is wrong with it.
    headers
        Further headers.
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
    """Return a problem that passes, with the seconds to wait."""
    return Problem(status, error, message, headers={"Retry-After": str(seconds)})


def problem_response(problem: Problem) -> JSONResponse:
    """Turn a problem into an answer, with the id of the request that is being handled."""
    content = {
        "error": problem.error,
        "message": problem.message,
        "details": problem.details,
        "request_id": structlog.contextvars.get_contextvars().get("request_id", ""),
    }
    return JSONResponse(content, problem.status, headers=problem.headers)


_FOLDERS = re.compile(r"(?<![\w./])(?:/[^\s/:;,'\"]+)+/(?=[^\s/:;,'\"])")

_OF_ERRORS: list[tuple[type[ForecastError], int, str]] = [
    (ModelNotFoundError, 404, "model_not_found"),
    (IncompatibleModelError, 409, "model_unusable"),
    (NotEnoughDataError, 400, "not_enough_data"),
    (DataQualityError, 400, "prices_unusable"),
    (SourceError, 400, "prices_not_found"),
    (ConfigError, 400, "bad_request"),
]
_BUSY = (LedgerError, SQLAlchemyError, sqlite3.Error, MlflowException, TimeoutError)


def problem_of(error: Exception) -> Problem:
    """Word an error of the library as a problem; one that nobody expected as 500, without its text."""
    for kind, status, name in _OF_ERRORS:
        if isinstance(error, kind):
            return Problem(status, name, without_paths(str(error)))
    if isinstance(error, _BUSY):
        # Their texts name files, tables and servers.
        return busy(503, "store_unavailable", "a database of the service is busy or out of reach; try again")
    return Problem(500, "internal", "something went wrong in the service; its log has more under this request_id")


def without_paths(text: str) -> str:
    """Return the first line of a message, without the folders that it names.

    Examples
    --------
    >>> without_paths("expected format 2; /srv/app/mlruns/bundle has 1; train it again")
    'expected format 2; bundle has 1; train it again'
    """
    return _FOLDERS.sub("", text.partition("\n")[0])


async def answer_problem(request: Request, error: Exception) -> JSONResponse:
    """Answer a :class:`Problem`."""
    assert isinstance(error, Problem)
    return problem_response(error)


async def answer_error(request: Request, error: Exception) -> JSONResponse:
    """Answer an error that a library raised on purpose, and log what its answer leaves out."""
    problem = problem_of(error)
    if problem.status >= 500:
        request.app.state.service.log.warning("unavailable", error=type(error).__name__, text=str(error))
    return problem_response(problem)


async def answer_invalid(request: Request, error: Exception) -> JSONResponse:
    """Answer a request that does not fit the schema."""
    assert isinstance(error, RequestValidationError)
    details = [{"where": ".".join(map(str, one["loc"])), "message": str(one["msg"])} for one in error.errors()]
    message = "the request does not fit its description, see /docs; details say where"
    return problem_response(Problem(422, "invalid", message, details=details))


async def answer_http(request: Request, error: Exception) -> JSONResponse:
    """Answer what the framework refuses by itself: an unknown path, a wrong method."""
    assert isinstance(error, HTTPException)
    names = {404: "not_found", 405: "method_not_allowed"}
    problem = Problem(
        error.status_code, names.get(error.status_code, "bad_request"), str(error.detail), headers=error.headers
    )
    return problem_response(problem)


HANDLERS: dict[Any, Any] = {
    Problem: answer_problem,
    RequestValidationError: answer_invalid,
    HTTPException: answer_http,
    ForecastError: answer_error,
    **dict.fromkeys(_BUSY[1:], answer_error),
}
"""The handler of each kind of exception; any other one is caught by the middleware around the application."""
