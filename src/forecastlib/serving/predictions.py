"""Forecasts for callers: registered models kept in memory, prices kept for a short while, each forecast recorded."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import pandas as pd

from forecastlib.config import DataConfig
from forecastlib.data.calendars import known_range, resolve_calendar
from forecastlib.data.prices import fingerprint
from forecastlib.data.sources import fetch_prices
from forecastlib.errors import ForecastError, IncompatibleModelError, ModelNotFoundError, SourceError
from forecastlib.forecaster import Forecaster
from forecastlib.ledger import Ledger
from forecastlib.serving.batching import Batching
from forecastlib.serving.cache import LoadingCache
from forecastlib.serving.catalogue import registered_models
from forecastlib.serving.jobs import Training
from forecastlib.serving.problems import Problem, busy, without_paths
from forecastlib.serving.settings import Settings
from forecastlib.tracking import registry
from forecastlib.tracking.registry import Registered
from forecastlib.tracking.runs import connect

_ALIASES_KEPT = 1000
_PRICES_KEPT = 32


@dataclass(frozen=True)
class Question:
    """What a caller wants to know of a version.

    Attributes
    ----------
    as_of : str or None
        The origin is the last session on or before this date; None: the newest.
    closes : int
        How many closes up to the origin are wanted.
    requested_by : str
        Who asks.
    """

    as_of: str | None
    closes: int
    requested_by: str


@dataclass(frozen=True)
class Forecast:
    """A forecast and what belongs to it.

    Attributes
    ----------
    rows : list of dict
        A forecast frame of one origin, of :func:`records`.
    closes : list of dict
        ``date`` and ``close`` up to the origin.
    number : int
        MLflow's number of the version.
    source : str
        Which source served the prices.
    """

    rows: list[dict[str, Any]]
    closes: list[dict[str, Any]]
    number: int
    source: str


class Predictions:
    """Forecasts with registered models; safe to use from several threads.

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
        self._found: LoadingCache[tuple[str, str], Registered | None] = LoadingCache(
            _find, capacity=_ALIASES_KEPT, fresh_for=settings.champion_fresh_for
        )
        self.models: LoadingCache[tuple[str, int], Forecaster] = LoadingCache(
            lambda key: registry.load(key[0], str(key[1])), capacity=settings.cached_models
        )
        self._prices: LoadingCache[DataConfig, pd.DataFrame] = LoadingCache(
            fetch_prices, capacity=_PRICES_KEPT, fresh_for=settings.prices_fresh_for
        )
        self._batching: Batching[tuple[str, str], Question, Forecast] = Batching(
            self._answer, threads=settings.prediction_threads
        )

    def warm_up(self) -> None:
        """Do what the first forecasts would otherwise wait for: open the registry, and work its calendars out."""
        for model in registered_models():
            symbol = str(model["symbol"])
            known_range(resolve_calendar(symbol, self._settings.config(symbol).data.calendar))

    def ask(self, symbol: str, version: str, question: Question) -> Future[Forecast]:
        """Forecast with a registered version, from the source that it was trained from, and record the forecast.

        Questions about one version that come while it is busy are answered in one pass over the prices.

        Parameters
        ----------
        symbol
            Symbol.
        version
            An alias, a number, or a tag.
        question
            Origin, and who asks.

        Returns
        -------
        Future of Forecast
            Its exception is a :class:`ForecastError` if there is no such model, it cannot be used, or the prices do not
            reach back far enough; a :class:`Problem` if no source has the prices at present.
        """
        return self._batching.ask((symbol, version), question)

    def _answer(self, key: tuple[str, str], questions: Sequence[Question]) -> list[Forecast | Exception]:
        """Answer questions about one version."""
        symbol, version = key
        found = self._found.get(key)
        if found is None:
            raise ModelNotFoundError(
                f"expected a model of {symbol!r} with version {version!r}; there is none; GET /models lists what there "
                "is, POST /train trains one"
            )
        try:
            forecaster = self.models.get((symbol, found.number))
        except IncompatibleModelError as error:
            message = f"version {found.number} of {symbol} cannot be used any more: {without_paths(str(error))}"
            raise Problem(409, "model_unusable", message) from error
        try:
            prices = self._prices.get(forecaster.config.data)
        except SourceError as error:
            raise busy(503, "prices_unavailable", f"the prices of {symbol} cannot be fetched at present") from error
        rows = _forecasts(forecaster, prices, [question.as_of for question in questions])
        for caller in {question.requested_by for question in questions}:
            own = [one for one, by in zip(rows, questions, strict=True) if by.requested_by == caller]
            frames = [frame for frame in own if not isinstance(frame, Exception)]
            if frames:
                self._ledger.record(_together(frames), caller)
        source = str(prices.attrs["source"])
        return [
            one
            if isinstance(one, Exception)
            else Forecast(records(one), _closes(prices, one, question.closes), found.number, source)
            for one, question in zip(rows, questions, strict=True)
        ]

    def plan(self, symbol: str, training_days: int, epochs: int | None, *, force_retrain: bool) -> Training:
        """Turn what a caller asks for into the parameters of the training notebook.

        The newest ``training_days`` sessions are meant, or all there are if the source has fewer.

        Raises
        ------
        SourceError
            If no source has the symbol.
        Problem
            409 if another symbol's models already have the name that those of this one would get.
        """
        self._refuse_taken_name(symbol)
        prices = self._prices.get(self._settings.config(symbol).data)
        sessions = prices.index[-training_days:]
        chosen = {"epochs": epochs} if epochs is not None else {}
        start = {"start": f"{sessions[0]:%Y-%m-%d}"}
        base = {"symbol": symbol, "source": self._settings.source}
        request = {
            "training_days": training_days,
            "epochs": epochs,
            "force_retrain": force_retrain,
            "sessions": len(sessions),
            **start,
        }
        parameters = self._settings.parameters | base | start | chosen | {"force_retrain": force_retrain}
        return Training(symbol, request, parameters)

    def adequate_champion(self, training: Training) -> Registered | None:
        """Return the champion if a training would be skipped because of it: same configuration, same prices, usable."""
        given = {name: value for name, value in training.parameters.items() if name not in ("symbol", "force_retrain")}
        config = self._settings.config(training.symbol, **given)
        champion = _find((training.symbol, registry.CHAMPION))
        if champion is None or champion.tags.get("config") != registry.config_digest(config):
            return None
        if champion.tags.get("data_fingerprint") != fingerprint(self._prices.get(config.data)):
            return None
        return champion

    def settle(self, symbols: list[str]) -> list[str]:
        """Fill in what happened for forecasts whose day has come; return why it could not be done for some."""
        failures = []
        for symbol in symbols:
            try:
                self._ledger.settle(self._prices.get(self._settings.config(symbol).data))
            except SourceError:
                failures.append(f"{symbol}: its prices cannot be fetched at present")
        return failures

    def forget(self) -> None:
        """Look versions up anew: the registry may have changed."""
        self._found.clear()

    def close(self) -> None:
        """Answer what has been asked."""
        self._batching.close()

    def _refuse_taken_name(self, symbol: str) -> None:
        client = connect()
        name = registry.model_name(symbol)
        others = {one.tags.get("symbol", symbol) for one in client.search_model_versions(f"name = '{name}'")} - {symbol}
        if others:
            message = f"models of {symbol} would be called {name}, as those of {', '.join(sorted(others))} are already"
            raise Problem(409, "name_taken", message)


