"""Replaying the last years with models of that time."""

import numpy as np
import pandas as pd
import pytest
import tiny

from forecastlib import Ledger, replay
from forecastlib.errors import ConfigError, DataQualityError, NotEnoughDataError
from forecastlib.forecaster import Forecaster


@pytest.fixture
def ledger():
    with Ledger("sqlite://") as ledger:
        yield ledger


@pytest.fixture
def fits(monkeypatch):
    """Replace training by one tiny forecaster, and collect the prices it would have been trained on."""
    seen, fitted = [], tiny.forecaster()

    def fit(self, prices, *, progress):
        assert progress is False
        seen.append(prices)
        return fitted

    monkeypatch.setattr(Forecaster, "fit", fit)
    return seen


def replayed(ledger, prices=None, **options):
    prices = tiny.prices() if prices is None else prices
    return replay(prices, tiny.config(), ledger, **{"years": 1, "every": 5, "refits": 2, "progress": False} | options)


def test_forecasts_are_made_at_the_given_interval_over_the_last_years(ledger, fits):
    prices = tiny.prices()
    rows = replayed(ledger, every=7, years=0.5)
    first = prices.index[prices.index > prices.index[-1] - pd.Timedelta(days=182.625)][0]
    assert list(rows["origin"].unique()) == list(prices.index[prices.index.get_loc(first) :: 7])
    assert rows.groupby("origin")["horizon"].apply(list).map(tuple).unique().tolist() == [(7, 14)]
    assert ledger.count() == ledger.count(requested_by="replay") == len(rows)


def test_each_model_is_trained_on_what_was_known_at_its_first_forecast(ledger, fits):
    prices = tiny.prices()
    rows = replayed(ledger, refits=3)
    spans = rows.groupby("model_version")["origin"].agg(["min", "max"]).sort_values("min")
    assert len(fits) == len(spans) == 3
    for known, (version, span) in zip(fits, spans.iterrows(), strict=True):
        pd.testing.assert_frame_equal(known, prices.loc[: span["min"]])
        assert known.attrs["symbol"] == "^IXIC"
        assert version.endswith(f"@{span['min']:%Y%m%d}")
    assert (spans["min"].iloc[1:].to_numpy() > spans["max"].iloc[:-1].to_numpy()).all()


def test_forecasts_are_settled_with_their_outcomes(ledger, fits):
    prices = tiny.prices()
    rows = replayed(ledger)
    close, at = prices["close"].to_numpy(), prices.index.get_indexer(pd.DatetimeIndex(rows["origin"]))
    target = at + rows["horizon"].to_numpy()
    known = target < len(close)
    assert 0 < known.sum() < len(rows)
    np.testing.assert_array_equal(rows["actual_price"][known], close[target[known]])
    assert rows["settled_at"].notna().tolist() == known.tolist()


def test_forecasts_are_those_of_the_model_of_that_time_and_know_nothing_of_later_prices(ledger, fits):
    prices = tiny.prices()
    rows = replayed(ledger)
    changed = prices.copy()
    cut = rows["origin"].unique()[10]
    changed.loc[changed.index > cut, ["open", "high", "low", "close"]] *= 1.5
    with Ledger("sqlite://") as another:
        again = replayed(another, changed)
    names = ["origin", "horizon", "predicted_price", "lower_95", "upper_80", "p_up", "confidence"]
    early = rows["origin"] <= cut
    pd.testing.assert_frame_equal(rows.loc[early, names], again.loc[early, names], check_exact=True)
    assert not np.allclose(rows.loc[~early, "predicted_price"], again.loc[~early, "predicted_price"])
    expected = tiny.forecaster().predict(prices.loc[:cut])
    np.testing.assert_allclose(rows.loc[rows["origin"] == cut, "predicted_price"], expected["predicted_price"])


def test_only_the_forecasts_of_this_replay_are_returned(ledger, fits):
    ledger.record(tiny.forecaster().predict(tiny.prices()), "somebody")
    rows = replayed(ledger)
    assert set(rows["requested_by"]) == {"replay"}
    assert ledger.count() == len(rows) + 2


@pytest.mark.parametrize("wrong", [{"years": 0}, {"years": float("nan")}, {"every": 0}, {"refits": 0}])
def test_parameters_out_of_range_are_refused(ledger, fits, wrong):
    with pytest.raises(ConfigError, match="expected years > 0, every >= 1 and refits >= 1; got"):
        replayed(ledger, **wrong)
    assert fits == []


def test_more_models_than_forecasts_are_refused(ledger, fits):
    with pytest.raises(NotEnoughDataError, match="one origin for each of 9 models; got 1"):
        replayed(ledger, refits=9, every=300)


def test_prices_without_a_symbol_are_refused_before_anything_is_trained(ledger, fits):
    prices = tiny.prices()
    prices.attrs = {}
    with pytest.raises(DataQualityError, match="expected the symbol of the prices"):
        replayed(ledger, prices)
    assert fits == []


@pytest.mark.slow
def test_a_real_replay_trains_its_models_and_scores_them(ledger):
    rows = replayed(ledger, years=0.5)
    assert rows["model_version"].nunique() == 2
    card = ledger.scorecard(symbol="^IXIC")
    assert card["n"].sum() + card["pending"].sum() == len(rows)
    first, second = (group for _, group in rows.groupby("model_version", sort=False))
    both = [tiny.forecaster().predict(tiny.prices(), part["origin"].unique()) for part in (first, second)]
    for part, other in zip((first, second), both, strict=True):  # trained on less than the forecaster of all prices
        assert not np.allclose(part["predicted_price"], other["predicted_price"])
