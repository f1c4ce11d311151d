"""Rows of tuned models: a job's result and its checkpoints, by the name they are called by."""

from __future__ import annotations

from sqlalchemy import Connection, exists, insert, or_, select, update

from luthier.core.models import TunedModel
from luthier.store.database import Database
from luthier.store.rows import columns, found, listed, reader, returned, write
from luthier.store.schema import checkpoint_permissions, models, projects

COLUMNS = columns(models, TunedModel)


def add(connection: Connection, model: TunedModel) -> None:
    """Add a model, inside the transaction of what made it."""
    connection.execute(insert(models).values(**write(model)))


def find(database: Database, name: str, project_id: str) -> TunedModel | None:
    """The model of this name that the project has, or was granted.

    One statement, so that one that others keep to themselves takes as long as one that is not there.
    """
    granted = exists().where(
        checkpoint_permissions.c.checkpoint == name, checkpoint_permissions.c.project_id == project_id
    )
    mine = or_(models.c.project_id == project_id, granted)
    statement = select(*COLUMNS).where(models.c.name == name, models.c.deleted_at.is_(None), mine)
    return found(database, statement, reader(TunedModel))


def find_in_organization(database: Database, name: str, organization_id: str) -> TunedModel | None:
    """The model of this name that a project of the organisation has."""
    theirs = select(projects.c.id).where(projects.c.organization_id == organization_id)
    statement = select(*COLUMNS).where(
        models.c.name == name, models.c.deleted_at.is_(None), models.c.project_id.in_(theirs)
    )
    return found(database, statement, reader(TunedModel))


def is_taken(database: Database, name: str) -> bool:
    """Whether any project has or had a model of this name, for whoever works on the server's own machine."""
    with database.read() as connection:
        return connection.scalar(select(models.c.pk).where(models.c.name == name)) is not None


def list_all(database: Database, project_id: str) -> list[TunedModel]:
    """The project's models, oldest first; OpenAI's list of models has no pages."""
    statement = (
        select(*COLUMNS).where(models.c.project_id == project_id, models.c.deleted_at.is_(None)).order_by(models.c.pk)
    )
    return listed(database, statement, reader(TunedModel))


def delete(database: Database, project_id: str, name: str, *, now: int) -> TunedModel | None:
    """Mark the model deleted; its name is never given again. None when the project has none of this name."""
    statement = (
        update(models)
        .where(models.c.name == name, models.c.project_id == project_id, models.c.deleted_at.is_(None))
        .values(deleted_at=now)
        .returning(*COLUMNS)
    )
    return returned(database, statement, reader(TunedModel))
