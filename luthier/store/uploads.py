"""Rows of uploads and their parts."""

from __future__ import annotations

from sqlalchemy import Connection, insert, select, update

from luthier.core.files import FileObject, Part, Upload, UploadStatus
from luthier.store.database import Database
from luthier.store.rows import columns, first, found, listed, reader, write
from luthier.store.schema import files, upload_parts, uploads

COLUMNS = columns(uploads, Upload)


def create(database: Database, upload: Upload) -> None:
    """Add an upload without parts."""
    with database.transaction() as connection:
        connection.execute(insert(uploads).values(**write(upload)))


def get(database: Database, project_id: str, upload_id: str) -> Upload | None:
    """The upload, unless another project's."""
    statement = select(*COLUMNS).where(uploads.c.id == upload_id, uploads.c.project_id == project_id)
    return found(database, statement, reader(Upload))


def add_part(database: Database, part: Part) -> bool:
    """Add a part whose bytes are stored. False when its upload is no longer pending."""
    pending = (
        select(uploads.c.pk).where(uploads.c.id == part.upload_id, uploads.c.status == "pending").with_for_update()
    )
    with database.transaction() as connection:
        if connection.scalar(pending) is None:
            return False
        connection.execute(insert(upload_parts).values(**write(part)))
    return True


def parts(database: Database, upload_id: str) -> list[Part]:
    """The upload's parts, in the order they arrived."""
    statement = (
        select(*columns(upload_parts, Part)).where(upload_parts.c.upload_id == upload_id).order_by(upload_parts.c.pk)
    )
    return listed(database, statement, reader(Part))


def complete(database: Database, upload: Upload, file: FileObject) -> Upload | None:
    """Make the upload a file. None when it is no longer pending."""
    with database.transaction() as connection:
        completed = _end(connection, upload.id, "completed", file.id)
        if completed is not None:
            connection.execute(insert(files).values(**write(file)))
    return completed


def end(database: Database, upload_id: str, status: UploadStatus) -> Upload | None:
    """Cancel or expire a pending upload. None when it is not pending."""
    with database.transaction() as connection:
        return _end(connection, upload_id, status)


def overdue(database: Database, *, now: int) -> list[Upload]:
    """Pending uploads whose hour is over."""
    statement = select(*COLUMNS).where(uploads.c.status == "pending", uploads.c.expires_at <= now)
    return listed(database, statement, reader(Upload))


def ended_with_parts(database: Database) -> list[str]:
    """Uploads that have ended and still have parts."""
    statement = (
        select(upload_parts.c.upload_id)
        .distinct()
        .join(uploads, uploads.c.id == upload_parts.c.upload_id)
        .where(uploads.c.status != "pending")
    )
    with database.read() as connection:
        return list(connection.scalars(statement))


def drop_parts(database: Database, upload_id: str) -> None:
    """Forget the parts of an upload that has ended and whose parts' bytes are gone."""
    with database.transaction() as connection:
        connection.execute(upload_parts.delete().where(upload_parts.c.upload_id == upload_id))


def _end(connection: Connection, upload_id: str, status: UploadStatus, file_id: str | None = None) -> Upload | None:
    statement = (
        update(uploads)
        .where(uploads.c.id == upload_id, uploads.c.status == "pending")
        .values(status=status, file_id=file_id)
        .returning(*COLUMNS)
    )
    return first(connection, statement, reader(Upload))
