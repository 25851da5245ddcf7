"""Examining prices before training."""

import pytest

from forecastlib.config import RunConfig
from forecastlib.data.sources import open_source
from forecastlib.doctor import examine, sessions_needed
from forecastlib.errors import DataQualityError, NotEnoughDataError
from forecastlib.recipe import Recipe


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
def test_the_required_sessions_are_exactly_those_that_the_split_needs(prices, parameters):
    config = RunConfig.from_parameters(**parameters)
    needed = sessions_needed(config)
    assert all(len(index) for index in Recipe().prepare(prices.tail(needed), config).split.sets().values())
    with pytest.raises(NotEnoughDataError):
        Recipe().prepare(prices.tail(needed - 1), config)


def statuses(diagnosis):
    return {finding.check: finding.status for finding in diagnosis.findings}


def test_prices_that_barely_suffice_are_a_warning(prices):
    enough = examine(prices)
    assert enough.passed
    assert (statuses(enough)["training_possible"], statuses(enough)["set_sizes"]) == ("passed", "passed")
    barely = examine(prices.tail(sessions_needed()))
    assert barely.passed
    assert (statuses(barely)["training_possible"], statuses(barely)["set_sizes"]) == ("passed", "warning")
    too_few = examine(prices.tail(sessions_needed() - 1))
    assert not too_few.passed
    assert (statuses(too_few)["training_possible"], statuses(too_few)["set_sizes"]) == ("failed", "not applicable")


def test_the_required_sessions_depend_on_the_configuration(prices):
    short = RunConfig.from_parameters(groups=("calendar",), horizons=(5,))
    assert statuses(examine(prices.tail(300), short))["set_sizes"] == "passed"
    assert statuses(examine(prices.tail(300)))["training_possible"] == "failed"


def test_failures_and_notes_of_the_source_are_reported(prices):
    noted = prices.copy()
    noted.attrs |= {"failures": ["yahoo: gone"], "notes": ["3 rows"], "fetched_at": "2026-11-20T12:00:00+00:00"}
    diagnosis = examine(noted)
    assert diagnosis.facts["source"] == "bundled, fetched 2026-11-20T12:00 UTC"
    assert diagnosis.facts["notes"] == "3 rows"
    assert diagnosis.facts["calendar"] == "NYSE (a known index)"
    failed = diagnosis.finding("earlier_sources")
    assert (failed.status, failed.detail) == ("warning", "yahoo: gone")
    assert diagnosis.passed


def test_the_diagnosis_includes_every_quality_finding(prices):
    wrong = prices.copy()
    wrong.iloc[4000, 3] = float("nan")
    diagnosis = examine(wrong)
    assert not diagnosis.passed
    assert {"missing_values", "training_possible"} <= set(diagnosis.affected())
    with pytest.raises(DataQualityError, match=r"expected prices to train on.*\n- missing_values: close"):
        diagnosis.raise_for_errors()


def test_the_diagnosis_displays_its_facts_and_its_findings_and_escapes_both(prices):
    named = prices.copy()
    named.attrs |= {"source": "<b>", "failures": ["<i>"]}
    html = examine(named)._repr_html_()
    assert '<td style="text-align:left">&lt;b&gt;</td>' in html
    assert "&lt;i&gt;" in html and "<i>" not in html
