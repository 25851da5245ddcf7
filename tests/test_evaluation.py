import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forecastlib.config import WindowConfig
from forecastlib.errors import DataQualityError, NotEnoughDataError
from forecastlib.evaluation import metrics
from forecastlib.evaluation.evaluate import DRIFT, RANDOM_WALK, SCORES, crps, evaluate, mean_relative_error
from forecastlib.forecasts import COLUMNS
from forecastlib.models.distribution import LEVELS, Distribution
from forecastlib.samples.windows import make_windows

HORIZONS = (1, 5)


def forecasts_of(prices, rows, horizons=HORIZONS, model="net", *, error=0.02, seed=0, ranges=True) -> pd.DataFrame:
    """Forecast frame of a model that is wrong by chance; its ranges are 3 and 5 per cent to either side."""
    rng = np.random.default_rng(seed)
    close = prices["close"].to_numpy()
    t, h = (values.ravel() for values in np.meshgrid(rows, horizons, indexing="ij"))
    predicted = close[t] * np.exp(rng.normal(0.0, error, len(t)))
    frame = pd.DataFrame(
        {
            "symbol": prices.attrs["symbol"],
            "origin": prices.index[t],
            "horizon": h,
            "target_date": pd.NaT,
            "last_close": close[t],
            "predicted_price": predicted,
            "model_version": model,
            "batch_id": "b",
        }
    )
    for coverage, reach in ((80, 0.03), (95, 0.05)):
        frame[f"lower_{coverage}"] = predicted * (1.0 - reach) if ranges else np.nan
        frame[f"upper_{coverage}"] = predicted * (1.0 + reach) if ranges else np.nan
    return frame.reindex(columns=list(COLUMNS))


@pytest.fixture(scope="module")
def prices(make_prices) -> pd.DataFrame:
    return make_prices(200, symbol="^X", seed=1)


@pytest.fixture(scope="module")
def forecasts(prices) -> pd.DataFrame:
    return forecasts_of(prices, range(100, 180))


@pytest.fixture(scope="module")
def evaluation(forecasts, prices):
    return evaluate(forecasts, prices)


# Scores


def test_every_score_equals_that_of_a_slow_loop(evaluation, forecasts, prices):
    close = prices["close"].tolist()
    for h in HORIZONS:
        rows = [row for row in forecasts.itertuples() if row.horizon == h]
        at = [prices.index.get_loc(row.origin) for row in rows]
        actual = [close[t + h] for t in at]
        error = [row.predicted_price - y for row, y in zip(rows, actual, strict=True)]
        walk = [close[t] - y for t, y in zip(at, actual, strict=True)]
        n = len(rows)
        mean = sum(actual) / n
        moved = [abs(close[i + h] - close[i]) for i in range(101 - h)]  # up to the first origin, row 100
        right = [(row.predicted_price > close[t]) == (y > close[t]) for row, t, y in zip(rows, at, actual, strict=True)]
        expected = {
            "n": n,
            "mae": sum(map(abs, error)) / n,
            "skill": 1 - sum(map(abs, error)) / sum(map(abs, walk)),
            "rmse": math.sqrt(sum(e * e for e in error) / n),
            "squared_skill": 1 - sum(e * e for e in error) / sum(e * e for e in walk),
            "mape": 100 * sum(abs(e) / y for e, y in zip(error, actual, strict=True)) / n,
            "mase": (sum(map(abs, error)) / n) / (sum(moved) / len(moved)),
            "r2": 1 - sum(e * e for e in error) / sum((y - mean) ** 2 for y in actual),
            "bias": sum(error) / n,
            "directional_accuracy": sum(right) / n,
        }
        for coverage in (80, 95):
            inside, width, score = [], [], []
            for row, y in zip(rows, actual, strict=True):
                low, high = (getattr(row, f"{end}_{coverage}") / row.last_close for end in ("lower", "upper"))
                y = y / row.last_close
                inside.append(low <= y <= high)
                width.append(high - low)
                score.append(high - low + 2 / (1 - coverage / 100) * (max(low - y, 0) + max(y - high, 0)))
            expected |= {f"coverage_{coverage}": sum(inside) / n, f"width_{coverage}": sum(width) / n}
            expected[f"interval_score_{coverage}"] = sum(score) / n
        assert set(expected) == set(SCORES) - {"crps", "crps_skill"}
        assert evaluation.scores.loc[("net", h), list(expected)].to_dict() == pytest.approx(expected, rel=1e-9)


