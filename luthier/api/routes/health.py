"""Whether the server lives, and whether it can serve. For supervisors: outside `/v1`, without a key."""

from __future__ import annotations

from fastapi import APIRouter

from luthier.api.auth import ThePlatform

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
