"""What is to be done after a commit: a row beside the change that it follows from. Knows no HTTP, no SMTP."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from luthier.core.json import JsonObject

Kind = Literal["webhook", "mail", "verdict"]
DeliveryStatus = Literal["pending", "delivered", "failed"]


@dataclass(frozen=True)
class OutboxItem:
    """One thing to tell, or a verdict to find.

    `id` is the receiver's means to tell a repeat from news; it never changes between attempts."""

    id: str
    project_id: str
    kind: Kind
    event_type: str
    payload: JsonObject
    created_at: int


@dataclass(frozen=True)
class Delivery(OutboxItem):
    """An item and what became of it so far. `attempts` counts those that are begun."""

    attempts: int
    next_attempt_at: float
    delivered_at: int | None
    given_up_at: int | None
    last_error: str | None

    @property
    def status(self) -> DeliveryStatus:
        """Failed are those that are not tried any more."""
        if self.delivered_at is not None:
            return "delivered"
        return "pending" if self.given_up_at is None else "failed"
