"""The deprecated `functions` of chats, as tools on the way in and back again on the way out. Knows no engine."""

from __future__ import annotations

from typing import Any

from luthier.core.json import JsonObject


def as_tools(body: JsonObject) -> JsonObject:
    """The body with `functions` and `function_call` said as `tools` and `tool_choice`, one call at a time."""
    functions: Any = body["functions"]
    choice: Any = body.get("function_call", "auto")
    rest = {name: value for name, value in body.items() if name not in ("functions", "function_call")}
    return {
        **rest,
        "tools": [{"type": "function", "function": function} for function in functions],
        "tool_choice": {"type": "function", "function": choice} if isinstance(choice, dict) else choice,
        "parallel_tool_calls": False,
    }


def as_functions(answer: JsonObject) -> JsonObject:
    """An answer, or a chunk of one, with its first call as `function_call`."""
    given: Any = answer["choices"]
    return {**answer, "choices": [_choice(choice) for choice in given]}


def _choice(choice: dict[str, Any]) -> JsonObject:
    key = "message" if "message" in choice else "delta"
    said = dict(choice[key])
    if calls := said.pop("tool_calls", None):
        function = calls[0]["function"]
        said["function_call"] = {name: function[name] for name in ("name", "arguments") if name in function}
    reason = choice["finish_reason"]
    return {**choice, key: said, "finish_reason": "function_call" if reason == "tool_calls" else reason}
