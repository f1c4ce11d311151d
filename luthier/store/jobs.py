"""Rows of fine-tuning jobs: created, listed, claimed under a lease, moved from state to state.

A claim takes the first in the queue (`store/queue.py`) and counts up its `fence`. Every later write of the claimer
names that fence and does nothing when a newer claim, a cancellation or a final state has come between.
Events, models and outbox rows ride in the commit of what they tell of.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, TypedDict, Unpack

from sqlalchemy import Connection, RowMapping, delete, exists, insert, select, update
from sqlalchemy.sql.elements import ColumnElement

from luthier.core.jobs import Job, JobError, NewEvent
from luthier.core.lists import Page, PageQuery
from luthier.core.models import TunedModel
from luthier.core.outbox import OutboxItem
from luthier.core.quotes import Quote
from luthier.core.states import FINAL, TRANSITIONS, JobStatus
from luthier.store import events, models, outbox, queue
from luthier.store.database import Database, Turn, announce
from luthier.store.rows import columns, first, found, page, read, returned, write
from luthier.store.schema import job_metadata, jobs, projects

COLUMNS = columns(jobs, Job)


class JobChanges(TypedDict, total=False):
    """What a runner may set beside the status."""

    resolved: dict[str, int | float]
    estimated_finish: int | None
    quote: Quote
    trained_tokens: int
    result_files: list[str]
    error: JobError
    fine_tuned_model: str


def create(database: Database, job: Job, *, said: Sequence[NewEvent] = ()) -> Job:
    """Add a job with its first events."""
    with database.transaction() as connection:
        inserted = connection.execute(insert(jobs).values(**_row(write(job))).returning(jobs.c.pk))
        pk = inserted.scalar_one()
        _index_metadata(connection, job.project_id, pk, job.metadata or {})
        events.add(connection, job, said, now=job.created_at)
        announce(connection, "job")
    return job


def get(database: Database, project_id: str, job_id: str) -> Job | None:
    """The job, unless another project's."""
    statement = select(*COLUMNS).where(jobs.c.id == job_id, jobs.c.project_id == project_id)
    return found(database, statement, _job)


def list_page(
    database: Database,
    project_id: str,
    query: PageQuery,
    *,
    metadata: Mapping[str, str] | None = None,
    plain: bool = False,
) -> Page[Job]:
    """The project's jobs; with all of `metadata`'s pairs, or with no metadata at all (`plain`)."""
    owner = jobs.c.project_id == project_id
    where: list[ColumnElement[bool]] = [jobs.c.metadata.is_(None)] if plain else []
    if not metadata:
        return page(database, jobs, query, _job, selected=COLUMNS, owner=owner, where=where)
    # The first pair's index entries are walked in the list's order; the others are looked up per row.
    (key, value), *others = metadata.items()
    where += [job_metadata.c.project_id == project_id, job_metadata.c.key == key, job_metadata.c.value == value]
    for key, value in others:
        also = job_metadata.alias()
        same = (also.c.project_id == project_id, also.c.key == key, also.c.value == value, also.c.job_pk == jobs.c.pk)
        where.append(exists().where(*same))
    return page(
        database,
        jobs,
        query,
        _job,
        selected=COLUMNS,
        owner=owner,
        where=where,
        source=job_metadata.join(jobs, jobs.c.pk == job_metadata.c.job_pk),
        position=job_metadata.c.job_pk,
    )


def claim(database: Database, owner: str, statuses: Sequence[JobStatus], *, now: float, lease_s: float) -> Job | None:
    """Take the first job in one of `statuses` whose lease is free or over; None when there is none.

    Paused ones stay, but for one that runs: its trainer is to be ended.
    """
    with database.read() as connection:  # most looks find nothing, and a look should lock nothing
        if connection.scalar(queue.first(tuple(statuses)), {"now": now}) is None:
            return None
    with database.transaction() as connection:
        database.one_at_a_time(connection, Turn.CLAIM)
        pk = connection.scalar(queue.first(tuple(statuses)), {"now": now})
        if pk is None:
            return None
        statement = (
            update(jobs)
            .where(jobs.c.pk == pk, jobs.c.finished_at.is_(None))  # it may have been cancelled since
            .values(lease_owner=owner, lease_until=now + lease_s, fence=jobs.c.fence + 1)
            .returning(*COLUMNS)
        )
        return first(connection, statement, _job)


