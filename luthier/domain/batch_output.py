"""A batch's results: one line for each request, and the files that they make. Asks nobody."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import Final

from luthier.core.batches import Batch, BatchStatus, LineResult, Usage
from luthier.core.files import FileObject
from luthier.core.ids import PREFIXES, new_id
from luthier.core.json import Json, JsonObject
from luthier.domain.asking import Answer
from luthier.domain.batch_input import Request
from luthier.domain.files import describe
from luthier.store.blobs import Blobs

# Why a request has no answer, by how its batch ended.
UNANSWERED: Final[dict[BatchStatus, tuple[str, str]]] = {
    "expired": ("batch_expired", "This request could not be executed before the completion window expired."),
    "cancelled": ("batch_cancelled", "This request was not executed because the batch was cancelled."),
}


def result(batch: Batch, request: Request, answer: Answer) -> LineResult:
    """The answer as the line's result."""
    response: JsonObject = {"status_code": answer.status_code, "request_id": answer.request_id, "body": answer.body}
    succeeded = answer.status_code == HTTPStatus.OK
    return LineResult(request.line, succeeded, _line(batch, request, response, None), usage_of(answer.body))


def unanswered(batch: Batch, request: Request, ending: BatchStatus) -> str:
    """What the error file says of a request that was never answered."""
    code, message = UNANSWERED[ending]
    return _line(batch, request, None, {"code": code, "message": message})


def write_file(
    batch: Batch, name: str, lines: Iterable[str], blobs: Blobs, beat: Callable[[], None]
) -> FileObject | None:
    """The lines as the bytes of a new file, whose row is still to be added; None when there are none."""
    file_id = new_id("file")
    with blobs.writer(file_id) as blob:
        empty = True
        for line in lines:
            beat()
            blob.write(line.encode() + b"\n")
            empty = False
        if empty:
            return None
        stored = blob.close()
    filename = f"{batch.id}_{name}.jsonl"
    return describe(batch.project_id, file_id, stored, filename, "batch_output", batch.output_expires_after_s)


def usage_of(body: JsonObject) -> Usage:
    """The tokens of an answer: chats and completions call them prompt and completion, responses input and output."""
    usage = _object(body.get("usage"))
    read = _object(usage.get("prompt_tokens_details") or usage.get("input_tokens_details"))
    written = _object(usage.get("completion_tokens_details") or usage.get("output_tokens_details"))
    return Usage(
        input_tokens=_number(usage.get("prompt_tokens", usage.get("input_tokens"))),
        cached_tokens=_number(read.get("cached_tokens")),
        output_tokens=_number(usage.get("completion_tokens", usage.get("output_tokens"))),
        reasoning_tokens=_number(written.get("reasoning_tokens")),
    )


def _line(batch: Batch, request: Request, response: JsonObject | None, error: JsonObject | None) -> str:
    # A line's id is made of its place, so that it is the same however often its file is written.
    digest = hashlib.sha256(f"{batch.id}:{request.line}".encode()).hexdigest()
    return json.dumps(
        {
            "id": PREFIXES["batch_request"] + digest[:32],
            "custom_id": request.custom_id,
            "response": response,
            "error": error,
        }
    )


def _object(value: Json) -> JsonObject:
    return value if isinstance(value, dict) else {}


def _number(value: Json) -> int:
    return value if isinstance(value, int) else 0
