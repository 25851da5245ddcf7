"""What an operator decides about the service; nothing of it can be changed by a caller."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from forecastlib.config import RunConfig
from forecastlib.errors import ConfigError
from forecastlib.paths import project_root


class Settings(BaseModel):
    """Settings of the service, frozen; a wrong one is a :class:`ConfigError`."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    host: str = Field(default="127.0.0.1", description="Address to listen at; beyond this machine only with keys.")
    port: int = Field(default=8000, ge=0, le=65_535, description="Port to listen at; 0: any that is free.")
    keys: Path | None = Field(
        default=None, description="File of keys; None: mlruns/keys.json, and no keys if that is not there."
    )
    jobs_url: str | None = Field(default=None, description="Database of jobs; None: mlruns/jobs.db.")
    ledger_url: str | None = Field(default=None, description="Database of forecasts; None: as everywhere else.")

    source: str = Field(default="bundled", min_length=1, description="Where trainings get their prices from.")
    parameters: dict[str, Any] = Field(
        default_factory=dict, description="Further parameters of every training, such as lookback."
    )
    concurrent_trainings: int = Field(default=3, ge=1, le=64, description="Trainings at once; others wait.")
    queued_trainings: int = Field(default=20, ge=0, le=10_000, description="Trainings that may wait.")
    training_niceness: int = Field(default=15, ge=0, le=19, description="By how much trainings stand back.")

    cached_models: int = Field(default=8, ge=1, le=1_000, description="Models kept in memory.")
    prices_fresh_for: float = Field(default=60.0, ge=0.0, description="Seconds that fetched prices are used again.")
    champion_fresh_for: float = Field(default=5.0, ge=0.0, description="Seconds until a change of champion is seen.")
    prediction_threads: int = Field(default=2, ge=1, le=64, description="Models that compute forecasts at once.")
    queued_requests: int = Field(
        default=64, ge=1, le=10_000, description="Requests that are handled at once, forecasts and others."
    )

    body_bytes: int = Field(default=64 * 1024, ge=256, description="Largest body of a request.")
    body_seconds: float = Field(default=10.0, gt=0.0, description="Longest time for a body to arrive.")
    client_seconds: float = Field(
        default=10.0,
        gt=0.0,
        description="Longest time for the head of a request to come, or for an answer to be taken.",
    )
    requests_per_second: float = Field(default=50.0, gt=0.0, description="Rate allowed to each caller.")
    request_burst: int = Field(default=100, ge=1, description="Requests a caller may make at once.")
    database_seconds: float = Field(default=5.0, ge=0.0, description="Patience with a locked database.")
    shutdown_seconds: float = Field(default=20.0, ge=0.0, description="Time for running trainings when stopped.")

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            found = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
            raise ConfigError(f"settings of the service: {found}") from None

    @model_validator(mode="after")
    def _parameters_are_known(self) -> Self:
        decided = {"symbol", "source", "start", "end"} & set(self.parameters)
        if decided:
            raise ValueError(f"parameters must leave {', '.join(sorted(decided))} to the service")
        self.config("^IXIC")
        return self

    def config(self, symbol: str, **parameters: Any) -> RunConfig:
        """Return the configuration of a training: the operator's parameters, then those of the caller."""
        return RunConfig.from_parameters(**(self.parameters | {"symbol": symbol, "source": self.source} | parameters))

    @property
    def home(self) -> Path:
        """The project: its notebooks, runs and reports."""
        return project_root()

    @property
    def keys_file(self) -> Path:
        """The file of keys, whether it is there or not."""
        return self.keys or self.home / "mlruns" / "keys.json"

    @property
    def database(self) -> str:
        """The URL of the database of jobs."""
        return self.jobs_url or f"sqlite:///{self.home / 'mlruns' / 'jobs.db'}"

    @property
    def jobs_folder(self) -> Path:
        """Where each job keeps its progress, its log and its lock."""
        return self.home / "mlruns" / "jobs"


def is_loopback(host: str) -> bool:
    """Say whether an address reaches no further than this machine.

    Examples
    --------
    >>> is_loopback("127.0.0.1"), is_loopback("localhost"), is_loopback("::1"), is_loopback("0.0.0.0")
    (True, True, True, False)
    """
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
