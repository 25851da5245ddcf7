"""Schemas of requests and answers, as ``/docs`` shows them."""

from __future__ import annotations

import datetime as dt
import math
import re
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from forecastlib.serving.trainings import Status

_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


def _parse_day(value: object) -> object:
    """Refuse numbers and times of day, which pydantic would accept as dates."""
    if not isinstance(value, str) or not _DAY.fullmatch(value):
        raise ValueError("expected a date such as 2018-06-29")
    return dt.date.fromisoformat(value)


_DAY_SCHEMA = {"type": "string", "format": "date", "examples": ["2018-06-29"]}
Day = Annotated[dt.date, BeforeValidator(_parse_day), WithJsonSchema(_DAY_SCHEMA)]


def _to_integer(value: object) -> object:
    """Convert 3.0 to 3, as JSON does not distinguish them."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Integer = Annotated[int, BeforeValidator(_to_integer)]


def _finite_or_none(value: object) -> object:
    """Convert NaN and infinities, which JSON cannot represent, to None."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


Finite = Annotated[float | None, BeforeValidator(_finite_or_none)]

SYMBOL_PATTERN = r"^[A-Za-z0-9^][A-Za-z0-9^.=_-]{0,31}$"
VERSION_PATTERN = r"^(champion|challenger|[0-9]{1,9}|v[0-9]{1,4}\.[0-9]{1,4}\.[0-9]{1,4}_[0-9]{8}_[0-9]{6})$"
TAG_PATTERN = r"^[A-Za-z0-9._-]{1,64}$"

Symbol = Annotated[
    str, Field(pattern=SYMBOL_PATTERN, description="Symbol in the source of prices.", examples=["^IXIC"])
]
Version = Annotated[
    str,
    Field(
        pattern=VERSION_PATTERN,
        description="An alias (champion, challenger), the number in MLflow, or the tag of a version.",
        examples=["champion", "1", "v1.0.0_20261122_214533"],
    ),
]


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class TrainRequest(_Request):
    """Parameters of a training."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"symbol": "^IXIC", "training_days": 2500, "force_retrain": False}]}
    )

    symbol: Symbol
    training_days: Integer = Field(
        default=5000,
        ge=100,
        le=5000,
        description="Number of newest sessions to use, or all if there are fewer.",
    )
    force_retrain: bool = Field(default=False, description="Train even if the champion would be the same.")
    epochs: Integer | None = Field(default=None, ge=1, le=1000, description="Maximum number of epochs.")


class PredictRequest(_Request):
    """Parameters of a forecast."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"symbol": "^IXIC", "date": "2018-06-29", "version": "champion"}]}
    )

    symbol: Symbol
    date: Day | None = Field(
        default=None, description="Origin: the last session on or before this date. None: the newest."
    )
    version: Version = "champion"
    closes: Integer = Field(default=0, ge=0, le=250, description="Number of closes up to the origin to return.")


class Detail(BaseModel):
    """An invalid part of a request."""

    where: str = Field(examples=["body.training_days"])
    message: str = Field(examples=["Input should be greater than or equal to 100"])


class ErrorAnswer(BaseModel):
    """An error."""

    error: str = Field(description="Name of the error, for programs.", examples=["model_not_found"])
    message: str = Field(
        description="For people: what was expected, what was received, what to do.",
        examples=["expected a registered model of '^GSPC' with version 'champion'; found none"],
    )
    details: list[Detail] = Field(default=[], description="Invalid parts of the request.")
    request_id: str = Field(description="As in X-Request-ID and in the log.", examples=["6f0c7d52b7f94a0c"])


class Epoch(BaseModel):
    """An epoch of a training."""

    epoch: int = Field(examples=[3])
    epochs: int = Field(description="Maximum number of epochs; training may stop earlier.", examples=[100])
    loss: Finite = Field(description="None if it is not finite.", examples=[0.91])
    val_loss: Finite = Field(examples=[1.02])


class JobResult(BaseModel):
    """The result of a training."""

    status: Literal["completed", "skipped"]
    version: str = Field(examples=["v1.0.0_20261122_214533"])
    run_id: str = Field(description="Id of the run in MLflow.")
    promoted: bool = Field(description="Whether the new version became champion.")
    reason: str = Field(description="Why it was promoted or not, or training was skipped.")
    metrics: dict[str, Finite] = Field(default={}, description="Scores on the test set, by name and horizon.")


class JobAnswer(BaseModel):
    """A training and its progress."""

    id: str = Field(examples=["0b6f5a9d0d6f4d1b9c3e2a7f5d8e1c4b"])
    status: Status = Field(description="queued, then started, then one of completed, skipped, failed.")
    symbol: str = Field(examples=["^IXIC"])
    training_days: int = Field(examples=[2500])
    sessions: int = Field(description="Number of sessions used.", examples=[2500])
    start: str = Field(description="First session used.", examples=["2009-01-22"])
    force_retrain: bool
    requested_by: str = Field(description="Name of the caller's key.", examples=["ann"])
    created_at: str = Field(description="In UTC, as all times are.", examples=["2026-11-22T21:45:33Z"])
    started_at: str | None = None
    finished_at: str | None = None
    error: str | None = Field(default=None, description="Why it failed.")
    progress: list[Epoch] = Field(default=[], description="Its epochs so far; in a list of jobs only the latest.")
    result: JobResult | None = None


