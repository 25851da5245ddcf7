"""The queue of trainings: real processes, with a small program in the place of the notebook run.

The notebook run itself is tested with the whole service, in test_serving_live.py.
"""

import os
import signal
import sqlite3
import sys
import threading
import time
from contextlib import contextmanager

import pytest

from forecastlib import progress
from forecastlib.serving.jobs import Jobs, Training
from forecastlib.serving.logs import open_log
from forecastlib.serving.problems import Problem
from forecastlib.serving.settings import Settings
from forecastlib.serving.store import JobStore
from forecastlib.serving.worker import Workplace, outcome, training_command, worker_environment
from forecastlib.tracking import runs

RESULT = {
    "status": "completed",
    "version": "v1.0.0_20260101_000000",
    "run_id": "r",
    "promoted": True,
    "reason": "the first version",
    "metrics": {},
}

# It reports an epoch, then waits for a line in a pipe that says how to end: no time passes unless a test lets it.
PROGRAM = f"""
import os, signal, sys
from forecastlib import progress
progress.report("epoch", epoch=1, epochs=2, loss=1.0, val_loss=2.0)
print("nice", os.nice(0), "threads", os.environ["TF_NUM_INTRAOP_THREADS"], flush=True)
try:
    with open(sys.argv[1]) as pipe:
        end = pipe.readline().strip()
except KeyboardInterrupt:
    sys.exit("Aborted!")
if end == "succeed":
    progress.report("result", **{RESULT!r})
    progress.report("finished", run_id="r")
elif end == "fail":
    sys.exit("Error: 03_train, cell 3 failed with SourceError: no such symbol")
"""


class Bench:
    """A service's jobs, the pipes by which a test ends their processes, and what the log says."""

    def __init__(self, folder, **settings):
        self.settings = Settings(shutdown_seconds=0.0, **settings)
        self.folder = folder
        self.store = JobStore(self.settings.database, patience=0.5)
        self.log = (folder / "service.log").open("a")
        self.changes = 0
        self._services = []
        self.jobs = self.service()

    def service(self):
        """Return the jobs of a service that is started anew."""
        jobs = Jobs(self.settings, self.store, open_log(self.log), on_change=self._changed, command=self._command)
        self._services.append(jobs)
        return jobs

    def close(self):
        for jobs in self._services:  # the newest one last: it may have to end what an earlier one was forgotten with
            jobs.stop()
        self.store.close()
        self.log.close()

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
        request = {"force_retrain": force, "training_days": 100, "sessions": 100, "start": "2018-01-01"}
        return self.jobs.submit(Training(symbol, request, {"symbol": symbol, **parameters}), "ann")

    def end(self, job, how):
        with self.pipe(job.id).open("w") as pipe:  # waits until the process reads
            pipe.write(f"{how}\n")

    def reach(self, job, status, seconds=60.0):
        """Wait until a job has a status."""
        until(lambda: self.store.get(job.id).status == status, seconds)
        return self.store.get(job.id)

    def status(self, job):
        return self.store.get(job.id).status

    def process(self, job):
        """Return the number of a job's process, once it has begun to work."""
        until(lambda: self.jobs.events(job.id))
        return self.store.get(job.id).pid


