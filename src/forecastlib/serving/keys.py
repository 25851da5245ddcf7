"""Keys of callers: random tokens of which only hashes are stored."""

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
ANYBODY = "local"
"""What callers are called where there are no keys."""


@dataclass(frozen=True)
class Key:
    """A key as it is stored.

    Attributes
    ----------
    name : str
        Whose it is; what they ask for is recorded under it.
    sha256 : str
        Hash of the token. The token has 256 random bits, so that a slow hash would protect it no better.
    may_train : bool
        Whether it may start trainings.
    created_at : str
    revoked_at : str or None
    """

    name: str
    sha256: str
    may_train: bool
    created_at: str
    revoked_at: str | None = None


def hash_token(token: str) -> str:
    """Return what is stored of a token."""
    return hashlib.sha256(token.encode()).hexdigest()


class KeyFile:
    """The file of keys: read anew whenever it changes, so that a revoked key is refused at once.

    Parameters
    ----------
    path
        The file, in JSON; it need not be there.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._seen: tuple[int, int, int] | None = None
        self._keys: tuple[Key, ...] = ()

    def all(self) -> tuple[Key, ...]:
        """Return all keys, revoked ones included.

        Raises
        ------
        ConfigError
            If the file was there and is gone, or is damaged: it is never taken for one without keys.
        """
        with self._lock:
            try:
                status = self.path.stat()
            except FileNotFoundError:
                if self._keys:
                    raise ConfigError(f"expected the file of keys {self.path}; it is gone; restore it") from None
                return ()
            seen = (status.st_mtime_ns, status.st_size, status.st_ino)
            if seen != self._seen:
                self._keys = _read(self.path)
                self._seen = seen
            return self._keys

    def identify(self, token: str) -> Key | None:
        """Return the key of a token, None if there is none or it was revoked.

        Every key is compared, each in constant time, so that the time tells nothing about them.
        """
        digest = hash_token(token)
        found = None
        for key in self.all():
            if hmac.compare_digest(key.sha256, digest) and key.revoked_at is None:
                found = key
        return found

    def add(self, name: str, *, may_train: bool = True) -> str:
        """Make a key and return its token, which cannot be had again.

        Raises
        ------
        ConfigError
            If the name is not allowed, or in use.
        """
        if not NAME.fullmatch(name) or name == ANYBODY:
            raise ConfigError(f"expected a name of letters, digits, '.', '_', '-', and not {ANYBODY!r}; got {name!r}")
        if any(key.name == name for key in self.all()):
            # A revoked name as well: what was recorded under it belongs to its former holder.
            raise ConfigError(f"there is a key of {name!r} already; choose another name")
        token = PREFIX + secrets.token_urlsafe(32)
        self._write((*self.all(), Key(name, hash_token(token), may_train, _now())))
        return token

    def revoke(self, name: str) -> None:
        """Refuse a key from now on.

        Raises
        ------
        ConfigError
            If there is no valid key of that name.
        """
        if not any(key.name == name and key.revoked_at is None for key in self.all()):
            valid = ", ".join(key.name for key in self.all() if key.revoked_at is None) or "none"
            raise ConfigError(f"expected the name of a valid key; got {name!r}; there are: {valid}")
        self._write(tuple(replace(key, revoked_at=_now()) if key.name == name else key for key in self.all()))

    def _write(self, keys: tuple[Key, ...]) -> None:
        """Put a new file, which none but its owner can read, in the place of the old one at once."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        handle, aside = tempfile.mkstemp(dir=self.path.parent, prefix=self.path.name)  # made with mode 0600
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump({"keys": [asdict(key) for key in keys]}, file, indent=2)
                file.flush()
                os.fsync(file.fileno())
            Path(aside).replace(self.path)
        except BaseException:
            Path(aside).unlink(missing_ok=True)
            raise


def _read(path: Path) -> tuple[Key, ...]:
    try:
        return tuple(Key(**entry) for entry in json.loads(path.read_text(encoding="utf-8"))["keys"])
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"expected keys as `forecastlib keys add` writes them in {path}; it is damaged") from error


def _now() -> str:
    return f"{dt.datetime.now(dt.UTC):%Y-%m-%dT%H:%M:%SZ}"
