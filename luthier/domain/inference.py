"""Questions to models: a name becomes an engine and an adapter, an engine's answer becomes OpenAI's, and is metered.

Knows no HTTP. Bodies are OpenAI's, checked at the door.
"""

from __future__ import annotations

import time
from asyncio import CancelledError
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from typing import Any, Final

from luthier.core.errors import InvalidRequest, LuthierError
from luthier.core.ids import new_id
from luthier.core.json import Json, JsonObject
from luthier.core.projects import Caller
from luthier.domain import models
from luthier.domain.platform import Platform
from luthier.domain.usage import Meter
from luthier.engines.base import Adapter, Endpoint, Engine

OBJECTS: Final = {"chat/completions": "chat.completion", "completions": "text_completion"}
NOUNS: Final = {"chat/completions": "chat", "completions": "completion"}
# What engines call by a chat's names, where the request called it otherwise; `functions` are those of chats of old.
FIELDS: Final = {
    "completions": {"messages": "prompt"},
    "embeddings": {"messages": "input"},
    "responses": {"messages": "input", "response_format": "text.format.schema"},
    "functions": {"tool_choice": "function_call", "tools": "functions"},
}


@dataclass(frozen=True)
class Target:
    """Who answers: the engine of a base, the adapter on it, and the name that is printed."""

    engine: Engine
    adapter: Adapter | None
    model: str
    fingerprint: str


async def target(platform: Platform, project_id: str, name: str) -> Target:
    """Who answers to a name. Errors: `NotFound` for a name that the project may not call; `Unavailable`."""
    resolved, fingerprint = await platform.database.ask(_resolve, platform, project_id, name)
    engine = platform.engines.get(resolved.base)
    if resolved.tuned is None:
        return Target(engine, None, resolved.base, fingerprint)
    adapter = Adapter(resolved.tuned.id, platform.settings.runs / resolved.tuned.adapter)
    return Target(engine, adapter, resolved.tuned.name, fingerprint)


def _resolve(platform: Platform, project_id: str, name: str) -> tuple[models.Resolved, str]:
    resolved = models.resolve(platform, project_id, name)
    models.require_base(platform, resolved)
    return resolved, f"fp_{platform.bases.source(resolved.base).sha256[:10]}"


async def answer(platform: Platform, caller: Caller, endpoint: Endpoint, name: str, body: JsonObject) -> JsonObject:
    """A whole answer of `chat/completions` or `completions`."""
    who = await target(platform, caller.project_id, name)
    meter = Meter(platform.database, caller, who.model, endpoint)
    try:
        with refusing_by(endpoint):
            given = await who.engine.answer(endpoint, body, who.adapter)
    except CancelledError:  # nobody waits any more; what the engine did till then it does not tell
        meter.stop({})
        raise
    used = _usage(given.get("usage"))
    meter.stop(used)
    choices = [_complete(choice, endpoint) for choice in _objects(given["choices"])]
    return {**_head(who, endpoint), "choices": list(choices), "usage": used, **_tail(who, endpoint)}


async def chunks(
    platform: Platform, caller: Caller, endpoint: Endpoint, name: str, body: JsonObject, *, metered_as: str = ""
) -> AsyncGenerator[JsonObject, None]:
    """An answer's chunks; the last has the usage and no choices. Closing the generator stops the engine."""
    who = await target(platform, caller.project_id, name)
    meter = Meter(platform.database, caller, who.model, metered_as or endpoint)
    head = {**_head(who, endpoint), **_tail(who, endpoint)}
    if endpoint == "chat/completions":
        head["object"] = "chat.completion.chunk"
    spoken, refused = 0, False
    used: Json = None
    try:
        with refusing_by(metered_as or endpoint):
            async with aclosing(who.engine.stream(endpoint, body, who.adapter)) as given:
                async for chunk in given:
                    used = chunk.get("usage") or used
                    if chunk["choices"]:
                        spoken += 1
                        yield {**head, "choices": chunk["choices"]}
    except LuthierError:
        refused = not spoken
        raise
    finally:
        if not refused:
            # Left in mid-answer, the engine has not counted: what was sent is about a token a chunk.
            meter.stop(_usage(used or {"prompt_tokens": 0, "completion_tokens": spoken}))
    yield {**head, "choices": [], "usage": _usage(used)}


