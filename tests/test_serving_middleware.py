"""Limits on the size of request bodies and on the time until they are complete."""

import asyncio
import json

import pytest

from forecastlib.serving.middleware import BodyLimit


def post(messages, *, headers=(), max_bytes=256, max_seconds=0.2):
    """Send the messages of one request through the middleware; return the status, headers and body of the response."""
    sent = []
    unsent = list(messages)

    async def receive():
        if unsent:
            return unsent.pop(0)
        await asyncio.Event().wait()  # a client that sends nothing more

    async def send(message):
        sent.append(message)

    async def echo(scope, receive, send):
        body = (await receive())["body"]
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": body})

    scope = {"type": "http", "method": "POST", "path": "/", "headers": list(headers)}
    asyncio.run(BodyLimit(echo, max_bytes=max_bytes, max_seconds=max_seconds)(scope, receive, send))
    if not sent:
        return None
    return sent[0]["status"], dict(sent[0]["headers"]), sent[1]["body"]


def part(body, more=False):
    return {"type": "http.request", "body": body, "more_body": more}


def test_the_parts_of_a_body_are_joined():
    assert post([part(b"ab", True), part(b"cd", True), part(b"")])[::2] == (200, b"abcd")


@pytest.mark.parametrize("size", [255, 256])
def test_a_body_up_to_the_limit_is_accepted(size):
    assert post([part(b"x" * size)])[0] == 200


def test_a_body_that_declares_too_large_a_size_is_refused_without_reading_it():
    status, _, body = post([], headers=[(b"content-length", b"257")])
    assert status == 413
    assert json.loads(body)["error"] == "body_too_large"


def test_a_body_that_is_too_large_without_declaring_its_size_is_refused():
    assert post([part(b"x" * 200, True), part(b"x" * 57, True)])[0] == 413


def test_an_incomplete_body_is_refused_after_the_time_limit():
    status, headers, body = post([part(b"x", True)])
    assert (status, json.loads(body)["error"]) == (408, "body_too_slow")
    assert headers[b"connection"] == b"close"


def test_a_client_that_disconnects_gets_no_response():
    assert post([part(b"x", True), {"type": "http.disconnect"}]) is None
