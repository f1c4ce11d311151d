"""Requests from inside: sent through the app's own routes in a caller's name, so that a batch's requests are parsed,
answered and refused exactly as a client's are."""

from __future__ import annotations

import json
from http import HTTPStatus

import anyio
from fastapi.datastructures import Headers
from starlette.types import ASGIApp, Message

from luthier.core.json import JsonObject
from luthier.core.projects import Caller
from luthier.domain.asking import Answer, Ask


def asking(app: ASGIApp) -> Ask:
    """What sends a JSON body to a path of the app. Cancelling the call cancels the request."""

    async def ask(caller: Caller, path: str, body: JsonObject) -> Answer:
        sent = iter([json.dumps(body).encode()])
        status = HTTPStatus.INTERNAL_SERVER_ERROR.value
        headers = Headers()
        received = bytearray()

        async def receive() -> Message:
            if (content := next(sent, None)) is None:  # nobody hangs up in here
                await anyio.sleep_forever()
            return {"type": "http.request", "body": content, "more_body": False}

        async def send(message: Message) -> None:
            nonlocal status, headers
            if message["type"] == "http.response.start":
                status, headers = message["status"], Headers(raw=message["headers"])
            else:
                received.extend(message.get("body", b""))

        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "POST",
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "root_path": "",
            "query_string": b"",
            "headers": [(b"content-type", b"application/json")],
            "client": None,
            "server": None,
            "state": {"caller": caller},
        }
        await app(scope, receive, send)
        return Answer(status, headers.get("x-request-id", ""), json.loads(received))

    return ask
