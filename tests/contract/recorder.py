"""Holds every body and every SSE chunk that the app sends under test against OpenAI's schema.

`Recorder` is ASGI middleware; it keeps what it saw in `violations` and `exercised`. An answer that could not be held
against a schema that there is, for it is empty or of another type, is a violation too.
Where OpenAI contradicts itself, `MENDED` says which reading counts.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

DOCUMENT: dict[str, Any] = json.loads((Path(__file__).parent / "openai.json").read_text())
ERROR = {"type": "object", "required": ["error"], "properties": {"error": {"$ref": "openai#/components/schemas/Error"}}}
TEXT = {"type": "string"}
OK = range(200, 300)
JSON, EVENTS = "application/json", "text/event-stream"
CLIENT_CLOSED = 499  # what nobody waits for any more has no body
FILES = {("GET", "/files/{file_id}/content")}  # documented as a JSON string, and sent as the bytes that they are

# Fields that are not nullable in the document but that the real service prints as null (and every SDK accepts).
MENDED: dict[str, tuple[str, ...]] = {
    "OpenAIFile": ("expires_at", "status_details"),
    "Batch": (
        "errors",
        "output_file_id",
        "error_file_id",
        "in_progress_at",
        "expires_at",
        "finalizing_at",
        "completed_at",
        "failed_at",
        "expired_at",
        "cancelling_at",
        "cancelled_at",
    ),
    "FineTuningJobEvent": ("data",),
    "Upload": ("file",),
    "EvalRun": ("error",),
    "EvalRunOutputItem": ("error",),
}


def mend(document: dict[str, Any]) -> dict[str, Any]:
    """The document with `MENDED` fields nullable, and stored messages of every role (its own example has a user's)."""
    schemas = document["components"]["schemas"]
    for name, fields in MENDED.items():
        for field in fields:
            for properties in _properties(schemas.get(name, {})):
                if field in properties:
                    properties[field] = {"anyOf": [properties[field], {"type": "null"}]}
    stored = schemas["ChatCompletionMessageList"]["properties"]["data"]["items"]["allOf"]
    roles = {"role": {"enum": ["system", "developer", "user", "assistant", "tool", "function"]}}
    said = schemas["ChatCompletionResponseMessage"]
    stored[0] = {**said, "properties": {**said["properties"], **roles}}
    # A text's first token has nothing that it could follow from.
    choice = schemas["CreateCompletionResponse"]["properties"]["choices"]["items"]["properties"]
    choice["logprobs"]["anyOf"][0]["properties"]["token_logprobs"]["items"]["type"] = ["number", "null"]
    # A text in pieces is not in the document. They are like the whole, without a reason to end and without usage yet.
    piece = deepcopy(schemas["CreateCompletionResponse"])
    piece["properties"]["usage"] = {"anyOf": [piece["properties"]["usage"], {"type": "null"}]}
    reason = piece["properties"]["choices"]["items"]["properties"]["finish_reason"]
    reason["enum"].append(None)
    reason["type"] = ["string", "null"]
    document["paths"]["/completions"]["post"]["responses"]["200"]["content"][EVENTS] = {"schema": piece}
    # OpenAI's schema has one grader in a multi, its own example a list, its guide a map.
    inside = schemas["GraderMulti"]["properties"]
    many = {"type": "object", "additionalProperties": inside["graders"]}
    inside["graders"] = {"anyOf": [inside["graders"], {"type": "array", "items": inside["graders"]}, many]}
    # A request may say `evals`; the answer's list of purposes lacks it.
    schemas["OpenAIFile"]["properties"]["purpose"]["enum"].append("evals")
    # `encoding_format` base64 is documented, its answer is not.
    schemas["Embedding"]["properties"]["embedding"] = {"anyOf": [schemas["Embedding"]["properties"]["embedding"], TEXT]}
    _modernise(document)
    return document


def _modernise(node: Any) -> None:
    """`exclusiveMinimum: true` is an older dialect's spelling; in this one it would mean 1."""
    for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else []:
        _modernise(child)
    if isinstance(node, dict) and node.get("exclusiveMinimum") is True:
        node["exclusiveMinimum"] = node.pop("minimum")


def _properties(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if "properties" in schema:
        yield schema["properties"]
        for nested in schema["properties"].values():
            yield from _properties(nested)
    for part in [*schema.get("allOf", []), *schema.get("anyOf", [])]:
        yield from _properties(part)


REGISTRY: Registry[Any] = Registry().with_resource("openai", Resource(mend(DOCUMENT), DRAFT202012))


@cache
def templates() -> list[tuple[str, re.Pattern[str], str]]:
    """(method, path pattern, path template) of every documented operation; fixed segments before parameters."""
    rows = []
    for path, item in sorted(DOCUMENT["paths"].items(), key=lambda p: p[0].replace("{", "~")):
        pattern = re.compile("/v1" + re.sub(r"\\{[^}]*\\}", "[^/]+", re.escape(path)))
        rows += [(method.upper(), pattern, path) for method in item]
    return rows


def find(method: str, path: str) -> str | None:
    """The template of a request's path, when OpenAI documents that operation."""
    for candidate, pattern, template in templates():
        if candidate == method and pattern.fullmatch(path):
            return template
    return None


@cache
def validator(method: str, template: str | None, status: int, media: str) -> jsonschema.Draft202012Validator | None:
    """The schema of one answer; None where the document has none (a file's bytes)."""
    schema = contents(method, template, status).get(media, {}).get("schema")
    return schema and jsonschema.Draft202012Validator(_rooted(schema), registry=REGISTRY)


def contents(method: str, template: str | None, status: int) -> dict[str, Any]:
    """What an answer may be, by media type. Errors of every path have the same envelope."""
    if status not in OK:
        return {JSON: {"schema": ERROR}}
    if template is None or (method, template) in FILES:
        return {}
    responses = DOCUMENT["paths"][template][method.lower()]["responses"]
    answer: dict[str, Any] = responses.get(str(status), responses.get("200", responses.get("201", {})))
    return answer.get("content", {})


def _rooted(node: Any) -> Any:
    if isinstance(node, list):
        return [_rooted(n) for n in node]
    if not isinstance(node, dict):
        return node
    return {k: f"openai{v}" if k == "$ref" and v.startswith("#") else _rooted(v) for k, v in node.items()}


class Recorder:
    """ASGI middleware that reads along. One for the whole test session."""

    def __init__(self) -> None:
        self.app: Any = None
        self.violations: list[str] = []
        self.exercised: set[tuple[str, str]] = set()
        self.bodies = self.chunks = 0

    def around(self, app: Any) -> Any:
        """The app, listened to."""

        async def listening(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] != "http":
                await app(scope, receive, send)
                return
            status, media, body, whole = 0, "", bytearray(), False

            async def listen(message: Any) -> None:
                nonlocal status, media, whole
                if message["type"] == "http.response.start":
                    status = message["status"]
                    headers = {k.lower(): v for k, v in message["headers"]}
                    media = headers.get(b"content-type", b"").decode().split(";")[0]
                elif message["type"] == "http.response.body":
                    whole = not message.get("more_body", False)
                    if media in {JSON, EVENTS}:
                        body.extend(message.get("body", b""))
                await send(message)

            await app(scope, receive, listen)
            if whole or body:  # else its client left before there was anything of it
                self.record(scope["method"], scope["path"], status, media, bytes(body))

        return listening

    def record(self, method: str, path: str, status: int, media: str, body: bytes) -> None:
        """Check one exchange; a HEAD or OPTIONS, and a success of what OpenAI does not have, is not checked."""
        template = find(method, path)
        if template is None and status >= 500:
            self.violations.append(f"{method} {path}: status {status}: {body[:300]!r}")
            return
        unasked = template is None and (status in OK or method in {"HEAD", "OPTIONS"} or not path.startswith("/v1/"))
        if unasked or status == CLIENT_CLOSED:
            return
        if template is not None and status in OK:
            self.exercised.add((method, template))
        what = f"{method} {template or path} {status}"
        check = validator(method, template, status, media)
        if check is None:
            if wanted := contents(method, template, status):
                self.violations.append(f"{what}: it is {media or 'of no type'}, not {' or '.join(wanted)}")
            return
        try:
            documents = list(self._documents(media, body))
        except ValueError as error:
            self.violations.append(f"{what}: it is no JSON: {error}")
            return
        if not documents:
            self.violations.append(f"{what}: it is empty")
        for document in documents:
            error = jsonschema.exceptions.best_match(check.iter_errors(document))
            if error is not None:
                where = "/".join(map(str, error.absolute_path))
                self.violations.append(f"{what}: at '{where}': {error.message[:400]}")

    def _documents(self, media: str, body: bytes) -> Iterator[Any]:
        """What is to be checked: a body, or a stream's events but for an error in mid-stream."""
        if media == JSON:
            self.bodies += bool(body)
            yield from [json.loads(body)] if body else []
            return
        values = [line[6:] for line in body.decode().splitlines() if line.startswith("data: ")]
        documents = [json.loads(v) for v in values if v != "[DONE]"]
        self.chunks += len(documents)
        yield from (d for d in documents if "error" not in d or d.get("type"))
