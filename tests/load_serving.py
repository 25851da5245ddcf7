"""Load test of the service: run ``python tests/load_serving.py`` in a project that has a champion of ^IXIC.

It starts the service on a free port and requests forecasts at a steady rate, first without trainings and then with two
of them; then it requests many more and compares the memory of the service. Requests are sent at the given rate whether
earlier ones have been answered or not.

As a control, a second process with the same session and priority runs an event loop that only sleeps. Delays that it
also has are caused by the machine and not by the service, and so is the time for which the threads of the service wait
for a processor.
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
    """Request forecasts of different days at a steady rate; return milliseconds and statuses."""
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
    """Print the statistics of a phase."""
    counts = {status: statuses.count(status) for status in sorted(set(statuses))}
    click.echo(
        f"{name}: n {len(times)}, p50 {statistics.median(times):.0f} ms, p95 {share(times, 0.95):.0f}, "
        f"p99 {share(times, 0.99):.0f}, max {max(times):.0f}; statuses {counts}; load {os.getloadavg()[0]:.1f}"
    )


class Clock:
    """Sleeps in an event loop; how late it wakes up is how long the loop was blocked."""

    def __init__(self) -> None:
        self._late: list[float] = []

    async def tick(self) -> None:
        """Sleep repeatedly."""
        while True:
            began = time.perf_counter()
            await asyncio.sleep(0.005)
            self._late.append(1000 * (time.perf_counter() - began - 0.005))

    def summary(self) -> str:
        """Return statistics since the last call."""
        seen, self._late[:] = list(self._late), []
        over = sum(late > 50 for late in seen)
        return f"p99 {share(seen, 0.99):.0f} ms, max {max(seen):.0f}, over 50 ms {over} of {len(seen)}"


async def control() -> None:
    """Run the control: a clock that prints statistics for each line of its input."""
    clock, loop = Clock(), asyncio.get_running_loop()
    loop.add_reader(sys.stdin, lambda: print(clock.summary(), flush=True) if sys.stdin.readline() else sys.exit())
    await clock.tick()


async def stalls(client: httpx.AsyncClient) -> str:
    """Return how late the event loops of the service and of the control were since the last call."""
    return (await client.get("/stalls")).json()


async def measure(address: str, pid: int, rate: float, seconds: float, many: int) -> None:
    """Run all phases."""
    limits = httpx.Limits(max_connections=200)
    async with httpx.AsyncClient(base_url=address, timeout=60, limits=limits) as client:
        for day in DAYS[:20]:
            (await client.post("/predict", json={"symbol": "^IXIC", "date": day})).raise_for_status()
        await stalls(client)
        single: list[float] = []
        for day in DAYS[20:120]:
            began = time.perf_counter()
            (await client.post("/predict", json={"symbol": "^IXIC", "date": day})).raise_for_status()
            single.append(1000 * (time.perf_counter() - began))
        show("no trainings, one after the other", single, [200] * len(single))
        click.echo(await stalls(client))
        show(f"no trainings, {rate:g} per second", *await steady(client, rate, seconds))
        click.echo(await stalls(client))
        for symbol in ("^IXIC", "^GSPC"):
            body = {"symbol": symbol, "training_days": 5000, "force_retrain": True}
            (await client.post("/train", json=body)).raise_for_status()
        while not all(job["progress"] for job in (await client.get("/jobs?status=started")).json()["jobs"]):
            await asyncio.sleep(1)  # until both have completed an epoch
        await stalls(client)
        show(f"two trainings, {rate:g} per second", *await steady(client, rate, seconds))
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
    """Measure the service of the current project."""
    command = [sys.executable, __file__, "--serve"]
    quiet = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    # In its own session, as a service is: Linux may divide processor time by session.
    with subprocess.Popen(command, **quiet, start_new_session=True) as server:
        try:
            asyncio.run(measure(server.stdout.readline().strip(), server.pid, rate, seconds, many))
        finally:
            server.terminate()


def processor_seconds() -> tuple[float, float]:
    """Return for how many seconds all threads of this process have run, and have waited to run."""
    counted = [
        Path(f"/proc/self/task/{thread}/schedstat").read_text().split() for thread in os.listdir("/proc/self/task")
    ]
    ran, waited = (sum(int(thread[column]) for thread in counted) / 1e9 for column in (0, 1))
    return ran, waited


def serve_watched() -> None:
    """Serve with a clock in the event loop, and a control process."""
    import forecastlib.serving.app as module
    from forecastlib.serving import Settings, create_app, serve

    clock, options = Clock(), {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    bare = subprocess.Popen([sys.executable, __file__, "--clock"], **options)

    last = [processor_seconds()]

    def summary() -> str:
        bare.stdin.write("\n")
        bare.stdin.flush()
        last.append(processor_seconds())
        ran, waited = (now - before for before, now in zip(*last[-2:], strict=True))
        loops = f"event loop late by: {clock.summary()}; control: {bare.stdout.readline().strip()}"
        return f"  {loops}\n  processor: ran for {ran:.1f} s, waited for it for {waited:.1f} s"

    def watched(settings: Settings) -> object:
        app = create_app(settings)
        inner = app.router.lifespan_context

        def with_clock(given: object) -> object:
            asyncio.get_running_loop().create_task(clock.tick())
            return inner(given)

        app.router.lifespan_context = with_clock
        app.get("/stalls")(summary)
        return app

    module.create_app = watched  # type: ignore[assignment]
    serve(
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
