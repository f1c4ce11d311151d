"""What every request passes: an id, a key, the clock, HEAD, the last catch. Plain ASGI: streams pass untouched."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable
from typing import Final

import structlog
from fastapi.datastructures import Headers
from fastapi.routing import APIRoute
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from luthier.api.errors import envelope, error_response
from luthier.core.errors import LuthierError, RateLimited, Unauthenticated
from luthier.core.projects import Caller
from luthier.domain import keys
from luthier.domain.metrics import REQUEST_SECONDS, REQUESTS
from luthier.domain.platform import Platform
from luthier.domain.rates import RequestRates

log = structlog.get_logger(__name__)

MAX_BODY_BYTES: Final = 64 << 20  # of a JSON body; forms with files raise it for themselves
USE_NOTED_EVERY_S: Final = 60.0
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
        status = 0

        async def send_named(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["x-request-id"] = request_id
                headers["openai-version"] = VERSION
                headers["openai-processing-ms"] = f"{(time.perf_counter() - started) * 1000:.0f}"
            elif head and message["type"] == "http.response.body":
                message = {**message, "body": b""}
            await send(message)

        scope = {**scope, "method": "GET" if head else scope["method"], "headers": _as_json(scope)}
        scope["state"] = {**scope.get("state", {}), "request_id": request_id, "body_limit_bytes": MAX_BODY_BYTES}
        with structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                await self._app(scope, _limited(scope, receive), send_named)
            except Exception:  # the edge of a request: whatever was not foreseen is logged and answered
                log.exception("request failed", method=scope["method"], path=scope["path"])
                if status:
                    raise
                response = envelope(500, UNEXPECTED.format(id=request_id), kind="server_error")
                await response(scope, receive, send_named)
            finally:
                _note(scope, status, time.perf_counter() - started)


def _note(scope: Scope, status: int, seconds: float) -> None:
    """Count and log a request. Its query is left out: it may say anything."""
    caller = scope["state"].get("caller")
    route = scope.get("route")
    operation = (route.operation_id or route.name) if isinstance(route, APIRoute) else "none"
    REQUESTS.labels(operation, status).inc()
    REQUEST_SECONDS.labels(operation).observe(seconds)
    who = {"project": caller.project_id, "key": caller.key_id} if caller else {}
    log.info(
        "request",
        method=scope["method"],
        path=scope["path"],
        operation=operation,
        status=status,
        ms=round(seconds * 1000, 1),
        **who,
    )


def _as_json(scope: Scope) -> list[tuple[bytes, bytes]]:
    """The headers, calling every body JSON but forms with files: `curl -d`, as in OpenAI's examples, says otherwise."""
    headers: list[tuple[bytes, bytes]] = scope["headers"]
    if any(name == b"content-type" and value.lower().startswith(b"multipart/") for name, value in headers):
        return headers
    return [*(pair for pair in headers if pair[0] != b"content-type"), (b"content-type", b"application/json")]


def _limited(scope: Scope, receive: Receive) -> Receive:
    """`receive`, up to `body_limit_bytes` in the state, which a route may raise before it reads."""
    received_bytes = int(Headers(scope=scope).get("content-length") or 0)
    declared = True

    async def receive_limited() -> Message:
        nonlocal received_bytes, declared
        limit_bytes = scope["state"]["body_limit_bytes"]
        if received_bytes > limit_bytes:
            raise HTTPException(413, f"The request's body is over the limit of {limit_bytes >> 20} MB.")
        if declared:
            received_bytes, declared = 0, False
        message = await receive()
        received_bytes += len(message.get("body", b""))
        return message

    return receive_limited


class Authenticated:
    """Lets nobody to `/v1` and `/metrics` without a valid key or over the rate, and reads no body before.

    Leaves the `Caller` in the state.
    """

    def __init__(self, app: ASGIApp, rates: RequestRates) -> None:
        self._app = app
        self._rates = rates
        self._noted: dict[str, float] = {}  # when a key's use was last written down, monotonic

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not (scope["path"].startswith("/v1/") or scope["path"] == "/metrics"):
            await self._app(scope, receive, send)
            return
        if "caller" in scope["state"]:  # see `api/inside.py`; no client can set it
            await self._app(scope, receive, send)
            return
        platform: Platform = scope["app"].state.platform
        try:
            caller = await platform.database.ask(_caller, platform, Headers(scope=scope))
            now = time.monotonic()
            if self._noted.get(caller.key_id, -USE_NOTED_EVERY_S) + USE_NOTED_EVERY_S <= now:
                self._noted[caller.key_id] = now
                await run_in_threadpool(keys.note_use, platform.database, caller.key_id)
        except LuthierError as error:
            await error_response(error)(scope, receive, send)
            return
        scope["state"]["caller"] = caller
        answer: ASGIApp = self._app
        try:
            standing = self._rates.spend(caller.project_id, now=now)
        except RateLimited as error:
            standing, answer = self._rates.standing(caller.project_id, now=now), error_response(error)

        async def send_told(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["openai-organization"] = caller.organization
                headers["x-ratelimit-limit-requests"] = str(standing.limit)
                headers["x-ratelimit-remaining-requests"] = str(standing.remaining)
                headers["x-ratelimit-reset-requests"] = f"{standing.reset_s:.3f}s"
            await send(message)

        await answer(scope, receive, send_told)


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
