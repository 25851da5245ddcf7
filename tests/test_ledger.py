"""The ledger, in SQLite and in a real PostgreSQL."""

import datetime as dt
import json
import os
import signal
import subprocess
import sys
import threading

import numpy as np
import pandas as pd
import pytest
import sqlalchemy as sa
from alembic.config import Config
from alembic.script import ScriptDirectory

from forecastlib import evaluate
from forecastlib.database import parse_url
from forecastlib.errors import ConfigError, DataQualityError, LedgerError
from forecastlib.evaluation import metrics
from forecastlib.evaluation.score_table import hits
from forecastlib.forecasts import COLUMNS
from forecastlib.ledger import LEDGER_VARIABLE, Ledger, over_time
from forecastlib.ledger.tables import VERSIONS
from forecastlib.models.conformal import adaptive_widening

HORIZONS = (3, 5)
VERSION = "v1.0.0_20260101_120000"
TABLES = ("forecasts", "requests", "ledger_schema", "ledger_version")


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def url(request, tmp_path):
    """The URL of a database without a ledger."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'ledger.db'}"
    url = request.getfixturevalue("postgresql")
    execute(url, *(f"DROP TABLE IF EXISTS {table}" for table in TABLES))
    return url


@pytest.fixture
def ledger(url):
    with Ledger(url) as ledger:
        yield ledger


@pytest.fixture
def prices(make_prices):
    return make_prices(120)


def execute(url, *statements):
    """Change a database without the ledger."""
    with sa.create_engine(parse_url(url), poolclass=sa.NullPool).begin() as connection:
        for statement in statements:
            connection.execute(sa.text(statement))


def rows_in(url, table="forecasts"):
    """Read a whole table without the ledger, in the order of the keys."""
    with sa.create_engine(parse_url(url), poolclass=sa.NullPool).connect() as connection:
        return connection.execute(
            sa.text(f"SELECT * FROM {table} ORDER BY symbol, origin, horizon, model_version")
        ).all()


def forecasts_of(prices, rows, *, version=VERSION, seed=0):
    """Return random forecasts with these rows of prices as origins."""
    rng = np.random.default_rng(seed)
    at = np.repeat(np.asarray(rows), len(HORIZONS))
    horizon = np.tile(HORIZONS, len(rows))
    last = prices["close"].to_numpy()[at]
    change = rng.normal(0.0, 0.02, len(at))
    predicted, width = last * np.exp(change), rng.uniform(0.005, 0.04, len(at))
    days = pd.bdate_range(prices.index[0], periods=len(prices) + 30, unit="us")
    p_up = rng.uniform(0.2, 0.8, len(at))
    direction = np.where(change > 0.005, "up", np.where(change < -0.005, "down", "neutral"))
    columns = {
        "symbol": prices.attrs["symbol"],
        "origin": prices.index[at],
        "horizon": horizon,
        "target_date": days[at + horizon],
        "last_close": last,
        "predicted_price": predicted,
        "change_pct": 100.0 * np.expm1(change),
        "direction": direction,
        "lower_80": predicted * np.exp(-width),
        "upper_80": predicted * np.exp(width),
        "lower_95": predicted * np.exp(-2 * width),
        "upper_95": predicted * np.exp(2 * width),
        "p_up": p_up,
        "p_down": 1.0 - p_up,
        "confidence": np.where(direction == "up", p_up, 1.0 - p_up),
        "consistency": 1.0,
        "model": "combination",
        "model_version": version,
        "batch_id": "a batch",
    }
    return pd.DataFrame(columns)[list(COLUMNS)]


# Recording


def test_a_forecast_is_read_back_exactly(ledger, prices):
    forecasts = forecasts_of(prices, [60, 61])
    before = dt.datetime.now(dt.UTC)
    assert ledger.record(forecasts, "ann") == 4
    found = ledger.history().sort_values(["origin", "horizon"], ignore_index=True)
    pd.testing.assert_frame_equal(found[list(COLUMNS)], forecasts, check_exact=True)
    assert (found["requested_by"] == "ann").all()
    assert found["recorded_at"].between(before, dt.datetime.now(dt.UTC)).all()
    assert found["actual_price"].isna().all() and found["settled_at"].isna().all()


def test_recording_the_same_forecast_again_changes_nothing(url, ledger, prices):
    forecasts = forecasts_of(prices, [60, 61])
    ledger.record(forecasts, "ann")
    before = rows_in(url), rows_in(url, "requests")
    assert ledger.record(forecasts.assign(batch_id="another", predicted_price=1.0), "ann") == 0
    assert (rows_in(url), rows_in(url, "requests")) == before


def test_only_new_forecasts_are_counted_and_stored(ledger, prices):
    ledger.record(forecasts_of(prices, [60, 61]))
    assert ledger.record(forecasts_of(prices, [61, 62, 63])) == 4
    assert ledger.count() == 8


@pytest.mark.parametrize(
    "other",
    [
        {"symbol": "OTHER"},
        {"origin": pd.Timestamp("2001-01-01")},
        {"horizon": 4},
        {"model_version": "v1.0.0_20260202_120000"},
    ],
    ids=lambda other: next(iter(other)),
)
def test_a_forecast_with_another_symbol_origin_horizon_or_version_is_a_different_one(ledger, prices, other):
    forecast = forecasts_of(prices, [60]).head(1)
    ledger.record(forecast)
    assert ledger.record(forecast.assign(**other)) == 1
    assert ledger.count() == 2


def test_several_users_can_request_the_same_forecast_and_each_finds_it(ledger, prices):
    forecasts = forecasts_of(prices, [60])
    assert ledger.record(forecasts, "ann") == 2
    assert ledger.record(forecasts, "bob") == 0
    assert ledger.record(forecasts) == 0
    assert ledger.count() == 2
    assert (ledger.history()["requested_by"] == "ann").all()
    for name in ("ann", "bob"):
        own = ledger.history(requested_by=name)
        assert len(own) == ledger.count(requested_by=name) == 2
        assert (own["requested_by"] == name).all()
    assert ledger.count(requested_by="eve") == 0


def test_model_and_consistency_are_stored(ledger, prices):
    ledger.record(forecasts_of(prices, [61]).assign(model="combination", consistency=[0.5, np.nan]))
    rows = ledger.history(since=prices.index[61]).sort_values("horizon")
    assert rows["model"].tolist() == ["combination", "combination"]
    np.testing.assert_array_equal(rows["consistency"], [0.5, np.nan])


def test_a_forecast_without_intervals_is_stored_without_them(ledger, prices):
    bare = forecasts_of(prices, [60]).assign(lower_80=np.nan, upper_80=np.nan, lower_95=np.nan, upper_95=np.nan)
    ledger.record(bare)
    ledger.settle(prices)
    assert ledger.history()[["lower_80", "upper_95"]].isna().all(axis=None)
    scores = ledger.scorecard().loc[("TEST", 3, VERSION)]
    assert scores["n"] == 1 and np.isnan(scores["coverage_80"]) and np.isfinite(scores["mae"])


def test_a_frame_without_a_forecast_column_is_refused(ledger, prices):
    with pytest.raises(DataQualityError, match="the columns predicted_price are missing"):
        ledger.record(forecasts_of(prices, [60]).drop(columns="predicted_price"))


def test_if_one_row_cannot_be_stored_no_row_of_the_frame_is(ledger, prices):
    forecasts = forecasts_of(prices, [60, 61])
    forecasts.loc[3, "predicted_price"] = np.nan
    with pytest.raises(LedgerError, match=r"(?i)not.null"):
        ledger.record(forecasts, "ann")
    assert ledger.count() == 0


# Queries


def test_history_and_count_apply_the_same_filters(ledger, prices, make_prices):
    other = make_prices(120, symbol="OTHER")
    ledger.record(forecasts_of(prices, [60, 61, 62]), "ann")
    ledger.record(forecasts_of(prices, [60], version="v1.0.0_20260202_120000"), "bob")
    ledger.record(forecasts_of(other, [60, 61]))
    ledger.settle(other)
    day = prices.index[61]
    for filters, expected in [
        ({}, 12),
        ({"symbol": "OTHER"}, 4),
        ({"version": VERSION}, 10),
        ({"requested_by": "ann"}, 6),
        ({"since": day}, 6),
        ({"until": day.date()}, 10),
        ({"since": f"{day:%Y-%m-%d}", "until": day}, 4),
        ({"settled": True}, 4),
        ({"settled": False}, 8),
        ({"symbol": "TEST", "requested_by": "ann", "until": prices.index[60], "settled": False}, 2),
        ({"symbol": "'; DROP TABLE forecasts; --"}, 0),
    ]:
        assert len(ledger.history(**filters)) == ledger.count(**filters) == expected, filters


def test_the_newest_forecasts_come_first_and_pages_add_up_to_the_whole(ledger, prices):
    ledger.record(forecasts_of(prices, [60, 61]))
    ledger.record(forecasts_of(prices, [50]))
    whole = ledger.history()
    origins = [prices.index[row] for row in (50, 50, 61, 61, 60, 60)]  # most recently recorded first, then by origin
    assert whole["origin"].tolist() == origins
    assert whole["horizon"].tolist() == [3, 5] * 3
    pages = [ledger.history(limit=4), ledger.history(limit=4, offset=4)]
    assert [len(page) for page in pages] == [4, 2]
    pd.testing.assert_frame_equal(pd.concat(pages, ignore_index=True), whole)
    assert len(ledger.history(offset=5)) == 1
    assert len(ledger.history(limit=0)) == 0
    with pytest.raises(ConfigError, match="at least 0; got limit=-1"):
        ledger.history(limit=-1)


def test_an_empty_history_has_the_same_columns_and_types(ledger, prices):
    empty = ledger.history()
    ledger.record(forecasts_of(prices, [60]), "ann")
    full = ledger.history()
    assert list(empty) == list(full) and len(empty) == 0
    changed = {"requested_by"}  # an empty column of text or missing values has no definite type
    assert empty.dtypes.drop(changed).equals(full.dtypes.drop(changed))
    assert str(full["recorded_at"].dtype) == str(full["settled_at"].dtype) == "datetime64[us, UTC]"


@pytest.mark.parametrize("day", ["someday", pd.NaT, "2018-13-01"])
def test_an_invalid_date_is_refused(ledger, day):
    with pytest.raises(ConfigError, match="expected a date such as 2018-06-29"):
        ledger.history(since=day)


# Settling


def test_settling_stores_the_close_one_horizon_after_the_origin(ledger, prices):
    ledger.record(forecasts_of(prices, range(60, 120)))
    at = {date: row for row, date in enumerate(prices.index)}
    expected = {
        (prices.index[row], horizon): prices["close"].iloc[row + horizon]
        for row in range(60, 120)
        for horizon in HORIZONS
        if row + horizon < 120
    }
    assert ledger.settle(prices) == len(expected) == 57 + 55
    found = ledger.history(settled=True)
    assert {(r.origin, r.horizon): r.actual_price for r in found.itertuples()} == expected
    pending = ledger.history(settled=False)
    assert (pending["origin"].map(at) + pending["horizon"]).min() == 120
    assert pending["actual_price"].isna().all()


def test_a_settled_forecast_never_changes(url, ledger, prices):
    ledger.record(forecasts_of(prices, [60]))
    ledger.settle(prices.iloc[:64])
    first = rows_in(url)
    assert ledger.count(settled=True) == 1
    revised = prices * 1.5
    revised.attrs = prices.attrs
    assert ledger.settle(revised) == 1  # the other horizon, known only now
    assert [row for row in rows_in(url) if row in first] == [row for row in first if row.actual_price is not None]
    before = rows_in(url)
    assert ledger.settle(prices) == 0
    assert rows_in(url) == before


def test_only_forecasts_of_the_same_symbol_with_an_origin_in_the_prices_are_settled(ledger, prices, make_prices):
    other = make_prices(120, symbol="OTHER")
    ledger.record(forecasts_of(prices, [60, 70]))
    ledger.record(forecasts_of(other, [60]))
    assert ledger.settle(prices.drop(prices.index[70])) == 2
    left = ledger.history(settled=False)
    assert set(zip(left["symbol"], left["origin"], strict=True)) == {
        ("TEST", prices.index[70]),
        ("OTHER", other.index[60]),
    }


def test_prices_adjusted_since_the_forecast_are_converted_to_its_price_level(ledger, prices):
    ledger.record(forecasts_of(prices, [60]))
    split = prices.copy()
    split[["open", "high", "low", "close"]] /= 2.0
    assert ledger.settle(split) == 2
    settled = ledger.history().set_index("horizon")["actual_price"]
    assert settled[3] == pytest.approx(prices["close"].iloc[63], rel=1e-12)


def test_prices_without_a_symbol_are_refused(ledger, prices):
    prices.attrs = {}
    with pytest.raises(DataQualityError, match="attrs"):
        ledger.settle(prices)


# Scores


def test_a_scorecard_agrees_with_the_evaluation_of_the_same_forecasts(ledger, prices):
    forecasts = forecasts_of(prices, range(60, 110, 5))
    ledger.record(forecasts)
    ledger.settle(prices)
    card = ledger.scorecard()
    assert card.index.names == ["symbol", "horizon", "model_version"]
    scores = evaluate(forecasts, prices).scores
    for horizon in HORIZONS:
        own, expected = card.loc[("TEST", horizon, VERSION)], scores.loc[("combination", horizon)]
        for name in ("n", "mae", "mape", "skill", "coverage_80", "coverage_95"):
            assert own[name] == pytest.approx(expected[name], rel=1e-12), name
        assert own["mae_random_walk"] == pytest.approx(scores.loc[("random_walk", horizon), "mae"], rel=1e-12)
        assert own["pending"] == 0


def test_the_hit_rate_counts_the_event_whose_probability_is_the_confidence(ledger, prices):
    forecasts = forecasts_of(prices, range(20, 110))
    forecasts.attrs["direction_threshold"] = 0.005
    ledger.record(forecasts)
    ledger.settle(prices)
    settled = ledger.history(settled=True)
    settled = settled[settled["horizon"] == 3]
    hits = []
    for row in settled.itertuples():
        change = row.actual_price / row.last_close - 1.0
        hits.append({"up": change > 0, "down": change < 0, "neutral": abs(change) <= 0.005}[row.direction])
    card = ledger.scorecard().loc[("TEST", 3, VERSION)]
    assert 0 < sum(hits) < len(hits)
    assert card["hit_rate"] == pytest.approx(np.mean(hits))
    assert card["confidence"] == pytest.approx(settled["confidence"].mean())
    expected = metrics.expected_calibration_error(settled["confidence"], hits)
    assert card["calibration_error"] == pytest.approx(expected)


def test_a_neutral_call_is_scored_with_the_threshold_it_was_made_with(ledger, make_prices):
    prices = make_prices([100.0] * 20 + [102.0] * 20)
    neutral = forecasts_of(prices, [18]).assign(direction="neutral")
    for version, threshold in (("a", 0.03), ("b", 0.01), ("c", None)):  # not recorded: the default, 0.5 %
        forecasts = neutral.assign(model_version=version)
        forecasts.attrs = {} if threshold is None else {"direction_threshold": threshold}
        ledger.record(forecasts)
    ledger.settle(prices)
    assert ledger.scorecard()["hit_rate"].xs(3, level="horizon").tolist() == [1.0, 0.0, 0.0]


def test_hindsight_forecasts_are_marked_and_scored_separately(ledger, prices):
    days = {name: prices.index[row] for name, row in (("before", 59), ("same", 60), ("after", 61))}
    for number, day in enumerate([None, *days.values()]):
        forecasts = forecasts_of(prices, [60], version=f"v{number}")
        forecasts.attrs = {"known_until": day and f"{day:%Y-%m-%d}"}
        ledger.record(forecasts)
    ledger.record(forecasts_of(prices, [60], version="v3"))  # again, without known_until: nothing changes
    ledger.settle(prices)
    rows = ledger.history().drop_duplicates("model_version").set_index("model_version")
    assert rows["known_until"].sort_index().tolist() == [pd.NaT, *days.values()]
    assert set(ledger.history(hindsight=True)["model_version"]) == {"v3"}
    assert (ledger.count(hindsight=True), ledger.count(hindsight=False), ledger.count()) == (2, 6, 8)
    in_time, apart, both = (ledger.scorecard(hindsight=one) for one in (False, True, None))
    assert set(in_time.index.get_level_values("model_version")) == {"v0", "v1", "v2"}
    pd.testing.assert_frame_equal(ledger.scorecard(), in_time)
    pd.testing.assert_frame_equal(pd.concat([in_time, apart]).sort_index(), both.sort_index())
    assert ledger.widening("TEST", 3, version="v3") == 1.0 != ledger.widening("TEST", 3, version="v2")


def test_a_scorecard_counts_pending_forecasts_and_has_no_scores_where_nothing_is_settled(ledger, prices):
    ledger.record(forecasts_of(prices, [60, 118]))
    ledger.record(forecasts_of(prices, [119], version="v1.0.0_20260202_120000"))
    ledger.settle(prices)
    card = ledger.scorecard().reset_index("symbol", drop=True)
    assert card[["n", "pending"]].loc[3].to_numpy().tolist() == [[1, 1], [0, 1]]
    assert card.loc[(3, "v1.0.0_20260202_120000")].drop(["n", "pending"]).isna().all()
    assert ledger.scorecard(version=VERSION, since=prices.index[100])["n"].sum() == 0


def test_an_empty_scorecard_has_its_columns(ledger):
    card = ledger.scorecard()
    assert card.empty
    assert card.index.names == ["symbol", "horizon", "model_version"]
    assert {"n", "pending", "mae", "skill", "calibration_error"} <= set(card)


def test_skill_is_undefined_if_prices_did_not_move(ledger, make_prices):
    prices = make_prices([100.0] * 40)
    ledger.record(forecasts_of(prices, [20]))
    ledger.settle(prices)
    assert ledger.scorecard()["skill"].isna().all()


def test_scores_over_time_are_those_of_the_last_forecasts_up_to_each_origin(prices):
    with Ledger("sqlite://") as ledger:
        ledger.record(forecasts_of(prices, range(20, 50)))
        ledger.record(forecasts_of(prices, range(50, 80), version="v1.0.0_20260202_120000"))
        ledger.settle(prices)
        settled = ledger.history()
    found = over_time(settled, 12)
    assert found.index.names == ["horizon", "origin"]
    for horizon in HORIZONS:
        rows = settled[settled["horizon"] == horizon].sort_values("origin", ignore_index=True)
        own = found.loc[horizon]
        assert list(own.index) == list(rows["origin"][11:])
        for last in (11, 40, 59):
            window = rows.iloc[last - 11 : last + 1]
            inside = window["actual_price"].between(window["lower_80"], window["upper_80"])
            error, walk = (
                ((window[name] - window["actual_price"]).abs() / window["last_close"]).sum()
                for name in ("predicted_price", "last_close")
            )
            score = own.loc[rows["origin"][last]]
            assert score["coverage_80"] == pytest.approx(inside.mean())
            assert score["hit_rate"] == pytest.approx(hits(window).mean())
            assert score["confidence"] == pytest.approx(window["confidence"].mean())
            assert score["skill"] == pytest.approx(1.0 - error / walk)


def test_the_symbols_are_those_with_forecasts(ledger, prices, make_prices):
    assert ledger.symbols() == []
    for symbol in ("TEST", "A", "TEST"):
        ledger.record(forecasts_of(make_prices(120, symbol=symbol), [60]))
    assert ledger.symbols() == ["A", "TEST"]


# Adaptive intervals


def test_the_widening_is_that_of_adaptive_conformal_prediction_on_all_settled_forecasts(ledger, prices):
    assert ledger.widening("TEST", 3) == 1.0
    forecasts = forecasts_of(prices, range(20, 117))
    ledger.record(forecasts)
    ledger.settle(prices)
    rows = forecasts[forecasts["horizon"] == 3]
    actual = prices["close"].to_numpy()[np.arange(20, 117) + 3]
    half_width = np.log(rows["upper_80"].to_numpy() / rows["predicted_price"].to_numpy())
    scores = np.abs(np.log(actual / rows["predicted_price"].to_numpy())) / half_width
    expected = adaptive_widening([*scores, *[np.nan] * 3], 0.80, 3)[-1]
    assert ledger.widening("TEST", 3) == pytest.approx(expected, rel=1e-12)
    assert expected != 1.0


def test_intervals_that_cover_too_much_are_narrowed_and_those_that_cover_too_little_widened(ledger, prices):
    for version, factor in (("wide", 10.0), ("narrow", 0.01)):
        forecasts = forecasts_of(prices, range(20, 115, 5), version=version)
        for end in ("lower_80", "upper_80"):
            forecasts[end] = forecasts["predicted_price"] * (forecasts[end] / forecasts["predicted_price"]) ** factor
        ledger.record(forecasts)
    ledger.settle(prices)
    assert ledger.widening("TEST", 5, version="wide") < 1.0 < ledger.widening("TEST", 5, version="narrow")
    with pytest.raises(ConfigError, match="expected a coverage of 80 or 95"):
        ledger.widening("TEST", 5, 90)


# Migrations

# The first edition had its own migrations: these statements led from each version to the next.
FIRST_EDITION = (
    (
        """CREATE TABLE forecasts (
            symbol TEXT NOT NULL, origin DATE NOT NULL, horizon INTEGER NOT NULL, model_version TEXT NOT NULL,
            target_date DATE NOT NULL, direction TEXT NOT NULL, batch_id TEXT NOT NULL,
            last_close DOUBLE PRECISION NOT NULL, predicted_price DOUBLE PRECISION NOT NULL,
            change_pct DOUBLE PRECISION NOT NULL, lower_80 DOUBLE PRECISION, upper_80 DOUBLE PRECISION,
            lower_95 DOUBLE PRECISION, upper_95 DOUBLE PRECISION, p_up DOUBLE PRECISION, p_down DOUBLE PRECISION,
            confidence DOUBLE PRECISION, requested_by TEXT, recorded_at TIMESTAMP WITH TIME ZONE NOT NULL,
            actual_price DOUBLE PRECISION, settled_at TIMESTAMP WITH TIME ZONE,
            PRIMARY KEY (symbol, origin, horizon, model_version))""",
        "CREATE INDEX forecasts_by_time ON forecasts (recorded_at)",
    ),
    (
        """CREATE TABLE requests (
            requested_by TEXT NOT NULL, symbol TEXT NOT NULL, origin DATE NOT NULL, horizon INTEGER NOT NULL,
            model_version TEXT NOT NULL, PRIMARY KEY (requested_by, symbol, origin, horizon, model_version))""",
        """INSERT INTO requests SELECT requested_by, symbol, origin, horizon, model_version
            FROM forecasts WHERE requested_by IS NOT NULL""",
    ),
    ("ALTER TABLE forecasts ADD COLUMN direction_threshold DOUBLE PRECISION",),
    ("ALTER TABLE forecasts ADD COLUMN known_until DATE",),
)
FIRST_COLUMNS = [
    *("symbol", "origin", "horizon", "target_date", "last_close", "predicted_price", "change_pct", "direction"),
    *("lower_80", "upper_80", "lower_95", "upper_95", "p_up", "p_down", "confidence", "model_version", "batch_id"),
    *("requested_by", "recorded_at", "actual_price", "settled_at"),
]


def write_first_edition(url, prices, version):
    """Write a ledger as a version of the first edition left it, with three rows, one of them settled."""
    execute(url, "CREATE TABLE ledger_schema (version INTEGER PRIMARY KEY)")
    forecasts = forecasts_of(prices, [60, 61]).head(3)
    forecasts["requested_by"] = ["ann", None, "bob"]
    forecasts["recorded_at"] = (
        "2026-01-02 03:04:05.678901" if url.startswith("sqlite") else "2026-01-02T03:04:05.678901Z"
    )
    forecasts["actual_price"] = [123.25, None, None]
    forecasts["settled_at"] = [forecasts["recorded_at"].iloc[0], None, None]
    dated = forecasts.assign(**{name: forecasts[name].dt.strftime("%Y-%m-%d") for name in ("origin", "target_date")})
    rows = [{k: None if pd.isna(v) else v for k, v in row.items()} for row in dated.to_dict("records")]
    statement = f"INSERT INTO forecasts ({', '.join(FIRST_COLUMNS)}) VALUES (:{', :'.join(FIRST_COLUMNS)})"
    for number in range(version):
        execute(url, *FIRST_EDITION[number], f"INSERT INTO ledger_schema VALUES ({number + 1})")
        if number == 0:  # later versions of the first edition have migrated these rows
            with sa.create_engine(parse_url(url), poolclass=sa.NullPool).begin() as connection:
                connection.execute(sa.text(statement), rows)
    return forecasts


@pytest.mark.parametrize("version", [1, 2, 3, 4])
def test_a_ledger_of_the_first_edition_is_migrated_with_its_data(url, prices, version):
    written = write_first_edition(url, prices, version)
    with Ledger(url) as ledger:
        found = ledger.history().sort_values(["origin", "horizon"], ignore_index=True)
        pd.testing.assert_frame_equal(
            found[list(FIRST_COLUMNS[:-4])], written[list(FIRST_COLUMNS[:-4])].reset_index(drop=True)
        )
        assert found["actual_price"].tolist()[0] == 123.25
        assert found["actual_price"].isna().tolist() == found["settled_at"].isna().tolist() == [False, True, True]
        assert (found["recorded_at"] == pd.Timestamp("2026-01-02 03:04:05.678901", tz="UTC")).all()
        assert found[["direction_threshold", "known_until", "model", "consistency"]].isna().all(axis=None)
        assert ledger.count(hindsight=False) == 3  # without known_until, a forecast does not count as hindsight
        assert [ledger.count(requested_by=name) for name in ("ann", "bob")] == [1, 1]
        assert ledger.record(forecasts_of(prices, [60, 61]), "ann") == 1
        assert ledger.settle(prices) == 3


def query(url, statement):
    with sa.create_engine(parse_url(url), poolclass=sa.NullPool).connect() as connection:
        return connection.execute(sa.text(statement)).all()


def schema_of(url):
    inspector = sa.inspect(sa.create_engine(parse_url(url), poolclass=sa.NullPool))
    return {
        table: (
            [(column["name"], str(column["type"]), column["nullable"]) for column in inspector.get_columns(table)],
            inspector.get_pk_constraint(table)["constrained_columns"],
            [(index["name"], index["column_names"]) for index in inspector.get_indexes(table)],
        )
        for table in TABLES
    }


def test_every_version_is_migrated_to_the_schema_of_a_new_ledger(url, prices):
    Ledger(url).close()
    expected = schema_of(url)
    assert [name for name, *_ in expected["forecasts"][0]][-2:] == ["model", "consistency"]
    assert query(url, "SELECT version_num FROM ledger_version") == [(VERSIONS[-1],)]
    for version in range(1, 5):
        execute(url, *(f"DROP TABLE {table}" for table in TABLES))
        write_first_edition(url, prices, version)
        Ledger(url).close()
        assert schema_of(url) == expected


def test_the_versions_are_the_revisions_of_alembic():
    config = Config()
    config.set_main_option("script_location", "forecastlib.ledger:migrations")  # as files of the installed package
    revisions = ScriptDirectory.from_config(config).walk_revisions()
    assert tuple(revision.revision for revision in revisions)[::-1] == VERSIONS


def test_a_migration_that_fails_changes_nothing(url, prices):
    write_first_edition(url, prices, 1)
    execute(url, "CREATE TABLE requests (symbol TEXT, origin TEXT, horizon TEXT, model_version TEXT)")
    before = rows_in(url), schema_names(url)
    with pytest.raises(LedgerError, match=r"requests.* already exists"):
        Ledger(url)
    assert (rows_in(url), schema_names(url)) == before
    assert query(url, "SELECT version FROM ledger_schema") == [(1,)]
    execute(url, "DROP TABLE requests")
    with Ledger(url) as ledger:
        assert ledger.count(requested_by="ann") == 1


def schema_names(url):
    inspector = sa.inspect(sa.create_engine(parse_url(url), poolclass=sa.NullPool))
    return {table: [column["name"] for column in inspector.get_columns(table)] for table in inspector.get_table_names()}


def test_a_ledger_of_a_later_version_is_refused(url):
    Ledger(url).close()
    execute(url, "UPDATE ledger_version SET version_num = '99'")
    with pytest.raises(LedgerError, match=r"version 2 or earlier; this one is of version 99, written by a later"):
        Ledger(url)


def test_a_migrated_ledger_has_a_version_that_the_first_edition_refuses(url, prices):
    write_first_edition(url, prices, 4)
    Ledger(url).close()
    assert query(url, "SELECT max(version) FROM ledger_schema") == [(5,)]  # it refuses all above 4


def test_alembic_is_loaded_only_to_migrate_and_writes_nothing(url):
    program = (
        "import sys, logging; from forecastlib import Ledger; Ledger(sys.argv[1]).close(); "
        "print('alembic' in sys.modules, logging.getLogger().handlers)"
    )
    for loaded in (True, False):
        done = subprocess.run([sys.executable, "-W", "error", "-c", program, url], capture_output=True, text=True)
        assert (done.returncode, done.stdout, done.stderr) == (0, f"{loaded} []\n", "")


def test_threads_can_create_different_ledgers_at_once(tmp_path):
    together, failures = threading.Barrier(6), []

    def work(number):
        together.wait()
        try:
            Ledger(f"sqlite:///{tmp_path / f'{number}.db'}" if number % 2 else "sqlite://").close()
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


# Concurrency

# One interpreter that forks, so that libraries are loaded once; the children start together when the pipe is closed.
AT_ONCE = """
import json, os, sys
import pandas as pd
from forecastlib.ledger import Ledger

