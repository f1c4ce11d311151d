import threading
import time
from unittest.mock import Mock

import pytest

from luthier.core.errors import JobFailed, StoreAway
from luthier.domain.alive import Sign
from luthier.domain.held import LeaseLost
from luthier.store import jobs
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
