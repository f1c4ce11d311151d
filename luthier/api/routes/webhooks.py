"""`/v1/webhook_endpoints` and `/v1/webhook_event_types`; and `/v1/webhook_deliveries`, which are ours alone."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from luthier.api.auth import Reader, ThePlatform, Tuner
from luthier.api.json_route import JsonRoute
from luthier.api.wire.base import Deleted, ListedEnds, Paged
from luthier.api.wire.webhooks import (
    CreateEndpoint,
    DeliveryAnswer,
    DeliveryQuery,
    EndpointAnswer,
    EndpointTested,
    EndpointWithSecret,
    EventTypeList,
    RotateSecret,
    TestEndpoint,
    UpdateEndpoint,
)
from luthier.core.webhooks import EVENT_TYPES
from luthier.domain import webhooks

router = APIRouter(tags=["webhooks"], route_class=JsonRoute)


@router.get("/webhook_event_types", operation_id="listWebhookEventTypes")
def list_event_types(_caller: Reader) -> EventTypeList:
    """List the events that endpoints can have."""
    return EventTypeList(data=list(EVENT_TYPES))


@router.post("/webhook_endpoints", operation_id="createWebhookEndpoint")
def create(platform: ThePlatform, caller: Tuner, body: CreateEndpoint) -> EndpointWithSecret:
    """Make an endpoint."""
    endpoint = webhooks.create(platform, caller.project_id, name=body.name, url=body.url, event_types=body.event_types)
    return EndpointWithSecret.with_secret(endpoint)


@router.get("/webhook_endpoints", operation_id="listWebhookEndpoints")
def list_endpoints(
    platform: ThePlatform, caller: Reader, query: Annotated[Paged, Query()]
) -> ListedEnds[EndpointAnswer]:
    """List the project's endpoints, newest first."""
    page = webhooks.list_page(platform, caller.project_id, query.wanted)
    return ListedEnds.of([EndpointAnswer.of(endpoint) for endpoint in page.items], page.has_more)


@router.get("/webhook_endpoints/{webhook_endpoint_id}", operation_id="retrieveWebhookEndpoint")
def retrieve(platform: ThePlatform, caller: Reader, webhook_endpoint_id: str) -> EndpointAnswer:
    """One endpoint."""
    return EndpointAnswer.of(webhooks.get(platform, caller.project_id, webhook_endpoint_id))


@router.post("/webhook_endpoints/{webhook_endpoint_id}", operation_id="updateWebhookEndpoint")
def update(platform: ThePlatform, caller: Tuner, webhook_endpoint_id: str, body: UpdateEndpoint) -> EndpointAnswer:
    """Change an endpoint."""
    changed = webhooks.change(
        platform,
        caller.project_id,
        webhook_endpoint_id,
        name=body.name,
        url=body.url,
        event_types=body.event_types,
    )
    return EndpointAnswer.of(changed)


@router.delete("/webhook_endpoints/{webhook_endpoint_id}", operation_id="deleteWebhookEndpoint")
def delete(platform: ThePlatform, caller: Tuner, webhook_endpoint_id: str) -> Deleted:
    """Remove an endpoint."""
    webhooks.delete(platform, caller.project_id, webhook_endpoint_id)
    return Deleted(id=webhook_endpoint_id, object="webhook_endpoint.deleted")


@router.post("/webhook_endpoints/{webhook_endpoint_id}/rotate_secret", operation_id="rotateWebhookSecret")
def rotate_secret(
    platform: ThePlatform, caller: Tuner, webhook_endpoint_id: str, body: RotateSecret | None = None
) -> EndpointWithSecret:
    """Give an endpoint a new secret."""
    keep = body is not None and body.keep_old_secret_active_for_24_hours
    return EndpointWithSecret.with_secret(
        webhooks.rotate(platform, caller.project_id, webhook_endpoint_id, keep_old_secret=keep)
    )


@router.post("/webhook_endpoints/{webhook_endpoint_id}/test", operation_id="testWebhookEndpoint")
def test(platform: ThePlatform, caller: Tuner, webhook_endpoint_id: str, body: TestEndpoint) -> EndpointTested:
    """Send an endpoint a sample."""
    status = webhooks.send_test(platform, caller.project_id, webhook_endpoint_id, body.event_type)
    return EndpointTested(event_type=body.event_type, status_code=status, webhook_endpoint_id=webhook_endpoint_id)


@router.get("/webhook_deliveries", operation_id="listWebhookDeliveries")
def list_deliveries(
    platform: ThePlatform, caller: Reader, query: Annotated[DeliveryQuery, Query()]
) -> ListedEnds[DeliveryAnswer]:
    """What was sent to endpoints or is to be, newest first."""
    page = webhooks.list_deliveries(platform, caller.project_id, query.wanted, endpoint_id=query.webhook_endpoint_id)
    return ListedEnds.of([DeliveryAnswer.of(delivery) for delivery in page.items], page.has_more)


@router.post("/webhook_deliveries/{webhook_delivery_id}/resend", operation_id="resendWebhookDelivery")
def resend(platform: ThePlatform, caller: Tuner, webhook_delivery_id: str) -> DeliveryAnswer:
    """Send a delivery again, under the same `webhook-id`."""
    return DeliveryAnswer.of(webhooks.resend(platform, caller.project_id, webhook_delivery_id))
