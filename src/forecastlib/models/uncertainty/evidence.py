"""What the evidence for a direction is worth: the drift that the past supports, and the weight of the network."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from forecastlib.config import CalibrationConfig
from forecastlib.models.uncertainty.past import Past

Floats = npt.NDArray[np.float64]

SESSIONS_A_YEAR = 252

LARGEST_WEIGHT = 0.25
"""A network that did well on one validation set has also been stopped by it, and the next years are others."""


def posterior_drift(pasts: Sequence[Past], config: CalibrationConfig) -> float:
    """Return the log return of a session that is expected, from a prior and from the sessions seen.

    The mean of the past is a poor guide: of ten years with a volatility of 18 % a year its standard error is 6 % a
    year. It is therefore weighed against what indices have grown by elsewhere and before (Dimson, Marsh and Staunton,
    *Triumph of the Optimists*, 2002), by the rule for a normal mean with a normal prior.

    Parameters
    ----------
    pasts
        What was known.
    config
        ``growth`` and ``growth_sd``, a year.

    Returns
    -------
    float
        Between the prior and the weighted mean of the past.
    """
    returns = np.concatenate([past.session_returns[1:] for past in pasts])
    weights = np.concatenate([past.weights(config.half_life)[1:] for past in pasts])
    mean = np.average(returns, weights=weights)
    effective = weights.sum() ** 2 / (weights**2).sum() / len(pasts)  # symbols move together: they count as one
    error = np.average((returns - mean) ** 2, weights=weights) / effective
    prior, spread = np.log1p(config.growth) / SESSIONS_A_YEAR, (config.growth_sd / SESSIONS_A_YEAR) ** 2
    return float((mean * spread + prior * error) / (spread + error))


def supported_weight(answers: Floats, actual: Floats, horizons: Sequence[int]) -> float:
    """Return how much the network's deviations from the drift deserve to be followed, from 0 to :data:`LARGEST_WEIGHT`.

    The slope of the actual on the answered deviations, through the origin and over all horizons at once, shrunk by
    what chance alone would make of it: ``slope * max(0, 1 - 1 / t^2)``, the positive-part rule of James and Stein
    (1961) for one mean. Labels that overlap by h - 1 sessions make n answers worth n / h, which the t statistic is
    told.

    Parameters
    ----------
    answers, actual
        Answered and actual log return less the drift, over the volatility; shape (n, horizons).
    horizons
        Sessions ahead, one a column.

    Examples
    --------
    Answers that point the wrong way get 0; so do those whose slope is within one standard error of 0.
    """
    independent = 1.0 / np.asarray(horizons, dtype=np.float64)
    power = (answers**2 * independent).sum()
    if power <= 0.0:
        return 0.0
    slope = (answers * actual * independent).sum() / power
    # Horizons look at the same days: their evidence is averaged, not added up.
    error = np.sqrt(len(horizons) * np.mean((actual - slope * answers) ** 2) / power)
    if slope <= error:
        return 0.0
    return float(min(slope * (1.0 - (error / slope) ** 2), LARGEST_WEIGHT))
