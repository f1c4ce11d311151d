import multiprocessing
import os
import signal
import threading
import time
from dataclasses import replace

import pytest
from sqlalchemy import func, select

from luthier.core.jobs import Checkpoint, Job, JobError, NewEvent
from luthier.core.lists import PageQuery
from luthier.core.models import TunedModel
from luthier.core.outbox import OutboxItem
from luthier.core.states import TRANSITIONS
from luthier.store import checkpoints, events, jobs, models, queue
from luthier.store.database import Database
from luthier.store.outbox import list_webhooks
from luthier.store.schema import job_events, outbox

ANY = ("validating_files", "queued", "running")


def make(database, project, number=0, **more):
    fields = {
        "id": f"ftjob-{number}",
        "project_id": project.id,
        "organization_id": project.organization_id,
        "organization": project.organization,
        "created_at": 100 + number,
        "status": "validating_files",
        "model": "base",
        "method": "supervised",
        "hyperparameters": {"n_epochs": "auto"},
        "seed": 1,
        "training_file": "file-1",
    }
    job = Job(**{**fields, **more})
    return jobs.create(database, job, said=[NewEvent("created", "Created")])


def model_of(job, name, step=None):
    return TunedModel(f"model_{name}", name, job.project_id, job.id, "base", "0" * 64, "adapter", 7, step)


def test_what_is_created_is_read_back(database, project):
    job = make(database, project, metadata={"a": "b"}, suffix="s", integrations=[{"type": "x"}])
    assert jobs.get(database, project.id, job.id) == job
    assert jobs.get(database, "proj_other", job.id) is None


def test_claims_are_oldest_first_and_exclusive(database, project):
    for number in range(3):
        make(database, project, number)
    claimed = [jobs.claim(database, "me", ANY, now=1000.0, lease_s=30) for _ in range(4)]
    assert [job and job.id for job in claimed] == ["ftjob-0", "ftjob-1", "ftjob-2", None]
    assert (claimed[0].lease_owner, claimed[0].lease_until, claimed[0].fence) == ("me", 1030.0, 1)


def test_a_lease_that_is_over_is_claimed_again_under_a_new_fence(database, project):
    make(database, project)
    first = jobs.claim(database, "one", ANY, now=1000.0, lease_s=30)
    assert jobs.claim(database, "two", ANY, now=1029.0, lease_s=30) is None
    assert jobs.heartbeat(database, first.id, first.fence, now=1029.0, lease_s=30).lease_until == 1059.0
    assert jobs.claim(database, "two", ANY, now=1031.0, lease_s=30) is None
    second = jobs.claim(database, "two", ANY, now=1060.0, lease_s=30)
    assert (second.id, second.fence) == (first.id, 2)
    assert jobs.heartbeat(database, first.id, first.fence, now=1061.0, lease_s=30) is None


def test_an_old_fence_writes_nothing(database, project):
    make(database, project)
    old = jobs.claim(database, "one", ANY, now=1000.0, lease_s=1)
    new = jobs.claim(database, "two", ANY, now=1002.0, lease_s=30)
    said = [NewEvent("step-1", "Step 1")]
    args = (database, old.id, old.fence)
    item = OutboxItem("evt_1", project.id, "webhook", "x", {}, 1)
    moved = jobs.transition(
        *args, "validating_files", "queued", now=1.0, said=said, outbox_items=[item], model=model_of(old, "m")
    )
    assert moved is None
    assert jobs.change(*args, now=1.0, trained_tokens=5) is None
    assert jobs.change(*args, now=1.0, said=said) is None
    checkpoint = Checkpoint("ftckpt_1", old.id, 1, "m", 1, {})
    assert not checkpoints.add(database, old.fence, checkpoint, model_of(old, "m", 1), said=said)
    jobs.release(*args)
    assert jobs.get(database, project.id, old.id) == new
    assert models.find(database, "m", project.id) is None
    assert [event.message for event in events.list_page(database, project.id, old.id, PageQuery()).items] == ["Created"]
    with database.read() as connection:
        assert connection.scalar(select(func.count()).select_from(outbox)) == 0


