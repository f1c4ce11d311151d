"""Rows of aliases: each says where a name points from then on, so the newest one holds and the others are history."""

from __future__ import annotations

from sqlalchemy import func, insert, select

from luthier.core.models import Alias
from luthier.store.database import Database
from luthier.store.rows import columns, listed, reader, write
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
    return listed(database, statement, reader(Alias))


def is_taken(database: Database, name: str) -> bool:
    """Whether the name points to a model in any project."""
    newest = select(func.max(aliases.c.pk)).where(aliases.c.name == name).group_by(aliases.c.project_id)
    statement = select(aliases.c.pk).where(aliases.c.pk.in_(newest), aliases.c.model.is_not(None))
    with database.read() as connection:
        return connection.scalar(statement) is not None


def list_all(database: Database, project_id: str) -> list[Alias]:
    """The project's aliases as they point now, by name."""
    newest = select(func.max(aliases.c.pk)).where(aliases.c.project_id == project_id).group_by(aliases.c.name)
    statement = select(*COLUMNS).where(aliases.c.pk.in_(newest), aliases.c.model.is_not(None)).order_by(aliases.c.name)
    return listed(database, statement, reader(Alias))
