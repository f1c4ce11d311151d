"""What the rows promise: which bytes must be there, and what of the rows contradicts itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from sqlalchemy import ColumnElement, exists, func, or_, select, text

from luthier.core.states import FINAL
from luthier.store.database import Database
from luthier.store.schema import batches, files, jobs, models, outbox, upload_parts, uploads


@dataclass(frozen=True)
class Bytes:
    """A blob that must be there, and whose it is. `sha256` is its whole content's."""

    owner: str
    blob: str
    sha256: str


def blobs(database: Database) -> Iterator[Bytes]:
    """Every blob that a row needs."""
    statements = (
        select(files.c.id, files.c.blob, files.c.sha256).where(files.c.deleted_at.is_(None)),
        select(upload_parts.c.id, upload_parts.c.blob, upload_parts.c.sha256)
        .join(uploads, uploads.c.id == upload_parts.c.upload_id)
        .where(uploads.c.status == "pending"),
        select(batches.c.id, batches.c.id.label("blob"), batches.c.input_sha256).where(
            batches.c.input_sha256.is_not(None), batches.c.finished_at.is_(None)
        ),
    )
    with database.read() as connection:
        for statement in statements:
            for owner, blob, sha256 in connection.execute(statement):
                yield Bytes(owner, blob, sha256)


def adapters(database: Database) -> list[tuple[str, str]]:
    """Name and adapter, below the runs folder, of every tuned model that answers."""
    with database.read() as connection:
        rows = connection.execute(select(models.c.name, models.c.adapter).where(models.c.deleted_at.is_(None)))
        return [(str(name), str(adapter)) for name, adapter in rows]


@contextmanager
def held(database: Database) -> Iterator[None]:
    """While this is open no row of `blobs` or `adapters` comes or goes, so neither do bytes that a row needs."""
    with database.transaction() as connection:  # SQLite lets one write at a time
        if not database.sqlite:
            tables = (batches, uploads, upload_parts, files, models)  # as writers lock them, one after another
            names = ", ".join(table.name for table in tables)
            connection.execute(text(f"LOCK TABLE {names} IN SHARE MODE"))
        yield


def unfinished_jobs(database: Database) -> list[str]:
    """Jobs that need their run folder still: they train, or their verdict is not found yet."""
    waiting = (outbox.c.kind == "verdict", outbox.c.delivered_at.is_(None), outbox.c.given_up_at.is_(None))
    with database.read() as connection:
        running = list(connection.scalars(select(jobs.c.id).where(jobs.c.finished_at.is_(None))))
        return running + [str(told["job_id"]) for told in connection.scalars(select(outbox.c.payload).where(*waiting))]


def contradictions(database: Database) -> list[str]:
    """What should never be, in words; empty when all is well."""
    found: list[str] = []
    final, made = jobs.c.status.in_(FINAL), models.c.name == jobs.c.fine_tuned_model
    checks: list[tuple[str, ColumnElement[str], ColumnElement[bool]]] = [
        ("jobs whose status and end disagree", jobs.c.id, final != jobs.c.finished_at.is_not(None)),
        ("jobs that succeeded without a model", jobs.c.id, (jobs.c.status == "succeeded") & ~exists().where(made)),
        ("jobs that failed without a reason", jobs.c.id, (jobs.c.status == "failed") & jobs.c.error.is_(None)),
        (
            "completed batches that answered not all lines",
            batches.c.id,
            (batches.c.status == "completed") & (batches.c.completed + batches.c.failed != batches.c.total),
        ),
        (
            "notices that were neither delivered nor given up in 73 hours",
            outbox.c.id,
            outbox.c.delivered_at.is_(None)
            & outbox.c.given_up_at.is_(None)
            & (outbox.c.created_at < database.now() - 73 * 3600),
        ),
    ]
    with database.read() as connection:
        for words, column, wrong in checks:
            ids = list(connection.scalars(select(column).where(wrong).limit(5)))
            if ids:
                count = connection.scalar(select(func.count()).select_from(column.table).where(wrong))
                found.append(f"{count} {words}: {', '.join(ids)}")
        if database.sqlite:
            for pragma in ("integrity_check", "foreign_key_check"):
                rows = connection.execute(text(f"PRAGMA {pragma}")).all()
                found += [f"SQLite's {pragma}: {tuple(row)}" for row in rows if tuple(row) != ("ok",)]
    return found


def troubled_notices(database: Database) -> list[tuple[str, str]]:
    """Id and last error of notices that are tried again or were given up."""
    troubled = or_(
        outbox.c.given_up_at.is_not(None), outbox.c.delivered_at.is_(None) & outbox.c.last_error.is_not(None)
    )
    with database.read() as connection:
        rows = connection.execute(
            select(outbox.c.id, outbox.c.last_error).where(troubled).order_by(-outbox.c.pk).limit(5)
        )
        return [(str(item), str(error)) for item, error in rows]
