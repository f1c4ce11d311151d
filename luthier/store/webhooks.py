"""Rows of webhook endpoints. Their secrets are encrypted here, and nowhere else."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Final, TypedDict, Unpack

from sqlalchemy import RowMapping, insert, select, update
from sqlalchemy import delete as delete_from

from luthier.core.lists import Page, PageQuery
from luthier.core.webhooks import WebhookEndpoint
from luthier.store.database import Database
from luthier.store.rows import columns, found, listed, page, read, returned, write
from luthier.store.schema import webhook_endpoints as table

COLUMNS = columns(table, WebhookEndpoint)
SECRET: Final = ("secret", "old_secret")


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
        connection.execute(insert(table).values(**_hidden(database, write(endpoint))))


def get(database: Database, project_id: str, endpoint_id: str) -> WebhookEndpoint | None:
    """The endpoint, unless another project's."""
    statement = select(*COLUMNS).where(table.c.id == endpoint_id, table.c.project_id == project_id)
    return found(database, statement, partial(_read, database))


def list_page(database: Database, project_id: str, query: PageQuery) -> Page[WebhookEndpoint]:
    """The project's endpoints."""
    return page(
        database, table, query, partial(_read, database), selected=COLUMNS, owner=table.c.project_id == project_id
    )


def subscribed(database: Database, project_id: str, event_type: str) -> list[WebhookEndpoint]:
    """The project's endpoints that want an event. Projects have few endpoints: they are looked through."""
    statement = select(*COLUMNS).where(table.c.project_id == project_id).order_by(table.c.pk)
    endpoints = listed(database, statement, partial(_read, database))
    return [endpoint for endpoint in endpoints if event_type in endpoint.event_types]


def change(
    database: Database, project_id: str, endpoint_id: str, **changes: Unpack[EndpointChanges]
) -> WebhookEndpoint | None:
    """Change an endpoint. None when there is none."""
    statement = (
        update(table)
        .where(table.c.id == endpoint_id, table.c.project_id == project_id)
        .values(**_hidden(database, changes))
        .returning(*COLUMNS)
    )
    return returned(database, statement, partial(_read, database))


def delete(database: Database, project_id: str, endpoint_id: str) -> bool:
    """Remove an endpoint. False when there is none."""
    statement = delete_from(table).where(table.c.id == endpoint_id, table.c.project_id == project_id)
    with database.transaction() as connection:
        return connection.execute(statement).rowcount > 0


def encrypt_again(database: Database) -> int:
    """Encrypt all secrets by the newest key; how many endpoints have some."""
    with database.transaction() as connection:
        rows = list(connection.execute(select(table.c.pk, table.c.secret, table.c.old_secret)).mappings())
        for row in rows:
            shown = {name: database.secrets.show(row[name]) if row[name] else None for name in SECRET}
            values = _hidden(database, shown)
            connection.execute(update(table).where(table.c.pk == row["pk"]).values(**values))
    return len(rows)


def _read(database: Database, row: RowMapping) -> WebhookEndpoint:
    shown = {name: database.secrets.show(row[name]) if row[name] else None for name in SECRET}
    return read(WebhookEndpoint, {**row, **shown})


def _hidden(database: Database, values: Mapping[str, Any]) -> dict[str, Any]:
    hidden = {name: database.secrets.hide(values[name]) for name in SECRET if values.get(name)}
    return {**values, **hidden}
