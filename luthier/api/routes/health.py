"""Whether the server lives, whether it can serve, and how it does.

For supervisors: outside `/v1`; the first two want no key."""

from __future__ import annotations

from fastapi import APIRouter, Response
from fastapi.responses import PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST

from luthier.api.auth import Admin, ThePlatform
from luthier.domain import metrics

router = APIRouter(tags=["health"])


@router.get("/healthz")
async def live() -> dict[str, str]:
    """The process answers."""
    return {"status": "ok"}


@router.get("/readyz")
def ready(platform: ThePlatform) -> dict[str, str]:
    """The database answers; otherwise 503."""
    platform.database.ping()
    return {"status": "ready"}


@router.get("/metrics", response_class=PlainTextResponse)
def show_metrics(platform: ThePlatform, _caller: Admin) -> Response:
    """Counts and times for Prometheus, to be asked with a key of the scope `admin`."""
    return Response(metrics.text(platform), media_type=CONTENT_TYPE_LATEST)
