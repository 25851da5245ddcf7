"""Configuration: frozen settings, from the parameters of a notebook to the saved bundle.

A :class:`RunConfig` holds everything that determines a training run. It is built from the flat parameters of a notebook
or of ``make`` (:meth:`RunConfig.from_parameters`), logged to MLflow in flat form (:meth:`RunConfig.flat`) and saved as
JSON in the bundle of the model, so that loading a model never depends on today's defaults.

Examples
--------
>>> config = RunConfig.from_parameters(symbol="^GSPC", epochs=5, horizons=[5, 10])
>>> config.data.symbol, config.train.epochs, config.window.horizons
('^GSPC', 5, (5, 10))
>>> config.train.weights_for(config.window.horizons)
(0.5, 0.5)
"""

from __future__ import annotations

import datetime as dt
import difflib
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from forecastlib.errors import ConfigError

Adjust = Literal["auto", "none", "close"]
FeatureForm = Literal["relative", "level"]
Target = Literal["log_return", "vol_scaled", "price"]
Scaler = Literal["minmax", "standard", "robust"]
ConfidenceMethod = Literal["calibrated", "mc_dropout"]

Share = Annotated[float, Field(gt=0.0, lt=1.0)]
Rate = Annotated[float, Field(ge=0.0, lt=1.0)]
Units = Annotated[int, Field(gt=0, le=4096)]


def _split_text(value: object) -> object:
    """Split ``"7,14,30"`` into a list, as command lines only have text; wrap a single number."""
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    if isinstance(value, (int, float)):
        return [value]
    return value


Many = BeforeValidator(_split_text)

MIN_DATE_LENGTH = 8
"""Characters of the shortest date with a year, a month and a day."""


def _read_date(value: object) -> object:
    """Read a date as every other place does that takes one: ``"20150101"`` is one, a year alone is not."""
    if not isinstance(value, (str, int)) or isinstance(value, bool):
        return value
    if len(str(value).strip()) < MIN_DATE_LENGTH:
        raise ValueError("expected a date such as '2018-12-31'")
    import pandas as pd  # takes long, and most settings are none

    try:
        return pd.Timestamp(str(value)).date()
    except (ValueError, TypeError, OverflowError):
        raise ValueError("expected a date such as '2018-12-31'") from None


Date = Annotated[dt.date, BeforeValidator(_read_date)]


