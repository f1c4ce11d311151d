"""Batches: created, listed, cancelled. `domain/batch_worker.py` runs them."""

from __future__ import annotations

from typing import Final

from luthier.core.batches import Batch, Endpoint
from luthier.core.errors import Conflict, NotFound
from luthier.core.ids import new_id
from luthier.core.lists import Page, PageQuery
from luthier.core.projects import Caller
from luthier.store import batches
from luthier.store.database import Database

WINDOW_S: Final = 24 * 3600


def create(
    database: Database,
    caller: Caller,
    *,
    endpoint: Endpoint,
    input_file_id: str,
    metadata: dict[str, str] | None,
    output_expires_after_s: int | None,
) -> Batch:
    """A new batch. Its file is looked at later: whatever is wrong with it makes the batch `failed`, as OpenAI's do."""
    now = int(database.now())
    batch = Batch(
        id=new_id("batch"),
        project_id=caller.project_id,
        organization_id=caller.organization_id,
        organization=caller.organization,
        key_id=caller.key_id,
        created_at=now,
        expires_at=now + WINDOW_S,
        endpoint=endpoint,
        input_file_id=input_file_id,
        metadata=metadata,
        output_expires_after_s=output_expires_after_s,
    )
    batches.create(database, batch)
    return batch


def get(database: Database, project_id: str, batch_id: str) -> Batch:
    """The batch. Errors: `NotFound`."""
    batch = batches.get(database, project_id, batch_id)
    if batch is None:
        raise NotFound(f"No batch found with id '{batch_id}'.", param="batch_id")
    return batch


def list_page(database: Database, project_id: str, query: PageQuery) -> Page[Batch]:
    """The project's batches."""
    return batches.list_page(database, project_id, query)


def cancel(database: Database, project_id: str, batch_id: str) -> Batch:
    """Ask for the batch's end; one that is cancelled already stays so. Errors: `NotFound`; `Conflict` at its end."""
    cancelling = batches.request_cancel(database, project_id, batch_id, now=database.now())
    batch = cancelling or get(database, project_id, batch_id)
    if batch.status not in ("cancelling", "cancelled"):
        raise Conflict(f"Cannot cancel a batch with status '{batch.status}'.")
    return batch
