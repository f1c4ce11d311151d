"""OpenAI's messages as a chat template reads them. Owns the plain-text form of tools, for templates that have none.

A template that reads `tools` gets them, with arguments as objects. For any other one, tools are told in the Hermes
form, which small models follow and llama.cpp parses: their signatures at the end of the system prompt, a call as

    <tool_call>
    {"name": "f", "arguments": {…}}
    </tool_call>

at the end of the assistant's text, a result as a user's turn inside `<tool_response>`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from luthier.core.json import Json, JsonObject, parsed

_TOOLS_HEAD: Final = """# Tools

You may call one or more functions to assist with the user query.

You are provided with function signatures within <tools></tools> XML tags:
<tools>
"""
_TOOLS_TAIL: Final = """
</tools>

For each function call, return a json object with function name and arguments within <tool_call></tool_call> XML tags:
<tool_call>
{"name": <function-name>, "arguments": <args-json-object>}
</tool_call>"""
_ONE_CALL: Final = "\n\nCall at most one function at a time."


def for_template(messages: Sequence[JsonObject], *, knows_developer: bool) -> list[JsonObject]:
    """For a template that reads `tools`: text content, `tool_calls` with arguments as objects, current role names."""
    return [_modern(m, knows_developer=knows_developer) for m in messages]


def tools_as_text(
    messages: Sequence[JsonObject], tools: Sequence[JsonObject], *, parallel_tool_calls: bool = True
) -> list[JsonObject]:
    """What `for_template` gave, with tools, calls and results told in text: only system, user and assistant remain."""
    told: list[JsonObject] = []
    for message in messages:
        if message["role"] == "tool":
            result = f"<tool_response>\n{message['content']}\n</tool_response>"
            if told and told[-1].get("role") == "user" and str(told[-1]["content"]).endswith("</tool_response>"):
                told[-1] = {**told[-1], "content": f"{told[-1]['content']}\n{result}"}
            else:
                told.append({"role": "user", "content": result})
        elif calls := message.get("tool_calls"):
            parts = [str(message["content"])] if message["content"] else []
            parts += [_call_text(call) for call in _objects(calls)]
            told.append({"role": "assistant", "content": "\n".join(parts)})
        else:
            told.append(message)
    if tools:
        told = _with_tools(told, tools, parallel_tool_calls=parallel_tool_calls)
    return told


def _with_tools(
    messages: list[JsonObject], tools: Sequence[JsonObject], *, parallel_tool_calls: bool
) -> list[JsonObject]:
    signatures = "\n".join(json.dumps(tool, ensure_ascii=False) for tool in tools)
    text = _TOOLS_HEAD + signatures + _TOOLS_TAIL + ("" if parallel_tool_calls else _ONE_CALL)
    if messages and messages[0]["role"] == "system":
        return [{**messages[0], "content": f"{messages[0]['content']}\n\n{text}"}, *messages[1:]]
    return [{"role": "system", "content": text}, *messages]


def _call_text(call: JsonObject) -> str:
    return f"<tool_call>\n{json.dumps(call['function'], ensure_ascii=False)}\n</tool_call>"


def _modern(message: JsonObject, *, knows_developer: bool) -> JsonObject:
    modern = {key: value for key, value in message.items() if key not in ("function_call", "refusal")}
    modern["content"] = _text(message.get("content")) or _text(message.get("refusal"))
    if modern["role"] == "function":
        modern["role"] = "tool"
    elif modern["role"] == "developer" and not knows_developer:
        modern["role"] = "system"
    calls = _objects(message.get("tool_calls"))
    if called := message.get("function_call"):
        calls.append({"type": "function", "function": called})
    if calls:
        modern["tool_calls"] = [{**call, "function": _parsed(call["function"])} for call in calls]
    return modern


def _parsed(function: Json) -> JsonObject:
    """`{name, arguments}` with the arguments as an object; text that is no JSON stays text."""
    assert isinstance(function, dict)
    arguments = function["arguments"]
    if isinstance(arguments, str):
        with suppress(ValueError):
            arguments = parsed(arguments)
    return {"name": function["name"], "arguments": arguments}


def _text(content: Json) -> str:
    """The text of a content: itself, or its parts joined."""
    if isinstance(content, list):
        return "".join(str(part.get("text") or part.get("refusal") or "") for part in _objects(content))
    return "" if content is None else str(content)


def _objects(value: Json) -> list[JsonObject]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
