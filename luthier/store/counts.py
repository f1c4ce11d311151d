"""How much is unfinished, by indices of the unfinished alone: it costs as much as there is."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Column, ColumnElement, Connection, exists, func, select

from luthier.store.database import Database
from luthier.store.schema import batches, jobs, outbox


@dataclass(frozen=True)
class Unfinished:
    """Counts by status, and by kind for what is to be delivered; how long the first job in the queue waits.

    `at_work`: somebody holds a job, so that others may wait."""

    jobs: dict[str, int]
    batches: dict[str, int]
    outbox: dict[str, int]
    oldest_unclaimed_s: float
    at_work: bool


def unfinished(database: Database, *, now: float) -> Unfinished:
    """Count."""
    waiting = select(func.min(jobs.c.created_at)).where(
        jobs.c.finished_at.is_(None), jobs.c.paused.is_(False), jobs.c.lease_until < now
    )
    with database.read() as connection:
        oldest = connection.scalar(waiting)
        held = select(exists().where(jobs.c.finished_at.is_(None), jobs.c.lease_until >= now))
        return Unfinished(
            _by(connection, jobs.c.status, jobs.c.finished_at.is_(None)),
            _by(connection, batches.c.status, batches.c.finished_at.is_(None)),
            _by(connection, outbox.c.kind, outbox.c.delivered_at.is_(None) & outbox.c.given_up_at.is_(None)),
            now - oldest if oldest is not None else 0.0,
            bool(connection.scalar(held)),
        )


def _by(connection: Connection, column: Column[str], where: ColumnElement[bool]) -> dict[str, int]:
    rows = connection.execute(select(column, func.count()).where(where).group_by(column))
    return {str(label): int(count) for label, count in rows}
