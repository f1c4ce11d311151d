"""An eval's file: YAML with OpenAI's words for criteria, messages and sampling, and rows in a JSONL file beside it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from luthier.core.errors import InvalidRequest
from luthier.core.json import JsonObject, numbered

# Key: what it is, and whether there must be one.
KEYS: Final[dict[str, tuple[type, str, bool]]] = {
    "name": (str, "a text", False),
    "data": (str, "the name of a JSONL file beside this one", True),
    "models": (list, "a list of names", False),
    "messages": (list, "a list of messages", False),
    "sampling_params": (dict, "an object", False),
    "testing_criteria": (list, "a list of graders", True),
}


@dataclass(frozen=True)
class EvalPlan:
    """What a file asks for. Without `models` the rows bring their answers along, in `sample`."""

    name: str
    rows: list[JsonObject]
    models: list[str]
    messages: list[JsonObject]
    sampling_params: JsonObject
    testing_criteria: list[JsonObject]

    @property
    def names(self) -> list[str]:
        """The criteria's names, in their order."""
        return [str(criterion.get("name")) for criterion in self.testing_criteria]

    @property
    def item_schema(self) -> JsonObject:
        """What all rows have."""
        keys = [set(row["item"]) if isinstance(row["item"], dict) else set() for row in self.rows]
        return {"type": "object", "required": [*sorted(set.intersection(*keys))]}


def read(file: Path) -> EvalPlan:
    """The plan in a file. Errors: `InvalidRequest` with the key or line that is wrong."""
    import yaml

    try:
        given = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise InvalidRequest(f"{file}: {error}") from error
    if not isinstance(given, dict):
        raise InvalidRequest(f"{file}: an eval is an object with {', '.join(KEYS)}")
    for key in given:
        if key not in KEYS:
            raise InvalidRequest(f'{file}: unknown key "{key}"; known are {", ".join(KEYS)}')
    for key, (kind, words, needed) in KEYS.items():
        if (needed or key in given) and not isinstance(given.get(key), kind):
            raise InvalidRequest(f'{file}: "{key}" should be {words}')
    if bool(given.get("models")) != bool(given.get("messages")):
        raise InvalidRequest(f'{file}: "models" are asked "messages": give both, or neither')
    return EvalPlan(
        name=given.get("name", file.stem),
        rows=_rows(file.parent / given["data"]),
        models=[str(model) for model in given.get("models", [])],
        messages=given.get("messages", []),
        sampling_params=given.get("sampling_params", {}),
        testing_criteria=given["testing_criteria"],
    )


def _rows(file: Path) -> list[JsonObject]:
    """Rows with an `item`; an object without one is an item itself."""
    try:
        lines = list(numbered(file))
    except OSError as error:
        raise InvalidRequest(f"{file}: {error.strerror}") from error
    rows: list[JsonObject] = []
    for number, line in lines:
        try:
            row: Any = json.loads(line.decode().rstrip())
        except ValueError as error:
            raise InvalidRequest(f"{file}: line {number}: not valid JSON: {error}") from error
        if not isinstance(row, dict):
            raise InvalidRequest(f"{file}: line {number}: a row is an object")
        rows.append(row if isinstance(row.get("item"), dict) else {"item": row})
    if not rows:
        raise InvalidRequest(f"{file}: no rows")
    return rows
