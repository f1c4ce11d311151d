"""Rows of organisations and projects."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sqlalchemy import insert, select, update

from luthier.core.lists import Page, PageQuery
from luthier.core.projects import AuditEntry, Project
from luthier.store import audit
from luthier.store.database import Database, Turn
from luthier.store.rows import first, found, page, reader, write
from luthier.store.schema import organizations, projects

SOURCE = projects.join(organizations, organizations.c.id == projects.c.organization_id)
COLUMNS = [
    projects.c.id,
    projects.c.organization_id,
    organizations.c.name.label("organization"),
    projects.c.name,
    projects.c.created_at,
    projects.c.archived_at,
]


def create_first(database: Database, project: Project, *, name: str) -> Project:
    """The first project, with its organisation, called `name` from now on: `project` when there was none."""
    with database.transaction() as connection:
        database.one_at_a_time(connection, Turn.FIRST_PROJECT)  # two servers may start at once
        oldest = select(*COLUMNS).select_from(SOURCE).order_by(projects.c.pk).limit(1)
        there = first(connection, oldest, reader(Project))
        if there is not None:
            connection.execute(
                update(organizations).where(organizations.c.id == there.organization_id).values(name=name)
            )
            return replace(there, organization=name)
        organization = {"id": project.organization_id, "name": name, "created_at": project.created_at}
        connection.execute(insert(organizations).values(organization))
        connection.execute(insert(projects).values(_row(project)))
    return project


def create(database: Database, project: Project, entry: AuditEntry) -> None:
    """Add a project to its organisation."""
    with database.transaction() as connection:
        connection.execute(insert(projects).values(_row(project)))
        audit.add(connection, entry)


def get(database: Database, organization_id: str, project_id: str) -> Project | None:
    """The project, unless another organisation's."""
    statement = (
        select(*COLUMNS)
        .select_from(SOURCE)
        .where(projects.c.id == project_id, projects.c.organization_id == organization_id)
    )
    return found(database, statement, reader(Project))


def list_page(database: Database, organization_id: str, query: PageQuery, *, archived: bool) -> Page[Project]:
    """The organisation's projects; those that are archived only if asked for."""
    return page(
        database,
        projects,
        query,
        reader(Project),
        selected=COLUMNS,
        owner=projects.c.organization_id == organization_id,
        where=[] if archived else [projects.c.archived_at.is_(None)],
        source=SOURCE,
    )


def change(database: Database, project: Project, entry: AuditEntry, **values: str | int) -> None:
    """Set a project's `name` or `archived_at`."""
    with database.transaction() as connection:
        connection.execute(update(projects).where(projects.c.id == project.id).values(**values))
        audit.add(connection, entry)


def _row(project: Project) -> dict[str, Any]:
    return {name: value for name, value in write(project).items() if name != "organization"}
