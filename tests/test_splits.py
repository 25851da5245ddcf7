import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from forecastlib.config import SplitConfig, WindowConfig
from forecastlib.errors import ConfigError, NotEnoughDataError
from forecastlib.samples.splits import Split, holdout, walk_forward
from forecastlib.samples.windows import Windows, make_windows, pool_windows


def windows_of(prices: pd.DataFrame, *, lookback: int = 1, horizons: tuple[int, ...] = (1,)) -> Windows:
    return make_windows(prices, prices[["close"]], WindowConfig(lookback=lookback, horizons=horizons))


def as_lists(split: Split) -> list[list[int]]:
    return [index.tolist() for index in split.sets().values()]


@pytest.fixture
def twenty(make_prices) -> Windows:
    """Twenty labelled origins, 0-19, and two that have no label yet."""
    return windows_of(make_prices(22), horizons=(1, 2))


@pytest.fixture
def twelve(make_prices) -> Windows:
    """Twelve labelled origins, 0-11, and one that has no label yet."""
    return windows_of(make_prices(13))


def test_a_holdout_worked_by_hand(twenty):
    assert as_lists(holdout(twenty)) == [list(range(13)), [14, 15], [17, 18, 19]]


def test_an_embargo_leaves_out_additional_sessions(twenty):
    split = holdout(twenty, SplitConfig(embargo=1))
    assert as_lists(split) == [list(range(12)), [14], [17, 18, 19]]


def test_shares_move_the_cuts(twenty):
    split = holdout(twenty, SplitConfig(train_share=0.5, validation_share=0.25))
    assert as_lists(split) == [list(range(9)), [10, 11, 12, 13], [15, 16, 17, 18, 19]]


def test_sets_are_named_oldest_first(twenty):
    assert list(holdout(twenty).sets()) == ["train", "validation", "test"]


def test_walking_forward_worked_by_hand(twelve):
    folds = list(walk_forward(twelve, folds=2, test_size=3, validation_share=1 / 3))
    assert [as_lists(fold) for fold in folds] == [
        [[0, 1, 2, 3], [4, 5], [6, 7, 8]],
        [[0, 1, 2, 3, 4, 5], [6, 7, 8], [9, 10, 11]],
    ]


def test_a_rolling_walk_keeps_the_length_of_the_first_fold(twelve):
    folds = walk_forward(twelve, folds=2, test_size=3, validation_share=1 / 3, expanding=False)
    assert [as_lists(fold) for fold in folds] == [
        [[0, 1, 2, 3], [4, 5], [6, 7, 8]],
        [[3, 4, 5, 6], [7, 8], [9, 10, 11]],
    ]


def test_an_embargo_in_a_walk_worked_by_hand(twelve):
    folds = walk_forward(twelve, folds=2, test_size=3, validation_share=1 / 3, embargo=1)
    assert [as_lists(fold) for fold in folds] == [
        [[0, 1, 2], [4], [6, 7, 8]],
        [[0, 1, 2, 3, 4], [6, 7], [9, 10, 11]],
    ]


def test_a_walk_purges_longer_horizons(twenty):
    folds = walk_forward(twenty, folds=2, test_size=4, validation_share=0.25)
    assert [as_lists(fold) for fold in folds] == [
        [list(range(8)), [9, 10], [12, 13, 14, 15]],
        [list(range(11)), [12, 13, 14], [16, 17, 18, 19]],
    ]


def test_without_a_test_size_the_data_is_divided_by_one_more_than_the_folds(twelve):
    folds = list(walk_forward(twelve, folds=2, validation_share=0.5))
    assert [fold.test.tolist() for fold in folds] == [[4, 5, 6, 7], [8, 9, 10, 11]]


