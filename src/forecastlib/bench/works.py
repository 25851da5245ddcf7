"""What is measured: each piece of work, who does it, and what it must reach.

A contender's ``prepare`` is named by module and function, so that listing them imports nothing. It is called once in a
process of its own and returns what one turn does: either nothing, and the turn is timed, or the value measured.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

Turn = Callable[[], float | None]

OURS = "forecastlib"


@dataclass(frozen=True)
class Contender:
    """Somebody who does a piece of work.

    Attributes
    ----------
    who : str
        :data:`OURS`, or the name of a peer.
    prepare : str
        ``module:function`` below ``forecastlib.bench``; the function's argument, if any, in brackets.
    needs : tuple of str
        Packages beyond the library's own dependencies.
    goal : float or None
        How many times the peer's value must be ours; None: shown for comparison alone.
    """

    who: str
    prepare: str
    needs: tuple[str, ...] = ()
    goal: float | None = None


@dataclass(frozen=True)
class Work:
    """A piece of work.

    Attributes
    ----------
    title : str
    unit : {"ms", "s", "MB"}
        Time of a turn; MB are told by the turn itself.
    contenders : tuple of Contender
        Ours first.
    limit : float or None
        What ours must not exceed, in the unit.
    threads : int or None
        Threads of numeric libraries; None: as many as the machine has cores.
    repeats : int
        Calls in one timed turn, for what is over too soon to be timed.
    warm_up : int
        Turns before those that count.
    rounds : int or None
        Turns that count, where they differ from those asked for.
    """

    title: str
    unit: str
    contenders: tuple[Contender, ...]
    limit: float | None = None
    threads: int | None = None
    repeats: int = 1
    warm_up: int = 1
    rounds: int | None = None


WORKS: dict[str, Work] = {
    "features": Work(
        "152 features x 6,300 sessions, one thread",
        "ms",
        (
            Contender(OURS, "preparing:features"),
            Contender("ta, its 86 features", "preparing:ta_features", ("ta",)),
            Contender("pandas rolling and ewm, 30 columns alone", "preparing:pandas_features"),
        ),
        limit=20.0,
        threads=1,
        repeats=5,
    ),
    "preparation": Work(
        "prices to scaled, split, windowed set, 6,300 sessions",
        "ms",
        (
            Contender(OURS, "preparing:training_data"),
            Contender("windows alone, a pandas loop over rows", "preparing:windows_by_loop"),
        ),
        limit=150.0,
    ),
    "memory": Work(
        "peak memory of training on 6,300 sessions, above their features and what 1,600 sessions take, lookback 60",
        "MB",
        (
            Contender(OURS, "memory:ours(60)"),
            Contender("Keras, fit on windows of a view", "memory:copied_windows(60)"),
        ),
        limit=2 * (6300 - 1600) * 152 * 8 / 1e6,
        warm_up=0,
        rounds=5,
    ),
    "memory_250": Work(
        "the same, lookback 250",
        "MB",
        (Contender(OURS, "memory:ours(250)"),),
        limit=2 * (6300 - 1600) * 152 * 8 / 1e6,
        warm_up=0,
        rounds=5,
    ),
    "training": Work(
        "training, one epoch of 3,300 windows, 60 x 152, LSTM 50 + 50, both dropouts, batch 32",
        "s",
        (
            Contender(OURS, "training:ours"),
            Contender("keras.layers.LSTM", "training:keras_default", goal=4.0),
            Contender("keras.layers.LSTM, jit_compile=True", "training:keras_compiled", goal=2.0),
            Contender("torch, recurrent dropout in a loop", "torch_peers:dropout_loop", ("torch",), goal=2.8),
            Contender("torch nn.LSTM, no recurrent dropout", "torch_peers:without_recurrent_dropout", ("torch",), 1.0),
        ),
        warm_up=2,
    ),
    "seeds_5": Work(
        "five seeds, one epoch each",
        "s",
        (
            Contender(OURS, "seeds:together(5)"),
            Contender("one after the other", "seeds:one_after_the_other(5)", goal=1.1),
        ),
        rounds=3,
    ),
    "seeds_10": Work(
        "ten seeds, one epoch each",
        "s",
        (
            Contender(OURS, "seeds:together(10)"),
            Contender("one after the other", "seeds:one_after_the_other(10)", goal=1.1),
        ),
        rounds=3,
    ),
    "dropout": Work(
        "MC dropout, 100 samples of one origin, warm",
        "ms",
        (
            Contender(OURS, "forecasting:dropout_samples"),
            Contender("keras, one eager call on 100 rows", "forecasting:eager_samples"),
            Contender("keras, 100 x model(x, training=True)", "forecasting:looped_samples"),
        ),
        limit=15.0,
        warm_up=5,
    ),
    "forecast": Work(
        "one forecast from 400 rows of raw prices, warm: features, network, ranges, frame",
        "ms",
        (
            Contender(OURS, "forecasting:one_forecast"),
            Contender("keras, model.predict of the window alone", "forecasting:keras_predict"),
        ),
        limit=40.0,
        warm_up=5,
        repeats=5,
    ),
    "origins": Work("500 origins in one pass", "ms", (Contender(OURS, "forecasting:many_origins"),), warm_up=3),
    "growth": Work(
        "memory growth over 5,000 forecasts of changing sizes",
        "MB",
        (Contender(OURS, "memory:growth(5000)"),),
        warm_up=0,
        rounds=1,
    ),
    "import": Work("import forecastlib", "s", (Contender(OURS, "starting:import_library"),), limit=0.5),
    "cold": Work(
        "forecastlib forecast, from cold to the printed result",
        "s",
        (
            Contender(OURS, "starting:forecast_command"),
            Contender("import tensorflow alone", "starting:import_tensorflow", goal=1 / 1.5),
        ),
    ),
}
"""All works by the name that the command takes."""
