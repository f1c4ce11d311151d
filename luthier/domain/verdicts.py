"""A job's verdict, after its end: the contenders answer the validation file's rows, and what follows is told.

Begun in the commit that says `succeeded`, by a row of the outbox; so it delays nobody, and a server that dies meanwhile
goes on with it when it is back. Every answer is kept in the run folder, so nothing is asked twice. Knows no HTTP.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Final

import structlog
from anyio.from_thread import BlockingPortal

from luthier.core.errors import LuthierError, Unavailable
from luthier.core.jobs import Job, NewEvent
from luthier.core.json import JsonObject
from luthier.core.machine import is_no_room
from luthier.core.outbox import Delivery
from luthier.core.verdict.document import Document
from luthier.core.verdict.page import page
from luthier.domain.looping import Looping
from luthier.domain.notify import mail_items, retry_delay_s
from luthier.domain.platform import Platform
from luthier.domain.publishing import keep_result
from luthier.domain.verdict_trial import Stopped, find
from luthier.store import jobs, outbox

LEASE_S: Final = 60.0
ATTEMPTS: Final = 3
AWAY_ATTEMPTS: Final = 15  # an hour of them, where an engine does not answer or a disk is full
LONGEST_RETRY_S: Final = 300.0
METADATA_KEY: Final = "verdict"
MOST_PAIRS: Final = 16  # of metadata, as at OpenAI
LONGEST_VALUE: Final = 512

log = structlog.get_logger(__name__)


class VerdictWorker(Looping):
    """One verdict at a time, in a thread of this process. Several processes on one database share the work.

    Stopped, it leaves the verdict under way after its present question; it is found when the server is back.
    """

    def __init__(self, platform: Platform, portal: BlockingPortal) -> None:
        super().__init__("verdicts", self._find, platform.database.bell("verdict"))
        self._platform = platform
        self._portal = portal

    def _find(self) -> bool:
        database = self._platform.database
        claimed = outbox.claim(database, "verdict", now=database.now(), lease_s=LEASE_S, limit=1)
        for item in claimed:
            self._one(item)
        return bool(claimed)

    def _one(self, item: Delivery) -> None:
        platform = self._platform
        job = jobs.get(platform.database, item.project_id, str(item.payload["job_id"]))
        if job is None:
            outbox.give_up(platform.database, item.id, now=platform.database.now(), error="there is no such job")
            return
        try:
            found = find(job, platform, self._portal, self._holding(item.id))
        except Stopped:
            outbox.give_back(platform.database, item.id, now=platform.database.now())
            return
        except Exception as error:  # tried again, then told: a job that succeeded does not fail for its verdict
            words = error.message if isinstance(error, LuthierError) else repr(error)
            log.warning("verdict not found", job=job.id, attempt=item.attempts, error=words, exc_info=True)
            away = isinstance(error, Unavailable) or is_no_room(error)
            if item.attempts < (AWAY_ATTEMPTS if away else ATTEMPTS):
                at = platform.database.now() + retry_delay_s(item.attempts, LONGEST_RETRY_S)
                outbox.retry_at(platform.database, item.id, at=at, error=words)
                return
            said = NewEvent("verdict", f"There is no verdict on this job: {words}", "warn")
            tell(job, platform, said)
        else:
            publish(job, platform, found)
        outbox.delivered(platform.database, item.id, now=platform.database.now())

    def _holding(self, item_id: str) -> Callable[[], None]:
        """To be called between questions: holds the lease on. Errors: `Stopped` when the server is to end."""
        database = self._platform.database
        held_at = database.now()

        def hold() -> None:
            nonlocal held_at
            if self.stopping.is_set():
                raise Stopped
            if database.now() - held_at > LEASE_S / 12:  # the next question may take most of a lease
                held_at = database.now()
                outbox.hold(database, item_id, until=held_at + LEASE_S)

        return hold


def publish(job: Job, platform: Platform, found: Document) -> None:
    """Put a verdict on its job: an event, two result files, metadata, a mail."""
    text = json.dumps(found, indent=1, ensure_ascii=False)
    files = [
        keep_result(job, platform, "verdict.json", [text.encode()]),
        keep_result(job, platform, "verdict.html", [page(found, title=str(job.fine_tuned_model)).encode()]),
    ]
    data: JsonObject = {"kind": found["kind"], "break_even_requests": found["break_even_requests"]}
    tell(job, platform, NewEvent("verdict", found["verdict"], data=data), files)


def tell(job: Job, platform: Platform, said: NewEvent, files: list[str] | None = None) -> None:
    """Say it once. Metadata that is full, or has the key, is left as its user wrote it."""
    taken = job.metadata or {}
    room = files is not None and METADATA_KEY not in taken and len(taken) < MOST_PAIRS
    sentence = said.message if len(said.message) <= LONGEST_VALUE else f"{said.message[: LONGEST_VALUE - 1]}…"
    jobs.add_verdict(
        platform.database,
        job.project_id,
        job.id,
        now=platform.database.now(),
        said=said,
        result_files=files or [],
        metadata={METADATA_KEY: sentence} if room else {},
        outbox_items=mail_items(platform, job, "verdict", verdict=said.message) if files else [],
    )
