"""The rows of an eval's run: lines of a file, or what was stored of chats and responses. Asks nobody.

A row's number is the same whenever it is read, so that a run goes on where it stopped.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from jsonschema import Draft202012Validator, SchemaError
from jsonschema.exceptions import ValidationError as JsonSchemaError
from jsonschema.exceptions import best_match
from jsonschema.validators import extend
from pydantic_core import SchemaError as CoreSchemaError
from pydantic_core import SchemaValidator, core_schema
from referencing import Registry
from referencing.exceptions import Unresolvable

from luthier.core.errors import InvalidRequest
from luthier.core.evals import Eval, EvalRun
from luthier.core.json import Json, JsonObject, parsed
from luthier.domain.eval_samples import Sample, of_chat, of_names, of_response
from luthier.domain.jsonl import MAX_LINE_BYTES
from luthier.domain.platform import Platform
from luthier.store import files, responses, stored_chats

UNSAMPLED: Final[JsonObject] = {"temperature": 1.0, "top_p": 1.0, "seed": 0, "max_completion_tokens": 0}


@dataclass(frozen=True)
class Row:
    """What is graded. `sample` is what was said of it already; None: the run's model is to be asked."""

    number: int
    item: JsonObject
    sample: Sample | None


def check_schema(schema: JsonObject) -> None:
    """Errors: `InvalidRequest` for what is no JSON schema, or has patterns that may take for ever."""
    try:
        with _bounded():
            Draft202012Validator.check_schema(schema)
            _check_patterns(schema)
    except (SchemaError, RecursionError) as error:
        where = (
            f"at {error.json_path}: {error.message}" if isinstance(error, SchemaError) else "it is nested too deeply"
        )
        raise _no_schema(where) from error


def _check_patterns(schema: Json) -> None:
    for name, value in (
        schema.items() if isinstance(schema, dict) else enumerate(schema if isinstance(schema, list) else ())
    ):
        if name == "patternProperties":
            raise _no_schema("patternProperties cannot be checked here; name the properties")
        if name == "pattern" and isinstance(value, str):
            try:
                _matcher(value)
            except CoreSchemaError as error:
                raise _no_schema(f"pattern {value!r} cannot be matched in bounded time: {error}") from error
        _check_patterns(value)


def _no_schema(why: str) -> InvalidRequest:
    return InvalidRequest(
        f"Invalid 'item_schema': {why}", code="invalid_json_schema", param="data_source_config.item_schema"
    )


@cache
def _matcher(pattern: str) -> SchemaValidator:
    """A pattern of Rust's, which takes as long as the text is: Python's may take for ever."""
    return SchemaValidator(core_schema.str_schema(pattern=pattern))


def _pattern(_validator: object, pattern: str, text: object, _schema: object) -> Iterator[JsonSchemaError]:
    if isinstance(text, str) and not _matcher(pattern).isinstance_python(text):
        yield JsonSchemaError(f"{text!r} does not match {pattern!r}")


_Validator: Final = extend(Draft202012Validator, {"pattern": _pattern})


def rows(platform: Platform, tested: Eval, run: EvalRun) -> Iterator[Row]:
    """The run's rows. Errors: `InvalidRequest` for one that cannot be read or breaks the eval's schema."""
    source: dict[str, Any] = run.data_source
    origin = source["source"]
    match origin["type"]:
        case "file_content":
            found = _given(enumerate(origin["content"], 1))
        case "file_id":
            found = _given(_lines(platform, run.project_id, origin["id"]))
        case "responses":
            found = _responses(platform, run, _filters(tested, origin))
        case _:
            found = _chats(platform, run, _filters(tested, origin))
    config: dict[str, Any] = tested.data_source_config
    for row in found:
        if config["type"] == "custom":
            _check(row, config["schema"]["properties"]["item"])
        yield Row(row.number, row.item, None) if source.get("model") else row


def _given(lines: Iterable[tuple[int, Json]]) -> Iterator[Row]:
    for number, line in lines:
        if not isinstance(line, dict) or not isinstance(line.get("item"), dict):
            raise InvalidRequest(f'Line {number}: each line is an object with an "item", which is an object.')
        sample, item = line.get("sample"), line["item"]
        assert isinstance(item, dict)
        yield Row(number, item, of_names(sample if isinstance(sample, dict) else {}))


