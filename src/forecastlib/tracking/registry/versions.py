"""Versions of a registered model: registering, finding and loading them."""

from __future__ import annotations

import copy
import datetime as dt
import hashlib
import importlib.metadata
import json
import re
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import mlflow
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema, TensorSpec
from mlflow.types.schema import AnyType

import forecastlib
from forecastlib.config import RunConfig, load_config
from forecastlib.data.prices import COLUMNS
from forecastlib.errors import ModelNotFoundError
from forecastlib.forecasts import COLUMNS as FORECAST_COLUMNS
from forecastlib.paths import slug
from forecastlib.tracking.runs import connect

if TYPE_CHECKING:
    from forecastlib.forecaster import Forecaster

CHAMPION = "champion"

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
    "tensorflow",
)
"""What a served model needs to be installed; the library itself travels with the model."""

VERSION_TAG = re.compile(r"v\d+\.\d+\.\d+_\d{8}_\d{6}")
_SECOND = "%Y%m%d_%H%M%S"

_FORECAST_TYPES = {
    "origin": DataType.datetime,
    "horizon": DataType.long,
    "target_date": DataType.datetime,
    **dict.fromkeys(("symbol", "direction", "model_version", "batch_id"), DataType.string),
}


@dataclass(frozen=True)
class Registered:
    """A registered version.

    Attributes
    ----------
    name : str
        The registered model, for instance ``IXIC_lstm``.
    number : int
        MLflow's number of the version.
    tags : dict of str
        ``version``, ``config``, ``data_fingerprint``, ``symbol``.
    run_id : str
        The run that made it.
    """

    name: str
    number: int
    tags: dict[str, str]
    run_id: str


def model_name(symbol: str) -> str:
    """Return the registered model's name of a symbol.

    Examples
    --------
    >>> model_name("^IXIC")
    'IXIC_lstm'
    """
    return f"{slug(symbol)}_lstm"


def config_digest(config: RunConfig) -> str:
    """Return a short digest of a configuration, to tell whether two models were trained alike."""
    return hashlib.sha256(json.dumps(config.flat(), sort_keys=True).encode()).hexdigest()[:16]


def register(forecaster: Forecaster, prices: pd.DataFrame, *, symbol: str) -> Registered:
    """Log a fitted forecaster to the active run, as a model that takes raw prices, and register it.

    The model holds the bundle and the library, so that it loads where neither the source tree nor the package is.

    Parameters
    ----------
    forecaster
        With its metrics in the metadata.
    prices
        Their newest sessions become the input example.
    symbol
        Names the registered model.

    Returns
    -------
    Registered
        Its tag ``version`` is that of the forecaster, unless another version of the symbol has it already, trained in
        the same second: then, also in the bundle, the tag of the next second that is free.
    """
    client = connect()
    name = model_name(symbol)
    taken = {one.tags.get("version", "") for one in client.search_model_versions(f"name = '{name}'")}
    forecaster = copy.copy(forecaster)  # the caller's keeps the tag that it has
    forecaster.metadata = replace(forecaster.metadata, version=_free(forecaster.metadata.version, taken))
    with TemporaryDirectory() as workspace:
        folder = forecaster.save(Path(workspace) / "bundle")
        logged = mlflow.pyfunc.log_model(
            name="model",
            python_model=str(SERVED_MODEL),
            artifacts={"bundle": str(folder)},
            code_paths=[str(SOURCE_TREE)],
            signature=_signature(),
            input_example=_input_example(prices.tail(forecaster.sessions_needed)),
            pip_requirements=[f"{package}=={importlib.metadata.version(package)}" for package in SERVED_REQUIREMENTS],
            registered_model_name=name,
        )
        size = sum(file.stat().st_size for file in folder.iterdir())
    mlflow.log_metrics({"bundle_bytes": size, "parameters": forecaster.network.count_params()})
    number = int(logged.registered_model_version)
    tags = {
        "version": forecaster.metadata.version,
        "symbol": symbol,
        "config": config_digest(forecaster.config),
        "data_fingerprint": forecaster.metadata.fingerprint,
    }
    for key, value in tags.items():
        client.set_model_version_tag(name, str(number), key, value)
    return Registered(name, number, tags, client.get_model_version(name, str(number)).run_id or "")