def until(condition, seconds=60.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to that"
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
    def test_so_many_run_at_once_the_next_wait_and_one_more_is_refused(self, bench):
        jobs = [bench.submit(seed=n) for n in range(4)]
        assert [job.status for job in jobs] == ["started", "started", "queued", "queued"]
        with pytest.raises(Problem) as refused:
            bench.submit(seed=4)
        assert (refused.value.status, refused.value.error) == (429, "queue_full")
        assert int(refused.value.headers["Retry-After"]) > 0
        bench.end(jobs[1], "succeed")
        bench.reach(jobs[1], "completed")
        bench.reach(jobs[2], "started")  # the one that had waited longest
        assert [bench.status(job) for job in jobs] == ["started", "completed", "started", "queued"]

    def test_a_job_tells_its_epochs_while_it_runs_and_its_result_when_it_is_done(self, bench):
        job = bench.submit()
        bench.process(job)
        assert bench.jobs.events(job.id) == [{"event": "epoch", "epoch": 1, "epochs": 2, "loss": 1.0, "val_loss": 2.0}]
        bench.end(job, "succeed")
        done = bench.reach(job, "completed")
        assert done.result == RESULT
        assert (done.error, done.requested_by) == (None, "ann")
        assert done.created_at <= done.started_at <= done.finished_at
        assert bench.changes == 1

    def test_what_the_command_line_says_is_the_error_of_a_job_that_fails(self, bench):
        job = bench.submit()
        bench.end(job, "fail")
        assert bench.reach(job, "failed").error == "03_train, cell 3 failed with SourceError: no such symbol"

    def test_a_process_that_is_killed_leaves_its_job_failed_and_the_next_one_starts(self, bench):
        jobs = [bench.submit(seed=n) for n in range(3)]
        os.kill(bench.process(jobs[0]), signal.SIGKILL)
        assert bench.reach(jobs[0], "failed").error == "the training process was ended by SIGKILL"
        bench.reach(jobs[2], "started")

    def test_a_process_that_ends_without_a_word_leaves_its_job_failed(self, bench):
        job = bench.submit()
        bench.end(job, "say nothing")
        assert bench.reach(job, "failed").error == "the training process ended before its notebook did"

    def test_workers_stand_back_and_have_one_thread(self, bench):
        job = bench.submit()
        bench.process(job)
        log = Workplace(bench.settings.jobs_folder / job.id).log
        until(lambda: log.read_text().startswith("nice"))
        assert log.read_text().split() == ["nice", str(min(19, os.nice(0) + 15)), "threads", "1"]

    def test_the_same_training_unforced_is_refused_while_it_is_under_way(self, bench):
        job = bench.submit(force=False, epochs=3)
        with pytest.raises(Problem) as refused:
            bench.submit(force=False, epochs=3)
        assert (refused.value.status, refused.value.headers) == (409, {"Location": f"/jobs/{job.id}"})
        assert bench.submit(force=False, epochs=4).status == "started"
        assert bench.submit(force=True, epochs=3).status == "queued"


class TestRestart:
    def test_a_running_job_is_taken_over_by_a_service_that_is_started_anew(self, bench):
        job = bench.submit()
        bench.process(job)
        later = bench.service()  # the earlier one is forgotten, as after a kill
        later.start()
        assert bench.status(job) == "started"
        bench.end(job, "succeed")
        assert bench.reach(job, "completed").result == RESULT

    def test_a_job_whose_process_died_meanwhile_is_failed_at_the_next_start(self, bench):
        job = orphan(bench)
        bench.service().start()
        found = bench.store.get(job)
        assert (found.status, found.error) == ("failed", "the training process ended before its notebook did")

    def test_a_job_that_finished_meanwhile_is_completed_at_the_next_start(self, bench, monkeypatch):
        job = orphan(bench)
        monkeypatch.setenv(progress.VARIABLE, str(bench.settings.jobs_folder / job / "progress.jsonl"))
        progress.report("result", **RESULT)
        progress.report("finished", run_id="r")
        bench.service().start()
        assert (bench.store.get(job).status, bench.store.get(job).result) == ("completed", RESULT)

    def test_the_number_of_a_process_that_means_another_one_now_is_not_taken_for_it(self, bench):
        job = orphan(bench, pid=os.getpid())
        bench.service().start()
        assert bench.store.get(job).status == "failed"

    def test_the_run_of_a_process_that_was_killed_does_not_stay_running(self, bench, monkeypatch):
        client = runs.connect()
        run = client.create_run(runs.experiment_id(client))
        job = orphan(bench)
        monkeypatch.setenv(progress.VARIABLE, str(bench.settings.jobs_folder / job / "progress.jsonl"))
        progress.report("run", run_id=run.info.run_id)
        bench.service().start()
        assert client.get_run(run.info.run_id).info.status == "KILLED"

    def test_what_waited_starts_with_the_next_service(self, bench):
        jobs = [bench.submit(seed=n) for n in range(3)]
        bench.jobs.stop()
        assert [bench.status(job) for job in jobs] == ["failed", "failed", "queued"]
        bench.jobs = bench.service()
        bench.jobs.start()
        bench.reach(jobs[2], "started")


class TestStop:
    def test_what_runs_is_ended_and_says_so_when_the_service_is_stopped(self, bench):
        job = bench.submit()
        process = bench.process(job)
        bench.jobs.stop()
        stopped = bench.store.get(job.id)
        assert stopped.status == "failed"
        assert stopped.error.startswith("the service was stopped")
        with pytest.raises(ProcessLookupError):
            os.kill(process, 0)

    def test_what_finishes_in_time_is_completed(self, bench):
        job = bench.submit()
        bench.process(job)
        bench.jobs._settings = bench.settings.model_copy(update={"shutdown_seconds": 60.0})
        stopping = threading.Thread(target=bench.jobs.stop)
        stopping.start()
        bench.end(job, "succeed")
        stopping.join(60)
        assert bench.status(job) == "completed"


def orphan(bench, pid=None):
    """Keep a job that is started, but has no process any more, and return its id."""
    training = Training("^IXIC", {"force_retrain": True}, {"symbol": "^IXIC"})
    job = bench.jobs.skip(training, "ann", {})
    with sqlite3.connect(bench.settings.home / "mlruns" / "jobs.db") as database:
        database.execute("UPDATE jobs SET status = 'started', result = NULL, finished_at = NULL, pid = ?", (pid,))
    database.close()
    (bench.settings.jobs_folder / job.id).mkdir(parents=True)
    return job.id


@contextmanager
def locked(file):
    """Keep everybody else from writing to a database."""
    other = sqlite3.connect(file, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        other.execute("ROLLBACK")
        other.close()


def test_a_job_that_ends_while_the_database_is_locked_is_written_down_later(bench, monkeypatch):
    from forecastlib.serving import jobs as module

    monkeypatch.setattr(module, "_RETRY", 0.05)
    job = bench.submit()
    bench.process(job)
    until(lambda: bench.store.get(job.id).pid)
    with locked(bench.settings.home / "mlruns" / "jobs.db"):
        bench.end(job, "succeed")
        log = bench.folder / "service.log"
        until(lambda: "job not ended" in log.read_text())
    bench.reach(job, "completed")


class TestWorker:
    def test_it_runs_what_make_train_runs(self, tmp_path):
        command = training_command({"symbol": "^IXIC", "epochs": 3}, reports=tmp_path, niceness=15)
        assert command == [
            *("nice", "-n", "15", sys.executable, "-m", "forecastlib.cli", "run", "train", "symbol=^IXIC", "epochs=3"),
            *("--no-progress", "--reports", str(tmp_path)),
        ]

    def test_its_environment_is_that_of_the_service_but_for_runs_and_threads(self, tmp_path):
        outside = {"PATH": "/bin", "MLFLOW_RUN_ID": "x", progress.VARIABLE: "y", "OMP_NUM_THREADS": "8"}
        inside = worker_environment(tmp_path, outside)
        assert inside["PATH"] == "/bin"
        assert inside["OMP_NUM_THREADS"] == inside["TF_NUM_INTEROP_THREADS"] == "1"
        assert inside["FORECASTLIB_HOME"] == str(tmp_path)
        assert {"MLFLOW_RUN_ID", progress.VARIABLE}.isdisjoint(inside)

    def test_the_lock_is_held_by_one_and_let_go_with_its_process(self, tmp_path):
        place = Workplace(tmp_path / "job")
        with place.hold() as lock:
            assert lock is not None
            with place.hold() as second:
                assert second is None
            process = place.start([sys.executable, "-c", "input()"], os.environ, lock=lock, cwd=tmp_path)
        process.wait()  # it reads nothing, and ends
        place.wait()
        with place.hold() as lock:
            assert lock is not None

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
    def test_how_a_job_ended_is_told_by_what_its_process_left(self, events, error, returncode, expected):
        made = [{"event": name, **(RESULT if name == "result" else {})} for name in events]
        assert outcome(made, error=error, returncode=returncode)[:2] == expected

    def test_a_training_that_was_skipped_in_its_process_is_a_skipped_job(self):
        events = [{"event": "result", **RESULT, "status": "skipped"}, {"event": "finished"}]
        assert outcome(events, error=None, returncode=0)[0] == "skipped"
