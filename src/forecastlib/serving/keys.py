"""API keys: random tokens of which only hashes are stored."""

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

from forecastlib.errors import ConfigError

PREFIX = "fl_"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
LOCAL = "local"
"""Name of every caller of a service without keys."""


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
        self._write((*self.all(), Key(name, hash_token(token), may_train, _now())))
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
        self._write(tuple(replace(key, revoked_at=_now()) if key.name == name else key for key in self.all()))

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


def _now() -> str:
    return f"{dt.datetime.now(dt.UTC):%Y-%m-%dT%H:%M:%SZ}"
