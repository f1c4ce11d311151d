"""The server's side of HTTP/1.1, with a limit on what comes before a body: nothing has asked for a key by then."""

from __future__ import annotations

import asyncio
import json
from typing import Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from luthier.api.errors import error_body
from luthier.core.errors import InvalidRequest

HEAD_BYTES: Final = 64 * 1024  # of a request's line and headers, counted in pieces as they arrive
HEAD_S: Final = 30.0


class LimitedHeads(HttpToolsProtocol):
    """uvicorn's protocol, which reads headers of any size for any time."""

    _heading = False
    _head_bytes = 0
    _late: asyncio.TimerHandle | None = None

    def data_received(self, data: bytes) -> None:
        """A piece of a request, or of several. One that begins in the piece is counted from the next piece on."""
        within = self._heading
        super().data_received(data)
        if within and self._heading:
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_BYTES:
                self._refuse("431 Request Header Fields Too Large", f"Headers have at most {HEAD_BYTES >> 10} KB.")

    def on_message_begin(self) -> None:
        """A request's first byte."""
        self._heading, self._head_bytes = True, 0
        self._late = self.loop.call_later(
            HEAD_S, self._refuse, "408 Request Timeout", f"Headers took more than {HEAD_S:.0f} seconds."
        )
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """The end of the headers."""
        self._stop_waiting()
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """The end of the connection."""
        self._stop_waiting()
        super().connection_lost(exc)

    def _stop_waiting(self) -> None:
        self._heading = False
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _refuse(self, status: str, message: str) -> None:
        self._stop_waiting()
        body = json.dumps(error_body(InvalidRequest(message))).encode()
        head = f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
        self.transport.write(f"{head}connection: close\r\n\r\n".encode() + body)
        self.transport.close()
