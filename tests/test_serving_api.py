"""The whole API against its own description, with requests that schemathesis makes up."""

import os
import warnings

import pytest
import serving_project
from hypothesis import HealthCheck, given, settings

from forecastlib.serving.keys import KeyFile

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of its own dependencies, while they are imported
    import schemathesis
    from schemathesis.specs.openapi.checks import positive_data_acceptance

CASES = int(os.environ.get("FORECASTLIB_API_CASES", "360"))
"""Requests that are made up, over all routes; the full check takes 2,000 and more."""

HEADERS: dict[str, str] = {}

ROUTES = (
    *(("POST", "/train"), ("GET", "/jobs"), ("GET", "/jobs/{job_id}"), ("POST", "/predict"), ("GET", "/predictions")),
    *(("GET", "/scorecard"), ("GET", "/models"), ("GET", "/health")),
)


@pytest.fixture(scope="module")
def schema(tmp_path_factory):
    # Trainings that are made up end at once, and there is always room for one more.
    with serving_project.project(tmp_path_factory.mktemp("project")) as home:
        HEADERS["X-API-Key"] = KeyFile(home / "keys.json").add("ann")
        roomy = serving_project.settings(queued_trainings=10_000, concurrent_trainings=1, keys=home / "keys.json")
        with serving_project.client(roomy) as client:
            yield schemathesis.openapi.from_asgi("/openapi.json", client.app)


@pytest.mark.slow
@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_no_request_makes_the_service_fail_or_answer_what_is_not_described(schema, method, path):
    operation = schema[path][method]
    # These know symbols and histories that no description can list: they may answer 400 to what fits it.
    refusable = [positive_data_acceptance] if method == "POST" else []
    sent = []

    @settings(
        max_examples=max(5, CASES // len(ROUTES)),
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy())
    def check(case):
        sent.append(case)
        case.call_and_validate(headers=HEADERS, excluded_checks=refusable)

    check()
    assert sent


def test_every_route_of_the_description_is_tried(schema):
    assert {(one.ok().method.upper(), one.ok().path) for one in schema.get_all_operations()} == set(ROUTES)