def tell_places(database: Database, *, now: float) -> None:
    """Tell jobs that wait to be trained of their place in the queue, where it is news."""
    with database.read() as connection:  # it takes as long as the queue is, and should keep no writer waiting
        news = connection.execute(queue.untold(), {"now": now}).all()
    if not news:
        return
    with database.transaction() as connection:
        for pk, told, place in sorted(news):  # in one order for all servers
            same = (jobs.c.pk == pk, jobs.c.told_place.is_not_distinct_from(told), *queue.waiting(("queued",), now))
            statement = update(jobs).where(*same).values(told_place=place).returning(*COLUMNS)
            job = first(connection, statement, _job)
            if job is not None:
                said = NewEvent(None, f"Job is number {place} in the queue", data={"queue_position": place})
                events.add(connection, job, [said], now=int(now))


def heartbeat(database: Database, job_id: str, fence: int, *, now: float, lease_s: float) -> Job | None:
    """Hold the lease longer. None: it is lost, for the job was cancelled or claimed anew, so its trainer must stop.

    A job that comes back `paused` is still held: stop its trainer, move it to `queued` and `release` it.
    """
    statement = update(jobs).where(*_held(job_id, fence)).values(lease_until=now + lease_s).returning(*COLUMNS)
    return returned(database, statement, _job)


def release(database: Database, job_id: str, fence: int) -> None:
    """Give the lease back: anybody may claim the job at once."""
    with database.transaction() as connection:
        connection.execute(update(jobs).where(*_held(job_id, fence)).values(lease_owner=None, lease_until=0.0))
        announce(connection, "job")


def release_all(database: Database, owner: str) -> None:
    """Give back the leases of one that died."""
    held = (jobs.c.lease_owner == owner, jobs.c.finished_at.is_(None))
    with database.transaction() as connection:
        connection.execute(update(jobs).where(*held).values(lease_owner=None, lease_until=0.0))


def transition(
    database: Database,
    job_id: str,
    fence: int,
    from_status: JobStatus,
    to_status: JobStatus,
    *,
    now: float,
    said: Sequence[NewEvent] = (),
    outbox_items: Sequence[OutboxItem] = (),
    model: TunedModel | None = None,
    **changes: Unpack[JobChanges],
) -> Job | None:
    """Move a held job on, with its events, its model and what is to be sent. None: it is no longer ours to move."""
    if to_status not in TRANSITIONS[from_status]:
        raise ValueError(f"no way leads from {from_status} to {to_status}")
    statement = (
        update(jobs)
        .where(*_held(job_id, fence), jobs.c.status == from_status)
        .values(status=to_status, told_place=None, **_ending(to_status, now), **_row(changes))
        .returning(*COLUMNS)
    )
    with database.transaction() as connection:
        job = first(connection, statement, _job)
        if job is None:
            return None
        if to_status == "running":
            connection.execute(update(projects).where(projects.c.id == job.project_id).values(served_at=now))
        events.add(connection, job, said, now=int(now))
        if model is not None:
            models.add(connection, model)
        outbox.insert_items(connection, outbox_items)
        announce(connection, "job")  # the others' places in the queue
    return job


def change(
    database: Database,
    job_id: str,
    fence: int,
    *,
    now: float,
    said: Sequence[NewEvent] = (),
    **changes: Unpack[JobChanges],
) -> Job | None:
    """Set what a runner learnt, and tell it, without moving the job. None: it is no longer ours to change."""
    with database.transaction() as connection:
        job = hold(connection, job_id, fence)
        if job is None:
            return None
        if changes:
            statement = update(jobs).where(jobs.c.id == job_id).values(**_row(changes)).returning(*COLUMNS)
            job = _job(connection.execute(statement).mappings().one())
        events.add(connection, job, said, now=int(now))
    return job


