"""MLflow's model registry: one registered model per symbol, its versions, and which of them is champion.

The alias ``champion`` marks the present champion. Earlier champions are recorded in tags of the registered model, one
per change and never overwritten, since every MLflow store supports tags. Changes made by other means, such as an alias
set in MLflow's own pages, are not recorded.
"""

from __future__ import annotations

import copy
import datetime as dt
import hashlib
import importlib.metadata
import json
import re
from collections.abc import Collection, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import mlflow
import pandas as pd
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema, TensorSpec
from mlflow.types.schema import AnyType

import forecastlib
from forecastlib.config import RunConfig, load_config
from forecastlib.data.prices import COLUMNS
from forecastlib.errors import ModelNotFoundError
from forecastlib.forecasts import COLUMNS as FORECAST_COLUMNS
from forecastlib.models.base import components_of
from forecastlib.paths import file_lock, file_name, project_root
from forecastlib.tracking.runs import connect, moved_artifacts, store_file

if TYPE_CHECKING:
    from forecastlib.forecaster import Forecaster

CHAMPION = "champion"
CHALLENGER = "challenger"

SOURCE_TREE = Path(forecastlib.__file__).parent
SERVED_MODEL = SOURCE_TREE / "tracking" / "served_model.py"
SERVED_REQUIREMENTS = (
    "TA-Lib",
    "keras",
    "mlflow",
    "numba",
    "numpy",
    "pandas",
    "pandas-market-calendars",
    "pydantic",
    "scikit-learn",
    "scipy",
    "skops",
    "threadpoolctl",
    "tensorflow",
)
"""Packages that a served model needs. The library itself is stored with the model."""

VERSION_TAG = re.compile(r"v\d+\.\d+\.\d+_\d{8}_\d{6}")
_SECOND = "%Y%m%d_%H%M%S"

_FORECAST_TYPES = {
    "origin": DataType.datetime,
    "horizon": DataType.long,
    "target_date": DataType.datetime,
    **dict.fromkeys(("symbol", "direction", "model", "model_version", "batch_id"), DataType.string),
}

_CHANGE_TAG = "champion."


@dataclass(frozen=True)
class Registered:
    """A registered version.

    Attributes
    ----------
    name : str
        The registered model, for instance ``^IXIC_lstm``.
    number : int
        MLflow's number of the version.
    tags : dict of str
        ``version``, ``config``, ``data_fingerprint``, ``symbol``.
    run_id : str
        The run that trained it.
    """

    name: str
    number: int
    tags: dict[str, str]
    run_id: str


def model_name(symbol: str) -> str:
    """Return the name of a symbol's registered model.

    Examples
    --------
    >>> model_name("^IXIC")
    '^IXIC_lstm'
    """
    return f"{file_name(symbol)}_lstm"


def config_digest(config: RunConfig) -> str:
    """Return a short digest of a configuration. Models with equal digests were trained with the same settings."""
    return hashlib.sha256(json.dumps(config.flat(), sort_keys=True).encode()).hexdigest()[:16]


# Registering versions


def register(forecaster: Forecaster, prices: pd.DataFrame, *, symbol: str) -> Registered:
    """Log a fitted forecaster to the active run, as a model that takes raw prices, and register it.

    The model contains the bundle and the library, so that it can be loaded where the package is not installed.

    Parameters
    ----------
    forecaster
        Its metadata should contain its metrics.
    prices
        Their newest sessions become the input example.
    symbol
        Determines the name of the registered model.

    Returns
    -------
    Registered
        Its tag ``version`` is the version in the forecaster's metadata. If another version of the symbol has that tag,
        having been trained in the same second, it is the tag of the next unused second, in the bundle too.
    """
    _rename_earlier_model(symbol)
    client = connect()
    name = model_name(symbol)
    used = {version.tags.get("version", "") for version in client.search_model_versions(f"name = '{name}'")}
    forecaster = copy.copy(forecaster)  # the caller's keeps its version
    forecaster.metadata = replace(forecaster.metadata, version=_unused_version(forecaster.metadata.version, used))
    example = prices.tail(forecaster.sessions_needed)
    example = example.reset_index().assign(date=[f"{date:%Y-%m-%d}" for date in example.index])
    with TemporaryDirectory() as workspace:
        folder = forecaster.save(Path(workspace) / "bundle")
        logged = mlflow.pyfunc.log_model(
            name="model",
            python_model=str(SERVED_MODEL),
            artifacts={"bundle": str(folder)},
            code_paths=[str(SOURCE_TREE)],
            signature=_signature(),
            input_example=example,
            pip_requirements=[f"{package}=={importlib.metadata.version(package)}" for package in SERVED_REQUIREMENTS],
            registered_model_name=name,
        )
        size = sum(file.stat().st_size for file in folder.rglob("*"))
    parts = [forecaster.model, *components_of(forecaster.model).values()]
    parameters = [float(part.network.count_params()) for part in parts if hasattr(part, "network")]
    mlflow.log_metrics({"bundle_bytes": float(size)} | ({"parameters": max(parameters)} if parameters else {}))
    number = str(logged.registered_model_version)
    tags = {
        "version": forecaster.metadata.version,
        "symbol": symbol,
        "config": config_digest(forecaster.config),
        "data_fingerprint": forecaster.metadata.fingerprint,
    }
    _tag_version(client, name, number, tags)
    return _registered(client.get_model_version(name, number))


