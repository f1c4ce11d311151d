"""The real trainer as a child; what it trains does not matter here, so it fails at once or waits for a lock."""

import signal
import subprocess
import sys
import time

import pytest

from luthier.compute import local
from luthier.compute.base import NewerClaim
from luthier.compute.local import LocalCompute
from luthier.core.run import RunFolder

HOLDER = """
import sys
from pathlib import Path
from luthier.core.run import RunFolder
from luthier.train.__main__ import _alone
import time
with _alone(RunFolder(Path(sys.argv[1]))):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def run(tmp_path):
    return RunFolder(tmp_path)


def wait(compute, run):
    until = time.monotonic() + 60
    while (state := compute.poll(run)) == "running" and time.monotonic() < until:
        time.sleep(0.05)
    return state


def test_a_trainer_that_dies_is_failed_and_left_its_words(run):
    compute = LocalCompute()
    compute.start(run, 3)
    assert run.read_fence() == 3
    assert wait(compute, run) == "failed"
    assert "spec.json" in run.log.read_text()
    [event] = [e for e, _ in run.read_events()]
    assert event.kind == "failed"


def test_a_complete_run_is_finished_at_once(run):
    run.adapter.mkdir()
    compute = LocalCompute()
    compute.start(run, 1)
    assert wait(compute, run) == "finished"


def test_an_older_trainer_is_ended_first(run):
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(run.path)], stdout=subprocess.PIPE, text=True) as older:
        assert older.stdout.readline() == "held\n"
        after_a_crash = LocalCompute()
        assert after_a_crash.poll(run) == "running"
        run.adapter.mkdir()
        after_a_crash.start(run, 2)
        assert older.wait(5) == -signal.SIGKILL
        assert wait(after_a_crash, run) == "finished"


def test_a_trainer_of_a_newer_claim_is_left_alone(run):
    """Whose it is, the fence says: our own trainer has ended, and another runner's has the lock."""
    run.adapter.mkdir()
    ours = LocalCompute()
    ours.start(run, 1)
    assert wait(ours, run) == "finished"
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(run.path)], stdout=subprocess.PIPE, text=True) as newer:
        assert newer.stdout.readline() == "held\n"
        run.fence.write_text("2")
        ours.stop(run, 1)
        with pytest.raises(NewerClaim):
            ours.start(run, 1)
        assert newer.poll() is None
        assert run.read_fence() == 2
        LocalCompute().stop(run, 2)
        assert newer.wait(5) == -signal.SIGKILL


@pytest.mark.parametrize(("kills", "state"), [((3, 3), "failed"), ((3, 4), "no memory"), ((None, None), "failed")])
def test_a_kill_is_for_want_of_memory_where_the_kernel_counts_it(run, monkeypatch, kills, state):
    counts = iter(kills)
    monkeypatch.setattr(local, "out_of_memory_kills", lambda: next(counts))
    compute = LocalCompute()
    compute.start(run, 1)
    compute._children[run.path].kill()
    assert wait(compute, run) == state
