"""Rows of webhook endpoints."""

from __future__ import annotations

from typing import TypedDict, Unpack

from sqlalchemy import delete as delete_from
from sqlalchemy import insert, select, update

from luthier.core.lists import Page, PageQuery
from luthier.core.webhooks import WebhookEndpoint
from luthier.store.database import Database
from luthier.store.rows import columns, page, read, write
from luthier.store.schema import webhook_endpoints as table

COLUMNS = columns(table, WebhookEndpoint)


class EndpointChanges(TypedDict, total=False):
    """What may change; what is absent stays."""

    name: str
    url: str
    event_types: list[str]
    secret: str
    old_secret: str | None
    old_secret_until: int | None
    updated_at: int


def create(database: Database, endpoint: WebhookEndpoint) -> None:
    """Add an endpoint."""
    with database.transaction() as connection:
        connection.execute(insert(table).values(**write(endpoint)))


def get(database: Database, project_id: str, endpoint_id: str) -> WebhookEndpoint | None:
    """The endpoint, unless another project's."""
    statement = select(*COLUMNS).where(table.c.id == endpoint_id, table.c.project_id == project_id)
    with database.read() as connection:
        row = connection.execute(statement).mappings().first()
    return read(WebhookEndpoint, row) if row else None


def list_page(database: Database, project_id: str, query: PageQuery) -> Page[WebhookEndpoint]:
    """The project's endpoints."""
    with database.read() as connection:
        rows, more = page(connection, table, query, selected=COLUMNS, owner=table.c.project_id == project_id)
    return Page([read(WebhookEndpoint, row) for row in rows], more)


def subscribed(database: Database, project_id: str, event_type: str) -> list[WebhookEndpoint]:
    """The project's endpoints that want an event. Projects have few endpoints: they are looked through."""
    with database.read() as connection:
        rows = connection.execute(select(*COLUMNS).where(table.c.project_id == project_id).order_by(table.c.pk))
        endpoints = [read(WebhookEndpoint, row) for row in rows.mappings()]
    return [endpoint for endpoint in endpoints if event_type in endpoint.event_types]


def change(
    database: Database, project_id: str, endpoint_id: str, **changes: Unpack[EndpointChanges]
) -> WebhookEndpoint | None:
    """Change an endpoint. None when there is none."""
    statement = (
        update(table)
        .where(table.c.id == endpoint_id, table.c.project_id == project_id)
        .values(**changes)
        .returning(*COLUMNS)
    )
    with database.transaction() as connection:
        row = connection.execute(statement).mappings().first()
    return read(WebhookEndpoint, row) if row else None


def delete(database: Database, project_id: str, endpoint_id: str) -> bool:
    """Remove an endpoint. False when there is none."""
    statement = delete_from(table).where(table.c.id == endpoint_id, table.c.project_id == project_id)
    with database.transaction() as connection:
        return connection.execute(statement).rowcount > 0
