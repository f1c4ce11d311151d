"""Whose turn it is: shares of projects, priorities, and what jobs are told of their places."""

import random
import threading
from collections import Counter
from dataclasses import replace

import pytest
from sqlalchemy import insert, select

from luthier.core.lists import PageQuery
from luthier.store import events, jobs
from luthier.store import queue as lines
from luthier.store.schema import job_events, projects
from luthier.store.schema import jobs as rows
from tests.store.test_jobs import make


def another(database, project, name):
    row = {"id": f"proj_{name}", "organization_id": project.organization_id, "name": name, "created_at": 2}
    with database.transaction() as connection:
        connection.execute(insert(projects).values(row))
    return replace(project, id=row["id"], name=name)


@pytest.fixture
def other(database, project):
    return another(database, project, "other")


def start(database, now):
    """Claim the first job and let it train; None when none waits."""
    held = jobs.claim(database, "me", ("queued", "running"), now=now, lease_s=30)
    if held is None or held.status == "running":
        return held
    return jobs.transition(database, held.id, held.fence, "queued", "running", now=now)


def finish(database, job, now):
    assert jobs.transition(database, job.id, job.fence, "running", "succeeded", now=now)


def queue(database, project, *numbers, **more):
    for number in numbers:
        make(database, project, number, status="queued", **more)


def one_by_one(database, *, now=1000.0):
    """The jobs in the order in which one trainer takes them."""
    order = []
    while (job := start(database, now)) is not None:
        order.append(int(job.id.removeprefix("ftjob-")))
        finish(database, job, now + 1)
        now += 2
    return order


def places(database):
    """The place that each job was told last, by number; jobs of all projects."""
    with database.read() as connection:
        told = connection.execute(
            select(job_events.c.job_id, job_events.c.data).where(job_events.c.key.is_(None)).order_by(job_events.c.pk)
        )
        return {int(job_id.removeprefix("ftjob-")): data["queue_position"] for job_id, data in told}


def test_projects_take_turns_however_many_jobs_they_have(database, project, other):
    queue(database, project, 0, 1, 2, 3)
    queue(database, other, 4, 5)
    assert one_by_one(database) == [0, 4, 1, 5, 2, 3]


def test_a_project_with_fewer_jobs_under_way_goes_first(database, project, other):
    queue(database, project, 0, 1, 2)
    queue(database, other, 3, 4)
    running = [start(database, 1000.0 + n) for n in range(3)]
    assert [job.id for job in running] == ["ftjob-0", "ftjob-3", "ftjob-1"]
    finish(database, running[1], 1003.0)  # other: none under way, and it was served after the first project's job 0
    queue(database, another(database, project, "third"), 5)
    assert [start(database, 1004.0 + n).id for n in range(3)] == ["ftjob-5", "ftjob-4", "ftjob-2"]


def test_a_priority_orders_a_projects_own_jobs_alone(database, project, other):
    queue(database, project, 0, priority=-1)
    queue(database, project, 1, 2)
    queue(database, project, 3, priority=10)
    queue(database, other, 4, 5)
    assert one_by_one(database) == [3, 4, 1, 5, 2, 0]


def test_a_job_whose_runner_died_goes_on_before_all_others(database, project, other):
    queue(database, project, 0, 1)
    queue(database, other, 2, priority=10)
    assert start(database, 1000.0).id == "ftjob-0"
    assert start(database, 2000.0).id == "ftjob-0"
    assert start(database, 2001.0).id == "ftjob-2"


def test_places_are_told_when_they_change_and_come_true(database, project, other):
    queue(database, project, 0, 1, 2)
    queue(database, other, 3, 4)
    running = start(database, 1000.0)
    jobs.tell_places(database, now=1001.0)
    assert places(database) == {3: 2, 1: 3, 4: 4, 2: 5}
    jobs.tell_places(database, now=1001.0)
    told = events.list_page(database, project.id, "ftjob-2", PageQuery()).items
    assert [event.message for event in told] == ["Job is number 5 in the queue", "Created"]
    order = []
    for now in range(1002, 1012, 2):
        finish(database, running, now)
        if (running := start(database, now + 1)) is not None:
            order.append(int(running.id.removeprefix("ftjob-")))
            jobs.tell_places(database, now=now + 1)
    assert order == [3, 1, 4, 2]
    told = events.list_page(database, project.id, "ftjob-2", PageQuery(order="asc")).items
    assert [event.data.get("queue_position") for event in told] == [None, 5, 4, 3, 2]


