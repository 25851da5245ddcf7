"""Checks by skill: what is learned from shuffled targets must be worth nothing, and no feature may be an oracle.

They look at what perturbation cannot see. The *shuffled targets* catch an evaluation that hands the answer to what
it evaluates: forecasts that are centred, blended or chosen by test labels keep a skill although nothing could be
learned. They do **not** catch a feature that knows the future, for shuffling destroys what ties it to the targets. The
*single features* catch that, the future having come in with the prices too (smoothed, interpolated or misdated by
whoever made them), which leaves every feature perfectly causal. Neither proves that the skill of a model is real.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import wilcoxon

from forecastlib.auditing.subject import Evidence, Subject
from forecastlib.models.baselines.interface import labels, last_rows
from forecastlib.samples.windows import Windows

Floats = npt.NDArray[np.float64]

SIGNIFICANCE = 0.001
"""How unlikely the skills of the shuffles must be under no skill before the canary speaks."""

GENUINE_SKILL = 0.10
"""Skill that a feature may have beyond luck. The best known predictors of monthly index returns have an out-of-sample
R2 of 0.01 or less, a few per cent at longer horizons (Campbell and Thompson, "Predicting Excess Stock Returns Out of
Sample", *Review of Financial Studies* 21, 2008); this is far above it."""

OWN_RETURN = "return of the session"
"""The name of what is tried besides the features."""


def skill_of_shuffled_targets(subject: Subject) -> Evidence:
    """Fit the recipe's learner on shuffled targets, many times, and score it on the test set.

    Skill is 1 - MSE / MSE of the best constant, the mean of the training targets. With nothing to learn it is 0 or,
    by the noise that was fitted, less; it varies by chance, and as much above 0 as below. Wilcoxon's signed-rank test
    asks whether the skills of the shuffles lie above 0 by more than their own spread explains (one-sided, for each
    horizon), so the threshold comes from the shuffles themselves.

    Targets of training and of validation are shuffled in blocks of twice the longest horizon, so that they stay as
    autocorrelated as overlapping labels are. Targets are log returns, whatever the network learns.
    """
    train, validation, test = _scaled_sets(subject)
    real = _skill(subject, train, validation, test)
    rng = np.random.default_rng(subject.seed)
    shuffled = np.array(
        [_skill(subject, _shuffled(train, rng), _shuffled(validation, rng), test) for _ in range(subject.shuffles)]
    )
    horizons = subject.config.window.horizons
    unlikely = np.array([_p_above_zero(skills) for skills in shuffled.T]) < SIGNIFICANCE
    mean = shuffled.mean(axis=0)
    culprits = tuple(
        f"{_name(subject.recipe.forecast)}, {h} sessions ahead"
        for h, bad in zip(horizons, unlikely, strict=True)
        if bad
    )
    names = ["real", *range(1, len(shuffled) + 1)]
    figures = pd.DataFrame(np.vstack([real, shuffled]), index=pd.Index(names, name="targets"), columns=list(horizons))
    words = "; ".join(
        f"{h}: {m:+.3f} ± {s:.3f} (real targets {r:+.3f})"
        for h, m, s, r in zip(horizons, mean, shuffled.std(axis=0, ddof=1), real, strict=True)
    )
    return Evidence(culprits, float(mean.max()), f"skill over {subject.shuffles} shuffles, {words}", figures)


def skill_of_single_features(subject: Subject) -> Evidence:
    """Regress on each feature by itself; none may foretell the test set better than luck and any honest predictor.

    The return of the session itself is tried as well, whether it is among the features or not: in smoothed prices it
    gives the next one away.

    The limit, for each horizon and for the very next session, is the best skill that any feature reached with shuffled
    targets, plus :data:`GENUINE_SKILL`.
    """
    windows, split = subject.windows, subject.split
    ahead = np.unique([1, *subject.config.window.horizons])
    close = subject.prices["close"].to_numpy()
    rows = subject.positions
    labelled = (rows >= 0) & (rows + ahead[-1] < len(close))
    train, test = (index[labelled[index]] for index in (split.train, split.test))
    come, tested = (np.log(close[rows[i][:, None] + ahead] / close[rows[i]][:, None]) for i in (train, test))
    session = np.log(close / np.roll(close, 1))  # no origin is the first row
    known, shown = (np.column_stack([last_rows(windows.take(index)), session[rows[index]]]) for index in (train, test))
    real = _single_skills(known, come, shown, tested)
    rng = np.random.default_rng(subject.seed)
    block = _block(len(train), int(ahead[-1]))
    luck = np.max(
        [
            _single_skills(known, come[_block_order(len(train), block, rng)], shown, tested).max(axis=0)
            for _ in range(subject.shuffles)
        ],
        axis=0,
    )
    limit = luck + GENUINE_SKILL
    names = np.asarray([*windows.feature_names, OWN_RETURN])
    best = real.argmax(axis=0)
    # The most telling first: a smoothed price shows in many features.
    excess = (real - limit).max(axis=1)
    culprits = tuple(names[i] for i in np.argsort(-excess, kind="stable") if excess[i] > 0)
    words = "; ".join(
        f"{h}: {names[i]} {real[i, k]:+.3f} (limit {limit[k]:.3f})"
        for k, (h, i) in enumerate(zip(ahead, best, strict=True))
    )
    figures = pd.DataFrame(real, index=pd.Index(names, name="feature"), columns=ahead.tolist())
    return Evidence(culprits, float(real.max()), f"best skill of one feature, {words}", figures)


def _scaled_sets(subject: Subject) -> tuple[Windows, Windows, Windows]:
    """Return training, validation and test with scaled features, and log returns as their targets."""
    windows = subject.windows
    scaled = replace(
        windows,
        matrix=subject.scaling.features(windows.matrix).astype(np.float64),
        y=windows.log_returns(windows.y),
        config=windows.config.model_copy(update={"target": "log_return"}),
    )
    train, validation, test = (scaled.take(index) for index in subject.split.sets().values())
    return train, validation, test


def _skill(subject: Subject, train: Windows, validation: Windows, test: Windows) -> Floats:
    actual, constant = labels(test), labels(train).mean(axis=0)
    forecasts = subject.recipe.forecast(train, validation, test, subject.prices)
    skill: Floats = 1.0 - ((actual - forecasts) ** 2).mean(axis=0) / ((actual - constant) ** 2).mean(axis=0)
    return np.round(skill, 12)  # a constant forecast has no skill, its rounding included


def _p_above_zero(skills: Floats) -> float:
    return float(wilcoxon(skills, alternative="greater").pvalue) if skills.any() else 1.0


def _single_skills(known: Floats, come: Floats, shown: Floats, tested: Floats) -> Floats:
    """Return the test skill of a straight line through the training set, shape (features, horizons)."""
    mean, constant = known.mean(axis=0), come.mean(axis=0)
    x, y, new, actual = known - mean, come - constant, shown - mean, tested - constant
    spread = (x**2).sum(axis=0)
    slope = x.T @ y / np.where(spread > 0.0, spread, np.inf)[:, None]
    error = -2.0 * slope * (new.T @ actual) + slope**2 * (new**2).sum(axis=0)[:, None]
    skill: Floats = -error / (actual**2).sum(axis=0)
    return skill


def _shuffled(windows: Windows, rng: np.random.Generator) -> Windows:
    block = _block(len(windows), windows.config.horizons[-1])
    return replace(windows, y=windows.y[_block_order(len(windows), block, rng)])


def _block(samples: int, longest: int) -> int:
    """Return the length of blocks: twice the longest label, but ten of them at least."""
    return max(1, min(2 * longest, samples // 10))


def _block_order(samples: int, block: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Return an order in which no block of samples is where it was (Sattolo's algorithm: one cycle through all).

    Examples
    --------
    Six samples in blocks of two: 4 5 0 1 2 3, or 2 3 4 5 0 1.
    """
    blocks = [np.arange(start, min(start + block, samples)) for start in range(0, samples, block)]
    for i in range(len(blocks) - 1, 0, -1):
        j = int(rng.integers(0, i))
        blocks[i], blocks[j] = blocks[j], blocks[i]
    return np.concatenate(blocks)


def _name(function: object) -> str:
    return getattr(function, "__name__", type(function).__name__)
