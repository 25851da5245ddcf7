"""The use cases: train, forecast, backtest and replay, each readable from top to bottom.

Imports that only training needs stand inside the functions: they take longer than a forecast.
"""

from __future__ import annotations

import math
import resource
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import mlflow
import numpy as np
import pandas as pd

from forecastlib.bundle import git_commit
from forecastlib.config import DataConfig, RunConfig
from forecastlib.data.prices import fingerprint, require_prices
from forecastlib.data.quality import QualityReport, check_quality
from forecastlib.data.sources import fetch_prices
from forecastlib.errors import (
    ConfigError,
    DataQualityError,
    IncompatibleModelError,
    ModelNotFoundError,
    NotEnoughDataError,
)
from forecastlib.forecaster import Forecaster, Origins
from forecastlib.forecasts import Forecast
from forecastlib.ledger import Ledger
from forecastlib.models import BASELINES, Model
from forecastlib.models.base import components_of, thinning_of
from forecastlib.paths import current_user, file_name
from forecastlib.processes import report_progress
from forecastlib.tracking import registry, runs
from forecastlib.tracking.registry import CHAMPION, Registered

if TYPE_CHECKING:
    from forecastlib.auditing import AuditReport
    from forecastlib.evaluation.backtest_result import BacktestResult
    from forecastlib.evaluation.evaluate import Evaluation


@dataclass(frozen=True)
class TrainResult:
    """What a training led to.

    Attributes
    ----------
    status : {"completed", "skipped"}
    symbol : str
    run_id : str
        The run that made the model; of the champion if training was skipped.
    version : str
        ``v1.0.0_YYYYMMDD_HHMMSS``, likewise.
    promoted : bool
        Whether the new version became champion.
    reason : str
        Why training was skipped, or why the version was promoted or not.
    metrics : dict
        Scores on the test set, by name and horizon; those of the network alone begin with ``lstm/``.
    weights : dict
        The weights of the combination.
    history : DataFrame
        Losses of each epoch; empty if training was skipped.
    """

    status: Literal["completed", "skipped"]
    symbol: str
    run_id: str
    version: str
    promoted: bool
    reason: str
    metrics: dict[str, float]
    weights: dict[str, float] = field(default_factory=dict)
    history: pd.DataFrame = field(default_factory=pd.DataFrame, repr=False, compare=False)


def fetch(config: DataConfig) -> tuple[pd.DataFrame, QualityReport]:
    """Fetch prices and check them.

    Raises
    ------
    SourceError
        If no source has them.
    DataQualityError
        If they have errors; warnings are left to the reader of the report.
    """
    prices = fetch_prices(config)
    report = check_quality(prices, **config.quality)
    report.raise_for_errors()
    return prices, report


def train(
    config: RunConfig | None = None,
    *,
    models: Sequence[str | Model] = BASELINES,
    register: bool = True,
    force_retrain: bool = False,
    callbacks: Sequence[Any] = (),
    progress: bool = True,
) -> TrainResult:
    """Train a model, evaluate it on the test set with other models, log it to MLflow and register it.

    It becomes champion if there is none yet, or if it does better than the champion on the newest origins that neither
    was fitted on; otherwise it is the challenger.

    Parameters
    ----------
    config
        The run; ``config.model.model`` names the model.
    models
        Other models, by name or object, that are fitted and scored on the same samples.
    register
        Whether to register the model; otherwise it is only logged, and what is served stays as it is.
    force_retrain
        Train although the champion comes from the same configuration and the same prices.
    callbacks
        Further Keras callbacks.
    progress
        Whether to show a progress bar.

    Raises
    ------
    ForecastError
        Of any kind; the run is then marked FAILED, and the registry is unchanged.
    """
    from forecastlib.auditing import SET_CHECKS, audit

    config = config or RunConfig()
    symbol = config.data.symbol
    runs.connect()
    prices, report = fetch(config.data)
    config = config.replace(force_refresh=False)  # forecasts are not to fetch anew each time
    champion = None if force_retrain or not register else registry.find(symbol)
    reusable = _reusable_champion(champion, config, prices)
    if champion is not None and reusable is not None:
        return _skipped(champion, reusable)
    tags = {"symbol": symbol, "git_commit": git_commit() or "unknown", "source": str(prices.attrs.get("source", ""))}
    with runs.run(f"{file_name(symbol)}_train", tags) as run_id:
        runs.log_config(config)
        runs.log_data(prices, report.checks)
        forecaster = Forecaster(config)
        samples = forecaster.recipe.prepare(prices, config)
        _log_audit(audit(prices, forecaster, samples=samples, checks=SET_CHECKS))
        epochs = [*callbacks, _epoch_report()] if _trains_in_epochs(forecaster) else callbacks
        forecaster.fit(prices, samples=samples, callbacks=epochs, progress=progress)
        runs.log_history(run_id, forecaster.history)
        evaluation = evaluate_test_set(forecaster, prices, models)
        weights = {f"weight_{name}": weight for name, weight in forecaster.weights.items()}
        metrics = _metrics(evaluation, forecaster) | weights
        forecaster.metadata = forecaster.metadata.with_metrics(metrics)
        _log_evaluation(evaluation, forecaster.model.name)
        mlflow.log_metrics(weights | _costs(forecaster, prices))
        version, promoted, reason = forecaster.metadata.version, False, "not registered, as asked"
        if register:  # last, when nothing else can fail
            registered, promoted, reason = _register(forecaster, prices, symbol)
            version = registered.tags["version"]
        mlflow.set_tags({"model_version": version, "promoted": str(promoted), "reason": reason})
    return _reported(
        TrainResult(
            "completed",
            symbol,
            run_id,
            version,
            promoted,
            reason,
            forecaster.metadata.metrics,
            dict(forecaster.weights),
            forecaster.history,
        )
    )


