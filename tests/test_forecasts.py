import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forecastlib.config import WindowConfig
from forecastlib.data.calendars import next_sessions, target_dates
from forecastlib.errors import ConfigError, DataQualityError
from forecastlib.forecasts import COLUMNS, COVERAGES, Forecast, require_forecasts
from forecastlib.models.distribution import LEVELS, Distribution
from forecastlib.samples.windows import Windows, make_windows

HORIZONS = (1, 3)


def windows_of(prices: pd.DataFrame, horizons: tuple[int, ...] = HORIZONS, lookback: int = 2) -> Windows:
    return make_windows(prices, prices[["close"]], WindowConfig(lookback=lookback, horizons=horizons))


def spread_around(log_returns: np.ndarray, width: float = 0.1) -> Distribution:
    """Quantiles that rise linearly from ``width`` below to ``width`` above the point."""
    return Distribution(LEVELS, log_returns[..., None] + width * (2.0 * LEVELS - 1.0))


def forecast_of(prices: pd.DataFrame, windows: Windows, log_returns: np.ndarray, **options: object) -> Forecast:
    dates = np.asarray(target_dates(windows.origins, windows.config.horizons, prices.index, "NYSE"))
    options = {"model": "m", "model_version": "v1", "direction_threshold": 0.005} | options
    return Forecast.of(windows, dates, spread_around(log_returns), **options)


def frame_of(prices: pd.DataFrame, windows: Windows, log_returns: np.ndarray, **options: object) -> pd.DataFrame:
    return forecast_of(prices, windows, log_returns, **options).frame()


@pytest.fixture
def prices(make_prices) -> pd.DataFrame:
    return make_prices([100.0, 110.0, 120.0, 130.0, 140.0], symbol="^X", start="2018-01-02")


@pytest.fixture
def log_returns() -> np.ndarray:
    """Four origins, rows 1-4, and two horizons."""
    return np.log1p([[0.01, 0.02], [0.005, 0.00501], [0.0, -0.00499], [-0.0051, -0.03]])


@pytest.fixture
def frame(prices, log_returns) -> pd.DataFrame:
    return frame_of(prices, windows_of(prices), log_returns)


def test_a_frame_has_the_columns_of_forecasts_in_order_and_their_types(frame):
    assert tuple(frame.columns) == COLUMNS
    assert list(frame.index) == list(range(8))
    assert frame["origin"].dtype == frame["target_date"].dtype == "datetime64[us]"
    assert frame["horizon"].dtype == np.int64
    for name in ("last_close", "predicted_price", "change_pct", "lower_80", "upper_95", "p_up", "p_down", "confidence"):
        assert frame[name].dtype == np.float64
    require_forecasts(frame)


def test_the_horizons_of_an_origin_are_consecutive_rows(prices, frame):
    assert frame["origin"].tolist() == [prices.index[row] for row in (1, 1, 2, 2, 3, 3, 4, 4)]
    assert frame["horizon"].tolist() == [1, 3] * 4
    assert frame["last_close"].tolist() == [110, 110, 120, 120, 130, 130, 140, 140]
    assert frame["symbol"].tolist() == ["^X"] * 8
    assert frame["model"].tolist() == ["m"] * 8
    assert frame["model_version"].tolist() == ["v1"] * 8
    assert frame["consistency"].tolist() == [1.0, 1.0, 0.5, 0.5, 1.0, 1.0, 1.0, 1.0]


def test_prices_changes_and_calls_worked_by_hand(frame):
    np.testing.assert_allclose(frame["predicted_price"][:2], [111.1, 112.2])
    np.testing.assert_allclose(frame["change_pct"], [1.0, 2.0, 0.5, 0.501, 0.0, -0.499, -0.51, -3.0], atol=1e-12)
    calls = frame["direction"].tolist()
    assert calls[:2] + calls[3:] == ["up", "up", "up", "neutral", "neutral", "down", "down"]


def test_calls_are_made_with_the_given_threshold(prices, log_returns):
    frame = frame_of(prices, windows_of(prices), log_returns, direction_threshold=0.015)
    assert frame["direction"].tolist() == ["neutral", "up", *["neutral"] * 5, "down"]


def test_intervals_are_quantiles_in_prices_and_nested(frame):
    point = np.log(frame["predicted_price"] / frame["last_close"])
    for coverage, reach in ((80, 0.08), (95, 0.095)):
        np.testing.assert_allclose(frame[f"lower_{coverage}"], frame["last_close"] * np.exp(point - reach))
        np.testing.assert_allclose(frame[f"upper_{coverage}"], frame["last_close"] * np.exp(point + reach))
    assert (frame["lower_95"] < frame["lower_80"]).all()
    assert (frame["upper_80"] < frame["upper_95"]).all()
    assert COVERAGES == (80, 95)


def test_probabilities_are_those_of_the_distribution(frame):
    point = np.log(frame["predicted_price"] / frame["last_close"])
    np.testing.assert_allclose(frame["p_up"], 0.5 + point / 0.2)
    np.testing.assert_allclose(frame["p_up"] + frame["p_down"], 1.0)


