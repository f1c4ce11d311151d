"""Rows of aliases: each says where a name points from then on, so the newest one holds and the others are history."""

from __future__ import annotations

from sqlalchemy import func, insert, select

from luthier.core.models import Alias
from luthier.store.database import Database
from luthier.store.rows import columns, read, write
from luthier.store.schema import aliases

COLUMNS = columns(aliases, Alias)


def add(database: Database, alias: Alias) -> None:
    """Point a name somewhere; whoever asks next goes there."""
    with database.transaction() as connection:
        connection.execute(insert(aliases).values(**write(alias)))


def history(database: Database, project_id: str, name: str, *, limit: int | None = None) -> list[Alias]:
    """Where a name of the project has pointed, newest first."""
    statement = (
        select(*COLUMNS)
        .where(aliases.c.project_id == project_id, aliases.c.name == name)
        .order_by(aliases.c.pk.desc())
        .limit(limit)
    )
    with database.read() as connection:
        return [read(Alias, row) for row in connection.execute(statement).mappings()]


def list_all(database: Database, project_id: str) -> list[Alias]:
    """The project's aliases as they point now, by name."""
    newest = select(func.max(aliases.c.pk)).where(aliases.c.project_id == project_id).group_by(aliases.c.name)
    statement = select(*COLUMNS).where(aliases.c.pk.in_(newest), aliases.c.model.is_not(None)).order_by(aliases.c.name)
    with database.read() as connection:
        return [read(Alias, row) for row in connection.execute(statement).mappings()]
