"""Examining prices before training."""

import pytest

from forecastlib.config import RunConfig
from forecastlib.data.sources import open_source
from forecastlib.doctor import examine, sessions_needed
from forecastlib.errors import NotEnoughDataError
from forecastlib.samples.dataset import prepare


@pytest.fixture(scope="module")
def prices():
    return open_source("bundled").fetch("^GSPC")


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"lookback": 20, "horizons": (1,)},
        {"horizons": (5, 60), "embargo": 7, "train_share": 0.5, "validation_share": 0.3},
        {"groups": ("calendar",), "lookback": 1, "horizons": (2,)},
    ],
)
def test_the_sessions_needed_are_what_the_split_needs_to_the_session(prices, parameters):
    config = RunConfig.from_parameters(**parameters)
    needed = sessions_needed(config)
    assert all(len(index) for index in prepare(prices.tail(needed), config).split.sets().values())
    with pytest.raises(NotEnoughDataError):
        prepare(prices.tail(needed - 1), config)


def levels(findings):
    return {finding.subject: finding.level for finding in findings}


def test_what_suffices_barely_is_a_warning(prices):
    assert levels(examine(prices))["training"] == "good"
    assert levels(examine(prices.tail(sessions_needed())))["training"] == "warning"
    assert levels(examine(prices.tail(sessions_needed() - 1)))["training"] == "error"


def test_the_run_that_prices_are_meant_for_decides(prices):
    short = RunConfig.from_parameters(groups=("calendar",), horizons=(5,))
    assert levels(examine(prices.tail(300), short))["training"] == "good"
    assert levels(examine(prices.tail(300)))["training"] == "error"


def test_what_a_source_says_is_passed_on(prices):
    noted = prices.copy()
    noted.attrs |= {"failures": ["yahoo: gone"], "notes": ["3 rows"], "fetched_at": "2026-11-20T12:00:00+00:00"}
    texts = {finding.text: finding.level for finding in examine(noted)}
    assert texts["yahoo: gone"] == "warning"
    assert texts["3 rows"] == "note"
    assert texts["bundled, fetched 2026-11-20T12:00 UTC"] == "good"
