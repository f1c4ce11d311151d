"""A batch's input: JSONL, a request a line. Checks it and reads it, a line at a time; asks nobody.

Codes and words are OpenAI's, where they are known.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import BinaryIO, Final

from luthier.core.batches import BatchError, Endpoint
from luthier.core.errors import InvalidRequest
from luthier.core.json import Json, JsonObject
from luthier.domain.jsonl import MAX_LINE_BYTES

MAX_REQUESTS: Final = 50_000
MAX_INPUT_BYTES: Final = 200 << 20
MAX_ERRORS: Final = 100  # a file that is wrong throughout says so no more often than this

# Endpoint: what OpenAI calls it, and what its body needs beside a model. A response may do with its instructions.
ENDPOINTS: Final[dict[Endpoint, tuple[str, str | None]]] = {
    "/v1/chat/completions": ("Chat Completions", "messages"),
    "/v1/completions": ("Completions", "prompt"),
    "/v1/embeddings": ("Embeddings", "input"),
    "/v1/responses": ("Responses", None),
}
KEYS: Final[dict[str, tuple[type, str]]] = {
    "custom_id": (str, "a string"),
    "method": (str, "a string"),
    "url": (str, "a string"),
    "body": (dict, "an object"),
}


@dataclass(frozen=True)
class Request:
    """One line of an input: what to ask, and the name that its answer will carry."""

    line: int
    custom_id: str
    body: JsonObject


@dataclass
class Checked:
    """What was found in an input."""

    total: int = 0
    model: str = ""
    errors: list[BatchError] = field(default_factory=list)


def check(
    lines: BinaryIO, endpoint: Endpoint, *, knows_model: Callable[[str], bool], beat: Callable[[], None]
) -> Checked:
    """Look at every line, or at as many as `MAX_ERRORS` are found in. `beat` is called at each."""
    found = Checked()
    custom_ids: set[str] = set()
    for line, raw in _numbered(lines):
        beat()
        try:
            request = parse(line, raw, endpoint)
            model = str(request.body["model"])
            if model != found.model:
                _check_model(model, found.model, knows_model)
            if request.custom_id in custom_ids:
                raise _wrong(
                    "duplicate_custom_id",
                    f"The custom_id '{request.custom_id}' for this request is a duplicate of another request. "
                    "The custom_id parameter must be unique for each request in a batch.",
                    "custom_id",
                )
        except InvalidRequest as error:
            found.errors.append(_at(line, error))
            if len(found.errors) == MAX_ERRORS:
                break
        else:
            found.model = model
            custom_ids.add(request.custom_id)
        found.total += 1
        if found.total > MAX_REQUESTS:
            found.errors.append(
                BatchError("too_many_tasks", f"The batch has more than {MAX_REQUESTS} requests; split its file.")
            )
            break
    if found.total == 0:
        found.errors.append(BatchError("empty_file", "The input file is empty; a batch needs at least one request."))
    return found


def read(lines: BinaryIO, endpoint: Endpoint) -> Iterator[Request]:
    """The requests of an input that was found good."""
    return (parse(line, raw, endpoint) for line, raw in _numbered(lines))


def parse(line: int, raw: bytes, endpoint: Endpoint) -> Request:
    """The request in a line. Errors: `InvalidRequest`."""
    if len(raw) > MAX_LINE_BYTES:
        raise _wrong("invalid_request", f"This line is longer than {MAX_LINE_BYTES >> 20} MiB.")
    try:
        item: Json = json.loads(raw)
    except (ValueError, RecursionError):
        item = None
    if not isinstance(item, dict):
        raise _wrong("invalid_json_line", "This line is not parseable as valid JSON.")
    for key, (kind, words) in KEYS.items():
        if key not in item:
            raise _wrong("missing_required_parameter", f"Missing required parameter: '{key}'.", key)
        if not isinstance(item[key], kind):
            raise _wrong("invalid_type", f"Invalid type for '{key}': expected {words}.", key)
    for key in item.keys() - KEYS.keys():
        raise _wrong("unknown_parameter", f"Unknown parameter: '{key}'.", key)
    if item["method"] != "POST":
        raise _wrong("invalid_method", "The method of every request in a batch must be 'POST'.", "method")
    if item["url"] != endpoint:
        raise _wrong("invalid_url", "The URL provided for this request does not match the batch endpoint.", "url")
    body = item["body"]
    assert isinstance(body, dict)
    _check_body(body, *ENDPOINTS[endpoint])
    return Request(line, str(item["custom_id"]), body)


def _check_body(body: JsonObject, endpoint: str, needed: str | None) -> None:
    if body.get("stream"):
        raise _wrong(
            "streaming_unsupported", f"{endpoint}: Streaming is not supported in the Batch API.", "body.stream"
        )
    if endpoint == "Responses" and body.get("background"):
        raise _wrong(
            "unsupported_value", "Responses: Background mode is not supported in the Batch API.", "body.background"
        )
    for name in ("model", needed):
        if name is not None and body.get(name) is None:
            raise _wrong("invalid_request", f"{name.capitalize()} parameter is required.", f"body.{name}")


def _check_model(model: str, others: str, knows_model: Callable[[str], bool]) -> None:
    if not knows_model(model):
        raise _wrong(
            "model_not_found", f"The provided model '{model}' is not supported by the Batch API.", "body.model"
        )
    if others:
        raise _wrong(
            "mismatched_model",
            f"The model '{model}' for this request does not match the rest of the batch. "
            "Each batch must contain requests for a single model.",
            "body.model",
        )


def _numbered(lines: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Lines that are not blank, with their numbers; of one that is too long its beginning."""
    lines.seek(0)
    line = 0
    while raw := lines.readline(MAX_LINE_BYTES + 1):
        line += 1
        rest = raw
        while not rest.endswith(b"\n") and (rest := lines.readline(MAX_LINE_BYTES)):
            continue
        if raw.strip():
            yield line, raw


def _wrong(code: str, message: str, param: str | None = None) -> InvalidRequest:
    return InvalidRequest(message, code=code, param=param)


def _at(line: int, error: InvalidRequest) -> BatchError:
    # What a user wrote may hold half a surrogate pair, which no answer of ours can carry.
    message, param = (text and text.encode(errors="backslashreplace").decode() for text in (error.message, error.param))
    return BatchError(error.code or "invalid_request", message or "", param, line)