def test_the_random_walk_has_no_skill_and_no_verdict(evaluation):
    walk = evaluation.scores.loc[RANDOM_WALK]
    assert (walk["skill"] == 0.0).all()
    assert (walk["squared_skill"] == 0.0).all()
    assert RANDOM_WALK not in evaluation.verdicts.index.get_level_values("model")


def test_the_drift_goes_on_as_the_price_has_gone_up_to_the_origin(evaluation, forecasts, prices):
    logs = np.log(prices["close"])
    for h in HORIZONS:
        rows = forecasts[forecasts["horizon"] == h]
        error = []
        for row in rows.itertuples():
            t = prices.index.get_loc(row.origin)
            a_session = logs.iloc[: t + 1].diff().dropna().mean()
            error.append(abs(row.last_close * math.exp(h * a_session) - prices["close"].iloc[t + h]))
        assert evaluation.scores.loc[(DRIFT, h), "mae"] == pytest.approx(np.mean(error), rel=1e-9)


def test_the_drift_looks_at_nothing_after_an_origin(forecasts, prices):
    one = forecasts_of(prices, [150], (5,))
    changed = prices.copy()
    changed.iloc[151:155] *= 1.1  # between the origin and the outcome
    before, after = (evaluate(one, p).scores.loc[(DRIFT, 5)] for p in (prices, changed))
    pd.testing.assert_series_equal(before, after)


def test_a_model_without_ranges_has_no_scores_of_them(prices):
    scores = evaluate(forecasts_of(prices, range(100, 150), ranges=False), prices).scores
    of_ranges = [name for name in SCORES if name.endswith(("_80", "_95")) or name.startswith("crps")]
    assert scores[of_ranges].isna().all(axis=None)
    assert scores.drop(columns=of_ranges).notna().all(axis=None)


def test_the_scale_is_unknown_where_no_move_was_seen_before_the_first_origin(prices):
    scores = evaluate(forecasts_of(prices, range(3, 50)), prices).scores
    assert scores.loc[("net", 1), "mase"] > 0
    assert math.isnan(scores.loc[("net", 5), "mase"])


def test_scores_and_verdicts_have_one_row_for_each_model_and_horizon(evaluation):
    assert evaluation.models == [RANDOM_WALK, DRIFT, "net"]
    assert evaluation.scores.index.tolist() == [(m, h) for m in evaluation.models for h in HORIZONS]
    assert evaluation.verdicts.index.tolist() == [(m, h) for m in evaluation.models[1:] for h in HORIZONS]
    assert evaluation.scores.index.names == evaluation.verdicts.index.names == ["model", "horizon"]
    assert tuple(evaluation.scores.columns) == SCORES
    assert list(evaluation.verdicts.columns) == ["statistic", "p_value", "outcome", "verdict"]
    assert evaluation.symbol == "^X"


def test_crps_of_a_distribution_is_that_of_its_quantiles_as_samples_in_per_cent(prices):
    windows = make_windows(prices, prices[["close"]], WindowConfig(lookback=1, horizons=HORIZONS))
    rng = np.random.default_rng(0)
    quantiles = np.sort(rng.normal(0.0, 0.03, (len(windows), 2, len(LEVELS))), axis=2)
    found = crps(windows, Distribution(LEVELS, quantiles))
    close = prices["close"].to_numpy()
    for row, column in ((0, 0), (57, 1), (180, 0)):
        origin = windows.rows[row]
        actual = math.log(close[origin + HORIZONS[column]] / close[origin])
        expected = 100.0 * float(metrics.crps_of_samples(actual, quantiles[row, column]))
        assert found[row, column] == pytest.approx(expected, rel=0.02)
    assert np.isnan(found[-5:, 1]).all()  # not known yet
    assert np.isfinite(found[:-5]).all()


