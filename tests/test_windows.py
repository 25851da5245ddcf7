import dataclasses
import tracemalloc

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forecastlib.config import WindowConfig
from forecastlib.errors import ConfigError, DataQualityError, NotEnoughDataError
from forecastlib.features import compute_features, warm_up
from forecastlib.samples.variance import ewma_volatility
from forecastlib.samples.windows import MIN_PRICE_RATIO, Windows, make_windows, pool_windows

TARGETS = ("log_return", "vol_scaled", "price")


def numbered_features(prices: pd.DataFrame, warm: int = 0, offset: float = 0.0) -> pd.DataFrame:
    """Two columns that identify the row: its number, and its negative."""
    number = np.arange(len(prices)) + offset
    features = pd.DataFrame({"row": number, "minus": -number}, index=prices.index)
    features.iloc[:warm] = np.nan
    return features


def numbered_windows(prices: pd.DataFrame, warm: int = 0, offset: float = 0.0, **config: object) -> Windows:
    return make_windows(prices, numbered_features(prices, warm, offset), WindowConfig(**config))


@pytest.fixture
def ten(make_prices) -> pd.DataFrame:
    """Ten sessions, rows 0-9, with distinct closes."""
    return make_prices([100.0, 101.0, 103.0, 106.0, 110.0, 115.0, 121.0, 128.0, 136.0, 145.0])


def test_ten_sessions_worked_by_hand(ten):
    windows = numbered_windows(ten, warm=2, lookback=3, horizons=(1, 2), target="price")
    assert windows.rows.tolist() == [4, 5, 6, 7, 8, 9]
    assert windows.X[:, :, 0].tolist() == [[2, 3, 4], [3, 4, 5], [4, 5, 6], [5, 6, 7], [6, 7, 8], [7, 8, 9]]
    assert windows.X[:, :, 1].tolist() == [
        [-2, -3, -4],
        [-3, -4, -5],
        [-4, -5, -6],
        [-5, -6, -7],
        [-6, -7, -8],
        [-7, -8, -9],
    ]
    np.testing.assert_array_equal(
        windows.y, [[115, 121], [121, 128], [128, 136], [136, 145], [145, np.nan], [np.nan, np.nan]]
    )
    assert windows.last_close.tolist() == [110, 115, 121, 128, 136, 145]
    assert windows.origins.equals(ten.index[4:])
    assert windows.label_dates[:4].equals(ten.index[6:])
    assert windows.label_dates[4:].isna().all()
    assert windows.labelled.tolist() == [True, True, True, True, False, False]
    assert windows.symbols.tolist() == ["TEST"] * 6
    assert windows.feature_names == ("row", "minus")
    np.testing.assert_array_equal(windows.volatility, ewma_volatility(ten)[4:])
    assert len(windows) == 6


def test_log_returns_worked_by_hand(ten):
    windows = numbered_windows(ten, lookback=9, horizons=(1,))
    np.testing.assert_allclose(windows.y, [[np.log(145 / 136)], [np.nan]], rtol=1e-15)


def test_scaled_targets_are_log_returns_over_the_volatility_of_the_horizon(ten):
    windows = numbered_windows(ten, lookback=6, horizons=(1, 4), target="vol_scaled")
    volatility = ewma_volatility(ten)[5]
    expected = [np.log(121 / 115) / volatility, np.log(145 / 115) / (volatility * 2.0)]
    np.testing.assert_allclose(windows.y[0], expected, rtol=1e-14)


def test_the_bundled_prices_give_every_complete_window(gspc):
    features = compute_features(gspc)
    windows = make_windows(gspc, features)
    assert len(windows) == 5031 - warm_up() - 59
    assert windows.labelled.sum() == len(windows) - 30
    assert windows.X.shape == (len(windows), 60, 152)
    assert windows.y.shape == (len(windows), 3)
    assert np.isfinite(windows.X).all()
    assert np.shares_memory(windows.matrix, features.to_numpy())


@st.composite
def shapes(draw) -> dict:
    lookback, warm = draw(st.integers(1, 9)), draw(st.integers(0, 5))
    return {
        "sessions": draw(st.integers(lookback + warm, 40)),
        "warm": warm,
        "lookback": lookback,
        "horizons": tuple(sorted(draw(st.sets(st.integers(1, 15), min_size=1, max_size=4)))),
        "target": draw(st.sampled_from(TARGETS)),
        "seed": draw(st.integers(0, 99)),
    }


