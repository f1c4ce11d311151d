"""Webhook endpoints as values, and the events that there are. Knows no HTTP and no database."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

# What this product can tell of. OpenAI's own list has also video, realtime, agent and safety events: none happen here.
EVENT_TYPES: Final = (
    "fine_tuning.job.succeeded",
    "fine_tuning.job.failed",
    "fine_tuning.job.cancelled",
    "batch.completed",
    "batch.failed",
    "batch.expired",
    "batch.cancelled",
    "response.completed",
    "response.failed",
    "response.cancelled",
    "response.incomplete",
    "eval.run.succeeded",
    "eval.run.failed",
    "eval.run.canceled",
)


@dataclass(frozen=True)
class WebhookEndpoint:
    """Where events go. After a rotation `old_secret` signs too, until `old_secret_until`."""

    id: str
    project_id: str
    name: str
    url: str
    event_types: list[str]
    secret: str
    created_at: int
    updated_at: int
    old_secret: str | None = None
    old_secret_until: int | None = None

    @property
    def secret_hint(self) -> str:
        """Enough of the secret to tell it from another."""
        return f"whsec_***{self.secret[-4:]}"

    def secrets_at(self, now: float) -> list[str]:
        """The secrets that sign at a time, newest first."""
        old = self.old_secret if self.old_secret_until is not None and now < self.old_secret_until else None
        return [self.secret] if old is None else [self.secret, old]
