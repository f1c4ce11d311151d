"""The engine of tests: answers with the last user message, word by word, always the same. Knows no model."""

from __future__ import annotations

import asyncio
import json
import re
import zlib
from collections.abc import AsyncGenerator
from datetime import date
from typing import Final

from luthier.core.json import Json, JsonObject
from luthier.engines.base import Adapter, Elsewhere, Endpoint

DIMENSIONS: Final = 8


class Echo(Elsewhere):
    """An `Engine`. A word and the space before it is a token. `pause_s` is how long each takes in a stream.

    A tuned model says its adapter's id first, so that tests see which model spoke. It gives no token ids, and
    log-probabilities of 0 in chats alone.
    """

    def __init__(self, pause_s: float = 0.0) -> None:
        self._pause_s = pause_s

    async def answer(self, endpoint: Endpoint, body: JsonObject, adapter: Adapter | None) -> JsonObject:
        if endpoint == "embeddings":
            return _embeddings(body)
        chunks = [chunk async for chunk in self._chunks(endpoint, body, adapter, pause_s=0)]
        whole: dict[int, JsonObject] = {}
        for chunk in chunks[:-1]:
            for choice in _objects(chunk["choices"]):
                whole[int(str(choice["index"]))] = _joined(whole.get(int(str(choice["index"]))), choice)
        return {"choices": list(whole.values()), "usage": chunks[-1]["usage"]}

    async def stream(
        self, endpoint: Endpoint, body: JsonObject, adapter: Adapter | None
    ) -> AsyncGenerator[JsonObject, None]:
        async for chunk in self._chunks(endpoint, body, adapter, pause_s=self._pause_s):
            yield chunk

    async def tokenize(self, body: JsonObject, adapter: Adapter | None, today: date | None = None) -> list[int]:
        return []

    async def close(self) -> None:
        return

    async def _chunks(
        self, endpoint: Endpoint, body: JsonObject, adapter: Adapter | None, *, pause_s: float
    ) -> AsyncGenerator[JsonObject, None]:
        chat = endpoint == "chat/completions"
        prompts = [_prompt_of(body)] if chat else _texts(body["prompt"])
        count = int(str(body.get("n") or 1))
        spoken = 0
        for number, prompt in enumerate(prompts):
            words, reason = _said(body, prompt, adapter)
            call = _forced_call(body) if chat else None
            for index in range(number * count, (number + 1) * count):
                if chat:
                    yield _chunk(index, {"role": "assistant", "content": "", "refusal": None})
                if call is not None:
                    yield _chunk(index, {"tool_calls": [{"index": 0, **call}]})
                    yield _chunk(index, {}, reason="tool_calls")
                    spoken += 1
                    continue
                for word in words:
                    await asyncio.sleep(pause_s)
                    yield _chunk(index, {"content": word}, _logprobs(word, body)) if chat else _text(index, word)
                    spoken += 1
                yield _chunk(index, {}, reason=reason) if chat else _text(index, "", reason)
        heard = sum(len(_words(prompt)) for prompt in prompts)
        yield {
            "choices": [],
            "usage": {
                "prompt_tokens": heard,
                "completion_tokens": spoken,
                "total_tokens": heard + spoken,
                "prompt_tokens_details": {"cached_tokens": 0},
            },
        }


def _prompt_of(body: JsonObject) -> str:
    asked = [m for m in _objects(body["messages"]) if m["role"] == "user"]
    content = asked[-1]["content"] if asked else ""
    if isinstance(content, list):
        return "".join(str(part.get("text", "")) for part in _objects(content))
    return str(content)


def _said(body: JsonObject, prompt: str, adapter: Adapter | None) -> tuple[list[str], str]:
    """What is said of a prompt, as words, and why it ends."""
    text = prompt if adapter is None else f"{adapter.id} {prompt}"
    kind = body.get("response_format")
    if isinstance(kind, dict) and kind.get("type") != "text":
        text = json.dumps({"echo": text})
    if body.get("echo"):
        text = prompt + " " + text
    stops = body.get("stop")
    for stop in [stops] if isinstance(stops, str) else stops if isinstance(stops, list) else []:
        text = text.partition(str(stop))[0]
    words = _words(text)
    limit = body.get("max_completion_tokens") or body.get("max_tokens")
    if isinstance(limit, int) and limit < len(words):
        return words[:limit], "length"
    return words, "stop"


def _forced_call(body: JsonObject) -> JsonObject | None:
    choice, tools = body.get("tool_choice"), _objects(body.get("tools"))
    if not tools or not (choice == "required" or isinstance(choice, dict)):
        return None
    function = (choice if isinstance(choice, dict) else tools[0]).get("function")
    name = function.get("name") if isinstance(function, dict) else None
    return {"id": "call_echo", "type": "function", "function": {"name": name, "arguments": "{}"}}


def _chunk(index: int, delta: JsonObject, logprobs: Json = None, reason: str | None = None) -> JsonObject:
    return {"choices": [{"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": reason}]}


def _text(index: int, text: str, reason: str | None = None) -> JsonObject:
    return {"choices": [{"text": text, "index": index, "logprobs": None, "finish_reason": reason}]}


def _logprobs(word: str, body: JsonObject) -> Json:
    if not body.get("logprobs"):
        return None
    token: JsonObject = {"token": word, "logprob": 0.0, "bytes": list(word.encode())}
    return {"content": [{**token, "top_logprobs": [token] if body.get("top_logprobs") else []}], "refusal": None}


def _joined(so_far: JsonObject | None, choice: JsonObject) -> JsonObject:
    """A choice and its next piece as one."""
    if "text" in choice:
        return {**choice, "text": str(so_far["text"] if so_far else "") + str(choice["text"])}
    delta = choice.pop("delta")
    assert isinstance(delta, dict)
    whole = so_far or {**choice, "message": {"role": "assistant", "content": "", "refusal": None}}
    message = whole["message"]
    assert isinstance(message, dict)
    if "tool_calls" in delta:
        calls = [{k: v for k, v in call.items() if k != "index"} for call in _objects(delta["tool_calls"])]
        message |= {"content": None, "tool_calls": list(calls)}
    elif message["content"] is not None:
        message["content"] = str(message["content"]) + str(delta.get("content", ""))
    logprobs, piece = whole["logprobs"], choice["logprobs"]
    if isinstance(piece, dict) and isinstance(logprobs, dict):
        piece = {**piece, "content": [*_objects(logprobs["content"]), *_objects(piece["content"])]}
    return {**whole, "logprobs": piece or logprobs, "finish_reason": choice["finish_reason"]}


def _embeddings(body: JsonObject) -> JsonObject:
    texts = _texts(body["input"])
    heard = sum(len(_words(text)) for text in texts)
    data: list[Json] = []
    for index, text in enumerate(texts):
        seed = zlib.crc32(text.encode())
        vector: list[Json] = [((seed >> (4 * place)) % 16 - 7.5) / 16 for place in range(DIMENSIONS)]
        data.append({"object": "embedding", "index": index, "embedding": vector})
    return {"object": "list", "data": data, "usage": {"prompt_tokens": heard, "total_tokens": heard}}


def _texts(given: Json) -> list[str]:
    """A text, texts, token ids or lists of them; ids are said as numbers."""
    if not isinstance(given, list):
        return [str(given)]
    if given and isinstance(given[0], int):
        return [" ".join(str(token) for token in given)]
    return [" ".join(map(str, item)) if isinstance(item, list) else str(item) for item in given]


def _words(text: str) -> list[str]:
    return re.findall(r"\s*\S+", text)


def _objects(value: Json) -> list[JsonObject]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
