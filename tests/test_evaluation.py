import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forecastlib.errors import DataQualityError, NotEnoughDataError
from forecastlib.evaluation import metrics
from forecastlib.evaluation.evaluate import evaluate
from forecastlib.evaluation.score_table import RANDOM_WALK, SCORES, hits, score_table, with_outcomes
from forecastlib.evaluation.significance import diebold_mariano, verdict
from forecastlib.forecasts import COLUMNS, Forecast, direction
from forecastlib.models.distribution import LEVELS, Distribution

HORIZONS = (1, 5)


def forecasts_of(prices, rows, horizons=HORIZONS, model="net", *, error=0.02, seed=0, intervals=True) -> pd.DataFrame:
    """Return random forecasts, with intervals of 3 and 5 per cent on either side."""
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
            "direction": direction(predicted / close[t] - 1.0, 0.005),
            "model": model,
            "model_version": "v1",
            "batch_id": "b",
        }
    )
    for coverage, reach in ((80, 0.03), (95, 0.05)):
        frame[f"lower_{coverage}"] = predicted * (1.0 - reach) if intervals else np.nan
        frame[f"upper_{coverage}"] = predicted * (1.0 + reach) if intervals else np.nan
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
        change = [y / close[t] - 1.0 for t, y in zip(at, actual, strict=True)]
        events = [{"up": c > 0, "down": c < 0, "neutral": abs(c) <= 0.005} for c in change]
        expected = {
            "n": n,
            "mae": sum(map(abs, error)) / n,
            "mae_random_walk": sum(map(abs, walk)) / n,
            "skill": 1 - sum(map(abs, error)) / sum(map(abs, walk)),
            "rmse": math.sqrt(sum(e * e for e in error) / n),
            "squared_skill": 1 - sum(e * e for e in error) / sum(e * e for e in walk),
            "mape": 100 * sum(abs(e) / y for e, y in zip(error, actual, strict=True)) / n,
            "mase": (sum(map(abs, error)) / n) / (sum(moved) / len(moved)),
            "r2": 1 - sum(e * e for e in error) / sum((y - mean) ** 2 for y in actual),
            "bias": sum(error) / n,
            "correlation": float(np.corrcoef(actual, [row.predicted_price for row in rows])[0, 1]),
            "hit_rate": sum(event[row.direction] for event, row in zip(events, rows, strict=True)) / n,
            "base_rate": max(sum(event[call] for event in events) for call in ("up", "down", "neutral")) / n,
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
        assert set(expected) == set(SCORES) - {"confidence", "calibration_error", "crps", "crps_skill"}
        assert evaluation.scores.loc[("net", h), list(expected)].to_dict() == pytest.approx(expected, rel=1e-9)


def test_the_random_walk_has_no_skill_and_no_verdict(evaluation):
    walk = evaluation.scores.loc[RANDOM_WALK]
    assert (walk["skill"] == 0.0).all()
    assert (walk["squared_skill"] == 0.0).all()
    assert RANDOM_WALK not in evaluation.verdicts.index.get_level_values("model")


def test_a_model_without_intervals_has_no_scores_of_them(prices):
    scores = evaluate(forecasts_of(prices, range(100, 150), intervals=False), prices).scores
    unknown = [name for name in SCORES if name.endswith(("_80", "_95")) or name.startswith(("crps", "confidence"))]
    unknown.append("calibration_error")
    assert scores[unknown].isna().all(axis=None)
    assert scores.drop(columns=unknown).notna().all(axis=None)


def test_mase_is_unknown_without_a_history_longer_than_the_horizon(prices):
    scores = evaluate(forecasts_of(prices, range(3, 50)), prices).scores
    assert scores.loc[("net", 1), "mase"] > 0
    assert math.isnan(scores.loc[("net", 5), "mase"])


def test_scores_and_verdicts_have_one_row_for_each_model_and_horizon(evaluation):
    assert evaluation.models == [RANDOM_WALK, "net"]
    assert evaluation.scores.index.tolist() == [(m, h) for m in evaluation.models for h in HORIZONS]
    assert evaluation.verdicts.index.tolist() == [(m, h) for m in evaluation.models[1:] for h in HORIZONS]
    assert evaluation.scores.index.names == evaluation.verdicts.index.names == ["model", "horizon"]
    assert tuple(evaluation.scores.columns) == SCORES
    assert list(evaluation.verdicts.columns) == ["statistic", "p_value", "outcome", "verdict"]
    assert evaluation.symbol == "^X"


def forecast_of(prices, rows, model="net") -> Forecast:
    """Return a forecast with random distributions."""
    rows = np.asarray(rows)
    quantiles = np.sort(np.random.default_rng(0).normal(0.0, 0.03, (len(rows), 2, len(LEVELS))), axis=2)
    return Forecast(
        symbols=np.full(len(rows), prices.attrs["symbol"]),
        origins=prices.index[rows],
        horizons=HORIZONS,
        target_dates=np.full((len(rows), 2), np.datetime64("2030-01-01")),
        last_close=prices["close"].to_numpy()[rows],
        distribution=Distribution(LEVELS, quantiles),
        model=model,
        model_version=model,
        direction_threshold=0.01,
    )


def test_a_forecast_is_scored_by_the_crps_of_its_distribution_in_per_cent(prices):
    forecast = forecast_of(prices, range(100, 200))
    scored = evaluate(forecast, prices).forecasts.query("model == 'net'")
    close = prices["close"].to_numpy()
    assert len(scored) == 99 + 95  # the outcomes of the newest origins are not known yet
    for row in scored.iloc[[0, 57, 180]].itertuples():
        origin = prices.index.get_loc(row.origin)
        actual = math.log(close[origin + row.horizon] / close[origin])
        quantiles = forecast.distribution.quantiles[origin - 100, HORIZONS.index(row.horizon)]
        # The score of equally likely samples, over all pairs of them.
        expected = abs(quantiles - actual).mean() - abs(quantiles[:, None] - quantiles).mean() / 2.0
        assert row.crps == pytest.approx(100.0 * expected, rel=0.02)


def test_forecasts_and_frames_may_be_mixed(prices):
    forecast = forecast_of(prices, range(100, 150))
    frame = forecasts_of(prices, range(100, 150), model="frame")
    both = evaluate([forecast, frame], prices)
    assert both.models == [RANDOM_WALK, "net", "frame"]
    expected = evaluate(forecast, prices).scores.loc["net"]
    pd.testing.assert_frame_equal(both.scores.loc["net"], expected)
    assert both.scores.loc[("frame", 5), "mae"] == evaluate(frame, prices).scores.loc[("frame", 5), "mae"]


def test_hits_are_counted_with_the_threshold_that_the_calls_were_made_with(prices):
    forecast = forecast_of(prices, range(100, 150))
    found = evaluate(forecast, prices).scores.loc[("net", 5)]
    calls = forecast.calls()[:, 1]
    change = prices["close"].to_numpy()[np.arange(100, 150) + 5] / forecast.last_close - 1.0
    hit = np.where(calls == "up", change > 0, np.where(calls == "down", change < 0, abs(change) <= 0.01))
    assert found["hit_rate"] == hit.mean()
    assert found["confidence"] == pytest.approx(forecast.confidence()[:, 1].mean())
    error = metrics.expected_calibration_error(forecast.confidence()[:, 1], hit)
    assert found["calibration_error"] == pytest.approx(error)


def test_crps_in_a_frame_is_averaged_and_compared_with_that_of_the_random_walk(prices):
    net = forecasts_of(prices, range(100, 150)).assign(crps=np.tile([1.0, 3.0], 50))
    walk = forecasts_of(prices, range(100, 150), model=RANDOM_WALK).assign(crps=2.0)
    silent = forecasts_of(prices, range(100, 150), model="silent")
    scores = evaluate(pd.concat([net, walk, silent]), prices).scores
    assert scores.loc["net", "crps"].tolist() == [1.0, 3.0]
    assert scores.loc["net", "crps_skill"].tolist() == [0.5, -0.5]
    assert scores.loc[RANDOM_WALK, "crps_skill"].tolist() == [0.0, 0.0]
    assert scores.loc["silent", ["crps", "crps_skill"]].isna().all(axis=None)


def test_one_missing_crps_leaves_the_mean_unknown(prices):
    net = forecasts_of(prices, range(100, 150)).assign(crps=1.0)
    net.loc[4, "crps"] = np.nan
    scores = evaluate(net, prices).scores
    assert math.isnan(scores.loc[("net", 1), "crps"])
    assert scores.loc[("net", 5), "crps"] == 1.0


# Which forecasts count


@settings(max_examples=25)
@given(data=st.data(), horizons=st.sets(st.integers(1, 12), min_size=1, max_size=3).map(sorted))
def test_the_outcome_is_the_h_th_next_close_of_the_data_and_unknown_outcomes_do_not_count(make_prices, data, horizons):
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
    known = evaluate(forecasts, prices).forecasts.query("model == 'net'")
    got = {(prices.index.get_loc(r.origin), r.horizon): r.actual_price for r in known.itertuples()}
    assert got == expected
    assert len(known) == len(expected)


def test_only_common_origins_count(prices):
    one = forecasts_of(prices, range(100, 150), model="one")
    other = forecasts_of(prices, range(120, 170), model="other", seed=1)
    both = evaluate(pd.concat([one, other]), prices)
    assert (both.scores["n"] == 30).all()
    single = evaluate(one[one["origin"] >= prices.index[120]], prices)
    for name in (RANDOM_WALK, "one"):
        pd.testing.assert_frame_equal(both.scores.loc[[name]], single.scores.loc[[name]])
    assert both.models == [RANDOM_WALK, "one", "other"]


def test_only_common_horizons_count(prices):
    one = forecasts_of(prices, range(100, 150), (1, 5), model="one")
    other = forecasts_of(prices, range(100, 150), (5, 10), model="other")
    scores = evaluate(pd.concat([one, other]), prices).scores
    assert scores.index.unique("horizon").tolist() == [5]


def test_models_without_a_common_origin_cannot_be_compared(prices):
    one = forecasts_of(prices, range(100, 150), model="one")
    for rows in (range(150, 180), [199]):  # other origins, and one whose outcome is not known yet
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


def test_a_random_walk_that_is_given_is_used_and_comes_first(forecasts, prices):
    walk = forecasts.assign(model=RANDOM_WALK, predicted_price=forecasts["last_close"])
    evaluation = evaluate(pd.concat([forecasts, walk]), prices)
    assert evaluation.models == [RANDOM_WALK, "net"]
    assert evaluation.verdicts.index.unique("model").tolist() == ["net"]
    assert evaluation.scores.loc[(RANDOM_WALK, 1), "coverage_80"] > 0  # it has intervals


def test_outcomes_are_on_the_level_of_the_forecast_where_prices_have_been_adjusted_since(forecasts, prices):
    split = prices.copy()
    split.loc[:, ["open", "high", "low", "close"]] /= 4.0
    split.attrs = prices.attrs
    pd.testing.assert_frame_equal(with_outcomes(forecasts, split), with_outcomes(forecasts, prices), rtol=1e-12)
    assert with_outcomes(forecasts, prices.iloc[:110])["actual_price"].isna().sum() == 70 + 70 + 1 + 5


def test_a_score_table_has_any_groups_and_counts_only_known_outcomes(forecasts, prices):
    rows = with_outcomes(forecasts, prices.iloc[:150])
    table = score_table(rows.assign(year=rows["origin"].dt.year), ("year", "horizon"))
    assert table.index.names == ["year", "horizon"]
    assert table["n"].tolist() == [49, 45]
    assert table["mase"].isna().all()
    assert score_table(rows[rows["origin"] > prices.index[149]]).empty
    assert tuple(score_table(rows[:0])) == SCORES


def test_calls_are_made_from_point_forecasts_where_a_frame_has_none(forecasts, prices):
    rows = with_outcomes(forecasts, prices)
    assert hits(rows.drop(columns="direction")).tolist() == hits(rows).tolist()


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
        expected = diebold_mariano(abs(rows["predicted_price"] - actual) / last, abs(last - actual) / last, h)
        found = evaluation.verdicts.loc[("net", h)]
        assert found["statistic"] == pytest.approx(expected.statistic, rel=1e-9)
        assert found["p_value"] == pytest.approx(expected.p_value, rel=1e-9)
        assert found["outcome"] == expected.outcome()
        assert found["verdict"] == verdict(expected)


def test_a_model_that_knows_the_future_is_better_and_an_erratic_one_is_worse(prices):
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
        (20, range(0, 180, 20), False),  # labels do not overlap, but nine forecasts are too few
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
        assert f"{len(rows)} forecasts are too few to compare with the random walk" in verdict["verdict"]


def test_spaced_origins_are_tested_by_how_many_labels_overlap(prices):
    rows = list(range(10, 190, 5))
    forecasts = forecasts_of(prices, rows, (10,))
    actual = prices["close"].to_numpy()[np.array(rows) + 10]
    last = forecasts["last_close"].to_numpy()
    losses = [np.abs(predicted - actual) / last for predicted in (forecasts["predicted_price"].to_numpy(), last)]
    expected = diebold_mariano(*losses, 2)
    found = evaluate(forecasts, prices).verdicts.loc[("net", 10)]
    assert found["statistic"] == pytest.approx(expected.statistic, rel=1e-9)
    assert found["verdict"].startswith("10 sessions ahead: ")


# Display


def test_flat_scores_are_named_by_horizon_and_omit_unknown_ones(prices):
    evaluation = evaluate(forecasts_of(prices, range(3, 50), intervals=False), prices)
    flat = evaluation.flat("net")
    assert set(flat) == {
        *(f"{name}_1d" for name in SCORES[1:13]),
        *(f"{name}_5d" for name in SCORES[1:13] if name != "mase"),
    }
    assert flat["mae_5d"] == evaluation.scores.loc[("net", 5), "mae"]
    assert all(type(value) is float for value in flat.values())


def test_the_table_has_a_row_for_each_model_with_the_random_walk_first(evaluation):
    table = evaluation.table()
    assert list(table.index) == [RANDOM_WALK, "net"]
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


def test_an_evaluation_is_displayed_as_a_table(evaluation):
    html = evaluation._repr_html_()
    assert "^X: error and skill" in html
    assert f"{evaluation.scores.loc[('net', 5), 'skill']:+.3f}" in html
    assert html.index(RANDOM_WALK) < html.index("net")


# Errors


def test_several_symbols_are_refused(forecasts, prices):
    both = pd.concat([forecasts, forecasts.assign(symbol="^A")])
    with pytest.raises(
        DataQualityError, match=r"forecasts of one symbol; got \^A, \^X; evaluate each symbol separately"
    ):
        evaluate(both, prices)


def test_prices_of_another_symbol_are_refused(forecasts, prices):
    other = prices.copy()
    other.attrs["symbol"] = "^GSPC"
    with pytest.raises(DataQualityError, match=r"expected prices of \^X, the symbol of the forecasts; got \^GSPC"):
        evaluate(forecasts, other)
    del other.attrs["symbol"]
    assert evaluate(forecasts, other).symbol == "^X"


def test_two_forecasts_of_the_same_origin_and_horizon_are_refused(forecasts, prices):
    with pytest.raises(DataQualityError, match="net has several of 2015-05-21, 5 sessions ahead; drop the others"):
        evaluate(pd.concat([forecasts, forecasts.iloc[[1]].assign(batch_id="later")]), prices)


def test_frames_without_required_columns_are_refused(forecasts, prices):
    with pytest.raises(DataQualityError, match="columns predicted_price are missing"):
        evaluate(forecasts.drop(columns="predicted_price"), prices)
    with pytest.raises(DataQualityError, match="close missing"):
        evaluate(forecasts, prices.drop(columns="close"))


def test_forecasts_without_any_known_outcome_are_refused(prices):
    with pytest.raises(NotEnoughDataError, match="these end on 2015-10-07, the origins are 2015-10-07 to 2015-10-07"):
        evaluate(forecasts_of(prices, [199]), prices)
