"""Figures: each draws the data it is given, and does not change the user's style."""

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
import tiny

from forecastlib import compute_features, evaluate, holdout, make_windows, plots
from forecastlib.config import SplitConfig, WindowConfig
from forecastlib.errors import ConfigError
from forecastlib.evaluation.backtest_result import BacktestResult
from forecastlib.forecasts import COLUMNS


@pytest.fixture(scope="module")
def forecasts(gspc):
    """Return forecasts of a fictitious model: 0.1 % above the last close, with intervals around it."""
    origins = gspc.index[-200:-40]
    rows = []
    for origin in origins:
        at, close = gspc.index.get_loc(origin), gspc.loc[origin, "close"]
        for h in (5, 10):
            spread = 0.01 * np.sqrt(h)
            rows.append(("^GSPC", origin, h, gspc.index[at + h], close, 1.001 * close, 0.1, "neutral",
                         close * (1 - spread), close * (1 + spread), close * (1 - 2 * spread), close * (1 + 2 * spread),
                         0.55, 0.45, 0.3, 0.3, "model", "v1", "batch"))  # fmt: skip
    return pd.DataFrame(rows, columns=list(COLUMNS))


def lines(axes):
    return {line.get_label(): line.get_xydata() for line in axes.get_lines()}


def test_prices_are_drawn_unchanged(gspc):
    above, below = plots.plot_prices(gspc).axes
    assert above.get_yscale() == "log"
    np.testing.assert_array_equal(above.get_lines()[0].get_ydata(), gspc["close"])
    assert len(below.patches) == gspc["volume"].resample("MS").mean().size


def test_every_feature_group_has_a_panel_named_with_its_size(gspc):
    titles = [axes.get_title(loc="left") for axes in plots.plot_feature_groups(compute_features(gspc)).axes]
    assert titles == ["bar (14)", "trend (32)", "momentum (28)", "volatility (30)", "volume (22)", "statistics (22)",
                      "calendar (4)"]  # fmt: skip


def test_features_that_are_not_built_in_share_a_panel(gspc):
    features = compute_features(gspc).assign(mine=gspc["close"], yours=gspc["open"])
    assert plots.plot_feature_groups(features).axes[-1].get_title(loc="left") == "own (2)"


def test_the_split_shows_each_set_and_how_much_is_purged(gspc):
    windows = make_windows(gspc, compute_features(gspc), WindowConfig())
    split = holdout(windows, SplitConfig())
    above, below = plots.plot_split(windows, split, gspc).axes
    assert [text.get_text() for text in above.texts] == ["29 purged", "29 purged"]
    assert [tick.get_text() for tick in below.get_yticklabels()] == ["train", "validation", "test"]


def test_losses_have_a_panel_for_each_output_in_order_of_horizon():
    names = ["", *(f"price_prediction_{h}d_" for h in (30, 7, 14))]
    history = pd.DataFrame({f"{v}{n}loss": [3.0, 1.0, 2.0] for n in names for v in ("", "val_")}, index=[1, 2, 3])
    titles = [axes.get_title(loc="left") for axes in plots.plot_losses(history).axes]
    assert titles == ["weighted sum", "7 sessions", "14 sessions", "30 sessions"]


def test_predictions_are_drawn_with_their_outcomes(gspc, forecasts):
    figure = plots.plot_predictions(evaluate(forecasts, gspc), "model")
    left, right = figure.axes[:2]
    first = forecasts[forecasts["horizon"] == 5]
    np.testing.assert_allclose(lines(left)["forecast"][:, 1], first["predicted_price"])
    np.testing.assert_allclose(lines(left)["outcome"][:, 1], gspc.loc[first["target_date"], "close"])
    assert right.get_title(loc="left").startswith("skill ")


