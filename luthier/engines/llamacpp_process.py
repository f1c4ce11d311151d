"""One llama.cpp server in a child process, from the parent's side: start, end. Knows no bodies and no adapters' ids."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections import deque
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from typing import Final

from luthier.core.errors import Unavailable
from luthier.core.ids import random_text
from luthier.engines.http_api import HttpApi

LAST_WORDS: Final = 6
# Threads that wait for each other spin for some 10 µs, then sleep. Spinning on, as is the default, beside a training on
# two cores a reply of 15 tokens took 27 s and not 1; sleeping at once, one stream alone made 67 tokens/s and not 105.
PATIENCE: Final = {"GOMP_SPINCOUNT": "3000"}


@dataclass(frozen=True)
class ServerSpec:
    """What to serve and how. `adapters` are GGUF files; a request names them by their place in this list."""

    model: str
    adapters: list[str]
    slots: int
    context_tokens: int  # of each slot
    api_key: str
    embeds: bool = False


class LlamaServer:
    """A running child. `api` speaks to it; only whoever has its random key can."""

    def __init__(self, process: Process, api: HttpApi, words: deque[str], listening: asyncio.Task[None]) -> None:
        self._process = process
        self._words = words
        self._listening = listening
        self.api = api

    @staticmethod
    async def start(
        model: str, adapters: list[str], *, slots: int, context_tokens: int, embeds: bool = False
    ) -> LlamaServer:
        """Start a child and wait until it serves. Errors: `Unavailable` with its last words."""
        if find_spec("xllamacpp") is None:
            raise Unavailable("the wheel of llama.cpp is missing; install it with: pip install xllamacpp")
        spec = ServerSpec(model, adapters, slots, context_tokens, random_text(40), embeds)
        # A session of its own: Ctrl+C in the server's terminal must not end streams that are still running.
        command = [sys.executable, "-m", "luthier.engines.llamacpp_child"]
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=PIPE,
            stdout=PIPE,
            stderr=PIPE,
            limit=1 << 20,
            start_new_session=True,
            env={**os.environ, **PATIENCE},
        )
        words: deque[str] = deque(maxlen=LAST_WORDS)
        listening = asyncio.create_task(_listen(process, words))
        address = None
        try:
            address = await _first_line(process, spec)
        finally:
            if address is None:  # it ended, or we are cancelled
                await _end(process, listening)
        if address is None:
            raise Unavailable("llama.cpp cannot serve this model; its last words: " + (" / ".join(words) or "none"))
        return LlamaServer(process, HttpApi(address, spec.api_key, name="llama.cpp"), words, listening)

    @property
    def alive(self) -> bool:
        """Whether the child runs, as far as is known."""
        return self._process.returncode is None

    @property
    def last_words(self) -> str:
        """The end of its log."""
        return " / ".join(self._words) or "none"

    async def close(self) -> None:
        """End the child at once."""
        await self.api.close()
        await _end(self._process, self._listening)


async def _first_line(process: Process, spec: ServerSpec) -> str | None:
    """The child's address; None when it ended instead."""
    assert process.stdin is not None
    assert process.stdout is not None
    with suppress(ConnectionError):  # it ended before it read
        process.stdin.write(json.dumps(asdict(spec)).encode() + b"\n")
        await process.stdin.drain()
    line = await process.stdout.readline()
    return str(json.loads(line)["address"]) if line else None


async def _listen(process: Process, words: deque[str]) -> None:
    """Keep the last lines of its log, and its pipe from filling."""
    assert process.stderr is not None
    while line := await process.stderr.readline():
        words.append(line.decode(errors="replace").strip())


async def _end(process: Process, listening: asyncio.Task[None]) -> None:
    assert process.stdin is not None
    process.stdin.close()
    with suppress(ProcessLookupError):
        process.kill()
    await process.wait()
    await listening