@pytest.mark.parametrize("source", sorted(TRANSITIONS))
@pytest.mark.parametrize("target", sorted(TRANSITIONS))
def test_only_the_known_ways_lead_on(database, project, source, target):
    if target in TRANSITIONS[source]:
        make(database, project, status=source)
        held = jobs.claim(database, "me", ANY, now=1000.0, lease_s=30)
        moved = jobs.transition(database, held.id, held.fence, source, target, now=1001.0)
        assert moved.status == target
        assert (moved.finished_at == 1001) == moved.final
        assert (moved.lease_until == 0.0) == moved.final
    else:
        with pytest.raises(ValueError, match="no way leads"):
            jobs.transition(database, "ftjob-0", 0, source, target, now=1.0)


def test_a_move_from_another_state_does_nothing(database, project):
    make(database, project)
    held = jobs.claim(database, "me", ANY, now=1000.0, lease_s=30)
    assert jobs.transition(database, held.id, held.fence, "queued", "running", now=1.0) is None
    assert jobs.get(database, project.id, held.id) == held


def test_success_brings_model_events_and_outbox_in_one_commit(database, project):
    make(database, project, status="running")
    held = jobs.claim(database, "me", ANY, now=1000.0, lease_s=30)
    item = OutboxItem("evt_1", project.id, "webhook", "fine_tuning.job.succeeded", {"id": held.id}, 1001)
    done = jobs.transition(
        database,
        held.id,
        held.fence,
        "running",
        "succeeded",
        now=1001.0,
        said=[NewEvent("succeeded", "Done")],
        outbox_items=[item],
        model=model_of(held, "ft:base:acme::x"),
        fine_tuned_model="ft:base:acme::x",
        trained_tokens=7,
        result_files=["file-r"],
    )
    assert done == jobs.get(database, project.id, held.id)
    assert (done.fine_tuned_model, done.trained_tokens, done.result_files) == ("ft:base:acme::x", 7, ["file-r"])
    assert models.find(database, "ft:base:acme::x", project.id).job_id == held.id
    with database.read() as connection:
        assert connection.execute(select(outbox.c.id, outbox.c.payload)).all() == [("evt_1", {"id": held.id})]
    assert jobs.claim(database, "me", ANY, now=9999.0, lease_s=30) is None


def test_a_commit_that_cannot_be_whole_changes_nothing(database, project):
    make(database, project, status="running")
    held = jobs.claim(database, "me", ANY, now=1000.0, lease_s=30)
    item = OutboxItem("evt_1", "proj_unknown", "webhook", "x", {}, 1)  # breaks a foreign key, last of all
    with pytest.raises(Exception, match="FOREIGN KEY|foreign key"):
        jobs.transition(
            database,
            held.id,
            held.fence,
            "running",
            "succeeded",
            now=1001.0,
            said=[NewEvent("succeeded", "Done")],
            outbox_items=[item],
            model=model_of(held, "m"),
        )
    assert jobs.get(database, project.id, held.id) == held
    assert models.find(database, "m", project.id) is None


def test_failure_keeps_its_reason(database, project):
    make(database, project)
    held = jobs.claim(database, "me", ANY, now=1000.0, lease_s=30)
    error = JobError("invalid_n_examples", "too few", "training_file")
    jobs.transition(database, held.id, held.fence, "validating_files", "failed", now=1.0, error=error)
    assert jobs.get(database, project.id, held.id).error == error


def test_events_with_a_key_are_kept_once(database, project):
    make(database, project)
    held = jobs.claim(database, "me", ANY, now=1000.0, lease_s=30)
    steps = [NewEvent(f"step-{n}", f"Step {n}") for n in range(5)]
    assert jobs.change(database, held.id, held.fence, now=1.0, said=steps[:3])
    assert jobs.change(database, held.id, held.fence, now=2.0, said=steps)
    said = events.list_page(database, project.id, held.id, PageQuery(order="asc")).items
    assert [event.message for event in said] == ["Created", *(event.message for event in steps)]