def evaluate_test_set(
    forecaster: Forecaster, prices: pd.DataFrame, models: Sequence[str | Model] = BASELINES, *others: Forecast
) -> Evaluation:
    """Evaluate a forecaster on the test set of the prices that it was fitted on, beside other models.

    Parameters
    ----------
    forecaster
        Fitted on these prices, or loaded.
    prices
        Prices of one symbol.
    models
        Further models, by name or object, that are fitted on the same samples. The components of the forecaster's model
        are scored as well, under their own names, unless their forecasts take long.
    *others
        Further forecasts of the same origins, by models that were not fitted on that test set.
    """
    from forecastlib.evaluation.evaluate import evaluate

    if forecaster.samples is None:
        forecaster.prepare_again(prices)
    components = _quick_components(forecaster)
    return evaluate([*forecaster.forecast_test_set([*components, *models]), *others], prices)


def forecast(
    symbol: str, *, as_of: Origins | None = None, version: str = CHAMPION, requested_by: str | None = None
) -> pd.DataFrame:
    """Forecast with a registered model, from the source that it was trained from, and record it in the ledger.

    The newest prices are used, also if the model was trained up to an ``end``. Earlier forecasts of the symbol whose
    target session is over are settled on the way.

    Parameters
    ----------
    symbol
        Symbol.
    as_of
        The origin: the last session on or before this date; None: the newest session.
    version
        An alias such as ``champion``, the number of a version, or its tag ``v1.0.0_...``.
    requested_by
        Who asked, for the ledger; None: the user of the operating system.

    Returns
    -------
    DataFrame
        A forecast frame.

    Raises
    ------
    ModelNotFoundError
        If there is no such model.
    LedgerError
        If it cannot be recorded.
    """
    forecaster = registry.load(symbol, version)
    prices = fetch_prices(forecaster.config.replace(end=None).data)
    forecasts = forecaster.predict(prices, as_of)
    with Ledger() as ledger:
        ledger.settle(prices)
        ledger.record(forecasts, requested_by or current_user())
    return forecasts


def backtest(
    prices: pd.DataFrame,
    config: RunConfig | None = None,
    *,
    models: Sequence[str | Model] | None = None,
    folds: int = 5,
    seeds: int | Sequence[int] = (0, 1, 2),
    test_size: int | None = None,
    expanding: bool = True,
    scheduler: str | None = None,
    workers: int | None = None,
    progress: bool = True,
) -> BacktestResult:
    """Refit models along time, score their forecasts of what followed, and log the result to MLflow.

    See :func:`forecastlib.evaluation.backtest.run_backtest` for the parameters and the result.

    Examples
    --------
    >>> result = backtest(prices, RunConfig(), folds=5, seeds=(0, 1, 2))        # doctest: +SKIP
    >>> result.scores.loc["combination", ["skill", "skill_low", "skill_high"]]  # doctest: +SKIP
    """
    from forecastlib.evaluation.backtest import run_backtest

    result = run_backtest(
        prices,
        config,
        models=models,
        folds=folds,
        seeds=seeds,
        test_size=test_size,
        expanding=expanding,
        scheduler=scheduler,
        workers=workers,
        progress=progress,
    )
    return runs.log_backtest(result, prices, config or RunConfig())


