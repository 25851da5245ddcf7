"""The routes of the service."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Response

import forecastlib
from forecastlib.serving import schemas
from forecastlib.serving.access import Caller, caller_of, service_of, trainer_of
from forecastlib.serving.catalogue import registered_models
from forecastlib.serving.predictions import Question, records
from forecastlib.serving.problems import Problem
from forecastlib.serving.schemas import (
    SYMBOL_PATTERN,
    TAG_PATTERN,
    Day,
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
from forecastlib.serving.service import Service
from forecastlib.serving.store import Job, Status

_WHY = {
    400: "What was asked for cannot be had: no prices of the symbol, or too few of them.",
    401: "No valid key.",
    403: "The key may not do this, or only this machine is served.",
    404: "There is no such thing.",
    408: "The body arrived too slowly.",
    409: "It contradicts what is there.",
    413: "The body is too large.",
    422: "The request does not fit its description.",
    429: "Too many requests, or a full queue.",
    500: "Something went wrong in the service.",
    503: "A database or a source of prices is out of reach.",
}
_ALWAYS = (408, 413, 422, 429, 500, 503)
_REQUEST_ID = {"X-Request-ID": {"description": "The request's id.", "schema": {"type": "string"}}}
_RETRY = {"Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer"}}}


def _answers(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Describe the errors of a route."""
    return {
        status: {
            "model": schemas.ErrorAnswer,
            "description": _WHY[status],
            "headers": _REQUEST_ID | (_RETRY if status in (429, 503) else {}),
        }
        for status in sorted({*statuses, *_ALWAYS})
    }


Asking = Annotated[Caller, Depends(caller_of)]
Training = Annotated[Caller, Depends(trainer_of)]
Serving = Annotated[Service, Depends(service_of)]
SymbolFilter = Annotated[str | None, Query(pattern=SYMBOL_PATTERN, description="Of this symbol alone.")]
VersionFilter = Annotated[str | None, Query(pattern=TAG_PATTERN, description="Of this model version alone.")]
Since = Annotated[Day | None, Query(description="Origins from this date on.")]
Until = Annotated[Day | None, Query(description="Origins up to this date.")]
Limit = Annotated[int, Query(ge=1, le=500, description="Most entries of this page.")]
Offset = Annotated[int, Query(ge=0, le=10_000_000, description="Entries before this page.")]

router = APIRouter()


@router.post("/train", status_code=201, tags=["training"], responses=_answers(400, 401, 403, 409))
async def train(asked: TrainRequest, caller: Training, service: Serving, response: Response) -> JobAnswer:
    """Train a model, in a process of its own, from the configured source of prices.

    The job is `started`, or `queued` if as many trainings as may run at once are running, or `skipped` if the champion
    comes from the same configuration and the same prices and `force_retrain` is not set.
    """

    def submit() -> Job:
        training = service.predictions.plan(
            asked.symbol, asked.training_days, asked.epochs, force_retrain=asked.force_retrain
        )
        champion = None if asked.force_retrain else service.predictions.adequate_champion(training)
        if champion is None:
            return service.jobs.submit(training, caller.name)
        result = {
            "status": "skipped",
            "version": champion.tags["version"],
            "run_id": champion.run_id,
            "promoted": False,
            "reason": "the champion comes from the same configuration and the same prices",
        }
        return service.jobs.skip(training, caller.name, result)

    job = await service.aside(submit)
    response.headers["Location"] = f"/jobs/{job.id}"
    return _job_answer(job, [])


@router.get("/jobs", tags=["training"], responses=_answers(401, 403))
async def list_jobs(
    caller: Asking,
    service: Serving,
    status: Annotated[Status | None, Query(description="In this state alone.")] = None,
    symbol: SymbolFilter = None,
    limit: Limit = 50,
    offset: Offset = 0,
) -> JobsAnswer:
    """List trainings, the newest first, each with its newest epoch."""

    def look() -> JobsAnswer:
        jobs = service.store.find(status=status, symbol=symbol, limit=limit, offset=offset)
        answers = [_job_answer(job, service.jobs.events(job.id), newest=True) for job in jobs]
        return JobsAnswer(total=service.store.count(status=status, symbol=symbol), jobs=answers)

    return await service.aside(look)


@router.get("/jobs/{job_id}", tags=["training"], responses=_answers(401, 403, 404))
async def get_job(
    job_id: Annotated[str, Path(pattern="^[0-9a-f]{32}$", description="Id of the job.")],
    caller: Asking,
    service: Serving,
) -> JobAnswer:
    """Show a training with all its epochs so far, and what came of it."""

    def look() -> JobAnswer:
        job = service.store.get(job_id)
        if job is None:
            raise Problem(404, "job_not_found", f"there is no job {job_id}; GET /jobs lists them")
        return _job_answer(job, service.jobs.events(job_id))

    return await service.aside(look)