def test_the_default_holdout_of_the_bundled_prices_has_gaps_of_the_longest_horizon(gspc):
    windows = windows_of(gspc, lookback=60, horizons=(7, 14, 30))
    split = holdout(windows)
    labelled = int(windows.labelled.sum())
    assert labelled == 5031 - 59 - 30
    cuts = [round(0.7 * labelled), round(0.85 * labelled)]
    assert (split.train[0], split.validation[0], split.test[0]) == (0, *cuts)
    assert (split.train[-1], split.validation[-1], split.test[-1]) == (cuts[0] - 30, cuts[1] - 30, labelled - 1)
    assert sum(map(len, split.sets().values())) == labelled - 2 * 29


# Properties, for one symbol and for several with different sessions


@st.composite
def pooled(draw, make_prices) -> Windows:
    """Windows of one to three symbols that begin on different days and lack different sessions."""
    horizons = tuple(sorted(draw(st.sets(st.integers(1, 8), min_size=1, max_size=3))))
    lookback = draw(st.integers(1, 5))
    parts = []
    for i in range(draw(st.integers(1, 3))):
        n, start = draw(st.integers(40, 90)), draw(st.integers(1, 28))
        prices = make_prices(n, symbol=f"S{i}", start=f"2015-01-{start:02d}", seed=i)
        closed = draw(st.sets(st.integers(0, n - 1), max_size=8))
        open_days = [row for row in range(n) if row not in closed]
        parts.append(windows_of(prices.iloc[open_days], lookback=lookback, horizons=horizons))
    return pool_windows(parts)


def expected_set(windows: Windows, dates: list[pd.Timestamp], begin: int, end: int, latest: int | None) -> list[int]:
    """Choose the samples of a set one by one."""
    return [
        i
        for i in range(len(windows))
        if windows.labelled[i]
        and dates[begin] <= windows.origins[i] <= dates[end - 1]
        and (latest is None or windows.label_dates[i] <= dates[max(latest, 0)])
    ]


def require_no_overlap(windows: Windows, split: Split, embargo: int) -> None:
    dates = sorted(set(windows.origins[windows.labelled]))
    for earlier, later in itertools.pairwise(split.sets().values()):
        first_origin = windows.origins[later].min()
        last_label = windows.label_dates[earlier].max()
        assert last_label <= first_origin  # no label is known later than the first origin of the next set
        left_out = [date for date in dates if last_label < date <= first_origin]
        assert len(left_out) >= embargo
        assert windows.origins[earlier].max() < first_origin
    for index in split.sets().values():
        assert len(index)
        assert windows.labelled[index].all()
        assert (np.diff(index) > 0).all()
        assert np.isfinite(windows.y[index]).all()


@settings(max_examples=30)
@given(data=st.data(), train=st.floats(0.3, 0.6), validation=st.floats(0.15, 0.35), embargo=st.integers(0, 4))
def test_no_label_of_one_set_is_known_later_than_the_first_origin_of_the_next(
    make_prices, data, train, validation, embargo
):
    windows = data.draw(pooled(make_prices))
    dates = sorted(set(windows.origins[windows.labelled]))
    cuts = [0, round(train * len(dates)), round((train + validation) * len(dates)), len(dates)]
    expected = [
        expected_set(windows, dates, begin, end, None if end == len(dates) else end - embargo)
        for begin, end in itertools.pairwise(cuts)
    ]
    config = SplitConfig(train_share=train, validation_share=validation, embargo=embargo)
    if not all(expected):
        with pytest.raises(NotEnoughDataError):
            holdout(windows, config)
        return
    split = holdout(windows, config)
    require_no_overlap(windows, split, embargo)
    assert as_lists(split) == expected