def test_crps_of_a_frame_is_averaged_and_compared_with_the_random_walks(prices):
    net = forecasts_of(prices, range(100, 150)).assign(crps=np.tile([1.0, 3.0], 50))
    walk = forecasts_of(prices, range(100, 150), model=RANDOM_WALK).assign(crps=2.0)
    silent = forecasts_of(prices, range(100, 150), model="silent")
    scores = evaluate(pd.concat([net, walk, silent]), prices).scores
    assert scores.loc["net", "crps"].tolist() == [1.0, 3.0]
    assert scores.loc["net", "crps_skill"].tolist() == [0.5, -0.5]
    assert scores.loc[RANDOM_WALK, "crps_skill"].tolist() == [0.0, 0.0]
    assert scores.loc[["silent", DRIFT], ["crps", "crps_skill"]].isna().all(axis=None)


def test_one_missing_crps_leaves_the_mean_unknown(prices):
    net = forecasts_of(prices, range(100, 150)).assign(crps=1.0)
    net.loc[4, "crps"] = np.nan
    scores = evaluate(net, prices).scores
    assert math.isnan(scores.loc[("net", 1), "crps"])
    assert scores.loc[("net", 5), "crps"] == 1.0


# What counts


@settings(max_examples=25)
@given(data=st.data(), horizons=st.sets(st.integers(1, 12), min_size=1, max_size=3).map(sorted))
def test_the_outcome_is_the_h_th_next_close_of_the_data_and_what_is_not_known_yet_does_not_count(
    make_prices, data, horizons
):
    whole = make_prices(60)
    closed = data.draw(st.sets(st.integers(0, 59), max_size=20))
    prices = whole.iloc[[row for row in range(60) if row not in closed]]
    rows = data.draw(st.sets(st.integers(0, len(prices) - 1), min_size=1).map(sorted))
    expected = {(t, h): prices["close"].iloc[t + h] for t in rows for h in horizons if t + h < len(prices)}
    forecasts = forecasts_of(prices, rows, horizons)
    if not expected:
        with pytest.raises(NotEnoughDataError, match="give later prices"):
            evaluate(forecasts, prices)
        return
    known = evaluate(forecasts, prices).forecasts
    got = {(prices.index.get_loc(r.origin), r.horizon): r.actual_price for r in known.itertuples()}
    assert got == expected
    assert len(known) == len(expected)


def test_only_common_origins_count(prices):
    one = forecasts_of(prices, range(100, 150), model="one")
    other = forecasts_of(prices, range(120, 170), model="other", seed=1)
    both = evaluate(pd.concat([one, other]), prices)
    assert (both.scores["n"] == 30).all()
    alone = evaluate(one[one["origin"] >= prices.index[120]], prices)
    for name in (RANDOM_WALK, DRIFT, "one"):
        pd.testing.assert_frame_equal(both.scores.loc[[name]], alone.scores.loc[[name]])
    assert both.models == [RANDOM_WALK, DRIFT, "one", "other"]


def test_only_common_horizons_count(prices):
    one = forecasts_of(prices, range(100, 150), (1, 5), model="one")
    other = forecasts_of(prices, range(100, 150), (5, 10), model="other")
    scores = evaluate(pd.concat([one, other]), prices).scores
    assert scores.index.unique("horizon").tolist() == [5]


def test_models_without_a_common_origin_cannot_be_compared(prices):
    one = forecasts_of(prices, range(100, 150), model="one")
    for rows in (range(150, 180), [199]):  # origins of its own; and one whose outcome is not known yet
        other = forecasts_of(prices, rows, model="other")
        with pytest.raises(NotEnoughDataError, match="same origin and horizon by all of 2 models"):
            evaluate(pd.concat([one, other]), prices)


def test_an_origin_that_the_prices_do_not_have_does_not_count(forecasts, prices):
    gap = prices.drop(prices.index[110])
    scores = evaluate(forecasts, gap).scores
    assert (scores["n"] == 79).all()


def test_the_order_of_rows_does_not_matter(evaluation, forecasts, prices):
    shuffled = evaluate(forecasts.sample(frac=1.0, random_state=0), prices)
    pd.testing.assert_frame_equal(shuffled.scores, evaluation.scores)
    pd.testing.assert_frame_equal(shuffled.verdicts, evaluation.verdicts)


