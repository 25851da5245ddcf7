"""Dask as the library uses it: real worker processes, which are killed and interrupted."""

import os
import signal
import subprocess
import sys
import time

import pytest
from distributed import LocalCluster

from forecastlib import engine
from forecastlib.errors import ConfigError, NotEnoughDataError

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def client():
    with engine.connect(workers=2) as client:
        yield client


def environment(names):
    return os.getpid(), {name: os.environ.get(name) for name in names}


def kill_the_first_time(marker):
    if not os.path.exists(marker):
        open(marker, "w").close()
        os.kill(os.getpid(), signal.SIGKILL)
    return "done"


def fail():
    raise NotEnoughDataError("too few")


def test_workers_are_processes_of_one_thread(client):
    futures = [client.submit(environment, tuple(engine.SINGLE_THREAD), pure=False) for _ in range(4)]
    answers = client.gather(futures)
    assert os.getpid() not in {pid for pid, _ in answers}
    assert all(variables == engine.SINGLE_THREAD for _, variables in answers)
    assert set(client.nthreads().values()) == {1}


def test_the_task_of_a_killed_worker_is_run_again(client, tmp_path):
    assert client.submit(kill_the_first_time, str(tmp_path / "killed")).result() == "done"
    assert (tmp_path / "killed").exists()


def test_an_error_keeps_its_class(client):
    with pytest.raises(NotEnoughDataError, match="too few"):
        client.submit(fail).result()


def test_functions_of_a_script_are_sent_by_value(client):
    factor = 3
    assert client.submit(lambda value: factor * value, 2).result() == 6


def test_an_existing_scheduler_is_used_by_address_or_environment(monkeypatch):
    with LocalCluster(n_workers=0, dashboard_address="127.0.0.1:0", processes=False) as cluster:
        monkeypatch.setenv(engine.SCHEDULER_VARIABLE, cluster.scheduler_address)
        with engine.connect() as client:
            assert client.scheduler.address == cluster.scheduler_address
        monkeypatch.delenv(engine.SCHEDULER_VARIABLE)
        with engine.connect(cluster.scheduler_address) as client:
            assert client.scheduler.address == cluster.scheduler_address


def test_an_address_where_no_scheduler_answers_is_refused(monkeypatch):
    monkeypatch.setattr(engine, "CONNECT_TIMEOUT", 0.5)
    with pytest.raises(ConfigError, match="expected a Dask scheduler at"):
        engine.connect("tcp://127.0.0.1:1").__enter__()


def test_a_number_of_workers_below_one_is_refused():
    with pytest.raises(ConfigError, match="expected at least one worker; got workers=0"):
        engine.connect(workers=0).__enter__()


SCRIPT = """
import os, time
from forecastlib import engine

def wait():
    time.sleep({seconds})
    return os.getpid()

with engine.connect(workers=1) as client:
    print(client.submit(os.getpid, pure=False).result(), flush=True)
    print(client.submit(wait).result(), flush=True)
"""


def run_script(folder, seconds):
    """Start a script without a main guard, in a new folder."""
    for name in ("work", "temporary"):
        (folder / name).mkdir()
    (folder / "script.py").write_text(SCRIPT.format(seconds=seconds))
    return subprocess.Popen(
        [sys.executable, "-W", "error", str(folder / "script.py")],
        cwd=folder / "work",
        env=os.environ | {"TMPDIR": str(folder / "temporary")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def runs(pid):
    """Return whether a process exists and has not ended."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_script_without_a_main_guard_runs_once_and_leaves_nothing(tmp_path):
    with run_script(tmp_path, 0) as process:
        printed, errors = process.communicate(timeout=120)
    first, second = printed.split()
    assert (process.returncode, errors) == (0, "")
    assert first == second
    assert not runs(int(first))
    assert not list((tmp_path / "work").iterdir()) and not list((tmp_path / "temporary").iterdir())


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGINT], ids=["killed", "interrupted"])
def test_busy_workers_end_with_the_process_that_started_them(tmp_path, sent):
    with run_script(tmp_path, 600) as process:
        worker = int(process.stdout.readline())
        assert runs(worker)
        time.sleep(0.5)  # the task that waits has begun, or is about to: the workers end in both cases
        process.send_signal(sent)
        process.wait(timeout=60)
        deadline = time.monotonic() + 60
        while runs(worker):
            assert time.monotonic() < deadline, "the worker has outlived its client"
            time.sleep(0.2)
    if sent == signal.SIGINT:
        assert not list((tmp_path / "temporary").iterdir())
