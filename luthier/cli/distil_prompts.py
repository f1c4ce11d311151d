"""What a teacher is asked: chats of a file, or of the server's store, without the reply at their end."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from openai import OpenAI, omit

from luthier.core.errors import InvalidRequest
from luthier.core.json import JsonObject, numbered
from luthier.core.verdict.contenders import text_of

BESIDE: Final = ("tools", "parallel_tool_calls", "functions")  # what a training line has beside its messages
OF_A_MESSAGE: Final = ("role", "content", "name", "tool_calls", "tool_call_id")


@dataclass(frozen=True)
class Prompt:
    """A chat that wants a reply. `beside` are its tools; `item` is what a grader may look at."""

    messages: tuple[JsonObject, ...]
    beside: JsonObject = field(default_factory=dict)
    item: JsonObject = field(default_factory=dict)

    @property
    def question(self) -> JsonObject:
        """The body of a request, the model left out; `weight` is for trainers alone."""
        plain = [{key: value for key, value in message.items() if key != "weight"} for message in self.messages]
        return {"messages": list(plain), **self.beside}

    @property
    def sha256(self) -> str:
        return digest(self.question)


def digest(value: object) -> str:
    """The same for the same JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def read_prompts(path: Path) -> list[Prompt]:
    """Chats of a JSONL file. A grader knows a line's other keys, and as `reference` the reply that is replaced.

    Errors: `InvalidRequest` naming the line.
    """
    prompts = []
    for number, line in numbered(path):
        where = f"{path}, line {number}"
        try:
            given = json.loads(line)
            messages = [{"role": str(message["role"]), **message} for message in given["messages"]]
        except (ValueError, KeyError, TypeError) as error:
            raise InvalidRequest(f'{where}: no chat; each line needs {{"messages": [...]}}') from error
        prompts.append(_prompt(where, messages, given))
    if not prompts:
        raise InvalidRequest(f"{path}: no prompts in it; write a chat a line")
    return prompts


def stored_prompts(client: OpenAI, wanted: Sequence[str]) -> list[Prompt]:
    """The server's stored chats that have all of these KEY=VALUE pairs as metadata."""
    pairs = dict(pair.partition("=")[::2] for pair in wanted)
    prompts = []
    for chat in client.chat.completions.list(metadata=pairs or omit, limit=100):
        asked = client.chat.completions.messages.list(chat.id, limit=100)
        messages = [_stored(message.model_dump(exclude_none=True)) for message in asked]
        said: JsonObject = {"role": "assistant", "content": chat.choices[0].message.content}
        prompts.append(_prompt(f"stored chat {chat.id}", [*messages, said], {"id": chat.id}))
    if not prompts:
        raise InvalidRequest("there are no such stored chats; chats are stored when they are asked with store=True")
    return prompts


def _stored(message: dict[str, Any]) -> JsonObject:
    message["content"] = message.get("content_parts") or message.get("content")
    return {key: message[key] for key in OF_A_MESSAGE if message.get(key) is not None}


def _prompt(where: str, messages: list[JsonObject], given: JsonObject) -> Prompt:
    item = {key: value for key, value in given.items() if key not in ("messages", *BESIDE)}
    if messages and messages[-1]["role"] == "assistant":
        item.setdefault("reference", text_of(messages.pop()))
    if not messages or messages[-1]["role"] in ("assistant", "system", "developer"):
        raise InvalidRequest(f"{where}: nothing to answer; before the reply there must be a message of the user")
    item["messages"] = list(messages)
    return Prompt(tuple(messages), {key: given[key] for key in BESIDE if given.get(key) is not None}, item)