def test_scores_show_the_number_even_where_the_bar_is_cut_off(gspc, forecasts):
    awful = forecasts.assign(predicted_price=2.0 * forecasts["predicted_price"], model="awful")
    evaluation = evaluate(pd.concat([forecasts, awful]), gspc)
    first = plots.plot_scores(evaluation, {"model": "LSTM"}).axes[0]
    assert {tick.get_text() for tick in first.get_yticklabels()} == {"awful", "LSTM"}
    shown = " ".join(text.get_text() for text in first.texts)
    assert f"{evaluation.scores.loc[('awful', 5), 'skill']:+.3f}" in shown
    assert min(bar.get_width() for bar in first.patches) == -plots.MAX_SKILL_SHOWN


def test_a_forecast_begins_at_the_last_close_and_shows_the_outcome(gspc, forecasts):
    rows = forecasts[forecasts["origin"] == forecasts["origin"].iloc[0]]
    (axes,) = plots.plot_forecast(rows, gspc).axes
    drawn = lines(axes)["forecast"]
    np.testing.assert_allclose(drawn[:, 1], [rows["last_close"].iloc[0], *rows["predicted_price"]])
    assert "outcome" in lines(axes)


def test_a_forecast_draws_itself_with_or_without_prices(gspc):
    forecaster = tiny.forecaster()
    prices = tiny.prices()
    forecast = forecaster.forecast(prices, prices.index[-30:-28])
    with pytest.raises(ConfigError, match="a forecast of one origin to draw; got 2"):
        forecast.plot(prices)
    (axes,) = forecast.take([1]).plot(prices, sessions=40).axes
    drawn = lines(axes)
    assert len(drawn["close"]) == 40
    np.testing.assert_array_equal(drawn["outcome"][:, 1], prices["close"].iloc[-29:-14])
    (same,) = plots.plot_forecast(forecast.take([1]), prices, sessions=40).axes
    np.testing.assert_array_equal(lines(same)["forecast"], drawn["forecast"])
    (bare,) = forecast.take([0]).plot().axes
    assert not {"close", "outcome"} & set(lines(bare))
    assert [text.get_text() for text in bare.get_legend().get_texts()] == ["95 % interval", "80 % interval", "forecast"]


def test_drawing_does_not_change_the_users_style(gspc):
    with mpl.rc_context({"font.size": 17.0}):
        plots.plot_prices(gspc)
        assert mpl.rcParams["font.size"] == 17.0


# The backtest


@pytest.fixture(scope="module")
def backtested(gspc, forecasts):
    """Return the backtest result of fictitious models at 450 origins."""
    base = forecasts.iloc[0]
    origins, close = gspc.index[-500:-50], gspc["close"].to_numpy()
    at = gspc.index.get_indexer(origins)
    frames = []
    for number, model in enumerate(("lstm", "random_walk", "drift", "har", "lstm_as_trained", "lstm_adaptive")):
        for h in (5, 10):
            last = close[at]
            columns = {"origin": origins, "horizon": h, "target_date": gspc.index[at + h], "last_close": last,
                       "predicted_price": last * (1 + 0.0005 * number), "actual_price": close[at + h],
                       "crps": 1.0 + at % 3, "model": model, "p_up": 0.4 + 0.1 * (at % 3)}  # fmt: skip
            for coverage, reach in ((80, 0.02), (95, 0.04)):
                columns |= {f"lower_{coverage}": last * (1 - reach), f"upper_{coverage}": last * (1 + reach)}
            frames.append(pd.DataFrame({**base.to_dict(), **columns}, index=range(len(at))))
    found = pd.concat(frames, ignore_index=True)
    found.attrs["direction_threshold"] = 0.005
    return BacktestResult.of(found, gspc)


