"""API keys: made, listed, revoked, and who sent a request. A key is 256 random bits: plain SHA-256 hides it well."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable
from typing import Final

from luthier.core.errors import InvalidRequest, NotFound, Unauthenticated
from luthier.core.ids import new_id, random_text
from luthier.core.lists import Page, PageQuery
from luthier.core.projects import ALL_SCOPES, ApiKey, Caller, Project, Scope
from luthier.domain.audit import entry
from luthier.store import keys, projects
from luthier.store.database import Database

PREFIX: Final = "sk-luthier-"
KEY_CHARACTERS: Final = 43  # of 62: 256 bits


def ensure_project(database: Database, organization: str) -> Project:
    """The default project; made on the first run. The organisation takes the name that the settings give it."""
    project = Project(new_id("project"), new_id("organization"), organization, "Default project", int(time.time()))
    return projects.create_first(database, project, name=organization)


def ensure_key(database: Database, project: Project, preset: str | None) -> str | None:
    """Make sure that the project has a key: the preset one, or, on the first run, a new one, which is answered."""
    if preset is not None:
        _add(database, project, preset, name="Preset key")
        return None
    if keys.has_keys(database, project.id):
        return None
    key = _new_key()
    _add(database, project, key, name="First key")
    return key


def create(
    database: Database,
    caller: Caller,
    project: Project,
    *,
    name: str,
    scopes: Iterable[Scope],
    expires_in_s: int | None,
) -> tuple[ApiKey, str]:
    """A new key of a project: its row, and the key, which is shown this once.

    Errors: `InvalidRequest` for an archived project.
    """
    if project.archived_at is not None:
        raise InvalidRequest(f"Project {project.id} is archived.", code="invalid_value", param="project_id")
    key, now = _new_key(), int(time.time())
    expires_at = now + expires_in_s if expires_in_s is not None else None
    row = ApiKey(new_id("key"), project.id, name, key[-4:], frozenset(scopes), now, expires_at=expires_at)
    noted = entry(caller, project.id, "api_key.created", row.id, {"data": {"scopes": [*sorted(row.scopes)]}})
    keys.create(database, row, _sha256(key), noted)
    return row, key


def get(database: Database, caller: Caller, key_id: str, *, project_id: str | None = None) -> ApiKey:
    """A key of the organisation, or of one of its projects. Errors: `NotFound`."""
    key = keys.get(database, caller.organization_id, key_id)
    if key is None or (key.project_id != project_id if project_id is not None else "admin" not in key.scopes):
        raise NotFound(f"No such API key: {key_id}", code="not_found", param="key_id")
    return key


def list_page(database: Database, project_id: str, query: PageQuery) -> Page[ApiKey]:
    """A project's keys."""
    return keys.list_page(database, project_id, query)


def list_admin_page(database: Database, caller: Caller, query: PageQuery) -> Page[ApiKey]:
    """The organisation's keys with the scope `admin`."""
    return keys.list_admin_page(database, caller.organization_id, query)


def revoke(database: Database, caller: Caller, key: ApiKey) -> None:
    """End a key: from now on it opens nothing."""
    keys.revoke(database, key.id, entry(caller, key.project_id, "api_key.deleted", key.id, {}))


def authenticate(database: Database, key: str) -> Caller:
    """Who holds this key. Errors: `Unauthenticated` for one that is unknown, revoked or expired."""
    found = keys.find(database, _sha256(key))
    now = int(time.time())
    if found is None or found[0].revoked_at is not None or (found[0].expires_at or now + 1) <= now:
        shown = f"{key[:3]}***{key[-4:]}" if len(key) > 12 else "***"
        raise Unauthenticated(
            f"Incorrect API key provided: {shown}. The server printed its first key when it first started, and "
            "keeps it in the file api_key of its data folder.",
            code="invalid_api_key",
        )
    row, project = found
    if project.archived_at is not None:
        raise Unauthenticated(
            f"The project of this API key, {project.id}, is archived; use a key of another project.",
            code="project_archived",
        )
    return Caller(project.id, project.organization_id, project.organization, row.id, row.scopes)


def note_use(database: Database, key_id: str) -> None:
    """Write down that a key was used now."""
    keys.used(database, key_id, now=int(time.time()))


def _add(database: Database, project: Project, key: str, *, name: str) -> None:
    row = ApiKey(new_id("key"), project.id, name, key[-4:], ALL_SCOPES, int(time.time()))
    keys.create(database, row, _sha256(key))


def _new_key() -> str:
    return PREFIX + random_text(KEY_CHARACTERS)


def _sha256(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()
