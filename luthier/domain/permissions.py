"""Checkpoint permissions: which other projects of the organisation may call a tuned model."""

from __future__ import annotations

import time
from collections.abc import Sequence

from luthier.core.errors import InvalidRequest, NotFound
from luthier.core.ids import new_id
from luthier.core.json import JsonObject
from luthier.core.lists import Page, PageQuery
from luthier.core.models import Permission
from luthier.core.projects import AuditEntry, Caller
from luthier.domain.audit import entry
from luthier.domain.models import missing
from luthier.store import models, permissions
from luthier.store.database import Database


def create(database: Database, caller: Caller, checkpoint: str, project_ids: Sequence[str]) -> list[Permission]:
    """Let projects call the checkpoint. Errors: `NotFound`; `InvalidRequest` for a project that is not there."""
    owner = _owner(database, caller, checkpoint)
    unknown = permissions.unknown_projects(database, caller.organization_id, project_ids)
    if unknown:
        raise InvalidRequest(f"No such project: {unknown[0]}", code="invalid_value", param="project_ids")
    now = int(time.time())
    wanted = [
        Permission(new_id("permission"), checkpoint, owner, project_id, now)
        for project_id in dict.fromkeys(project_ids)
    ]
    return permissions.create(database, wanted, [_granted(caller, permission) for permission in wanted])


def list_page(
    database: Database, caller: Caller, checkpoint: str, query: PageQuery, *, project_id: str | None
) -> Page[Permission]:
    """Who may call the checkpoint. Errors: `NotFound`."""
    owner = _owner(database, caller, checkpoint)
    return permissions.list_page(database, owner, checkpoint, query, project_id=project_id)


def delete(database: Database, caller: Caller, checkpoint: str, permission_id: str) -> None:
    """Take a permission back. Errors: `NotFound`."""
    owner = _owner(database, caller, checkpoint)
    noted = entry(caller, owner, "checkpoint.permission.deleted", permission_id, {})
    if not permissions.delete(database, owner, checkpoint, permission_id, noted):
        raise NotFound(f"No such permission: {permission_id}", param="permission_id")


def _granted(caller: Caller, permission: Permission) -> AuditEntry:
    said: JsonObject = {"project_id": permission.project_id, "fine_tuned_model_checkpoint": permission.checkpoint}
    return entry(caller, permission.owner_project_id, "checkpoint.permission.created", permission.id, {"data": said})


def _owner(database: Database, caller: Caller, checkpoint: str) -> str:
    """The project whose checkpoint it is: the caller's, or any of the organisation for one who administers it."""
    if caller.administers:
        model = models.find_in_organization(database, checkpoint, caller.organization_id)
    else:
        model = models.find(database, checkpoint, caller.project_id)
    if model is None or not (caller.administers or model.project_id == caller.project_id):
        raise missing(checkpoint)
    return model.project_id
