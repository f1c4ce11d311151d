"""The one Protocol of whatever answers questions: llama.cpp in a child process, vLLM, a remote server, `echo` in tests.

An engine speaks OpenAI's wire JSON, because each real one does. It knows no projects, no names beyond the base, no
database.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from datetime import date
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

    async def tokenize(self, body: JsonObject, adapter: Adapter | None, today: date | None = None) -> list[int]:
        """The token ids that the engine would feed the model for a chat body, on the day `today`, which some chat
        templates tell, or when it is asked: what the parity certificate compares."""
        ...

    @property
    def memory_bytes(self) -> int:
        """What its children take of this machine's memory, about, or will take when they start."""
        ...

    @property
    def awake(self) -> bool:
        """Whether there are children."""
        ...

    def rest(self) -> None:
        """End children that nobody asks; the next question starts one anew."""
        ...

    async def close(self) -> None:
        """Stop children, finish nothing."""
        ...


class Elsewhere:
    """Of an engine that takes no memory of this machine: all of an `Engine` that has to do with that."""

    memory_bytes = 0
    awake = False

    def rest(self) -> None:
        """Nothing: there are no children."""
