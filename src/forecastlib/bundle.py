"""The saved bundle of a forecaster: one folder that holds all it needs, as data, with a checksum of every file.

::

    model.keras        the network
    scalers.json       what the scalers learnt
    calibration.json   drift, weight of the network, volatility model, quantiles of residuals
    config.json        the RunConfig, whole
    metadata.json      where it comes from, and the checksums of the others
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
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Self

import keras
import pandas as pd

from forecastlib import __version__
from forecastlib.config import RunConfig, load_config
from forecastlib.data.prices import fingerprint
from forecastlib.errors import ConfigError, IncompatibleModelError, ModelNotFoundError
from forecastlib.models.lstm import INPUT_NAME, FastLSTM, output_name
from forecastlib.models.uncertainty import Calibration
from forecastlib.samples.dataset import Dataset
from forecastlib.samples.scaling import Scaling

FORMAT = 3
"""Version of the bundle's layout; another one is refused."""

NETWORK, SCALERS, CALIBRATION, CONFIG, METADATA = (
    "model.keras",
    "scalers.json",
    "calibration.json",
    "config.json",
    "metadata.json",
)
LIBRARIES = ("keras", "numba", "numpy", "pandas", "scikit-learn", "ta-lib", "tensorflow")


@dataclass(frozen=True)
class Metadata:
    """Where a model comes from.

    Attributes
    ----------
    version : str
        ``v1.0.0_YYYYMMDD_HHMMSS``: of the library, and when training ended (UTC).
    symbols : tuple of str
        What it was trained on.
    feature_names : tuple of str
        Its features, in order.
    sets : dict
        Of each set: first and last origin, last label date, number of samples.
    sessions : dict
        Of each symbol: first and last session, their number, fingerprint of the prices.
    libraries : dict
        Versions of what computed it.
    git_commit : str or None
        Commit of the source tree, None outside of a checkout.
    seed, epochs : int
    metrics : dict
        Figures on the test set, filled in by whoever evaluates the model.
    """

    version: str
    symbols: tuple[str, ...]
    feature_names: tuple[str, ...]
    sets: dict[str, dict[str, Any]]
    sessions: dict[str, dict[str, Any]]
    libraries: dict[str, str]
    git_commit: str | None
    seed: int
    epochs: int
    metrics: dict[str, float] = field(default_factory=dict)

    def with_metrics(self, metrics: Mapping[str, float]) -> Self:
        """Return a copy with figures on the test set."""
        return replace(self, metrics=dict(metrics))

    @property
    def fingerprint(self) -> str:
        """Fingerprint of all prices it was trained on."""
        return "-".join(entry["fingerprint"] for entry in self.sessions.values())


@dataclass(frozen=True, eq=False)
class Parts:
    """What a bundle holds."""

    network: keras.Model
    scaling: Scaling
    calibration: Calibration
    config: RunConfig
    metadata: Metadata


def describe(
    prices: pd.DataFrame | Sequence[pd.DataFrame], dataset: Dataset, config: RunConfig, *, epochs: int
) -> Metadata:
    """Write down where a model comes from, at the end of its training."""
    frames = [prices] if isinstance(prices, pd.DataFrame) else list(prices)
    chosen = {name: dataset.windows.take(index) for name, index in dataset.split.sets().items()}
    return Metadata(
        version=f"v{__version__}_{dt.datetime.now(dt.UTC):%Y%m%d_%H%M%S}",
        symbols=tuple(str(one.attrs.get("symbol", "")) for one in frames),
        feature_names=dataset.windows.feature_names,
        sets={
            name: {
                "first_origin": f"{windows.origins.min():%Y-%m-%d}",
                "last_origin": f"{windows.origins.max():%Y-%m-%d}",
                "last_label": f"{windows.label_dates.max():%Y-%m-%d}",
                "samples": len(windows),
            }
            for name, windows in chosen.items()
        },
        sessions={
            str(one.attrs.get("symbol", "")): {
                "first": f"{one.index[0]:%Y-%m-%d}",
                "last": f"{one.index[-1]:%Y-%m-%d}",
                "count": len(one),
                "fingerprint": fingerprint(one),
            }
            for one in frames
        },
        libraries={"python": platform.python_version(), "forecastlib": __version__}
        | {name: importlib.metadata.version(name) for name in LIBRARIES},
        git_commit=git_commit(),
        seed=config.train.seed,
        epochs=epochs,
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
    """Write a bundle; what was at ``path`` before stays until the new one is whole.

    Raises
    ------
    ConfigError
        If there is something at ``path`` that is not a bundle; it is left alone.
    """
    if path.exists() and not (path / METADATA).is_file() and not (path.is_dir() and not any(path.iterdir())):
        raise ConfigError(f"expected a new folder or an existing bundle at {path}; it holds something else")
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}-") as workspace:
        fresh = Path(workspace) / "new"
        fresh.mkdir()
        parts.network.save(fresh / NETWORK)
        _write_json(fresh / SCALERS, parts.scaling.to_dict())
        _write_json(fresh / CALIBRATION, parts.calibration.to_dict())
        _write_json(fresh / CONFIG, parts.config.model_dump(mode="json"))
        checksums = {name: _checksum(fresh / name) for name in (NETWORK, SCALERS, CALIBRATION, CONFIG)}
        content = {"format": FORMAT, "checksums": checksums} | asdict(parts.metadata)
        _write_json(fresh / METADATA, content | {"checksum": _digest(content)})
        _put_in_place(fresh, path, Path(workspace) / "old")
    return path