def test_confidence_is_the_probability_of_the_call(frame):
    up, down = frame["direction"] == "up", frame["direction"] == "down"
    np.testing.assert_allclose(frame["confidence"][up], frame["p_up"][up])
    np.testing.assert_allclose(frame["confidence"][down], frame["p_down"][down])
    neutral = frame["confidence"][frame["direction"] == "neutral"]
    np.testing.assert_allclose(neutral, (np.log1p(0.005) - np.log1p(-0.005)) / 0.2, rtol=1e-9)


def test_a_stated_confidence_is_used_unchanged(prices, log_returns):
    stated = np.linspace(0.1, 0.8, 8).reshape(4, 2)
    frame = frame_of(prices, windows_of(prices), log_returns, stated_confidence=stated)
    np.testing.assert_array_equal(frame["confidence"], stated.ravel())


def test_each_forecast_has_its_own_batch_id(prices, log_returns):
    one, other = (frame_of(prices, windows_of(prices), log_returns) for _ in range(2))
    assert one["batch_id"].nunique() == 1
    assert one["batch_id"][0] != other["batch_id"][0]


def test_target_dates_beyond_the_data_are_those_of_the_calendar(prices, frame):
    # The data ends on Monday, 2018-01-08; the sessions that follow are the 9th, 10th and 11th.
    expected = ["01-04", "01-08", "01-05", "01-09", "01-08", "01-10", "01-09", "01-11"]
    assert frame["target_date"].dt.strftime("%m-%d").tolist() == expected


@settings(max_examples=25)
@given(data=st.data(), lookback=st.integers(1, 5), horizons=st.sets(st.integers(1, 20), min_size=1, max_size=4))
def test_the_target_date_is_the_h_th_next_session_of_the_data_where_available(make_prices, data, lookback, horizons):
    whole = make_prices(60, symbol="^GSPC")
    closed = data.draw(st.sets(st.integers(0, 59), max_size=20))
    prices = whole.iloc[[row for row in range(60) if row not in closed]]
    windows = windows_of(prices, tuple(sorted(horizons)), lookback)
    frame = frame_of(prices, windows, np.zeros(windows.y.shape))
    days = list(prices.index)
    after = next_sessions("NYSE", days[-1], 20)
    for row in frame.itertuples():
        ahead = days.index(row.origin) + row.horizon
        assert row.target_date == (days[ahead] if ahead < len(days) else after[ahead - len(days)])
    longest = frame[frame["horizon"] == max(horizons)].reset_index(drop=True)
    known = windows.labelled
    assert longest["target_date"][known].tolist() == windows.label_dates[known].tolist()


def test_a_frame_without_the_columns_of_forecasts_is_refused(frame):
    with pytest.raises(DataQualityError, match="the columns origin, p_up are missing"):
        require_forecasts(frame.drop(columns=["p_up", "origin"]))
    with pytest.raises(DataQualityError, match="at least one origin; got an empty frame"):
        require_forecasts(frame.iloc[:0])


def test_taking_origins_of_a_forecast_takes_their_rows_of_the_frame(prices, log_returns):
    forecast = forecast_of(prices, windows_of(prices), log_returns, stated_confidence=np.full((4, 2), 0.5))
    part = forecast.take([2, 0]).frame()
    whole = forecast.frame()
    pd.testing.assert_frame_equal(part, pd.concat([whole.iloc[4:6], whole.iloc[:2]], ignore_index=True))


def test_a_forecast_is_displayed_in_a_notebook(prices, log_returns):
    html = forecast_of(prices, windows_of(prices), log_returns)._repr_html_()
    assert "m, version v1" in html and "2018-01-03" in html


def test_the_last_known_session_is_an_attribute_of_the_frame(prices, log_returns):
    frame = frame_of(prices, windows_of(prices), log_returns, known_until=prices.index[-1])
    assert frame.attrs == {"direction_threshold": 0.005, "known_until": "2018-01-08"}


@pytest.mark.parametrize(
    ("rows", "expected"), [([], []), ([3, 0], [3, 0]), ([False, True, True, False], [1, 2]), (np.array([-1]), [3])]
)
def test_forecasts_are_taken_by_position_or_mask(prices, log_returns, rows, expected):
    forecast = forecast_of(prices, windows_of(prices), log_returns, stated_confidence=np.full((4, 2), 0.7))
    taken = forecast.take(rows)
    assert taken.origins.equals(forecast.origins[expected])
    np.testing.assert_array_equal(taken.distribution.median(), log_returns[expected])
    assert len(taken.frame()) == 2 * len(expected)


def test_distributions_of_other_origins_or_horizons_are_refused(prices, log_returns):
    for wrong in (log_returns[:1], log_returns[:, :1]):
        with pytest.raises(ConfigError, match=r"expected m to predict quantiles of shape .*\(4, 2, 199\); got"):
            forecast_of(prices, windows_of(prices), wrong)
