import time

from luthier.core.errors import DatabaseAway, JobFailed
from tests.conftest import serving
from tests.contract import objects


def test_a_job_outlives_a_database_that_was_away(tmp_path, monkeypatch):
    """It is claimed again when its lease is over, and ends as it would have."""
    errors = iter([DatabaseAway("the connection was cut"), JobFailed("line 1 is wrong")])

    def validate(*_):
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
