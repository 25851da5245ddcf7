"""Slow clients over real sockets lose their connections, and do not delay others."""

import asyncio
import contextlib
import socket
import threading
import time

import httpx
import pytest
import uvicorn

from forecastlib.serving.middleware import BodyLimit, ConnectionTimeouts

TIMEOUT = 0.4
HEAD = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n"
LARGE = bytes(50_000_000)  # more than the buffers of the sockets hold


async def application(scope, receive, send):
    """Respond with a large body at /large, late at /late, and otherwise with the body of the request."""
    body = (await receive())["body"]
    if scope["path"] == "/late":
        await asyncio.sleep(3 * TIMEOUT)
    if scope["path"] == "/large":
        body = LARGE
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


@pytest.fixture(scope="module")
def port():
    timeouts = ConnectionTimeouts(BodyLimit(application, max_bytes=2_000, max_seconds=TIMEOUT), TIMEOUT)
    config = uvicorn.Config(
        timeouts,
        http=timeouts.protocol(),
        proxy_headers=False,
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
    """Send byte by byte until the server responds or closes; return its response and the seconds until then."""
    began, answer = time.monotonic(), b""
    with contextlib.suppress(ConnectionError):  # closed while a byte was on its way
        for byte in data:
            client.send(bytes([byte]))
            client.settimeout(pause)
            with contextlib.suppress(TimeoutError):
                answer = client.recv(10_000)
                client.settimeout(30)
                while part := client.recv(10_000):  # the body may arrive later than the head
                    answer += part
                break
        else:
            pytest.fail(f"the server waited for {len(data)} bytes")
    return answer, time.monotonic() - began


def test_headers_sent_byte_by_byte_end_the_connection(port):
    with connect(port) as client:
        answer, seconds = trickle(client, HEAD + b"X-Long: " + bytes(10_000))
    assert answer == b""
    assert TIMEOUT * 0.9 < seconds < 10 * TIMEOUT


def test_a_silent_client_loses_its_connection(port):
    with connect(port) as client:
        assert client.recv(1) == b""


def test_headers_of_a_second_request_sent_byte_by_byte_end_the_connection(port):
    with connect(port) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert client.recv(1000).startswith(b"HTTP/1.1 200")
        assert trickle(client, HEAD + bytes(10_000))[0] == b""


def test_a_body_sent_byte_by_byte_is_refused_as_too_slow(port):
    with connect(port) as client:
        client.sendall(HEAD + b"\r\n")
        answer, seconds = trickle(client, bytes(1000))
    assert answer.startswith(b"HTTP/1.1 408")
    assert b'"body_too_slow"' in answer
    assert seconds < 10 * TIMEOUT


def test_a_response_that_is_not_read_ends_the_connection(port):
    with connect(port) as client:
        client.sendall(b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n")
        threading.Event().wait(6 * TIMEOUT)  # reads nothing
        received = 0
        with contextlib.suppress(ConnectionResetError):
            while part := client.recv(1 << 20):
                received += len(part)
    assert received < len(LARGE)


def test_a_client_that_reads_gets_a_large_response_completely(port):
    assert httpx.get(f"http://127.0.0.1:{port}/large", timeout=30).content == LARGE


def test_a_late_response_is_not_cut_off(port):
    assert httpx.get(f"http://127.0.0.1:{port}/late", timeout=30).status_code == 200


def test_a_connection_in_use_stays_open(port):
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
        end = time.monotonic() + 6 * TIMEOUT
        streams = set()
        while time.monotonic() < end:
            answer = client.post("/", content=b"again")
            assert answer.content == b"again"
            streams.add(answer.extensions["network_stream"].get_extra_info("client_addr"))
            threading.Event().wait(TIMEOUT / 10)
    assert len(streams) <= 2  # one response, unless this test was suspended for longer than the timeout


def test_many_slow_clients_do_not_delay_others(port):
    """Half of them send slow headers, the others a slow body; all are disconnected in the end."""
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
        assert sorted(times)[len(times) // 2] < TIMEOUT
        for client in slow:
            client.settimeout(30)
            with contextlib.suppress(ConnectionResetError):
                while client.recv(10_000):
                    pass
