"""Projects, keys, and who is asking. Knows no HTTP header and no database."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from luthier.core.json import JsonObject

Scope = Literal["read", "tune", "infer", "admin"]
ALL_SCOPES: Final[frozenset[Scope]] = frozenset({"read", "tune", "infer", "admin"})
DEFAULT_SCOPES: Final = ALL_SCOPES - {"admin"}


@dataclass(frozen=True)
class Project:
    """What objects belong to. The organisation's name is the ORG in `ft:BASE:ORG:SUFFIX:ID`."""

    id: str
    organization_id: str
    organization: str
    name: str
    created_at: int
    archived_at: int | None = None


@dataclass(frozen=True)
class ApiKey:
    """A key's row; the key itself is kept nowhere. `hint` is its last four characters.

    With the scope `admin` it is one of the organisation's admin keys, whatever project it belongs to.
    """

    id: str
    project_id: str
    name: str
    hint: str
    scopes: frozenset[Scope]
    created_at: int
    last_used_at: int | None = None
    expires_at: int | None = None
    revoked_at: int | None = None


@dataclass(frozen=True)
class Caller:
    """Who sent a request, as its key says."""

    project_id: str
    organization_id: str
    organization: str
    key_id: str
    scopes: frozenset[Scope]

    @property
    def administers(self) -> bool:
        """Whether the key does nothing else, and so stands for the organisation instead of a project."""
        return self.scopes == {"admin"}


@dataclass(frozen=True)
class AuditEntry:
    """Who did what to keys, projects and permissions. `type` is OpenAI's, `resource_id` what it was done to."""

    id: str
    organization_id: str
    project_id: str
    key_id: str
    type: str
    resource_id: str
    data: JsonObject
    created_at: int


@dataclass(frozen=True)
class AuditFilter:
    """Which entries of the audit log; an empty sequence is no filter. Times are seconds, both ends included."""

    types: Sequence[str] = ()
    project_ids: Sequence[str] = ()
    key_ids: Sequence[str] = ()
    resource_ids: Sequence[str] = ()
    since: int | None = None
    until: int | None = None