def test_a_checkpoint_is_a_model_and_is_kept_once(database, project):
    make(database, project, status="running")
    held = jobs.claim(database, "me", ANY, now=1000.0, lease_s=30)
    for attempt in range(2):
        checkpoint = Checkpoint(f"ftckpt_{attempt}", held.id, 5, "ft:m:ckpt-step-9", 9, {"train_loss": 0.5})
        model = replace(model_of(held, "ft:m:ckpt-step-9", 9), id=f"model_{attempt}")
        assert checkpoints.add(database, held.fence, checkpoint, model, said=[NewEvent("checkpoint-9", "made")])
    (kept,) = checkpoints.list_page(database, project.id, held.id, PageQuery()).items
    assert (kept.id, kept.metrics) == ("ftckpt_0", {"train_loss": 0.5})
    assert models.find(database, "ft:m:ckpt-step-9", project.id).step == 9


def test_a_cancelled_job_is_final_whoever_holds_it(database, project):
    make(database, project)
    held = jobs.claim(database, "me", ANY, now=1000.0, lease_s=30)
    cancelled = jobs.request_cancel(database, project.id, held.id, now=1001.0)
    assert (cancelled.status, cancelled.finished_at, cancelled.lease_owner) == ("cancelled", 1001, None)
    assert jobs.heartbeat(database, held.id, held.fence, now=1002.0, lease_s=30) is None
    assert jobs.transition(database, held.id, held.fence, "validating_files", "queued", now=1.0) is None
    assert jobs.request_cancel(database, project.id, held.id, now=1003.0) is None


def test_a_paused_job_is_claimed_by_nobody(database, project):
    make(database, project)
    assert jobs.set_paused(database, project.id, "ftjob-0", True, now=1.0).paused
    assert jobs.set_paused(database, project.id, "ftjob-0", True, now=1.0) is None
    assert jobs.claim(database, "me", ANY, now=1000.0, lease_s=30) is None
    assert not jobs.set_paused(database, project.id, "ftjob-0", False, now=1.0).paused
    assert jobs.claim(database, "me", ANY, now=1000.0, lease_s=30).id == "ftjob-0"


def test_a_released_job_is_free_at_once(database, project):
    make(database, project)
    held = jobs.claim(database, "me", ANY, now=1000.0, lease_s=30)
    jobs.release(database, held.id, held.fence)
    assert jobs.claim(database, "you", ANY, now=1000.0, lease_s=30).fence == 2


