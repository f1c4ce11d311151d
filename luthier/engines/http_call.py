"""A request on a connection of its own, and its answer as it comes: HTTP/1.1 by httptools, over asyncio. Knows no JSON.

Connections are not kept: llama.cpp closes idle ones, and a request that meets the closing is lost, and it closes every
connection after a stream. Ours, because of 425 µs of CPU that a streamed token took on its way through the server, 180
were aiohttp's, and through httpx it was half as much again.
"""

from __future__ import annotations

import asyncio
import functools
import ssl
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, cast
from urllib.parse import SplitResult, urlsplit

from httptools import HttpParserError, HttpResponseParser

CONNECT_TIMEOUT_S: Final = 10.0
MOST_WAITING: Final = 1 << 20  # bytes that nobody has read yet, over which the server has to wait


class Lost(Exception):
    """No answer, or not the whole of it: no connection, or one that broke."""


class Call(asyncio.Protocol):
    """One answer. `status` and `headers` (their names in lower case) are there once `begun` has returned."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self._parser = HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._waiting: asyncio.Future[None] | None = None
        self._pieces: list[bytes] = []
        self._bytes = 0
        self._ended = False
        self._lost: Lost | None = None

    async def begun(self) -> None:
        """Wait for the status. Errors: `Lost`."""
        while not (self.status or self._ended):
            await self._something()
        if self._lost and not self.status:
            raise self._lost

    async def more(self) -> bytes:
        """What has come of the body since the last call, or nothing at its end. Errors: `Lost`."""
        while not (self._pieces or self._ended):
            await self._something()
        if self._pieces:
            found = b"".join(self._pieces)
            self._pieces.clear()
            if self._bytes > MOST_WAITING and self._transport:
                self._transport.resume_reading()
            self._bytes = 0
            return found
        if self._lost:
            raise self._lost
        return b""

    async def rest(self) -> bytes:
        """All of the body that is still to come. Errors: `Lost`."""
        found = b""
        while piece := await self.more():
            found += piece
        return found

    async def _something(self) -> None:
        self._waiting = asyncio.get_running_loop().create_future()
        await self._waiting

    def _wake(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except HttpParserError as error:
            self._end(Lost(f"what answers there does not speak HTTP ({error})"))

    def connection_lost(self, exc: Exception | None) -> None:
        delimited = "content-length" in self.headers or "transfer-encoding" in self.headers
        whole = self.status and not delimited and exc is None
        self._end(None if whole else Lost(str(exc or "") or "it closed the connection before it had answered"))

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        self.status = self._parser.get_status_code()
        self._wake()

    def on_body(self, body: bytes) -> None:
        self._pieces.append(body)
        self._bytes += len(body)
        if self._bytes > MOST_WAITING and self._transport:
            self._transport.pause_reading()
        self._wake()

    def on_message_complete(self) -> None:
        self._end(None)

    def _end(self, lost: Lost | None) -> None:
        if not self._ended:
            self._ended, self._lost = True, lost
            self._wake()


@asynccontextmanager
async def calling(
    url: str, headers: dict[str, str], body: bytes | None, socket: Path | None = None
) -> AsyncGenerator[Call, None]:
    """The answer to a POST of the body, or to a GET; leaving closes the connection, which the server sees.

    `socket`: a file to talk through, not the network. Errors: `Lost`.
    """
    where = _parsed(url)
    told = {"host": where.netloc.rpartition("@")[2], "user-agent": "luthier"}
    told |= {"connection": "close", "accept-encoding": "identity"}
    if body is not None:
        told["content-length"] = str(len(body))
    target = f"{where.path or '/'}{'?' * bool(where.query)}{where.query}"
    lines = [f"{'GET' if body is None else 'POST'} {target} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in (told | headers).items()]
    head = "\r\n".join([*lines, "", ""]).encode("latin-1")
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            if socket is not None:
                transport, call = await loop.create_unix_connection(Call, str(socket))
            else:
                secure = _trusted() if where.scheme == "https" else None
                port = where.port or (443 if secure else 80)
                transport, call = await loop.create_connection(Call, where.hostname or "", port, ssl=secure)
    except TimeoutError as error:
        raise Lost(f"no connection in {CONNECT_TIMEOUT_S:.0f} seconds") from error
    except (OSError, UnicodeError) as error:  # the latter for a host that is no name
        raise Lost(str(error) or type(error).__name__) from error
    try:
        transport.write(head + (body or b""))
        await call.begun()
        yield call
    finally:
        transport.close()


def _parsed(url: str) -> SplitResult:
    try:
        where = urlsplit(url)
        where.port  # noqa: B018  # it may be none
    except ValueError as error:
        raise Lost(f"{url} is no address: {error}") from error
    return where


@functools.cache
def _trusted() -> ssl.SSLContext:
    """The machine's certificates: they take some 20 ms to read."""
    return ssl.create_default_context()
