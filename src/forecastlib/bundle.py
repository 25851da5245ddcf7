"""The bundle: a fitted model as a folder, with everything that its forecasts depend on.

A bundle holds data only, never a pickle: the model in a folder, its scalers and its configuration as JSON, and metadata
with a checksum for every file. It is written to a temporary folder first and moved into place when it is complete.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import importlib.metadata
import json
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Self

import pandas as pd

from forecastlib import __version__
from forecastlib.config import RunConfig, load_config
from forecastlib.data.prices import fingerprint
from forecastlib.errors import ConfigError, IncompatibleModelError, ModelNotFoundError
from forecastlib.features import unknown_features
from forecastlib.models import Model
from forecastlib.models.base import import_object
from forecastlib.recipe import Samples
from forecastlib.samples.scaling import Scaling

FORMAT = 4
"""Version of the layout; bundles of another version are refused."""

MODEL, SCALERS, CONFIG, METADATA = "model", "scalers.json", "config.json", "metadata.json"
STATE = "model.skops"
"""The file of a model that has no ``save`` method."""

TRUSTED_PACKAGES = {"forecastlib", "numpy", "pandas", "scipy", "sklearn"}
"""Packages whose types a stored model may contain, besides the package of its class."""

LIBRARIES = ("keras", "numba", "numpy", "pandas", "scikit-learn", "ta-lib", "tensorflow")


@dataclass(frozen=True)
class Metadata:
    """The provenance of a model.

    Attributes
    ----------
    version : str
        ``v1.0.0_YYYYMMDD_HHMMSS``: version of the library and the end of the training (UTC).
    symbols : tuple of str
        What it was trained on.
    feature_names : tuple of str
        Its features, in order.
    model : dict
        ``name``, and ``class`` as ``"package.module:Class"``.
    sets : dict
        Per set: first and last origin, last label date, number of samples.
    sessions : dict
        Per symbol: first and last session, their number, fingerprint of the prices.
    libraries : dict
        Versions of the libraries that computed it.
    git_commit : str or None
        Commit of the source tree, None outside of a checkout.
    seed, epochs : int
    metrics : dict
        Scores on the test set, added by the evaluation.
    """

    version: str
    symbols: tuple[str, ...]
    feature_names: tuple[str, ...]
    model: dict[str, str]
    sets: dict[str, dict[str, Any]]
    sessions: dict[str, dict[str, Any]]
    libraries: dict[str, str]
    git_commit: str | None
    seed: int
    epochs: int
    metrics: dict[str, float] = field(default_factory=dict)

    def with_metrics(self, metrics: Mapping[str, float]) -> Self:
        """Return a copy with scores on the test set."""
        return replace(self, metrics=dict(metrics))

    @property
    def fingerprint(self) -> str:
        """Fingerprint of all prices it was trained on."""
        return "-".join(entry["fingerprint"] for entry in self.sessions.values())


@dataclass(frozen=True, eq=False)
class Parts:
    """What a bundle holds."""

    model: Model
    scaling: Scaling
    config: RunConfig
    metadata: Metadata


def describe(prices: Sequence[pd.DataFrame], samples: Samples, config: RunConfig, model: Model) -> Metadata:
    """Describe where a fitted model comes from."""
    sets = {"train": samples.train, "validation": samples.validation, "test": samples.test}
    kind = type(model)
    return Metadata(
        version=f"v{__version__}_{dt.datetime.now(dt.UTC):%Y%m%d_%H%M%S}",
        symbols=tuple(str(frame.attrs.get("symbol", "")) for frame in prices),
        feature_names=samples.windows.feature_names,
        model={"name": model.name, "class": f"{kind.__module__}:{kind.__qualname__}"},
        sets={
            name: {
                "first_origin": f"{windows.origins.min():%Y-%m-%d}",
                "last_origin": f"{windows.origins.max():%Y-%m-%d}",
                "last_label": f"{windows.label_dates.max():%Y-%m-%d}",
                "samples": len(windows),
            }
            for name, windows in sets.items()
        },
        sessions={
            str(frame.attrs.get("symbol", "")): {
                "first": f"{frame.index[0]:%Y-%m-%d}",
                "last": f"{frame.index[-1]:%Y-%m-%d}",
                "count": len(frame),
                "fingerprint": fingerprint(frame),
            }
            for frame in prices
        },
        libraries={"python": platform.python_version(), "forecastlib": __version__}
        | {name: importlib.metadata.version(name) for name in LIBRARIES},
        git_commit=git_commit(),
        seed=config.train.seed,
        epochs=len(getattr(model, "history", ())),
    )


def git_commit() -> str | None:
    """Return the commit of the checkout this library runs from, or None where there is none."""
    git = shutil.which("git")
    if git is None:
        return None
    answer = subprocess.run(
        [git, "rev-parse", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True, check=False
    )
    return answer.stdout.strip() or None


def write(path: Path, parts: Parts) -> Path:
    """Write a bundle; an existing bundle at ``path`` stays until the new one is complete.

    Raises
    ------
    ConfigError
        If ``path`` holds something that is not a bundle, which is left as it is; or the model cannot be stored.
    """
    if path.exists() and not (path / METADATA).is_file() and not (path.is_dir() and not any(path.iterdir())):
        raise ConfigError(f"expected a new folder or an existing bundle at {path}; it holds something else")
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}-") as workspace:
        fresh = Path(workspace) / "new"
        (fresh / MODEL).mkdir(parents=True)
        _write_model(fresh / MODEL, parts)
        _write_json(fresh / SCALERS, parts.scaling.to_dict())
        _write_json(fresh / CONFIG, parts.config.model_dump(mode="json"))
        checksums = {name: _checksum(fresh / name) for name in _files(fresh)}
        content = {"format": FORMAT, "checksums": checksums} | asdict(parts.metadata)
        _write_json(fresh / METADATA, content | {"checksum": _digest(content)})
        _put_in_place(fresh, path, Path(workspace) / "old")
    return path


def _write_model(folder: Path, parts: Parts) -> None:
    """Store a model by its own ``save`` method, or by skops, and check that it can be restored."""
    kind = parts.metadata.model["class"]
    save = getattr(parts.model, "save", None)
    if save is not None:
        try:
            import_object(kind)
        except ConfigError as error:
            raise ConfigError(
                f"cannot store the model {parts.model.name}: {error}; define its class at the top level of a module"
            ) from error
        save(folder)
        return
    import skops.io

    try:
        skops.io.dump(parts.model, folder / STATE)
        _read_model(folder, kind, parts.config)
    except (TypeError, AttributeError, IncompatibleModelError, skops.io.exceptions.UnsupportedTypeException) as error:
        raise ConfigError(
            f"cannot store the model {parts.model.name}: {error}; give {type(parts.model).__name__} a save(folder) "
            "method and a class method load(folder, config)"
        ) from error


def _read_model(folder: Path, kind: str, config: RunConfig) -> Model:
    """Restore a model by the ``load`` method of its class, or by skops."""
    if not (folder / STATE).is_file():
        try:
            load = import_object(kind).load
        except (ConfigError, AttributeError) as error:
            raise IncompatibleModelError(f"cannot import the class of the model at {folder}: {error}") from error
        try:
            restored: Model = load(folder, config)
        except IncompatibleModelError:
            raise
        except Exception as error:  # whatever the method of a user's class raises
            raise IncompatibleModelError(f"cannot read the model at {folder}: {error!r}; train it again") from error
        return restored
    import skops.io

    unknown = skops.io.get_untrusted_types(file=folder / STATE)
    packages = TRUSTED_PACKAGES | {kind.partition(":")[0].partition(".")[0]}
    foreign = [name for name in unknown if name.partition(".")[0] not in packages]
    if foreign:
        raise IncompatibleModelError(
            f"the model at {folder} contains types of other packages than its own: {', '.join(foreign)}"
        )
    try:
        loaded: Model = skops.io.load(folder / STATE, trusted=unknown)
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise IncompatibleModelError(
            f"cannot read the model at {folder}, which is of the class {kind}: {error}; is its package on the Python "
            "path, in the version that it was trained with?"
        ) from error
    return loaded


def _put_in_place(fresh: Path, path: Path, old: Path) -> None:
    """Move a complete bundle into place; if that fails, the previous one is restored."""
    if not path.exists():
        fresh.rename(path)
        return
    path.rename(old)
    try:
        fresh.rename(path)
    except BaseException:
        old.rename(path)
        raise


def read(path: Path) -> Parts:
    """Read a bundle and check that its parts are complete and match each other.

    Raises
    ------
    ModelNotFoundError
        If there is no bundle at ``path``.
    IncompatibleModelError
        If it is damaged, of another format, or its parts do not match each other or this process.
    """
    if not (path / METADATA).is_file():
        raise ModelNotFoundError(
            f"expected a bundle at {path}; there is no {METADATA}; train a model and save it there"
        )
    saved = _read_json(path / METADATA)
    if saved.get("format") != FORMAT:
        raise IncompatibleModelError(
            f"expected a bundle of format {FORMAT}; {path} has format {saved.get('format')}, written by another "
            "version of forecastlib; train the model again with this version: make train SYMBOL=..."
        )
    if saved.pop("checksum", None) != _digest(saved):
        raise IncompatibleModelError(_damaged(METADATA, path))
    metadata = _metadata(saved)
    for name, checksum in saved["checksums"].items():
        if not (path / name).is_file():
            raise IncompatibleModelError(f"the bundle at {path} lacks {name}; restore it, or train the model again")
        if _checksum(path / name) != checksum:
            raise IncompatibleModelError(_damaged(name, path))
    added = sorted(set(_files(path)) - set(saved["checksums"]) - {METADATA})
    if added:
        raise IncompatibleModelError(f"the bundle at {path} holds {added[0]}, which was not saved with it; remove it")
    try:
        config = load_config(_read_json(path / CONFIG))
    except ConfigError as error:
        raise IncompatibleModelError(f"the configuration of the bundle at {path} does not fit: {error}") from error
    unknown = unknown_features(config.features)
    if unknown:
        raise IncompatibleModelError(
            f"the model at {path} was trained with features that this process does not know: {', '.join(unknown)}; "
            "register them with register_feature, or name them as package.module:function before training"
        )
    scaling = Scaling.from_dict(_read_json(path / SCALERS), config.model)
    if scaling.n_features != len(metadata.feature_names):
        raise IncompatibleModelError(
            f"the parts of the bundle at {path} contradict each other: expected scalers of "
            f"{len(metadata.feature_names)} features; got {scaling.n_features}"
        )
    return Parts(_read_model(path / MODEL, metadata.model["class"], config), scaling, config, metadata)


def _damaged(name: str, path: Path) -> str:
    return f"{name} of the bundle at {path} is damaged: its checksum differs; restore it, or train the model again"


def _metadata(saved: Mapping[str, Any]) -> Metadata:
    try:
        values = {entry.name: saved[entry.name] for entry in fields(Metadata)}
    except KeyError as error:
        raise IncompatibleModelError(f"{METADATA} of the bundle lacks {error}; train it again") from error
    return Metadata(**(values | {"symbols": tuple(saved["symbols"]), "feature_names": tuple(saved["feature_names"])}))


def _files(folder: Path) -> list[str]:
    """Return the relative paths of all files in a folder, sorted."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def _checksum(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise IncompatibleModelError(f"{path} cannot be read: {error}; restore it, or train it again") from error
    if not isinstance(content, dict):
        raise IncompatibleModelError(
            f"expected a JSON object in {path}; got {type(content).__name__}; restore it, or train it again"
        )
    return content
