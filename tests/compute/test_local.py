"""The real trainer as a child; what it trains does not matter here, so it fails at once or waits for a lock."""

import signal
import subprocess
import sys
import time

import pytest

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
