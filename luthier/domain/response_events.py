"""A response as it comes to be: a chat's chunks in, events and the finished object out. Pure: knows no store."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from luthier.core.ids import item_id
from luthier.core.json import Json, JsonObject


class ResponseBuilder:
    """One response: first `begin`, then `take` each chunk, then `finish`. `response` is its present state."""

    def __init__(self, response: dict[str, Any], *, with_logprobs: bool) -> None:
        self.response = response
        self._with_logprobs = with_logprobs
        self._number = 0
        self._message: dict[str, Any] | None = None  # the item being said; its text grows in `_part`
        self._part: dict[str, Any] = {}
        self._tokens: list[Any] = []  # of text that is held back, for it may become a call
        self._reason: Json = None

    def begin(self) -> Iterator[JsonObject]:
        """The response is there, and under way."""
        self.response["status"] = "in_progress"
        yield self._event("response.created", response=self._snapshot())
        yield self._event("response.in_progress", response=self._snapshot())

    def take(self, chunk: JsonObject) -> Iterator[JsonObject]:
        """The events of a chunk."""
        choices: Any = chunk["choices"]
        for choice in choices:
            delta = choice["delta"]
            if self._with_logprobs:
                self._tokens += (choice.get("logprobs") or {}).get("content") or []
            if text := delta.get("content"):
                yield from self._say(text)
            for call in delta.get("tool_calls", ()):
                yield from self._call(call["function"], call["id"])
            self._reason = choice["finish_reason"] or self._reason
        used: Any = chunk.get("usage")
        if used:
            self.response["usage"] = _usage(used)

    def finish(self) -> Iterator[JsonObject]:
        """The last events; an answer of nothing is an empty message."""
        if not self.response["output"] and self._message is None:
            yield from self._open_message()
        cut = self._reason == "length"
        yield from self._close_message("incomplete" if cut else "completed")
        self.response["status"] = "incomplete" if cut else "completed"
        self.response["incomplete_details"] = {"reason": "max_output_tokens"} if cut else None
        self.response["completed_at"] = None if cut else int(time.time())
        yield self._event(f"response.{self.response['status']}", response=self._snapshot())

    def fail(self, message: str, code: str) -> Iterator[JsonObject]:
        """It broke off: what was said stays. `code` is one of OpenAI's for failed responses."""
        yield from self._close_message("incomplete")
        self.response["status"] = "failed"
        self.response["error"] = {"code": code, "message": message}
        yield self._event("response.failed", response=self._snapshot())

    def _say(self, text: str) -> Iterator[JsonObject]:
        if self._message is None:
            yield from self._open_message()
        assert self._message is not None
        self._part["text"] += text
        tokens, self._tokens = self._tokens, []
        self._part["logprobs"] += tokens
        place = {"item_id": self._message["id"], "output_index": len(self.response["output"]), "content_index": 0}
        yield self._event("response.output_text.delta", **place, delta=text, logprobs=tokens)

    def _open_message(self) -> Iterator[JsonObject]:
        self._message = {
            "id": self._item_id("message"),
            "type": "message",
            "status": "in_progress",
            "role": "assistant",
            "content": [],
        }
        self._part = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
        at = len(self.response["output"])
        yield self._event("response.output_item.added", output_index=at, item={**self._message})
        place = {"item_id": self._message["id"], "output_index": at, "content_index": 0}
        yield self._event("response.content_part.added", **place, part={**self._part, "logprobs": []})

    def _close_message(self, status: str) -> Iterator[JsonObject]:
        if self._message is None:
            return
        item = {**self._message, "status": status, "content": [self._part]}
        at = len(self.response["output"])
        place = {"item_id": item["id"], "output_index": at, "content_index": 0}
        self._message = None
        self.response["output"].append(item)
        said = {"text": self._part["text"], "logprobs": self._part["logprobs"]}
        yield self._event("response.output_text.done", **place, **said)
        yield self._event("response.content_part.done", **place, part=self._part)
        yield self._event("response.output_item.done", output_index=at, item=item)

    def _call(self, function: dict[str, Any], call_id: str) -> Iterator[JsonObject]:
        yield from self._close_message("completed")
        self._tokens = []
        at = len(self.response["output"])
        item = {
            "id": self._item_id("function_call"),
            "type": "function_call",
            "status": "completed",
            "call_id": call_id,
            "name": function["name"],
            "arguments": function["arguments"],
        }
        place = {"item_id": item["id"], "output_index": at}
        begun = {**item, "status": "in_progress", "arguments": ""}
        yield self._event("response.output_item.added", output_index=at, item=begun)
        yield self._event("response.function_call_arguments.delta", **place, delta=item["arguments"])
        done = {"name": item["name"], "arguments": item["arguments"]}
        yield self._event("response.function_call_arguments.done", **place, **done)
        self.response["output"].append(item)
        yield self._event("response.output_item.done", output_index=at, item=item)

    def _item_id(self, noun: str) -> str:
        return item_id(noun, self.response["id"], len(self.response["output"]))

    def _snapshot(self) -> JsonObject:
        return {**self.response, "output": list(self.response["output"])}

    def _event(self, kind: str, **data: Json) -> JsonObject:
        number = self._number
        self._number += 1
        return {"type": kind, **data, "sequence_number": number}


def _usage(used: dict[str, Any]) -> JsonObject:
    return {
        "input_tokens": used["prompt_tokens"],
        "input_tokens_details": {
            "cached_tokens": used["prompt_tokens_details"]["cached_tokens"],
            "cache_write_tokens": 0,
        },
        "output_tokens": used["completion_tokens"],
        "output_tokens_details": {"reasoning_tokens": used["completion_tokens_details"]["reasoning_tokens"]},
        "total_tokens": used["total_tokens"],
    }
