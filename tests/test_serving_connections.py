"""Slow clients over real sockets: they lose their connections, and hold nobody up."""

import asyncio
import contextlib
import socket
import threading
import time

import httpx
import pytest
import uvicorn

from forecastlib.serving.connections import impatient
from forecastlib.serving.limits import BodyLimit

PATIENCE = 0.4
HEAD = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n"
LARGE = bytes(50_000_000)  # more than the system keeps for a client on its way


async def application(scope, receive, send):
    """Answer with a large body at /large, after a while at /late, else with what came."""
    body = (await receive())["body"]
    if scope["path"] == "/late":
        await asyncio.sleep(3 * PATIENCE)
    if scope["path"] == "/large":
        body = LARGE
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


@pytest.fixture(scope="module")
def port():
    config = uvicorn.Config(
        BodyLimit(application, most_bytes=2_000, most_seconds=PATIENCE),
        http=impatient(PATIENCE),
        lifespan="off",
        log_level="critical",
    )
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as opened:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [opened]})
        thread.start()
        yield opened.getsockname()[1]
        server.should_exit = True
        thread.join(30)
    assert not thread.is_alive()


def connect(port):
    return socket.create_connection(("127.0.0.1", port), timeout=30)


def trickle(client, data, pause=0.01):
    """Send byte by byte until the other side has enough; return what it said, and after how many seconds."""
    began, said = time.monotonic(), b""
    with contextlib.suppress(ConnectionError):  # closed while a byte was on its way
        for byte in data:
            client.send(bytes([byte]))
            client.settimeout(pause)
            with contextlib.suppress(TimeoutError):
                said = client.recv(10_000)
                break
        else:
            pytest.fail(f"{len(data)} bytes were waited for")
    return said, time.monotonic() - began


def test_a_head_that_comes_byte_by_byte_is_not_waited_for(port):
    with connect(port) as client:
        said, seconds = trickle(client, HEAD + b"X-Long: " + bytes(10_000))
    assert said == b""
    assert PATIENCE * 0.9 < seconds < 10 * PATIENCE


def test_a_client_that_says_nothing_is_not_waited_for(port):
    with connect(port) as client:
        assert client.recv(1) == b""


def test_a_later_head_is_not_waited_for_either(port):
    with connect(port) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert client.recv(1000).startswith(b"HTTP/1.1 200")
        assert trickle(client, HEAD + bytes(10_000))[0] == b""


def test_a_body_that_comes_byte_by_byte_is_told_to_be_too_slow(port):
    with connect(port) as client:
        client.sendall(HEAD + b"\r\n")
        said, seconds = trickle(client, bytes(1000))
    assert said.startswith(b"HTTP/1.1 408")
    assert b'"body_too_slow"' in said
    assert seconds < 10 * PATIENCE


def test_an_answer_that_is_not_taken_is_given_up(port):
    with connect(port) as client:
        client.sendall(b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n")
        threading.Event().wait(6 * PATIENCE)  # takes nothing
        taken = 0
        with contextlib.suppress(ConnectionResetError):
            while part := client.recv(1 << 20):
                taken += len(part)
    assert taken < len(LARGE)


def test_who_takes_a_large_answer_gets_it_whole(port):
    assert httpx.get(f"http://127.0.0.1:{port}/large", timeout=30).content == LARGE


def test_an_answer_that_takes_long_is_not_cut_off(port):
    assert httpx.get(f"http://127.0.0.1:{port}/late", timeout=30).status_code == 200


def test_a_connection_in_use_stays_open(port):
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
        end = time.monotonic() + 6 * PATIENCE
        streams = set()
        while time.monotonic() < end:
            answer = client.post("/", content=b"again")
            assert answer.content == b"again"
            streams.add(answer.extensions["network_stream"].get_extra_info("client_addr"))
            threading.Event().wait(PATIENCE / 10)
    assert len(streams) <= 2  # one, unless this test itself was held up for longer than the service waits


def test_many_slow_clients_do_not_hold_others_up(port):
    """Half of them in the head, half in the body; all are gone in the end."""
    with contextlib.ExitStack() as opened:
        slow = [opened.enter_context(connect(port)) for _ in range(300)]
        for number, client in enumerate(slow):
            client.sendall(HEAD if number % 2 else HEAD + b"\r\n")
        times = []
        for _ in range(20):
            for client in slow:
                with contextlib.suppress(ConnectionError):
                    client.send(b"x")
            began = time.monotonic()
            assert httpx.post(f"http://127.0.0.1:{port}", content=b"me too", timeout=30).content == b"me too"
            times.append(time.monotonic() - began)
        assert sorted(times)[len(times) // 2] < PATIENCE
        for client in slow:
            client.settimeout(30)
            with contextlib.suppress(ConnectionResetError):
                while client.recv(10_000):
                    pass
