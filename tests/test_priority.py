"""Standing back for other work."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

AUTOGROUP = Path("/proc/self/autogroup")
PROGRAM = """
from forecastlib.priority import keep_niceness
keep_niceness()
print(open("/proc/self/autogroup").read().strip())
"""


def niceness_of_session(*command, **options):
    answer = subprocess.run(
        [*command, sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, **options
    )
    return int(answer.stdout.split()[-1])


@pytest.mark.skipif(not AUTOGROUP.exists(), reason="this system has no autogroups")
class TestAutogroup:
    def test_a_session_stands_back_as_much_as_the_process_that_leads_it(self):
        told = min(19, os.getpriority(os.PRIO_PROCESS, 0) + 7)
        assert niceness_of_session("nice", "-n", "7", start_new_session=True) == told

    def test_the_session_of_somebody_else_is_left_alone(self):
        leader = 'cat /proc/self/autogroup; nice -n 7 "$@"; cat /proc/self/autogroup'
        command = ["sh", "-c", leader, "sh", sys.executable, "-c", PROGRAM]
        answer = subprocess.run(command, capture_output=True, text=True, check=True, start_new_session=True)
        before, within, after = answer.stdout.split("\n")[:3]
        assert before == within == after
        assert before.startswith("/autogroup-")
