"""A client of servers that speak OpenAI's wire JSON: llama.cpp's own, or any remote one. Knows no model and no body."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from http import HTTPStatus
from pathlib import Path
from typing import Final

import aiohttp
from pydantic_core import from_json

from luthier.core.errors import InvalidRequest, LuthierError, RateLimited, Unavailable
from luthier.core.json import Json, JsonObject

CONNECT_TIMEOUT_S: Final = 10.0
# llama.cpp's words, as its own error, for a text to embed that its batch does not hold.
_TOO_LARGE: Final = re.compile(r"input \((\d+) tokens\) is too large to process.*batch size: (\d+)")
_ASKED_WRONGLY: Final = frozenset({400, 404, 409, 413, 415, 422})


class Unreachable(Unavailable):
    """Nobody took the request: it may be sent again."""


class HttpApi:
    """POSTs JSON below `base_url`. Closing a stream, or cancelling a call, closes its connection: the server sees that.

    Connections are not kept: llama.cpp closes idle ones, and a request that meets the closing is lost, and it
    closes every connection after a stream. aiohttp, because through httpx a streamed token took half as much CPU again.
    """

    def __init__(self, base_url: str, api_key: str, *, name: str, socket: Path | None = None) -> None:
        self._name = name
        self._socket = socket  # a file to talk through, not the network
        self._base_url = base_url
        self._headers = {"authorization": f"Bearer {api_key}", "content-type": "application/json"}
        self._opened: aiohttp.ClientSession | None = None

    async def get(self, path: str) -> JsonObject:
        """What is there. Errors as in `post`."""
        return await self.post(path, None)

    async def post(self, path: str, body: JsonObject | None) -> JsonObject:
        """The answer. Errors: `InvalidRequest` in the server's words, `RateLimited`, `Unreachable`, `Unavailable`."""
        try:
            async with self._asking(path, body) as response:
                return self._answer(response.status, await response.read(), response.headers)
        except aiohttp.ClientError as error:
            raise self._lost(error) from error

    async def stream(self, path: str, body: JsonObject) -> AsyncGenerator[JsonObject, None]:
        """The events of a stream up to `[DONE]`. Errors as in `post`; an error event in mid-stream too."""
        started = False
        try:
            async with self._asking(path, body) as response:
                if response.status != HTTPStatus.OK:
                    self._answer(response.status, await response.read(), response.headers)
                async for data in _events(response.content.iter_any()):
                    if data == b"[DONE]":
                        return
                    event: JsonObject = from_json(data)
                    if "error" in event:
                        raise self._refused(HTTPStatus.INTERNAL_SERVER_ERROR, event, response.headers)
                    started = True
                    yield event
        except aiohttp.ClientError as error:
            raise self._lost(error, started=started) from error

    async def close(self) -> None:
        """Close all connections."""
        if self._opened is not None:
            await self._opened.close()

    def _asking(self, path: str, body: JsonObject | None) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        if self._opened is None:  # made here, for it belongs to the loop that runs
            socket = self._socket
            connector = functools.partial(aiohttp.UnixConnector, str(socket)) if socket else aiohttp.TCPConnector
            self._opened = aiohttp.ClientSession(
                headers=self._headers,
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S),
                connector=connector(limit=0, force_close=True),
            )
        url = self._base_url + path
        return self._opened.get(url) if body is None else self._opened.post(url, data=json.dumps(body).encode())

    def _answer(self, status: int, content: bytes, headers: Mapping[str, str]) -> JsonObject:
        try:
            answer = json.loads(content)
        except ValueError:
            answer = {"error": {"message": content[:500].decode(errors="replace")}}
        if not isinstance(answer, dict):
            raise Unavailable(f"{self._name} answered with {type(answer).__name__}, not with an object")
        if status != HTTPStatus.OK:
            raise self._refused(status, answer, headers)
        return answer

    def _refused(self, status: int, answer: JsonObject, headers: Mapping[str, str]) -> LuthierError:
        error = answer.get("error")
        given: dict[str, Json] = error if isinstance(error, dict) else {"message": str(error or answer)}
        message = str(given.get("message"))
        param, code = given.get("param"), given.get("code")
        if given.get("type") == "exceed_context_size_error":
            return ContextExceeded(_whole(given.get("n_prompt_tokens")), _whole(given.get("n_ctx")))
        if embedded := _TOO_LARGE.search(message):
            return ContextExceeded(int(embedded[1]), int(embedded[2]), param="input")
        if status == HTTPStatus.TOO_MANY_REQUESTS:
            return RateLimited(f"{self._name}: {message}", retry_after_s=_seconds(headers.get("retry-after")))
        if status in _ASKED_WRONGLY:
            return InvalidRequest(
                message,
                code=code if isinstance(code, str) else "invalid_value",
                param=param if isinstance(param, str) else None,
            )
        return Unavailable(f"{self._name} answered {status}: {message}")

    def _lost(self, error: aiohttp.ClientError, *, started: bool = False) -> Unavailable:
        words = f"{self._name} cannot be reached: {str(error) or type(error).__name__}"
        # A request that got no answer at all was not taken, or its taker died of it: either way it may go to another.
        return Unavailable(words) if started else Unreachable(words)


class ContextExceeded(InvalidRequest):
    """The prompt alone is longer than the context; both in tokens. In OpenAI's words."""

    def __init__(self, prompt_tokens: int, context_tokens: int, *, param: str = "messages") -> None:
        super().__init__(
            f"This model's maximum context length is {context_tokens} tokens. However, your {param} resulted in "
            f"{prompt_tokens} tokens. Please reduce the length of the {param}.",
            code="context_length_exceeded",
            param=param,
        )
        self.prompt_tokens = prompt_tokens
        self.context_tokens = context_tokens


async def _events(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The `data:` of each server-sent event. Written for speed: it runs once a token."""
    rest = b""
    async for chunk in chunks:
        rest += chunk
        *lines, rest = rest.split(b"\n")
        for line in lines:
            if line.startswith(b"data:"):
                yield line[5:].strip()


def _whole(value: Json) -> int:
    return value if isinstance(value, int) else 0


def _seconds(text: str | None) -> float:
    try:
        return float(text or 1)
    except ValueError:  # an HTTP date
        return 1.0
