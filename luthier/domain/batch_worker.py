"""Runs batches to a final state: claims them under a lease, asks their requests several at a time, writes their files.

Each answer is a row before the next request is asked, so a claim after a crash asks only what has no answer yet.
Knows no HTTP and no engine: a request goes out by the `Ask` that it is given, as if a client had sent it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from itertools import chain
from typing import BinaryIO, Final

from anyio import CancelScope, move_on_after, to_thread
from anyio.from_thread import BlockingPortal

from luthier.core.batches import FINAL, Batch, BatchError, BatchStatus
from luthier.core.errors import InvalidRequest, NotFound
from luthier.core.files import FileObject
from luthier.core.patience import PATIENT
from luthier.core.projects import Caller
from luthier.domain import models
from luthier.domain.asking import Ask, patiently
from luthier.domain.batch_input import MAX_INPUT_BYTES, Request, check, read
from luthier.domain.batch_output import result, unanswered, write_file
from luthier.domain.batches import WINDOW_S
from luthier.domain.claims import Claims, Lanes, at_work
from luthier.domain.held_batch import HeldBatch
from luthier.domain.lease import LEASE_S
from luthier.domain.looping import logged
from luthier.domain.platform import Platform
from luthier.domain.webhooks import event_items
from luthier.store import batches, files
from luthier.store.blobs import CHUNK_BYTES

REQUESTS_AT_ONCE: Final = 16  # of all batches together; an engine with fewer places lets them wait


class BatchWorker:
    """Threads of this process; several processes on one database share the work. `portal` leads to the event loop."""

    def __init__(self, platform: Platform, ask: Ask, portal: BlockingPortal) -> None:
        self._platform = platform
        self._ask = ask
        self._portal = portal
        self._lanes = Lanes(REQUESTS_AT_ONCE)
        self._claims = Claims("batches", self._claim, self._one, platform.database.bell("batch"))
        self.start = self._claims.start
        self.stop = self._claims.stop
        self._legs: dict[BatchStatus, Callable[[HeldBatch], None]] = {
            "validating": self._validate,
            "in_progress": self._run,
            "finalizing": self._finish,
            "cancelling": self._finish,
        }

    def _claim(self, owner: str) -> HeldBatch | None:
        database = self._platform.database
        batch = batches.claim(database, owner, now=database.now(), lease_s=LEASE_S)
        if batch is None:
            self._purge()
        return None if batch is None else HeldBatch(database, batch)

    def _one(self, held: HeldBatch) -> None:
        with at_work("batch", held.batch.id, lambda words: self._fail(held, [BatchError("server_error", words)])):
            if held.database.now() > held.batch.expires_at + WINDOW_S:
                self._fail(held, [BatchError("server_error", "The batch could not be ended in time; see the log.")])
            while held.batch.status not in FINAL:
                if self._claims.stopping.is_set():
                    held.release()
                    return
                self._legs[held.batch.status](held)

    def _validate(self, held: HeldBatch) -> None:
        """Look at the whole input, and keep a copy of it: its user may delete the file while the batch goes on."""
        batch = held.batch
        try:
            file = self._input_file(batch)
        except InvalidRequest as error:
            self._fail(held, [BatchError("invalid_request", error.message, "file_id")])
            return
        with self._spooled(held, file.blob, file.sha256) as lines:
            found = check(lines, batch.endpoint, knows_model=lambda name: self._knows(batch, name), beat=held.beat)
            sha256 = "" if found.errors else self._copy(lines, held)
        if held.batch.status != "validating":  # cancelled meanwhile
            return
        if found.errors:
            self._fail(held, found.errors)
        else:
            held.move("in_progress", total=found.total, model=found.model, input_sha256=sha256)

    def _copy(self, lines: BinaryIO, held: HeldBatch) -> str:
        """Keep the input under the batch's own name: its SHA-256."""
        lines.seek(0)
        with self._platform.blobs.writer(held.batch.id) as copy:
            while chunk := lines.read(CHUNK_BYTES):
                held.beat()
                copy.write(chunk)
            return copy.close().sha256

    def _run(self, held: HeldBatch) -> None:
        """Ask what has no answer yet, until all have one, the day is over, the user cancels or we are to stop."""
        batch, database = held.batch, self._platform.database
        if (left_s := batch.expires_at - database.now()) > 0:
            with self._input(held) as lines:
                answered = batches.recorded(database, batch.id)
                requests = (r for r in read(lines, batch.endpoint) if r.line not in answered)
                self._portal.call(self._ask_all, held, requests, left_s)
        if held.batch.status == "in_progress" and not self._claims.stopping.is_set():
            held.move("finalizing")

    async def _ask_all(self, held: HeldBatch, requests: Iterator[Request], left_s: float) -> None:
        PATIENT.set(True)
        batch = held.batch
        caller = Caller(batch.project_id, batch.organization_id, batch.organization, batch.key_id, frozenset({"infer"}))

        async def one(request: Request) -> None:
            answer = await patiently(self._ask, caller, batch.endpoint, request.body)
            with CancelScope(shield=True):  # what was answered is kept, whatever ends the batch
                await to_thread.run_sync(held.record, result(batch, request, answer))

        def go_on() -> bool:
            held.beat()
            return held.batch.status == "in_progress" and not self._claims.stopping.is_set()

        with move_on_after(left_s):
            await self._lanes.each(requests, one, go_on)

    def _finish(self, held: HeldBatch) -> None:
        """Write the files, and end the batch with them."""
        batch, platform = held.batch, self._platform
        ending: BatchStatus = "completed" if batch.completed + batch.failed == batch.total else "expired"
        if batch.status == "cancelling":
            ending = "cancelled"
        succeeded = batches.texts(platform.database, batch.id, succeeded=True)
        failed = batches.texts(platform.database, batch.id, succeeded=False)
        left = self._unanswered(held, ending)
        output = write_file(batch, "output", succeeded, platform.blobs, held.beat)
        errors = write_file(batch, "error", chain(failed, left), platform.blobs, held.beat)
        changes = batches.BatchChanges()
        if output is not None:
            changes["output_file_id"] = output.id
        if errors is not None:
            changes["error_file_id"] = errors.id
        held.move(
            ending,
            written=[file for file in (output, errors) if file is not None],
            outbox_items=event_items(platform, batch.project_id, f"batch.{ending}", {"id": batch.id}),
            **changes,
        )

    def _unanswered(self, held: HeldBatch, ending: BatchStatus) -> Iterator[str]:
        batch = held.batch
        if ending == "completed" or batch.input_sha256 is None:
            return
        answered = batches.recorded(self._platform.database, batch.id)
        with self._input(held) as lines:
            for request in read(lines, batch.endpoint):
                if request.line not in answered:
                    yield unanswered(batch, request, ending)

    def _fail(self, held: HeldBatch, errors: list[BatchError]) -> None:
        items = event_items(self._platform, held.batch.project_id, "batch.failed", {"id": held.batch.id})
        held.move("failed", errors=errors, outbox_items=items)

    def _purge(self) -> None:
        """Remove what finished batches no longer need: their answers are in their files."""
        database = self._platform.database
        for batch_id in batches.to_purge(database):
            with logged("batch not purged"):
                self._platform.blobs.delete(batch_id)
                batches.purge(database, batch_id, now=database.now())

    def _input_file(self, batch: Batch) -> FileObject:
        """Errors: `InvalidRequest` for one that cannot be a batch's input."""
        file = files.get(self._platform.database, batch.project_id, batch.input_file_id)
        if file is None:
            raise InvalidRequest(
                f"Cannot find file {batch.input_file_id}, or organization {batch.organization_id} does not have access "
                "to it."
            )
        if file.purpose != "batch":
            raise InvalidRequest(
                f"File {file.id} has the purpose '{file.purpose}'; upload it with the purpose 'batch'."
            )
        if file.size_bytes > MAX_INPUT_BYTES:
            raise InvalidRequest(f"File {file.id} has {file.size_bytes >> 20} MB; a batch takes at most 200 MB.")
        return file

    def _knows(self, batch: Batch, model: str) -> bool:
        try:
            models.resolve(self._platform, batch.project_id, model)
        except NotFound:
            return False
        return True

    def _input(self, held: HeldBatch) -> AbstractContextManager[BinaryIO]:
        assert held.batch.input_sha256 is not None
        return self._spooled(held, held.batch.id, held.batch.input_sha256)

    @contextmanager
    def _spooled(self, held: HeldBatch, blob: str, sha256: str) -> Iterator[BinaryIO]:
        """The blob as a nameless file of this machine: no download stays open for as long as its requests take."""
        with tempfile.TemporaryFile(dir=self._platform.settings.data) as lines:
            for chunk in self._platform.blobs.read(blob, sha256):
                held.beat()
                lines.write(chunk)
            yield lines
