"""The first use case: train a model, evaluate it beside the baselines, and register it."""

from __future__ import annotations

import resource
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import keras
import mlflow
import numpy as np
import pandas as pd

from forecastlib.auditing import SET_CHECKS, AuditReport, audit
from forecastlib.bundle import git_commit
from forecastlib.config import DataConfig, RunConfig
from forecastlib.data.calendars import resolve_calendar, target_dates
from forecastlib.data.prices import fingerprint
from forecastlib.data.quality import QualityReport, check_quality
from forecastlib.data.sources import fetch_prices
from forecastlib.errors import IncompatibleModelError, ModelNotFoundError
from forecastlib.evaluation.evaluate import Evaluation, crps, evaluate, mean_relative_error
from forecastlib.forecaster import Forecaster
from forecastlib.forecasts import forecast_frame
from forecastlib.models.baselines import all_baselines
from forecastlib.paths import slug
from forecastlib.progress import report as report_progress
from forecastlib.samples.dataset import Dataset, prepare
from forecastlib.tracking import registry, runs
from forecastlib.tracking.registry import Registered


@dataclass(frozen=True)
class TrainResult:
    """What a training led to.

    Attributes
    ----------
    status : {"completed", "skipped"}
    symbol : str
    run_id : str
        The run that made the model; when training was skipped, that of the champion.
    version : str
        ``v1.0.0_YYYYMMDD_HHMMSS``, likewise.
    promoted : bool
        Whether the new version became champion.
    reason : str
        Why training was skipped, or the version was promoted or not.
    metrics : dict
        Scores on the test set, by name and horizon.
    history : DataFrame
        Losses of each epoch; empty when training was skipped.
    """

    status: Literal["completed", "skipped"]
    symbol: str
    run_id: str
    version: str
    promoted: bool
    reason: str
    metrics: dict[str, float]
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
    report = check_quality(prices, calendar=config.calendar)
    report.raise_for_errors()
    return prices, report


def train(
    config: RunConfig | None = None,
    *,
    force_retrain: bool = False,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    progress: bool = True,
) -> TrainResult:
    """Train a model, evaluate it on the test set beside the baselines, log it to MLflow and register it.

    It becomes champion if there is none yet, or if it does better than the champion on the newest origins that neither
    of them has learned from; otherwise it is the challenger.

    Parameters
    ----------
    config
        The run.
    force_retrain
        Train although the champion comes from the same configuration and the same prices.
    callbacks
        Further Keras callbacks.
    progress
        Whether to show a progress bar.

    Returns
    -------
    TrainResult

    Raises
    ------
    ForecastError
        Of any kind; the run is then left FAILED, and the registry as it was.
    """
    config = config or RunConfig()
    symbol = config.data.symbol
    runs.connect()  # first: it enters the project's folder, where relative paths of sources begin
    prices, report = fetch(config.data)
    champion = None if force_retrain else registry.find(symbol)
    known = _if_adequate(champion, config, prices)
    if champion is not None and known is not None:
        reason = "the champion comes from the same configuration and the same prices; force_retrain trains anyway"
        return _told(
            TrainResult(
                "skipped", symbol, champion.run_id, known.metadata.version, False, reason, known.metadata.metrics
            )
        )
    tags = {"symbol": symbol, "git_commit": git_commit() or "unknown", "source": str(prices.attrs.get("source", ""))}
    with runs.run(f"{slug(symbol)}_train", tags) as run_id:
        runs.log_config(config)
        runs.log_data(prices, report.checks)
        _log_audit(audit(prices, config, checks=SET_CHECKS))
        forecaster = Forecaster(config).fit(prices, callbacks=[*callbacks, _EpochReport()], progress=progress)
        runs.log_history(run_id, forecaster.history)
        evaluation = evaluate_on_test_set(forecaster, prices)
        version = forecaster.metadata.version
        weight = {"network_weight": forecaster.calibration.network_weight}
        forecaster.metadata = forecaster.metadata.with_metrics(evaluation.flat(version) | weight)
        _log_evaluation(evaluation, version)
        mlflow.log_metrics(weight | _costs(forecaster, prices))
        registered, promoted, reason = _register(forecaster, prices, symbol)  # last, when nothing else can fail
        version = registered.tags["version"]
        mlflow.set_tags({"model_version": version, "promoted": str(promoted), "reason": reason})
    return _told(
        TrainResult(
            "completed", symbol, run_id, version, promoted, reason, forecaster.metadata.metrics, forecaster.history
        )
    )


class _EpochReport(keras.callbacks.Callback):  # type: ignore[misc] # Keras ships no types
    """Tells whoever asked for it how far training has come, see :mod:`forecastlib.progress`."""

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        losses = {name: float(value) for name, value in (logs or {}).items() if name in {"loss", "val_loss"}}
        report_progress("epoch", epoch=epoch + 1, epochs=self.params["epochs"], **losses)


def _told(result: TrainResult) -> TrainResult:
    """Tell whoever asked for it what training led to."""
    said = {name: getattr(result, name) for name in ("status", "version", "run_id", "promoted", "reason", "metrics")}
    report_progress("result", **said)
    return result


def evaluate_on_test_set(
    forecaster: Forecaster, prices: pd.DataFrame, *, rivals: Mapping[str, Forecaster] | None = None
) -> Evaluation:
    """Evaluate a forecaster on the test set of its own split, beside all baselines fitted on its training set.

    Parameters
    ----------
    forecaster
        Fitted on these prices.
    prices
        Prices of the symbol.
    rivals
        Further forecasters by the name they get in the result; they must not have learned from that test set.
    """
    dataset = prepare(prices, forecaster.config)
    test = dataset.windows.take(dataset.split.test)
    frames = []
    for name, one in {forecaster.metadata.version: forecaster, **(rivals or {})}.items():
        _, distribution = one.predict_distribution(prices, test.origins, renew=True)
        scores = crps(test, distribution).ravel()
        frames.append(one.predict(prices, test.origins, renew=True).assign(model_version=name, crps=scores))
    frames.append(baseline_forecasts(prices, dataset, forecaster.config))
    return evaluate(pd.concat(frames, ignore_index=True), prices)


