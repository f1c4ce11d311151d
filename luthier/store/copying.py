"""All rows, from one database to another, whatever kinds they are: what backups are made of."""

from __future__ import annotations

from typing import Final

from sqlalchemy import Connection, func, insert, select, text

from luthier.core.errors import Conflict
from luthier.store.database import Database
from luthier.store.schema import metadata, organizations

ROWS_AT_ONCE: Final = 1000


def copy(source: Database, target: Database) -> int:
    """Copy all rows as they were at one moment; how many. Both have this version's tables.

    Errors: `Conflict` when the target has rows already.
    """
    copied = 0
    require_empty(target)
    with source.read() as reader, target.transaction() as writer:
        for table in metadata.sorted_tables:
            rows = reader.execution_options(yield_per=ROWS_AT_ONCE).execute(select(table)).mappings()
            for some in rows.partitions():
                writer.execute(insert(table), [dict(row) for row in some])
                copied += len(some)
        if not target.sqlite:
            _go_on_counting(writer)
    return copied


def require_empty(database: Database) -> None:
    """Errors: `Conflict` when there are rows already."""
    with database.read() as connection:
        if connection.scalar(select(organizations.c.pk).limit(1)) is not None:
            raise Conflict("the database has rows already; restore into an empty one")


def _go_on_counting(connection: Connection) -> None:
    """PostgreSQL's counters know nothing of rows that came with their numbers."""
    for table in metadata.sorted_tables:
        if "pk" in table.c and table.c.pk.primary_key:
            last = connection.scalar(select(func.max(table.c.pk)))
            if last is not None:
                counter = text("SELECT setval(pg_get_serial_sequence(:name, 'pk'), :last)")
                connection.execute(counter, {"name": table.name, "last": last})
