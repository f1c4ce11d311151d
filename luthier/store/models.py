"""Rows of tuned models: a job's result and its checkpoints, by the name they are called by."""

from __future__ import annotations

from sqlalchemy import Connection, insert, select, update

from luthier.core.models import TunedModel
from luthier.store.database import Database
from luthier.store.rows import columns, read, write
from luthier.store.schema import models

COLUMNS = columns(models, TunedModel)


def add(connection: Connection, model: TunedModel) -> None:
    """Add a model, inside the transaction of what made it."""
    connection.execute(insert(models).values(**write(model)))


def find(database: Database, name: str) -> TunedModel | None:
    """The model of this name, whoever owns it; the caller decides who may know of it."""
    with database.read() as connection:
        row = connection.execute(
            select(*COLUMNS).where(models.c.name == name, models.c.deleted_at.is_(None))
        ).mappings()
        found = row.first()
    return read(TunedModel, found) if found else None


def list_all(database: Database, project_id: str) -> list[TunedModel]:
    """The project's models, oldest first; OpenAI's list of models has no pages."""
    statement = (
        select(*COLUMNS).where(models.c.project_id == project_id, models.c.deleted_at.is_(None)).order_by(models.c.pk)
    )
    with database.read() as connection:
        return [read(TunedModel, row) for row in connection.execute(statement).mappings()]


def delete(database: Database, project_id: str, name: str, *, now: int) -> TunedModel | None:
    """Mark the model deleted; its name is never given again. None when the project has none of this name."""
    statement = (
        update(models)
        .where(models.c.name == name, models.c.project_id == project_id, models.c.deleted_at.is_(None))
        .values(deleted_at=now)
        .returning(*COLUMNS)
    )
    with database.transaction() as connection:
        row = connection.execute(statement).mappings().first()
    return read(TunedModel, row) if row else None
