"""Contenders in training several seeds of the same network: together, or one after the other."""

from __future__ import annotations

from itertools import count

import numpy as np

from forecastlib.bench.data import BATCH, WINDOWS, run_config
from forecastlib.bench.training import HORIZONS, ours, samples
from forecastlib.bench.works import Turn
from forecastlib.models.lstm import build_network, compile_network
from forecastlib.models.lstm.ensemble import Ensemble
from forecastlib.models.lstm.training import order_of_epoch


def together(seeds: int) -> Turn:
    """Train an epoch of every seed in one graph, as :func:`forecastlib.models.lstm.fit_together` does."""
    configs = [run_config(seed=seed) for seed in range(seeds)]
    data = samples()
    networks = [build_network(152, one.window, one.model, seed=one.train.seed) for one in configs]
    for network, one in zip(networks, configs, strict=True):
        compile_network(network, HORIZONS, one.train, steps=data.steps(BATCH))
    ensemble = Ensemble(networks, data, samples(windows=1), configs[0].train)
    epochs = count()

    def turn() -> None:
        epoch = next(epochs)
        orders = np.stack([order_of_epoch(WINDOWS, one.train.seed, epoch) for one in configs])
        ensemble.run_epoch(orders, np.ones(seeds, dtype=bool))

    return turn


def one_after_the_other(seeds: int) -> Turn:
    """Train an epoch of every seed by itself, as :func:`forecastlib.models.lstm.fit_network` does."""
    epoch = ours()

    def turn() -> None:
        for _ in range(seeds):
            epoch()

    return turn
