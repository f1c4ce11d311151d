"""Rows of the audit log, added inside the transaction of what they tell of."""

from __future__ import annotations

from sqlalchemy import Connection, insert
from sqlalchemy.sql.elements import ColumnElement

from luthier.core.lists import Page, PageQuery
from luthier.core.projects import AuditEntry, AuditFilter
from luthier.store.database import Database
from luthier.store.rows import columns, page, reader, write
from luthier.store.schema import audit_logs as table


def add(connection: Connection, *entries: AuditEntry) -> None:
    """Write down what is done in this transaction."""
    if entries:
        connection.execute(insert(table), [write(entry) for entry in entries])


def list_page(database: Database, organization_id: str, query: PageQuery, wanted: AuditFilter) -> Page[AuditEntry]:
    """The organisation's entries."""
    where: list[ColumnElement[bool]] = []
    for column, accepted in (
        (table.c.type, wanted.types),
        (table.c.project_id, wanted.project_ids),
        (table.c.key_id, wanted.key_ids),
        (table.c.resource_id, wanted.resource_ids),
    ):
        if accepted:
            where.append(column.in_(accepted))
    if wanted.since is not None:
        where.append(table.c.created_at >= wanted.since)
    if wanted.until is not None:
        where.append(table.c.created_at <= wanted.until)
    owner = table.c.organization_id == organization_id
    return page(
        database, table, query, reader(AuditEntry), selected=columns(table, AuditEntry), owner=owner, where=where
    )
