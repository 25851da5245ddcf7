"""The queue of trainings: real processes, with a small program instead of the notebook run.

The notebook run itself is tested with the whole service in test_serving_live.py.
"""

import os
import signal
import sqlite3
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import replace

import pytest

from forecastlib.processes import PROGRESS_VARIABLE, report_progress
from forecastlib.serving import trainings as module
from forecastlib.serving.middleware import open_log
from forecastlib.serving.problems import Problem
from forecastlib.serving.settings import Settings
from forecastlib.serving.trainings import Job, JobFolder, JobTable, TrainingQueue, outcome, training_command
from forecastlib.tracking import runs

RESULT = {
    "status": "completed",
    "version": "v1.0.0_20260101_000000",
    "run_id": "r",
    "promoted": True,
    "reason": "the first version",
    "metrics": {},
}

# It reports an epoch, then waits for a line in a named pipe that says how to end.
PROGRAM = f"""
import os, signal, sys
from forecastlib.processes import report_progress
from forecastlib.serving import trainings as module
from forecastlib.serving.trainings import Job, JobTable
from forecastlib.serving.middleware import open_log
report_progress("epoch", epoch=1, epochs=2, loss=1.0, val_loss=2.0)
print("nice", os.nice(0), "threads", os.environ["TF_NUM_INTRAOP_THREADS"], flush=True)
try:
    with open(sys.argv[1]) as pipe:
        end = pipe.readline().strip()
except KeyboardInterrupt:
    sys.exit("Aborted!")
if end == "succeed":
    report_progress("result", **{RESULT!r})
    report_progress("finished", run_id="r")
elif end == "fail":
    sys.exit("Error: 03_train, cell 3 failed with SourceError: no such symbol")
"""


class Bench:
    """The queue of a service, the pipes by which a test ends its processes, and the log."""

    def __init__(self, folder, **settings):
        self.settings = Settings(shutdown_seconds=0.0, **settings)
        self.folder = folder
        self.table = JobTable(self.settings.database, timeout=0.5)
        self.log = folder / "service.log"
        self._stream = self.log.open("a")
        self.changes = 0
        self._queues = []
        self.queue = self.new_service()

    def new_service(self):
        """Return the queue of a service that has just started."""
        queue = TrainingQueue(
            self.settings, self.table, open_log(self._stream), on_change=self._changed, command=self._command
        )
        self._queues.append(queue)
        queue.start()
        return queue

    def close(self):
        for queue in self._queues:
            queue.stop()
        self.table.close()
        self._stream.close()

    def _changed(self):
        self.changes += 1

    def _command(self, parameters, *, reports, niceness):
        pipe = self.pipe(reports.name)
        if not pipe.exists():
            os.mkfifo(pipe)
        return ["nice", "-n", str(niceness), sys.executable, "-c", PROGRAM, str(pipe)]

    def pipe(self, job_id):
        return self.folder / f"{job_id}.pipe"

    def submit(self, symbol="^IXIC", force=True, **parameters):
        return self.queue.submit(new_job(symbol, force=force, **parameters))

    def end(self, job, how):
        with self.pipe(job.id).open("w") as pipe:  # waits until the process reads
            pipe.write(f"{how}\n")

    def reach(self, job, status, seconds=60.0):
        """Wait until a job has a status, and return it."""
        until(lambda: self.status(job) == status, seconds)
        return self.table.get(job.id)

    def status(self, job):
        return self.table.get(job.id).status

    def process(self, job):
        """Return the id of a job's process once it has reported an epoch."""
        until(lambda: self.queue.events(job.id))
        return self.table.get(job.id).pid


def new_job(symbol="^IXIC", *, force=True, **parameters):
    request = {"force_retrain": force, "training_days": 100, "sessions": 100, "start": "2018-01-01"}
    return Job.create(symbol, request | {"parameters": {"symbol": symbol, **parameters}}, "ann")