def test_reference_forecasts_that_are_given_are_taken_and_the_random_walk_still_comes_first(forecasts, prices):
    walk = forecasts.assign(model_version=RANDOM_WALK, predicted_price=forecasts["last_close"])
    drift = forecasts.assign(model_version=DRIFT, predicted_price=1.01 * forecasts["last_close"])
    given_both = evaluate(pd.concat([forecasts, drift, walk]), prices)
    assert given_both.models == [RANDOM_WALK, "net", DRIFT]
    assert given_both.verdicts.index.unique("model").tolist() == ["net", DRIFT]
    assert given_both.scores.loc[(RANDOM_WALK, 1), "coverage_80"] > 0  # its own ranges
    actual = given_both.forecasts[lambda f: (f["model_version"] == DRIFT) & (f["horizon"] == 1)]
    expected = (1.01 * actual["last_close"] - actual["actual_price"]).abs().mean()
    assert given_both.scores.loc[(DRIFT, 1), "mae"] == pytest.approx(expected)
    given_one = evaluate(pd.concat([forecasts, walk]), prices)
    assert given_one.models == [RANDOM_WALK, DRIFT, "net"]


def test_evaluating_changes_neither_frame(forecasts, prices):
    before = forecasts.copy(deep=True), prices.copy(deep=True)
    evaluate(forecasts, prices)
    pd.testing.assert_frame_equal(forecasts, before[0])
    pd.testing.assert_frame_equal(prices, before[1])


# Verdicts


def test_a_verdict_is_the_test_of_relative_errors_against_the_random_walk(evaluation, forecasts, prices):
    for h in HORIZONS:
        rows = forecasts[forecasts["horizon"] == h]
        actual = prices["close"].to_numpy()[np.arange(100, 180) + h]
        last = rows["last_close"].to_numpy()
        expected = metrics.diebold_mariano(abs(rows["predicted_price"] - actual) / last, abs(last - actual) / last, h)
        verdict = evaluation.verdicts.loc[("net", h)]
        assert verdict["statistic"] == pytest.approx(expected.statistic, rel=1e-9)
        assert verdict["p_value"] == pytest.approx(expected.p_value, rel=1e-9)
        assert verdict["outcome"] == expected.outcome()
        assert verdict["verdict"] == metrics.verdict(expected)


def test_a_model_that_knows_the_future_is_better_and_one_that_is_wild_is_worse(prices):
    seer = forecasts_of(prices, range(60, 180), model="seer")
    seer["predicted_price"] = prices["close"].to_numpy()[np.tile(HORIZONS, 120) + np.repeat(np.arange(60, 180), 2)]
    wild = forecasts_of(prices, range(60, 180), model="wild", error=0.3)
    result = evaluate(pd.concat([seer, wild]), prices)
    assert (result.verdicts.loc["seer", "outcome"] == "better than").all()
    assert (result.verdicts.loc["wild", "outcome"] == "worse than").all()
    assert (result.scores.loc["seer", "skill"] == 1.0).all()
    assert result.verdicts.loc[("seer", 5), "verdict"].startswith("5 sessions ahead: better than the random walk (")


def test_the_random_walk_under_another_name_is_no_different(forecasts, prices):
    result = evaluate(forecasts.assign(predicted_price=forecasts["last_close"]), prices)
    assert (result.verdicts.loc["net", "outcome"] == "no different from").all()
    assert (result.scores.loc["net", "skill"] == 0.0).all()


@pytest.mark.parametrize(
    ("horizon", "rows", "enough"),
    [
        (1, range(100, 109), False),
        (1, range(100, 110), True),
        (20, range(100, 139), False),
        (20, range(100, 140), True),
        (20, range(0, 180, 20), False),  # labels do not overlap, but nine forecasts are few all the same
        (20, range(5, 180, 10), True),  # two labels overlap
    ],
)
def test_too_few_forecasts_for_the_overlap_of_their_labels_leave_it_undecided(prices, horizon, rows, enough):
    verdicts = evaluate(forecasts_of(prices, rows, (horizon,)), prices).verdicts.loc["net"]
    verdict = verdicts.loc[horizon]
    assert (verdict["outcome"] != "undecided") == enough
    assert math.isfinite(verdict["p_value"]) == enough
    if enough:
        assert f"{horizon} session" in verdict["verdict"]
        assert f"n = {len(rows)}" in verdict["verdict"]
    else:
        assert f"{len(rows)} forecasts are too few to tell it from the random walk" in verdict["verdict"]


