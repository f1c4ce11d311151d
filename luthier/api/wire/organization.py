"""Projects, keys and the audit log on the wire."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from luthier.api.wire.base import Answer, Body, Identified, Paged, Unsupported
from luthier.core.json import JsonObject
from luthier.core.projects import ApiKey, AuditEntry, AuditFilter, Project, Scope

Name = Annotated[str, Field(min_length=1, max_length=256)]
Lifetime = Annotated[int, Field(ge=1, le=31_536_000)]
Access = Literal["active", "inactive"]


class CreateProject(Body):
    """A project to be made."""

    name: Name
    residency: Annotated[str | None, Unsupported(why="data stays on this server")] = None
    external_key_id: Annotated[str | None, Unsupported()] = None


class UpdateProject(Body):
    """What should change."""

    name: Name | None = None
    external_key_id: Annotated[str | None, Unsupported()] = None


class ProjectQuery(Paged):
    """Which projects to list."""

    include_archived: bool = False


class ProjectAnswer(Identified):
    """A project."""

    object: Literal["organization.project"] = "organization.project"
    name: str
    created_at: int
    archived_at: int | None
    status: Literal["active", "archived"]

    @staticmethod
    def of(project: Project) -> ProjectAnswer:
        """The project on the wire."""
        return ProjectAnswer(
            id=project.id,
            name=project.name,
            created_at=project.created_at,
            archived_at=project.archived_at,
            status="active" if project.archived_at is None else "archived",
        )


class CreateAdminKey(Body):
    """An admin key to be made."""

    name: Name
    expires_in_seconds: Lifetime | None = None


class AdminKeyOwner(Answer):
    """Whom a key stands for: itself, as this server has no users."""

    type: Literal["service_account"] = "service_account"
    object: Literal["organization.service_account"] = "organization.service_account"
    id: str
    name: str
    created_at: int
    role: Literal["owner"] = "owner"


class AdminKeyAnswer(Identified):
    """A key with the scope `admin`."""

    object: Literal["organization.admin_api_key"] = "organization.admin_api_key"
    name: str
    redacted_value: str
    created_at: int
    expires_at: int | None
    last_used_at: int | None
    owner: AdminKeyOwner

    @staticmethod
    def of(key: ApiKey) -> AdminKeyAnswer:
        """The key on the wire."""
        return AdminKeyAnswer(
            id=key.id,
            name=key.name,
            redacted_value=_redacted(key),
            created_at=key.created_at,
            expires_at=key.expires_at,
            last_used_at=key.last_used_at,
            owner=AdminKeyOwner(id=key.id, name=key.name, created_at=key.created_at),
        )


class NewAdminKey(AdminKeyAnswer):
    """An admin key, and the key itself, shown this once."""

    value: str


class CreateProjectKey(Body):
    """A project's key to be made; OpenAI's own way is a service account."""

    name: Name
    scopes: Annotated[list[Scope] | None, Field(min_length=1)] = None
    expires_in_seconds: Lifetime | None = None


class ProjectKeyQuery(Paged):
    """Which of a project's keys to list."""

    owner_project_access: Literal["active", "inactive", "any"] = "any"


class ServiceAccount(Answer):
    """Whom a project's key stands for: itself."""

    id: str
    name: str
    created_at: int
    role: Literal["member"] = "member"


class ProjectKeyOwner(Answer):
    """The owner of a project's key."""

    type: Literal["service_account"] = "service_account"
    service_account: ServiceAccount


class ProjectKeyAnswer(Identified):
    """A project's key. `scopes` is ours."""

    object: Literal["organization.project.api_key"] = "organization.project.api_key"
    name: str
    redacted_value: str
    scopes: list[Scope]
    created_at: int
    expires_at: int | None
    last_used_at: int | None
    owner: ProjectKeyOwner
    owner_project_access: Access

    @staticmethod
    def of(key: ApiKey, access: Access) -> ProjectKeyAnswer:
        """The key on the wire."""
        return ProjectKeyAnswer(
            id=key.id,
            name=key.name,
            redacted_value=_redacted(key),
            scopes=sorted(key.scopes),
            created_at=key.created_at,
            expires_at=key.expires_at,
            last_used_at=key.last_used_at,
            owner=ProjectKeyOwner(service_account=ServiceAccount(id=key.id, name=key.name, created_at=key.created_at)),
            owner_project_access=access,
        )


class NewProjectKey(ProjectKeyAnswer):
    """A project's key, and the key itself, shown this once."""

    value: str


class AuditQuery(Paged):
    """Which lines of the audit log to list, newest first."""

    before: Annotated[str | None, Unsupported(why="page on with after")] = None
    effective_at: dict[Literal["gt", "gte", "lt", "lte"], int] = Field(default_factory=dict)
    project_ids: list[str] = Field([], alias="project_ids[]")
    event_types: list[str] = Field([], alias="event_types[]")
    actor_ids: list[str] = Field([], alias="actor_ids[]")
    actor_emails: Annotated[list[str] | None, Unsupported(why="keys have no mail")] = Field(
        None, alias="actor_emails[]"
    )
    resource_ids: list[str] = Field([], alias="resource_ids[]")
    tenant_only: Annotated[bool | None, Unsupported(but=(False,))] = None

    def to_filter(self) -> AuditFilter:
        """The query as the store asks it; whole seconds, so that `gt` is `gte` one later."""
        at = self.effective_at
        since = [at[name] + step for name, step in (("gt", 1), ("gte", 0)) if name in at]
        until = [at[name] - step for name, step in (("lt", 1), ("lte", 0)) if name in at]
        return AuditFilter(
            types=self.event_types,
            project_ids=self.project_ids,
            key_ids=self.actor_ids,
            resource_ids=self.resource_ids,
            since=max(since, default=None),
            until=min(until, default=None),
        )


def audit_answer(entry: AuditEntry) -> JsonObject:
    """A line of the audit log on the wire: its details stand under its own type."""
    return {
        "id": entry.id,
        "type": entry.type,
        "effective_at": entry.created_at,
        "project": {"id": entry.project_id},
        "actor": {
            "type": "api_key",
            "api_key": {"id": entry.key_id, "type": "service_account", "service_account": {"id": entry.key_id}},
        },
        entry.type: {"id": entry.resource_id, **entry.data},
    }


def access_to(project: Project) -> Access:
    """Whether a project's keys open anything."""
    return "active" if project.archived_at is None else "inactive"


def _redacted(key: ApiKey) -> str:
    return f"sk-…{key.hint}"
