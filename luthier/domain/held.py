"""A job under our lease: every write goes through its fence. Knows rows, no trainer and no files."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Final

from luthier.core.errors import JobFailed, Unavailable
from luthier.core.jobs import Job, JobError, NewEvent
from luthier.core.quotes import Quote, Takes
from luthier.core.run import RunEvent, RunFolder, RunSpec
from luthier.core.states import JobStatus
from luthier.domain import progress
from luthier.domain.notify import job_finished_items
from luthier.domain.platform import Platform
from luthier.domain.publishing import Published
from luthier.store import checkpoints, jobs

LEASE_S: Final = 30.0
BEAT_S: Final = 1.0  # a cancelled or paused job's trainer is stopped within this


class LeaseLost(Exception):
    """The job was cancelled, or another runner holds it: whoever sees this writes nothing more."""


@dataclass
class Held:
    """A claimed job: every write goes through its fence, and a write that fails says that the claim is gone."""

    platform: Platform
    job: Job
    _beaten_at: float = 0.0

    @property
    def run(self) -> RunFolder:
        return RunFolder(self.platform.settings.runs / self.job.id)

    def beat(self) -> None:
        """Hold the lease on, at most every `BEAT_S`; see what the user asked for meanwhile."""
        if time.monotonic() - self._beaten_at >= BEAT_S:
            self._beaten_at = time.monotonic()
            now = self.platform.database.now()
            self._keep(jobs.heartbeat(self.platform.database, self.job.id, self.job.fence, now=now, lease_s=LEASE_S))

    @contextlib.contextmanager
    def kept_alive(self) -> Iterator[None]:
        """Hold the lease from a thread while this one is busy. A lost lease is noticed by the next write."""
        done = threading.Event()

        def hold() -> None:
            while not done.wait(LEASE_S / 3):
                with contextlib.suppress(Unavailable):
                    database = self.platform.database
                    jobs.heartbeat(database, self.job.id, self.job.fence, now=database.now(), lease_s=LEASE_S)

        thread = threading.Thread(target=hold, daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def say(self, event: NewEvent) -> None:
        """Add an event of our own."""
        database = self.platform.database
        self._keep(jobs.change(database, self.job.id, self.job.fence, now=database.now(), said=[event]))

    def quote(self, quoted: Takes) -> None:
        """Put on the job what it will take, and when it should be done."""
        database, quote = self.platform.database, Quote(quoted)
        now = database.now()
        said = NewEvent("quote", f"{quote}{'; its verdict comes later' * self.job.measured}", data=asdict(quoted))
        changes = jobs.JobChanges(quote=quote, estimated_finish=int(now + quoted.seconds))
        self._keep(jobs.change(database, self.job.id, self.job.fence, now=now, said=[said], **changes))

    def tell(self, event: RunEvent, left_s: float | None) -> None:
        """Pass on a trainer's metrics or warning, and when the job should be done."""
        said = progress.event_of(event)
        now = self.platform.database.now()
        changes = jobs.JobChanges() if left_s is None else jobs.JobChanges(estimated_finish=int(now + left_s))
        self._keep(
            jobs.change(
                self.platform.database, self.job.id, self.job.fence, now=now, said=[said] if said else [], **changes
            )
        )

    def add_checkpoint(self, spec: RunSpec, event: RunEvent) -> None:
        """Make a checkpoint callable."""
        checkpoint, model, said = progress.checkpoint_of(self.job, spec, event)
        if not checkpoints.add(self.platform.database, self.job.fence, checkpoint, model, said=[said]):
            raise LeaseLost

    def move(
        self,
        from_status: JobStatus,
        to_status: JobStatus,
        *,
        said: list[NewEvent],
        resolved: dict[str, int | float] | None = None,
    ) -> None:
        """Move the job on. When it should be done is told once it trains."""
        changes = jobs.JobChanges(estimated_finish=None)
        if resolved:
            changes["resolved"] = resolved
        database = self.platform.database
        now = database.now()
        self._keep(
            jobs.transition(
                database, self.job.id, self.job.fence, from_status, to_status, now=now, said=said, **changes
            )
        )

    def succeed(self, published: Published, finished: RunEvent, publishing_s: float) -> None:
        """The end that everybody hopes for: model, result files, events and notices in one commit."""
        name = published.model.name
        trained = progress.takes_of(self.job, finished, self.platform.settings.prices)
        actual = replace(trained, seconds=trained.seconds + publishing_s)
        quote = Quote(self.job.quote.quoted if self.job.quote else actual, actual)
        changes = jobs.JobChanges(
            fine_tuned_model=name,
            trained_tokens=actual.trained_tokens,
            result_files=published.result_files,
            quote=quote,
        )
        self._end(
            "succeeded",
            [
                *published.said,
                NewEvent("quote-held", str(quote), data=asdict(quote)),
                NewEvent("created-model", f"New fine-tuned model created: {name}"),
                NewEvent("succeeded", "The job has successfully completed"),
            ],
            changes,
            published,
        )

    def fail(self, error: JobFailed) -> None:
        """The other end. A job that is no longer ours is left alone."""
        wrong = JobError(error.code or "server_error", error.message, error.param)
        with contextlib.suppress(LeaseLost):
            self._end("failed", [NewEvent("failed", error.message, "error")], jobs.JobChanges(error=wrong), None)

    def release(self) -> None:
        """Give the lease back."""
        jobs.release(self.platform.database, self.job.id, self.job.fence)

    def _end(
        self,
        status: JobStatus,
        said: list[NewEvent],
        changes: jobs.JobChanges,
        published: Published | None,
    ) -> None:
        database = self.platform.database
        now = database.now()
        ended = replace(self.job, status=status, finished_at=int(now), **changes)
        items = job_finished_items(self.platform, ended)
        self._keep(
            jobs.transition(
                database,
                self.job.id,
                self.job.fence,
                self.job.status,
                status,
                now=now,
                said=said,
                outbox_items=items,
                model=published.model if published else None,
                **changes,
            )
        )

    def _keep(self, job: Job | None) -> None:
        if job is None:
            raise LeaseLost
        self.job = job
