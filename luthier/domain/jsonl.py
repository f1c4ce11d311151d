"""Whether bytes are JSONL: every line a JSON object. Reads them as they come; knows not what they mean."""

from __future__ import annotations

import codecs
from typing import Final

from pydantic_core import from_json

from luthier.core.json import fault_of

EXPECTED: Final = "Expected file to have JSONL format, where every line is a valid JSON dictionary."
# A line is held whole in memory; the longest honest one is a chat with images in it.
MAX_LINE_BYTES: Final = 16 << 20


class JsonlCheck:
    """Feed it the bytes, then ask `verdict`. It stops looking at the first error."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._line = 0
        self._objects = 0
        self._error: str | None = None

    def feed(self, chunk: bytes) -> None:
        """Look at more bytes."""
        if self._error is not None:
            return
        first, newline, _ = chunk.partition(b"\n")
        if not newline:
            self._rest += chunk
            if len(self._rest) > MAX_LINE_BYTES:
                self._fail(self._line + 1, f"it is longer than {MAX_LINE_BYTES >> 20} MiB")
            return
        *lines, rest = chunk.split(b"\n")
        lines[0] = bytes(self._rest) + first
        self._rest = bytearray(rest)
        for line in lines:
            self._check(line)
            if self._error is not None:
                return

    @property
    def begins_well(self) -> bool:
        """Whether an object came before the first error."""
        return self._objects > 0

    def verdict(self) -> str | None:
        """What is wrong, with the line; None when all is well."""
        if self._error is None and self._rest:
            self._check(bytes(self._rest))
            self._rest.clear()
        if self._error is None and self._objects == 0:
            return f"{EXPECTED} The file has no lines."
        return self._error

    def _check(self, line: bytes) -> None:
        self._line += 1
        if self._line == 1:
            line = line.removeprefix(codecs.BOM_UTF8)
        if not line.strip():
            return
        try:
            value: object = from_json(line, allow_inf_nan=False)
        except ValueError as error:
            self._fail(self._line, fault_of(line, str(error).replace(" at line 1 column ", " at column ")))
            return
        if isinstance(value, dict):
            self._objects += 1
        else:
            self._fail(self._line, "it is valid JSON, but not a dictionary")

    def _fail(self, line: int, reason: str) -> None:
        self._rest.clear()
        self._error = f"{EXPECTED} Line {line}: {reason}."
