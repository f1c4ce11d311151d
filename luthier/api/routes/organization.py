"""`/v1/organization`: projects, keys and the audit log, for keys with the scope `admin`."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse

from luthier.api.auth import Admin, ThePlatform
from luthier.api.invalid import validate
from luthier.api.json_route import JsonRoute
from luthier.api.wire.base import Deleted, ListedEnds, Ordered, documented_query
from luthier.api.wire.organization import (
    AdminKeyAnswer,
    AuditQuery,
    CreateAdminKey,
    CreateProject,
    CreateProjectKey,
    NewAdminKey,
    NewProjectKey,
    ProjectAnswer,
    ProjectKeyAnswer,
    ProjectKeyQuery,
    ProjectQuery,
    UpdateProject,
    access_to,
    audit_answer,
)
from luthier.core.json import JsonObject
from luthier.core.projects import DEFAULT_SCOPES
from luthier.domain import audit, keys, projects

router = APIRouter(prefix="/organization", tags=["organization"], route_class=JsonRoute)


@router.post("/projects", operation_id="create-project")
def create_project(platform: ThePlatform, caller: Admin, body: CreateProject) -> ProjectAnswer:
    """Make a project."""
    return ProjectAnswer.of(projects.create(platform.database, caller, body.name))


@router.get("/projects", operation_id="list-projects")
def list_projects(
    platform: ThePlatform, caller: Admin, query: Annotated[ProjectQuery, Query()]
) -> ListedEnds[ProjectAnswer]:
    """List projects, newest first."""
    page = projects.list_page(platform.database, caller, query.wanted, archived=query.include_archived)
    return ListedEnds.of([ProjectAnswer.of(project) for project in page.items], page.has_more)


@router.get("/projects/{project_id}", operation_id="retrieve-project")
def retrieve_project(platform: ThePlatform, caller: Admin, project_id: str) -> ProjectAnswer:
    """One project."""
    return ProjectAnswer.of(projects.get(platform.database, caller, project_id))


@router.post("/projects/{project_id}", operation_id="modify-project")
def rename_project(platform: ThePlatform, caller: Admin, project_id: str, body: UpdateProject) -> ProjectAnswer:
    """Give a project another name."""
    if body.name is None:
        return ProjectAnswer.of(projects.get(platform.database, caller, project_id))
    return ProjectAnswer.of(projects.rename(platform.database, caller, project_id, body.name))


@router.post("/projects/{project_id}/archive", operation_id="archive-project")
def archive_project(platform: ThePlatform, caller: Admin, project_id: str) -> ProjectAnswer:
    """End a project; what it has stays."""
    return ProjectAnswer.of(projects.archive(platform, caller, project_id))


@router.post("/projects/{project_id}/api_keys", operation_id="create-project-api-key")
def create_project_key(platform: ThePlatform, caller: Admin, project_id: str, body: CreateProjectKey) -> NewProjectKey:
    """Make a project's key; OpenAI has no such operation, its keys are made in the dashboard."""
    project = projects.get(platform.database, caller, project_id)
    key, value = keys.create(
        platform.database,
        caller,
        project,
        name=body.name,
        scopes=body.scopes or DEFAULT_SCOPES,
        expires_in_s=body.expires_in_seconds,
    )
    return NewProjectKey(**ProjectKeyAnswer.of(key, access_to(project)).model_dump(), value=value)


@router.get("/projects/{project_id}/api_keys", operation_id="list-project-api-keys")
def list_project_keys(
    platform: ThePlatform, caller: Admin, project_id: str, query: Annotated[ProjectKeyQuery, Query()]
) -> ListedEnds[ProjectKeyAnswer]:
    """List a project's keys, newest first."""
    access = access_to(projects.get(platform.database, caller, project_id))
    if query.owner_project_access not in {access, "any"}:
        return ListedEnds.of([], False)
    page = keys.list_page(platform.database, project_id, query.wanted)
    return ListedEnds.of([ProjectKeyAnswer.of(key, access) for key in page.items], page.has_more)


@router.get("/projects/{project_id}/api_keys/{api_key_id}", operation_id="retrieve-project-api-key")
def retrieve_project_key(platform: ThePlatform, caller: Admin, project_id: str, api_key_id: str) -> ProjectKeyAnswer:
    """One key of a project."""
    access = access_to(projects.get(platform.database, caller, project_id))
    return ProjectKeyAnswer.of(keys.get(platform.database, caller, api_key_id, project_id=project_id), access)


@router.delete("/projects/{project_id}/api_keys/{api_key_id}", operation_id="delete-project-api-key")
def delete_project_key(platform: ThePlatform, caller: Admin, project_id: str, api_key_id: str) -> Deleted:
    """Revoke a project's key."""
    key = keys.get(platform.database, caller, api_key_id, project_id=project_id)
    keys.revoke(platform.database, caller, key)
    return Deleted(id=key.id, object="organization.project.api_key.deleted")


@router.post("/admin_api_keys", operation_id="admin-api-keys-create")
def create_admin_key(platform: ThePlatform, caller: Admin, body: CreateAdminKey) -> NewAdminKey:
    """Make a key that administers the organisation and does nothing else."""
    key, value = keys.create(
        platform.database,
        caller,
        platform.project,
        name=body.name,
        scopes=["admin"],
        expires_in_s=body.expires_in_seconds,
    )
    return NewAdminKey(**AdminKeyAnswer.of(key).model_dump(), value=value)


@router.get("/admin_api_keys", operation_id="admin-api-keys-list")
def list_admin_keys(
    platform: ThePlatform, caller: Admin, query: Annotated[Ordered, Query()]
) -> ListedEnds[AdminKeyAnswer]:
    """List keys with the scope `admin`, oldest first."""
    page = keys.list_admin_page(platform.database, caller, query.wanted)
    return ListedEnds.of([AdminKeyAnswer.of(key) for key in page.items], page.has_more)


@router.get("/admin_api_keys/{key_id}", operation_id="admin-api-keys-get")
def retrieve_admin_key(platform: ThePlatform, caller: Admin, key_id: str) -> AdminKeyAnswer:
    """One admin key."""
    return AdminKeyAnswer.of(keys.get(platform.database, caller, key_id))


@router.delete("/admin_api_keys/{key_id}", operation_id="admin-api-keys-delete")
def delete_admin_key(platform: ThePlatform, caller: Admin, key_id: str) -> Deleted:
    """Revoke an admin key."""
    keys.revoke(platform.database, caller, keys.get(platform.database, caller, key_id))
    return Deleted(id=key_id, object="organization.admin_api_key.deleted")


@router.get("/audit_logs", operation_id="list-audit-logs", openapi_extra=documented_query(AuditQuery))
def list_audit_logs(request: Request, platform: ThePlatform, caller: Admin) -> JSONResponse:
    """What administrators did, newest first."""
    given = request.query_params
    fields: dict[str, object] = {n: given.getlist(n) if n.endswith("[]") else given[n] for n in given}
    bounds = {name: fields.pop(name) for name in list(fields) if name.startswith("effective_at[")}
    if bounds:
        fields["effective_at"] = {name[len("effective_at[") : -1]: value for name, value in bounds.items()}
    query = validate(AuditQuery, fields)
    page = audit.list_page(platform.database, caller, query.wanted, query.to_filter())
    data: list[JsonObject] = [audit_answer(entry) for entry in page.items]
    ends = {"first_id": data[0]["id"] if data else None, "last_id": data[-1]["id"] if data else None}
    return JSONResponse({"object": "list", "data": data, "has_more": page.has_more, **ends})
