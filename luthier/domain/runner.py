"""Runs jobs to a final state: claims them under a lease, and lets go of none before it is done. No HTTP, no torch.

Two workers, so that a long training keeps no other job's files from being checked. What each does is the same after
any crash: a claim starts a job's leg from what the run folder and the rows say.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final

import structlog
from anyio.from_thread import BlockingPortal

from luthier.compute.base import Compute, NewerClaim
from luthier.compute.registry import make_compute
from luthier.core.errors import JobFailed, LuthierError, StoreAway, Unavailable
from luthier.core.jobs import Job, NewEvent
from luthier.core.machine import is_no_room
from luthier.core.run import last_words
from luthier.core.states import JobStatus
from luthier.domain.alive import Sign, killed
from luthier.domain.following import EventReader
from luthier.domain.held import Held
from luthier.domain.lease import LEASE_S, LeaseLost
from luthier.domain.looping import Looping
from luthier.domain.platform import Platform
from luthier.domain.publishing import publish
from luthier.domain.reporting import reported
from luthier.domain.validation import public_hyperparameters, validate
from luthier.store import jobs

POLL_S: Final = 0.25
WARM_AFTER_S: Final = 20.0  # after a job, whose model is asked its first questions meanwhile
PUBLISHING_ROWS: Final = 20.0  # what comes after a trainer, in rows learnt from, before the first was seen
MOST_DEATHS: Final = 5  # of a trainer without a step between them
ENGINE_TRIES: Final = 120  # an hour of leases that run out, for a trained job whose engine does not answer
DIED: Final = {"failed": "killed", "stopped": "stopped", "no memory": "killed for want of memory"}  # by others
FULL: Final = "the disk is full; free some of it"
REST: Final = 20  # times as long as a look at the whole queue took

log = structlog.get_logger(__name__)


class Runner:
    """Both workers, as threads of this process."""

    def __init__(self, platform: Platform, portal: BlockingPortal) -> None:
        self._platform = platform
        self._compute: Compute = make_compute(platform.settings.compute)
        self._portal = portal
        self._signs = platform.settings.data / "runners"
        self._sign = Sign(self._signs)
        self._look_again_at = 0.0
        self._warm_at = 0.0  # when to have a trainer ready: at the start, and after each job
        self._publishing_rows = PUBLISHING_ROWS  # then as the last
        self._engine_away: Counter[str] = Counter()  # how often a trained job could not be published
        self._validating = Looping("validate", self._look_for_files, platform.database.bell("job"))
        self._training = Looping("train", self._look_for_queued, platform.database.bell("job"))

    def start(self) -> None:
        """Begin to work, first of all on what runners of this data folder held that were killed."""
        for owner in killed(self._signs):
            jobs.release_all(self._platform.database, owner)
        self._validating.start()
        self._training.start()

    def stop(self) -> None:
        """Stop trainers at their next step, let go of their jobs, and return when that is done."""
        self._training.stopping.set()  # both let go at once, the slower one first
        self._validating.stop()
        self._training.stop()
        self._compute.close()
        self._sign.take_down()

    def _look_for_files(self) -> bool:
        found = self._claimed(("validating_files",), self._validate)
        if not found:
            self._tell_places()
        return found

    def _look_for_queued(self) -> bool:
        found = self._claimed(("queued", "running"), self._train)
        if found:
            self._warm_at = time.monotonic() + WARM_AFTER_S
        elif self._platform.settings.warm_trainer and time.monotonic() > self._warm_at:
            self._warm_at = math.inf
            self._compute.warm()
        return found

    def _claimed(self, statuses: tuple[JobStatus, ...], leg: Callable[[Held], None]) -> bool:
        database = self._platform.database
        job = jobs.claim(database, self._sign.name, statuses, now=database.now(), lease_s=LEASE_S)
        if job is not None:
            self._one(job, leg)
        return job is not None

    def _tell_places(self) -> None:
        began = time.monotonic()
        if began > self._look_again_at:
            jobs.tell_places(self._platform.database, now=self._platform.database.now())
            ended = time.monotonic()
            self._look_again_at = ended + REST * (ended - began)

    def _one(self, job: Job, leg: Callable[[Held], None]) -> None:
        held = Held(self._platform, job)
        try:
            with _full_disk_is_away():
                leg(held)
        except LeaseLost:
            log.info("job let go", job=job.id)
        except StoreAway as error:  # no fault of the job's: it waits until its lease has run out, and is claimed again
            told = f"waits-{int(time.time()) // 3600}"  # once an hour
            with suppress(LuthierError, LeaseLost):  # where this cannot be written either, the log says it
                held.say(NewEvent(told, f"The job waits: {error.message}. It goes on by itself.", "warn"))
            raise
        except JobFailed as error:
            held.fail(error)
        except LuthierError as error:
            held.fail(JobFailed(error.message, code="server_error"))
        except OSError as error:
            where = f" ({error.filename})" if error.filename else ""
            reason = f"The job failed: {error.strerror or error}{where}. Mend the folder, and try again."
            held.fail(JobFailed(reason, code="server_error"))
        except Exception as error:  # the thread's edge: the job fails in words, the traceback is logged
            log.exception("job failed unexpectedly", job=job.id)
            held.fail(JobFailed(f"The job failed due to an internal error: {error!r}", code="server_error"))

    def _validate(self, held: Held) -> None:
        def go_on() -> None:
            held.beat()
            if self._validating.stopping.is_set():
                held.release()
                raise LeaseLost

        platform = self._platform
        with held.kept_alive():
            found = validate(
                held.job,
                held.run,
                platform.database,
                platform.blobs,
                platform.bases,
                memory_bytes=platform.settings.training_memory,
                go_on=go_on,
            )
        queued = NewEvent("queued", "Files validated, moving job to queued state")
        held.move(
            "validating_files",
            "queued",
            said=[*found.said, queued],
            resolved=public_hyperparameters(found.hyperparameters),
        )
        held.release()

    def _train(self, held: Held) -> None:
        if held.job.paused:  # its runner was killed before it saw that: the trainer may still be at work
            self._rest(held)
            return
        if held.job.status == "queued":
            held.move("queued", "running", said=[NewEvent("started", "Fine-tuning job started")])
        if not held.run.adapter.exists():
            self._start(held)
        with reported(held):
            try:
                trained = self._follow(held)
            except BaseException:  # whoever claims the job next starts a trainer of its own
                self._compute.stop(held.run, held.job.fence)
                raise
        if trained is None or trained.finished is None:
            return
        started = time.monotonic()
        try:
            with held.kept_alive():
                published = publish(held.job, held.run, self._platform, self._portal)
        except StoreAway:
            raise
        except Unavailable as error:  # an engine that is started anew is no reason to lose what was trained
            self._engine_away[held.job.id] += 1
            if self._engine_away[held.job.id] > ENGINE_TRIES:
                raise JobFailed(error.message, code="server_error") from error
            raise StoreAway(error.message) from error
        self._engine_away.pop(held.job.id, None)
        publishing_s = time.monotonic() - started
        if trained.row_s:
            self._publishing_rows = publishing_s / trained.row_s
        held.succeed(published, trained.finished, publishing_s)

    def _follow(self, held: Held) -> EventReader | None:
        """Pass on what the trainer says until it is done: all that it said. None: paused, or we are to stop."""
        reader, deaths = EventReader(held, self._publishing_rows), 0
        reader.forward()
        began_at = reader.step
        while True:
            held.beat()
            if held.job.paused or self._training.stopping.is_set():
                self._rest(held, reader)
                return None
            state = self._compute.poll(held.run)
            reader.forward()
            if state == "finished" and reader.finished is not None:
                return reader
            deaths = 0 if reader.step > began_at else deaths
            if state in DIED and reader.failure is None and deaths < MOST_DEATHS:
                # So many tokens at once that no step was done would do none the next time either.
                halve = state == "no memory" and reader.step == began_at
                began_at, deaths = reader.step, deaths + 1
                how = DIED[state]
                said = f"The trainer was {how} at step {began_at}; it goes on{' with fewer tokens at once' * halve}"
                held.say(NewEvent(f"{how}-{began_at}{'-halved' * halve}", said, "warn"))
                self._start(held, halve=halve)
                reader = EventReader(held, self._publishing_rows)
            elif state == "no room":
                raise StoreAway(FULL)
            elif state == "no memory":
                raise JobFailed(
                    f"The system killed the trainer for want of memory, {deaths + 1} times at step {reader.step}. "
                    "Shorter examples or a smaller base model would need less; so may other programs on this machine.",
                    code="server_error",
                )
            elif state != "running":
                raise reader.failure or JobFailed(
                    f"The trainer ended without a result. Its last words: {last_words(held.run.log)}",
                    code="server_error",
                )
            time.sleep(POLL_S)

    def _start(self, held: Held, *, halve: bool = False) -> None:
        try:
            self._compute.start(held.run, held.job.fence, halve=halve)
        except NewerClaim:
            raise LeaseLost from None

    def _rest(self, held: Held, reader: EventReader | None = None) -> None:
        """End the trainer and let go: the job is paused, or we are to stop."""
        self._compute.stop(held.run, held.job.fence)
        if reader is not None:
            reader.forward()
        if held.job.paused and held.job.status == "running":
            words = "Job paused; its training goes on from the last step when it is resumed"
            held.move("running", "queued", said=[NewEvent(f"paused-{held.job.fence}", words)])
        held.release()


@contextmanager
def _full_disk_is_away() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if is_no_room(error):
            raise StoreAway(FULL) from error
        raise
