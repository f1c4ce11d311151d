"""What is wrong with a body, in OpenAI's words. Knows Pydantic's errors, no operation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ValidationError

from luthier.api.wire.base import UNSUPPORTED
from luthier.core.errors import InvalidRequest

UNPARSABLE: Final = (
    "We could not parse the JSON body of your request. (HINT: This likely means you aren't using your HTTP library "
    "correctly. The API expects a JSON payload, but what was sent was not valid JSON.)"
)

Error = dict[str, Any]  # one of Pydantic's

# What a Pydantic type error expected, as OpenAI calls it.
EXPECTED: Final = {
    "string_type": "a string",
    "int_type": "an integer",
    "int_parsing": "an integer",
    "int_from_float": "an integer",
    "float_type": "a decimal",
    "float_parsing": "a decimal",
    "bool_type": "a boolean",
    "bool_parsing": "a boolean",
    "list_type": "an array",
    "dict_type": "an object",
    "model_type": "an object",
    "model_attributes_type": "an object",
    "dataclass_type": "an object",
    "none_required": "null",
    "mapping_type": "an object",
}


M = TypeVar("M", bound=BaseModel)


def validate(model: type[M], fields: Mapping[str, object]) -> M:
    """A form's fields as a wire type; numbers are read from text. Errors: `InvalidRequest`."""
    try:
        return model.model_validate(fields)
    except ValidationError as error:
        raise explain([{**e, "loc": ("body", *e["loc"])} for e in error.errors()], fields) from error


def explain(errors: Sequence[Error], body: object) -> InvalidRequest:
    """One error out of Pydantic's: the first field's, what is refused by name before the rest of it, and of a union's
    branches the one that got furthest.

    `errors` are as FastAPI gives them: each `loc` begins with body, query, path or header.
    """
    first = errors[0]
    if first["type"] == "json_invalid":
        return InvalidRequest(f"{UNPARSABLE} The parser says: {first['ctx']['error']}.")
    if first["type"] == "missing" and first["loc"] == ("body",):
        return InvalidRequest("Missing required parameter: the request has no body.", code="missing_required_parameter")
    located = [(_path(error, body), error) for error in errors]
    field = located[0][0][:1]
    located = [(path, error) for path, error in located if path[:1] == field]
    located = [(path, error) for path, error in located if error["type"] == UNSUPPORTED][:1] or located
    furthest = max((path for path, _ in located), key=len)
    return _worded(_dotted(furthest), [error for path, error in located if path == furthest])


def _path(error: Error, body: object) -> tuple[str | int, ...]:
    """`loc` without the names of union branches, which are no part of what was sent."""
    place, *loc = error["loc"]
    if place != "body":
        return tuple(loc)
    node, path = body, []
    for step, after in zip_longest(loc, loc[1:]):
        if isinstance(node, dict) and step == node.get("type") and after in node:
            continue  # the branch of a union, though a field has that name too
        if (isinstance(node, dict) and step in node) or (isinstance(node, list) and isinstance(step, int)):
            path.append(step)
            node = node[step]
    if error["type"] == "missing":
        path.append(loc[-1])
    return tuple(path)


def _dotted(path: tuple[str | int, ...]) -> str:
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).removeprefix(".")


def _worded(param: str, errors: list[Error]) -> InvalidRequest:
    # Of a union's branches, one that got as far as a limit is the one that was meant.
    errors = [error for error in errors if _expected(error) is None][:1] or errors
    error = errors[0]
    kind, context, given = error["type"], error.get("ctx", {}), error.get("input")
    match kind:
        case "unsupported_value":
            return _invalid(UNSUPPORTED, param, f"Unsupported value: '{param}': {error['msg']}.".replace("..", "."))
        case "missing":
            return _invalid("missing_required_parameter", param, f"Missing required parameter: '{param}'.")
        case "extra_forbidden":
            return _invalid("unknown_parameter", param, f"Unknown parameter: '{param}'.")
        case "literal_error" | "enum" | "union_tag_invalid" if len(errors) == 1:
            supported = context.get("expected") or context.get("expected_tags", "")
            shown = f"'{given}'" if kind != "union_tag_invalid" else f"'{context['tag']}'"
            supported = supported.replace(" or ", " and ")
            return _invalid("invalid_value", param, f"Invalid value: {shown}. Supported values are: {supported}.")
        case "union_tag_not_found":
            tag = f"{param}.{context['discriminator'].strip(chr(39))}"
            return _invalid("missing_required_parameter", tag, f"Missing required parameter: '{tag}'.")
        case "greater_than" | "greater_than_equal" | "less_than" | "less_than_equal":
            return _out_of_range(param, kind, context, given)
        case "string_too_long" | "string_too_short" | "too_long" | "too_short":
            return _wrong_length(param, kind, context, given)
    expected = list(dict.fromkeys(_expected(error) for error in errors))
    if all(expected):
        one_of = expected[0] if len(expected) == 1 else "one of " + " or ".join(str(e) for e in expected)
        where = f"'{param}'" if param else "the request's body"
        return _invalid(
            "invalid_type", param, f"Invalid type for {where}: expected {one_of}, but got {_kind(given)} instead."
        )
    reason = error["msg"].removeprefix("Value error, ")
    return _invalid("invalid_value", param, f"Invalid '{param}': {reason}.".replace("..", "."))


def _invalid(code: str, param: str, message: str) -> InvalidRequest:
    return InvalidRequest(message, code=code, param=param or None)


def _expected(error: Error) -> str | None:
    if error["type"] == "literal_error":
        return str(error["ctx"]["expected"])
    return EXPECTED.get(error["type"])


def _kind(value: object) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int():
            return "an integer"
        case float():
            return "a decimal"
        case str():
            return "a string"
        case list():
            return "an array"
        case _:
            return "an object"


def _out_of_range(param: str, kind: str, context: dict[str, Any], given: object) -> InvalidRequest:
    sign = {"greater_than": ">", "greater_than_equal": ">=", "less_than": "<", "less_than_equal": "<="}[kind]
    (limit,) = context.values()
    number = "integer" if isinstance(limit, int) and not isinstance(given, float) else "decimal"
    side, short = ("below minimum", "below_min") if ">" in sign else ("above maximum", "above_max")
    return _invalid(
        f"{number}_{short}_value",
        param,
        f"Invalid '{param}': {number} {side} value. Expected a value {sign} {limit}, but got {given} instead.",
    )


def _wrong_length(param: str, kind: str, context: dict[str, Any], given: object) -> InvalidRequest:
    what = "string" if isinstance(given, str) else "array" if isinstance(given, list) else "object"
    article = "a string" if what == "string" else f"an {what}"
    length = len(given) if isinstance(given, (str, list, dict)) else 0
    long = kind.endswith("long")
    limit = context["max_length"] if long else context["min_length"]
    got = f"an empty {what}" if length == 0 else f"{article} with length {length}"
    words = f"{what} too long" if long else f"empty {what}" if length == 0 else f"{what} too short"
    code = f"{what}_above_max_length" if long else f"empty_{what}" if length == 0 else f"{what}_below_min_length"
    bound = "maximum" if long else "minimum"
    return _invalid(
        code,
        param,
        f"Invalid '{param}': {words}. Expected {article} with {bound} length {limit}, but got {got} instead.",
    )
