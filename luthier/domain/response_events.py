"""A response as it comes to be: a chat's chunks in, events and the finished object out. Pure: knows no store."""

from __future__ import annotations

import time
from collections.abc import Iterator
from copy import deepcopy
from typing import Any, Final

from luthier.core.ids import item_id, new_id
from luthier.core.json import Json, JsonObject

CUT: Final = {"length": "max_output_tokens", "content_filter": "content_filter"}  # why a chat ended early, as here


class ResponseBuilder:
    """One response: first `begin`, then `take` each chunk, then `finish`. `response` is its present state."""

    def __init__(self, response: dict[str, Any], *, with_logprobs: bool) -> None:
        self.response = response
        self._with_logprobs = with_logprobs
        self._number = 0
        self._message: dict[str, Any] | None = None  # the item being said, with the parts that are finished
        self._part: dict[str, Any] | None = None  # the part of it that grows
        self._call: dict[str, Any] | None = None  # or the call that is being made, whose arguments grow
        self._call_index: Json = None
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
            if text := delta.get("refusal"):
                yield from self._refuse(text)
            for piece in delta.get("tool_calls") or ():
                yield from self._take_call(piece)
            self._reason = choice["finish_reason"] or self._reason
        used: Any = chunk.get("usage")
        if used:
            self.response["usage"] = _usage(used)

    def finish(self) -> Iterator[JsonObject]:
        """The last events; an answer of nothing is an empty message."""
        if not self.response["output"] and self._message is None and self._call is None:
            yield from self._open_part({"type": "output_text", "text": "", "annotations": [], "logprobs": []})
        cut = CUT.get(str(self._reason))
        status = "incomplete" if cut else "completed"
        yield from self._close_item(status)
        self.response["status"] = status
        self.response["incomplete_details"] = {"reason": cut} if cut else None
        self.response["completed_at"] = None if cut else int(time.time())
        yield self._event(f"response.{status}", response=self._snapshot())

    def fail(self, message: str, code: str) -> Iterator[JsonObject]:
        """It broke off: what was said stays. `code` is one of OpenAI's for failed responses."""
        yield from self._close_item("incomplete")
        self.response["status"] = "failed"
        self.response["error"] = {"code": code, "message": message}
        yield self._event("response.failed", response=self._snapshot())

    def _say(self, text: str) -> Iterator[JsonObject]:
        yield from self._open_part({"type": "output_text", "text": "", "annotations": [], "logprobs": []})
        assert self._part is not None
        tokens, self._tokens = self._tokens, []
        self._part["text"] += text
        self._part["logprobs"] += tokens
        yield self._event("response.output_text.delta", **self._place(), delta=text, logprobs=tokens)

    def _refuse(self, text: str) -> Iterator[JsonObject]:
        yield from self._open_part({"type": "refusal", "refusal": ""})
        assert self._part is not None
        self._part["refusal"] += text
        yield self._event("response.refusal.delta", **self._place(), delta=text)

    def _open_part(self, part: dict[str, Any]) -> Iterator[JsonObject]:
        """Begin a part of a message, and the message if there is none; a part of that type that grows goes on."""
        if self._part is not None and self._part["type"] == part["type"]:
            return
        if self._message is None:
            yield from self._close_item("completed")
            said = {"type": "message", "status": "in_progress", "role": "assistant"}
            self._message = {"id": self._item_id("message"), **said, "content": []}
            at = len(self.response["output"])
            yield self._event("response.output_item.added", output_index=at, item={**self._message, "content": []})
        yield from self._close_part()
        self._part = deepcopy(part)  # for it grows, and its event says how it began
        yield self._event("response.content_part.added", **self._place(), part=part)

    def _close_part(self) -> Iterator[JsonObject]:
        if self._message is None or self._part is None:
            return
        place, part = self._place(), self._part
        if part["type"] == "refusal":
            yield self._event("response.refusal.done", **place, refusal=part["refusal"])
        else:
            yield self._event("response.output_text.done", **place, text=part["text"], logprobs=part["logprobs"])
        yield self._event("response.content_part.done", **place, part=part)
        self._message["content"].append(part)
        self._part = None

    def _take_call(self, piece: dict[str, Any]) -> Iterator[JsonObject]:
        """A call, whole or its next piece. Calls come one after another; a piece that is not the first lacks its id."""
        function, call_id = piece.get("function") or {}, piece.get("id")
        self._tokens = []
        other = self._call is not None and call_id and call_id != self._call["call_id"]
        if self._call is None or other or piece.get("index") != self._call_index:
            yield from self._close_item("completed")
            self._call_index = piece.get("index")
            self._call = {
                "id": self._item_id("function_call"),
                "type": "function_call",
                "status": "in_progress",
                "call_id": call_id or new_id("call"),
                "name": function.get("name") or "",
                "arguments": "",
            }
            at = len(self.response["output"])
            yield self._event("response.output_item.added", output_index=at, item={**self._call})
        if arguments := function.get("arguments"):
            self._call["arguments"] += arguments
            place = {"item_id": self._call["id"], "output_index": len(self.response["output"])}
            yield self._event("response.function_call_arguments.delta", **place, delta=arguments)

    def _close_item(self, status: str) -> Iterator[JsonObject]:
        """End the message or call that grows, if there is one."""
        yield from self._close_part()
        item, at = self._message or self._call, len(self.response["output"])
        if item is None:
            return
        if item is self._call:
            done = {"name": item["name"], "arguments": item["arguments"]}
            place = {"item_id": item["id"], "output_index": at}
            yield self._event("response.function_call_arguments.done", **place, **done)
        self._message = self._call = None
        item["status"] = status
        self.response["output"].append(item)
        yield self._event("response.output_item.done", output_index=at, item=item)

    def _place(self) -> dict[str, Json]:
        """Where the part that grows is."""
        assert self._message is not None
        place = {"item_id": self._message["id"], "output_index": len(self.response["output"])}
        return {**place, "content_index": len(self._message["content"])}

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
