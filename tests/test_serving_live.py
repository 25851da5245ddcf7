"""The service as users run it: as a process, with the calls of its documentation, a real training, and kills."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import serving_project

from forecastlib.processes import child_environment

pytestmark = pytest.mark.slow

DOCUMENT = (Path(__file__).parents[1] / "docs" / "service.md").read_text(encoding="utf-8")
WORDS = [f"{name}={value}" for name, value in serving_project.PARAMETERS.items()] + ["patience=10000"]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    with serving_project.project(tmp_path_factory.mktemp("project")) as folder:
        yield folder


@contextmanager
def serving(home):
    """Run `forecastlib serve` with small trainings; yield its process and its address."""
    command = [sys.executable, "-m", "forecastlib.cli", "serve", "--port", "0", *WORDS]
    with (
        (home / "server.log").open("a") as log,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env=child_environment()) as process,
    ):
        line = process.stdout.readline()
        try:
            yield process, re.search(r"http://127\.0\.0\.1:\d+", line).group()
        finally:
            process.terminate()
            process.wait(60)


def job_of(address, job_id):
    return httpx.get(f"{address}/jobs/{job_id}", timeout=60).raise_for_status().json()


def until(condition, seconds=240.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the condition was never true"
        threading.Event().wait(0.2)


def test_the_documented_calls_work(home, monkeypatch, capsys):
    (commands,) = re.findall(r"```sh\n(.*?)```", DOCUMENT, flags=re.DOTALL)
    (program,) = re.findall(r"```python\n(.*?)```", DOCUMENT, flags=re.DOTALL)
    with serving(home) as (_, address):
        until(lambda: httpx.get(f"{address}/health", timeout=60).status_code == 200)
        names: dict[str, object] = {}
        exec(compile(program.replace("http://127.0.0.1:8000", address), "service.md", "exec"), names)
        printed = capsys.readouterr().out.splitlines()
        assert len(printed) == len(names["forecast"]["forecasts"]) == 2
        job = names["job"]
        assert (job["status"], job["error"]) == ("completed", None)
        assert [epoch["epoch"] for epoch in job["progress"]] == [1, 2]
        assert job["sessions"] == 2500
        assert job["result"]["metrics"]["mae_7d"] > 0
        # The new model is used at once; no cache delays it.
        versions = httpx.get(f"{address}/models", timeout=60).json()["models"][0]["versions"]
        assert versions[0]["version"] == job["result"]["version"]
        assert (home / "reports" / "jobs" / job["id"] / "03_train.html").is_file()
        for line in commands.strip().splitlines():
            done = subprocess.run(
                line.replace("curl -s", "curl -s --fail-with-body").replace("localhost:8000", address.split("//")[1]),
                shell=True,
                capture_output=True,
                text=True,
            )
            assert done.returncode == 0, f"{line}\n{done.stdout}"
        assert (
            '"status":"skipped"'
            in subprocess.run(
                commands.splitlines()[0].replace("localhost:8000", address.split("//")[1]),
                shell=True,
                capture_output=True,
                text=True,
            ).stdout
            or not job["result"]["promoted"]
        )


def test_a_training_survives_a_killed_server_and_fails_when_it_is_killed_itself(home):
    with serving(home) as (process, address):
        body = {"symbol": "^GSPC", "training_days": 2000, "epochs": 1000}
        job = httpx.post(f"{address}/train", json=body, timeout=60).raise_for_status().json()
        until(lambda: job_of(address, job["id"])["progress"])
        process.send_signal(signal.SIGKILL)
        process.wait()
    with serving(home) as (_, address):
        before = job_of(address, job["id"])
        assert before["status"] == "started"
        until(lambda: len(job_of(address, job["id"])["progress"]) > len(before["progress"]))  # it is still training
        pids = re.findall(rf'"pid": (\d+).*{job["id"]}|{job["id"]}.*"pid": (\d+)', (home / "server.log").read_text())
        os.kill(int(next(filter(None, pids[0]))), signal.SIGKILL)
        until(lambda: job_of(address, job["id"])["status"] == "failed")
        assert "training process ended" in job_of(address, job["id"])["error"]
