"""The audit log: who did what to keys, projects and permissions. Each line rides in the commit of what it tells of."""

from __future__ import annotations

import time

from luthier.core.ids import new_id
from luthier.core.json import JsonObject
from luthier.core.lists import Page, PageQuery
from luthier.core.projects import AuditEntry, AuditFilter, Caller
from luthier.store import audit
from luthier.store.database import Database


def list_page(database: Database, caller: Caller, query: PageQuery, wanted: AuditFilter) -> Page[AuditEntry]:
    """What administrators did, newest first."""
    return audit.list_page(database, caller.organization_id, query, wanted)


def entry(caller: Caller, project_id: str, event_type: str, resource_id: str, data: JsonObject) -> AuditEntry:
    """A line for the audit log. `data` is what OpenAI's log says of such an event beside the resource's id."""
    return AuditEntry(
        id=new_id("audit"),
        organization_id=caller.organization_id,
        project_id=project_id,
        key_id=caller.key_id,
        type=event_type,
        resource_id=resource_id,
        data=data,
        created_at=int(time.time()),
    )
