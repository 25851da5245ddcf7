"""Load on the service, by hand: ``python tests/load_serving.py`` in a project that has a champion of ^IXIC.

Starts `forecastlib serve` on a free port and asks it for forecasts at a steady rate, first alone, then while trainings
run; then many more, to see its memory. The rate does not wait for answers: a slow one does not slow the next.

Beside every phase stands a control: a bare event loop, at the same priority and in a session of its own as the service
is, whose process computes about as much, but without Python's lock. What it suffers from is the machine, busy with
something else.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import os
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

import click
import httpx
import pandas as pd

DAYS = [f"{day:%Y-%m-%d}" for day in pd.bdate_range("2010-01-04", "2018-12-28")]


def resident(pid: int) -> float:
    """Return the memory of a process in MB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


def share(values: list[float], q: float) -> float:
    """Return a quantile."""
    return sorted(values)[min(len(values) - 1, int(q * len(values)))]


async def steady(client: httpx.AsyncClient, rate: float, seconds: float) -> tuple[list[float], list[int]]:
    """Ask for a forecast of another day, so many times a second; return milliseconds and statuses."""
    times: list[float] = []
    statuses: list[int] = []

    async def ask(n: int) -> None:
        began = time.perf_counter()
        answer = await client.post("/predict", json={"symbol": "^IXIC", "date": DAYS[n * 37 % len(DAYS)]})
        times.append(1000 * (time.perf_counter() - began))
        statuses.append(answer.status_code)

    async with asyncio.TaskGroup() as group:
        start = time.perf_counter()
        for n in range(int(rate * seconds)):
            await asyncio.sleep(max(0.0, start + n / rate - time.perf_counter()))
            group.create_task(ask(n))
    return times, statuses


def show(name: str, times: list[float], statuses: list[int]) -> None:
    """Print what a phase has given."""
    counts = {status: statuses.count(status) for status in sorted(set(statuses))}
    click.echo(
        f"{name}: n {len(times)}, p50 {statistics.median(times):.0f} ms, p95 {share(times, 0.95):.0f}, "
        f"p99 {share(times, 0.99):.0f}, max {max(times):.0f}; statuses {counts}; load {os.getloadavg()[0]:.1f}"
    )


class Clock:
    """Sleeps in an event loop: how late it is woken up says how long the loop stood still."""

    def __init__(self) -> None:
        self._late: list[float] = []

    async def tick(self) -> None:
        """Go on for ever."""
        while True:
            began = time.perf_counter()
            await asyncio.sleep(0.005)
            self._late.append(1000 * (time.perf_counter() - began - 0.005))

    def said(self) -> str:
        """Word what was seen since the last time."""
        seen, self._late[:] = list(self._late), []
        over = sum(one > 50 for one in seen)
        return f"p99 {share(seen, 0.99):.0f} ms, max {max(seen):.0f}, over 50 ms {over} of {len(seen)}"


def compute(rate: float = 20.0, seconds: float = 0.025, block: bytes = bytes(1_000_000)) -> None:
    """Take as much of a processor as forecasts do, without Python's lock: hashes of large blocks need none."""
    start, n = time.perf_counter(), 0
    while True:
        time.sleep(max(0.0, start + n / rate - time.perf_counter()))
        n += 1
        began = time.thread_time()
        while time.thread_time() - began < seconds:
            hashlib.sha256(block)


async def control() -> None:
    """Be the control: a clock that answers each line with what it has seen."""
    clock, loop = Clock(), asyncio.get_running_loop()
    threading.Thread(target=compute, daemon=True).start()
    loop.add_reader(sys.stdin, lambda: sys.stdin.readline() and print(clock.said(), flush=True))
    await clock.tick()


async def stalls(client: httpx.AsyncClient, bare: subprocess.Popen[str]) -> str:
    """Return how late the event loops of the service and of the control were since they were asked last."""
    assert bare.stdin is not None and bare.stdout is not None
    bare.stdin.write("\n")
    bare.stdin.flush()
    return f"  event loop late by: {(await client.get('/stalls')).json()}; control: {bare.stdout.readline().strip()}"


async def measure(address: str, pid: int, bare: subprocess.Popen[str], rate: float, seconds: float, many: int) -> None:
    """Go through all phases."""
    limits = httpx.Limits(max_connections=200)
    async with httpx.AsyncClient(base_url=address, timeout=60, limits=limits) as client:
        for day in DAYS[:20]:
            (await client.post("/predict", json={"symbol": "^IXIC", "date": day})).raise_for_status()
        await stalls(client, bare)
        one: list[float] = []
        for day in DAYS[20:120]:
            began = time.perf_counter()
            (await client.post("/predict", json={"symbol": "^IXIC", "date": day})).raise_for_status()
            one.append(1000 * (time.perf_counter() - began))
        show("alone, one after the other", one, [200] * len(one))
        click.echo(await stalls(client, bare))
        show(f"alone, {rate:g} a second", *await steady(client, rate, seconds))
        click.echo(await stalls(client, bare))
        for symbol in ("^IXIC", "^GSPC"):
            body = {"symbol": symbol, "training_days": 5000, "force_retrain": True}
            (await client.post("/train", json=body)).raise_for_status()
        while not all(job["progress"] for job in (await client.get("/jobs?status=started")).json()["jobs"]):
            await asyncio.sleep(1)  # until both are in their epochs
        await stalls(client, bare)
        show(f"two trainings, {rate:g} a second", *await steady(client, rate, seconds))
        running = (await client.get("/jobs?status=started")).json()["jobs"]
        click.echo(f"{await stalls(client, bare)}; epochs {[job['progress'][-1]['epoch'] for job in running]}")
        sizes = {}
        for n in range(1, many + 1):
            answer = await client.post("/predict", json={"symbol": "^IXIC", "date": DAYS[n * 37 % len(DAYS)]})
            answer.raise_for_status()
            if n in (500, many):
                sizes[n] = resident(pid)
        click.echo(f"memory after {sizes} predictions: {sizes[many] / sizes[500] - 1:+.1%}")


@click.command()
@click.option("--rate", default=20.0, show_default=True)
@click.option("--seconds", default=60.0, show_default=True)
@click.option("--many", default=5000, show_default=True)
def main(rate: float, seconds: float, many: int) -> None:
    """Measure the service of the present project."""
    # Sessions of their own, as a service has one: Linux may share the processor by session, and this one asks.
    options = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    start = functools.partial(subprocess.Popen, **options, start_new_session=True)
    with start([sys.executable, __file__, "--serve"]) as server, start([sys.executable, __file__, "--clock"]) as bare:
        try:
            asyncio.run(measure(server.stdout.readline().strip(), server.pid, bare, rate, seconds, many))
        finally:
            server.terminate()
            bare.terminate()


def serve_watched() -> None:
    """Serve with a clock in the event loop."""
    from forecastlib.serving import Settings, create_app, server

    clock = Clock()

    def watched(settings: Settings) -> object:
        app = create_app(settings)
        inner = app.router.lifespan_context

        def with_clock(given: object) -> object:
            asyncio.get_running_loop().create_task(clock.tick())
            return inner(given)

        app.router.lifespan_context = with_clock
        app.get("/stalls")(clock.said)
        return app

    server.create_app = watched  # type: ignore[assignment]
    server.serve(
        Settings(port=0, shutdown_seconds=0.0, requests_per_second=1000.0),
        lambda text: print(text.rsplit(" ", 1)[1], flush=True),
    )


if __name__ == "__main__":
    if "--serve" in sys.argv:
        serve_watched()
    elif "--clock" in sys.argv:
        asyncio.run(control())
    else:
        main()