def _lines(platform: Platform, project_id: str, file_id: str) -> Iterator[tuple[int, Json]]:
    file = files.get(platform.database, project_id, file_id)
    if file is None:
        raise InvalidRequest(f"No such File object: {file_id}", param="data_source.source.id")
    rest = b""
    number = 0
    for chunk in platform.blobs.read(file.blob, file.sha256):
        *lines, rest = (rest + chunk).split(b"\n")
        if len(rest) > MAX_LINE_BYTES:
            raise InvalidRequest(f"Line {number + len(lines) + 1} is longer than {MAX_LINE_BYTES >> 20} MiB.")
        for line in lines:
            number += 1
            yield from _parsed(number, line)
    yield from _parsed(number + 1, rest)


def _parsed(number: int, line: bytes) -> Iterator[tuple[int, Json]]:
    if line.strip():
        try:
            yield number, parsed(line)
        except ValueError as error:
            raise InvalidRequest(f"Line {number} is not valid JSON: {error}") from error


def _check(row: Row, schema: JsonObject) -> None:
    try:
        with _bounded():
            wrong = best_match(_validator(json.dumps(schema)).iter_errors(row.item))
    except Unresolvable as error:
        raise InvalidRequest(f"The eval's item_schema refers to what is not in it: {error}") from error
    except RecursionError as error:
        raise InvalidRequest("The eval's item_schema refers to itself without an end") from error
    if wrong is not None:
        raise InvalidRequest(
            f"Row {row.number} breaks the eval's item_schema: at {wrong.json_path.replace('$', 'item', 1)}: "
            f"{wrong.message[:500]}"
        )


@contextmanager
def _bounded() -> Iterator[None]:
    """A recursion without an end is a `RecursionError`, also where jsonschema's map in Rust meets it.

    That one panics, by an exception of a class that cannot be imported and that is no `Exception`.
    """
    try:
        yield
    except BaseException as error:
        if type(error).__name__ == "PanicException":
            raise RecursionError from error
        raise


@cache
def _validator(schema: str) -> Draft202012Validator:
    return _Validator(json.loads(schema), registry=Registry())  # an empty registry fetches nothing


def _filters(tested: Eval, origin: Mapping[str, Any]) -> dict[str, Any]:
    """What is looked for: the source's filters, and the metadata that the eval itself is about."""
    metadata: Any = tested.data_source_config.get("metadata") or {}
    wanted = {key: value for key, value in origin.items() if value is not None}
    return {**wanted, "metadata": {**metadata, **wanted.get("metadata", {})}}


def _chats(platform: Platform, run: EvalRun, wanted: dict[str, Any]) -> Iterator[Row]:
    found = stored_chats.each(platform.database, run.project_id, until=_until(run, wanted))
    taken = 0
    for number, chat in found:
        if taken == wanted.get("limit"):
            return
        if not _in_time(chat.created_at, wanted) or chat.model != wanted.get("model", chat.model):
            continue
        if wanted["metadata"].items() <= chat.metadata.items():
            taken += 1
            item: JsonObject = {"input": [*chat.messages], "metadata": dict[str, Json](chat.metadata), "id": chat.id}
            yield Row(number, item, of_chat(chat.messages, chat.answer, UNSAMPLED))


def _responses(platform: Platform, run: EvalRun, wanted: dict[str, Any]) -> Iterator[Row]:
    for number, kept in responses.each(platform.database, run.project_id, until=_until(run, wanted)):
        answer: dict[str, Any] = kept.answer
        if kept.status not in ("completed", "incomplete") or not _in_time(kept.created_at, wanted):
            continue
        tools = {tool.get("name") for tool in answer.get("tools") or ()}
        same = all(answer.get(name) == wanted[name] for name in ("model", "temperature", "top_p") if name in wanted)
        known = wanted.get("instructions_search", "") in (answer.get("instructions") or "")
        users = wanted.get("users") or [answer.get("user")]
        fits = same and known and answer.get("user") in users and tools >= set(wanted.get("tools") or ())
        if fits and wanted["metadata"].items() <= (answer.get("metadata") or {}).items():
            messages = [message for message in kept.input if message.get("type", "message") == "message"]
            item: JsonObject = {"input": [*messages], "metadata": answer.get("metadata") or {}, "id": kept.id}
            yield Row(number, item, of_response(messages, answer, UNSAMPLED))


def _until(run: EvalRun, wanted: Mapping[str, Any]) -> int:
    """What is stored after the run was made is not of it, however late the run is."""
    return min(run.created_at, int(wanted.get("created_before", run.created_at)))


def _in_time(created_at: int, wanted: Mapping[str, Any]) -> bool:
    return created_at >= int(wanted.get("created_after", 0))
