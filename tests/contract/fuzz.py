"""Requests that nobody thought of, over every operation: schemathesis on our own API document, the echo engine behind.

Run by `make fuzz`. Fails on a 5xx, on an answer that breaks our document or OpenAI's, on a request that hangs, and on
fewer requests than asked for.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from luthier.api.wire.base import X_UNSUPPORTED
from tests.conftest import KEY, RECORDER, Server, serving
from tests.contract import objects

SCHEMATHESIS = Path(__file__).parents[2] / ".venv-fuzz" / "bin" / "schemathesis"
CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
HANG_S = 20
REQUESTS = 20_000
# schemathesis fails on its own when it makes wrong bodies of these at random ("Cannot generate an array with 1 demanded
# elements"), so that its coverage phase alone makes them wrong.
RIGHT_ONLY = (
    "createChatCompletion",
    "createEval",
    "createEvalRun",
    "createResponse",
    "Getinputtokencounts",
    "runGrader",
)
SAMPLES = 20  # of each object: some are deleted or ended on the way
MAKERS = {
    "file_id": objects.file,
    "upload_id": objects.upload,
    "fine_tuning_job_id": objects.job,
    "checkpoint": objects.tuned,
    "model": objects.tuned,
    "completion_id": objects.chat,
    "response_id": objects.response,
    "batch_id": objects.batch,
    "name": objects.alias,
    "webhook_endpoint_id": objects.endpoint,
    "webhook_delivery_id": objects.delivery,
    "eval_id": objects.tested,
    "run_id": objects.eval_run,
}


def main(per_operation: str, *options: str) -> int:
    """Fuzz each operation this many times; options are schemathesis's own."""
    statuses: Counter[int] = Counter()
    heard = RECORDER.record

    def record(method: str, path: str, status: int, media: str, body: bytes) -> None:
        statuses[int(status)] += 1
        heard(method, path, status, media, body)

    RECORDER.record = record  # type: ignore[method-assign]  # it counts, and passes on
    with tempfile.TemporaryDirectory() as data, serving(Path(data), background=False) as server:
        document = Path(data) / "openapi.json"
        document.write_text(json.dumps(inviting(server)))
        made = sum(statuses.values())
        command = [SCHEMATHESIS, "run", document, "--url", server.url.removesuffix("/v1"), "--checks", CHECKS]
        command += ["--header", f"Authorization: Bearer {KEY}", "--request-timeout", str(HANG_S), "--workers", "1"]
        command += ["--max-examples", per_operation, "--suppress-health-check", "all", "--continue-on-failure"]
        command += ["--warnings", "off", *options]
        named = {
            verb: [word for name in RIGHT_ONLY for word in (f"--{verb}-operation-id", name)]
            for verb in ("include", "exclude")
        }
        runs = (
            ["--phases", "coverage", "--max-examples", "5"],  # it counts what a schema has, and takes minutes with more
            ["--phases", "fuzzing", *named["exclude"]],
            ["--phases", "fuzzing", "--mode", "positive", *named["include"]],
        )
        failed = sum(subprocess.run([*command, *run], check=False, cwd=data).returncode for run in runs)
        total = sum(statuses.values()) - made
        print(f"{total:,} requests; by status: {dict(sorted(statuses.items()))}; {len(RECORDER.violations)} violations")
        print(*RECORDER.violations[:20], sep="\n")
    wrong = sum(count for status, count in statuses.items() if status >= 500)
    return int(bool(failed or wrong or RECORDER.violations or total < REQUESTS))


def inviting(server: Server) -> dict[str, Any]:
    """The app's document, with ids that exist, a model that answers, and nothing that is refused by name: what is made
    up would get no further than a 404, and what is refused no further than a 400."""
    document = server.app.openapi()
    for title, schema in document["components"]["schemas"].items():
        fields, required = schema.get("properties", {}), schema.get("required", [])
        refused = {name for name, field in fields.items() if field.get(X_UNSUPPORTED) is True}
        schema["properties"] = {name: f for name, f in fields.items() if name not in refused.difference(required)}
        if "model" in fields and not title.endswith("Answer"):
            schema["properties"]["model"] = {"enum": [objects.BASE, "nobody"]}
    ids = {name: [maker(server) for _ in range(SAMPLES)] for name, maker in MAKERS.items()}
    for item in document["paths"].values():
        for operation in item.values():
            for parameter in operation.get("parameters", []):
                if parameter["name"] in ids:
                    parameter["schema"] = {"type": "string", "enum": [*ids[parameter["name"]], "none"]}
    return document


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
