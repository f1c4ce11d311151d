"""Bare completions as the engines ask for them: one prompt, several choices, whole or streamed. Knows no chat."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from luthier.core.json import JsonObject
from luthier.engines.base import Adapter

Wire = dict[str, Any]
"""A server's JSON, in llama.cpp's words, taken as it comes."""


@dataclass(frozen=True)
class Question:
    """A completion body wanted `count` times over; its choices are numbered from `first` on."""

    body: JsonObject
    count: int = 1
    first: int = 0


class Asker(Protocol):
    """Asks a server for completions, and makes tokens of texts as it does. Errors as those of an `Engine`."""

    async def ask(self, questions: Sequence[Question], adapter: Adapter | None) -> tuple[list[Wire], list[Wire]]:
        """All choices, by their numbers, and the usage of each choice or of each question."""
        ...

    def stream(
        self, questions: Sequence[Question], adapter: Adapter | None
    ) -> AsyncGenerator[tuple[Wire, Wire | None], None]:
        """Pieces of choices, each with its choice's or question's usage when it is the last."""
        ...

    async def ids_of(self, text: str, adapter: Adapter | None) -> list[int]:
        """The tokens of a prompt."""
        ...

    async def bytes_of(self, ids: Sequence[int]) -> list[bytes]:
        """The bytes of each token. Errors: `InvalidRequest` for a token that there is not."""
        ...
