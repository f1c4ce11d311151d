"""Webhook endpoints: made, changed, rotated, tried out; who gets which event, and what became of it. Knows no wire."""

from __future__ import annotations

import base64
import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from luthier.core.errors import InvalidRequest, NotFound
from luthier.core.ids import new_id
from luthier.core.json import JsonObject
from luthier.core.lists import Page, PageQuery
from luthier.core.outbox import Delivery, OutboxItem
from luthier.core.webhooks import EVENT_TYPES, WebhookEndpoint
from luthier.domain.delivery import DeliveryFailed, check_url, post
from luthier.domain.platform import Platform
from luthier.store import outbox, webhooks

OLD_SECRET_LIVES_S: Final = 24 * 3600
SECRET_BYTES: Final = 24


def create(platform: Platform, project_id: str, *, name: str, url: str, event_types: Sequence[str]) -> WebhookEndpoint:
    """A new endpoint with a new secret.

    Errors: `InvalidRequest` for a URL that will not do or an event that never happens.
    """
    check_url(url, private_hosts=platform.settings.webhook_private_hosts)
    _check_events(event_types)
    now = int(platform.database.now())
    endpoint = WebhookEndpoint(
        new_id("webhook_endpoint"), project_id, name, url, list(dict.fromkeys(event_types)), _new_secret(), now, now
    )
    webhooks.create(platform.database, endpoint)
    return endpoint


def get(platform: Platform, project_id: str, endpoint_id: str) -> WebhookEndpoint:
    """An endpoint. Errors: `NotFound`."""
    endpoint = webhooks.get(platform.database, project_id, endpoint_id)
    if endpoint is None:
        raise _unknown(endpoint_id)
    return endpoint


def list_page(platform: Platform, project_id: str, query: PageQuery) -> Page[WebhookEndpoint]:
    """The project's endpoints."""
    return webhooks.list_page(platform.database, project_id, query)


def change(
    platform: Platform,
    project_id: str,
    endpoint_id: str,
    *,
    name: str | None = None,
    url: str | None = None,
    event_types: Sequence[str] | None = None,
) -> WebhookEndpoint:
    """Set what is given; setting what is so already leaves `updated_at` alone. Errors: `NotFound`, `InvalidRequest`."""
    endpoint = get(platform, project_id, endpoint_id)
    changes = webhooks.EndpointChanges()
    if name is not None and name != endpoint.name:
        changes["name"] = name
    if url is not None and url != endpoint.url:
        check_url(url, private_hosts=platform.settings.webhook_private_hosts)
        changes["url"] = url
    if event_types is not None and list(event_types) != endpoint.event_types:
        _check_events(event_types)
        changes["event_types"] = list(dict.fromkeys(event_types))
    return _changed(platform, endpoint, changes) if changes else endpoint


def rotate(platform: Platform, project_id: str, endpoint_id: str, *, keep_old_secret: bool) -> WebhookEndpoint:
    """A new secret; the old one signs beside it for a day if it is kept. Errors: `NotFound`."""
    endpoint = get(platform, project_id, endpoint_id)
    until = int(platform.database.now()) + OLD_SECRET_LIVES_S
    changes = webhooks.EndpointChanges(
        secret=_new_secret(),
        old_secret=endpoint.secret if keep_old_secret else None,
        old_secret_until=until if keep_old_secret else None,
    )
    return _changed(platform, endpoint, changes)


def delete(platform: Platform, project_id: str, endpoint_id: str) -> None:
    """Remove an endpoint; what is still to be sent to it is given up. Errors: `NotFound`."""
    if not webhooks.delete(platform.database, project_id, endpoint_id):
        raise _unknown(endpoint_id)


def send_test(platform: Platform, project_id: str, endpoint_id: str, event_type: str) -> int:
    """Send a sample event now, once: the receiver's status. Errors: `NotFound`, `InvalidRequest` if nobody answers."""
    endpoint = get(platform, project_id, endpoint_id)
    _check_events([event_type], param="event_type")
    now = platform.database.now()
    try:
        return post(
            endpoint.url,
            new_id("delivery"),
            event(event_type, {"id": "test"}, created_at=int(now)),
            endpoint.secrets_at(now),
            now=now,
            private_hosts=platform.settings.webhook_private_hosts,
        )
    except DeliveryFailed as error:
        raise InvalidRequest(f"The test was not delivered: {error.message}.", code="webhook_delivery_failed") from error


def list_deliveries(
    platform: Platform, project_id: str, query: PageQuery, *, endpoint_id: str | None = None
) -> Page[Delivery]:
    """What was sent or is to be; to one endpoint where it is given. Errors: `NotFound` for an endpoint."""
    if endpoint_id is not None:
        get(platform, project_id, endpoint_id)
    return outbox.list_webhooks(platform.database, project_id, query, endpoint_id)


def resend(platform: Platform, project_id: str, delivery_id: str) -> Delivery:
    """Send a delivery again, arrived or not, under its old id. What fails again is retried as long as it would be.

    Errors: `NotFound`, also when its endpoint was deleted.
    """
    delivery = outbox.webhook(platform.database, project_id, delivery_id)
    if delivery is None:
        raise NotFound(f"No webhook delivery found with id '{delivery_id}'.", param="webhook_delivery_id")
    get(platform, project_id, str(delivery.payload["endpoint_id"]))
    now = platform.database.now()
    outbox.send_again(platform.database, delivery_id, now=now)
    return replace(delivery, next_attempt_at=now, delivered_at=None, given_up_at=None)


def event_items(platform: Platform, project_id: str, event_type: str, data: JsonObject) -> list[OutboxItem]:
    """One item for each endpoint that wants the event: all tell of the same event, each is delivered by itself."""
    endpoints = webhooks.subscribed(platform.database, project_id, event_type)
    now = int(platform.database.now())
    told = event(event_type, data, created_at=now)
    return [
        OutboxItem(
            new_id("delivery"), project_id, "webhook", event_type, {"endpoint_id": endpoint.id, "event": told}, now
        )
        for endpoint in endpoints
    ]


def event(event_type: str, data: JsonObject, *, created_at: int) -> JsonObject:
    """A webhook's body."""
    return {
        "object": "event",
        "id": new_id("webhook_event"),
        "type": event_type,
        "created_at": created_at,
        "data": data,
    }


def _changed(platform: Platform, endpoint: WebhookEndpoint, changes: webhooks.EndpointChanges) -> WebhookEndpoint:
    changes["updated_at"] = int(platform.database.now())
    changed = webhooks.change(platform.database, endpoint.project_id, endpoint.id, **changes)
    if changed is None:
        raise _unknown(endpoint.id)
    return changed


def _new_secret() -> str:
    return "whsec_" + base64.b64encode(os.urandom(SECRET_BYTES)).decode()


def _check_events(event_types: Sequence[str], *, param: str = "event_types") -> None:
    if not event_types:
        raise InvalidRequest("Invalid 'event_types': give at least one.", code="invalid_value", param=param)
    for name in event_types:
        if name not in EVENT_TYPES:
            supported = ", ".join(f"'{known}'" for known in EVENT_TYPES)
            raise InvalidRequest(
                f"Invalid value: '{name}'. Supported values are: {supported}.", code="invalid_value", param=param
            )


def _unknown(endpoint_id: str) -> NotFound:
    return NotFound(f"No webhook endpoint found with id '{endpoint_id}'.", param="webhook_endpoint_id")
