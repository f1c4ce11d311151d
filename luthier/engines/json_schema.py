"""Whether a JSON schema can constrain an answer. llama.cpp logs one that it cannot use and answers freely."""

from __future__ import annotations

import json
from typing import Final

from luthier.core.errors import InvalidRequest
from luthier.core.json import Json, JsonObject

_TYPES: Final = frozenset({"object", "array", "string", "number", "integer", "boolean", "null"})
_OF_SCHEMAS: Final = ("properties", "$defs", "definitions", "patternProperties")
_LISTS: Final = ("anyOf", "allOf", "oneOf", "prefixItems")
_UNSUPPORTED: Final = (
    "not",
    "if",
    "then",
    "else",
    "dependentSchemas",
    "propertyNames",
    "contains",
    "unevaluatedProperties",
)


# JSON is written as Python writes it, and as training data has it. Free whitespace is a trap: small models, once kept
# from saying what they want, go on with it until the context is full.
_SPELLING: Final[JsonObject] = {"whitespace_flexible": False, "key_separator": ": ", "item_separator": ", "}


def json_rule(schema: JsonObject) -> str:
    """The right side of a rule in LLGuidance's grammar: JSON that follows the schema."""
    return "%json " + json.dumps({**schema, "x-guidance": _SPELLING})


def check_schema(schema: Json, *, param: str) -> None:
    """Errors: `InvalidRequest` naming the place in the schema and what is wrong there."""
    try:
        _Checker(schema, param).check(schema, "")
    except RecursionError as error:
        raise InvalidRequest(
            f"Invalid schema for '{param}': it is nested too deeply.", code="invalid_json_schema", param=param
        ) from error


def can_follow(schema: Json) -> bool:
    """Whether `check_schema` finds nothing wrong."""
    try:
        check_schema(schema, param="")
    except InvalidRequest:
        return False
    return True


def moved(schema: Json, place: str) -> Json:
    """The schema as part of another one, in which it stands at `place`: what it refers to has moved with it."""
    if isinstance(schema, list):
        return [moved(inner, place) for inner in schema]
    if not isinstance(schema, dict):
        return schema
    below = {key: moved(inner, place) for key, inner in schema.items()}
    reference = schema.get("$ref")
    return {**below, "$ref": place + reference[1:]} if isinstance(reference, str) else below


class _Checker:
    def __init__(self, root: Json, param: str) -> None:
        self._root = root
        self._param = param

    def check(self, schema: Json, place: str) -> None:
        if isinstance(schema, bool):
            return
        if not isinstance(schema, dict):
            raise self._wrong(place, "a schema is an object")
        kinds = schema.get("type", [])
        for kind in kinds if isinstance(kinds, list) else [kinds]:
            if not isinstance(kind, str) or kind not in _TYPES:
                raise self._wrong(f"{place}/type", f"{kind!r} is not one of {', '.join(sorted(_TYPES))}")
        for key in _UNSUPPORTED:
            if key in schema:
                raise self._wrong(f"{place}/{key}", "is not supported")
        if "enum" in schema and not (isinstance(schema["enum"], list) and schema["enum"]):
            raise self._wrong(f"{place}/enum", "is a list of at least one value")
        if "$ref" in schema:
            self._resolve(schema["$ref"], f"{place}/$ref")
        self._check_below(schema, place)

    def _check_below(self, schema: JsonObject, place: str) -> None:
        for key in _OF_SCHEMAS:
            if key in schema:
                below = schema[key]
                if not isinstance(below, dict):
                    raise self._wrong(f"{place}/{key}", "is an object of schemas")
                for name, inner in below.items():
                    self.check(inner, f"{place}/{key}/{name}")
        for key in _LISTS:
            if key in schema:
                inners = schema[key]
                if not isinstance(inners, list) or not inners:
                    raise self._wrong(f"{place}/{key}", "is a list of schemas")
                for index, inner in enumerate(inners):
                    self.check(inner, f"{place}/{key}/{index}")
        for key in ("items", "additionalProperties"):
            if key in schema:
                self.check(schema[key], f"{place}/{key}")

    def _resolve(self, reference: Json, place: str) -> None:
        if not isinstance(reference, str) or not reference.startswith("#"):
            raise self._wrong(place, f"{reference!r} is not a place in this schema, such as '#/$defs/name'")
        node = self._root
        for step in reference[1:].split("/")[1:]:
            name = step.replace("~1", "/").replace("~0", "~")
            if not isinstance(node, dict) or name not in node:
                raise self._wrong(place, f"{reference!r} leads nowhere")
            node = node[name]

    def _wrong(self, place: str, words: str) -> InvalidRequest:
        return InvalidRequest(
            f"Invalid schema for '{self._param}': at '{place or '/'}': {words}.",
            code="invalid_json_schema",
            param=self._param,
        )
