"""What every request passes: an id, a key, the clock, HEAD, the last catch. Plain ASGI: streams pass untouched."""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Iterable
from typing import Final

from fastapi.datastructures import Headers
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from luthier.api.errors import envelope, error_response
from luthier.core.errors import LuthierError, Unauthenticated
from luthier.core.projects import Caller
from luthier.domain import keys
from luthier.domain.platform import Platform

log = logging.getLogger(__name__)

VERSION: Final = "2020-10-01"  # what OpenAI sends
UNEXPECTED: Final = "The server had an error while processing your request. Its log has the traceback under {id}."


class Envelope:
    """Outermost: names the request, tells its time, answers HEAD as GET without a body, turns a crash into a 500."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        request_id = f"req_{secrets.token_hex(16)}"
        head = scope["method"] == "HEAD"
        answered = False

        async def send_named(message: Message) -> None:
            nonlocal answered
            if message["type"] == "http.response.start":
                answered = True
                headers = MutableHeaders(scope=message)
                headers["x-request-id"] = request_id
                headers["openai-version"] = VERSION
                headers["openai-processing-ms"] = f"{(time.perf_counter() - started) * 1000:.0f}"
            elif head and message["type"] == "http.response.body":
                message = {**message, "body": b""}
            await send(message)

        scope = {**scope, "method": "GET"} if head else scope
        scope["state"] = {**scope.get("state", {}), "request_id": request_id}
        try:
            await self._app(scope, receive, send_named)
        except Exception:  # the edge of a request: whatever was not foreseen is logged and answered
            log.exception("%s %s failed (%s)", scope["method"], scope["path"], request_id)
            if answered:
                raise
            response = envelope(500, UNEXPECTED.format(id=request_id), kind="server_error")
            await response(scope, receive, send_named)


class Authenticated:
    """Lets nothing under `/v1` pass without a valid key, and reads no body before. Leaves the `Caller` in the state."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith("/v1/"):
            await self._app(scope, receive, send)
            return
        platform: Platform = scope["app"].state.platform
        inside: Caller | None = scope["state"].get("caller")  # see `api/inside.py`; no client can set it
        try:
            caller = inside if inside is not None else await run_in_threadpool(_caller, platform, Headers(scope=scope))
        except LuthierError as error:
            await error_response(error)(scope, receive, send)
            return
        scope["state"]["caller"] = caller

        async def send_named(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["openai-organization"] = caller.organization
            await send(message)

        await self._app(scope, receive, send_named)


def _caller(platform: Platform, headers: Headers) -> Caller:
    scheme, _, key = headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not key.strip():
        raise Unauthenticated(
            "You didn't provide an API key. You need to provide your API key in an Authorization header using "
            "Bearer auth (i.e. Authorization: Bearer YOUR_KEY).",
            code="invalid_api_key",
        )
    caller = keys.authenticate(platform.database, key.strip())
    _must_match(headers, "OpenAI-Organization", "organization", {caller.organization_id, caller.organization})
    _must_match(headers, "OpenAI-Project", "project", {caller.project_id})
    return caller


def _must_match(headers: Headers, name: str, noun: str, accepted: Iterable[str]) -> None:
    given = headers.get(name)
    if given and given not in accepted:
        raise Unauthenticated(
            f"{name} header should match {noun} for API key; leave it away, or send {' or '.join(sorted(accepted))}.",
            code=f"mismatched_{noun}",
        )