@settings(max_examples=30)
@given(shapes())
def test_every_window_and_label_equals_that_of_a_slow_loop(make_prices, shape):
    sessions, seed, warm = shape.pop("sessions"), shape.pop("seed"), shape.pop("warm")
    prices = make_prices(sessions, seed=seed)
    windows = numbered_windows(prices, warm, **shape)
    close, volatility = prices["close"].tolist(), ewma_volatility(prices).tolist()
    lookback, horizons = shape["lookback"], shape["horizons"]
    origins = [t for t in range(sessions) if t - lookback + 1 >= warm]
    assert windows.rows.tolist() == origins
    for i, t in enumerate(origins):
        assert windows.X[i, :, 0].tolist() == list(range(t - lookback + 1, t + 1))
        for j, h in enumerate(horizons):
            if t + h >= sessions:
                assert np.isnan(windows.y[i, j])  # never clipped to the last price
                continue
            change = np.log(close[t + h] / close[t])
            expected = {
                "log_return": change,
                "vol_scaled": change / (volatility[t] * h**0.5),
                "price": close[t + h],
            }
            assert windows.y[i, j] == pytest.approx(expected[shape["target"]], rel=1e-12, abs=1e-15)
        last = t + horizons[-1]
        if last < sessions:
            assert windows.label_dates[i] == prices.index[last]
        else:
            assert windows.label_dates[i] is pd.NaT
        assert windows.labelled[i] == (last < sessions)


@settings(max_examples=30)
@given(shapes())
def test_all_targets_convert_back_to_prices(make_prices, shape):
    sessions, seed, warm = shape.pop("sessions"), shape.pop("seed"), shape.pop("warm")
    prices = make_prices(sessions, seed=seed)
    windows = numbered_windows(prices, warm, **shape)
    extended = np.append(prices["close"].to_numpy(), np.full(15, np.nan))
    actual = extended[windows.rows[:, None] + np.array(shape["horizons"])]
    np.testing.assert_allclose(windows.to_prices(windows.y), actual, rtol=1e-14)
    np.testing.assert_allclose(
        windows.log_returns(windows.y), np.log(actual / windows.last_close[:, None]), rtol=1e-12, atol=1e-15
    )


def test_a_negative_price_from_a_network_stays_above_the_floor(ten):
    windows = numbered_windows(ten, lookback=10, horizons=(1, 2), target="price")
    np.testing.assert_allclose(windows.to_prices([[-5.0, 150.0]]), [[MIN_PRICE_RATIO * 145.0, 150.0]], rtol=1e-14)


def test_the_windows_are_a_read_only_view_of_the_one_matrix(make_prices):
    windows = numbered_windows(make_prices(100), lookback=20)
    assert np.shares_memory(windows.X, windows.matrix)
    assert not windows.X.flags.writeable
    part = windows.take(np.arange(10, 40))
    assert np.shares_memory(part.X, windows.matrix)
    assert part.matrix is windows.matrix


def test_windows_with_gaps_between_them_are_gathered(make_prices):
    windows = numbered_windows(make_prices(100), lookback=20)
    for index in ([3, 4, 6], [5, 4, 3], [2, 2, 3], [3, 5, 4, 6], [3, 3, 5], [7]):
        np.testing.assert_array_equal(windows.take(index).X, windows.X[index])
    assert not np.shares_memory(windows.take([3, 4, 6]).X, windows.matrix)


def test_no_windows_at_all_have_the_right_shape(make_prices):
    windows = numbered_windows(make_prices(30), lookback=20, horizons=(1, 2))
    none = windows.take([])
    assert none.X.shape == (0, 20, 2)
    assert none.y.shape == (0, 2)
    assert len(none) == len(none.origins) == 0


def test_the_memory_of_pooled_windows_stays_below_three_matrices(make_prices):
    frames = [make_prices(3000, seed=seed, symbol=f"S{seed}") for seed in range(2)]
    features = [pd.DataFrame(np.ones((3000, 50)), index=one.index) for one in frames]
    features = [one.set_axis([f"f{i}" for i in range(50)], axis=1) for one in features]
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    windows = pool_windows([make_windows(*pair) for pair in zip(frames, features, strict=True)])
    split = windows.take(windows.labelled)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(split) == 2 * (3000 - 59 - 30)
    assert peak - before < 3 * 2 * 3000 * 50 * 8


