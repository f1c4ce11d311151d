"""Rows of checkpoint permissions: which other projects may call a checkpoint."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import delete as delete_from
from sqlalchemy import insert, select

from luthier.core.lists import Page, PageQuery
from luthier.core.models import Permission
from luthier.core.projects import AuditEntry
from luthier.store import audit
from luthier.store.database import Database, Turn
from luthier.store.rows import columns, first, page, reader, write
from luthier.store.schema import checkpoint_permissions, projects

COLUMNS = columns(checkpoint_permissions, Permission)


def create(database: Database, permissions: Sequence[Permission], entries: Sequence[AuditEntry]) -> list[Permission]:
    """Grant, each with its line of the audit log; a project that was granted already keeps its row.

    Answers the rows that stand, in the order asked.
    """
    granted: list[Permission] = []
    with database.transaction() as connection:
        database.one_at_a_time(connection, Turn.PERMISSION)
        for permission, entry in zip(permissions, entries, strict=True):
            standing = select(*COLUMNS).where(
                checkpoint_permissions.c.checkpoint == permission.checkpoint,
                checkpoint_permissions.c.project_id == permission.project_id,
            )
            granted_before = first(connection, standing, reader(Permission))
            if granted_before is None:
                connection.execute(insert(checkpoint_permissions).values(**write(permission)))
                audit.add(connection, entry)
            granted.append(granted_before or permission)
    return granted


def unknown_projects(database: Database, organization_id: str, project_ids: Sequence[str]) -> list[str]:
    """Which of these are no projects of the organisation."""
    with database.read() as connection:
        known = set(
            connection.scalars(
                select(projects.c.id).where(
                    projects.c.organization_id == organization_id, projects.c.id.in_(project_ids)
                )
            )
        )
    return [project_id for project_id in project_ids if project_id not in known]


def list_page(
    database: Database, owner_project_id: str, checkpoint: str, query: PageQuery, *, project_id: str | None = None
) -> Page[Permission]:
    """Who may call the owner's checkpoint."""
    table = checkpoint_permissions
    return page(
        database,
        table,
        query,
        reader(Permission),
        selected=COLUMNS,
        owner=(table.c.owner_project_id == owner_project_id) & (table.c.checkpoint == checkpoint),
        where=[table.c.project_id == project_id] if project_id is not None else [],
    )


def delete(database: Database, owner_project_id: str, checkpoint: str, permission_id: str, entry: AuditEntry) -> bool:
    """Take a permission back. False when there is no such one."""
    statement = delete_from(checkpoint_permissions).where(
        checkpoint_permissions.c.id == permission_id,
        checkpoint_permissions.c.checkpoint == checkpoint,
        checkpoint_permissions.c.owner_project_id == owner_project_id,
    )
    with database.transaction() as connection:
        if connection.execute(statement).rowcount == 0:
            return False
        audit.add(connection, entry)
    return True
