"""Batches as values: a file of requests, answered within a day, and a file of their answers.

    validating → in_progress → finalizing → completed | expired
        │             │
        ├─────────────┴──→ cancelling → cancelled
        └──→ failed

`finalizing` leads to `expired` when requests were left at the end of the day. Knows no database, no HTTP.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Literal

BatchStatus = Literal[
    "validating", "failed", "in_progress", "finalizing", "completed", "expired", "cancelling", "cancelled"
]
Endpoint = Literal["/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses"]

FINAL: Final[frozenset[BatchStatus]] = frozenset({"failed", "completed", "expired", "cancelled"})

TRANSITIONS: Final[dict[BatchStatus, frozenset[BatchStatus]]] = {
    "validating": frozenset({"in_progress", "cancelling", "failed"}),
    "in_progress": frozenset({"finalizing", "cancelling", "failed"}),
    "finalizing": frozenset({"completed", "expired", "failed"}),
    "cancelling": frozenset({"cancelled", "failed"}),
    "completed": frozenset(),
    "expired": frozenset(),
    "failed": frozenset(),
    "cancelled": frozenset(),
}


@dataclass(frozen=True)
class BatchError:
    """What is wrong with a batch, or with one line of its input (`line` counts from 1)."""

    code: str
    message: str
    param: str | None = None
    line: int | None = None


@dataclass(frozen=True)
class Usage:
    """Tokens of one answer."""

    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0


@dataclass(frozen=True)
class Batch:
    """A batch. `key_id` is the key that created it: its requests are asked in that key's name.

    `input_sha256` is set once the input is found good: from then on the batch reads its own copy, stored under its id.
    `fence` counts claims: whoever holds an older one may write nothing.
    """

    id: str
    project_id: str
    organization_id: str
    organization: str
    key_id: str
    created_at: int
    expires_at: int
    endpoint: Endpoint
    input_file_id: str
    status: BatchStatus = "validating"
    metadata: dict[str, str] | None = None
    output_expires_after_s: int | None = None
    model: str | None = None
    input_sha256: str | None = None
    errors: list[BatchError] = field(default_factory=list)
    total: int = 0
    completed: int = 0
    failed: int = 0
    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    output_file_id: str | None = None
    error_file_id: str | None = None
    in_progress_at: int | None = None
    finalizing_at: int | None = None
    cancelling_at: int | None = None
    finished_at: int | None = None
    fence: int = 0


@dataclass(frozen=True)
class LineResult:
    """What became of one line of the input: `text` is its line of the output file, or, unless `succeeded`, of the error
    file."""

    line: int
    succeeded: bool
    text: str
    usage: Usage
