"""A job under our lease: every write goes through its fence. Knows rows, no trainer and no files."""

from __future__ import annotations

import contextlib
from dataclasses import asdict, dataclass, replace

from luthier.core.errors import JobFailed
from luthier.core.jobs import Job, JobError, NewEvent
from luthier.core.quotes import Quote, Takes
from luthier.core.run import RunEvent, RunFolder, RunSpec
from luthier.core.states import JobStatus
from luthier.domain import progress
from luthier.domain.lease import LEASE_S, Lease, LeaseLost
from luthier.domain.notify import job_finished_items
from luthier.domain.platform import Platform
from luthier.domain.publishing import Published
from luthier.store import checkpoints, jobs


@dataclass
class Held(Lease[Job]):
    """A claimed job: cancelled or paused, its trainer is stopped within a beat."""

    platform: Platform
    job: Job

    @property
    def run(self) -> RunFolder:
        return RunFolder(self.platform.settings.runs / self.job.id)

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

    def _renew(self) -> Job | None:
        database = self.platform.database
        return jobs.heartbeat(database, self.job.id, self.job.fence, now=database.now(), lease_s=LEASE_S)

    def _keep(self, row: Job | None) -> None:
        if row is None:
            raise LeaseLost
        self.job = row
