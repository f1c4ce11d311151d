"""A batch under our lease: every write goes through its fence. Knows rows, no requests and no files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Unpack

from luthier.core.batches import Batch, BatchStatus, LineResult
from luthier.core.files import FileObject
from luthier.core.outbox import OutboxItem
from luthier.domain.lease import LEASE_S, Lease, LeaseLost
from luthier.store import batches
from luthier.store.database import Database


@dataclass
class HeldBatch(Lease[Batch]):
    """A claimed batch."""

    database: Database
    batch: Batch

    def move(
        self,
        to_status: BatchStatus,
        *,
        written: Sequence[FileObject] = (),
        outbox_items: Sequence[OutboxItem] = (),
        **changes: Unpack[batches.BatchChanges],
    ) -> None:
        """Move the batch on; if it was cancelled first, that is where it stands now."""
        moved = batches.transition(
            self.database,
            self.batch,
            to_status,
            now=self.database.now(),
            written=written,
            outbox_items=outbox_items,
            **changes,
        )
        self._keep(moved or self._renew())

    def record(self, result: LineResult) -> None:
        """Keep a line's result."""
        if not batches.record(self.database, self.batch, result):
            raise LeaseLost

    def release(self) -> None:
        """Give the lease back."""
        batches.release(self.database, self.batch.id, self.batch.fence)

    def _renew(self) -> Batch | None:
        now = self.database.now()
        return batches.heartbeat(self.database, self.batch.id, self.batch.fence, now=now, lease_s=LEASE_S)

    def _keep(self, row: Batch | None) -> None:
        if row is None:
            raise LeaseLost
        self.batch = row