def test_taking_samples_selects_from_every_part_of_them(ten):
    windows = numbered_windows(ten, lookback=3, horizons=(1, 2))
    part = windows.take([5, 1])
    for name in ("rows", "y", "last_close", "volatility", "symbols"):
        np.testing.assert_array_equal(getattr(part, name), getattr(windows, name)[[5, 1]])
    assert part.origins.tolist() == [windows.origins[5], windows.origins[1]]
    assert part.label_dates.tolist() == [windows.label_dates[5], windows.label_dates[1]]
    assert (part.config, part.feature_names) == (windows.config, windows.feature_names)


def test_a_mask_selects_the_samples_where_it_is_true(ten):
    windows = numbered_windows(ten, lookback=3, horizons=(1, 2))
    assert windows.take(windows.labelled).rows.tolist() == [2, 3, 4, 5, 6, 7]
    assert windows.covered_rows(windows.rows == 5).tolist() == [3, 4, 5]
    with pytest.raises(IndexError):
        windows.take([True, False])


def test_positions_beyond_the_last_are_an_error(ten):
    with pytest.raises(IndexError):
        numbered_windows(ten, lookback=3, horizons=(1,)).take([99])


@settings(max_examples=30)
@given(data=st.data(), lookback=st.integers(1, 9))
def test_covered_rows_equal_those_of_a_slow_loop(make_prices, data, lookback):
    one = numbered_windows(make_prices(30, symbol="A"), lookback=lookback, horizons=(1,))
    other = numbered_windows(make_prices(20, symbol="B"), lookback=lookback, horizons=(1,))
    windows = pool_windows([one, other])
    index = data.draw(st.lists(st.integers(0, len(windows) - 1)))
    seen = {row for i in index for row in range(windows.rows[i] - lookback + 1, windows.rows[i] + 1)}
    assert windows.covered_rows(index).tolist() == sorted(seen)


@settings(max_examples=30)
@given(cut=st.integers(20, 59), target=st.sampled_from(TARGETS))
def test_a_changed_future_changes_no_window_and_no_label_that_was_known(make_prices, cut, target):
    prices = make_prices(60)
    changed = prices.copy()
    changed.iloc[cut:] *= 1.7
    config = WindowConfig(lookback=5, horizons=(1, 7), target=target)
    one, other = (make_windows(p, p.drop(columns="volume"), config) for p in (prices, changed))
    past = np.flatnonzero(one.rows < cut)
    np.testing.assert_array_equal(one.X[past], other.X[past])
    np.testing.assert_array_equal(one.volatility[past], other.volatility[past])
    for j, h in enumerate(config.horizons):
        known = np.flatnonzero(one.rows + h < cut)
        np.testing.assert_array_equal(one.y[known, j], other.y[known, j])


# Pooling


def test_a_window_never_crosses_from_one_symbol_into_another(make_prices):
    parts = [
        numbered_windows(make_prices(n, symbol=symbol), warm, offset, lookback=4, horizons=(1, 3))
        for n, symbol, warm, offset in ((12, "A", 2, 0.0), (9, "LONGER", 0, 1000.0), (20, "C", 5, 2000.0))
    ]
    pooled = pool_windows(parts)
    assert pooled.symbols.tolist() == ["A"] * 7 + ["LONGER"] * 6 + ["C"] * 12
    thousands = pooled.X[:, :, 0] // 1000
    assert (thousands == thousands[:, :1]).all()
    assert np.isfinite(pooled.X).all()
    np.testing.assert_array_equal(pooled.X, np.concatenate([part.X for part in parts]))
    np.testing.assert_array_equal(pooled.y, np.concatenate([part.y for part in parts]))
    assert pooled.origins.tolist() == [date for part in parts for date in part.origins]
    assert pooled.label_dates.equals(pd.DatetimeIndex([date for part in parts for date in part.label_dates]))
    np.testing.assert_array_equal(pooled.last_close, np.concatenate([part.last_close for part in parts]))
    np.testing.assert_array_equal(pooled.volatility, np.concatenate([part.volatility for part in parts]))