def until(condition, seconds=60.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the condition was never true"
        threading.Event().wait(0.02)


@pytest.fixture
def bench(tmp_path, monkeypatch):
    monkeypatch.setenv("FORECASTLIB_HOME", str(tmp_path))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mlruns").mkdir()
    made = Bench(tmp_path, concurrent_trainings=2, queued_trainings=2)
    yield made
    made.close()


class TestQueue:
    def test_jobs_beyond_the_limit_are_queued_in_order_and_refused_when_the_queue_is_full(self, bench):
        jobs = [bench.submit(seed=n) for n in range(4)]
        assert [job.status for job in jobs] == ["started", "started", "queued", "queued"]
        with pytest.raises(Problem) as refused:
            bench.submit(seed=4)
        assert (refused.value.status, refused.value.error) == (429, "queue_full")
        assert int(refused.value.headers["Retry-After"]) > 0
        bench.end(jobs[1], "succeed")
        bench.reach(jobs[1], "completed")
        bench.reach(jobs[2], "started")  # the first in the queue
        assert [bench.status(job) for job in jobs] == ["started", "completed", "started", "queued"]

    def test_a_running_job_has_epochs_and_a_completed_one_has_a_result(self, bench):
        job = bench.submit()
        bench.process(job)
        assert bench.queue.events(job.id) == [{"event": "epoch", "epoch": 1, "epochs": 2, "loss": 1.0, "val_loss": 2.0}]
        bench.end(job, "succeed")
        done = bench.reach(job, "completed")
        assert done.result == RESULT
        assert (done.error, done.requested_by) == (None, "ann")
        assert done.created_at <= done.started_at <= done.finished_at
        assert bench.changes == 1

    def test_the_error_of_a_failed_job_is_that_of_the_command_line(self, bench):
        job = bench.submit()
        bench.end(job, "fail")
        assert bench.reach(job, "failed").error == "03_train, cell 3 failed with SourceError: no such symbol"

    def test_a_job_whose_process_is_killed_fails_and_the_next_one_starts(self, bench):
        jobs = [bench.submit(seed=n) for n in range(3)]
        os.kill(bench.process(jobs[0]), signal.SIGKILL)
        assert bench.reach(jobs[0], "failed").error == "the training process was ended by SIGKILL"
        bench.reach(jobs[2], "started")

    def test_a_job_whose_process_ends_without_a_result_fails(self, bench):
        job = bench.submit()
        bench.end(job, "end")
        assert bench.reach(job, "failed").error == "the training process ended before its notebook did"

    def test_processes_have_lower_priority_and_one_thread(self, bench):
        job = bench.submit()
        bench.process(job)
        log = JobFolder(bench.settings.jobs_folder / job.id).log
        until(lambda: log.read_text().startswith("nice"))
        assert log.read_text().split() == ["nice", str(min(19, os.nice(0) + 15)), "threads", "1"]

    def test_an_unforced_duplicate_of_an_unfinished_training_is_refused(self, bench):
        job = bench.submit(force=False, epochs=3)
        with pytest.raises(Problem) as refused:
            bench.submit(force=False, epochs=3)
        assert (refused.value.status, refused.value.headers) == (409, {"Location": f"/jobs/{job.id}"})
        assert bench.submit(force=False, epochs=4).status == "started"
        assert bench.submit(force=True, epochs=3).status == "queued"


class TestRestart:
    def test_a_running_job_is_adopted_by_the_next_service(self, bench):
        job = bench.submit()
        bench.process(job)
        bench.new_service()
        assert bench.status(job) == "started"
        bench.end(job, "succeed")
        assert bench.reach(job, "completed").result == RESULT

    def test_a_job_whose_process_died_while_no_service_ran_fails_at_the_next_start(self, bench):
        job = orphan(bench)
        bench.new_service()
        found = bench.table.get(job)
        assert (found.status, found.error) == ("failed", "the training process ended before its notebook did")

    def test_a_job_that_finished_while_no_service_ran_is_completed_at_the_next_start(self, bench, monkeypatch):
        job = orphan(bench)
        monkeypatch.setenv(PROGRESS_VARIABLE, str(bench.settings.jobs_folder / job / "progress.jsonl"))
        report_progress("result", **RESULT)
        report_progress("finished", run_id="r")
        bench.new_service()
        assert (bench.table.get(job).status, bench.table.get(job).result) == ("completed", RESULT)

    def test_a_process_id_reused_by_another_process_does_not_keep_a_job_running(self, bench):
        job = orphan(bench, pid=os.getpid())
        bench.new_service()
        assert bench.table.get(job).status == "failed"

    def test_the_mlflow_run_of_a_killed_process_is_marked_killed(self, bench, monkeypatch):
        client = runs.connect()
        run = client.create_run(runs.experiment_id(client))
        job = orphan(bench)
        monkeypatch.setenv(PROGRESS_VARIABLE, str(bench.settings.jobs_folder / job / "progress.jsonl"))
        report_progress("run", run_id=run.info.run_id)
        bench.new_service()
        assert client.get_run(run.info.run_id).info.status == "KILLED"

    def test_queued_jobs_start_with_the_next_service(self, bench):
        jobs = [bench.submit(seed=n) for n in range(3)]
        bench.queue.stop()
        assert [bench.status(job) for job in jobs] == ["failed", "failed", "queued"]
        bench.new_service()
        bench.reach(jobs[2], "started")


class TestStop:
    def test_running_jobs_fail_with_the_reason_when_the_service_is_stopped(self, bench):
        job = bench.submit()
        process = bench.process(job)
        bench.queue.stop()
        stopped = bench.table.get(job.id)
        assert stopped.status == "failed"
        assert stopped.error.startswith("the service was stopped")
        with pytest.raises(ProcessLookupError):
            os.kill(process, 0)

    def test_jobs_that_finish_within_the_shutdown_time_are_completed(self, bench):
        job = bench.submit()
        bench.process(job)
        bench.queue._settings = bench.settings.model_copy(update={"shutdown_seconds": 60.0})
        stopping = threading.Thread(target=bench.queue.stop)
        stopping.start()
        bench.end(job, "succeed")
        stopping.join(60)
        assert bench.status(job) == "completed"


def orphan(bench, pid=None):
    """Add a started job without a process, and return its id."""
    job = replace(new_job(), status="started", pid=pid)
    bench.table.add(job)
    (bench.settings.jobs_folder / job.id).mkdir(parents=True)
    return job.id


@contextmanager
def locked(file):
    """Lock a database for writing."""
    other = sqlite3.connect(file, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        other.execute("ROLLBACK")
        other.close()


def test_the_end_of_a_job_is_recorded_after_the_database_was_locked(bench, monkeypatch):
    monkeypatch.setattr(module, "_RETRY_SECONDS", 0.05)
    job = bench.submit()
    bench.process(job)
    until(lambda: bench.table.get(job.id).pid)
    with locked(bench.settings.home / "mlruns" / "jobs.db"):
        bench.end(job, "succeed")
        until(lambda: "jobs not updated" in bench.log.read_text())
    bench.reach(job, "completed")


class TestProcess:
    def test_the_command_is_that_of_make_train(self, tmp_path):
        command = training_command({"symbol": "^IXIC", "epochs": 3}, reports=tmp_path, niceness=15)
        assert command == [
            *("nice", "-n", "15", sys.executable, "-m", "forecastlib.cli", "run", "train", "symbol=^IXIC", "epochs=3"),
            *("--no-progress", "--reports", str(tmp_path)),
        ]

    def test_the_environment_is_that_of_the_service_except_for_run_project_and_threads(self, tmp_path, monkeypatch):
        for name, value in {"OTHER": "kept", "MLFLOW_RUN_ID": "x", "OMP_NUM_THREADS": "8"}.items():
            monkeypatch.setenv(name, value)
        folder = JobFolder(tmp_path / "job")
        with folder.try_lock() as lock:
            folder.start(["env"], lock=lock, home=tmp_path).wait()
        inside = dict(line.split("=", 1) for line in folder.log.read_text().splitlines() if "=" in line)
        assert inside["OTHER"] == "kept"
        assert inside["OMP_NUM_THREADS"] == inside["TF_NUM_INTEROP_THREADS"] == "1"
        assert inside["FORECASTLIB_HOME"] == str(tmp_path)
        assert inside[PROGRESS_VARIABLE] == str(folder.progress)
        assert "MLFLOW_RUN_ID" not in inside

    def test_the_lock_is_held_by_one_process_and_released_when_it_exits(self, tmp_path):
        folder = JobFolder(tmp_path / "job")
        with folder.try_lock() as lock:
            assert lock is not None
            assert folder.is_running()
            process = folder.start(["sleep", "600"], lock=lock, home=tmp_path)
        assert folder.is_running()
        process.kill()
        process.wait()
        assert not folder.is_running()

    @pytest.mark.parametrize(
        ("events", "error", "returncode", "expected"),
        [
            (["result", "finished"], None, 0, ("completed", None)),
            (["result", "finished"], None, None, ("completed", None)),
            (["result"], None, -9, ("failed", "the training process was ended by SIGKILL")),
            (["result"], "03_train, cell 9 failed", 1, ("failed", "03_train, cell 9 failed")),
            ([], None, None, ("failed", "the training process ended before its notebook did")),
            ([], None, 0, ("failed", "the training process ended before its notebook did")),
        ],
    )
    def test_the_outcome_of_a_job_follows_from_what_its_process_left_behind(self, events, error, returncode, expected):
        made = [{"event": name, **(RESULT if name == "result" else {})} for name in events]
        assert outcome(made, error=error, returncode=returncode)[:2] == expected

    def test_a_training_that_its_process_skipped_is_a_skipped_job(self):
        events = [{"event": "result", **RESULT, "status": "skipped"}, {"event": "finished"}]
        assert outcome(events, error=None, returncode=0)[0] == "skipped"
