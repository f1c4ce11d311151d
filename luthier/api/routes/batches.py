"""`/v1/batches`."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from luthier.api.auth import Inferrer, Reader, ThePlatform
from luthier.api.json_route import JsonRoute
from luthier.api.wire.base import ListedText, Paged
from luthier.api.wire.batches import BatchAnswer, CreateBatch
from luthier.domain import batches

router = APIRouter(prefix="/batches", tags=["batches"], route_class=JsonRoute)


@router.post("", operation_id="createBatch")
def create(platform: ThePlatform, caller: Inferrer, body: CreateBatch) -> BatchAnswer:
    """Have the requests of a file answered."""
    batch = batches.create(
        platform.database,
        caller,
        endpoint=body.endpoint,
        input_file_id=body.input_file_id,
        metadata=body.metadata,
        output_expires_after_s=body.output_expires_after.seconds if body.output_expires_after else None,
    )
    return BatchAnswer.of(batch)


@router.get("", operation_id="listBatches")
def list_batches(platform: ThePlatform, caller: Reader, query: Annotated[Paged, Query()]) -> ListedText[BatchAnswer]:
    """List the project's batches, newest first."""
    page = batches.list_page(platform.database, caller.project_id, query.wanted)
    return ListedText.of([BatchAnswer.of(batch) for batch in page.items], page.has_more)


@router.get("/{batch_id}", operation_id="retrieveBatch")
def retrieve(platform: ThePlatform, caller: Reader, batch_id: str) -> BatchAnswer:
    """One batch."""
    return BatchAnswer.of(batches.get(platform.database, caller.project_id, batch_id))


@router.post("/{batch_id}/cancel", operation_id="cancelBatch")
def cancel(platform: ThePlatform, caller: Inferrer, batch_id: str) -> BatchAnswer:
    """End a batch early; what was answered is in its files."""
    return BatchAnswer.of(batches.cancel(platform.database, caller.project_id, batch_id))
