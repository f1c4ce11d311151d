"""The app: routes, middleware, and the platform's life around them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from anyio.from_thread import BlockingPortal
from fastapi import FastAPI
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware

from luthier.api import errors
from luthier.api.inside import asking
from luthier.api.middleware import Authenticated, Envelope
from luthier.api.routes import (
    aliases,
    batches,
    chat,
    completions,
    evals,
    files,
    fine_tuning,
    graders,
    health,
    models,
    organization,
    responses,
    uploads,
    usage,
    webhooks,
)
from luthier.api.wire.base import ErrorEnvelope
from luthier.core.settings import Settings
from luthier.domain.batch_worker import BatchWorker
from luthier.domain.eval_worker import EvalWorker
from luthier.domain.notify import Notifier
from luthier.domain.platform import Platform, open_platform
from luthier.domain.rates import RequestRates
from luthier.domain.runner import Runner
from luthier.domain.sweeping import Sweeper
from luthier.domain.verdicts import VerdictWorker

ROUTERS = (  # a request is held against each in turn: what is asked most comes first
    chat.router,
    files.router,
    uploads.router,
    usage.router,
    fine_tuning.router,
    graders.router,
    models.router,
    aliases.router,
    completions.router,
    responses.router,
    batches.router,
    evals.router,
    webhooks.router,
    organization.router,
)


def create_app(settings: Settings, *, background: bool = True) -> FastAPI:
    """The server of these settings. The platform opens when the app starts and closes when it stops.

    Without `background` nothing happens but requests: no runner, no batches, no verdicts, no notices, no sweeping.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        platform = open_platform(settings)
        app.state.platform = platform
        async with BlockingPortal() as portal:
            workers = _workers(app, platform, portal) if background else []
            for worker in workers:
                worker.start()
            try:
                yield
            finally:
                for worker in reversed(workers):
                    await run_in_threadpool(worker.stop)
                await platform.background.close()
                await platform.engines.close()
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
        redirect_slashes=False,
        redoc_url=None,
        lifespan=lifespan,
        middleware=[
            Middleware(Envelope),
            *([cors] if settings.cors_origins else []),
            Middleware(Authenticated, rates=RequestRates(settings.requests_per_minute)),
        ],
    )
    errors.install(app)
    app.include_router(health.router)
    for router in ROUTERS:
        app.include_router(router, prefix="/v1", responses={"default": {"model": ErrorEnvelope}})
    return app


def _workers(
    app: FastAPI, platform: Platform, portal: BlockingPortal
) -> list[Notifier | Sweeper | BatchWorker | VerdictWorker | Runner | EvalWorker]:
    return [
        Notifier(platform),
        Sweeper(platform),
        BatchWorker(platform, asking(app), portal),
        VerdictWorker(platform, portal),
        EvalWorker(platform, asking(app), portal),
        Runner(platform, portal),
    ]
