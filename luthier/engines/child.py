"""A process that serves a model for us, and ends with us: it ends when its input does. Knows no model."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from asyncio.subprocess import PIPE, Process
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Final

LAST_WORDS: Final = 6
REMEMBERED: Final = 400  # lines of its log
_RAISED: Final = re.compile(r"\w*(Error: |No module named ).+")


class Child:
    """A running process, in a session of its own: Ctrl+C in the server's terminal must not end streams that run."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._words: deque[str] = deque(maxlen=REMEMBERED)
        self._listening = asyncio.create_task(self._listen())

    @staticmethod
    async def start(command: Sequence[str], environment: Mapping[str, str]) -> Child:
        """Start it; `environment` is added to ours."""
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=PIPE,
            stdout=PIPE,
            stderr=PIPE,
            limit=1 << 20,
            start_new_session=True,
            env={**os.environ, **environment},
        )
        return Child(process)

    @property
    def alive(self) -> bool:
        """Whether it runs, as far as is known."""
        return self._process.returncode is None

    @property
    def pid(self) -> int:
        """Its number among processes."""
        return self._process.pid

    @property
    def last_words(self) -> str:
        """The end of its log."""
        return " / ".join(list(self._words)[-LAST_WORDS:]) or "none"

    @property
    def complaints(self) -> str:
        """The first error in its log, else its end: who waits for others tells their errors before its own."""
        raised = (_RAISED.search(words) for words in self._words if "WARNING" not in words)
        return next((found[0] for found in raised if found), self.last_words)

    async def tell(self, line: str) -> None:
        """Write a line to its input. Errors: `ConnectionError` when it has ended."""
        assert self._process.stdin is not None
        self._process.stdin.write(line.encode() + b"\n")
        await self._process.stdin.drain()

    async def line(self) -> bytes:
        """The next line of its output; empty when it has ended."""
        assert self._process.stdout is not None
        return await self._process.stdout.readline()

    async def close(self) -> None:
        """End it at once, and what it started."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        await self._process.wait()
        await self._listening

    async def _listen(self) -> None:
        """Keep the last lines of its log, and its pipe from filling."""
        assert self._process.stderr is not None
        while line := await self._process.stderr.readline():
            self._words.append(line.decode(errors="replace").strip())
