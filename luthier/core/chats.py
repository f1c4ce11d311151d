"""A chat completion that is kept because its request said `store`. Knows no database."""

from __future__ import annotations

from dataclasses import dataclass

from luthier.core.json import JsonObject


@dataclass(frozen=True)
class StoredChat:
    """`answer` is what was sent back, `messages` what was asked; both as on the wire."""

    id: str
    project_id: str
    created_at: int
    model: str
    metadata: dict[str, str]
    messages: list[JsonObject]
    answer: JsonObject
