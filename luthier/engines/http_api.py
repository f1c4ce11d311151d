"""A client of servers that speak OpenAI's wire JSON: llama.cpp's own, or any remote one. Knows no model and no body."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncGenerator, Mapping
from contextlib import AbstractAsyncContextManager
from http import HTTPStatus
from pathlib import Path
from typing import Final

from pydantic_core import from_json

from luthier.core.errors import InvalidRequest, LuthierError, RateLimited, Unavailable
from luthier.core.json import Json, JsonObject
from luthier.engines.http_call import Call, Lost, calling

# llama.cpp's words, as its own error, for a text to embed that its batch does not hold.
_TOO_LARGE: Final = re.compile(r"input \((\d+) tokens\) is too large to process.*batch size: (\d+)")
_ASKED_WRONGLY: Final = frozenset({400, 404, 409, 413, 415, 422})


class Unreachable(Unavailable):
    """Nobody took the request: it may be sent again."""


class HttpApi:
    """POSTs JSON below `base_url`. Closing a stream, or cancelling a call, ends its connection, which servers see."""

    def __init__(self, base_url: str, api_key: str, *, name: str, socket: Path | None = None) -> None:
        self._name = name
        self._socket = socket  # a file to talk through, not the network
        self._base_url = base_url
        self._headers = {"authorization": f"Bearer {api_key}", "content-type": "application/json"}

    async def get(self, path: str) -> JsonObject:
        """What is there. Errors as in `post`."""
        return await self.post(path, None)

    async def post(self, path: str, body: JsonObject | None) -> JsonObject:
        """The answer. Errors: `InvalidRequest` in the server's words, `RateLimited`, `Unreachable`, `Unavailable`."""
        try:
            async with self._asking(path, body) as call:
                return self._answer(call.status, await call.rest(), call.headers)
        except Lost as error:
            raise self._lost(error) from error

    async def stream(self, path: str, body: JsonObject) -> AsyncGenerator[JsonObject, None]:
        """The events of a stream up to `[DONE]`. Errors as in `post`; an error event in mid-stream too."""
        started, rest = False, b""
        try:
            async with self._asking(path, body) as call:
                if call.status != HTTPStatus.OK:
                    self._answer(call.status, await call.rest(), call.headers)
                while more := await call.more():  # written for speed: it runs once a token
                    *lines, rest = (rest + more).split(b"\n")
                    for line in lines:
                        if not line.startswith(b"data:"):
                            continue
                        if line[5:].strip() == b"[DONE]":
                            return
                        event: JsonObject = from_json(line[5:])
                        if "error" in event:
                            raise self._refused(HTTPStatus.INTERNAL_SERVER_ERROR, event, call.headers)
                        started = True
                        yield event
        except Lost as error:
            raise self._lost(error, started=started) from error

    def _asking(self, path: str, body: JsonObject | None) -> AbstractAsyncContextManager[Call]:
        data = None if body is None else json.dumps(body).encode()
        return calling(self._base_url + path, self._headers, data, self._socket)

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

    def _lost(self, error: Lost, *, started: bool = False) -> Unavailable:
        words = f"{self._name} cannot be reached: {error}"
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


def _whole(value: Json) -> int:
    return value if isinstance(value, int) else 0


def _seconds(text: str | None) -> float:
    try:
        return float(text or 1)
    except ValueError:  # an HTTP date
        return 1.0
