"""Settings of the service. The operator chooses them; callers cannot change any of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from forecastlib.config import RunConfig
from forecastlib.errors import ConfigError
from forecastlib.paths import project_root


class Settings(BaseModel):
    """Settings of the service, frozen. An invalid value raises :class:`ConfigError`."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    host: str = Field(
        default="127.0.0.1", description="Address to listen on; one that other machines can reach needs keys."
    )
    port: int = Field(default=8000, ge=0, le=65_535, description="Port to listen on; 0: any free one.")
    keys: Path | None = Field(
        default=None, description="File of API keys; None: mlruns/keys.json, or no keys if that does not exist."
    )
    jobs_url: str | None = Field(default=None, description="Database of jobs; None: mlruns/jobs.db.")
    ledger_url: str | None = Field(default=None, description="Database of forecasts; None: the project's ledger.")

    source: str = Field(default="bundled", min_length=1, description="Source of prices for trainings.")
    parameters: dict[str, Any] = Field(
        default_factory=dict, description="Further parameters of every training, such as lookback."
    )
    concurrent_trainings: int = Field(
        default=3, ge=1, le=64, description="Trainings that run at once; others are queued."
    )
    queued_trainings: int = Field(default=20, ge=0, le=10_000, description="Trainings that may be queued.")
    training_niceness: int = Field(default=15, ge=0, le=19, description="Niceness of training processes.")

    cached_models: int = Field(default=8, ge=1, le=1_000, description="Models held in memory.")
    prices_fresh_for: float = Field(default=60.0, ge=0.0, description="Seconds for which fetched prices are reused.")
    champion_fresh_for: float = Field(
        default=5.0, ge=0.0, description="Seconds until a champion changed outside the service is noticed."
    )
    prediction_threads: int = Field(default=2, ge=1, le=64, description="Models that compute forecasts at once.")
    queued_requests: int = Field(
        default=64, ge=1, le=10_000, description="Requests handled at once, separately for forecasts and all others."
    )

    body_bytes: int = Field(default=64 * 1024, ge=256, description="Maximum size of a request body.")
    body_seconds: float = Field(default=10.0, gt=0.0, description="Maximum time for a request body to arrive.")
    client_seconds: float = Field(
        default=10.0,
        gt=0.0,
        description="Maximum time for a client to send the head of a request, or to read more of the answer.",
    )
    requests_per_second: float = Field(default=50.0, gt=0.0, description="Average rate allowed to each caller.")
    request_burst: int = Field(
        default=100,
        ge=1,
        description="Requests allowed to each caller within request_burst / requests_per_second seconds, rounded up.",
    )
    database_seconds: float = Field(default=5.0, ge=0.0, description="Maximum wait for a locked database.")
    shutdown_seconds: float = Field(
        default=20.0, ge=0.0, description="Time that running trainings get to finish when the service is stopped."
    )

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            problems = "; ".join(f"{'.'.join(map(str, part['loc']))}: {part['msg']}" for part in error.errors())
            raise ConfigError(f"settings of the service: {problems}") from None

    @model_validator(mode="after")
    def _check_parameters(self) -> Self:
        reserved = {"symbol", "source", "start", "end"} & set(self.parameters)
        if reserved:
            raise ValueError(f"parameters must leave {', '.join(sorted(reserved))} to the service")
        self.config("^IXIC")
        return self

    def config(self, symbol: str, **parameters: Any) -> RunConfig:
        """Return the configuration of a training: the operator's parameters, overridden by the given ones."""
        return RunConfig.from_parameters(**(self.parameters | {"symbol": symbol, "source": self.source} | parameters))

    @property
    def home(self) -> Path:
        """The root folder of the project."""
        return project_root()

    @property
    def keys_file(self) -> Path:
        """The file of API keys, which need not exist."""
        return self.keys or self.home / "mlruns" / "keys.json"

    @property
    def database(self) -> str:
        """The URL of the database of jobs."""
        return self.jobs_url or f"sqlite:///{self.home / 'mlruns' / 'jobs.db'}"

    @property
    def jobs_folder(self) -> Path:
        """The folder that holds the progress, the log and the lock of each job."""
        return self.home / "mlruns" / "jobs"
