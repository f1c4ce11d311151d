"""Whatever makes work for this process's workers wakes them once it is kept."""

import pytest

from luthier.core.jobs import NewEvent
from luthier.core.outbox import OutboxItem
from luthier.store import jobs, outbox
from tests.store.test_batches import make as make_batch  # noqa: F401  # a fixture
from tests.store.test_jobs import ANY, make


@pytest.fixture
def bell(database):
    """What rings for one kind of work, silent by now."""

    def silent(kind):
        bell = database.bell(kind)
        assert not bell.is_set()
        return bell

    return silent


def test_a_new_job(database, project, bell):
    rung = bell("job")
    make(database, project)
    assert rung.is_set()


def test_a_job_that_goes_on(database, project, bell):
    make(database, project)
    held = jobs.claim(database, "me", ANY, now=1000.0, lease_s=30)
    steps = {
        "moved": lambda: jobs.transition(database, held.id, held.fence, "validating_files", "queued", now=1.0),
        "released": lambda: jobs.release(database, held.id, held.fence),
        "paused": lambda: jobs.set_paused(database, project.id, held.id, True, now=1.0),
        "resumed": lambda: jobs.set_paused(database, project.id, held.id, False, now=1.0),
        "cancelled": lambda: jobs.request_cancel(database, project.id, held.id, now=1.0),
    }
    rung = {}
    for name, step in steps.items():
        rung[name] = bell("job")
        step()
    assert [name for name, one in rung.items() if not one.is_set()] == []


def test_what_is_told_wakes_nobody(database, project, bell):
    make(database, project)
    held = jobs.claim(database, "me", ANY, now=1000.0, lease_s=30)
    rung = bell("job")
    jobs.change(database, held.id, held.fence, now=1.0, said=[NewEvent("step-1", "Step 1")])
    jobs.heartbeat(database, held.id, held.fence, now=1.0, lease_s=30)
    assert not rung.is_set()


def test_a_new_batch(make_batch, bell):  # noqa: F811
    rung = bell("batch")
    make_batch()
    assert rung.is_set()


@pytest.mark.parametrize("kind", ["webhook", "mail", "verdict"])
def test_what_is_to_be_sent(database, project, bell, kind):
    rung = bell(kind)
    with database.transaction() as connection:
        outbox.insert_items(connection, [OutboxItem("evt_1", project.id, kind, "x", {}, 1)])
    assert rung.is_set()


def test_a_webhook_that_is_sent_again(database, project, bell):
    with database.transaction() as connection:
        outbox.insert_items(connection, [OutboxItem("evt_1", project.id, "webhook", "x", {}, 1)])
    rung = bell("webhook")
    outbox.send_again(database, "evt_1", now=1.0)
    assert rung.is_set()


def test_what_is_given_back_was_not_tried(database, project):
    with database.transaction() as connection:
        outbox.insert_items(connection, [OutboxItem("evt_1", project.id, "verdict", "x", {}, 1)])
    for _ in range(3):
        [item] = outbox.claim(database, "verdict", now=2.0, lease_s=60, limit=1)
        assert item.attempts == 1
        outbox.give_back(database, item.id, now=2.0)
    assert [one.id for one in outbox.claim(database, "verdict", now=2.0, lease_s=60, limit=1)] == ["evt_1"]