def baseline_forecasts(prices: pd.DataFrame, dataset: Dataset, config: RunConfig) -> pd.DataFrame:
    """Fit every baseline on what the model may learn from, and forecast the test set.

    Returns
    -------
    DataFrame
        A forecast frame with the column ``crps``, the baselines told apart by ``model_version``.
    """
    train, validation, test = (dataset.windows.take(index) for index in dataset.split.sets().values())
    calendar = resolve_calendar(config.data.symbol, config.data.calendar)
    dates = target_dates(test.origins, config.window.horizons, pd.DatetimeIndex(prices.index), calendar)
    frames = []
    for baseline in all_baselines(config.train.seed):
        found = baseline.fit(train, validation, prices).predict(test, prices)
        frame = forecast_frame(test, dates, found.distribution, config=config.model, model_version=baseline.name)
        frames.append(frame.assign(crps=crps(test, found.distribution).ravel()))
    return pd.concat(frames, ignore_index=True)


def _if_adequate(champion: Registered | None, config: RunConfig, prices: pd.DataFrame) -> Forecaster | None:
    """Load the champion, if there is one that comes from the same configuration and prices and can be used."""
    if champion is None or champion.tags.get("config") != registry.config_digest(config):
        return None
    if champion.tags.get("data_fingerprint") != fingerprint(prices):
        return None
    try:
        return registry.load(config.data.symbol, str(champion.number))
    except (IncompatibleModelError, ModelNotFoundError):
        return None  # damaged, or of another version of the library; what comes of it is said after training


def _log_audit(report: AuditReport) -> None:
    """Log what the quick checks of the audit came to, and go no further if anything leaks."""
    mlflow.log_text(report.checks.to_csv(index=False), "audit.csv")
    mlflow.set_tag("audit", "passed" if report.passed else "failed")
    report.raise_for_errors()


def _log_evaluation(evaluation: Evaluation, version: str) -> None:
    """Log the model's scores under plain names, and those of each baseline under its own."""
    mlflow.log_metrics(evaluation.flat(version))
    for model in evaluation.models:
        if model != version:
            mlflow.log_metrics({f"{model}/{name}": value for name, value in evaluation.flat(model).items()})
    mlflow.log_text(evaluation.scores.to_csv(), "scores.csv")
    mlflow.log_text(evaluation.verdicts.to_csv(), "verdicts.csv")


def _costs(forecaster: Forecaster, prices: pd.DataFrame) -> dict[str, float]:
    """Measure one warm forecast from raw prices, and the most memory this process has used."""
    times = []
    for _ in range(6):
        start = time.perf_counter()
        forecaster.predict(prices)
        times.append(time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return {"forecast_ms": 1000.0 * statistics.median(times[1:]), "peak_memory_bytes": float(peak)}


def _register(forecaster: Forecaster, prices: pd.DataFrame, symbol: str) -> tuple[Registered, bool, str]:
    """Register a new model as champion or challenger: as what, whether it is champion, and why.

    Of trainings that end at the same time each competes with the champion that the one before it has left.
    """
    with registry.turn(symbol):
        champion = registry.find(symbol)
        won, reason = _contest(forecaster, champion, prices)
        registered = registry.register(forecaster, prices, symbol=symbol)
        present = registry.find(symbol)
        if present != champion:  # where the turn does not reach: another machine has been faster
            won, reason = _contest(forecaster, present, prices)
        (registry.promote if won else registry.challenge)(registered, reason)
    return registered, won, reason


def _contest(forecaster: Forecaster, champion: Registered | None, prices: pd.DataFrame) -> tuple[bool, str]:
    """Let a new model compete with the champion: whether it wins, and why."""
    if champion is None:
        return True, "the first version"
    try:
        rival = registry.load(champion.tags["symbol"], str(champion.number))
        both = _scores_of_both(forecaster, rival, prices)
    except (IncompatibleModelError, ModelNotFoundError) as error:
        return True, f"the champion, version {champion.number}, cannot be used any more: {error}"
    if both is None:
        return False, "there are no origins that both the champion and this version have not learned from"
    own, other = both
    return own < other, f"MAE / MAE of the random walk {own:.4f}, champion {other:.4f}, on the same newest origins"


def _scores_of_both(forecaster: Forecaster, rival: Forecaster, prices: pd.DataFrame) -> tuple[float, float] | None:
    """Score two models on the origins after the last label that either was fitted or calibrated with."""
    after = max(one.metadata.sets["validation"]["last_label"] for one in (forecaster, rival))
    common = sorted(set(forecaster.config.window.horizons) & set(rival.config.window.horizons))
    last = len(prices) - 1 - max(common, default=0)
    origins = pd.DatetimeIndex(prices.index[: last + 1])
    needed = max(forecaster.sessions_needed, rival.sessions_needed)
    origins = origins[needed - 1 :]
    origins = origins[origins > pd.Timestamp(after)]
    if not common or len(origins) == 0:
        return None
    scores = []
    for one in (forecaster, rival):
        evaluation = evaluate(one.predict(prices, origins, renew=True), prices)
        scores.append(mean_relative_error(evaluation, one.metadata.version, common))
    if not np.isfinite(scores).all():
        return None
    return scores[0], scores[1]
