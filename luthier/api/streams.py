"""Answers that come in pieces, and answers that nobody waits for any more. Knows server-sent events, no operation."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable
from contextlib import aclosing, suppress
from typing import Any, Final, TypeVar

from fastapi import Request
from fastapi.responses import JSONResponse, Response
from pydantic_core import to_json
from starlette.types import Receive, Scope, Send

from luthier.api.errors import CLIENT_CLOSED_REQUEST, error_body
from luthier.core.errors import LuthierError
from luthier.core.json import JsonObject

T = TypeVar("T")
DONE: Final = b"data: [DONE]\n\n"
STREAMED: Final[dict[int | str, dict[str, Any]]] = {200: {"content": {"text/event-stream": {}}}}
"""What the API document says of an operation that also answers in pieces."""


class ClientGone(Exception):
    """Nobody waits for the answer any more."""


async def while_connected(receive: Receive, answer: Awaitable[T]) -> T:
    """The answer, given up as soon as the client has gone: then `ClientGone`."""
    answering = asyncio.ensure_future(answer)
    leaving = asyncio.ensure_future(_left(receive))
    try:
        await asyncio.wait({answering, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if answering.done():
            return answering.result()
        raise ClientGone
    finally:
        answering.cancel()
        leaving.cancel()


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class EventStream(Response):
    """Server-sent events; the first is awaited before the status is sent, so that a refusal is still an error's answer.

    When the client goes, the generator is closed. An error in mid-stream is an event of its own, as OpenAI sends it.
    """

    media_type = "text/event-stream"

    def __init__(self, first: bytes, rest: AsyncGenerator[bytes, None]) -> None:
        super().__init__(headers={"cache-control": "no-cache", "x-accel-buffering": "no"})
        del self.headers["content-length"]
        self._first = first
        self._rest = rest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with suppress(ClientGone):
            await while_connected(receive, self._send(send))

    async def _send(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self._first, "more_body": True})
        async with aclosing(self._rest) as events:
            async for event in events:
                await send({"type": "http.response.body", "body": event, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def event_stream(request: Request, events: AsyncGenerator[bytes, None]) -> Response:
    """The response of these events. Errors: whatever the first one raises."""
    try:
        return EventStream(await while_connected(request.receive, anext(events)), events)
    except ClientGone:
        return Response(status_code=CLIENT_CLOSED_REQUEST)


async def answered(request: Request, answer: Awaitable[JsonObject]) -> Response:
    """The response of a whole answer, which stops being made when the client goes."""
    try:
        return JSONResponse(await while_connected(request.receive, answer))
    except ClientGone:
        return Response(status_code=CLIENT_CLOSED_REQUEST)


async def data_events(chunks: AsyncGenerator[JsonObject, None], *, include_usage: bool) -> AsyncGenerator[bytes, None]:
    """Chunks as `data:` events, `[DONE]` at the end. The last chunk, which has the usage, only with `include_usage`;
    then the others say `usage: null`."""
    begun = False
    async with aclosing(chunks) as given:
        try:
            async for chunk in given:
                begun = True
                if not include_usage:
                    if not chunk["choices"]:
                        continue
                elif chunk["choices"]:
                    chunk["usage"] = None
                yield b"data: " + to_json(chunk) + b"\n\n"
        except LuthierError as error:
            if not begun:
                raise
            yield b"data: " + json.dumps(error_body(error)).encode() + b"\n\n"
    yield DONE
