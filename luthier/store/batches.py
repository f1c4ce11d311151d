"""Rows of batches, and of the results of their lines. Claimed, held and moved on as `store/jobs.py` does with jobs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any, Final, TypedDict, Unpack

from sqlalchemy import RowMapping, insert, select, update
from sqlalchemy.sql.elements import ColumnElement

from luthier.core.batches import FINAL, TRANSITIONS, Batch, BatchError, BatchStatus, LineResult
from luthier.core.files import FileObject
from luthier.core.lists import Page, PageQuery
from luthier.core.outbox import OutboxItem
from luthier.store import outbox
from luthier.store.database import Database, announce
from luthier.store.rows import claimed, columns, first, found, page, read, remove_all, returned, write
from luthier.store.schema import batch_lines, batches, files

COLUMNS: Final = columns(batches, Batch)
LINES_AT_ONCE: Final = 200
# The column that says when a status was reached; final ones share `finished_at`.
REACHED_AT: Final[dict[BatchStatus, str]] = {
    "in_progress": "in_progress_at",
    "finalizing": "finalizing_at",
    "cancelling": "cancelling_at",
}


class BatchChanges(TypedDict, total=False):
    """What a worker may set beside the status."""

    model: str
    input_sha256: str
    total: int
    errors: list[BatchError]
    output_file_id: str
    error_file_id: str


def create(database: Database, batch: Batch) -> None:
    """Add a batch."""
    with database.transaction() as connection:
        connection.execute(insert(batches).values(**write(batch)))
        announce(connection, "batch")


def get(database: Database, project_id: str, batch_id: str) -> Batch | None:
    """The batch, unless another project's."""
    statement = select(*COLUMNS).where(batches.c.id == batch_id, batches.c.project_id == project_id)
    return found(database, statement, _read)


def list_page(database: Database, project_id: str, query: PageQuery) -> Page[Batch]:
    """The project's batches."""
    return page(database, batches, query, _read, selected=COLUMNS, owner=batches.c.project_id == project_id)


def claim(database: Database, owner: str, *, now: float, lease_s: float) -> Batch | None:
    """Take the oldest unfinished batch whose lease is free or over; None when there is none."""
    waiting = (batches.c.finished_at.is_(None), batches.c.lease_until < now)
    values = {"lease_owner": owner, "lease_until": now + lease_s, "fence": batches.c.fence + 1}
    return claimed(database, batches, waiting, values, COLUMNS, _read)


def heartbeat(database: Database, batch_id: str, fence: int, *, now: float, lease_s: float) -> Batch | None:
    """Hold the lease longer. None: it is lost. One that comes back `cancelling` is still held: end it."""
    statement = update(batches).where(*_held(batch_id, fence)).values(lease_until=now + lease_s).returning(*COLUMNS)
    return returned(database, statement, _read)


def release(database: Database, batch_id: str, fence: int) -> None:
    """Give the lease back: anybody may claim the batch at once."""
    with database.transaction() as connection:
        connection.execute(update(batches).where(*_held(batch_id, fence)).values(lease_owner=None, lease_until=0.0))


def request_cancel(database: Database, project_id: str, batch_id: str, *, now: float) -> Batch | None:
    """Ask for an end. Whoever holds the batch sees it and ends it. None when it is past cancelling."""
    cancellable = [status for status, ways in TRANSITIONS.items() if "cancelling" in ways]
    statement = (
        update(batches)
        .where(batches.c.id == batch_id, batches.c.project_id == project_id, batches.c.status.in_(cancellable))
        .values(status="cancelling", cancelling_at=int(now))
        .returning(*COLUMNS)
    )
    return returned(database, statement, _read)


def transition(
    database: Database,
    batch: Batch,
    to_status: BatchStatus,
    *,
    now: float,
    written: Sequence[FileObject] = (),
    outbox_items: Sequence[OutboxItem] = (),
    **changes: Unpack[BatchChanges],
) -> Batch | None:
    """Move a held batch on from its status, with its files and what is to be sent. None: it is no longer ours to move,
    or it was cancelled meanwhile."""
    if to_status not in TRANSITIONS[batch.status]:
        raise ValueError(f"no way leads from {batch.status} to {to_status}")
    values: dict[str, Any] = {**changes, "status": to_status, REACHED_AT.get(to_status, "finished_at"): int(now)}
    if "errors" in changes:
        values["errors"] = [asdict(error) for error in changes["errors"]]
    if to_status in FINAL:
        values |= {"lease_owner": None, "lease_until": 0.0}
    statement = (
        update(batches)
        .where(*_held(batch.id, batch.fence), batches.c.status == batch.status)
        .values(**values)
        .returning(*COLUMNS)
    )
    with database.transaction() as connection:
        moved = first(connection, statement, _read)
        if moved is not None:
            for file in written:
                connection.execute(insert(files).values(**write(file)))
            outbox.insert_items(connection, outbox_items)
    return moved


def record(database: Database, batch: Batch, result: LineResult) -> bool:
    """Keep a line's result and count it. False: the batch is no longer ours, and nothing was kept."""
    count = batches.c.completed if result.succeeded else batches.c.failed
    tokens = {name: batches.c[name] + number for name, number in asdict(result.usage).items()}
    counted = update(batches).where(*_held(batch.id, batch.fence)).values({count.name: count + 1, **tokens})
    row = {"batch_id": batch.id, "line": result.line, "succeeded": result.succeeded, "text": result.text}
    with database.transaction() as connection:
        if connection.execute(counted).rowcount == 0:
            return False
        connection.execute(insert(batch_lines).values(row))
    return True


def recorded(database: Database, batch_id: str) -> set[int]:
    """The lines that have results."""
    with database.read() as connection:
        return set(connection.scalars(select(batch_lines.c.line).where(batch_lines.c.batch_id == batch_id)))


def texts(database: Database, batch_id: str, *, succeeded: bool) -> Iterator[str]:
    """What is to be written of the lines that did or did not succeed, in the order of the input."""
    last = 0
    while True:
        statement = (
            select(batch_lines.c.line, batch_lines.c.text)
            .where(batch_lines.c.batch_id == batch_id, batch_lines.c.line > last)
            .where(batch_lines.c.succeeded.is_(succeeded))
            .order_by(batch_lines.c.line)
            .limit(LINES_AT_ONCE)
        )
        with database.read() as connection:
            rows = connection.execute(statement).all()
        yield from (row.text for row in rows)
        if len(rows) < LINES_AT_ONCE:
            return
        last = rows[-1].line


def to_purge(database: Database) -> list[str]:
    """Finished batches whose lines and copy of the input may still be there."""
    statement = select(batches.c.id).where(batches.c.finished_at.is_not(None), batches.c.purged_at.is_(None))
    with database.read() as connection:
        return list(connection.scalars(statement.order_by(batches.c.pk)))


def purge(database: Database, batch_id: str, *, now: float) -> None:
    """Remove the lines of a finished batch, a few at a time so that nobody waits long, and note that it is done."""
    remove_all(database, batch_lines.c.line, [batch_lines.c.batch_id == batch_id])
    with database.transaction() as connection:
        connection.execute(update(batches).where(batches.c.id == batch_id).values(purged_at=int(now)))


def _held(batch_id: str, fence: int) -> tuple[ColumnElement[bool], ...]:
    return (batches.c.id == batch_id, batches.c.fence == fence, batches.c.finished_at.is_(None))


def _read(row: RowMapping) -> Batch:
    return read(Batch, {**row, "errors": [BatchError(**error) for error in row["errors"]]})
