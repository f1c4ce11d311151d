"""Rows of stored chat completions, listed by model and metadata."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from sqlalchemy import Connection, delete, exists, insert, select, update
from sqlalchemy.sql.elements import ColumnElement

from luthier.core.chats import StoredChat
from luthier.core.lists import Page, PageQuery
from luthier.store import rows
from luthier.store.database import Database
from luthier.store.rows import columns, found, page, read, reader, remove_all, write
from luthier.store.schema import chat_completion_metadata as pairs
from luthier.store.schema import chat_completions as chats

COLUMNS = columns(chats, StoredChat)


def add(database: Database, chat: StoredChat) -> None:
    """Keep a chat."""
    with database.transaction() as connection:
        pk = connection.execute(insert(chats).values(**write(chat)).returning(chats.c.pk)).scalar_one()
        _index(connection, chat.project_id, pk, chat.metadata)


def get(database: Database, project_id: str, chat_id: str) -> StoredChat | None:
    """The chat, unless another project's."""
    statement = select(*COLUMNS).where(chats.c.id == chat_id, chats.c.project_id == project_id)
    return found(database, statement, reader(StoredChat))


def list_page(
    database: Database, project_id: str, query: PageQuery, *, model: str | None, metadata: Mapping[str, str]
) -> Page[StoredChat]:
    """The project's chats, of one model and with all of `metadata`'s pairs where these are given."""
    owner = chats.c.project_id == project_id
    where: list[ColumnElement[bool]] = [] if model is None else [chats.c.model == model]
    for key, value in metadata.items():
        pair = pairs.alias()
        same = (pair.c.project_id == project_id, pair.c.key == key, pair.c.value == value)
        where.append(exists().where(*same, pair.c.chat_completion_pk == chats.c.pk))
    return page(database, chats, query, reader(StoredChat), selected=COLUMNS, owner=owner, where=where)


def each(database: Database, project_id: str, *, until: int) -> Iterator[tuple[int, StoredChat]]:
    """The project's chats up to a time, oldest first, each with a number that stays its own."""
    where = [chats.c.project_id == project_id, chats.c.created_at <= until]
    for row in rows.each(database, chats, selected=COLUMNS, where=where):
        yield row["pk"], read(StoredChat, row)


def set_metadata(database: Database, project_id: str, chat_id: str, metadata: dict[str, str]) -> StoredChat | None:
    """Replace a chat's metadata. None when the project has no such chat."""
    statement = (
        update(chats)
        .where(chats.c.id == chat_id, chats.c.project_id == project_id)
        .values(metadata=metadata)
        .returning(chats.c.pk, *COLUMNS)
    )
    with database.transaction() as connection:
        row = connection.execute(statement).mappings().first()
        if row is None:
            return None
        connection.execute(delete(pairs).where(pairs.c.chat_completion_pk == row["pk"]))
        _index(connection, project_id, row["pk"], metadata)
    return read(StoredChat, row)


def remove(database: Database, project_id: str, chat_id: str) -> bool:
    """Delete a chat; whether there was one."""
    statement = delete(chats).where(chats.c.id == chat_id, chats.c.project_id == project_id)
    with database.transaction() as connection:
        return connection.execute(statement).rowcount > 0


def remove_older(database: Database, created_before: int) -> None:
    """Delete chats of every project that are older than that."""
    remove_all(database, chats.c.pk, [chats.c.created_at < created_before])


def _index(connection: Connection, project_id: str, pk: int, metadata: Mapping[str, str]) -> None:
    pairs_of = [
        {"project_id": project_id, "key": key, "value": value, "chat_completion_pk": pk}
        for key, value in metadata.items()
    ]
    if pairs_of:
        connection.execute(insert(pairs), pairs_of)
