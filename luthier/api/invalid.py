"""What is wrong with a body, in OpenAI's words. Knows Pydantic's errors, no operation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
Path = tuple[str | int, ...]

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


@dataclass(frozen=True)
class _Fault:
    """An error and its place in the body. `unions` are those on the way: where each is, and the branch that failed."""

    error: Error
    path: Path
    unions: tuple[tuple[Path, str], ...] = ()


def validate(model: type[M], fields: Mapping[str, object]) -> M:
    """A form's fields as a wire type; numbers are read from text. Errors: `InvalidRequest`."""
    try:
        return model.model_validate(fields)
    except ValidationError as error:
        raise explain([{**e, "loc": ("body", *e["loc"])} for e in error.errors()], fields) from error


def explain(errors: Sequence[Error], body: object) -> InvalidRequest:
    """One error out of Pydantic's: the first field's, what is refused by name before the rest of it, and of a union's
    branches the one that was meant.

    `errors` are as FastAPI gives them: each `loc` begins with body, query, path or header.
    """
    first = errors[0]
    if first["type"] == "json_invalid":
        return InvalidRequest(f"{UNPARSABLE} The parser says: {first['ctx']['error']}.")
    if first["type"] == "missing" and first["loc"] == ("body",):
        return InvalidRequest("Missing required parameter: the request has no body.", code="missing_required_parameter")
    faults = [_located(error, body) for error in errors]
    field = faults[0].path[:1]
    faults = [fault for fault in faults if fault.path[:1] == field]
    faults = [fault for fault in faults if fault.error["type"] == UNSUPPORTED][:1] or _meant(faults)
    path = faults[0].path
    return _worded(_dotted(path), [fault.error for fault in faults if fault.path == path])


def _located(error: Error, body: object) -> _Fault:
    """Where in the body an error is: its `loc` names branches of unions too, which are no part of what was sent."""
    place, *loc = error["loc"]
    if place != "body":
        return _Fault(error, tuple(loc))
    node, path, unions = body, [], []
    missing = [loc.pop()] if error["type"] == "missing" else []
    for step, after in zip_longest(loc, [*loc[1:], *missing]):
        # The branch of a union, though a field has that name too. What is `missing` is so in the error's input.
        tagged = isinstance(node, dict) and step == node.get("type") and (after in node or node == error.get("input"))
        inside = (isinstance(node, dict) and step in node) or (isinstance(node, list) and isinstance(step, int))
        if inside and not tagged:
            path.append(step)
            node = node[step]  # type: ignore[index]  # a dict or list, as `inside` says
        else:
            unions.append((tuple(path), str(step)))
    if error["type"] in ("union_tag_invalid", "union_tag_not_found"):
        missing = [error["ctx"]["discriminator"].strip("'")]
    return _Fault(error, (*path, *missing), tuple(unions))


def _meant(faults: list[_Fault]) -> list[_Fault]:
    """The faults of those branches that what was sent comes closest to, at each union on the way to the first."""
    depth = 0
    while depth < len(faults[0].unions):
        at, branches = faults[0].unions[depth][0], dict[str, list[_Fault]]()
        for fault in faults:
            for place, branch in fault.unions[depth : depth + 1]:
                if place == at:
                    branches.setdefault(branch, []).append(fault)
        closest = max(_closeness(at, branch) for branch in branches.values())
        faults = [fault for branch in branches.values() if _closeness(at, branch) == closest for fault in branch]
        depth += 1
    return faults


def _closeness(at: Path, branch: list[_Fault]) -> tuple[bool, int, int, list[int]]:
    """How close something comes to a branch of the union at a path: it is of the branch's kind, has few faults, and
    those deep inside and late.
    """
    other_kind = [f.path for f in branch if f.path in (at, (*at, "type")) and _expected(f.error)]
    if other_kind:
        return False, 0, max(len(path) for path in other_kind), []
    paths = {fault.path for fault in branch}
    late = [step for step in branch[0].path if isinstance(step, int)]
    return True, -len(paths), max(len(path) for path in paths), late


def _dotted(path: Path) -> str:
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).removeprefix(".")


def _worded(param: str, errors: list[Error]) -> InvalidRequest:
    # Of a union's branches, one that got as far as a limit is the one that was meant.
    errors = [error for error in errors if _expected(error) is None][:1] or errors
    error = errors[0]
    kind, context, given = error["type"], error.get("ctx", {}), error.get("input")
    match kind:
        case "unsupported_value":
            return _invalid(UNSUPPORTED, param, f"Unsupported value: '{param}': {error['msg']}.".replace("..", "."))
        case "missing" | "union_tag_not_found":
            return _invalid("missing_required_parameter", param, f"Missing required parameter: '{param}'.")
        case "extra_forbidden":
            return _invalid("unknown_parameter", param, f"Unknown parameter: '{param}'.")
        case "literal_error" | "enum" | "union_tag_invalid" if len(errors) == 1:
            supported = context.get("expected") or context.get("expected_tags", "")
            shown = f"'{given}'" if kind != "union_tag_invalid" else f"'{context['tag']}'"
            supported = supported.replace(" or ", " and ")
            return _invalid("invalid_value", param, f"Invalid value: {shown}. Supported values are: {supported}.")
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
