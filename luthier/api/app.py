"""The app: routes, middleware, and the platform's life around them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware

from luthier.api import errors
from luthier.api.middleware import Authenticated, Envelope
from luthier.api.routes import files, health, uploads, webhooks
from luthier.core.settings import Settings
from luthier.domain.platform import open_platform

ROUTERS = (files.router, uploads.router, webhooks.router)


def create_app(settings: Settings) -> FastAPI:
    """The server of these settings. The platform opens when the app starts and closes when it stops."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        platform = open_platform(settings)
        app.state.platform = platform
        try:
            yield
        finally:
            platform.close()

    cors = Middleware(
        CORSMiddleware,
        allow_origins=settings.cors_origins,
        allow_methods=["*"],
        allow_headers=["*"],
        expose_headers=["*"],
    )
    app = FastAPI(
        title="Luthier",
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        middleware=[Middleware(Envelope), *([cors] if settings.cors_origins else []), Middleware(Authenticated)],
    )
    errors.install(app)
    app.include_router(health.router)
    for router in ROUTERS:
        app.include_router(router, prefix="/v1")
    return app
