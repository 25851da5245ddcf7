"""The routes of the API."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Response

import forecastlib
from forecastlib.serving.predictions import records, registered_models
from forecastlib.serving.problems import Problem
from forecastlib.serving.schemas import (
    SYMBOL_PATTERN,
    TAG_PATTERN,
    Day,
    ErrorAnswer,
    HealthAnswer,
    JobAnswer,
    JobsAnswer,
    ModelsAnswer,
    PredictAnswer,
    PredictionsAnswer,
    PredictRequest,
    ScorecardAnswer,
    TrainRequest,
)
from forecastlib.serving.service import Caller, Service, caller_of, service_for, trainer_of
from forecastlib.serving.trainings import Job, Status

_DESCRIPTIONS = {
    400: "No source has prices of the symbol, or too few of them.",
    401: "Missing or invalid API key.",
    403: "The key does not allow this, or the service has no keys and serves its own machine only.",
    404: "No such model, version or job.",
    408: "The request body arrived too slowly.",
    409: "Conflict with another training, another symbol's models, or the version of the model.",
    413: "The request body is too large.",
    422: "The request does not match its schema.",
    429: "Too many requests, or a full queue.",
    500: "Unexpected error.",
    503: "A database or a source of prices cannot be reached.",
}
_ALWAYS = (408, 413, 422, 429, 500, 503)
_REQUEST_ID = {"X-Request-ID": {"description": "Id of the request, as in the log.", "schema": {"type": "string"}}}
_RETRY = {"Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer"}}}
_LOCATION = {"Location": {"description": "Path of the job.", "schema": {"type": "string"}}}


def _responses(*errors: int, created: bool = False) -> dict[int | str, dict[str, Any]]:
    """Return the descriptions of the errors of a route, and of the headers of all its answers."""
    responses: dict[int | str, dict[str, Any]] = {200: {"headers": _REQUEST_ID}}
    if created:
        responses = {201: {"headers": _REQUEST_ID | _LOCATION}}
    for status in sorted({*errors, *_ALWAYS}):
        headers = _REQUEST_ID | _RETRY if status in (429, 503) else _REQUEST_ID
        responses[status] = {"model": ErrorAnswer, "description": _DESCRIPTIONS[status], "headers": headers}
    return responses


CallerOf = Annotated[Caller, Depends(caller_of)]
Trainer = Annotated[Caller, Depends(trainer_of)]
# A route has ended its work before the answer is sent, so clients that read slowly do not count.
ServiceOf = Annotated[Service, Depends(service_for("others"), scope="function")]
ForecastService = Annotated[Service, Depends(service_for("forecasts"), scope="function")]
SymbolFilter = Annotated[str | None, Query(pattern=SYMBOL_PATTERN, description="Only this symbol.")]


async def _filters(
    caller: CallerOf,
    symbol: SymbolFilter = None,
    version: Annotated[str | None, Query(pattern=TAG_PATTERN, description="Only this model version.")] = None,
    since: Annotated[Day | None, Query(description="Only origins on or after this date.")] = None,
    until: Annotated[Day | None, Query(description="Only origins on or before this date.")] = None,
) -> dict[str, Any]:
    """Return the filters of the ledger for the forecasts that the caller may see and asks for."""
    return {"symbol": symbol, "version": version, "requested_by": caller.owner, "since": since, "until": until}


Filters = Annotated[dict[str, Any], Depends(_filters)]
Limit = Annotated[int, Query(ge=1, le=500, description="Maximum number of entries.")]
Offset = Annotated[int, Query(ge=0, le=10_000_000, description="Number of entries to skip.")]

router = APIRouter()


@router.post("/train", status_code=201, tags=["training"], responses=_responses(400, 401, 403, 409, created=True))
def train(body: TrainRequest, caller: Trainer, service: ServiceOf, response: Response) -> JobAnswer:
    """Train a model in a separate process, with prices from the configured source.

    The job is `started`, or `queued` if the maximum number of trainings is running, or `skipped` if the champion was
    trained with the same configuration and the same prices and `force_retrain` is not set.
    """
    job = service.predictor.plan_training(body, caller.name)
    champion = None if body.force_retrain else service.predictor.reusable_champion(job)
    if champion is None:
        job = service.trainings.submit(job)
    else:
        result = {
            "status": "skipped",
            "version": champion.tags["version"],
            "run_id": champion.run_id,
            "promoted": False,
            "reason": "the champion was trained with the same configuration and the same prices",
        }
        job = service.trainings.skip(job, result)
    response.headers["Location"] = f"/jobs/{job.id}"
    return _job_answer(job, [])


@router.get("/jobs", tags=["training"], responses=_responses(401, 403))
def list_jobs(
    caller: CallerOf,
    service: ServiceOf,
    status: Annotated[Status | None, Query(description="Only jobs with this status.")] = None,
    symbol: SymbolFilter = None,
    limit: Limit = 50,
    offset: Offset = 0,
) -> JobsAnswer:
    """List trainings, newest first, each with its latest epoch."""
    jobs = service.jobs.find(status=status, symbol=symbol, limit=limit, offset=offset)
    answers = [_job_answer(job, service.trainings.events(job.id), latest=True) for job in jobs]
    return JobsAnswer(total=service.jobs.count(status=status, symbol=symbol), jobs=answers)


@router.get("/jobs/{job_id}", tags=["training"], responses=_responses(401, 403, 404))
def get_job(
    job_id: Annotated[str, Path(pattern="^[0-9a-f]{32}$", description="Id of the job.")],
    caller: CallerOf,
    service: ServiceOf,
) -> JobAnswer:
    """Return a training with its epochs so far, and its result."""
    job = service.jobs.get(job_id)
    if job is None:
        raise Problem(404, "job_not_found", f"there is no job {job_id}; GET /jobs lists them")
    return _job_answer(job, service.trainings.events(job_id))


@router.post("/predict", tags=["forecasts"], responses=_responses(400, 401, 403, 404, 409))
async def predict(body: PredictRequest, caller: CallerOf, service: ForecastService) -> PredictAnswer:
    """Forecast with a registered model, with prices from the source that it was trained with.

    The forecast is recorded under the caller's name. By default, prices are fetched again after a minute, and a new
    champion is used within five seconds.
    """
    return await service.predictor.predict(body, caller.name)


@router.get("/predictions", tags=["forecasts"], responses=_responses(400, 401, 403))
def list_predictions(
    filters: Filters,
    service: ServiceOf,
    settled: Annotated[bool | None, Query(description="Only forecasts with, or only without, a known outcome.")] = None,
    limit: Limit = 50,
    offset: Offset = 0,
) -> PredictionsAnswer:
    """List the forecasts that the caller has requested, newest first."""
    rows = records(service.ledger.history(**filters, settled=settled, limit=limit, offset=offset))
    total = service.ledger.count(**filters, settled=settled)
    return PredictionsAnswer.model_validate({"total": total, "predictions": rows})


@router.get("/scorecard", tags=["forecasts"], responses=_responses(400, 401, 403))
def scorecard(
    filters: Filters,
    service: ServiceOf,
    hindsight: Annotated[bool, Query(description="Score hindsight forecasts instead.")] = False,
) -> ScorecardAnswer:
    """Compare the forecasts that the caller has requested, where the outcome is known, with the random walk.

    Hindsight forecasts, requested when later prices were already known, as with a `date` in the past, are scored
    separately.
    """
    pending = service.ledger.history(**filters, settled=False)
    problems = service.predictor.settle(sorted(pending["symbol"].unique()))
    scores = records(service.ledger.scorecard(**filters, hindsight=hindsight).reset_index())
    left_out = service.ledger.count(**filters, hindsight=not hindsight)
    return ScorecardAnswer.model_validate({"scores": scores, "left_out": left_out, "problems": problems})


@router.get("/models", tags=["models"], responses=_responses(401, 403))
def list_models(caller: CallerOf, service: ServiceOf) -> ModelsAnswer:
    """List the registered models with their newest versions, aliases and scores on the test set."""
    return ModelsAnswer.model_validate({"models": registered_models()})


@router.get("/health", tags=["service"], responses=_responses())
def health(service: ServiceOf) -> HealthAnswer:
    """Return whether the databases of the service answer. Needs no key."""
    service.ledger.history(limit=1)
    return HealthAnswer(
        status="ok",
        version=forecastlib.__version__,
        trainings_started=service.jobs.count(status="started"),
        trainings_queued=service.jobs.count(status="queued"),
        models_in_memory=len(service.predictor.load_model.cache or ()),
    )


def _job_answer(job: Job, events: list[dict[str, Any]], *, latest: bool = False) -> JobAnswer:
    epochs = [event for event in events if event["event"] == "epoch"]
    progress = epochs[-1:] if latest else epochs
    return JobAnswer.model_validate(job.request | vars(job) | {"progress": progress})