@settings(max_examples=30)
@given(
    data=st.data(),
    folds=st.integers(1, 4),
    expanding=st.booleans(),
    embargo=st.integers(0, 3),
    share=st.floats(0.25, 0.5),
)
def test_no_label_reaches_into_the_next_set_on_any_walk(make_prices, data, folds, expanding, embargo, share):
    windows = data.draw(pooled(make_prices))
    test_size = data.draw(st.none() | st.integers(1, 8))
    options = {"folds": folds, "test_size": test_size, "expanding": expanding, "embargo": embargo}
    try:
        splits = list(walk_forward(windows, **options, validation_share=share))
    except NotEnoughDataError:
        assume(False)
    assert len(splits) == folds
    dates = sorted(set(windows.origins[windows.labelled]))
    size = test_size or len(dates) // (folds + 1)
    first = len(dates) - folds * size
    for fold, split in enumerate(splits):
        require_no_overlap(windows, split, embargo)
        start = first + fold * size
        oldest = 0 if expanding else fold * size
        cuts = [oldest, start - round(share * (start - oldest)), start, start + size]
        latest = [cuts[1] - embargo, start - embargo, None]
        assert as_lists(split) == [
            expected_set(windows, dates, *edge) for edge in zip(cuts, cuts[1:], latest, strict=False)
        ]
    tested = np.concatenate([split.test for split in splits])
    assert len(set(tested)) == len(tested)  # no origin is tested twice
    assert set(tested) == set(expected_set(windows, dates, first, len(dates), None))


def test_pooled_symbols_are_cut_on_the_same_dates(gspc, ixic):
    parts = [windows_of(gspc, horizons=(7,)), windows_of(ixic.iloc[1000:], horizons=(7,))]
    windows = pool_windows(parts)
    split = holdout(windows)
    for name, index in split.sets().items():
        begins = [windows.origins[index][windows.symbols[index] == symbol].min() for symbol in ("^GSPC", "^IXIC")]
        ends = [windows.origins[index][windows.symbols[index] == symbol].max() for symbol in ("^GSPC", "^IXIC")]
        assert ends[0] == ends[1], name
        assert begins[0] == begins[1] or name == "train"
    assert windows.label_dates[split.train].max() == windows.origins[split.validation].min()


def test_inputs_of_a_later_set_may_reach_back(make_prices):
    windows = windows_of(make_prices(60), lookback=10, horizons=(2,))
    split = holdout(windows)
    assert windows.covered_rows(split.validation)[0] < windows.rows[split.train[-1]]


# What is refused


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"folds": 0}, "at least one fold; got folds=0"),
        ({"folds": 2, "test_size": 0}, "a test_size of at least one origin; got 0"),
        ({"folds": 2, "embargo": -1}, "an embargo of 0 sessions or more; got -1"),
        ({"folds": 2, "validation_share": 0.0}, r"a validation_share between 0 and 1; got 0\.0"),
        ({"folds": 2, "validation_share": 1.0}, r"a validation_share between 0 and 1; got 1\.0"),
    ],
)
def test_an_invalid_walk_is_refused_before_iteration(twelve, options, message):
    with pytest.raises(ConfigError, match=message):
        walk_forward(twelve, **options)


def test_too_many_folds_for_the_data_are_refused_before_iteration(twelve):
    with pytest.raises(
        NotEnoughDataError, match=r"more than 4 x 3 labelled origins for 4 folds; got 12; use fewer folds"
    ):
        walk_forward(twelve, folds=4, test_size=3)
    with pytest.raises(NotEnoughDataError, match="more than 20 x 0 labelled origins"):
        walk_forward(twelve, folds=20)


def test_a_fold_that_purging_empties_is_refused_before_iteration(twelve):
    with pytest.raises(NotEnoughDataError, match="expected samples in each of training, validation and test"):
        walk_forward(twelve, folds=2, test_size=3, embargo=9)


def test_a_history_too_short_for_three_sets_is_refused_with_its_length(make_prices):
    with pytest.raises(
        NotEnoughDataError, match=r"after purging 5 sessions .* 15 labelled origins give sets of 6, 0, 2"
    ):
        holdout(windows_of(make_prices(20), horizons=(5,)))
    with pytest.raises(NotEnoughDataError, match="0 labelled origins give an empty set"):
        holdout(windows_of(make_prices(5), horizons=(5,)))
