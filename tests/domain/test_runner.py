import json
import signal
import subprocess
import sys
import threading
import time
from dataclasses import asdict
from unittest.mock import Mock

import pytest

from luthier.core.errors import JobFailed, StoreAway
from luthier.core.run import RunEvent, RunFolder
from luthier.domain import runner
from luthier.domain.alive import Sign
from luthier.domain.held import Held, LeaseLost
from luthier.store import jobs
from tests.compute.test_local import HOLDER
from tests.conftest import serving
from tests.contract import objects
from tests.domain.workers import until


def test_a_job_outlives_a_database_that_was_away(tmp_path, monkeypatch):
    """It is claimed again when its lease is over, and ends as it would have."""
    errors = iter([StoreAway("the connection was cut"), JobFailed("line 1 is wrong")])

    def validate(*_, **__):
        raise next(errors)

    monkeypatch.setattr("luthier.domain.runner.validate", validate)
    monkeypatch.setattr("luthier.domain.runner.LEASE_S", 0.5)
    with serving(tmp_path) as server:
        job_id = objects.job(server)
        deadline = time.monotonic() + 20
        while (job := server.client.fine_tuning.jobs.retrieve(job_id)).status != "failed":
            assert time.monotonic() < deadline
            time.sleep(0.05)
    assert job.error.message == "line 1 is wrong"


@pytest.mark.parametrize("alive", [False, True])
def test_what_a_killed_runner_held_is_gone_on_with_at_once(tmp_path, monkeypatch, alive):
    monkeypatch.setattr("luthier.domain.runner.validate", Mock(side_effect=JobFailed("line 1 is wrong")))
    sign = Sign(tmp_path / "runners")
    with serving(tmp_path, background=False) as server:
        job_id, database = objects.job(server), server.platform.database
        jobs.claim(database, sign.name, ("validating_files",), now=database.now(), lease_s=3600)
    if not alive:
        sign.take_down()
        (tmp_path / "runners" / sign.name).touch()  # what a kill leaves: the file without its lock
    with serving(tmp_path) as server:
        if alive:
            time.sleep(1.5)
            assert server.client.fine_tuning.jobs.retrieve(job_id).status == "validating_files"
        else:
            until(lambda: server.client.fine_tuning.jobs.retrieve(job_id).status == "failed")
    assert [path.name for path in (tmp_path / "runners").iterdir()] == ([sign.name] if alive else [])
    sign.take_down()


@pytest.mark.parametrize("end", ["cancel", "stop"])
def test_the_check_of_a_large_file_ends_with_its_job_and_with_the_server(tmp_path, monkeypatch, end):
    begun, ended = threading.Event(), threading.Event()

    def validate(*_, go_on, **__):
        begun.set()
        deadline = time.monotonic() + 20
        try:
            while time.monotonic() < deadline:
                go_on()
                time.sleep(0.01)
        except LeaseLost:
            ended.set()
            raise

    monkeypatch.setattr("luthier.domain.runner.validate", validate)
    with serving(tmp_path) as server:
        job_id = objects.job(server)
        assert begun.wait(20)
        if end == "cancel":
            server.client.fine_tuning.jobs.cancel(job_id)
            assert ended.wait(10)
    assert ended.is_set()


def training(server):
    """A job that trains, under our claim; its run folder has a fence and nothing else."""
    job_id, database = objects.job(server), server.platform.database
    held = jobs.claim(database, "me", ("validating_files",), now=database.now(), lease_s=3600)
    for before, after in (("validating_files", "queued"), ("queued", "running")):
        held = jobs.transition(database, job_id, held.fence, before, after, now=database.now())
    run = RunFolder(server.platform.settings.runs / job_id)
    run.path.mkdir(parents=True)
    assert run.raise_fence(held.fence)
    return held, run


class Dying:
    """A compute whose trainers end in these states, each after so many steps; how they were started."""

    def __init__(self, run, *ends):
        self._run, self._ends = run, iter(ends)
        self.halved = []

    def start(self, run, fence, *, halve=False):
        self.halved.append(halve)

    def stop(self, run, fence):
        pass

    def poll(self, run):
        state, step = next(self._ends)
        data = {"step": step, "total_steps": 9, "elapsed_seconds": 1.0, "train_loss": 1.0}
        with self._run.events.open("a") as events:
            events.write(json.dumps(asdict(RunEvent("metrics", step, 0.0, data))) + "\n")
        return state


def test_a_trainer_that_dies_for_want_of_memory_holds_less_of_it(tmp_path, monkeypatch):
    """When it did no step: what was in its way once may be gone. Who kills it otherwise changes nothing."""
    monkeypatch.setattr(runner, "POLL_S", 0)
    monkeypatch.setattr("luthier.domain.following.EventReader._spec", None)
    with serving(tmp_path, background=False) as server:
        job, run = training(server)
        worker = runner.Runner(server.platform, None)
        worker._compute = dying = Dying(run, ("no memory", 2), ("no memory", 2), ("failed", 2), *[("no memory", 3)] * 9)
        with pytest.raises(JobFailed, match="killed the trainer for want of memory, 6 times at step 3"):
            worker._follow(Held(server.platform, job))
        worker._sign.take_down()
        told = [event.message for event in server.client.fine_tuning.jobs.list_events(job.id).data]
    assert dying.halved == [False, True, False, False, True, True, True, True]
    assert "The trainer was killed for want of memory at step 2; it goes on with fewer tokens at once" in told


@pytest.mark.parametrize("how", ["pause", "cancel"])
def test_a_trainer_whose_server_was_killed_ends_with_its_job(tmp_path, monkeypatch, how):
    """Though nobody goes on with the job."""
    with serving(tmp_path, background=False) as server:
        job, run = training(server)
        command = [sys.executable, "-c", HOLDER, str(run.path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as trainer:
            assert trainer.stdout.readline() == "held\n"
            jobs.release(server.platform.database, job.id, job.fence)
            getattr(server.client.fine_tuning.jobs, how)(job.id)
            if how == "cancel":  # a real trainer reads its fence at each step
                assert run.read_fence() > job.fence
                trainer.kill()
                return
            worker = runner.Runner(server.platform, None)
            assert worker._look_for_queued()
            assert trainer.wait(5) == -signal.SIGKILL
            assert not worker._look_for_queued()
            worker._sign.take_down()
        left = server.client.fine_tuning.jobs.retrieve(job.id)
        assert left.status == "queued"
        told = [event.message for event in server.client.fine_tuning.jobs.list_events(job.id).data]
        assert told[0] == "Job paused; its training goes on from the last step when it is resumed"


def test_a_trainer_waits_from_the_start_and_some_time_after_each_job(tmp_path, monkeypatch):
    found = iter([False, False, True, False, False, False])
    with serving(tmp_path, background=False, warm_trainer=True) as server:
        worker = runner.Runner(server.platform, None)
        worker._compute = Mock()
        monkeypatch.setattr(worker, "_claimed", lambda *_: next(found))
        told = []
        for now in (1, 2, 3, 4, 3 + runner.WARM_AFTER_S + 1, 1000):
            monkeypatch.setattr(runner.time, "monotonic", lambda now=now: now)
            worker._look_for_queued()
            told.append(worker._compute.warm.call_count)
        monkeypatch.undo()
        worker._sign.take_down()
    assert told == [1, 1, 1, 1, 2, 2]