def _free(version: str, taken: Collection[str]) -> str:
    """Return the first tag that is not taken, from the second of this one on: the ledger tells versions by their tags.

    Examples
    --------
    >>> _free("v1.0.0_20190102_235959", {"v1.0.0_20190102_235959"})
    'v1.0.0_20190103_000000'
    """
    while version in taken:
        library, _, second = version.partition("_")
        version = f"{library}_{dt.datetime.strptime(second, _SECOND) + dt.timedelta(seconds=1):{_SECOND}}"
    return version


def _input_example(prices: pd.DataFrame) -> pd.DataFrame:
    return prices.reset_index().assign(date=[f"{date:%Y-%m-%d}" for date in prices.index])


def _signature() -> ModelSignature:
    # Dates may come as a column (over HTTP) or as the index (a frame of prices), so the column is not required. MLflow
    # would refuse dates that are no text and volumes that are whole numbers; the library checks and converts by itself.
    anything = AnyType()  # type: ignore[no-untyped-call]
    columns: list[ColSpec | TensorSpec] = [ColSpec(anything, "date", required=False)]
    columns += [ColSpec(anything, name) for name in COLUMNS]
    answer: list[ColSpec | TensorSpec] = [
        ColSpec(_FORECAST_TYPES.get(name, DataType.double), name) for name in FORECAST_COLUMNS
    ]
    options = [ParamSpec("as_of", DataType.string, ""), ParamSpec("symbol", DataType.string, "")]
    return ModelSignature(inputs=Schema(columns), outputs=Schema(answer), params=ParamSchema(options))


def find(symbol: str, version: str = CHAMPION) -> Registered | None:
    """Return a registered version, or None if there is none.

    Parameters
    ----------
    symbol
        Symbol.
    version
        An alias such as ``champion``, MLflow's number of the version, or its tag ``v1.0.0_...``.
    """
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
    return Registered(name, int(found.version), dict(found.tags), found.run_id or "")


def load(symbol: str, version: str = CHAMPION) -> Forecaster:
    """Load the forecaster of a registered version.

    Raises
    ------
    ModelNotFoundError
        If there is none: the message says what there is, and how to train one.
    """
    from forecastlib.forecaster import Forecaster  # loads TensorFlow, which nothing else here needs

    return Forecaster.load(_file_of(symbol, version, ""))


def config_of(symbol: str, version: str = CHAMPION) -> RunConfig:
    """Return the configuration of a registered version, without loading the model.

    Raises
    ------
    ModelNotFoundError
        If there is none.
    """
    return load_config(json.loads(_file_of(symbol, version, "config.json").read_text(encoding="utf-8")))


def _file_of(symbol: str, version: str, file: str) -> Path:
    """Bring a file of a version's bundle, or the bundle itself, to this machine."""
    found = find(symbol, version)
    if found is None:
        known = connect().search_model_versions(f"name = '{model_name(symbol)}'")
        there = ", ".join(f"{one.version} ({one.tags.get('version', '')})" for one in known) or "none"
        raise ModelNotFoundError(
            f"expected a model of {symbol!r} with version or alias {version!r}; registered versions: {there}; "
            f"train one with: make train SYMBOL={symbol}"
        )
    try:
        return Path(mlflow.artifacts.download_artifacts(f"models:/{found.name}/{found.number}/artifacts/bundle/{file}"))
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        raise ModelNotFoundError(
            f"expected the files of {found.name}, version {found.number}, in the store; they are gone; restore them, "
            f"or train again with: make train SYMBOL={symbol}"
        ) from error