@router.post("/predict", tags=["forecasts"], responses=_answers(400, 401, 403, 404, 409))
async def predict(asked: PredictRequest, caller: Asking, service: Serving) -> PredictAnswer:
    """Forecast with a registered model, from the source of prices that it was trained from.

    The forecast is recorded under the caller's name. Prices are at most a minute old, by default, and a new champion
    is used within five seconds.
    """
    question = Question(asked.date.isoformat() if asked.date else None, asked.closes, caller.name)
    found = await service.forecast(asked.symbol, asked.version, question)
    parts = {"model_number": found.number, "source": found.source, "forecasts": found.rows, "closes": found.closes}
    return PredictAnswer.model_validate(found.rows[0] | parts)


@router.get("/predictions", tags=["forecasts"], responses=_answers(400, 401, 403))
async def list_predictions(
    caller: Asking,
    service: Serving,
    symbol: SymbolFilter = None,
    version: VersionFilter = None,
    since: Since = None,
    until: Until = None,
    settled: Annotated[bool | None, Query(description="Whether the outcome is known.")] = None,
    limit: Limit = 50,
    offset: Offset = 0,
) -> PredictionsAnswer:
    """List the forecasts that the caller has asked for, the newest first."""

    def look() -> PredictionsAnswer:
        of: dict[str, Any] = {
            "symbol": symbol,
            "version": version,
            "requested_by": caller.owner,
            "since": since,
            "until": until,
            "settled": settled,
        }
        rows = records(service.ledger.history(**of, limit=limit, offset=offset))
        return PredictionsAnswer.model_validate({"total": service.ledger.count(**of), "predictions": rows})

    return await service.aside(look)


@router.get("/scorecard", tags=["forecasts"], responses=_answers(400, 401, 403))
async def scorecard(
    caller: Asking,
    service: Serving,
    symbol: SymbolFilter = None,
    version: VersionFilter = None,
    since: Since = None,
    until: Until = None,
    hindsight: Annotated[bool, Query(description="Score those of days gone by, as with a date, instead.")] = False,
) -> ScorecardAnswer:
    """Score the forecasts that the caller has asked for, once it is known what happened, beside the random walk.

    Those that were asked for when later prices were known already, as with a `date` in the past, are left out.
    """

    def score() -> ScorecardAnswer:
        of: dict[str, Any] = {
            "symbol": symbol,
            "version": version,
            "requested_by": caller.owner,
            "since": since,
            "until": until,
        }
        pending = service.ledger.history(**of, settled=False)
        problems = service.predictions.settle(sorted(pending["symbol"].unique()))
        scores = records(service.ledger.scorecard(**of, hindsight=hindsight).reset_index())
        left_out = service.ledger.count(**of, hindsight=not hindsight)
        return ScorecardAnswer.model_validate({"scores": scores, "left_out": left_out, "problems": problems})

    return await service.aside(score)


@router.get("/models", tags=["models"], responses=_answers(401, 403))
async def list_models(caller: Asking, service: Serving) -> ModelsAnswer:
    """List the registered models with their newest versions, which of them is champion, and their test scores."""
    return ModelsAnswer.model_validate({"models": await service.aside(registered_models)})


@router.get("/health", tags=["service"], responses=_answers())
async def health(service: Serving) -> HealthAnswer:
    """Say whether the service works: its databases answer. Needs no key."""

    def look() -> HealthAnswer:
        service.ledger.history(limit=1)
        return HealthAnswer(
            status="ok",
            version=forecastlib.__version__,
            trainings_started=service.store.count(status="started"),
            trainings_queued=service.store.count(status="queued"),
            models_in_memory=len(service.predictions.models),
        )

    return await service.aside(look)


def _job_answer(job: Job, events: list[dict[str, Any]], *, newest: bool = False) -> JobAnswer:
    epochs = [
        event | {name: schemas.json_number(event.get(name)) for name in ("loss", "val_loss")}
        for event in events
        if event["event"] == "epoch"
    ]
    result = job.result and job.result | {
        "metrics": {name: schemas.json_number(value) for name, value in job.result.get("metrics", {}).items()}
    }
    asked = {name: job.request[name] for name in ("training_days", "sessions", "start", "force_retrain")}
    return JobAnswer.model_validate(
        vars(job) | asked | {"progress": epochs[-1:] if newest else epochs, "result": result}
    )
