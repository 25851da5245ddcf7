"""Time-ordered splits, purged by the dates on which labels become known.

Two neighbouring samples share most of their labels: with a horizon of 30, the label of an origin reaches 30 sessions
ahead, into the origins that follow. A split by origins alone therefore leaks. Here no label of an earlier set is known
later than the first origin of the next one (López de Prado, *Advances in Financial Machine Learning*, 2018, ch. 7), so
that the gap between two sets is the longest horizon, plus an optional embargo. Inputs of a later set may reach back;
labels may not.

Sets are cut by date. Samples pooled from several symbols are cut on the same dates for all.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from forecastlib.config import SplitConfig
from forecastlib.errors import ConfigError, NotEnoughDataError
from forecastlib.samples.windows import Windows

Index = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Split:
    """Positions of the samples of each set in ascending order, as ``Windows.take`` reads them.

    Attributes
    ----------
    train, validation, test : ndarray of int64
    """

    train: Index
    validation: Index
    test: Index

    def sets(self) -> dict[str, Index]:
        """Return the sets by name, oldest first."""
        return {"train": self.train, "validation": self.validation, "test": self.test}


def holdout(windows: Windows, config: SplitConfig | None = None) -> Split:
    """Split once: training, validation and test, oldest to newest, purged.

    Parameters
    ----------
    windows
        Samples; those without a label are in no set.
    config
        Shares and embargo.

    Returns
    -------
    Split

    Raises
    ------
    NotEnoughDataError
        If a set would be empty.

    Examples
    --------
    Twenty labelled origins (0-19), longest horizon 2, shares 0.7 / 0.15 / 0.15, no embargo: validation begins at
    origin 14 and the test at 17. The label of origin 12 is known after session 14, that of 13 only after 15:

    >>> # train       0 ... 12    label of 12 known after 14, the first validation origin
    >>> # (purged)    13
    >>> # validation  14, 15      label of 15 known after 17, the first test origin
    >>> # (purged)    16
    >>> # test        17 ... 19
    """
    config = config or SplitConfig()
    dates = _origin_dates(windows)
    first = round(config.train_share * len(dates))
    second = round((config.train_share + config.validation_share) * len(dates))
    return _cut(windows, dates, (0, first, second, len(dates)), config.embargo)


def walk_forward(
    windows: Windows,
    *,
    folds: int,
    test_size: int | None = None,
    expanding: bool = True,
    embargo: int = 0,
    validation_share: float = 0.15,
) -> Iterator[Split]:
    """Split repeatedly: consecutive test sets up to the end of the data, each with the data before it.

    Parameters
    ----------
    windows
        Samples; those without a label are in no set.
    folds
        Number of test sets.
    test_size
        Origin dates in each test set; None: the data divided by ``folds + 1``.
    expanding
        True: training starts at the beginning in every fold. False: it rolls, and is as long as in the first fold.
    embargo
        Sessions dropped before each later set, in addition to the purge.
    validation_share
        Share of the dates before a test set that form the validation set.

    Returns
    -------
    iterator of Split
        Oldest test set first.

    Raises
    ------
    ConfigError
        If the number of folds, the test size, the embargo or the share is out of range.
    NotEnoughDataError
        If a set would be empty.

    Examples
    --------
    Twelve labelled origins (0-11), horizon 1, two folds of three, ``validation_share=1/3``:

    >>> # fold 1:  train 0-3   validation 4, 5   test 6, 7, 8      (label of 3 known after 4, of 5 after 6)
    >>> # fold 2:  train 0-5   validation 6-8    test 9, 10, 11
    """
    if folds < 1:
        raise ConfigError(f"expected at least one fold; got folds={folds}")
    if test_size is not None and test_size < 1:
        raise ConfigError(f"expected a test_size of at least one origin; got {test_size}")
    if embargo < 0:
        raise ConfigError(f"expected an embargo of 0 sessions or more; got {embargo}")
    if not 0.0 < validation_share < 1.0:
        raise ConfigError(f"expected a validation_share between 0 and 1; got {validation_share}")
    dates = _origin_dates(windows)
    size = len(dates) // (folds + 1) if test_size is None else test_size
    before = len(dates) - folds * size
    if size < 1 or before < 2:
        raise NotEnoughDataError(
            f"expected more than {folds} x {size} labelled origins for {folds} folds; got {len(dates)}; "
            "use fewer folds or a smaller test_size"
        )
    splits = []  # all at once, so that an empty fold raises before the first one is trained
    for start in range(before, len(dates), size):
        oldest = 0 if expanding else start - before
        validation = start - round(validation_share * (start - oldest))
        splits.append(_cut(windows, dates, (oldest, validation, start, start + size), embargo))
    return iter(splits)


def _origin_dates(windows: Windows) -> pd.DatetimeIndex:
    """Return the dates of labelled origins, unique and ascending."""
    return windows.origins[windows.labelled].unique().sort_values()


def _cut(windows: Windows, dates: pd.DatetimeIndex, edges: tuple[int, int, int, int], embargo: int) -> Split:
    """Cut at positions of ``dates``, dropping the samples whose label reaches into the set that follows."""
    labelled = windows.labelled
    sets = []
    for begin, end in itertools.pairwise(edges):
        if begin >= end:
            raise NotEnoughDataError(_too_few(windows, dates, "an empty set"))
        chosen = labelled & (windows.origins >= dates[begin]) & (windows.origins <= dates[end - 1])
        if end != edges[-1]:
            # A label may be known on the very session of the next set's first origin: both are known after its close.
            latest = dates[max(end - embargo, 0)]
            chosen &= windows.label_dates <= latest
        sets.append(np.flatnonzero(chosen))
    if any(len(chosen) == 0 for chosen in sets):
        raise NotEnoughDataError(_too_few(windows, dates, f"sets of {', '.join(str(len(s)) for s in sets)} samples"))
    return Split(*sets)


def _too_few(windows: Windows, dates: pd.DatetimeIndex, got: str) -> str:
    return (
        f"expected samples in each of training, validation and test after purging {windows.config.horizons[-1]} "
        f"sessions between them; {len(dates)} labelled origins give {got}; use a longer history, shorter horizons "
        "or other shares"
    )
