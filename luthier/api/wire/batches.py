"""Batches on the wire."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from luthier.api.wire.base import Answer, Body, Identified, Metadata
from luthier.core.batches import Batch, BatchStatus, Endpoint


class OutputExpiresAfter(Body):
    """When the output and error files go by themselves, counted from when they are made."""

    anchor: Literal["created_at"]
    seconds: Annotated[int, Field(ge=3600, le=2_592_000)]


class CreateBatch(Body):
    """Requests of a file, to be answered within a day."""

    input_file_id: str
    endpoint: Endpoint
    completion_window: Literal["24h"]
    metadata: Metadata | None = None
    output_expires_after: OutputExpiresAfter | None = None


class BatchErrorAnswer(Answer):
    """What is wrong, and where."""

    code: str
    message: str
    param: str | None
    line: int | None


class BatchErrors(Answer):
    """All that is wrong with a batch."""

    object: Literal["list"] = "list"
    data: list[BatchErrorAnswer]


class RequestCounts(Answer):
    """How many requests there are, and how many went well or ill."""

    total: int
    completed: int
    failed: int


class InputDetails(Answer):
    """Of the input tokens, those not computed anew."""

    cached_tokens: int


class OutputDetails(Answer):
    """Of the output tokens, those not shown."""

    reasoning_tokens: int


class BatchUsage(Answer):
    """Tokens of all answers so far."""

    input_tokens: int
    input_tokens_details: InputDetails
    output_tokens: int
    output_tokens_details: OutputDetails
    total_tokens: int


class BatchAnswer(Identified):
    """A batch. `model` is left out until the input has been looked at: OpenAI's schema has no null there."""

    object: Literal["batch"] = "batch"
    endpoint: str
    model: Annotated[str | None, Field(exclude_if=lambda model: model is None)]
    errors: BatchErrors | None
    input_file_id: str
    completion_window: Literal["24h"] = "24h"
    status: BatchStatus
    output_file_id: str | None
    error_file_id: str | None
    created_at: int
    in_progress_at: int | None
    expires_at: int
    finalizing_at: int | None
    completed_at: int | None
    failed_at: int | None
    expired_at: int | None
    cancelling_at: int | None
    cancelled_at: int | None
    request_counts: RequestCounts
    usage: BatchUsage
    metadata: dict[str, str] | None

    @staticmethod
    def of(batch: Batch) -> BatchAnswer:
        """The batch on the wire."""

        def ended(status: BatchStatus) -> int | None:
            return batch.finished_at if batch.status == status else None

        errors = [
            BatchErrorAnswer(code=error.code, message=error.message, param=error.param, line=error.line)
            for error in batch.errors
        ]
        return BatchAnswer(
            id=batch.id,
            endpoint=batch.endpoint,
            model=batch.model,
            errors=BatchErrors(data=errors) if errors else None,
            input_file_id=batch.input_file_id,
            status=batch.status,
            output_file_id=batch.output_file_id,
            error_file_id=batch.error_file_id,
            created_at=batch.created_at,
            in_progress_at=batch.in_progress_at,
            expires_at=batch.expires_at,
            finalizing_at=batch.finalizing_at,
            completed_at=ended("completed"),
            failed_at=ended("failed"),
            expired_at=ended("expired"),
            cancelling_at=batch.cancelling_at,
            cancelled_at=ended("cancelled"),
            request_counts=RequestCounts(total=batch.total, completed=batch.completed, failed=batch.failed),
            usage=BatchUsage(
                input_tokens=batch.input_tokens,
                input_tokens_details=InputDetails(cached_tokens=batch.cached_tokens),
                output_tokens=batch.output_tokens,
                output_tokens_details=OutputDetails(reasoning_tokens=batch.reasoning_tokens),
                total_tokens=batch.input_tokens + batch.output_tokens,
            ),
            metadata=batch.metadata,
        )
