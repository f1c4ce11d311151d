"""Rows of kept responses. One that runs is held under a lease by its process; a final one never changes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sqlalchemy import delete, insert, select, text, update

from luthier.core.json import JsonObject
from luthier.core.outbox import OutboxItem
from luthier.core.responses import FINAL, ResponseStatus, StoredResponse
from luthier.store import outbox, rows
from luthier.store.database import Database
from luthier.store.rows import columns, found, read, reader, remove_all, write
from luthier.store.schema import RUNNING, responses

COLUMNS = columns(responses, StoredResponse)


def add(database: Database, response: StoredResponse, *, lease_until: float = 0.0) -> None:
    """Keep a response."""
    with database.transaction() as connection:
        connection.execute(insert(responses).values(**write(response), lease_until=lease_until))


def get(database: Database, project_id: str, response_id: str) -> StoredResponse | None:
    """The response, unless another project's."""
    statement = select(*COLUMNS).where(responses.c.id == response_id, responses.c.project_id == project_id)
    return found(database, statement, reader(StoredResponse))


def each(database: Database, project_id: str, *, until: int) -> Iterator[tuple[int, StoredResponse]]:
    """The project's responses up to a time, oldest first, each with a number that stays its own."""
    where = [responses.c.project_id == project_id, responses.c.created_at <= until]
    for row in rows.each(database, responses, selected=COLUMNS, where=where):
        yield row["pk"], read(StoredResponse, row)


def abandoned(database: Database, *, now: float, response_id: str | None = None) -> list[tuple[str, str]]:
    """Project and id of responses, or of this one, that are unfinished and that nobody works on: their process died."""
    statement = select(responses.c.project_id, responses.c.id).where(text(RUNNING), responses.c.lease_until < now)
    if response_id is not None:
        statement = statement.where(responses.c.id == response_id)
    with database.read() as connection:
        return [(str(project_id), str(id_)) for project_id, id_ in connection.execute(statement)]


def hold(database: Database, response_id: str, *, lease_until: float) -> bool:
    """Hold an unfinished response longer. False: it has ended, so its work must stop."""
    statement = (
        update(responses)
        .where(responses.c.id == response_id, responses.c.status.not_in(FINAL))
        .values(lease_until=lease_until)
    )
    with database.transaction() as connection:
        return connection.execute(statement).rowcount > 0


def move(
    database: Database,
    response_id: str,
    status: ResponseStatus,
    answer: JsonObject,
    *,
    outbox_items: Sequence[OutboxItem] = (),
) -> bool:
    """Set an unfinished response's status and answer, and tell of it. False: it had ended before."""
    statement = (
        update(responses)
        .where(responses.c.id == response_id, responses.c.status.not_in(FINAL))
        .values(status=status, answer=answer)
    )
    with database.transaction() as connection:
        moved = connection.execute(statement).rowcount > 0
        if moved:
            outbox.insert_items(connection, outbox_items)
    return moved


def remove(database: Database, project_id: str, response_id: str) -> bool:
    """Delete a response; whether there was one."""
    statement = delete(responses).where(responses.c.id == response_id, responses.c.project_id == project_id)
    with database.transaction() as connection:
        return connection.execute(statement).rowcount > 0


def remove_older(database: Database, created_before: int) -> None:
    """Delete final responses of every project that are older than that."""
    remove_all(database, responses.c.pk, [responses.c.created_at < created_before, responses.c.status.in_(FINAL)])
