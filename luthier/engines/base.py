"""The one Protocol of whatever answers questions: llama.cpp in a child process, vLLM, a remote server, `echo` in tests.

An engine speaks OpenAI's wire JSON, because each real one does. It knows no projects, no names beyond the base, no
database.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from luthier.core.json import JsonObject

Endpoint = Literal["chat/completions", "completions", "embeddings"]


@dataclass(frozen=True)
class Adapter:
    """A LoRA to apply: `id` is never reused (a reused one would meet a stale prefix cache); `path` is a PEFT folder."""

    id: str
    path: Path


class Engine(Protocol):
    """Answers for one base model, with any adapter of that base.

    Errors: `InvalidRequest` for a body that the engine refuses (in its words), `Unavailable` when it is down or full.
    """

    async def answer(self, endpoint: Endpoint, body: JsonObject, adapter: Adapter | None) -> JsonObject:
        """The whole answer. Cancelling the call stops the generation."""
        ...

    def stream(self, endpoint: Endpoint, body: JsonObject, adapter: Adapter | None) -> AsyncGenerator[JsonObject, None]:
        """The answer's chunks, usage chunk last; `[DONE]` is not among them. Closing the iterator stops the
        generation."""
        ...

    async def tokenize(self, body: JsonObject, adapter: Adapter | None) -> list[int]:
        """The token ids that the engine would feed the model for a chat body: what the parity certificate compares."""
        ...

    async def close(self) -> None:
        """Stop children, finish nothing."""
        ...
