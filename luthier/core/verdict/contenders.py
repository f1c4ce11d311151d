"""Who is compared and on what: rows with the reply that is wanted, contenders, and what they answered."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal, Protocol

from luthier.core.json import JsonObject

Role = Literal["stock", "prompt", "few-shot", "tuned", "checkpoint", "teacher"]
PROMPTED: Final = frozenset({"stock", "prompt", "few-shot"})  # the base, and what it is told

INSTRUCTIONS: Final = frozenset({"system", "developer"})
# More examples than these are in nobody's prompt, and they would have to be read before the first answer.
MOST_EXAMPLES: Final = 100
MOST_CHARACTERS: Final = 16_000


@dataclass(frozen=True)
class Row:
    """A chat up to its last reply, and that reply: the reference, None where nobody wrote one."""

    messages: tuple[JsonObject, ...]
    reference: str | None = None
    tools: tuple[JsonObject, ...] = ()

    @property
    def characters(self) -> int:
        """How long it is, its tools included."""
        return sum(len(json.dumps(part, ensure_ascii=False)) for part in (*self.messages, *self.tools))


@dataclass(frozen=True)
class Reply:
    """One answer and what it took. `cached_tokens` are part of the prompt's; `cut`: it was longer than allowed."""

    text: str
    latency_ms: float
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0
    cut: bool = False


@dataclass(frozen=True)
class Contender:
    """Who answers: a model, the examples that go before each question, and instructions in place of the row's own."""

    role: Role
    model: str
    examples: tuple[Row, ...] = ()
    system: str | None = None

    @property
    def label(self) -> str:
        """What people call it."""
        if self.role == "prompt":
            return "stock with your prompt"
        if self.role == "few-shot":
            return f"stock with {len(self.examples)} examples in its prompt"
        if self.role == "checkpoint":
            return f"checkpoint {self.model.rpartition('-')[2]}"
        return self.role

    def messages(self, row: Row) -> list[JsonObject]:
        """The whole prompt: the row's instructions, the examples as a chat, the row."""
        system = [m for m in row.messages if m["role"] in INSTRUCTIONS]
        if self.system is not None:
            system = [{"role": "system", "content": self.system}]
        rest = [m for m in row.messages if m["role"] not in INSTRUCTIONS]
        shown: list[JsonObject] = []
        for example in self.examples:
            shown += [m for m in example.messages if m["role"] not in INSTRUCTIONS]
            shown.append({"role": "assistant", "content": example.reference})
        return [*system, *shown, *rest]


class Ask(Protocol):
    """Puts a row to a contender, at temperature 0. Errors: `TooLong` when its context does not hold the prompt."""

    def __call__(self, contender: Contender, row: Row, *, limit_tokens: int) -> Reply: ...


class TooLong(Exception):
    """A prompt is longer than the model's context: that of `row`, where it is known."""

    row: Row | None = None


def row_of(messages: Sequence[JsonObject], tools: Sequence[JsonObject] = ()) -> Row | None:
    """A chat as a row; None where its last message is no reply in plain text."""
    if not messages or messages[-1]["role"] != "assistant" or messages[-1].get("tool_calls"):
        return None
    text = text_of(messages[-1])
    return Row(tuple(messages[:-1]), text, tuple(tools)) if text else None


def text_of(message: JsonObject) -> str:
    """What a message says; parts are put together."""
    content = message.get("content")
    if isinstance(content, list):
        return "".join(str(part["text"]) for part in content if isinstance(part, dict) and "text" in part)
    return str(content or "")


def usual_system(rows: Iterable[Row]) -> str | None:
    """The system message that most of the chats begin with."""
    systems = Counter(text_of(m) for row in rows for m in row.messages[:1] if m["role"] in INSTRUCTIONS)
    return systems.most_common(1)[0][0] if systems else None


def as_many_as_fit(ask: Ask, model: str, examples: Sequence[Row], rows: Sequence[Row]) -> Contender:
    """Stock with as many of the examples as its context holds beside the longest row and an answer.

    The API does not tell a model's context, so it is asked: where all are too many, fewer are tried until one fits,
    and then an eighth of those is left out, as room for the answer.
    """
    longest = max(rows, key=lambda row: row.characters)
    count, characters = 0, 0
    for example in examples[:MOST_EXAMPLES]:
        characters += example.characters + len(example.reference or "")
        if characters > MOST_CHARACTERS:
            break
        count += 1
    refused = False
    while count:
        contender = Contender("few-shot", model, tuple(examples[:count]))
        try:
            ask(contender, longest, limit_tokens=1)
        except TooLong:
            refused = True
            count = count * 3 // 4
        else:
            return Contender("few-shot", model, tuple(examples[: count - count // 8])) if refused else contender
    return Contender("few-shot", model)
