"""Locks between processes."""

import os
import signal
import subprocess
import sys

import pytest

from forecastlib.locks import alone

HOLDS = """
import sys
from pathlib import Path
from forecastlib.locks import alone

with alone(Path(sys.argv[1])):
    print("inside", flush=True)
    sys.stdin.readline()
print("outside", flush=True)
"""


@pytest.fixture
def file(tmp_path):
    return tmp_path / "new" / "it.lock"


@pytest.fixture
def holder(file):
    """Another process that is inside, until it is told to leave."""
    command = [sys.executable, "-c", HOLDS, str(file)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "inside\n"
        yield process
        process.kill()


def test_while_another_process_is_inside_nobody_enters(file, holder):
    with pytest.raises(TimeoutError, match=r"under .*it\.lock for more than 0\.01 s"), alone(file, patience=0.01):
        pytest.fail("entered")


def test_whoever_waits_enters_when_the_other_process_leaves(file, holder):
    holder.stdin.write("leave\n")
    holder.stdin.flush()
    with alone(file, patience=60):
        assert holder.stdout.readline() == "outside\n"


def test_a_lock_ends_with_its_process_however_it_ends(file, holder):
    os.kill(holder.pid, signal.SIGKILL)
    with alone(file, patience=60):
        assert holder.wait() == -signal.SIGKILL


def test_after_an_exception_inside_others_may_enter(file):
    with pytest.raises(ZeroDivisionError), alone(file):
        1 / 0  # noqa: B018
    with alone(file, patience=0.01):
        assert file.is_file()


def test_a_file_that_cannot_be_a_lock_is_said(tmp_path):
    (tmp_path / "text").write_text("no database, but long enough to be taken for a broken one" * 20)
    with pytest.raises(OSError, match="text cannot be used as a lock"), alone(tmp_path / "text"):
        pytest.fail("entered")