def replay(
    prices: pd.DataFrame,
    config: RunConfig,
    ledger: Ledger,
    *,
    years: float = 2.0,
    every: int = 5,
    refits: int = 4,
    progress: bool = True,
) -> pd.DataFrame:
    """Forecast the last years again, each origin with a model of that time, record the forecasts and settle them.

    The years are cut into ``refits`` periods of equal length. The model of a period is trained on what was known at its
    first origin, in the same way as any other, including scalers, early stopping and calibration.

    Parameters
    ----------
    prices
        Prices of one symbol; ``attrs["symbol"]`` names it.
    config
        How every model is trained.
    ledger
        Where forecasts are recorded. Use a separate one, such as ``Ledger("sqlite://")``: replayed forecasts were made
        with hindsight of the design, if not of prices, and do not belong to the real history.
    years
        How far back.
    every
        Sessions from one forecast to the next.
    refits
        Models to train.
    progress
        Whether to show a progress bar for each training.

    Returns
    -------
    DataFrame
        Of :meth:`~forecastlib.ledger.Ledger.history`, oldest first: the replayed forecasts with their outcomes.
        ``model_version`` ends in the date of the model, as in ``v1.0.0_20261122_222805@20170103``.

    Raises
    ------
    ConfigError
        If a parameter is out of range.
    DataQualityError
        If the prices are invalid or do not state their symbol.
    NotEnoughDataError
        If there are fewer origins than models, or too few sessions before them.

    Examples
    --------
    With 20 sessions in the years replayed, ``every=5`` and ``refits=2``, the origins are sessions 0, 5, 10 and 15. The
    first model knows sessions up to 0 and forecasts from 0 and 5, the second knows sessions up to 10 and forecasts from
    10 and 15.
    """
    require_prices(prices)
    symbol = prices.attrs.get("symbol")
    if not symbol:
        raise DataQualityError("expected the symbol of the prices in attrs['symbol']; got none; set it")
    if not (math.isfinite(years) and years > 0 and every >= 1 and refits >= 1):
        raise ConfigError(
            f"expected years > 0, every >= 1 and refits >= 1; got years={years}, every={every}, refits={refits}"
        )
    index = pd.DatetimeIndex(prices.index)
    origins = index[index > index[-1] - pd.Timedelta(days=365.25 * years)][::every]
    if len(origins) < refits:
        raise NotEnoughDataError(f"expected at least one origin for each of {refits} models; got {len(origins)}")
    versions = []
    for part in np.array_split(np.arange(len(origins)), refits):
        period = origins[part]
        forecaster = Forecaster(config).fit(prices.loc[: period[0]], progress=progress)
        versions.append(f"{forecaster.metadata.version}@{period[0]:%Y%m%d}")
        forecasts = forecaster.predict(prices.loc[: period[-1]], period)
        forecasts.attrs.pop("known_until", None)  # each is made as if on the day of its origin
        ledger.record(forecasts.assign(model_version=versions[-1]), "replay")
    ledger.settle(prices)
    rows = ledger.history(symbol=str(symbol), since=origins[0])
    return rows[rows["model_version"].isin(versions)].sort_values(["origin", "horizon"], ignore_index=True)


def _reusable_champion(champion: Registered | None, config: RunConfig, prices: pd.DataFrame) -> Forecaster | None:
    """Load the champion if it comes from the same configuration and prices and can be used; otherwise None."""
    if champion is None or champion.tags.get("config") != registry.config_digest(config):
        return None
    if champion.tags.get("data_fingerprint") != fingerprint(prices):
        return None
    try:
        return registry.load(config.data.symbol, str(champion.number))
    except (IncompatibleModelError, ModelNotFoundError):
        return None  # damaged, or of another version: the contest after the training reports it


def _skipped(champion: Registered, forecaster: Forecaster) -> TrainResult:
    reason = "the champion comes from the same configuration and the same prices; force_retrain trains anyway"
    metadata, symbol = forecaster.metadata, forecaster.config.data.symbol
    return _reported(
        TrainResult(
            "skipped",
            symbol,
            champion.run_id,
            metadata.version,
            False,
            reason,
            metadata.metrics,
            dict(forecaster.weights),
        )
    )


def _reported(result: TrainResult) -> TrainResult:
    """Report the result to the process that follows the training, and return it."""
    names = ("status", "version", "run_id", "promoted", "reason", "metrics", "weights")
    report_progress("result", **{name: getattr(result, name) for name in names})
    return result


def _trains_in_epochs(forecaster: Forecaster) -> bool:
    """Return whether the model takes Keras callbacks, without importing Keras for one that does not."""
    model = forecaster.recipe.model(forecaster.config)
    return any(hasattr(part, "callbacks") for part in (model, *components_of(model).values()))


def _epoch_report() -> Any:
    """Return a callback that reports each epoch, see :func:`~forecastlib.processes.report_progress`."""
    import keras

    class EpochReport(keras.callbacks.Callback):  # type: ignore[misc] # Keras ships no types
        def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
            losses = {name: float(value) for name, value in (logs or {}).items() if name in {"loss", "val_loss"}}
            report_progress("epoch", epoch=epoch + 1, epochs=self.params["epochs"], **losses)

    return EpochReport()


