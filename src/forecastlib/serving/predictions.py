"""Forecasts with registered models: models and prices are cached, concurrent requests are computed together."""

from __future__ import annotations

import asyncio
import datetime as dt
import re
from collections.abc import Callable, Hashable, Sequence
from threading import Condition
from typing import Any, Generic, TypeVar

import anyio
import pandas as pd
from cachetools import LRUCache, TTLCache, cached

from forecastlib.config import DataConfig
from forecastlib.data.calendars import known_range, resolve_calendar
from forecastlib.data.prices import fingerprint
from forecastlib.data.sources import fetch_prices
from forecastlib.errors import ForecastError, IncompatibleModelError, ModelNotFoundError, SourceError
from forecastlib.forecaster import Forecaster
from forecastlib.ledger import Ledger
from forecastlib.serving.problems import Problem, busy, without_paths
from forecastlib.serving.schemas import PredictAnswer, PredictRequest, TrainRequest
from forecastlib.serving.settings import Settings
from forecastlib.serving.trainings import Job
from forecastlib.tracking import registry
from forecastlib.tracking.registry import Registered
from forecastlib.tracking.runs import connect, experiment_ids

_CACHED_VERSIONS = 1000
_CACHED_PRICES = 32
_MAX_BATCH = 64
_LISTED_METRICS = re.compile(r"(skill|mae|coverage_80|coverage_95)_\d+d")
_MAX_LISTED_VERSIONS = 50

K = TypeVar("K", bound=Hashable)
Q = TypeVar("Q")
A = TypeVar("A")


class Predictor:
    """Forecasts with registered models, from the sources that they were trained from.

    Parameters
    ----------
    settings
        Of the service.
    ledger
        Where forecasts are recorded.
    """

    def __init__(self, settings: Settings, ledger: Ledger) -> None:
        self._settings = settings
        self._ledger = ledger

        # With a condition, threads that ask for a value while it is loaded wait for it, and load it once.
        @cached(LRUCache(settings.cached_models), condition=Condition())
        def load_model(symbol: str, number: int) -> Forecaster:
            return registry.load(symbol, str(number))

        @cached(TTLCache(_CACHED_PRICES, settings.prices_fresh_for), condition=Condition())
        def prices_of(config: DataConfig) -> pd.DataFrame:
            return fetch_prices(config)

        self.version_of = cached(TTLCache(_CACHED_VERSIONS, settings.champion_fresh_for), condition=Condition())(
            registry.find
        )
        self.load_model = load_model
        self.prices_of = prices_of
        self._batches: Batches[tuple[str, str], tuple[PredictRequest, str], PredictAnswer] = Batches(
            self.predict_batch, threads=settings.prediction_threads
        )

    def warm_up(self) -> None:
        """Open the registry and load the calendars of its symbols, which the first forecasts would wait for."""
        for model in registered_models():
            symbol = str(model["symbol"])
            known_range(resolve_calendar(symbol, self._settings.config(symbol).data.calendar))

    async def predict(self, request: PredictRequest, caller: str) -> PredictAnswer:
        """Forecast with a registered version, and record the forecast under the name of the caller.

        Requests for one version that arrive while it is busy are answered together, in one pass over the prices.

        Raises
        ------
        ForecastError
            If there is no such model, it cannot be used, or there are too few prices before the origin.
        Problem
            503 if no source can be reached.
        """
        return await self._batches.ask((request.symbol, request.version), (request, caller))

    def predict_batch(
        self, key: tuple[str, str], requests: Sequence[tuple[PredictRequest, str]]
    ) -> list[PredictAnswer | Exception]:
        """Answer requests of callers for one version, given as symbol and version, in the order of the requests."""
        symbol, version = key
        found = self.version_of(symbol, version)
        if found is None:
            raise ModelNotFoundError(
                f"expected a registered model of {symbol!r} with version {version!r}; found none; GET /models lists "
                "all models, POST /train trains one"
            )
        try:
            forecaster = self.load_model(symbol, found.number)
        except IncompatibleModelError as error:
            message = f"version {found.number} of {symbol} can no longer be used: {without_paths(str(error))}"
            raise Problem(409, "model_unusable", message) from error
        try:
            prices = self.prices_of(forecaster.config.replace(end=None).data)
        except SourceError as error:
            raise busy(503, "prices_unavailable", f"the prices of {symbol} cannot be fetched at present") from error
        frames = _forecast_dates(forecaster, prices, [request.date for request, _ in requests])
        by_caller: dict[str, list[pd.DataFrame]] = {}
        for frame, (_, caller) in zip(frames, requests, strict=True):
            if not isinstance(frame, Exception):
                by_caller.setdefault(caller, []).append(frame)
        for caller, own in by_caller.items():
            self._ledger.record(_concatenate(own), caller)
        return [
            frame if isinstance(frame, Exception) else _answer(frame, prices, request.closes, found.number)
            for frame, (request, _) in zip(frames, requests, strict=True)
        ]

    def plan_training(self, training: TrainRequest, requested_by: str) -> Job:
        """Return the job of a requested training, with the parameters of its notebook.

        The training uses the newest ``training_days`` sessions, or all of them if the source has fewer.

        Raises
        ------
        SourceError
            If no source has the symbol.
        """
        symbol = training.symbol
        sessions = self.prices_of(self._settings.config(symbol).data).index[-training.training_days :]
        start = f"{sessions[0]:%Y-%m-%d}"
        parameters = {
            **self._settings.parameters,
            "symbol": symbol,
            "source": self._settings.source,
            "start": start,
            **training.model_dump(include={"force_retrain", "epochs"}, exclude_none=True),
        }
        request = training.model_dump(exclude={"symbol"})
        request |= {"sessions": len(sessions), "start": start, "parameters": parameters}
        return Job.create(symbol, request, requested_by)

    def reusable_champion(self, job: Job) -> Registered | None:
        """Return the champion if it was trained with the same configuration and prices, else None."""
        given = job.request["parameters"]
        config = self._settings.config(**{name: value for name, value in given.items() if name != "force_retrain"})
        champion = registry.find(job.symbol, registry.CHAMPION)
        if champion is None or champion.tags.get("config") != registry.config_digest(config):
            return None
        if champion.tags.get("data_fingerprint") != fingerprint(self.prices_of(config.data)):
            return None
        return champion

    def settle(self, symbols: list[str]) -> list[str]:
        """Record the outcomes of forecasts that have come due; return a message for each symbol that failed."""
        failures = []
        for symbol in symbols:
            try:
                self._ledger.settle(self.prices_of(self._settings.config(symbol).data))
            except SourceError:
                failures.append(f"{symbol}: its prices cannot be fetched at present")
        return failures