def test_spaced_origins_are_tested_by_how_many_labels_overlap(prices):
    rows = list(range(10, 190, 5))
    forecasts = forecasts_of(prices, rows, (10,))
    actual = prices["close"].to_numpy()[np.array(rows) + 10]
    last = forecasts["last_close"].to_numpy()
    losses = [np.abs(predicted - actual) / last for predicted in (forecasts["predicted_price"].to_numpy(), last)]
    expected = metrics.diebold_mariano(*losses, 2)
    verdict = evaluate(forecasts, prices).verdicts.loc[("net", 10)]
    assert verdict["statistic"] == pytest.approx(expected.statistic, rel=1e-9)
    assert verdict["verdict"].startswith("10 sessions ahead: ")


# What an evaluation shows


def test_flat_scores_are_named_by_horizon_and_leave_out_what_is_unknown(prices):
    evaluation = evaluate(forecasts_of(prices, range(3, 50), ranges=False), prices)
    flat = evaluation.flat("net")
    assert set(flat) == {
        *(f"{name}_1d" for name in SCORES[1:10]),
        *(f"{name}_5d" for name in SCORES[1:10] if name != "mase"),
    }
    assert flat["mae_5d"] == evaluation.scores.loc[("net", 5), "mae"]
    assert all(type(value) is float for value in flat.values())


def test_the_table_has_a_row_for_each_model_with_the_random_walk_first(evaluation):
    table = evaluation.table()
    assert list(table.index) == [RANDOM_WALK, DRIFT, "net"]
    assert list(table.columns) == ["mae 1d", "mae 5d", "skill 1d", "skill 5d"]
    assert table.loc["net", "skill 5d"] == evaluation.scores.loc[("net", 5), "skill"]


def test_the_table_has_crps_where_it_is_known(prices):
    net = forecasts_of(prices, range(100, 150)).assign(crps=1.25)
    evaluation = evaluate(net, prices)
    assert list(evaluation.table().columns)[-2:] == ["crps 1d", "crps 5d"]
    html = evaluation._repr_html_()
    assert "CRPS in per cent" in html
    assert "1.250" in html
    assert "–" in html  # of the random walk, whose distribution was not given


def test_an_evaluation_shows_itself_as_a_table(evaluation):
    html = evaluation._repr_html_()
    assert "^X: error and skill" in html
    assert f"{evaluation.scores.loc[('net', 5), 'skill']:+.3f}" in html
    assert html.index(RANDOM_WALK) < html.index("net")


def test_what_decides_the_champion_is_the_mean_error_relative_to_the_random_walk(evaluation):
    scores = evaluation.scores["mae"]
    relative = [scores["net", h] / scores[RANDOM_WALK, h] for h in HORIZONS]
    assert mean_relative_error(evaluation, "net") == pytest.approx(sum(relative) / 2)
    assert mean_relative_error(evaluation, "net", [5]) == pytest.approx(relative[1])
    assert mean_relative_error(evaluation, RANDOM_WALK) == 1.0


# What is refused


def test_several_symbols_are_refused(forecasts, prices):
    both = pd.concat([forecasts, forecasts.assign(symbol="^A")])
    with pytest.raises(DataQualityError, match=r"forecasts of one symbol; got \^A, \^X; evaluate each apart"):
        evaluate(both, prices)


def test_prices_of_another_symbol_are_refused(forecasts, prices):
    other = prices.copy()
    other.attrs["symbol"] = "^GSPC"
    with pytest.raises(DataQualityError, match=r"expected prices of \^X, as the forecasts are; got \^GSPC"):
        evaluate(forecasts, other)
    del other.attrs["symbol"]
    assert evaluate(forecasts, other).symbol == "^X"


def test_two_forecasts_of_the_same_thing_are_refused(forecasts, prices):
    with pytest.raises(DataQualityError, match="net has several of 2015-05-21, 5 sessions ahead; keep one"):
        evaluate(pd.concat([forecasts, forecasts.iloc[[1]].assign(batch_id="later")]), prices)


def test_frames_of_another_shape_are_refused(forecasts, prices):
    with pytest.raises(DataQualityError, match="columns predicted_price are missing"):
        evaluate(forecasts.drop(columns="predicted_price"), prices)
    with pytest.raises(DataQualityError, match="close missing"):
        evaluate(forecasts, prices.drop(columns="close"))


def test_outcomes_that_are_all_in_the_future_are_not_enough(prices):
    with pytest.raises(NotEnoughDataError, match="these end on 2015-10-07, the origins are 2015-10-07 to 2015-10-07"):
        evaluate(forecasts_of(prices, [199]), prices)