def _registered(version: ModelVersion) -> Registered:
    return Registered(version.name, int(version.version), dict(version.tags), version.run_id or "")


def _unused_version(version: str, used: Collection[str]) -> str:
    """Return a version, advanced by seconds until it is unused: the ledger identifies models by their versions.

    Examples
    --------
    >>> _unused_version("v1.0.0_20190102_235959", {"v1.0.0_20190102_235959"})
    'v1.0.0_20190103_000000'
    """
    while version in used:
        library, _, second = version.partition("_")
        version = f"{library}_{dt.datetime.strptime(second, _SECOND) + dt.timedelta(seconds=1):{_SECOND}}"
    return version


def _signature() -> ModelSignature:
    # Dates are a column (over HTTP) or the index (a frame of prices), so the column is not required. With stricter
    # types MLflow would refuse dates that are not text, and integer volumes; the library checks and converts them.
    anything = AnyType()  # type: ignore[no-untyped-call]
    inputs: list[ColSpec | TensorSpec] = [ColSpec(anything, "date", required=False)]
    inputs += [ColSpec(anything, name) for name in COLUMNS]
    outputs: list[ColSpec | TensorSpec] = [
        ColSpec(_FORECAST_TYPES.get(name, DataType.double), name) for name in FORECAST_COLUMNS
    ]
    options = [ParamSpec("as_of", DataType.string, ""), ParamSpec("symbol", DataType.string, "")]
    return ModelSignature(inputs=Schema(inputs), outputs=Schema(outputs), params=ParamSchema(options))


# Finding and loading versions


def find(symbol: str, version: str = CHAMPION) -> Registered | None:
    """Return a registered version, or None if there is none.

    Parameters
    ----------
    symbol, version
        The version is an alias such as ``champion``, MLflow's number of the version, or its tag ``v1.0.0_...``.
    """
    found = _look_up(symbol, version)
    return _look_up(symbol, version) if found is None and _rename_earlier_model(symbol) else found


def _look_up(symbol: str, version: str) -> Registered | None:
    client, name = connect(), model_name(symbol)
    try:
        if version.isdigit():
            found = client.get_model_version(name, version)
        elif VERSION_TAG.fullmatch(version):
            tagged = client.search_model_versions(f"name = '{name}' and tag.version = '{version}'")
            if not tagged:
                return None
            found = tagged[0]
        else:
            found = client.get_model_version_by_alias(name, version)
    except MlflowException as error:
        if error.error_code in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}:
            return None
        raise
    if found.tags.get("symbol", symbol) != symbol:
        return None
    return _registered(found)


def _rename_earlier_model(symbol: str) -> bool:
    """Rename a model from when only the letters and digits of a symbol made its name; return whether there was one.

    A model that has versions of several symbols keeps its name; :func:`find` then returns only those of its symbol.
    """
    earlier = f"{re.sub(r'[^A-Za-z0-9]+', '_', symbol).strip('_') or 'unnamed'}_lstm"
    client = connect()
    symbols = {version.tags.get("symbol") for version in client.search_model_versions(f"name = '{earlier}'")} - {None}
    if len(symbols) != 1 or (name := model_name(str(symbols.pop()))) == earlier:
        return False
    client.rename_registered_model(earlier, name)
    return True


def load(symbol: str, version: str = CHAMPION) -> Forecaster:
    """Load the forecaster of a registered version, from any working directory.

    Raises
    ------
    ModelNotFoundError
        If there is none. The message lists the registered versions and says how to train one.
    """
    from forecastlib.forecaster import Forecaster  # imports TensorFlow, which nothing else here needs

    return Forecaster.load(_bundle_path(symbol, version))


def config_of(symbol: str, version: str = CHAMPION) -> RunConfig:
    """Return the configuration of a registered version, without loading the model.

    Raises
    ------
    ModelNotFoundError
        If there is none.
    """
    return load_config(json.loads(_bundle_path(symbol, version, "config.json").read_text(encoding="utf-8")))


def _bundle_path(symbol: str, version: str, file: str = "") -> Path:
    """Return a local path of a version's bundle, or of a file in it, downloading it if it is on a server."""
    client = connect()
    found = find(symbol, version)
    if found is None:
        known = client.search_model_versions(f"name = '{model_name(symbol)}'")
        registered = ", ".join(f"{each.version} ({each.tags.get('version', '')})" for each in known) or "none"
        raise ModelNotFoundError(
            f"expected a model of {symbol!r} with version or alias {version!r}; registered versions: {registered}; "
            f"train one with: make train SYMBOL={symbol}"
        )
    try:
        return Path(mlflow.artifacts.download_artifacts(f"models:/{found.name}/{found.number}/artifacts/bundle/{file}"))
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        location = client.get_model_version_download_uri(found.name, str(found.number))
        model = moved_artifacts(client, found.run_id, location) if found.run_id else None
        if model is not None and (model / "artifacts" / "bundle" / file).exists():
            return model / "artifacts" / "bundle" / file
        raise ModelNotFoundError(
            f"expected the files of {found.name}, version {found.number}, in {model or location}; they are missing; "
            f"restore them, or train again with: make train SYMBOL={symbol}"
        ) from error