class Batches(Generic[K, Q, A]):
    """Answers concurrent queries with the same key together.

    No query waits for others to arrive: a single one is answered at once. While a computation runs, further queries
    collect, and the next computation answers all of them, so that throughput grows with the load.

    Parameters
    ----------
    compute
        Returns the answers to queries of one key, in their order; an answer may be an exception. Runs in a thread.
    threads
        Number of computations that run at once.
    max_size
        Maximum number of queries per computation.

    Examples
    --------
    >>> squares = Batches(lambda key, numbers: [n * n for n in numbers], threads=1)
    >>> asyncio.run(squares.ask("any key", 3))
    9
    """

    def __init__(
        self, compute: Callable[[K, Sequence[Q]], Sequence[A | Exception]], *, threads: int, max_size: int = _MAX_BATCH
    ) -> None:
        self._compute = compute
        self._threads = anyio.CapacityLimiter(threads)
        self._max_size = max_size
        self._pending: dict[K, list[tuple[Q, asyncio.Future[A]]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()  # the event loop holds only weak references

    async def ask(self, key: K, query: Q) -> A:
        """Return the answer to a query, or raise the exception that is its answer."""
        answer: asyncio.Future[A] = asyncio.get_running_loop().create_future()
        if key in self._pending:
            self._pending[key].append((query, answer))
        else:
            self._pending[key] = [(query, answer)]
            task = asyncio.create_task(self._answer_all(key))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return await answer

    async def _answer_all(self, key: K) -> None:
        """Answer the queries of a key until there are no more."""
        try:
            while batch := self._pending[key][: self._max_size]:
                del self._pending[key][: len(batch)]
                queries = [query for query, _ in batch]
                answers: Sequence[A | Exception]
                try:
                    answers = await anyio.to_thread.run_sync(self._compute, key, queries, limiter=self._threads)
                except Exception as error:
                    answers = [error] * len(batch)
                for (_, future), answer in zip(batch, answers, strict=True):
                    if future.cancelled():
                        continue
                    if isinstance(answer, Exception):
                        future.set_exception(answer)
                    else:
                        future.set_result(answer)
        finally:
            del self._pending[key]


def registered_models() -> list[dict[str, Any]]:
    """Return all registered models with their newest versions, aliases, and main scores on the test set."""
    client = connect()
    models = []
    for model in sorted(client.search_registered_models(), key=lambda model: str(model.name)):
        versions = client.search_model_versions(
            f"name = '{model.name}'", max_results=_MAX_LISTED_VERSIONS, order_by=["version_number DESC"]
        )
        tagged = [version for version in versions if "symbol" in version.tags]
        if not tagged:
            continue  # being registered at this moment, or not by this library
        metrics = _listed_metrics([str(version.run_id) for version in tagged])
        aliases = {alias: str(number) for alias, number in model.aliases.items()}
        models.append(
            {
                "symbol": tagged[0].tags["symbol"],
                "name": model.name,
                "versions": [
                    {
                        "number": int(version.version),
                        "version": version.tags.get("version", ""),
                        "aliases": sorted(alias for alias, number in aliases.items() if number == str(version.version)),
                        "run_id": version.run_id,
                        "created_at": dt.datetime.fromtimestamp(version.creation_timestamp // 1000, dt.UTC),
                        "reason": version.tags.get("reason"),
                        "metrics": metrics.get(str(version.run_id), {}),
                    }
                    for version in tagged
                ],
            }
        )
    return models


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows of a frame as dictionaries, with None for missing values."""
    columns = [str(name) for name in frame.columns]
    # For frames of a few rows this is faster than the conversions of pandas.
    return [
        {name: None if pd.isna(value) else value for name, value in zip(columns, row, strict=True)}
        for row in frame.itertuples(index=False, name=None)
    ]


def _forecast_dates(
    forecaster: Forecaster, prices: pd.DataFrame, dates: Sequence[dt.date | None]
) -> list[pd.DataFrame | Exception]:
    """Return a forecast frame per date: from one pass, or from one pass each if some dates cannot be forecast."""
    newest = prices.index[-1].date()
    origins = [date or newest for date in dates]
    distinct = list(dict.fromkeys(origins))
    try:
        rows = forecaster.predict(prices, [date.isoformat() for date in distinct])
    except ForecastError as error:
        if len(distinct) == 1:
            return [error] * len(origins)
        single = {date: _forecast_dates(forecaster, prices, [date])[0] for date in distinct}
        return [single[date] for date in origins]
    horizons = len(rows) // len(distinct)  # rows are ordered by origin as given, then by horizon
    frames = {date: rows.iloc[n * horizons : (n + 1) * horizons] for n, date in enumerate(distinct)}
    return [frames[date] for date in origins]


def _concatenate(frames: list[pd.DataFrame]) -> pd.DataFrame:
    """Return one forecast frame, without duplicate origins."""
    if len(frames) == 1:
        return frames[0]
    frame = pd.concat(frames, ignore_index=True).drop_duplicates(["origin", "horizon"])
    frame.attrs = frames[0].attrs
    return frame


def _answer(frame: pd.DataFrame, prices: pd.DataFrame, closes: int, number: int) -> PredictAnswer:
    rows = records(frame)
    recent = prices["close"].loc[: rows[0]["origin"]].tail(closes)
    parts = {
        "model_number": number,
        "source": prices.attrs["source"],
        "forecasts": rows,
        "closes": [{"date": date, "close": close} for date, close in recent.items()],
    }
    return PredictAnswer.model_validate(rows[0] | parts)


def _listed_metrics(run_ids: list[str]) -> dict[str, dict[str, float]]:
    client = connect()
    quoted = ", ".join(f"'{run_id}'" for run_id in run_ids)
    runs = client.search_runs(experiment_ids(client), f"attributes.run_id IN ({quoted})", max_results=len(run_ids))
    return {
        run.info.run_id: {name: value for name, value in run.data.metrics.items() if _LISTED_METRICS.fullmatch(name)}
        for run in runs
    }
