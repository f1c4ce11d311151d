"""Rows of checkpoints. Each is a model too, under its own name."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import insert, select

from luthier.core.jobs import Checkpoint, NewEvent
from luthier.core.lists import Page, PageQuery
from luthier.core.models import TunedModel
from luthier.store import events, jobs, models
from luthier.store.database import Database
from luthier.store.rows import columns, page, reader, write
from luthier.store.schema import checkpoints


def add(
    database: Database, fence: int, checkpoint: Checkpoint, model: TunedModel, *, said: Sequence[NewEvent] = ()
) -> bool:
    """Add a checkpoint, the model that it is, and its event, in one commit; one that is there already is passed over.

    False: the job is no longer ours to add to.
    """
    known = select(checkpoints.c.pk).where(
        checkpoints.c.job_id == checkpoint.job_id, checkpoints.c.step == checkpoint.step
    )
    with database.transaction() as connection:
        job = jobs.hold(connection, checkpoint.job_id, fence)
        if job is None:
            return False
        if connection.scalar(known) is None:
            connection.execute(insert(checkpoints).values(**write(checkpoint), project_id=job.project_id))
            models.add(connection, model)
            events.add(connection, job, said, now=checkpoint.created_at)
    return True


def list_page(database: Database, project_id: str, job_id: str, query: PageQuery) -> Page[Checkpoint]:
    """A job's checkpoints."""
    return page(
        database,
        checkpoints,
        query,
        reader(Checkpoint),
        selected=columns(checkpoints, Checkpoint),
        owner=(checkpoints.c.job_id == job_id) & (checkpoints.c.project_id == project_id),
    )