class _Frozen(BaseModel):
    """Frozen settings that reject unknown names; invalid values raise a :class:`ConfigError`."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise _config_error(type(self), error) from None


class DataConfig(_Frozen):
    """Which prices are read, and from where."""

    symbol: str = Field(default="^IXIC", min_length=1, max_length=32, description="Symbol as the source knows it.")
    source: str = Field(default="bundled", min_length=1, description="Source, or comma-separated chain tried in order.")
    date_format: str | None = Field(default=None, description="Date format of files; None: inferred from the column.")
    decimal: Literal[".", ","] | None = Field(default=None, description="Decimal separator; None: inferred.")
    adjust: Adjust = Field(default="auto", description="Scale prices by the adjusted close; auto: where it differs.")
    start: Date | None = Field(default=None, description="First session; None: the oldest there is.")
    end: Date | None = Field(default=None, description="Last session; None: the newest there is.")
    calendar: str = Field(default="auto", description="Trading calendar; auto: by symbol, else inferred.")
    repair: bool = Field(default=False, description="Repair prices where nothing has to be invented for it.")
    strict: bool = Field(default=False, description="Make every warning of the quality checks an error.")
    lenient: Annotated[tuple[str, ...], Many] = Field(
        default=(), description="Quality checks whose findings are warnings, not errors."
    )
    force_refresh: bool = Field(default=False, description="Fetch again even if prices were cached within a day.")

    @property
    def quality(self) -> dict[str, Any]:
        """The arguments for :func:`forecastlib.check_quality`."""
        severities = dict.fromkeys(self.lenient, "warning")
        return {"calendar": self.calendar, "strict": self.strict, "severities": severities}

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.start and self.end and self.start >= self.end:
            raise ValueError(f"start must be before end; got start={self.start}, end={self.end}")
        return self


class FeatureConfig(_Frozen):
    """Which features are computed, and in which form."""

    form: FeatureForm = Field(
        default="relative", description="relative: free of the price level; level: prices as they are."
    )
    groups: Annotated[tuple[str, ...], Many] = Field(default=(), description="Groups of features; empty: all.")
    names: Annotated[tuple[str, ...], Many] = Field(default=(), description="Names of features; empty: all.")
    custom: Annotated[tuple[str, ...], Many] = Field(
        default=(), description="Your own features: registered names or package.module:function."
    )


class WindowConfig(_Frozen):
    """What a sample is: a window of features, and the labels that follow it."""

    lookback: int = Field(default=60, ge=1, le=2000, description="Sessions per window, up to and including the origin.")
    horizons: Annotated[tuple[Annotated[int, Field(gt=0, le=1000)], ...], Many] = Field(
        default=(7, 14, 30), min_length=1, description="Trading sessions ahead of the origin, increasing."
    )
    target: Target = Field(
        default="log_return", description="What the network predicts; always converted back to prices."
    )

    @model_validator(mode="after")
    def _increasing(self) -> Self:
        if any(a >= b for a, b in zip(self.horizons, self.horizons[1:], strict=False)):
            raise ValueError(f"horizons must increase; got horizons={self.horizons}")
        return self


class SplitConfig(_Frozen):
    """How samples are split by time; the test set is what remains after training and validation."""

    train_share: Share = Field(default=0.70, description="Share of the labelled origins for training, before purging.")
    validation_share: Share = Field(default=0.15, description="Share for validation, which follows.")
    embargo: int = Field(
        default=0, ge=0, le=1000, description="Sessions dropped before each later set, in addition to the purge."
    )

    @model_validator(mode="after")
    def _leaves_a_test_set(self) -> Self:
        if self.train_share + self.validation_share >= 1.0:
            raise ValueError(
                "train_share + validation_share must leave something for the test set; "
                f"got {self.train_share} + {self.validation_share}"
            )
        return self


class ModelConfig(_Frozen):
    """The model, the network and its scalers, and how the direction of a forecast is called."""

    model: str = Field(
        default="combination", min_length=1, description="Name of the model, or package.module:factory of your own."
    )
    lstm_units: Annotated[tuple[Units, ...], Many] = Field(
        default=(50, 50), min_length=1, description="Units of each LSTM layer."
    )
    dense_units: Annotated[tuple[Units, ...], Many] = Field(
        default=(25,), description="Units of each shared dense layer."
    )
    branch_units: Units = Field(default=16, description="Units of the dense layer before each output.")
    dropout: Rate = Field(default=0.2, description="Dropout rate of inputs and dense layers.")
    recurrent_dropout: Rate = Field(
        default=0.2, description="Dropout rate of the recurrent state, one mask per window."
    )
    feature_scaler: Scaler = Field(default="standard", description="Scaling of features, fitted on training rows only.")
    target_scaler: Scaler = Field(default="standard", description="Scaling of the targets, fitted likewise.")
    confidence_method: ConfidenceMethod = Field(
        default="calibrated", description="How the confidence of a call is computed."
    )
    mc_samples: int = Field(default=100, ge=2, le=10_000, description="Stochastic passes of MC dropout per origin.")
    direction_threshold: float = Field(
        default=0.005, ge=0.0, lt=1.0, description="Relative change beyond which a call is up or down."
    )


class TrainConfig(_Frozen):
    """How the network is trained."""

    epochs: int = Field(default=100, ge=1, le=10_000, description="Maximum number of epochs.")
    batch_size: int = Field(default=32, ge=1, le=65_536, description="Windows per batch.")
    learning_rate: float = Field(default=1e-3, gt=0.0, le=1.0, description="Initial learning rate of Adam.")
    loss_weights: Annotated[tuple[Annotated[float, Field(ge=0.0)], ...], Many] | None = Field(
        default=None, description="Loss weight per horizon; None: 0.5, 0.3, 0.2 for three horizons, else equal."
    )
    patience: int = Field(default=6, ge=1, description="Epochs without a better validation loss before stopping.")
    reduce_patience: int = Field(default=3, ge=1, description="Epochs without a better one before reducing the rate.")
    reduce_factor: Share = Field(default=0.5, description="Factor by which the learning rate is reduced.")
    seed: int = Field(default=0, ge=0, lt=2**31, description="Seed of initial weights, dropout and shuffling.")

    def weights_for(self, horizons: tuple[int, ...]) -> tuple[float, ...]:
        """Return the weight of each horizon's loss.

        Parameters
        ----------
        horizons
            The horizons of the run, in order.

        Returns
        -------
        tuple of float
            One weight per horizon, in the same order.
        """
        if self.loss_weights is not None:
            return self.loss_weights
        if len(horizons) == 3:
            return (0.5, 0.3, 0.2)
        return (1.0 / len(horizons),) * len(horizons)


class CalibrationConfig(_Frozen):
    """How point forecasts become predictive distributions, and the prior of the drift."""

    network_weight: float | None = Field(
        default=None,
        ge=0.0,
        le=1.0,
        description="Weight of the network against the drift; None: what validation supports.",
    )
    growth: float = Field(default=0.05, gt=-0.5, lt=0.5, description="Prior mean of the annual growth of an index.")
    growth_sd: float = Field(default=0.04, ge=0.0, lt=1.0, description="Prior standard deviation of the annual growth.")
    half_life: float = Field(
        default=500.0, gt=0.0, description="Sessions after which the weight of an observation in calibration halves."
    )


class RunConfig(_Frozen):
    """Everything that determines a run."""

    data: DataConfig = DataConfig()
    features: FeatureConfig = FeatureConfig()
    window: WindowConfig = WindowConfig()
    split: SplitConfig = SplitConfig()
    model: ModelConfig = ModelConfig()
    train: TrainConfig = TrainConfig()
    calibration: CalibrationConfig = CalibrationConfig()

    @model_validator(mode="after")
    def _one_weight_per_horizon(self) -> Self:
        weights = self.train.loss_weights
        if weights is not None and len(weights) != len(self.window.horizons):
            raise ValueError(
                f"loss_weights must have one weight for each of the horizons {self.window.horizons}; got {weights}"
            )
        return self

    @classmethod
    def from_parameters(cls, **parameters: Any) -> Self:
        """Build a configuration from flat parameters, such as those of a notebook or a command line.

        Parameters
        ----------
        **parameters
            Fields of any section by name, for instance ``symbol="^GSPC"`` or ``epochs=5``; the others keep their
            defaults.

        Returns
        -------
        RunConfig

        Raises
        ------
        ConfigError
            If a name is unknown (the nearest known one is named) or a value is out of range.

        Examples
        --------
        >>> RunConfig.from_parameters(lookback=90).window.lookback
        90
        """
        home = {field: section for section, model in SECTIONS.items() for field in model.model_fields}
        sections: dict[str, dict[str, Any]] = {section: {} for section in SECTIONS}
        for name, value in parameters.items():
            if name not in home:
                raise ConfigError(unknown_name("parameter", name, home))
            sections[home[name]][name] = value
        built: dict[str, Any] = {section: model(**sections[section]) for section, model in SECTIONS.items()}
        return cls(**built)

    def flat(self) -> dict[str, Any]:
        """Return all settings by name, as JSON types; :meth:`from_parameters` accepts the result."""
        sections = self.model_dump(mode="json")
        return {name: value for section in SECTIONS for name, value in sections[section].items()}

    def replace(self, **parameters: Any) -> Self:
        """Return a copy in which some flat parameters have other values.

        Examples
        --------
        >>> RunConfig().replace(target="price", form="level").window.target
        'price'
        """
        return self.from_parameters(**(self.flat() | parameters))


SECTIONS: dict[str, type[_Frozen]] = {
    "data": DataConfig,
    "features": FeatureConfig,
    "window": WindowConfig,
    "split": SplitConfig,
    "model": ModelConfig,
    "train": TrainConfig,
    "calibration": CalibrationConfig,
}
"""The sections of :class:`RunConfig`. No two sections share a field's name, so flat parameters are unambiguous."""