def test_backtest_scores_are_drawn_with_their_intervals(backtested):
    figure = plots.plot_backtest_scores(backtested, {"lstm": "LSTM"})
    first = figure.axes[0]
    models = ["lstm_adaptive", "lstm_as_trained", "har", "drift", "lstm"]
    assert [tick.get_text().lower() for tick in first.get_yticklabels()] == models
    skills = backtested.scores["skill"].xs(5, level="horizon")[models]
    np.testing.assert_allclose(np.asarray(first.containers[0].lines[0].get_xdata(), dtype=np.float64), skills)
    bars = first.containers[0].lines[2][0].get_segments()
    ends = backtested.scores.loc[("har", 5), ["skill_low", "skill_high"]].to_numpy(dtype=np.float64)
    np.testing.assert_allclose(np.asarray(bars[2])[:, 0], ends)
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["5 sessions", "10 sessions"]


def test_skill_over_time_is_drawn_for_each_horizon_with_its_interval(backtested):
    figure = plots.plot_skill_over_time(backtested)
    for axes, horizon in zip(figure.axes, (5, 10), strict=True):
        seen = backtested.over_time("lstm", horizon)
        np.testing.assert_allclose(lines(axes)["all origins so far"][:, 1], seen["skill"])
        np.testing.assert_allclose(lines(axes)["latest 250 origins"][:, 1], seen["rolling_skill"])
        low = axes.collections[0].get_datalim(axes.transData).y0
        assert low == pytest.approx(seen["low"].min())
    assert "2017" in [text.get_text() for text in figure.axes[0].texts]
    assert "2008-09" not in [text.get_text() for text in figure.axes[0].texts]  # not in view


def test_coverage_over_time_compares_recalibrated_intervals_with_the_nominal_coverage(backtested):
    figure = plots.plot_coverage_over_time(backtested)
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles == [f"{c} % interval coverage, {h} sessions" for h in (5, 10) for c in (80, 95)]
    drawn = lines(figure.axes[3])
    labels = ("as trained", "recalibrated", "recalibrated and adaptive")
    for label, model in zip(labels, ("lstm_as_trained", "lstm", "lstm_adaptive"), strict=True):
        np.testing.assert_allclose(drawn[label][:, 1], backtested.over_time(model, 10)["coverage_95"])
    assert set(drawn["nominal"][:, 1]) == {0.95}


def test_coverage_over_time_leaves_out_variants_that_the_backtest_does_not_have(backtested):
    drawn = lines(plots.plot_coverage_over_time(backtested, "har").axes[0])
    np.testing.assert_allclose(drawn["recalibrated"][:, 1], backtested.over_time("har", 5)["coverage_80"])
    assert "as trained" not in drawn


def test_reliability_shows_each_bin_and_the_calibration_error(backtested):
    left, right = plots.plot_reliability(backtested).axes
    table = backtested.reliability("p_up", "lstm", 5)
    np.testing.assert_allclose(left.collections[0].get_offsets(), table[["stated", "observed"]])
    error = backtested.calibration.loc[("lstm", 5), "confidence"]
    assert f"5 sessions: calibration error {error:.3f}" in [text.get_text() for text in right.get_legend().get_texts()]


# The scorecard


def test_a_scorecard_over_time_has_a_line_for_each_horizon_in_every_panel():
    days = pd.date_range("2018-01-01", periods=4, name="origin")
    index = pd.MultiIndex.from_product([[7, 14], days], names=["horizon", "origin"])
    values = np.arange(8.0)
    columns = {"skill": values / 10, "coverage_80": 0.8, "coverage_95": 0.95, "hit_rate": values / 8, "confidence": 0.6}
    skill, narrow, wide, calls = plots.plot_scorecard(pd.DataFrame(columns, index=index)).axes
    assert {"7 sessions", "14 sessions"} <= set(lines(skill))
    np.testing.assert_allclose(lines(skill)["14 sessions"][:, 1], values[4:] / 10)
    assert [axes.get_title(loc="left") for axes in (narrow, wide)] == [
        "80 % interval coverage",
        "95 % interval coverage",
    ]
    assert len(calls.get_lines()) == 4  # calls and confidence of both horizons