def add_verdict(
    database: Database,
    project_id: str,
    job_id: str,
    *,
    now: float,
    said: NewEvent,
    result_files: Sequence[str],
    metadata: Mapping[str, str],
    outbox_items: Sequence[OutboxItem],
) -> bool:
    """Put a verdict on an ended job, once: its event, files, metadata and notices. False when it has one already."""
    with database.transaction() as connection:
        mine = (jobs.c.id == job_id, jobs.c.project_id == project_id)
        row = connection.execute(select(jobs.c.pk, *COLUMNS).where(*mine).with_for_update()).mappings().first()
        if row is None or events.has(connection, job_id, said.key):
            return False
        job, pk = _job(row), row["pk"]
        events.add(connection, job, [said], now=int(now))
        merged = {**(job.metadata or {}), **metadata}
        changes = {"result_files": [*job.result_files, *result_files], "metadata": merged or None}
        connection.execute(update(jobs).where(*mine).values(**changes))
        connection.execute(
            delete(job_metadata).where(job_metadata.c.job_pk == pk, job_metadata.c.key.in_(list(metadata)))
        )
        _index_metadata(connection, job.project_id, pk, metadata)
        outbox.insert_items(connection, outbox_items)
    return True


def request_cancel(
    database: Database,
    project_id: str,
    job_id: str,
    *,
    now: float,
    said: Sequence[NewEvent] = (),
    outbox_items: Sequence[OutboxItem] = (),
) -> Job | None:
    """End an unfinished job as `cancelled`, whoever holds it. None when no such job is unfinished in this project.

    The fence moves on, so the runner's next heartbeat tells it to stop.
    """
    statement = (
        update(jobs)
        .where(jobs.c.id == job_id, jobs.c.project_id == project_id, jobs.c.finished_at.is_(None))
        .values(status="cancelled", fence=jobs.c.fence + 1, **_ending("cancelled", now))
        .returning(*COLUMNS)
    )
    with database.transaction() as connection:
        job = first(connection, statement, _job)
        if job is None:
            return None
        events.add(connection, job, said, now=int(now))
        outbox.insert_items(connection, outbox_items)
        announce(connection, "job")
    return job


def set_paused(
    database: Database, project_id: str, job_id: str, paused: bool, *, now: float, said: Sequence[NewEvent] = ()
) -> Job | None:
    """Pause or resume an unfinished job. None when none is there that is not so already."""
    statement = (
        update(jobs)
        .where(
            jobs.c.id == job_id,
            jobs.c.project_id == project_id,
            jobs.c.finished_at.is_(None),
            jobs.c.paused.is_(not paused),
        )
        .values(paused=paused)
        .returning(*COLUMNS)
    )
    with database.transaction() as connection:
        job = first(connection, statement, _job)
        if job is None:
            return None
        events.add(connection, job, said, now=int(now))
        announce(connection, "job")
    return job


def hold(connection: Connection, job_id: str, fence: int) -> Job | None:
    """Lock the job's row until the transaction ends. None: it is no longer ours."""
    return first(connection, select(*COLUMNS).where(*_held(job_id, fence)).with_for_update(), _job)


def _index_metadata(connection: Connection, project_id: str, pk: int, metadata: Mapping[str, str]) -> None:
    rows = [{"project_id": project_id, "key": key, "value": value, "job_pk": pk} for key, value in metadata.items()]
    if rows:
        connection.execute(insert(job_metadata), rows)


def _held(job_id: str, fence: int) -> tuple[ColumnElement[bool], ...]:
    return (jobs.c.id == job_id, jobs.c.fence == fence, jobs.c.finished_at.is_(None))


def _ending(status: JobStatus, now: float) -> dict[str, Any]:
    if status not in FINAL:
        return {}
    return {"finished_at": int(now), "lease_owner": None, "lease_until": 0.0, "estimated_finish": None}


def _row(changes: Mapping[str, Any]) -> dict[str, Any]:
    return {k: asdict(v) if isinstance(v, (JobError, Quote)) else v for k, v in changes.items()}


def _job(row: RowMapping) -> Job:
    error, quote = row["error"], row["quote"]
    made = {"error": JobError(**error) if error else None, "quote": Quote.read(quote) if quote else None}
    return read(Job, {**row, **made})
