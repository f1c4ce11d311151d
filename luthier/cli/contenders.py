"""Who is compared, and what each says: stock, stock with examples in its prompt, tuned. Asks; judges nothing."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from openai import BadRequestError, OpenAI

from luthier.core.errors import InvalidRequest

if TYPE_CHECKING:
    from openai.types.chat import ChatCompletionMessageParam

Role = Literal["stock", "few-shot", "tuned"]
Asked = Callable[[Role, int, int], None]
"""Told before each question: who, which, of how many."""

# Beyond this a reply is cut, whoever says it: a small model that lost its thread talks to the end of its context.
LONGEST_REPLY_TOKENS: Final = 256
MOST_EXAMPLES: Final = 200


@dataclass(frozen=True)
class Turn:
    """What is said to a model before it answers, as (role, content)."""

    messages: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Example:
    """One chat: what comes before the last reply, and the reply."""

    turn: Turn
    reply: str


@dataclass(frozen=True)
class Reply:
    """One answer and what it took. `cached_tokens` are part of the prompt's."""

    text: str
    latency_ms: float
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0


@dataclass(frozen=True)
class Contender:
    """Who answers: a model, and the examples that go before each question."""

    role: Role
    model: str
    examples: Sequence[Example] = field(default=())

    def messages(self, turn: Turn) -> list[ChatCompletionMessageParam]:
        """The whole prompt: the question's system message, the examples as a chat, the question."""
        system = [m for m in turn.messages if m[0] == "system"]
        rest = [m for m in turn.messages if m[0] != "system"]
        shown: list[tuple[str, str]] = []
        for example in self.examples:
            shown += [m for m in example.turn.messages if m[0] != "system"]
            shown.append(("assistant", example.reply))
        return [{"role": role, "content": text} for role, text in [*system, *shown, *rest]]  # type: ignore[misc]  # plain roles


def read_examples(text: str) -> list[Example]:
    """The chats of a training file that are plain text from beginning to end."""
    examples = []
    for line in filter(str.strip, text.splitlines()):
        messages = json.loads(line).get("messages") or []
        if (
            messages
            and messages[-1]["role"] == "assistant"
            and all(isinstance(m.get("content"), str) for m in messages)
        ):
            before = tuple((m["role"], m["content"]) for m in messages[:-1])
            examples.append(Example(Turn(before), messages[-1]["content"]))
    return examples


def usual_system(examples: Iterable[Example]) -> str | None:
    """The system message that most of the chats begin with."""
    systems = Counter(text for e in examples for role, text in e.turn.messages[:1] if role == "system")
    return systems.most_common(1)[0][0] if systems else None


def read_prompts(path: Path, system: str | None) -> list[Turn]:
    """Questions of a file: one a line under `system`, or, in a `.jsonl`, chats, each without its last reply.

    Errors: `InvalidRequest` naming the line.
    """
    if not path.is_file():
        raise InvalidRequest(f"{path}: no such file")
    before = (("system", system),) if system else ()
    turns = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        if path.suffix != ".jsonl":
            turns.append(Turn((*before, ("user", line.strip()))))
            continue
        try:
            messages = [(str(m["role"]), str(m["content"])) for m in json.loads(line)["messages"]]
        except (ValueError, KeyError, TypeError) as error:
            raise InvalidRequest(f'{path}, line {number}: no chat; each line needs {{"messages": [...]}}') from error
        turns.append(Turn(tuple(messages[:-1] if messages[-1][0] == "assistant" else messages)))
    if not turns:
        raise InvalidRequest(f"{path}: no prompts in it; write one a line")
    return turns


def as_many_as_fit(client: OpenAI, model: str, examples: Sequence[Example], turns: Sequence[Turn]) -> Contender:
    """Stock with as many of the examples as its context holds beside the longest question and an answer.

    The API does not tell a model's context, so the server is asked: where all are too many, fewer are tried until one
    fits, and then an eighth of those is left out, as room for the answer.
    """
    longest = max(turns, key=lambda turn: sum(len(text) for _, text in turn.messages))
    count = min(len(examples), MOST_EXAMPLES)
    refused = False
    while count:
        contender = Contender("few-shot", model, examples[:count])
        try:
            client.chat.completions.create(
                model=model, messages=contender.messages(longest), max_completion_tokens=1, temperature=0
            )
        except BadRequestError as error:
            if "context" not in f"{error.code} {error.message}":
                raise
            refused = True
            count = count * 3 // 4
        else:
            return Contender("few-shot", model, examples[: count - count // 8]) if refused else contender
    return Contender("few-shot", model)


def ask_all(client: OpenAI, contender: Contender, turns: Sequence[Turn], asked: Asked) -> list[Reply]:
    """Its answers, one after the other, so that latencies are those of a quiet server.

    A first question, not counted, pays for what only the first one pays: loading, and the examples' way into the cache.
    """
    answer(client, contender, turns[0])
    replies = []
    for number, turn in enumerate(turns, 1):
        asked(contender.role, number, len(turns))
        replies.append(answer(client, contender, turn))
    return replies


def answer(client: OpenAI, contender: Contender, turn: Turn) -> Reply:
    """One contender's answer to one question."""
    started = time.perf_counter()
    said = client.chat.completions.create(
        model=contender.model,
        messages=contender.messages(turn),
        temperature=0,
        max_completion_tokens=LONGEST_REPLY_TOKENS,
    )
    latency_ms = (time.perf_counter() - started) * 1000
    usage = said.usage
    details = usage.prompt_tokens_details if usage else None
    return Reply(
        text=said.choices[0].message.content or "",
        latency_ms=latency_ms,
        prompt_tokens=usage.prompt_tokens if usage else 0,
        completion_tokens=usage.completion_tokens if usage else 0,
        cached_tokens=(details.cached_tokens or 0) if details else 0,
    )
