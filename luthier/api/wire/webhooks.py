"""Webhook endpoints on the wire."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from luthier.api.wire.base import Answer, Body, Identified, Paged
from luthier.core.json import Json
from luthier.core.outbox import Delivery, DeliveryStatus
from luthier.core.webhooks import WebhookEndpoint

Name = Annotated[str, Field(min_length=1, max_length=256)]
Url = Annotated[str, Field(min_length=1, max_length=2048)]
EventTypes = Annotated[list[str], Field(min_length=1, max_length=64)]


class CreateEndpoint(Body):
    """Where events should go."""

    name: Name
    url: Url
    event_types: EventTypes


class UpdateEndpoint(Body):
    """What should change."""

    name: Name | None = None
    url: Url | None = None
    event_types: EventTypes | None = None


class RotateSecret(Body):
    """A new secret; the old one ends now unless it is kept."""

    keep_old_secret_active_for_24_hours: bool = False


class TestEndpoint(Body):
    """Which event to send as a sample."""

    __test__ = False  # no test class of pytest's

    event_type: str


class DeliveryQuery(Paged):
    """Which deliveries to list."""

    webhook_endpoint_id: str | None = None


class EndpointAnswer(Identified):
    """An endpoint. Its secret is shown only when it is made or rotated."""

    object: Literal["webhook_endpoint"] = "webhook_endpoint"
    created_at: int
    updated_at: int
    event_types: list[str]
    name: str
    url: str
    signing_secret_hint: str

    @staticmethod
    def of(endpoint: WebhookEndpoint) -> EndpointAnswer:
        """The endpoint on the wire."""
        return EndpointAnswer(
            id=endpoint.id,
            created_at=endpoint.created_at,
            updated_at=endpoint.updated_at,
            event_types=endpoint.event_types,
            name=endpoint.name,
            url=endpoint.url,
            signing_secret_hint=endpoint.secret_hint,
        )


class EndpointWithSecret(EndpointAnswer):
    """An endpoint and its secret."""

    signing_secret: str

    @staticmethod
    def with_secret(endpoint: WebhookEndpoint) -> EndpointWithSecret:
        """The endpoint on the wire, its secret too."""
        return EndpointWithSecret(**EndpointAnswer.of(endpoint).model_dump(), signing_secret=endpoint.secret)


class EndpointTested(Answer):
    """What the receiver answered to a sample."""

    object: Literal["webhook_endpoint.test"] = "webhook_endpoint.test"
    event_type: str
    status_code: int
    success: Literal[True] = True
    webhook_endpoint_id: str


class EventTypeList(Answer):
    """The events that there are."""

    object: Literal["list"] = "list"
    data: list[str]


class DeliveryAnswer(Identified):
    """One event on its way to one endpoint. Its id is the `webhook-id` that the receiver sees."""

    object: Literal["webhook_delivery"] = "webhook_delivery"
    created_at: int
    webhook_endpoint_id: str
    event_type: str
    event: Json
    status: DeliveryStatus
    attempts: int
    next_attempt_at: int | None
    delivered_at: int | None
    last_error: str | None

    @staticmethod
    def of(delivery: Delivery) -> DeliveryAnswer:
        """The delivery on the wire."""
        return DeliveryAnswer(
            id=delivery.id,
            created_at=delivery.created_at,
            webhook_endpoint_id=str(delivery.payload["endpoint_id"]),
            event_type=delivery.event_type,
            event=delivery.payload["event"],
            status=delivery.status,
            attempts=delivery.attempts,
            next_attempt_at=int(delivery.next_attempt_at) if delivery.status == "pending" else None,
            delivered_at=delivery.delivered_at,
            last_error=delivery.last_error,
        )
