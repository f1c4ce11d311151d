"""Rows of organisations, projects and API keys. Keys are known by their SHA-256 alone."""

from __future__ import annotations

from sqlalchemy import RowMapping, insert, select, update

from luthier.core.projects import ApiKey, Project
from luthier.store.database import Database
from luthier.store.rows import columns, read, write
from luthier.store.schema import api_keys, organizations, projects

_PROJECTS = projects.join(organizations, organizations.c.id == projects.c.organization_id)
_PROJECT_COLUMNS = [
    projects.c.id,
    projects.c.organization_id,
    organizations.c.name.label("organization"),
    projects.c.name,
    projects.c.created_at,
]


def create_first(database: Database, project: Project, *, name: str) -> Project:
    """The first project, with its organisation, called `name` from now on: `project` when there was none."""
    with database.transaction() as connection:
        first = connection.execute(select(*_PROJECT_COLUMNS).select_from(_PROJECTS).order_by(projects.c.pk).limit(1))
        row = first.mappings().first()
        if row is not None:
            found = read(Project, {**row, "organization": name})
            connection.execute(
                update(organizations).where(organizations.c.id == found.organization_id).values(name=name)
            )
            return found
        organization = {"id": project.organization_id, "name": name, "created_at": project.created_at}
        connection.execute(insert(organizations).values(organization))
        row_of_project = {k: v for k, v in write(project).items() if k != "organization"}
        connection.execute(insert(projects).values(row_of_project))
    return project


def create_key(database: Database, key: ApiKey, sha256: str) -> bool:
    """Add a key. False, and nothing changes, when a key of this hash is there already."""
    with database.transaction() as connection:
        if connection.scalar(select(api_keys.c.pk).where(api_keys.c.sha256 == sha256)) is not None:
            return False
        connection.execute(insert(api_keys).values({**write(key), "scopes": sorted(key.scopes), "sha256": sha256}))
    return True


def has_keys(database: Database, project_id: str) -> bool:
    """Whether the project ever had a key."""
    with database.read() as connection:
        return connection.scalar(select(api_keys.c.pk).where(api_keys.c.project_id == project_id).limit(1)) is not None


def find(database: Database, sha256: str) -> tuple[ApiKey, Project] | None:
    """The key of this hash, whatever its state, and its project."""
    labelled = [column.label(f"of_{column.name}") for column in _PROJECT_COLUMNS]
    statement = (
        select(*columns(api_keys, ApiKey), *labelled)
        .select_from(api_keys.join(_PROJECTS, projects.c.id == api_keys.c.project_id))
        .where(api_keys.c.sha256 == sha256)
    )
    with database.read() as connection:
        row = connection.execute(statement).mappings().first()
    return (_key(row), read(Project, {c.name: row[f"of_{c.name}"] for c in _PROJECT_COLUMNS})) if row else None


def used(database: Database, key_id: str, *, now: int) -> None:
    """The key was used."""
    with database.transaction() as connection:
        connection.execute(update(api_keys).where(api_keys.c.id == key_id).values(last_used_at=now))


def _key(row: RowMapping) -> ApiKey:
    return read(ApiKey, {**row, "scopes": frozenset(row["scopes"])})
