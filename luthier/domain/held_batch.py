"""A batch under our lease: every write goes through its fence. Knows rows, no requests and no files."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Unpack

from luthier.core.batches import Batch, BatchStatus, LineResult
from luthier.core.files import FileObject
from luthier.core.outbox import OutboxItem
from luthier.domain.held import BEAT_S, LEASE_S, LeaseLost
from luthier.store import batches
from luthier.store.database import Database


@dataclass
class HeldBatch:
    """A claimed batch. A write that fails says that the claim is gone: `LeaseLost`."""

    database: Database
    batch: Batch
    _beaten_at: float = 0.0

    def beat(self) -> None:
        """Hold the lease on, at most every `BEAT_S`; see whether the user cancelled meanwhile."""
        if time.monotonic() - self._beaten_at >= BEAT_S:
            self._beaten_at = time.monotonic()
            self._see()

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
        if moved is None:
            self._see()
        else:
            self.batch = moved

    def record(self, result: LineResult) -> None:
        """Keep a line's result."""
        if not batches.record(self.database, self.batch, result):
            raise LeaseLost

    def release(self) -> None:
        """Give the lease back."""
        batches.release(self.database, self.batch.id, self.batch.fence)

    def _see(self) -> None:
        now = self.database.now()
        seen = batches.heartbeat(self.database, self.batch.id, self.batch.fence, now=now, lease_s=LEASE_S)
        if seen is None:
            raise LeaseLost
        self.batch = seen
