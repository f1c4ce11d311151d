"""What is to be sent after a commit: a row beside the change that it tells of. Knows no HTTP, no SMTP."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from luthier.core.json import JsonObject


@dataclass(frozen=True)
class OutboxItem:
    """One thing to tell. `id` is the receiver's means to tell a repeat from news; it never changes between attempts."""

    id: str
    project_id: str
    kind: Literal["webhook", "mail"]
    event_type: str
    payload: JsonObject
    created_at: int
