"""Projects, keys, and who is asking. Knows no HTTP header and no database."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

Scope = Literal["read", "tune", "infer", "admin"]
ALL_SCOPES: Final[frozenset[Scope]] = frozenset({"read", "tune", "infer", "admin"})


@dataclass(frozen=True)
class Project:
    """What objects belong to. The organisation's name is the ORG in `ft:BASE:ORG:SUFFIX:ID`."""

    id: str
    organization_id: str
    organization: str
    name: str
    created_at: int


@dataclass(frozen=True)
class ApiKey:
    """A key's row; the key itself is kept nowhere. `hint` is its last four characters."""

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
