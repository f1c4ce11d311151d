"""Evals as values: criteria, runs of them over rows, and what became of each row. Knows no database, no HTTP.

    queued → in_progress → completed | failed
       └──────────┴──→ canceled

OpenAI spells it with one l here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, Literal

from luthier.core.json import JsonObject

RunStatus = Literal["queued", "in_progress", "completed", "canceled", "failed"]
ItemStatus = Literal["pass", "fail", "error"]

FINAL: Final[frozenset[RunStatus]] = frozenset({"completed", "canceled", "failed"})


@dataclass(frozen=True)
class ModelUsage:
    """How often a model was asked, and the tokens of that. An answer that was remembered counts as any other."""

    model_name: str
    invocation_count: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0
    cached_tokens: int = 0

    @staticmethod
    def of(answer: dict[str, Any]) -> ModelUsage:
        """That of one answer: chats call its tokens prompt and completion, responses input and output."""
        used: dict[str, Any] = answer.get("usage") or {}
        read = used.get("prompt_tokens", used.get("input_tokens", 0))
        written = used.get("completion_tokens", used.get("output_tokens", 0))
        details = used.get("prompt_tokens_details") or used.get("input_tokens_details") or {}
        return ModelUsage(str(answer["model"]), 1, read, written, read + written, details.get("cached_tokens", 0))

    def __add__(self, other: ModelUsage) -> ModelUsage:
        return ModelUsage(
            self.model_name,
            self.invocation_count + other.invocation_count,
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.total_tokens + other.total_tokens,
            self.cached_tokens + other.cached_tokens,
        )


@dataclass(frozen=True)
class Eval:
    """What is tested: where rows come from, and the criteria, both as on the wire; each criterion has an id."""

    id: str
    project_id: str
    created_at: int
    updated_at: int
    name: str
    data_source_config: JsonObject
    testing_criteria: list[JsonObject]
    metadata: dict[str, str] | None


@dataclass(frozen=True)
class EvalRun:
    """One run of an eval. `key_id` is the key that created it: its questions are asked in that key's name.

    `fence` counts claims: whoever holds an older one may write nothing.
    """

    id: str
    project_id: str
    organization_id: str
    organization: str
    key_id: str
    eval_id: str
    created_at: int
    name: str
    model: str
    data_source: JsonObject
    metadata: dict[str, str] | None
    status: RunStatus = "queued"
    error: JsonObject | None = None
    passed: int = 0
    failed: int = 0
    errored: int = 0
    usage: list[ModelUsage] = field(default_factory=list)
    criteria: dict[str, tuple[int, int]] = field(default_factory=dict)  # id: passed, failed
    finished_at: int | None = None
    fence: int = 0


@dataclass(frozen=True)
class OutputItem:
    """What became of one row. `row` names it within its source; `sample` and `results` are as on the wire."""

    id: str
    run_id: str
    eval_id: str
    project_id: str
    created_at: int
    row: int
    item: JsonObject
    status: ItemStatus
    results: list[JsonObject]
    sample: JsonObject