def _metrics(evaluation: Evaluation, forecaster: Forecaster) -> dict[str, float]:
    """Return the scores of the served model under plain names, and those of its components under their own."""
    scores = evaluation.flat(forecaster.model.name)
    for component in _quick_components(forecaster):
        scores |= {f"{component}/{score}": value for score, value in evaluation.flat(component).items()}
    return scores


def _quick_components(forecaster: Forecaster) -> list[str]:
    """Return the components of a model whose forecasts are quick enough to score at every origin."""
    return [name for name, part in components_of(forecaster.model).items() if thinning_of(part) == 1]


def _log_audit(report: AuditReport) -> None:
    """Log the quick checks of the audit, and raise if anything leaks."""
    mlflow.log_text(report.checks.to_csv(index=False), "audit.csv")
    mlflow.set_tag("audit", "passed" if report.passed else "failed")
    report.raise_for_errors()


def _log_evaluation(evaluation: Evaluation, name: str) -> None:
    """Log the scores of the model under plain names, and those of every other model under its own."""
    mlflow.log_metrics(evaluation.flat(name))
    for model in evaluation.models:
        if model != name:
            mlflow.log_metrics({f"{model}/{score}": value for score, value in evaluation.flat(model).items()})
    mlflow.log_text(evaluation.scores.to_csv(), "scores.csv")
    mlflow.log_text(evaluation.verdicts.to_csv(), "verdicts.csv")


def _costs(forecaster: Forecaster, prices: pd.DataFrame) -> dict[str, float]:
    """Measure one warm forecast from raw prices, and the peak memory of this process."""
    times = []
    for _ in range(6):
        start = time.perf_counter()
        forecaster.predict(prices)
        times.append(time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return {"forecast_ms": 1000.0 * statistics.median(times[1:]), "peak_memory_bytes": float(peak)}


def _register(forecaster: Forecaster, prices: pd.DataFrame, symbol: str) -> tuple[Registered, bool, str]:
    """Register a new version as champion or challenger: the version, whether it is champion, and why.

    Trainings that end at the same time compete one after the other, each with the champion that the one before left.
    """
    with registry.contest_lock(symbol):
        champion = registry.find(symbol)
        won, reason = _contest(forecaster, champion, prices)
        registered = registry.register(forecaster, prices, symbol=symbol)
        present = registry.find(symbol)
        if present != champion:  # another machine, which the lock does not reach, was faster
            won, reason = _contest(forecaster, present, prices)
        (registry.promote if won else registry.challenge)(registered, reason)
    return registered, won, reason


def _contest(forecaster: Forecaster, champion: Registered | None, prices: pd.DataFrame) -> tuple[bool, str]:
    """Compare a new version with the champion: whether it wins, and why."""
    if champion is None:
        return True, "the first version"
    try:
        incumbent = registry.load(champion.tags["symbol"], str(champion.number))
        errors = _relative_errors({"challenger": forecaster, CHAMPION: incumbent}, prices)
    except (IncompatibleModelError, ModelNotFoundError) as error:
        return False, (
            f"the champion, version {champion.number}, cannot be loaded and stays champion until it is replaced "
            f"by hand, with: forecastlib champion {champion.tags['symbol']} --promote NUMBER --reason ...; {error}"
        )
    if errors is None:
        return False, "there are no origins that neither the champion nor this version was fitted on"
    own, other = errors["challenger"], errors[CHAMPION]
    return own < other, f"MAE / MAE of the random walk {own:.4f}, champion {other:.4f}, on the same newest origins"


def _relative_errors(forecasters: dict[str, Forecaster], prices: pd.DataFrame) -> dict[str, float] | None:
    """Return the MAE over that of the random walk, on the origins after the last label that any was fitted on."""
    from forecastlib.evaluation.evaluate import evaluate

    models = forecasters.values()
    after = pd.Timestamp(max(model.metadata.sets["validation"]["last_label"] for model in models))
    horizons = sorted(set.intersection(*(set(model.config.window.horizons) for model in models)))
    last = len(prices) - 1 - max(horizons, default=0)
    first = max(model.sessions_needed for model in models) - 1
    origins = pd.DatetimeIndex(prices.index[first : last + 1])
    origins = origins[origins > after]
    if not horizons or len(origins) == 0:
        return None
    forecasts: list[Forecast] = [
        replace(model.forecast(prices, origins), model=name) for name, model in forecasters.items()
    ]
    skill = evaluate(forecasts, prices).scores["skill"]
    errors = {name: float((1.0 - skill.loc[name].loc[horizons]).mean()) for name in forecasters}
    return errors if np.isfinite(list(errors.values())).all() else None