url, folder, work = sys.argv[1:]
waiting, begin = os.pipe()
children = []
for number in range(8):
    child = os.fork()
    if child == 0:
        os.close(begin)
        os.read(waiting, 1)
        try:
            ledger = Ledger(url)
            if work == "record":
                own, shared = (pd.read_parquet(f"{folder}/{name}.parquet") for name in (number, "shared"))
                batches = [batch for _, batch in own.groupby("origin")]
                done = [ledger.record(batch, f"user {number}") for batch in (*batches, shared)]
            else:
                prices = pd.read_parquet(f"{folder}/prices.parquet")
                prices.attrs["symbol"] = "TEST"
                done = [ledger.settle(prices)]
            os.write(1, (json.dumps(done) + "\\n").encode())
        except BaseException as error:
            os.write(2, (repr(error) + "\\n").encode())
            os._exit(1)
        os._exit(0)
    children.append(child)
os.close(begin)
sys.exit(max(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children))
"""


def at_once(url, folder, work):
    command = [sys.executable, "-c", AT_ONCE, url, str(folder), work]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.slow
def test_eight_processes_that_open_a_new_ledger_and_record_at_once_lose_nothing(url, prices, tmp_path):
    for number in range(8):
        forecasts_of(prices, range(20, 50), version=f"v{number}").to_parquet(tmp_path / f"{number}.parquet")
    forecasts_of(prices, range(60, 90)).to_parquet(tmp_path / "shared.parquet")
    done = at_once(url, tmp_path, "record")
    assert [counts[:-1] for counts in done] == [[2] * 30] * 8
    assert sum(counts[-1] for counts in done) == 60  # forecasts that all eight processes made are stored once
    with Ledger(url) as ledger:
        assert ledger.count() == 8 * 60 + 60
        assert [ledger.count(requested_by=f"user {number}") for number in range(8)] == [120] * 8


@pytest.mark.slow
def test_eight_processes_that_open_a_ledger_of_the_first_edition_at_once_migrate_it_once(url, prices, tmp_path):
    write_first_edition(url, prices, 2)
    prices.to_parquet(tmp_path / "prices.parquet")
    assert sum(settled for (settled,) in at_once(url, tmp_path, "settle")) == 2
    with Ledger(url) as ledger:
        assert ledger.count() == ledger.count(settled=True) == 3


@pytest.mark.slow
def test_eight_processes_that_settle_at_once_settle_each_forecast_once(url, prices, tmp_path):
    prices.to_parquet(tmp_path / "prices.parquet")
    with Ledger(url) as ledger:
        ledger.record(forecasts_of(prices, range(20, 110)))
        assert sum(settled for (settled,) in at_once(url, tmp_path, "settle")) == 180
        assert ledger.count(settled=True) == 180


INTERRUPTED = """
import sys
import pandas as pd
import sqlalchemy as sa
from forecastlib.ledger import Ledger

