"""OpenAI's request bodies as llama.cpp's completion bodies, and its answers as OpenAI's. Knows no process.

Chats are rendered here, by the same code as for training, and go to the engine as plain text: what is served is what
was trained, whatever the engine's own reading of the template would be.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from luthier.core.errors import InvalidRequest
from luthier.core.json import Json, JsonObject
from luthier.data.template import ChatTemplate
from luthier.engines.asking import Wire
from luthier.engines.json_schema import can_follow, check_schema, json_rule
from luthier.engines.tool_calls import CallReader, Notation, calling_grammar

_PASSED: Final = ("temperature", "top_p", "presence_penalty", "frequency_penalty", "logit_bias", "stop")


@dataclass(frozen=True)
class Chat:
    """A chat as a completion. `notation` is set when calls of functions are looked for in the answer."""

    body: JsonObject
    notation: Notation | None
    many_calls: bool
    names: frozenset[str]
    top_logprobs: int | None


def chat(body: JsonObject, template: ChatTemplate, notation: Notation) -> Chat:
    """The completion that a chat asks for. Errors: `InvalidRequest` for a chat or schema that cannot be honoured."""
    prompt, tools = rendered(body, template)
    choice, many = body.get("tool_choice"), body.get("parallel_tool_calls") is not False
    top = _top_logprobs(body)
    asked: JsonObject = {
        "prompt": prompt,
        **_sampling(body),
        "max_tokens": _first(body.get("max_completion_tokens"), body.get("max_tokens"), -1),
    }
    if top is not None:
        asked["logprobs"] = max(1, top)  # for llama.cpp none means no log-probabilities at all
    answer = _json_answer(body.get("response_format"))
    if tools:
        asked["preserved_tokens"] = [mark for mark in (notation.opening, notation.closing) if mark]
        if isinstance(choice, dict) or choice == "required":
            named = _named(tools, choice) if isinstance(choice, dict) else tools
            held = [tool if _is_strict(tool, unsaid=True) else _loose(tool) for tool in named]
            asked["grammar"] = calling_grammar(held, notation, many=many and choice == "required")
        elif answer is not None or any(map(_is_strict, tools)):
            held = [tool if _is_strict(tool) else _loose(tool) for tool in tools]
            asked["grammar"] = calling_grammar(held, notation, many=many, text_too=answer is None, answer=answer)
    elif answer is not None:
        asked["grammar"] = f"%llguidance {{}}\nstart: {answer}"
    names = frozenset(str(_function(tool).get("name")) for tool in tools)
    return Chat(asked, notation if tools else None, many, names, top)


def rendered(body: JsonObject, template: ChatTemplate) -> tuple[str, list[JsonObject]]:
    """The text that the model reads, and the tools that are told in it: none with `tool_choice` none."""
    tools = [] if body.get("tool_choice") == "none" else _objects(body.get("tools"))
    prompt = template.render(
        _objects(body["messages"]),
        [_told(tool) for tool in tools],
        add_generation_prompt=True,
        parallel_tool_calls=body.get("parallel_tool_calls") is not False,
    )
    return prompt.removeprefix(template.added_bos), tools  # or it would stand there twice


def text(body: JsonObject, prompt: Json) -> JsonObject:
    """The body for one prompt of a legacy completion."""
    asked: JsonObject = {"prompt": prompt, **_sampling(body), "max_tokens": _first(body.get("max_tokens"), 16)}
    if (top := body.get("logprobs")) is not None:
        asked["logprobs"] = max(1, int(str(top)))
    return asked


def _sampling(body: JsonObject) -> JsonObject:
    given: JsonObject = {name: body[name] for name in _PASSED if body.get(name) is not None}
    if isinstance(seed := body.get("seed"), int):
        given["seed"] = seed % (2**32 - 1)  # 2³² - 1 would mean a random one
    if given.get("presence_penalty") or given.get("frequency_penalty"):
        given["repeat_last_n"] = -1  # the whole text so far, not llama.cpp's last 64 tokens
    return given


def _json_answer(response_format: Json) -> str | None:
    """The rule of a grammar that an answer follows which is no call."""
    if not isinstance(response_format, dict):
        return None
    schema: JsonObject = {"type": "object"}
    if response_format["type"] == "json_schema":
        described = response_format["json_schema"]
        given = described.get("schema") if isinstance(described, dict) else None
        schema = given if isinstance(given, dict) else schema
        check_schema(schema, param="response_format")
    elif response_format["type"] != "json_object":
        return None
    return json_rule(schema)


def _named(tools: Sequence[JsonObject], choice: JsonObject) -> list[JsonObject]:
    wanted = _function(choice).get("name")
    named = [tool for tool in tools if _function(tool).get("name") == wanted]
    if not named:
        raise InvalidRequest(
            f"Invalid value for 'tool_choice': no function named '{wanted}' was specified in the 'tools' parameter.",
            code="invalid_value",
            param="tool_choice",
        )
    return named


def _is_strict(tool: JsonObject, *, unsaid: bool = False) -> bool:
    """Whether a call's arguments follow the function's schema. `strict` null: where the schema can be followed.

    `unsaid` is for functions that say nothing of it, or no: whether they too are held where that is possible.
    """
    function = _function(tool)
    strict = function.get("strict", False)
    if strict is None or (unsaid and not strict):
        return can_follow(function.get("parameters") or {})
    return bool(strict)


def _loose(tool: JsonObject) -> JsonObject:
    return {"function": {"name": _function(tool)["name"]}}


def _told(tool: JsonObject) -> JsonObject:
    """A tool as the model is told of it, which is as training data has it: without a `strict` that is null."""
    function = {key: value for key, value in _function(tool).items() if key != "strict" or value is not None}
    return {**tool, "function": function}


def _function(tool: JsonObject) -> JsonObject:
    function = tool.get("function")
    return function if isinstance(function, dict) else {}


def _top_logprobs(body: JsonObject) -> int | None:
    top = body.get("top_logprobs")
    return (top if isinstance(top, int) else 0) if body.get("logprobs") else None


def _first(*values: Json) -> Json:
    return next(value for value in values if value is not None)


def _objects(value: Json) -> list[JsonObject]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


class ChatReader:
    """Turns the pieces of one choice into OpenAI's: deltas while it streams, or the message at its end."""

    def __init__(self, chat: Chat, index: int) -> None:
        self._index = index
        self._top = chat.top_logprobs
        self._calls = CallReader(chat.notation, chat.many_calls, chat.names) if chat.notation else None
        self._told = 0  # calls that were streamed
        self._begun = False

    def deltas(self, choice: Wire) -> Iterator[JsonObject]:
        """The chunks' choices for a piece; the last one has the reason of the ending. Runs once a token."""
        if not self._begun:
            self._begun = True
            yield self._choice({"role": "assistant", "content": "", "refusal": None}, None)
        reason = choice["finish_reason"]
        text = choice["text"]
        if self._calls is not None:
            text = self._calls.feed(text) + (self._calls.end() if reason else "")
        logprobs = _logprobs(choice.get("logprobs"), self._top) if self._top is not None else None
        if text or logprobs:
            yield self._choice({"content": text}, logprobs)
        if self._calls is not None:
            for place in range(self._told, len(self._calls.calls)):
                yield self._choice({"tool_calls": [{"index": place, **self._calls.calls[place]}]}, None)
            self._told = len(self._calls.calls)
        if reason:
            yield self._choice({}, None, "tool_calls" if self._told and reason == "stop" else reason)

    def message(self, choice: Wire) -> JsonObject:
        """The choice as a whole."""
        text, calls = choice["text"], []
        if self._calls is not None:
            text = self._calls.feed(text) + self._calls.end()
            calls = self._calls.calls
        reason = "tool_calls" if calls and choice["finish_reason"] == "stop" else choice["finish_reason"]
        message: JsonObject = {"role": "assistant", "content": text or (None if calls else ""), "refusal": None}
        if calls:
            message["tool_calls"] = list(calls)
        logprobs = _logprobs(choice.get("logprobs"), self._top) if self._top is not None else None
        return {"index": self._index, "message": message, "logprobs": logprobs, "finish_reason": reason}

    def _choice(self, delta: JsonObject, logprobs: Json, reason: str | None = None) -> JsonObject:
        return {"index": self._index, "delta": delta, "logprobs": logprobs, "finish_reason": reason}


