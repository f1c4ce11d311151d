"""Rows of job events. Added inside the transaction of what they tell of."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, insert, select

from luthier.core.ids import new_id
from luthier.core.jobs import Job, JobEvent, NewEvent
from luthier.core.lists import Page, PageQuery
from luthier.store.database import Database
from luthier.store.rows import columns, page, reader, write
from luthier.store.schema import job_events


def add(connection: Connection, job: Job, said: Sequence[NewEvent], *, now: int) -> None:
    """Add the events whose keys the job lacks. The caller holds the job's row: nobody adds between look and write."""
    keys = [event.key for event in said if event.key is not None]
    known: set[str | None] = set()
    if keys:
        told = select(job_events.c.key).where(job_events.c.job_id == job.id, job_events.c.key.in_(keys))
        known = set(connection.scalars(told))
    rows = [
        {**write(event), "id": new_id("event"), "job_id": job.id, "project_id": job.project_id, "created_at": now}
        for event in said
        if event.key is None or event.key not in known
    ]
    if rows:
        connection.execute(insert(job_events), rows)


def has(connection: Connection, job_id: str, key: str | None) -> bool:
    """Whether a job has the event of this key."""
    told = select(job_events.c.pk).where(job_events.c.job_id == job_id, job_events.c.key == key)
    return connection.scalar(told) is not None


def list_page(database: Database, project_id: str, job_id: str, query: PageQuery) -> Page[JobEvent]:
    """What happened to a job."""
    return page(
        database,
        job_events,
        query,
        reader(JobEvent),
        selected=columns(job_events, JobEvent),
        owner=(job_events.c.job_id == job_id) & (job_events.c.project_id == project_id),
    )