def unknown_name(kind: str, name: str, known: Iterable[str]) -> str:
    """Word the message for a name that does not exist, with the nearest one that does.

    Examples
    --------
    >>> unknown_name("parameter", "epoch", ["epochs", "symbol"])
    "unknown parameter 'epoch'; did you mean 'epochs'? Known: epochs, symbol"
    """
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"unknown {kind} {name!r}; {hint}Known: {', '.join(names)}"


def _config_error(model: type[_Frozen], error: ValidationError) -> ConfigError:
    """Describe what pydantic found as this project does: what was expected, what was given, what to do."""
    lines = []
    for finding in error.errors():
        name = ".".join(str(part) for part in finding["loc"])
        cause = finding.get("ctx", {}).get("error")
        if isinstance(cause, ConfigError):  # a section given as a mapping has already worded its own
            lines.append(str(cause))
        elif finding["type"] == "extra_forbidden":
            lines.append(unknown_name("setting", name, model.model_fields))
        elif not name:  # a rule across several settings, worded by its validator
            lines.append(str(finding["msg"]).removeprefix("Value error, "))
        else:
            lines.append(f"{name}: {finding['msg']}; got {finding['input']!r}")
    return ConfigError(f"{model.__name__}: " + "; ".join(lines))


_ADDED: dict[str, dict[str, Any]] = {"data": {"repair": False, "strict": False, "lenient": [], "force_refresh": False}}
"""What settings were before they could be set, for configurations saved then."""


def load_config(saved: Mapping[str, Any]) -> RunConfig:
    """Rebuild a configuration from its saved JSON form, taking nothing from today's defaults.

    Parameters
    ----------
    saved
        What ``RunConfig.model_dump(mode="json")`` gave.

    Raises
    ------
    ConfigError
        If a section or a setting is missing, or not known to this version.
    """
    for name, model in SECTIONS.items():
        section = saved.get(name)
        if not isinstance(section, Mapping):
            raise ConfigError(f"expected a section {name!r} in the saved configuration; got {sorted(saved)}")
        section = _ADDED.get(name, {}) | dict(section)
        missing = sorted(set(model.model_fields) - set(section))
        if missing:
            raise ConfigError(f"the saved configuration lacks {', '.join(missing)} in its section {name!r}")
    unknown = sorted(set(saved) - set(SECTIONS))
    if unknown:
        raise ConfigError(unknown_name("section", unknown[0], SECTIONS))
    complete = {name: _ADDED.get(name, {}) | dict(saved[name]) for name in SECTIONS}
    built: dict[str, Any] = {name: model(**complete[name]) for name, model in SECTIONS.items()}
    return RunConfig(**built)