def test_a_job_that_somebody_gets_ahead_of_is_told(database, project):
    queue(database, project, 0, 1)
    start(database, 1000.0)
    jobs.tell_places(database, now=1001.0)
    queue(database, project, 2, priority=1)
    jobs.tell_places(database, now=1001.0)
    assert places(database) == {1: 3, 2: 2}
    jobs.set_paused(database, project.id, "ftjob-2", True, now=1002.0)
    jobs.tell_places(database, now=1002.0)
    assert places(database) == {1: 2, 2: 2}


def test_who_is_next_while_nobody_trains_is_told_nothing(database, project):
    queue(database, project, 0)
    jobs.tell_places(database, now=1000.0)
    assert places(database) == {}


def test_a_long_queue_makes_no_storm(database, project):
    """100 jobs: told each change they would write 5,000 events."""
    queue(database, project, *range(100))
    for now in range(1000, 1300, 3):
        job = start(database, now)
        jobs.tell_places(database, now=now + 1)
        finish(database, job, now + 2)
    with database.read() as connection:
        told = Counter(connection.scalars(select(job_events.c.job_id).where(job_events.c.key.is_(None))))
    assert told["ftjob-99"] == 1 + 3 + 9  # 100; 50, 25, 12; 10 to 2
    assert max(told.values()) == 13


def test_claimers_at_once_share_fairly_too(database, project, other):
    queue(database, project, *range(20))
    queue(database, other, *range(20, 40))
    claimed = []

    def work():
        while len(claimed) < 20 and (job := jobs.claim(database, "me", ("queued",), now=1000.0, lease_s=30)):
            claimed.append(job.project_id)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    counted = Counter(claimed)
    assert abs(counted[project.id] - counted[other.id]) <= 4


@pytest.mark.parametrize("seed", range(5))
def test_a_claim_takes_the_first_of_all_places_that_waits(database, project, other, seed):
    draw = random.Random(seed)
    owners = [project, other, another(database, project, "third")]
    for number in range(40):
        status = draw.choice(["queued", "queued", "running", "validating_files"])
        make(database, draw.choice(owners), number, status=status, priority=draw.randrange(-1, 2))
    now = 1000.0
    for _ in range(60):
        now += draw.choice([0, 1, 20])  # some leases end, so that their jobs are orphans
        statuses = draw.choice([("queued", "running"), ("validating_files",)])
        line = lines.places(statuses, now)
        with database.read() as connection:
            wanted = connection.scalar(
                select(rows.c.id)
                .join(line, line.c.pk == rows.c.pk)
                .where(*lines.waiting(statuses, now))
                .order_by(line.c.place)
                .limit(1)
            )
        job = jobs.claim(database, "me", statuses, now=now, lease_s=30)
        assert (job and job.id) == wanted
        match job and (job.status, draw.choice(["hold", "finish", "pause"])):
            case "queued", _:
                jobs.transition(database, job.id, job.fence, "queued", "running", now=now)
            case "running", "finish":
                finish(database, job, now)
            case _, "pause":
                jobs.set_paused(database, job.project_id, job.id, True, now=now)


def test_a_paused_job_rests_but_for_one_whose_runner_died(database, project):
    """The trainer of that one may be at work."""
    queue(database, project, 0, 1)
    held = start(database, 1000.0)
    for number in (0, 1):
        assert jobs.set_paused(database, project.id, f"ftjob-{number}", True, now=1001.0)
    assert start(database, 1002.0) is None
    again = start(database, 2000.0)
    assert (again.id, again.paused, again.fence) == (held.id, True, held.fence + 1)
    assert jobs.transition(database, again.id, again.fence, "running", "queued", now=2001.0)
    jobs.release(database, again.id, again.fence)
    assert start(database, 2002.0) is None
