"""What is to be done after a commit: a row beside the change that it follows from. Knows no HTTP, no SMTP."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from luthier.core.json import JsonObject

Kind = Literal["webhook", "mail", "verdict"]


@dataclass(frozen=True)
class OutboxItem:
    """One thing to tell, or a verdict to find.

    `id` is the receiver's means to tell a repeat from news; it never changes between attempts."""

    id: str
    project_id: str
    kind: Kind
    event_type: str
    payload: JsonObject
    created_at: int
