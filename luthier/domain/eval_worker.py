"""Runs evals to a final state: claims runs under a lease, and grades their rows, several at a time.

Each row's item is kept as soon as it is graded, and each answer as soon as it is given: a claim after a crash grades
what has no item yet, and asks no model what it has answered. Knows no HTTP and no engine.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from anyio import CancelScope, to_thread
from anyio.from_thread import BlockingPortal

from luthier.core.errors import InvalidRequest
from luthier.core.evals import EvalRun, RunStatus
from luthier.core.json import JsonObject
from luthier.core.patience import PATIENT
from luthier.core.projects import Caller
from luthier.domain.asking import Ask
from luthier.domain.claims import Claims, Lanes, at_work
from luthier.domain.eval_grading import Criterion, Graded, counted, grade
from luthier.domain.eval_rows import Row, rows
from luthier.domain.lease import LEASE_S, Lease, LeaseLost
from luthier.domain.platform import Platform
from luthier.domain.remembered import Remembering
from luthier.domain.webhooks import event_items
from luthier.store import eval_runs, evals

ROWS_AT_ONCE: Final = 16
EVENTS: Final[dict[RunStatus, str]] = {"completed": "succeeded", "failed": "failed", "canceled": "canceled"}


@dataclass
class HeldRun(Lease[bool]):
    """A claimed run."""

    platform: Platform
    run: EvalRun
    _writing: threading.Lock = field(default_factory=threading.Lock)

    def record(self, graded: Graded) -> None:
        """Keep a row's item, and count it."""
        with self._writing:
            run = counted(self.run, graded)
            self._keep(eval_runs.record(self.platform.database, run, graded.item))
            self.run = run

    def end(self, status: RunStatus, error: JsonObject | None = None) -> None:
        """The final state, and who is to be told."""
        database = self.platform.database
        items = event_items(self.platform, self.run.project_id, f"eval.run.{EVENTS[status]}", {"id": self.run.id})
        self._keep(eval_runs.finish(database, self.run, status, error, items, now=database.now()))

    def _renew(self) -> bool:
        database = self.platform.database
        return eval_runs.heartbeat(database, self.run, now=database.now(), lease_s=LEASE_S)

    def _keep(self, row: bool | None) -> None:
        if not row:
            raise LeaseLost


class EvalWorker:
    """Threads of this process; several processes on one database share the work. `portal` leads to the event loop."""

    def __init__(self, platform: Platform, ask: Ask, portal: BlockingPortal) -> None:
        self._platform = platform
        self._ask = Remembering(platform, ask)
        self._portal = portal
        self._lanes = Lanes(ROWS_AT_ONCE)
        self._claims = Claims("evals", self._claim, self._one, platform.database.bell("eval_run"))
        self.start = self._claims.start
        self.stop = self._claims.stop

    def _claim(self, owner: str) -> HeldRun | None:
        database = self._platform.database
        run = eval_runs.claim(database, owner, now=database.now(), lease_s=LEASE_S)
        return None if run is None else HeldRun(self._platform, run)

    def _one(self, held: HeldRun) -> None:
        def fail(words: str, code: str = "internal_error") -> None:
            held.end("failed", {"code": code, "message": words})

        with at_work("eval run", held.run.id, fail):
            try:
                self._grade(held)
                if self._claims.stopping.is_set():
                    eval_runs.release(self._platform.database, held.run)
                else:
                    held.end("completed")
            except* InvalidRequest as errors:
                error = errors.exceptions[0]
                fail(error.message if isinstance(error, InvalidRequest) else str(error), "invalid_data")

    def _grade(self, held: HeldRun) -> None:
        """Grade what has no item yet, after a look at all rows: one that will not do fails the run before any costs."""
        run, database = held.run, self._platform.database
        tested = evals.get(database, run.project_id, run.eval_id)
        if tested is None:
            raise LeaseLost
        with held.kept_alive():  # of all that is looked through, few may be rows
            for _ in rows(self._platform, tested, run):
                held.beat()
        criteria = [Criterion.of(document) for document in tested.testing_criteria]
        done = eval_runs.recorded(database, run.id)
        left = (row for row in rows(self._platform, tested, run) if row.number not in done)
        self._portal.call(self._grade_all, held, criteria, left)

    async def _grade_all(self, held: HeldRun, criteria: list[Criterion], left: Iterator[Row]) -> None:
        PATIENT.set(True)
        run, platform = held.run, self._platform
        caller = Caller(run.project_id, run.organization_id, run.organization, run.key_id, frozenset({"infer"}))
        ask = partial(self._ask, caller)

        async def one(row: Row) -> None:
            now = await to_thread.run_sync(platform.database.now)
            base = platform.settings.default_base
            graded = await grade(run, row, criteria, ask, embedding_model=base, now=now)
            with CancelScope(shield=True):  # what was graded is kept, whatever ends the run
                await to_thread.run_sync(held.record, graded)

        def go_on() -> bool:
            held.beat()
            return not self._claims.stopping.is_set()

        await self._lanes.each(left, one, go_on)