class JobsAnswer(BaseModel):
    """Jobs, newest first."""

    total: int = Field(description="Number of entries on all pages.", examples=[1])
    jobs: list[JobAnswer]


class HorizonForecast(BaseModel):
    """The forecast of one horizon."""

    horizon: int = Field(description="Trading sessions ahead of the origin.", examples=[7])
    target_date: dt.date = Field(description="Session of the forecast.", examples=["2018-07-11"])
    predicted_price: float = Field(examples=[7600.5])
    change_pct: float = Field(description="Change from the last close, in percent.", examples=[1.2])
    direction: Literal["up", "neutral", "down"]
    lower_80: float | None = Field(default=None, examples=[7400.0])
    upper_80: float | None = Field(default=None, examples=[7800.0])
    lower_95: float | None = Field(default=None, examples=[7200.0])
    upper_95: float | None = Field(default=None, examples=[8000.0])
    p_up: float | None = Field(default=None, description="Probability that the price rises.", examples=[0.61])
    p_down: float | None = Field(default=None, examples=[0.39])
    confidence: float | None = Field(default=None, description="Probability of the called direction.", examples=[0.61])


class Close(BaseModel):
    """A close."""

    date: dt.date
    close: float


class PredictAnswer(BaseModel):
    """The forecasts of one origin, one per horizon."""

    symbol: str = Field(examples=["^IXIC"])
    origin: dt.date = Field(description="Last session whose close the forecasts use.", examples=["2018-06-29"])
    last_close: float = Field(examples=[7510.3])
    model_version: str = Field(examples=["v1.0.0_20261122_214533"])
    model_number: int = Field(description="Number of this version in MLflow.", examples=[1])
    source: str = Field(description="Source that served the prices.", examples=["bundled"])
    batch_id: str
    forecasts: list[HorizonForecast]
    closes: list[Close] = []


class RecordedForecast(HorizonForecast):
    """A recorded forecast and its outcome."""

    symbol: str
    origin: dt.date
    last_close: float
    model_version: str
    batch_id: str
    requested_by: str | None = Field(default=None, description="First caller who requested it, of those you may see.")
    recorded_at: dt.datetime
    actual_price: float | None = Field(default=None, description="Close of the target session, once it is known.")
    settled_at: dt.datetime | None = None
    known_until: dt.date | None = Field(
        default=None,
        description="Last session known when it was made; later than the origin: a hindsight forecast.",
    )


class PredictionsAnswer(BaseModel):
    """Recorded forecasts, newest first."""

    total: int = Field(description="Number of entries on all pages.", examples=[3])
    predictions: list[RecordedForecast]


class Score(BaseModel):
    """Scores of the forecasts of a symbol, horizon and version; None as long as no outcome is known."""

    symbol: str
    horizon: int
    model_version: str
    n: int = Field(description="Forecasts whose outcome is known.")
    pending: int = Field(description="Forecasts whose outcome is not known yet.")
    mae: float | None = None
    mae_random_walk: float | None = Field(default=None, description="MAE of the random walk for the same forecasts.")
    skill: float | None = Field(default=None, description="1 - mae / mae_random_walk; above 0 is better.")
    mape: float | None = Field(default=None, description="In percent.")
    hit_rate: float | None = Field(default=None, description="Share of calls whose direction was right.")
    confidence: float | None = Field(default=None, description="Mean confidence of the calls.")
    calibration_error: float | None = None
    coverage_80: float | None = Field(default=None, description="Share of outcomes inside the 80 % interval.")
    coverage_95: float | None = None


class ScorecardAnswer(BaseModel):
    """Scores of recorded forecasts."""

    scores: list[Score]
    left_out: int = Field(
        description="Forecasts not scored here: hindsight forecasts, or all others if hindsight is set.",
        examples=[0],
    )
    problems: list[str] = Field(default=[], description="Symbols whose outcomes could not be recorded, and why.")


class ModelVersion(BaseModel):
    """A registered version of a model."""

    number: int = Field(description="Number in MLflow.", examples=[1])
    version: str = Field(examples=["v1.0.0_20261122_214533"])
    aliases: list[str] = Field(examples=[["champion"]])
    run_id: str
    created_at: dt.datetime
    reason: str | None = Field(default=None, description="Why it became champion or challenger.")
    metrics: dict[str, float] = Field(default={}, description="Skill, MAE and coverage on the test set, by horizon.")


class RegisteredModel(BaseModel):
    """The registered versions of a symbol, newest first."""

    symbol: str = Field(examples=["^IXIC"])
    name: str = Field(examples=["^IXIC_lstm"])
    versions: list[ModelVersion]


class ModelsAnswer(BaseModel):
    """All registered models."""

    models: list[RegisteredModel]


class HealthAnswer(BaseModel):
    """The state of the service."""

    status: Literal["ok"]
    version: str = Field(description="Version of forecastlib.", examples=["1.0.0"])
    trainings_started: int
    trainings_queued: int
    models_in_memory: int
