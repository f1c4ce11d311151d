"""A client of servers that speak OpenAI's wire JSON: llama.cpp's own, or any remote one. Knows no model and no body."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator
from http import HTTPStatus
from typing import Final

import httpx2

from luthier.core.errors import InvalidRequest, LuthierError, RateLimited, Unavailable
from luthier.core.json import Json, JsonObject

CONNECT_TIMEOUT_S: Final = 10.0
_ASKED_WRONGLY: Final = frozenset({400, 404, 409, 413, 415, 422})


class Unreachable(Unavailable):
    """Nobody took the request: it may be sent again."""


class HttpApi:
    """POSTs JSON below `base_url`. Closing a stream, or cancelling a call, closes its connection: the server sees that.

    Connections are not kept: llama.cpp closes idle ones, and a request that meets the closing is lost; a new
    connection on the loopback costs 0.2 ms.
    """

    def __init__(self, base_url: str, api_key: str, *, name: str) -> None:
        self._name = name
        self._client = httpx2.AsyncClient(
            base_url=base_url,
            headers={"authorization": f"Bearer {api_key}"},
            timeout=httpx2.Timeout(None, connect=CONNECT_TIMEOUT_S),
            limits=httpx2.Limits(max_connections=None, max_keepalive_connections=0),
            trust_env=False,
        )

    async def post(self, path: str, body: JsonObject) -> JsonObject:
        """The answer. Errors: `InvalidRequest` in the server's words, `RateLimited`, `Unreachable`, `Unavailable`."""
        try:
            response = await self._client.post(path, json=body)
        except httpx2.TransportError as error:
            raise self._lost(error) from error
        return self._answer(response.status_code, response.content, response.headers)

    async def stream(self, path: str, body: JsonObject) -> AsyncGenerator[JsonObject, None]:
        """The events of a stream up to `[DONE]`. Errors as in `post`; an error event in mid-stream too."""
        started = False
        try:
            async with self._client.stream("POST", path, json=body) as response:
                if response.status_code != HTTPStatus.OK:
                    self._answer(response.status_code, await response.aread(), response.headers)
                async for data in _events(response.aiter_raw()):
                    if data == b"[DONE]":
                        return
                    event: JsonObject = json.loads(data)
                    if "error" in event:
                        raise self._refused(HTTPStatus.INTERNAL_SERVER_ERROR, event, response.headers)
                    started = True
                    yield event
        except httpx2.TransportError as error:
            raise self._lost(error, started=started) from error

    async def close(self) -> None:
        """Close all connections."""
        await self._client.aclose()

    def _answer(self, status: int, content: bytes, headers: httpx2.Headers) -> JsonObject:
        try:
            answer = json.loads(content)
        except ValueError:
            answer = {"error": {"message": content[:500].decode(errors="replace")}}
        if not isinstance(answer, dict):
            raise Unavailable(f"{self._name} answered with {type(answer).__name__}, not with an object")
        if status != HTTPStatus.OK:
            raise self._refused(status, answer, headers)
        return answer

    def _refused(self, status: int, answer: JsonObject, headers: httpx2.Headers) -> LuthierError:
        error = answer.get("error")
        given: dict[str, Json] = error if isinstance(error, dict) else {"message": str(error or answer)}
        message = str(given.get("message"))
        param, code = given.get("param"), given.get("code")
        if given.get("type") == "exceed_context_size_error":
            return ContextExceeded(_whole(given.get("n_prompt_tokens")), _whole(given.get("n_ctx")))
        if status == HTTPStatus.TOO_MANY_REQUESTS:
            return RateLimited(f"{self._name}: {message}", retry_after_s=_seconds(headers.get("retry-after")))
        if status in _ASKED_WRONGLY:
            return InvalidRequest(
                message,
                code=code if isinstance(code, str) else "invalid_value",
                param=param if isinstance(param, str) else None,
            )
        return Unavailable(f"{self._name} answered {status}: {message}")

    def _lost(self, error: httpx2.TransportError, *, started: bool = False) -> Unavailable:
        words = f"{self._name} cannot be reached: {str(error) or type(error).__name__}"
        # A request that got no answer at all was not taken, or its taker died of it: either way it may go to another.
        return Unavailable(words) if started else Unreachable(words)


class ContextExceeded(InvalidRequest):
    """The prompt alone is longer than the context; both in tokens. In OpenAI's words."""

    def __init__(self, prompt_tokens: int, context_tokens: int) -> None:
        super().__init__(
            f"This model's maximum context length is {context_tokens} tokens. However, your messages resulted in "
            f"{prompt_tokens} tokens. Please reduce the length of the messages.",
            code="context_length_exceeded",
            param="messages",
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
