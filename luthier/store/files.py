"""Rows of files. The bytes are in `store/blobs.py`; a row appears when they are complete and goes before they do."""

from __future__ import annotations

from sqlalchemy import ColumnElement, insert, select, update

from luthier.core.files import FileObject
from luthier.core.lists import Page, PageQuery
from luthier.store.database import Database
from luthier.store.rows import columns, found, listed, page, reader, returned, write
from luthier.store.schema import files


def create(database: Database, file: FileObject) -> None:
    """Add a file whose bytes are stored."""
    with database.transaction() as connection:
        connection.execute(insert(files).values(**write(file)))


def get(database: Database, project_id: str, file_id: str) -> FileObject | None:
    """The file, unless deleted or another project's."""
    statement = select(*columns(files, FileObject)).where(
        files.c.id == file_id, files.c.project_id == project_id, files.c.deleted_at.is_(None)
    )
    return found(database, statement, reader(FileObject))


def list_page(database: Database, project_id: str, query: PageQuery, *, purpose: str | None = None) -> Page[FileObject]:
    """The project's files, of one purpose or of all."""
    where: list[ColumnElement[bool]] = [files.c.deleted_at.is_(None)]
    if purpose is not None:
        where.append(files.c.purpose == purpose)
    return page(
        database,
        files,
        query,
        reader(FileObject),
        selected=columns(files, FileObject),
        owner=files.c.project_id == project_id,
        where=where,
    )


def delete(database: Database, project_id: str, file_id: str, *, now: int) -> FileObject | None:
    """Mark the file deleted; its bytes are to be purged. None when there is no such file."""
    statement = (
        update(files)
        .where(files.c.id == file_id, files.c.project_id == project_id, files.c.deleted_at.is_(None))
        .values(deleted_at=now)
        .returning(*columns(files, FileObject))
    )
    return returned(database, statement, reader(FileObject))


def expire(database: Database, *, now: int) -> int:
    """Mark files deleted whose time has come; how many."""
    statement = update(files).where(files.c.expires_at <= now, files.c.deleted_at.is_(None)).values(deleted_at=now)
    with database.transaction() as connection:
        return connection.execute(statement).rowcount


def to_purge(database: Database, *, limit: int = 100) -> list[FileObject]:
    """Deleted files whose bytes may still be there."""
    statement = (
        select(*columns(files, FileObject))
        .where(files.c.deleted_at.is_not(None), files.c.purged_at.is_(None))
        .order_by(files.c.deleted_at)
        .limit(limit)
    )
    return listed(database, statement, reader(FileObject))


def purged(database: Database, file_id: str, *, now: int) -> None:
    """The bytes of a deleted file are gone."""
    with database.transaction() as connection:
        connection.execute(update(files).where(files.c.id == file_id).values(purged_at=now))
