"""Bytes on their way into the blob store: counted, limited, hashed, looked at as JSONL, none kept in memory."""

from __future__ import annotations

import hashlib
from types import TracebackType
from typing import Self

from luthier.core.errors import TooLarge
from luthier.domain.jsonl import JsonlCheck
from luthier.store.blobs import Blobs, Stored


class Incoming:
    """One blob being received. Nothing stays of it unless `finish` returned; use it in a `with` block.

    `noun` is what it is called where it is too large, `advice` what to do then.
    """

    def __init__(
        self,
        blobs: Blobs,
        key: str,
        *,
        limit_bytes: int,
        noun: str = "file",
        advice: str = "send it in several",
        jsonl: bool = False,
        md5: bool = False,
    ) -> None:
        self.key = key
        self._noun, self._advice = noun, advice
        self._limit_bytes = limit_bytes
        self._size_bytes = 0
        self._writer = blobs.writer(key)
        self._check = JsonlCheck() if jsonl else None
        self._md5 = hashlib.md5(usedforsecurity=False) if md5 else None

    def write(self, chunk: bytes) -> None:
        """Take more bytes. Errors: `TooLarge` past the limit."""
        self._size_bytes += len(chunk)
        if self._size_bytes > self._limit_bytes:
            limit = f"{self._limit_bytes >> 20} MB" if self._limit_bytes >= 1 << 20 else f"{self._limit_bytes} bytes"
            raise TooLarge(f"The {self._noun} is larger than the limit of {limit}; {self._advice}.")
        if self._check is not None:
            self._check.feed(chunk)
        if self._md5 is not None:
            self._md5.update(chunk)
        self._writer.write(chunk)

    def finish(self) -> Stored:
        """Make the blob appear."""
        return self._writer.close()

    def jsonl_error(self, *, first_line_only: bool = False) -> str | None:
        """Why the bytes are not JSONL, where that was asked for; None when they are, or their first line is."""
        if self._check is None or (error := self._check.verdict()) is None:
            return None
        return None if first_line_only and self._check.begins_well else error

    def md5_hex(self) -> str | None:
        """MD5 of the bytes, where it was asked for."""
        return self._md5.hexdigest() if self._md5 else None

    def __enter__(self) -> Self:
        self._writer.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._writer.__exit__(kind, error, traceback)
