"""A real server without a runner, and a hand that moves its jobs as a runner would."""

import threading

import pytest

from luthier.core.errors import JobFailed
from luthier.core.jobs import JobError, NewEvent
from luthier.store import jobs
from tests.conftest import KEY, serving


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("data"), background=False) as running:
        yield running


@pytest.fixture
def environment(server, monkeypatch):
    """The environment of a user of this server."""
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


@pytest.fixture
def runs_jobs(server):
    """Runs the next job in a thread: three steps, then success or an error."""
    threads, over = [], threading.Event()

    def run(error=None):
        thread = threading.Thread(target=_run_next, args=(server.platform.database, over, error))
        threads.append(thread)
        thread.start()

    yield run
    over.set()  # who waits for a job that was never made
    for thread in threads:
        thread.join()


def _run_next(database, over, error):
    while True:
        job = jobs.claim(database, "test", ["validating_files"], now=database.now(), lease_s=60)
        if job is not None:
            break
        if over.wait(0.01):
            return
    move = (database, job.id, job.fence)
    jobs.transition(*move, "validating_files", "queued", now=database.now())
    jobs.transition(*move, "queued", "running", now=database.now())
    for step in (1, 2, 3):
        data = {"step": step, "total_steps": 3, "train_loss": 1.0 / step, "train_mean_token_accuracy": 0.5}
        said = NewEvent(f"step-{step}", f"Step {step}/3: training loss={1.0 / step:.2f}", type="metrics", data=data)
        jobs.change(*move, now=database.now(), said=[said])
    if error is None:
        name = f"ft:{job.model}:acme:{job.suffix or ''}:{job.id[-8:]}"
        said = [NewEvent("done", "The job has successfully completed")]
        changes = {"fine_tuned_model": name, "trained_tokens": 1_000_000}
        jobs.transition(*move, "running", "succeeded", now=database.now(), said=said, **changes)
    else:
        assert isinstance(error, JobFailed)
        failed = JobError(error.code, error.message, error.param)
        jobs.transition(*move, "running", "failed", now=database.now(), error=failed)