def _forecasts(
    forecaster: Forecaster, prices: pd.DataFrame, dates: Sequence[str | None]
) -> list[pd.DataFrame | Exception]:
    """Return a forecast frame for each date: in one pass, or each by itself if one of them cannot be had."""
    newest = f"{prices.index[-1]:%Y-%m-%d}"
    wanted = [date or newest for date in dates]
    different = list(dict.fromkeys(wanted))
    try:
        rows = forecaster.predict(prices, different)
    except ForecastError as error:
        if len(different) == 1:
            return [error] * len(wanted)
        alone = {date: _forecasts(forecaster, prices, [date])[0] for date in different}
        return [alone[date] for date in wanted]
    size = len(rows) // len(different)  # the horizons of an origin stand together, the origins in the order asked for
    frames = {date: rows.iloc[at * size : (at + 1) * size] for at, date in enumerate(different)}
    return [frames[date] for date in wanted]


def _together(frames: list[pd.DataFrame]) -> pd.DataFrame:
    """Put frames into one, each origin once."""
    if len(frames) == 1:
        return frames[0]
    together = pd.concat(frames, ignore_index=True).drop_duplicates(["origin", "horizon"])
    together.attrs = frames[0].attrs
    return together


def _closes(prices: pd.DataFrame, rows: pd.DataFrame, count: int) -> list[dict[str, Any]]:
    if count == 0:
        return []
    closes = prices["close"].loc[: rows["origin"].iloc[0]].tail(count)
    return [{"date": date, "close": close} for date, close in closes.items()]


def _find(key: tuple[str, str]) -> Registered | None:
    """Find a registered version; one that belongs to another symbol of the same model name is none."""
    symbol, version = key
    found = registry.find(symbol, version)
    return found if found is not None and found.tags.get("symbol") == symbol else None


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows of a frame as plain values, None for what is missing."""
    columns = [str(name) for name in frame.columns]
    # Row by row: frames of a few rows are turned over faster than pandas can convert them.
    return [
        {name: None if pd.isna(value) else value for name, value in zip(columns, row, strict=True)}
        for row in frame.itertuples(index=False, name=None)
    ]