ledger = Ledger(sys.argv[1])
ledger.record(pd.read_parquet(sys.argv[2]), "whole")

def stop(connection, cursor, statement, *rest):
    if statement.startswith(sys.argv[4]):
        print("in the middle", flush=True)
        sys.stdin.readline()  # blocks until the process is killed

sa.event.listen(sa.Engine, "after_cursor_execute", stop)
ledger.record(pd.read_parquet(sys.argv[3]), "interrupted")
print("done")
"""


@pytest.mark.parametrize("statement", ["INSERT INTO forecasts", "INSERT INTO requests"])
def test_a_process_killed_in_the_middle_leaves_whole_batches_or_none(url, prices, tmp_path, statement):
    for name, rows in (("first", range(20, 40)), ("second", range(40, 90))):
        forecasts_of(prices, rows).to_parquet(tmp_path / name)
    command = [sys.executable, "-c", INTERRUPTED, url, tmp_path / "first", tmp_path / "second", statement]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "in the middle\n"
        os.kill(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    with Ledger(url) as ledger:
        assert ledger.count() == ledger.count(requested_by="whole") == 40
        assert ledger.count(requested_by="interrupted") == 0
        assert ledger.record(forecasts_of(prices, range(40, 90))) == 100  # no lock is left behind


@pytest.mark.parametrize("kind", ["file", "memory"])
def test_threads_can_share_a_ledger(kind, prices, tmp_path):
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.db'}" if kind == "file" else "sqlite://")
    together, added = threading.Barrier(8), []

    def work(number):
        together.wait()
        for row in range(20, 30):
            added.append(ledger.record(forecasts_of(prices, [row], version=f"v{number}")))
            ledger.history(limit=1)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert added == [2] * 80
    assert ledger.count() == 160
    ledger.close()


# Location


def test_the_ledger_is_in_the_project_unless_the_variable_names_another(tmp_path, monkeypatch, prices):
    monkeypatch.setenv("FORECASTLIB_HOME", str(tmp_path))
    monkeypatch.delenv(LEDGER_VARIABLE, raising=False)
    Ledger().close()
    assert (tmp_path / "mlruns" / "ledger.db").is_file()
    monkeypatch.setenv(LEDGER_VARIABLE, "sqlite:///elsewhere/other.db")
    with Ledger() as ledger:
        monkeypatch.chdir("/")  # the location does not follow the working directory
        ledger.close()
        ledger.record(forecasts_of(prices, [60]))
    assert len(rows_in(f"sqlite:///{tmp_path / 'elsewhere' / 'other.db'}")) == 2


def test_opening_a_ledger_loads_neither_tensorflow_nor_mlflow(tmp_path):
    program = (
        "import sys; from forecastlib import Ledger; Ledger(sys.argv[1]).scorecard(); "
        "print({'tensorflow', 'keras', 'mlflow'} & set(sys.modules))"
    )
    command = [sys.executable, "-c", program, f"sqlite:///{tmp_path / 'ledger.db'}"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "set()\n"


def test_readers_do_not_wait_for_a_writer(tmp_path, prices):
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    with Ledger(url) as ledger, sa.create_engine(url).connect() as writer:
        ledger.record(forecasts_of(prices, [60]))
        writer.exec_driver_sql("BEGIN IMMEDIATE")
        writer.exec_driver_sql("DELETE FROM forecasts")
        assert ledger.count() == 2


def test_waiting_too_long_for_another_writer_raises_and_writes_nothing(url, ledger, prices):
    ledger.record(forecasts_of(prices, [60]))
    lock = "LOCK TABLE forecasts IN EXCLUSIVE MODE" if url.startswith("postgresql") else "DELETE FROM forecasts"
    other = sa.create_engine(parse_url(url), poolclass=sa.NullPool)
    with Ledger(url, timeout=0.2) as short_wait, other.connect() as writer:
        writer.exec_driver_sql(lock)
        for work in (
            lambda: short_wait.record(forecasts_of(prices, [61])),
            lambda: short_wait.settle(prices),
        ):
            with pytest.raises(LedgerError, match="lock"):
                work()
        writer.rollback()
        assert short_wait.count() == 2
        assert short_wait.record(forecasts_of(prices, [61])) == 2


# Errors


@pytest.mark.parametrize("url", ["mysql://h/d", "ledger.db", "://"])
def test_only_sqlite_and_postgresql_are_accepted(url):
    with pytest.raises(ConfigError, match="expected a database as sqlite:///FILE or postgresql://"):
        Ledger(url)


def test_a_file_that_is_not_a_database_raises(tmp_path):
    (tmp_path / "x.db").write_text("Date,Open\n" * 1000)
    with pytest.raises(LedgerError, match="not a database"):
        Ledger(f"sqlite:///{tmp_path / 'x.db'}")


def test_a_folder_that_cannot_be_created_raises(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(LedgerError, match="file"):
        Ledger(f"sqlite:///{tmp_path / 'file' / 'x.db'}")


@pytest.mark.slow
def test_a_server_that_does_not_answer_raises_without_the_password():
    with pytest.raises(LedgerError) as caught:
        Ledger("postgresql://ann:hunt%40er2@127.0.0.1:1/ledger?connect_timeout=2")
    assert "ledger postgresql://ann:***@127.0.0.1:1/ledger" in str(caught.value)
    assert "hunt" not in str(caught.value)


def test_a_missing_driver_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(LedgerError, match=r"pip install 'forecastlib\[postgres\]'"):
        Ledger("postgresql://h/d")
