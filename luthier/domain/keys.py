"""API keys: the first one, and who sent a request. A key is 256 random bits, so plain SHA-256 hides it well."""

from __future__ import annotations

import hashlib
import time
from typing import Final

from luthier.core.errors import Unauthenticated
from luthier.core.ids import new_id, random_text
from luthier.core.projects import ALL_SCOPES, ApiKey, Caller, Project
from luthier.store import keys
from luthier.store.database import Database

PREFIX: Final = "sk-luthier-"
KEY_CHARACTERS: Final = 43  # of 62: 256 bits
# A key's last use is written down no more often than this.
USE_NOTED_EVERY_S: Final = 60


def ensure_project(database: Database, organization: str) -> Project:
    """The default project; made on the first run. The organisation takes the name that the settings give it."""
    project = Project(new_id("project"), new_id("organization"), organization, "Default project", int(time.time()))
    return keys.create_first(database, project, name=organization)


def ensure_key(database: Database, project: Project, preset: str | None) -> str | None:
    """Make sure that the project has a key: the preset one, or, on the first run, a new one, which is answered."""
    if preset is not None:
        _add(database, project, preset, name="Preset key")
        return None
    if keys.has_keys(database, project.id):
        return None
    key = PREFIX + random_text(KEY_CHARACTERS)
    _add(database, project, key, name="First key")
    return key


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
    if (row.last_used_at or 0) + USE_NOTED_EVERY_S < now:
        keys.used(database, row.id, now=now)
    return Caller(project.id, project.organization_id, project.organization, row.id, row.scopes)


def _add(database: Database, project: Project, key: str, *, name: str) -> None:
    row = ApiKey(new_id("key"), project.id, name, key[-4:], ALL_SCOPES, int(time.time()))
    keys.create_key(database, row, _sha256(key))


def _sha256(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()
