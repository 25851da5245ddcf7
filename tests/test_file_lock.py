"""Locks between processes and threads."""

import os
import signal
import subprocess
import sys
import threading

import pytest

from forecastlib.paths import file_lock

HOLD_THE_LOCK = """
import sys
from pathlib import Path
from forecastlib.paths import file_lock

with file_lock(Path(sys.argv[1])):
    print("acquired", flush=True)
    sys.stdin.readline()
print("released", flush=True)
"""


@pytest.fixture
def path(tmp_path):
    return tmp_path / "new" / "some.lock"


@pytest.fixture
def holder(path):
    """Start another process that holds the lock until it reads a line."""
    command = [sys.executable, "-c", HOLD_THE_LOCK, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "acquired\n"
        yield process
        process.kill()


def test_a_lock_held_by_another_process_is_not_acquired(path, holder):
    with (
        pytest.raises(TimeoutError, match=r"could not lock .*some\.lock within 0\.01 s: another process"),
        file_lock(path, timeout=0.01),
    ):
        pytest.fail("acquired")


def test_a_waiting_process_acquires_the_lock_when_the_holder_releases_it(path, holder):
    holder.stdin.write("release\n")
    holder.stdin.flush()
    with file_lock(path, timeout=60):
        assert holder.stdout.readline() == "released\n"


def test_a_lock_is_released_however_its_process_ends(path, holder):
    os.kill(holder.pid, signal.SIGKILL)
    with file_lock(path, timeout=60):
        assert holder.wait() == -signal.SIGKILL


def test_threads_of_one_process_exclude_each_other(path):
    inside, most, counts = 0, 0, threading.Lock()
    together = threading.Barrier(8)

    def work():
        nonlocal inside, most
        together.wait()
        for _ in range(5):
            with file_lock(path, timeout=60):
                with counts:
                    inside += 1
                    most = max(most, inside)
                with counts:
                    inside -= 1

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (inside, most) == (0, 1)


def test_a_thread_that_holds_the_lock_keeps_others_out(path):
    raised = []

    def work():
        try:
            with file_lock(path, timeout=0.01):
                pass
        except TimeoutError as error:
            raised.append(error)

    with file_lock(path):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert len(raised) == 1


def test_an_exception_releases_the_lock(path):
    with pytest.raises(ZeroDivisionError), file_lock(path):
        1 / 0  # noqa: B018
    with file_lock(path, timeout=0.01):
        assert path.is_file()


def test_a_path_that_cannot_be_a_lock_file_raises(tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="folder"), file_lock(tmp_path / "folder"):
        pytest.fail("acquired")
