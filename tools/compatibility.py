"""Write `docs/compatibility.md` from the routes, the wire types and OpenAI's API document; a test compares the two.

What is refused stands at the wire types' fields (`Unsupported`), and comes here through the app's own API document.
What people wrote is in `compatibility_notes.md` beside this file, and ends the page.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

from luthier.api.app import create_app
from luthier.api.wire.base import X_UNSUPPORTED
from luthier.core.settings import Settings

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "compatibility.md"
NOTES = HERE / "compatibility_notes.md"
OPENAI = HERE.parent / "tests" / "contract" / "openai.json"
HEAD = """# Compatibility with OpenAI's API

This page is made from the code by `make docs`, and CI holds the two together. It compares Luthier's routes and request
fields with OpenAI's API document of 2026-08-21 (and, for webhook endpoints, with the types of openai-python 3.54.0).

- **works**: done as OpenAI documents it; values in the last column are the exceptions.
- **refused**: known, and answered 400 with the code `unsupported_value` and, of a field, its name in `param`.
- **not built**: the operation answers 404 or 405, the field 400 `unknown_parameter`; nothing is just ignored.
"""

Schema = dict[str, Any]


def page() -> str:
    """The whole page."""
    theirs: Schema = json.loads(OPENAI.read_text())
    ours = document()
    routes = _routes(ours)
    documented = list(_documented(theirs))
    return "".join(
        [HEAD, *_overview(routes, documented), *_fields(routes, documented, ours, theirs), NOTES.read_text()]
    )


def document() -> Schema:
    """The app's own API document."""
    return create_app(Settings(data=Path("unused"))).openapi()


def built(theirs: Schema) -> Iterator[tuple[str, str, Schema]]:
    """Path, method and description of OpenAI's operations that the app has."""
    routes = _routes(document())
    return ((p, m, o) for p, m, o in _documented(theirs) if _state(routes.get((m, _shape(p)))) == "works")


def _state(route: Schema | None) -> str:
    if route is None:
        return "not built"
    return "refused" if X_UNSUPPORTED in route else "works"


def _routes(ours: Schema) -> dict[tuple[str, str], Schema]:
    return {(method, _shape(path)): operation for path, method, operation in _operations(ours)}


def _documented(theirs: Schema) -> Iterator[tuple[str, str, Schema]]:
    return ((p, m, o) for p, m, o in _operations(theirs) if "?beta" not in p)


def _operations(document: Schema) -> Iterator[tuple[str, str, Schema]]:
    for path, item in document["paths"].items():
        for method, operation in item.items():
            yield path.removeprefix("/v1"), method.upper(), operation


def _shape(path: str) -> str:
    """The path without its parameters' names, which are ours to choose."""
    return "/".join("{}" if part.startswith("{") else part for part in path.split("/"))


def _overview(routes: dict[tuple[str, str], Schema], documented: list[tuple[str, str, Schema]]) -> Iterator[str]:
    states = {(path, method): _state(routes.get((method, _shape(path)))) for path, method, _ in documented}
    built = list(states.values()).count("works")
    yield f"\n## Operations\n\n{built} of {len(documented)} work.\n\n| operation | | |\n| --- | --- | --- |\n"
    for path, operations in groupby(sorted(documented, key=lambda row: row[0]), key=lambda row: row[0]):
        methods = [method for _, method, _ in operations]
        for state in ("works", "refused", "not built"):
            chosen = [method for method in methods if states[path, method] == state]
            if chosen:
                yield f"| `{path}` | {', '.join(chosen)} | {state} |\n"


def _fields(
    routes: dict[tuple[str, str], Schema], documented: list[tuple[str, str, Schema]], ours: Schema, theirs: Schema
) -> Iterator[str]:
    yield "\n## Request fields\n"
    for path, method, operation in documented:
        route = routes.get((method, _shape(path)))
        wanted = _given(operation, theirs)
        if route is None or X_UNSUPPORTED in route or not wanted:
            continue
        has = _given(route, ours)
        yield f"\n### `{method} {path}`\n\n| field | | refused values |\n| --- | --- | --- |\n"
        for name in sorted(wanted):
            yield _row(name, has.get(name, has.get(f"{name}[]")), ours)  # a list's name may carry brackets


def _row(name: str, field: Schema | None, ours: Schema) -> str:
    if field is None:
        return f"| `{name}` | not built | |\n"
    refused = dict(_refusals(field, ours, "", frozenset()))
    if refused.get("") is True:
        return f"| `{name}` | refused | |\n"
    told = [": ".join(filter(None, (place and f"`{place}`", _values(values)))) for place, values in refused.items()]
    return f"| `{name}` | works | {'; '.join(told)} |\n".replace("|  |", "| |")


def _values(values: Any) -> str:
    if values is True:
        return ""
    return ", ".join(f"`{value}`" if isinstance(value, str) else f"`{json.dumps(value)}`" for value in values)


def _given(operation: Schema, document: Schema) -> dict[str, Schema]:
    """What a request can say, by name: the query's parameters and the body's fields."""
    query = {p["name"]: p.get("schema", {}) for p in operation.get("parameters", []) if p["in"] == "query"}
    body: Schema = operation.get("requestBody") or {}
    for content in body.get("content", body).values():
        if isinstance(content, dict) and "schema" in content:
            query |= _properties(content["schema"], document)
    return query


def _followed(schema: Schema, document: Schema) -> Schema:
    if "$ref" not in schema:
        return schema
    return {**document["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]], **schema}


def _branches(schema: Schema) -> list[Schema]:
    return [*schema.get("allOf", []), *schema.get("anyOf", []), *schema.get("oneOf", [])]


def _properties(schema: Schema, document: Schema) -> dict[str, Schema]:
    schema = _followed(schema, document)
    found = dict(schema.get("properties", {}))
    for branch in _branches(schema):
        found |= _properties(branch, document)
    return found


def _refusals(schema: Schema, document: Schema, place: str, above: frozenset[str]) -> Iterator[tuple[str, Any]]:
    """What is refused at a field and inside it: the place, and the values or True."""
    reference = schema.get("$ref", "")
    if reference in above:
        return
    above = above | {reference} if reference else above
    schema = _followed(schema, document)
    if X_UNSUPPORTED in schema:
        yield place, schema[X_UNSUPPORTED]
        if schema[X_UNSUPPORTED] is True:
            return
    for branch in _branches(schema):
        yield from _refusals(branch, document, place, above)
    if isinstance(schema.get("items"), dict):
        yield from _refusals(schema["items"], document, f"{place}[]", above)
    for name, inner in schema.get("properties", {}).items():
        yield from _refusals(inner, document, f"{place}.{name}".removeprefix("."), above)


if __name__ == "__main__":
    PAGE.write_text(page())
