"""Limits on rate, and on the size and the time of bodies."""

import asyncio
import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from forecastlib.serving.limits import BodyLimit, RateLimit


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def test_a_burst_is_allowed_and_then_the_rate():
    clock = Clock()
    limit = RateLimit(per_second=2.0, burst=3, clock=clock)
    assert [limit.wait_of("ann") for _ in range(5)] == [0, 0, 0, 1, 1]
    clock.now = 0.5
    assert [limit.wait_of("ann") for _ in range(2)] == [0, 1]


def test_callers_do_not_take_from_each_other():
    limit = RateLimit(per_second=1.0, burst=1, clock=Clock())
    assert [limit.wait_of(name) for name in ("ann", "bob", "ann")] == [0, 0, 1]


def test_it_remembers_no_more_callers_than_it_may():
    limit = RateLimit(per_second=1.0, burst=1, callers=10, clock=Clock())
    for n in range(1000):
        limit.wait_of(f"caller {n}")
    assert len(limit._buckets) == 10


@given(st.lists(st.floats(0.0, 2.0), min_size=1, max_size=50), st.floats(0.1, 20.0), st.integers(1, 10))
@example([0.6, 2.0], 0.25, 1)  # was refused for want of a last bit
def test_whoever_waits_as_long_as_told_is_allowed(pauses, rate, burst):
    clock = Clock()
    limit = RateLimit(per_second=rate, burst=burst, clock=clock)
    allowed = 0
    for pause in pauses:
        clock.now += pause
        seconds = limit.wait_of("ann")
        allowed += seconds == 0
        if seconds:
            clock.now += seconds
            assert limit.wait_of("ann") == 0
            allowed += 1
    assert allowed <= burst + rate * clock.now + 1e-6


def post(messages, *, headers=(), most_bytes=256, most_seconds=0.2):
    """Send the messages of one request through the middleware; return status, headers and body of the answer."""
    sent = []
    waiting = list(messages)

    async def receive():
        if waiting:
            return waiting.pop(0)
        await asyncio.Event().wait()  # a client that says nothing more

    async def send(message):
        sent.append(message)

    async def echo(scope, receive, send):
        body = (await receive())["body"]
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": body})

    scope = {"type": "http", "method": "POST", "path": "/", "headers": list(headers)}
    asyncio.run(BodyLimit(echo, most_bytes=most_bytes, most_seconds=most_seconds)(scope, receive, send))
    if not sent:
        return None
    return sent[0]["status"], dict(sent[0]["headers"]), sent[1]["body"]


def part(body, more=False):
    return {"type": "http.request", "body": body, "more_body": more}


def test_a_body_in_parts_arrives_whole():
    assert post([part(b"ab", True), part(b"cd", True), part(b"")])[::2] == (200, b"abcd")


@pytest.mark.parametrize("size", [255, 256])
def test_a_body_up_to_the_limit_is_taken(size):
    assert post([part(b"x" * size)])[0] == 200


def test_a_body_that_says_it_is_too_large_is_refused_unread():
    status, _, body = post([], headers=[(b"content-length", b"257")])
    assert status == 413
    assert json.loads(body)["error"] == "body_too_large"


def test_a_body_that_is_too_large_without_saying_so_is_refused():
    assert post([part(b"x" * 200, True), part(b"x" * 57, True)])[0] == 413


def test_a_body_that_does_not_come_to_an_end_is_refused_after_a_while():
    status, headers, body = post([part(b"x", True)])
    assert (status, json.loads(body)["error"]) == (408, "body_too_slow")
    assert headers[b"connection"] == b"close"


def test_a_client_that_goes_away_gets_no_answer():
    assert post([part(b"x", True), {"type": "http.disconnect"}]) is None
