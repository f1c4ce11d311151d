"""Rows of usage: one a request."""

from __future__ import annotations

from sqlalchemy import insert, select

from luthier.core.usage import Usage
from luthier.store.database import Database
from luthier.store.rows import columns, read, write
from luthier.store.schema import usage

COLUMNS = columns(usage, Usage)


def add(database: Database, row: Usage) -> None:
    """Add a request's row."""
    with database.transaction() as connection:
        connection.execute(insert(usage).values(**write(row)))


def list_all(database: Database, project_id: str, *, start: int, end: int) -> list[Usage]:
    """The project's rows from `start` up to, not including, `end` (unix seconds), oldest first."""
    statement = (
        select(*COLUMNS)
        .where(usage.c.project_id == project_id, usage.c.created_at >= start, usage.c.created_at < end)
        .order_by(usage.c.created_at, usage.c.pk)
    )
    with database.read() as connection:
        return [read(Usage, row) for row in connection.execute(statement).mappings()]