@settings(max_examples=30)
@given(lengths=st.lists(st.integers(9, 25), min_size=1, max_size=4), lookback=st.integers(1, 9))
def test_pooled_samples_are_those_of_each_symbol_for_any_lengths(make_prices, lengths, lookback):
    parts = [
        numbered_windows(make_prices(n, symbol=str(i)), 0, 1000.0 * i, lookback=lookback, horizons=(2,))
        for i, n in enumerate(lengths)
    ]
    pooled = pool_windows(parts)
    for i, part in enumerate(parts):
        own = pooled.take(pooled.symbols == str(i))
        np.testing.assert_array_equal(own.X, part.X)
        np.testing.assert_array_equal(own.y, part.y)
        assert own.origins.equals(part.origins)
        assert own.label_dates.equals(part.label_dates)


def test_a_pool_of_one_symbol_is_that_symbols_windows(ten):
    windows = numbered_windows(ten, lookback=3, horizons=(1,))
    assert pool_windows([windows]) is windows


def test_incompatible_windows_are_not_pooled(ten):
    windows = numbered_windows(ten, lookback=3, horizons=(1,))
    with pytest.raises(ConfigError, match="at least one symbol to pool; got none"):
        pool_windows([])
    with pytest.raises(ConfigError, match="the same configuration and the same features"):
        pool_windows([windows, numbered_windows(ten, lookback=3, horizons=(2,))])
    swapped = make_windows(ten, numbered_features(ten)[["minus", "row"]], windows.config)
    with pytest.raises(ConfigError, match="the same features in the same order"):
        pool_windows([windows, swapped])


# What is refused


def test_features_of_other_dates_are_refused(ten):
    with pytest.raises(DataQualityError, match="features on the index of the prices; got 9 rows for 10 sessions"):
        make_windows(ten, numbered_features(ten).iloc[1:], WindowConfig(lookback=3))
    moved = numbered_features(ten).set_axis(ten.index + pd.Timedelta(days=1), axis=0)
    with pytest.raises(DataQualityError, match="or other dates"):
        make_windows(ten, moved, WindowConfig(lookback=3))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_missing_value_after_the_warm_up_is_refused_with_name_and_date(ten, value):
    features = numbered_features(ten, warm=2)
    features.iloc[6, 1] = value
    with pytest.raises(DataQualityError, match=f"warm-up of 2 sessions; 'minus' is {value} on 2015-01-09"):
        make_windows(ten, features, WindowConfig(lookback=3))


def test_a_row_is_warm_up_until_all_features_have_values(ten):
    features = numbered_features(ten)
    features.iloc[:4, 1] = np.nan
    assert make_windows(ten, features, WindowConfig(lookback=2, horizons=(1,))).rows[0] == 5


def test_too_short_a_history_is_refused_with_the_length_needed(ten):
    with pytest.raises(
        NotEnoughDataError, match=r"at least 11 sessions for one window .2 of warm-up and a lookback of 9.; got 10"
    ):
        numbered_windows(ten, warm=2, lookback=9)
    assert len(numbered_windows(ten, warm=2, lookback=8)) == 1
    with pytest.raises(NotEnoughDataError, match="10 of warm-up"):
        numbered_windows(ten, warm=10, lookback=1)


def test_incomplete_prices_are_refused(ten):
    ten.iloc[4, 3] = np.nan
    with pytest.raises(DataQualityError, match="got nan for close"):
        numbered_windows(ten, lookback=3)


def test_prices_of_another_resolution_give_the_same_windows(ten):
    windows = numbered_windows(ten, lookback=3, horizons=(1, 2))
    other = ten.set_axis(ten.index.as_unit("ns"), axis=0)
    same = numbered_windows(other, lookback=3, horizons=(1, 2))
    np.testing.assert_array_equal(same.y, windows.y)
    assert (same.origins == windows.origins).all()
    assert same.label_dates[:6].tolist() == windows.label_dates[:6].tolist()


@pytest.mark.parametrize("symbol", [None, 7, ""])
def test_the_symbol_of_samples_is_text_whatever_type_it_has_in_the_prices(make_prices, symbol):
    windows = numbered_windows(make_prices(30, symbol=symbol), lookback=3, horizons=(1,))
    (part,) = windows.by_symbol()
    assert part.symbol == str(symbol)
    assert len(part.index) == len(windows)


def test_samples_whose_origin_is_not_in_the_prices_are_refused(make_prices):
    prices = make_prices(30)
    windows = numbered_windows(prices, lookback=3, horizons=(1,))
    for missing in (4, 29):
        other = dataclasses.replace(windows, prices=(prices.drop(prices.index[missing]),))
        with pytest.raises(DataQualityError, match=f"{prices.index[missing]:%Y-%m-%d} is missing"):
            list(other.by_symbol())
