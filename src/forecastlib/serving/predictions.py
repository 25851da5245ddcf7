"""Forecasts for callers: registered models kept in memory, prices kept for a short while, each forecast recorded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from forecastlib import registry
from forecastlib.config import DataConfig
from forecastlib.errors import IncompatibleModelError, ModelNotFoundError, SourceError
from forecastlib.forecaster import Forecaster
from forecastlib.ledger import Ledger
from forecastlib.prices import fingerprint
from forecastlib.registry import Registered
from forecastlib.serving.cache import LoadingCache
from forecastlib.serving.jobs import Training
from forecastlib.serving.problems import Problem, busy, without_paths
from forecastlib.serving.settings import Settings
from forecastlib.sources import fetch_prices
from forecastlib.tracking import connect

_ALIASES_KEPT = 1000
_PRICES_KEPT = 32


@dataclass(frozen=True)
class Forecast:
    """A forecast and what belongs to it.

    Attributes
    ----------
    rows : DataFrame
        A forecast frame of one origin.
    closes : Series
        Closes up to the origin, by session.
    number : int
        MLflow's number of the version.
    source : str
        Which source served the prices.
    """

    rows: pd.DataFrame
    closes: pd.Series
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

    def predict(
        self, symbol: str, as_of: str | None, version: str, *, closes: int = 0, requested_by: str | None
    ) -> Forecast:
        """Forecast with a registered version, from the source that it was trained from, and record the forecast.

        Parameters
        ----------
        symbol
            Symbol.
        as_of
            The origin is the last session on or before this date; None: the newest.
        version
            An alias, a number, or a tag.
        closes
            How many closes up to the origin to return.
        requested_by
            Who asked.

        Raises
        ------
        ForecastError
            If there is no such model, it cannot be used, or the prices do not reach back far enough.
        Problem
            If no source has the prices at present.
        """
        found = self._found.get((symbol, version))
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
        rows = forecaster.predict(prices, as_of)
        self._ledger.record(rows, requested_by)
        origin = rows["origin"].iloc[0]
        return Forecast(rows, prices["close"].loc[:origin].tail(closes), found.number, str(prices.attrs["source"]))

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

    def _refuse_taken_name(self, symbol: str) -> None:
        client = connect()
        name = registry.model_name(symbol)
        others = {one.tags.get("symbol", symbol) for one in client.search_model_versions(f"name = '{name}'")} - {symbol}
        if others:
            message = f"models of {symbol} would be called {name}, as those of {', '.join(sorted(others))} are already"
            raise Problem(409, "name_taken", message)


def _find(key: tuple[str, str]) -> Registered | None:
    """Find a registered version; one that belongs to another symbol of the same model name is none."""
    symbol, version = key
    found = registry.find(symbol, version)
    return found if found is not None and found.tags.get("symbol") == symbol else None


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows of a frame with dates as dates, and None for what is missing."""
    plain = frame.astype(object).where(frame.notna(), None)
    return [{str(name): _plain(value) for name, value in row.items()} for row in plain.to_dict("records")]


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value
