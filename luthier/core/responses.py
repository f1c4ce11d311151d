"""A response that is kept. Knows no database.

    queued → in_progress → completed | incomplete | failed | cancelled

Only those that run in the background are kept before they end.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from luthier.core.json import JsonObject

ResponseStatus = Literal["queued", "in_progress", "completed", "incomplete", "failed", "cancelled"]

FINAL: Final[frozenset[ResponseStatus]] = frozenset({"completed", "incomplete", "failed", "cancelled"})


@dataclass(frozen=True)
class StoredResponse:
    """`input` are the items that were put in with this response; `answer` is the response as on the wire."""

    id: str
    project_id: str
    created_at: int
    status: ResponseStatus
    previous_response_id: str | None
    input: list[JsonObject]
    answer: JsonObject