def _logprobs(given: Wire | None, top: int) -> JsonObject | None:
    if not given:
        return None
    return {"content": [_token(t, t["top_logprobs"][:top]) for t in given["content"]], "refusal": None}


def _token(token: Wire, top: list[Wire]) -> JsonObject:
    return {**_bare(token), "top_logprobs": [_bare(t) for t in top]}


def _bare(token: Wire) -> JsonObject:
    return {"token": token["token"], "logprob": token["logprob"], "bytes": token["bytes"]}


def text_logprobs(given: Wire | None, offset: int, top: int) -> JsonObject | None:
    """A legacy completion's log-probabilities; `offset` is where its text begins, in characters."""
    if given is None:
        return None
    tokens: list[Wire] = given["content"]
    offsets: list[Json] = []
    for token in tokens:
        offsets.append(offset)
        offset += len(token["token"])
    return {
        "tokens": [t["token"] for t in tokens],
        "token_logprobs": [t["logprob"] for t in tokens],
        "top_logprobs": [
            {t["token"]: t["logprob"] for t in [*token["top_logprobs"][:top], token] if t["logprob"] is not None}
            for token in tokens
        ],
        "text_offset": offsets,
    }


def usage(used: Sequence[Wire], prompts: int) -> JsonObject:
    """One usage of all choices; each of `prompts` prompts counts once, however many choices it got."""
    each = max(1, len(used) // max(1, prompts))
    prompt_tokens = sum(u["prompt_tokens"] for u in used[::each])
    completion_tokens = sum(u["completion_tokens"] for u in used)
    cached = sum(u["prompt_tokens_details"]["cached_tokens"] for u in used[::each])
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
        "prompt_tokens_details": {"cached_tokens": cached},
    }
