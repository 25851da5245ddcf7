"""What the operator chooses: the settings of the service, and API keys, of which only hashes are stored."""

from __future__ import annotations

import datetime as dt
import hashlib
import hmac
import json
import os
import re
import secrets
import tempfile
import threading
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from forecastlib.config import RunConfig
from forecastlib.errors import ConfigError
from forecastlib.paths import project_root

PREFIX = "fl_"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
LOCAL = "local"
"""Name of every caller of a service without keys."""


class Settings(BaseModel):
    """Settings of the service, frozen; callers cannot change them. An invalid value raises :class:`ConfigError`."""

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


@dataclass(frozen=True)
class Key:
    """A stored key.

    Attributes
    ----------
    name : str
        Name of its holder; their forecasts and trainings are recorded under it.
    sha256 : str
        Hash of the token. The token has 256 random bits, so a slow hash would not protect it better.
    may_train : bool
        Whether its holder may start trainings.
    created_at : str
    revoked_at : str or None
    """

    name: str
    sha256: str
    may_train: bool
    created_at: str
    revoked_at: str | None = None


def hash_token(token: str) -> str:
    """Return the hash under which a token is stored."""
    return hashlib.sha256(token.encode()).hexdigest()


class KeyFile:
    """The file of keys, read again whenever it changes, so that a revoked key is refused at once.

    Parameters
    ----------
    path
        A JSON file, which need not exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._version: tuple[int, int, int] | None = None
        self._keys: tuple[Key, ...] = ()

    def all(self) -> tuple[Key, ...]:
        """Return all keys, revoked ones included.

        Raises
        ------
        ConfigError
            If the file has vanished or is damaged: that must not open the service to callers without a key.
        """
        with self._lock:
            try:
                status = self.path.stat()
            except FileNotFoundError:
                if self._keys:
                    raise ConfigError(f"expected the file of keys {self.path}; it has vanished; restore it") from None
                return ()
            version = (status.st_mtime_ns, status.st_size, status.st_ino)
            if version != self._version:
                self._keys = _read(self.path)
                self._version = version
            return self._keys

    def identify(self, token: str) -> Key | None:
        """Return the key of a token, None if the token is unknown or revoked.

        All keys are compared, each in constant time, so that response times reveal nothing about them.
        """
        digest = hash_token(token)
        found = None
        for key in self.all():
            if hmac.compare_digest(key.sha256, digest) and key.revoked_at is None:
                found = key
        return found

    def add(self, name: str, *, may_train: bool = True) -> str:
        """Create a key and return its token, which is not stored and cannot be shown again.

        Raises
        ------
        ConfigError
            If the name is invalid or taken.
        """
        if not NAME.fullmatch(name) or name == LOCAL:
            raise ConfigError(f"expected a name of letters, digits, '.', '_', '-' and not {LOCAL!r}; got {name!r}")
        if any(key.name == name for key in self.all()):
            # This includes revoked names: what was recorded under them belongs to their former holders.
            raise ConfigError(f"a key named {name!r} exists already; choose another name")
        token = PREFIX + secrets.token_urlsafe(32)
        self._write((*self.all(), Key(name, hash_token(token), may_train, utc_now())))
        return token

    def revoke(self, name: str) -> None:
        """Revoke a key.

        Raises
        ------
        ConfigError
            If no valid key has that name.
        """
        if not any(key.name == name and key.revoked_at is None for key in self.all()):
            valid = ", ".join(key.name for key in self.all() if key.revoked_at is None) or "none"
            raise ConfigError(f"expected the name of a valid key; got {name!r}; valid keys: {valid}")
        self._write(tuple(replace(key, revoked_at=utc_now()) if key.name == name else key for key in self.all()))

    def _write(self, keys: tuple[Key, ...]) -> None:
        """Replace the file atomically with one that only its owner can read."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=self.path.parent, prefix=self.path.name)  # created with mode 0600
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump({"keys": [asdict(key) for key in keys]}, file, indent=2)
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).replace(self.path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise


def _read(path: Path) -> tuple[Key, ...]:
    try:
        return tuple(Key(**entry) for entry in json.loads(path.read_text(encoding="utf-8"))["keys"])
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"expected keys as `forecastlib keys add` writes them in {path}; it is damaged") from error


def utc_now() -> str:
    """Return the current time as text, as it is stored and shown."""
    return f"{dt.datetime.now(dt.UTC):%Y-%m-%dT%H:%M:%SZ}"