def test_many_claimers_share_the_jobs(database, project):
    for number in range(40):
        make(database, project, number)
    claimed = []

    def work(owner):
        while (job := jobs.claim(database, owner, ANY, now=1000.0, lease_s=30)) is not None:
            claimed.append(job.id)

    threads = [threading.Thread(target=work, args=(f"owner-{n}",)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(claimed) == sorted(f"ftjob-{n}" for n in range(40))


def _claim_all(url, claimed):
    database = Database(url)
    while (job := jobs.claim(database, str(os.getpid()), ANY, now=1000.0, lease_s=30)) is not None:
        claimed.put(job.id)


def test_processes_share_the_jobs_too(database, project, url):
    for number in range(30):
        make(database, project, number)
    context = multiprocessing.get_context("spawn")
    claimed = context.Queue()
    workers = [context.Process(target=_claim_all, args=(url, claimed)) for _ in range(3)]
    for worker in workers:
        worker.start()
    got = [claimed.get(timeout=60) for _ in range(30)]
    for worker in workers:
        worker.join()
    assert sorted(got) == sorted(f"ftjob-{n}" for n in range(30))


def _write_for_ever(url, job_id, fence, started):
    database = Database(url)
    for step in range(1_000_000):
        said = [NewEvent(f"step-{step}-{half}", f"{step}") for half in ("a", "b")]
        jobs.change(database, job_id, fence, now=1.0, said=said, trained_tokens=step)
        started.set()


def test_a_writer_killed_at_any_moment_leaves_whole_commits(database, project, url):
    make(database, project)
    context = multiprocessing.get_context("spawn")
    for kill in range(5):
        held = jobs.claim(database, "writer", ANY, now=1000.0 * (kill + 1), lease_s=30)
        started = context.Event()
        writer = context.Process(target=_write_for_ever, args=(url, held.id, held.fence, started))
        writer.start()
        assert started.wait(60)
        time.sleep(0.02 * kill)
        os.kill(writer.pid, signal.SIGKILL)
        writer.join()
        job = jobs.get(database, project.id, held.id)
        with database.read() as connection:
            said = connection.scalars(select(job_events.c.message).where(job_events.c.key != "created")).all()
        assert all(said.count(step) == 2 for step in set(said))
        assert str(job.trained_tokens) in said
    with database.read() as connection:
        if database.sqlite:
            assert connection.exec_driver_sql("PRAGMA integrity_check").scalar() == "ok"


def test_lists_page_at_equal_cost_however_deep(database, project):
    for number in range(30):
        make(database, project, number, metadata={"parity": str(number % 2)} if number % 3 else None)
    seen, after = [], None
    while True:
        page = jobs.list_page(database, project.id, PageQuery(limit=7, after=after))
        seen += [job.id for job in page.items]
        if not page.has_more:
            break
        after = page.items[-1].id
    assert seen == [f"ftjob-{n}" for n in reversed(range(30))]
    odd = jobs.list_page(database, project.id, PageQuery(limit=100), metadata={"parity": "1"}).items
    assert [job.id for job in odd] == [f"ftjob-{n}" for n in reversed(range(30)) if n % 2 and n % 3]
    plain = jobs.list_page(database, project.id, PageQuery(limit=100), plain=True).items
    assert [job.id for job in plain] == [f"ftjob-{n}" for n in reversed(range(30)) if n % 3 == 0]


@pytest.mark.parametrize(
    ("lister", "index"),
    [
        (lambda db: jobs.list_page(db, "proj_1", PageQuery(after="ftjob-5")), "ix_jobs_project_id_pk"),
        (lambda db: jobs.list_page(db, "proj_1", PageQuery(), plain=True), "ix_jobs_plain"),
        (lambda db: jobs.list_page(db, "proj_1", PageQuery(), metadata={"a": "b"}), "pk_job_metadata"),
        (lambda db: events.list_page(db, "proj_1", "ftjob-5", PageQuery()), "ix_job_events_job_id_pk"),
        (lambda db: list_webhooks(db, "proj_1", PageQuery(), "whe_1"), "ix_outbox_webhooks"),
    ],
)
def test_no_list_sorts_or_scans(database, project, statements, lister, index):
    plan = plan_of(database, project, statements, lister)
    assert "TEMP B-TREE" not in plan, plan
    assert index in plan or "INTEGER PRIMARY KEY" in plan, plan


def plan_of(database, project, statements, verb):
    if not database.sqlite:
        pytest.skip("reads SQLite's query plans")
    for number in range(10):
        make(database, project, number)
    verb(database)
    statement, parameters = statements[-1]
    with database.read() as connection:
        return " ".join(row[-1] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters))


def test_telling_places_sorts_what_is_unfinished_alone(database, project, statements):
    plan = plan_of(database, project, statements, lambda db: jobs.tell_places(db, now=1.0))
    assert "ix_jobs_line" in plan, plan
    assert "SCAN jobs" not in plan, plan


def test_a_claim_reads_the_heads_of_the_projects_lines_alone(database, project, statements):
    def first(db):
        with db.read() as connection:
            connection.scalar(queue.first(ANY), {"now": 1.0})

    plan = plan_of(database, project, statements, first)
    assert "ix_jobs_line (status=? AND paused=? AND project_id=? AND priority=?)" in plan, plan
    assert "ix_jobs_held (project_id=? AND lease_until>?)" in plan, plan
    assert "SCAN jobs" not in plan, plan