def _put_in_place(fresh: Path, path: Path, old: Path) -> None:
    """Move a whole bundle to where it belongs; if that fails, what was there before is put back."""
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
    """Read a bundle and check that its parts are whole and fit each other.

    Raises
    ------
    ModelNotFoundError
        If there is no bundle at ``path``.
    IncompatibleModelError
        If it is damaged, of another format, or its parts contradict each other.
    """
    if not (path / METADATA).is_file():
        raise ModelNotFoundError(
            f"expected a bundle at {path}; there is no {METADATA}; train a model and save it there"
        )
    saved = _read_json(path / METADATA)
    if saved.get("format") != FORMAT:
        raise IncompatibleModelError(
            f"expected a bundle of format {FORMAT}; {path} has {saved.get('format')}; train it again with this version"
        )
    if saved.pop("checksum", None) != _digest(saved):
        raise IncompatibleModelError(_damaged(METADATA, path))
    metadata = _metadata(saved)
    for name in (NETWORK, SCALERS, CALIBRATION, CONFIG):
        if not (path / name).is_file():
            raise IncompatibleModelError(f"the bundle at {path} lacks {name}; restore it, or train it again")
        if _checksum(path / name) != saved["checksums"].get(name):
            raise IncompatibleModelError(_damaged(name, path))
    try:
        config = load_config(_read_json(path / CONFIG))
    except ConfigError as error:
        raise IncompatibleModelError(f"the configuration of the bundle at {path} does not fit: {error}") from error
    parts = Parts(
        network=_read_network(path / NETWORK),
        scaling=Scaling.from_dict(_read_json(path / SCALERS), config.model),
        calibration=Calibration.from_dict(_read_json(path / CALIBRATION)),
        config=config,
        metadata=metadata,
    )
    _require_fit(parts, path)
    return parts


def _damaged(name: str, path: Path) -> str:
    return f"{name} of the bundle at {path} is damaged: its checksum differs; restore it, or train the model again"


def _require_fit(parts: Parts, path: Path) -> None:
    window = parts.config.window
    shape = (window.lookback, len(parts.metadata.feature_names))
    checks = {
        f"a network that takes {INPUT_NAME} {shape}": tuple(parts.network.input_shape[1:]) == shape,
        f"a network with outputs for {window.horizons}": set(parts.network.output_names)
        == {output_name(h) for h in window.horizons},
        f"a calibration of {window.horizons}": parts.calibration.horizons == window.horizons,
        f"scalers of {shape[1]} features": parts.scaling.n_features == shape[1],
    }
    wrong = [expected for expected, holds in checks.items() if not holds]
    if wrong:
        raise IncompatibleModelError(f"the parts of the bundle at {path} contradict each other: expected {wrong[0]}")


def _read_network(path: Path) -> keras.Model:
    try:
        return keras.models.load_model(path, compile=False, custom_objects={"FastLSTM": FastLSTM})
    except (ValueError, TypeError, OSError, KeyError, zipfile.BadZipFile) as error:
        raise IncompatibleModelError(
            f"the network at {path} cannot be read by this version of Keras: {error}"
        ) from error


def _metadata(saved: Mapping[str, Any]) -> Metadata:
    try:
        values = {entry.name: saved[entry.name] for entry in fields(Metadata)}
    except KeyError as error:
        raise IncompatibleModelError(f"{METADATA} of the bundle lacks {error}; train it again") from error
    return Metadata(**(values | {"symbols": tuple(saved["symbols"]), "feature_names": tuple(saved["feature_names"])}))


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
