"""Samples: what a model said of a row, as graders see it (`sample.…`) and as an output item shows it. Asks models."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

from luthier.core.evals import ModelUsage
from luthier.core.json import Json, JsonObject, parsed
from luthier.domain.asking import Answer
from luthier.domain.graders.templates import fill_messages, find, said

# What is sampled with where the run does not say; OpenAI's own run example has the same.
DEFAULTS: Final[JsonObject] = {"temperature": 1.0, "top_p": 1.0, "seed": 42, "max_completion_tokens": 2048}
UNSEEDED: Final = 0  # what an output item shows of a sample without a seed


@dataclass(frozen=True)
class Sample:
    """`names` is what templates and graders see; `shown` what the output item has; `error` says why there is none."""

    names: JsonObject
    shown: JsonObject
    usage: tuple[ModelUsage, ...] = ()

    @property
    def failed(self) -> bool:
        return self.shown["error"] is not None


async def ask(
    source: dict[str, Any], item: JsonObject, ask_model: Callable[[str, JsonObject], Awaitable[Answer]]
) -> Sample:
    """What the model of a run's data source says of a row. Errors: `InvalidVariable`."""
    messages = _messages(source["input_messages"], item)
    params: dict[str, Any] = {k: v for k, v in (source.get("sampling_params") or {}).items() if v is not None}
    if "max_completions_tokens" in params:  # the name in OpenAI's own examples
        params["max_completion_tokens"] = params.pop("max_completions_tokens")
    params = {**DEFAULTS, **params}
    chat = source["type"] == "completions"
    if chat:
        answer = await ask_model("/v1/chat/completions", {"model": source["model"], "messages": [*messages], **params})
    else:
        params["seed"] = UNSEEDED
        body: JsonObject = {k: v for k, v in params.items() if k in ("temperature", "top_p", "text", "tools")}
        body |= {"max_output_tokens": params["max_completion_tokens"], "store": False}
        answer = await ask_model("/v1/responses", {"model": source["model"], "input": [*messages], **body})
    used = {name: params[name] for name in DEFAULTS}
    if answer.status_code != HTTPStatus.OK:
        return none(source["model"], messages, answer.body, used)
    return of_chat(messages, answer.body, used) if chat else of_response(messages, answer.body, used)


def of_chat(messages: list[JsonObject], answer: JsonObject, used: JsonObject) -> Sample:
    """The sample in a chat completion."""
    whole: dict[str, Any] = answer
    choice = whole["choices"][0]
    return _sample(messages, whole, choice["message"], choice["finish_reason"], used)


def of_response(messages: list[JsonObject], answer: JsonObject, used: JsonObject) -> Sample:
    """The sample in a response: its texts as one message, its function calls as a chat has them."""
    whole: dict[str, Any] = answer
    spoken = [part for item in whole["output"] if item["type"] == "message" for part in item["content"]]
    calls = [
        {"id": item["call_id"], "type": "function", "function": {"name": item["name"], "arguments": item["arguments"]}}
        for item in whole["output"]
        if item["type"] == "function_call"
    ]
    message = {"role": "assistant", "content": "".join(part.get("text", "") for part in spoken)}
    reason = "tool_calls" if calls else "stop" if whole["status"] == "completed" else "length"
    return _sample(messages, whole, {**message, "tool_calls": calls} if calls else message, reason, used)


def of_names(names: JsonObject) -> Sample:
    """A sample that the data brought along; one without text has no output."""
    text = names.get("output_text")
    output: list[Json] = [{"role": "assistant", "content": str(text)}] if text is not None else []
    whole = {**names_of_text(str(text)), **names} if text is not None else names
    shown: JsonObject = {"input": [], "output": output, "finish_reason": "stop", "model": str(names.get("model", ""))}
    return Sample(whole, {**shown, "usage": _usage(ModelUsage("")), "error": None, **DEFAULTS})


def names_of_text(text: str) -> JsonObject:
    """What a text alone gives: `output_text`, and `output_json` where it is JSON."""
    names: JsonObject = {"output_text": text}
    with suppress(ValueError):
        names["output_json"] = parsed(text)
    return names


def _messages(given: dict[str, Any], item: JsonObject) -> list[JsonObject]:
    namespaces: dict[str, Json] = {"item": item}
    if given["type"] == "template":
        return fill_messages(given["template"], namespaces)
    found = find(given["item_reference"], namespaces)
    if isinstance(found, list):
        return [message for message in found if isinstance(message, dict)]
    return [{"role": "user", "content": str(found)}]


def _sample(
    messages: list[JsonObject], answer: dict[str, Any], message: dict[str, Any], reason: str, used: JsonObject
) -> Sample:
    text: str | None = message.get("content")
    names: JsonObject = {
        "model": answer["model"],
        "choices": [{"index": 0, "message": message, "finish_reason": reason}],
        "output_tools": message.get("tool_calls") or [],
        "finish_reason": reason,
        **names_of_text(text or ""),
    }
    output: JsonObject = {"role": "assistant", "content": text or ""}
    if message.get("tool_calls"):
        output["tool_calls"] = message["tool_calls"]
    usage = ModelUsage.of(answer)
    shown: JsonObject = {
        "input": [_shown(message) for message in messages],
        "output": [output],
        "finish_reason": reason,
        "model": answer["model"],
        "usage": _usage(usage),
        "error": None,
        **used,
    }
    return Sample(names, shown, (usage,))


def _shown(message: JsonObject) -> JsonObject:
    """A message, or an item of a prebuilt trajectory: calls have arguments, and results an output, but no role."""
    content = message.get("content", message.get("arguments", message.get("output")))
    return {"role": message.get("role") or message.get("type") or "", "content": said(content)}


def none(model: str, messages: list[JsonObject], body: JsonObject, used: JsonObject = DEFAULTS) -> Sample:
    """No sample: why is in the error's envelope."""
    wrong = body.get("error")
    error: dict[str, Any] = wrong if isinstance(wrong, dict) else {"message": str(body)}
    shown: JsonObject = {
        "input": [_shown(message) for message in messages],
        "output": [],
        "finish_reason": "error",
        "model": model,
        "usage": _usage(ModelUsage("")),
        "error": {"code": error.get("code") or "server_error", "message": str(error.get("message"))},
        **used,
    }
    return Sample({}, shown)


def _usage(used: ModelUsage) -> JsonObject:
    return {n: vars(used)[n] for n in ("total_tokens", "completion_tokens", "prompt_tokens", "cached_tokens")}