# Champions


def promote(registered: Registered, reason: str, *, change: str = "promoted") -> None:
    """Make a version the champion, and record when and why, as a ``change`` of the :func:`history`."""
    client = connect()
    now = _now()
    client.set_registered_model_alias(registered.name, CHAMPION, str(registered.number))
    if str(client.get_registered_model(registered.name).aliases.get(CHALLENGER)) == str(registered.number):
        client.delete_registered_model_alias(registered.name, CHALLENGER)
    _tag_version(client, registered.name, str(registered.number), {"champion_since": now, "reason": reason})
    version = registered.tags.get("version", "")
    entry = {"number": registered.number, "version": version, "since": now, "change": change, "reason": reason}
    # Named by the time: names sort, and a new one needs no count of those before.
    client.set_registered_model_tag(registered.name, f"{_CHANGE_TAG}{now}".replace(":", ""), json.dumps(entry))


def challenge(registered: Registered, reason: str) -> None:
    """Make a version the challenger; the champion stays."""
    client = connect()
    client.set_registered_model_alias(registered.name, CHALLENGER, str(registered.number))
    _tag_version(client, registered.name, str(registered.number), {"challenger_since": _now(), "reason": reason})


def history(symbol: str) -> pd.DataFrame:
    """Return every change of champion, oldest first.

    Returns
    -------
    DataFrame
        One row per change: ``number`` and ``version`` of the new champion, ``since`` and ``until`` (UTC; NaT for the
        present champion), ``change`` ("promoted" or "rolled back") and its ``reason``. Empty if there never was a
        champion.
    """
    found = connect().search_registered_models(f"name = '{model_name(symbol)}'")
    tags = sorted(found[0].tags.items()) if found else []
    entries = [json.loads(value) for name, value in tags if name.startswith(_CHANGE_TAG)]
    frame = pd.DataFrame(entries, columns=["number", "version", "since", "change", "reason"])
    frame = frame.astype({"number": "int64"})
    frame["since"] = pd.to_datetime(frame["since"], utc=True).astype("datetime64[us, UTC]")
    frame.insert(3, "until", frame["since"].shift(-1))
    return frame


def roll_back(symbol: str, reason: str, *, to: str | None = None) -> Registered:
    """Make an earlier champion the champion again.

    Parameters
    ----------
    symbol, reason
        The reason is recorded in the history.
    to
        Number or tag ``v1.0.0_...`` of an earlier champion; None: the one before the present one. A second call goes
        back one further, and never returns to a champion that was rolled back from.

    Returns
    -------
    Registered
        The new champion.

    Raises
    ------
    ModelNotFoundError
        If there is no such earlier champion, or it was deleted.

    Examples
    --------
    Versions 1, 2 and 3 became champion in that order. Rolling back makes 2 the champion, rolling back again 1.
    """
    with contest_lock(symbol):
        changes = history(symbol)
        earlier = dict(zip(changes["number"].tolist(), changes["version"], strict=True))
        line: list[int] = []  # of champions that were not rolled back from
        for number, change in zip(changes["number"].tolist(), changes["change"], strict=True):
            if change == "rolled back" and number in line:
                del line[line.index(number) :]
            line.append(number)
        if line:
            del earlier[line[-1]]
        predecessors = [number for number in line if number in earlier]
        wanted = to or (str(predecessors[-1]) if predecessors else None)
        chosen = find(symbol, wanted) if wanted else None
        if chosen is None or chosen.number not in earlier:
            listed = ", ".join(f"{number} ({version})" for number, version in earlier.items()) or "none"
            raise ModelNotFoundError(
                f"expected an earlier champion of {symbol!r} to roll back to{f', {to}' if to else ''}; "
                f"earlier champions: {listed}; see them with: forecastlib champion {symbol}"
            )
        promote(chosen, reason, change="rolled back")
    return chosen


def contest_lock(symbol: str) -> AbstractContextManager[None]:
    """Return a lock under which one process at a time decides which version of a symbol is champion.

    It excludes all processes that use the same SQLite store. With a server or another database, which offer no such
    lock, it excludes those of the same project folder.
    """
    connect()
    file = store_file()
    folder = file.parent if file else project_root() / "mlruns"
    return file_lock(folder / f"{model_name(symbol)}.lock")


def _now() -> str:
    return f"{dt.datetime.now(dt.UTC):%Y-%m-%dT%H:%M:%S.%fZ}"


def _tag_version(client: mlflow.MlflowClient, name: str, number: str, tags: Mapping[str, str]) -> None:
    for key, value in tags.items():
        client.set_model_version_tag(name, number, key, value)
