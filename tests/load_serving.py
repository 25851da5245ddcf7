"""Load on the service, by hand: ``python tests/load_serving.py`` in a project that has a champion of ^IXIC.

Starts `forecastlib serve` on a free port and asks it for forecasts at a steady rate, first alone, then while trainings
run; then many more, to see its memory. The rate does not wait for answers: a slow one does not slow the next.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import subprocess
import sys
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


async def stalls(client: httpx.AsyncClient) -> str:
    """Return what the service has seen of its own event loop since it was asked last."""
    return (await client.get("/stalls")).text


async def measure(address: str, pid: int, rate: float, seconds: float, many: int) -> None:
    """Go through all phases."""
    limits = httpx.Limits(max_connections=200)
    async with httpx.AsyncClient(base_url=address, timeout=60, limits=limits) as client:
        for day in DAYS[:20]:
            (await client.post("/predict", json={"symbol": "^IXIC", "date": day})).raise_for_status()
        await stalls(client)
        one: list[float] = []
        for day in DAYS[20:120]:
            began = time.perf_counter()
            (await client.post("/predict", json={"symbol": "^IXIC", "date": day})).raise_for_status()
            one.append(1000 * (time.perf_counter() - began))
        show("alone, one after the other", one, [200] * len(one))
        click.echo(await stalls(client))
        show(f"alone, {rate:g} a second", *await steady(client, rate, seconds))
        click.echo(await stalls(client))
        for symbol in ("^IXIC", "^GSPC"):
            body = {"symbol": symbol, "training_days": 5000, "force_retrain": True}
            (await client.post("/train", json=body)).raise_for_status()
        while not all(job["progress"] for job in (await client.get("/jobs?status=started")).json()["jobs"]):
            await asyncio.sleep(1)  # until both are in their epochs
        await stalls(client)
        show(f"two trainings, {rate:g} a second", *await steady(client, rate, seconds))
        running = (await client.get("/jobs?status=started")).json()["jobs"]
        click.echo(f"{await stalls(client)}; epochs {[job['progress'][-1]['epoch'] for job in running]}")
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
    command = [sys.executable, __file__, "--serve"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        assert server.stdout is not None
        address = server.stdout.readline().strip()
        try:
            asyncio.run(measure(address, server.pid, rate, seconds, many))
        finally:
            server.terminate()


def serve_watched() -> None:
    """Serve with a clock in the event loop: how late it is woken up says how long the loop stood still."""
    from forecastlib.serving import Settings, create_app, server

    late: list[float] = []

    def watched(settings: Settings) -> object:
        app = create_app(settings)

        async def tick() -> None:
            while True:
                began = time.perf_counter()
                await asyncio.sleep(0.005)
                late.append(1000 * (time.perf_counter() - began - 0.005))

        inner = app.router.lifespan_context

        def with_clock(given: object) -> object:
            asyncio.get_running_loop().create_task(tick())
            return inner(given)

        app.router.lifespan_context = with_clock

        @app.get("/stalls")
        async def stalls_seen() -> str:
            seen, late[:] = list(late), []
            over = sum(one > 50 for one in seen)
            worst = f"p99 {share(seen, 0.99):.0f} ms, max {max(seen):.0f}, over 50 ms {over} of {len(seen)}"
            return f"  event loop late by: {worst}"

        return app

    server.create_app = watched  # type: ignore[assignment]
    server.serve(
        Settings(port=0, shutdown_seconds=0.0, requests_per_second=1000.0),
        lambda text: print(text.rsplit(" ", 1)[1], flush=True),
    )


if __name__ == "__main__":
    serve_watched() if "--serve" in sys.argv else main()