async def embeddings(platform: Platform, caller: Caller, name: str, body: JsonObject) -> JsonObject:
    """Vectors, as lists of numbers."""
    who = await target(platform, caller.project_id, name)
    meter = Meter(platform.database, caller, who.model, "embeddings")
    with refusing_by("embeddings"):
        given = await who.engine.answer("embeddings", body, who.adapter)
    used = given["usage"]
    meter.stop(used if isinstance(used, dict) else {})
    return {"object": "list", "data": given["data"], "model": who.model, "usage": used}


@contextmanager
def refusing_by(asked: str) -> Iterator[None]:
    """Engines' refusals in the names of what was asked: an endpoint, or another of `FIELDS`."""
    try:
        yield
    except InvalidRequest as error:
        fields, message = FIELDS.get(asked, {}), error.message
        if error.param not in fields:
            raise
        for name, theirs in fields.items():
            message = message.replace(name, theirs)
        raise InvalidRequest(message, code=error.code, param=fields[error.param]) from error


class Assembly:
    """The whole answer out of its chunks."""

    def __init__(self) -> None:
        self._head: JsonObject = {}
        self._choices: dict[int, dict[str, Any]] = {}

    def add(self, chunk: JsonObject) -> None:
        """Take the next chunk."""
        self._head = {**chunk, "object": "chat.completion"}
        for piece in _objects(chunk["choices"]):
            self._add(piece)

    def whole(self) -> JsonObject:
        """The answer as it would have come without streaming."""
        choices = [self._choices[index] for index in sorted(self._choices)]
        for message in (choice["message"] for choice in choices):
            if not message["content"] and (message.get("tool_calls") or message["refusal"]):
                message["content"] = None
        return {**self._head, "choices": list[Json](choices)}

    def _add(self, piece: dict[str, Any]) -> None:
        said: dict[str, Any] = {"role": "assistant", "content": "", "refusal": None, "annotations": []}
        fresh = {"index": piece["index"], "message": said, "logprobs": None, "finish_reason": None}
        choice = self._choices.setdefault(piece["index"], fresh)
        message, delta = choice["message"], piece["delta"]
        for name in ("content", "refusal"):
            if delta.get(name):
                message[name] = (message[name] or "") + delta[name]
        for call in delta.get("tool_calls") or ():
            _add_call(message.setdefault("tool_calls", []), call)
        if logprobs := piece.get("logprobs"):
            so_far = choice["logprobs"] or {"content": [], "refusal": None}
            choice["logprobs"] = {**so_far, "content": so_far["content"] + (logprobs.get("content") or [])}
        choice["finish_reason"] = piece["finish_reason"] or choice["finish_reason"]


def _add_call(calls: list[dict[str, Any]], piece: dict[str, Any]) -> None:
    """A call comes whole or with its arguments in pieces."""
    if piece["index"] == len(calls):
        calls.append({key: value for key, value in piece.items() if key != "index"})
    else:
        calls[piece["index"]]["function"]["arguments"] += piece["function"].get("arguments") or ""


def _head(who: Target, endpoint: Endpoint) -> JsonObject:
    return {
        "id": new_id(NOUNS[endpoint]),
        "object": OBJECTS[endpoint],
        "created": int(time.time()),
        "model": who.model,
    }


def _tail(who: Target, endpoint: Endpoint) -> JsonObject:
    tier: JsonObject = {"service_tier": "default"} if endpoint == "chat/completions" else {}
    return {**tier, "system_fingerprint": who.fingerprint}


def _complete(choice: JsonObject, endpoint: Endpoint) -> JsonObject:
    """A choice with what OpenAI always sends and other servers leave out."""
    if endpoint == "completions":
        return {"logprobs": None, **choice}
    message = choice["message"]
    assert isinstance(message, dict)
    return {"logprobs": None, **choice, "message": {"content": None, "refusal": None, "annotations": [], **message}}


def _usage(given: Json) -> JsonObject:
    """A usage with all its details."""
    used = given if isinstance(given, dict) else {}
    prompt, completion = _count(used, "prompt_tokens"), _count(used, "completion_tokens")
    details, spoken = used.get("prompt_tokens_details"), used.get("completion_tokens_details")
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": _count(details, "cached_tokens"), "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": _count(spoken, "reasoning_tokens"),
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def _count(counts: Json, name: str) -> int:
    value = counts.get(name) if isinstance(counts, dict) else None
    return value if isinstance(value, int) else 0


def _objects(value: Json) -> list[JsonObject]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
