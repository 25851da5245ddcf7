"""Walk-forward backtest: the model and its baselines refitted again and again, always judged on what came after.

::

    backtest(prices, config, folds=5, seeds=(0, 1, 2))  -> BacktestResult
        .forecasts   every forecast, with what happened
        .scores      each model and horizon, with bootstrap intervals
        .verdicts    against the random walk, and against HAR by CRPS
        .by_year     the scores of each calendar year
        .by_period   coverage in named periods of calm and of crisis

A fold is a split of :func:`forecastlib.samples.splits.walk_forward`. Its baselines are fitted once and the network once for
each seed: these are the tasks, computed by processes of one thread each (:mod:`~forecastlib.evaluation.walkforward.processes`).
What a task led to is kept under a name derived from everything that determines it
(:mod:`~forecastlib.evaluation.walkforward.kept`), so that a backtest that was interrupted goes on where it stopped.

=======================  ==========================================================================================
``random_walk`` ...      the baselines, by their names
``lstm_0``, ``lstm_1``   the network, one a seed; its ranges are renewed each month, see ``Forecaster.predict``
``lstm``                 the mean of the seeds: of their point forecasts, and of their quantiles
``lstm_as_trained``      the same, with the ranges of the end of training: they know as much as those of the baselines
``lstm_adaptive``        ``lstm``, its ranges widened or narrowed by how earlier ones have fared
``mc_dropout``           the network of the first seed with the ranges of MC dropout alone, at every fifth origin
=======================  ==========================================================================================
"""

from forecastlib.evaluation.walkforward.backtesting import backtest
from forecastlib.evaluation.walkforward.result import BacktestResult

__all__ = ["BacktestResult", "backtest"]
