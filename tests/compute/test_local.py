"""The real trainer as a child; what it trains does not matter here, so it fails at once or waits for a lock."""

import signal
import subprocess
import sys
import time
from pathlib import Path

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


def test_one_that_waits_is_told_of_a_run_and_ends_as_any_other(run):
    compute = LocalCompute()
    compute.warm()
    waiting = compute._waiting
    compute.warm()
    assert compute._waiting is waiting
    compute.start(run, 3)
    assert compute._children[run.path] is waiting
    assert wait(compute, run) == "failed"
    assert "spec.json" in run.log.read_text()


@pytest.mark.parametrize("meanwhile", [False, True])
def test_one_that_ended_before_it_was_told_is_replaced(run, monkeypatch, meanwhile):
    """`meanwhile`: a moment ago it was still there."""
    run.adapter.mkdir()
    compute = LocalCompute()
    compute.warm()
    waiting = compute._waiting
    waiting.kill()
    waiting.wait()
    if meanwhile:
        monkeypatch.setattr(compute, "_is_warm", lambda: True)
    compute.start(run, 1)
    assert compute._children[run.path] is not waiting
    assert wait(compute, run) == "finished"


def test_one_that_is_about_to_end_is_told_of_nothing(run, monkeypatch):
    run.adapter.mkdir()
    compute = LocalCompute()
    compute.warm()
    waiting = compute._waiting
    monkeypatch.setattr(local, "WARM_S", 0.0)
    compute.start(run, 1)
    assert compute._children[run.path] is not waiting
    assert waiting.poll() is not None
    assert wait(compute, run) == "finished"


def test_none_waits_beside_one_at_work_or_where_memory_is_little(run, monkeypatch):
    compute = LocalCompute()
    compute.start(run, 1)
    compute.warm()
    assert compute._waiting is None
    assert wait(compute, run) == "failed"
    monkeypatch.setattr(local, "memory_bytes", lambda: local.LITTLE_MEMORY - 1)
    compute.warm()
    assert compute._waiting is None


def test_one_that_waits_ends_with_whoever_started_it(tmp_path):
    script = "from luthier.compute.local import LocalCompute as L; c = L(); c.warm(); print(c._waiting.pid, flush=True)"
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as starter:
        waiting = int(starter.stdout.readline())
    until = time.monotonic() + 60
    while Path(f"/proc/{waiting}/cmdline").exists() and time.monotonic() < until:
        time.sleep(0.05)
    assert not Path(f"/proc/{waiting}/cmdline").exists() or not Path(f"/proc/{waiting}/cmdline").read_bytes()
