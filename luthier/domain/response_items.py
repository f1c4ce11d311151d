"""Items of responses as messages of chats. Pure: knows no store and no engine."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from luthier.core.errors import InvalidRequest
from luthier.core.ids import new_id
from luthier.core.json import Json, JsonObject


def input_items(given: Json) -> list[JsonObject]:
    """What a request puts in, as items with ids and content in parts."""
    if isinstance(given, str):
        return [_message({"role": "user", "content": given})]
    return [_item(item) for item in given if isinstance(item, dict)] if isinstance(given, list) else []


def _item(item: JsonObject) -> JsonObject:
    match item.get("type", "message"):
        case "function_call":
            return {"status": "completed", **item, "id": item.get("id") or new_id("function_call")}
        case "function_call_output":
            return {"status": "completed", **item, "id": item.get("id") or new_id("function_call")}
        case _:
            return _message(item)


def _message(item: JsonObject) -> JsonObject:
    content = item["content"]
    spoken = item["role"] == "assistant"
    if isinstance(content, str):
        part: JsonObject = {"type": "input_text", "text": content}
        content = [{"type": "output_text", "text": content, "annotations": [], "logprobs": []} if spoken else part]
    return {
        "id": item.get("id") or new_id("message"),
        "type": "message",
        "status": "completed",
        "role": item["role"],
        "content": content,
    }


def messages(items: Iterable[JsonObject], instructions: str | None) -> list[JsonObject]:
    """The chat that these items are. Calls join the assistant's turn that they follow.

    Errors: `InvalidRequest` for a result without its call, and for a call without its result.
    """
    chat: list[dict[str, Any]] = [{"role": "system", "content": instructions}] if instructions is not None else []
    called: set[str] = set()
    waiting: dict[str, None] = {}  # calls without results so far, in their order
    for item in items:
        match item["type"]:
            case "function_call":
                called.add(str(item["call_id"]))
                waiting[str(item["call_id"])] = None
                _join_call(chat, item)
            case "function_call_output":
                if item["call_id"] not in called:
                    raise InvalidRequest(
                        f"No tool call found for function call output with call_id {item['call_id']}.",
                        code="invalid_value",
                        param="input",
                    )
                waiting.pop(str(item["call_id"]), None)
                chat.append({"role": "tool", "tool_call_id": item["call_id"], "content": _text(item["output"])})
            case _:
                chat.append({"role": item["role"], "content": _text(item["content"])})
    for call_id in waiting:
        raise InvalidRequest(f"No tool output found for function call {call_id}.", code="invalid_value", param="input")
    return list(chat)


def _join_call(chat: list[dict[str, Any]], item: JsonObject) -> None:
    function: JsonObject = {"name": item["name"], "arguments": item["arguments"]}
    call: JsonObject = {"id": item["call_id"], "type": "function", "function": function}
    if chat and chat[-1]["role"] == "assistant":
        chat[-1].setdefault("tool_calls", []).append(call)
    else:
        chat.append({"role": "assistant", "content": None, "tool_calls": [call]})


def _text(content: Json) -> str:
    if isinstance(content, list):
        parts = [part for part in content if isinstance(part, dict)]
        return "".join(str(part.get("text") or part.get("refusal") or "") for part in parts)
    return str(content)
