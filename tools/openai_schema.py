"""Cut OpenAI's API document down to the operations that Luthier serves: `tests/contract/openai.json`.

Run as `python tools/openai_schema.py OPENAPI.yaml EXTRA.yaml`, where the first is OpenAI's document (MIT) and the
second holds what is
younger. Kept: the operations of `GROUPS`, every schema that they reach, and their examples. `nullable` becomes JSON
Schema's own.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import yaml

GROUPS = (
    "/files",
    "/uploads",
    "/fine_tuning",
    "/models",
    "/chat/completions",
    "/completions",
    "/embeddings",
    "/responses",
    "/batches",
    "/webhook_endpoints",
    "/webhook_event_types",
    "/evals",
    "/organization/admin_api_keys",
    "/organization/audit_logs",
    "/organization/costs",
    "/organization/usage/completions",
)
# Of these, the operations alone and not what lies below them.
EXACTLY = (
    "/organization/projects",
    "/organization/projects/{project_id}",
    "/organization/projects/{project_id}/archive",
    "/organization/projects/{project_id}/api_keys",
    "/organization/projects/{project_id}/api_keys/{api_key_id}",
)
TARGET = Path(__file__).parent.parent / "tests/contract/openai.json"


def main(openapi: Path, extra: Path) -> None:
    documents = [yaml.load(file.read_text(), yaml.CSafeLoader) for file in (openapi, extra)]
    paths: dict[str, Any] = {}
    schemas: dict[str, Any] = {}
    for document in documents:
        schemas |= document["components"]["schemas"]
        for path, item in document["paths"].items():
            if path in EXACTLY or any(path == g or path.startswith(g + "/") for g in GROUPS):
                paths.setdefault(path, {}).update(operations(item))
    kept: dict[str, Any] = {}
    todo = sorted(references(paths))
    while todo:
        name = todo.pop()
        if name not in kept:
            kept[name] = plain(schemas[name])
            todo += sorted(references(kept[name]))
    document = {"paths": paths, "components": {"schemas": dict(sorted(kept.items()))}}
    TARGET.write_text(json.dumps(document, indent=0, sort_keys=True, ensure_ascii=False) + "\n")
    print(f"{sum(map(len, paths.values()))} operations, {len(kept)} schemas, {TARGET.stat().st_size:,} bytes")


def operations(item: dict[str, Any]) -> dict[str, Any]:
    """What the tests need of a path's operations."""
    kept = {}
    for method, operation in item.items():
        if method in {"get", "post", "delete"}:
            answers = {c: {"content": plain(r.get("content", {}))} for c, r in operation["responses"].items()}
            body = operation.get("requestBody", {}).get("content", {})
            kept[method] = {
                "operationId": operation["operationId"],
                "requestBody": plain({t: {"schema": c.get("schema", {})} for t, c in body.items()}),
                "responses": answers,
                "parameters": [p for p in operation.get("parameters", []) if "name" in p],
                "examples": operation.get("x-oaiMeta", {}).get("examples", []),
            }
    return kept


def plain(node: Any) -> Any:
    """The node without prose, `nullable: true` written as JSON Schema's null."""
    if isinstance(node, list):
        return [plain(n) for n in node]
    if not isinstance(node, dict):
        return node
    out = {
        k: plain(v)
        for k, v in node.items()
        if not (
            k in {"description", "title", "example", "examples", "default", "x-oaiMeta"} and not isinstance(v, dict)
        )
        and k not in {"x-oaiMeta", "x-stainless-const", "nullable", "discriminator"}
    }
    if node.get("nullable") is True:
        if isinstance(out.get("type"), str):
            out["type"] = [out["type"], "null"]
            if "enum" in out:
                out["enum"] = [*out["enum"], None]
        else:
            out = {"anyOf": [out, {"type": "null"}]}
    return out


def references(node: Any) -> set[str]:
    """Names of the schemas that a node points to."""
    if isinstance(node, list):
        return set().union(*map(references, node), set())
    if isinstance(node, dict):
        own = {node["$ref"].rsplit("/", 1)[1]} if isinstance(node.get("$ref"), str) else set()
        return own.union(*map(references, node.values()))
    return set()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
