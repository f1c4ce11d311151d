"""Tells of what happened: webhooks and mails, each a row of the outbox, tried until it arrives or 72 hours are over.

Knows no job's life: whoever ends a job writes `job_finished_items` in the same commit. A row is delivered at least
once; `webhook-id` and `Message-ID` stay the same on every try, so receivers can tell a repeat.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final

import structlog

from luthier.core.errors import LuthierError
from luthier.core.ids import new_id
from luthier.core.jobs import Job
from luthier.core.lists import PageQuery
from luthier.core.outbox import Delivery, OutboxItem
from luthier.domain import mail
from luthier.domain.delivery import DeliveryFailed, post
from luthier.domain.looping import Crew
from luthier.domain.platform import Platform
from luthier.domain.webhooks import event_items
from luthier.store import checkpoints, jobs, outbox, webhooks

GIVE_UP_AFTER_S: Final = 72 * 3600
FIRST_RETRY_S: Final = 5.0
LONGEST_RETRY_S: Final = 6 * 3600.0
LEASE_S: Final = 120.0  # longer than any delivery takes
AT_ONCE: Final = 8  # deliveries at once: a slow receiver keeps nobody else waiting

log = structlog.get_logger(__name__)


def job_finished_items(platform: Platform, job: Job) -> list[OutboxItem]:
    """What follows from a job's end: webhooks to those endpoints that want them, a mail, a verdict to be found."""
    event = f"fine_tuning.job.{job.status}"
    items = event_items(platform, job.project_id, event, {"id": job.id})
    if job.status != "cancelled":
        items += mail_items(platform, job, event)
    if job.status == "succeeded" and job.measured:
        now = int(platform.database.now())
        items.append(OutboxItem(new_id("verdict"), job.project_id, "verdict", event, {"job_id": job.id}, now))
    return items


def mail_items(platform: Platform, job: Job, event: str, **payload: str) -> list[OutboxItem]:
    """A mail about a job to whom the settings name, if they do."""
    if not (platform.settings.smtp_url and platform.settings.mail_to):
        return []
    now = int(platform.database.now())
    return [OutboxItem(new_id("mail"), job.project_id, "mail", event, {"job_id": job.id, **payload}, now)]


def retry_delay_s(attempts: int, longest_s: float = LONGEST_RETRY_S) -> float:
    """Seconds from a failed attempt to the next: 5, 20, 80 … to `longest_s`, each up to a tenth longer by chance."""
    return min(FIRST_RETRY_S * 4.0 ** (attempts - 1), longest_s) * random.uniform(1.0, 1.1)


class Notifier(Crew[Delivery]):
    """Delivers what is due. Several processes on one database share the work."""

    def __init__(self, platform: Platform) -> None:
        super().__init__("notifier", AT_ONCE, self._due, self._attempt, platform.database.bell("webhook", "mail"))
        self._platform = platform
        self._deliver: dict[str, Callable[[OutboxItem], None]] = {"webhook": self._webhook, "mail": self._mail}

    def _due(self, most: int) -> list[Delivery]:
        database = self._platform.database
        return outbox.claim(database, "webhook", "mail", now=database.now(), lease_s=LEASE_S, limit=most)

    def _attempt(self, item: Delivery) -> None:
        try:
            self._settle(item)
        except LuthierError as error:  # the store is away: the lease runs out and the item is due again
            log.error("notifier cannot reach its store", item=item.id, error=error.message)
        except Exception:  # a thread's edge: the lease runs out and the item is due again
            log.exception("delivery failed unexpectedly", item=item.id)

    def _settle(self, item: Delivery) -> None:
        """Try once, and write down how it went."""
        database = self._platform.database
        try:
            self._deliver[item.kind](item)
        except LuthierError as error:
            now = database.now()
            at = now + retry_delay_s(item.attempts)
            final = isinstance(error, DeliveryFailed) and error.final
            if final or at > item.created_at + GIVE_UP_AFTER_S:
                log.warning("delivery given up", item=item.id, kind=item.kind, error=error.message)
                outbox.give_up(database, item.id, now=now, error=error.message)
            else:
                outbox.retry_at(database, item.id, at=at, error=error.message)
        else:
            outbox.delivered(database, item.id, now=database.now())

    def _webhook(self, item: OutboxItem) -> None:
        endpoint_id, event = str(item.payload["endpoint_id"]), item.payload["event"]
        endpoint = webhooks.get(self._platform.database, item.project_id, endpoint_id)
        if endpoint is None:
            raise DeliveryFailed(f"endpoint {endpoint_id} was deleted", final=True)
        assert isinstance(event, dict)
        now = self._platform.database.now()
        private_hosts = self._platform.settings.webhook_private_hosts
        status = post(endpoint.url, item.id, event, endpoint.secrets_at(now), now=now, private_hosts=private_hosts)
        if not 200 <= status < 300:
            raise DeliveryFailed(f"{endpoint.url} answered {status}", final=status == 410)

    def _mail(self, item: OutboxItem) -> None:
        settings, database, job_id = self._platform.settings, self._platform.database, str(item.payload["job_id"])
        job = jobs.get(database, item.project_id, job_id)
        if job is None or not (settings.smtp_url and settings.mail_to):
            raise DeliveryFailed("mail was switched off in the settings" if job else f"no job {job_id}", final=True)
        kept = checkpoints.list_page(database, item.project_id, job_id, PageQuery(limit=10)).items
        last = max(kept, key=lambda checkpoint: checkpoint.step, default=None)
        message = mail.compose(
            job,
            last.metrics if last else {},
            verdict=str(item.payload.get("verdict") or ""),
            base_url=settings.base_url,
            sender=settings.mail_from,
            recipients=settings.mail_to,
            message_id=item.id,
        )
        mail.send(message, settings.smtp_url)
