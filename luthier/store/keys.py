"""Rows of API keys. Keys are known by their SHA-256 alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import ColumnElement, Text, bindparam, cast, insert, select, update

from luthier.core.lists import Page, PageQuery
from luthier.core.projects import ApiKey, AuditEntry, Project
from luthier.store import audit
from luthier.store import projects as project_rows
from luthier.store.database import Database, Turn
from luthier.store.glance import Glance
from luthier.store.rows import columns, found, page, read, write
from luthier.store.schema import api_keys, projects

COLUMNS = columns(api_keys, ApiKey)
_ADMIN: ColumnElement[bool] = cast(api_keys.c.scopes, Text).like('%"admin"%')


def create(database: Database, key: ApiKey, sha256: str, entry: AuditEntry | None = None) -> bool:
    """Add a key. False, and nothing changes, when a key of this hash is there already."""
    with database.transaction() as connection:
        database.one_at_a_time(connection, Turn.KEY)
        if connection.scalar(select(api_keys.c.pk).where(api_keys.c.sha256 == sha256)) is not None:
            return False
        connection.execute(insert(api_keys).values({**write(key), "scopes": sorted(key.scopes), "sha256": sha256}))
        if entry is not None:
            audit.add(connection, entry)
    return True


def has_keys(database: Database, project_id: str) -> bool:
    """Whether the project ever had a key."""
    with database.read() as connection:
        return connection.scalar(select(api_keys.c.pk).where(api_keys.c.project_id == project_id).limit(1)) is not None


# Every request asks this.
_BY_HASH: Final = Glance(
    select(*COLUMNS, *(column.label(f"of_{column.name}") for column in project_rows.COLUMNS))
    .select_from(api_keys.join(project_rows.SOURCE, projects.c.id == api_keys.c.project_id))
    .where(api_keys.c.sha256 == bindparam("hash"))
)


def find(database: Database, sha256: str) -> tuple[ApiKey, Project] | None:
    """The key of this hash, whatever its state, and its project."""
    row = database.glance(_BY_HASH, {"hash": sha256})
    if row is None:
        return None
    return _key(row), read(Project, {column.name: row[f"of_{column.name}"] for column in project_rows.COLUMNS})


def list_page(database: Database, project_id: str, query: PageQuery) -> Page[ApiKey]:
    """The project's keys that are not revoked."""
    return _page(database, query, api_keys.c.project_id == project_id)


def list_admin_page(database: Database, organization_id: str, query: PageQuery) -> Page[ApiKey]:
    """The organisation's keys with the scope `admin` that are not revoked."""
    return _page(database, query, _of(organization_id) & _ADMIN)


def get(database: Database, organization_id: str, key_id: str) -> ApiKey | None:
    """The organisation's key, unless it was revoked."""
    statement = select(*COLUMNS).where(api_keys.c.id == key_id, _of(organization_id), api_keys.c.revoked_at.is_(None))
    return found(database, statement, _key)


def revoke(database: Database, key_id: str, entry: AuditEntry) -> bool:
    """End a key. False when it was revoked already."""
    statement = update(api_keys).where(api_keys.c.id == key_id, api_keys.c.revoked_at.is_(None))
    with database.transaction() as connection:
        if connection.execute(statement.values(revoked_at=entry.created_at)).rowcount == 0:
            return False
        audit.add(connection, entry)
    return True


def used(database: Database, key_id: str, *, now: int) -> None:
    """The key was used."""
    with database.transaction() as connection:
        connection.execute(update(api_keys).where(api_keys.c.id == key_id).values(last_used_at=now))


def _of(organization_id: str) -> ColumnElement[bool]:
    return api_keys.c.project_id.in_(select(projects.c.id).where(projects.c.organization_id == organization_id))


def _page(database: Database, query: PageQuery, owner: ColumnElement[bool]) -> Page[ApiKey]:
    return page(database, api_keys, query, _key, selected=COLUMNS, owner=owner, where=[api_keys.c.revoked_at.is_(None)])


def _key(row: Mapping[Any, Any]) -> ApiKey:
    return read(ApiKey, {**row, "scopes": frozenset(row["scopes"])})
