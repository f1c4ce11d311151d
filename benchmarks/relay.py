"""In front of llama.cpp: when a question gets there, and when its first text leaves.

`python -m benchmarks.relay FOLDER` relays in a process of its own, so that whoever asks is woken as by llama.cpp. It
listens at FOLDER/relay and on the loopback, whose address it prints, and prints a line for each question: its number
and both stamps, in seconds of `time.perf_counter`, which on Linux is one clock for all processes. FOLDER has the
socket of each llama.cpp server under its key.

`python -m benchmarks.relay FOLDER serve …` is `luthier serve …` that speaks to its llama.cpp servers through the relay.
"""

from __future__ import annotations

import asyncio
import re
import sys
import time
from asyncio.subprocess import PIPE
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

_KEY: Final = re.compile(rb"authorization: Bearer ([\w-]+)", re.IGNORECASE)
_QUESTION: Final = re.compile(rb"Question ([\d.]+):")
_TEXT: Final = re.compile(rb'"(text|content)":"[^"]')  # Luthier asks llama.cpp for completions of rendered chats


class Relay:
    """A relay that runs."""

    def __init__(self, folder: Path, address: str, printed: asyncio.StreamReader) -> None:
        self.folder = folder
        self.address = address
        self._printed = printed
        self._stamps: dict[str, asyncio.Future[tuple[float, float]]] = defaultdict(asyncio.Future)

    async def listen(self) -> None:
        """Keep what it prints."""
        async for line in self._printed:
            number, reached, left = line.decode().split()
            self._stamps[number].set_result((float(reached), float(left)))

    async def stamps_of(self, number: str) -> tuple[float, float]:
        """When this question got to llama.cpp, and when the first text of its answer left; told once."""
        stamps = await self._stamps[number]
        del self._stamps[number]
        return stamps


@asynccontextmanager
async def relaying(folder: Path) -> AsyncIterator[Relay]:
    """A relay in a process of its own."""
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "benchmarks.relay", str(folder), stdout=PIPE)
    assert process.stdout is not None
    address = (await process.stdout.readline()).decode().strip()
    relay = Relay(folder, address, process.stdout)
    listening = asyncio.create_task(relay.listen())
    try:
        yield relay
    finally:
        listening.cancel()
        process.kill()
        await process.wait()


async def relay(folder: Path) -> None:
    """Relay until the end."""

    async def connected(near: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        """A connection may bring one request after another, not two at once."""
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            head = await near.readuntil(b"\r\n\r\n")
            arrived = time.perf_counter()
            key = _KEY.search(head)
            assert key is not None
            far, there = await asyncio.open_unix_connection(folder / key[1].decode())
            there.write(head)
            asked: tuple[str, float] | None = None

            async def ask() -> None:
                nonlocal arrived, asked
                while data := await near.read(1 << 16):
                    if question := _QUESTION.search(data):
                        asked = question[1].decode(), arrived or time.perf_counter()
                    arrived = 0.0
                    there.write(data)
                there.close()

            asking = asyncio.create_task(ask())
            try:
                while data := await far.read(1 << 16):
                    left = time.perf_counter()
                    back.write(data)
                    if asked and _TEXT.search(data):
                        print(*asked, left, flush=True)
                        asked = None
            finally:
                asking.cancel()
                there.close()
        back.close()

    await asyncio.start_unix_server(connected, folder / "relay")
    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


def luthier(folder: Path, command: list[str]) -> None:
    """Be `luthier`, with llama.cpp behind the relay."""
    from luthier.cli.main import app
    from luthier.engines import llamacpp_process
    from luthier.engines.http_api import HttpApi

    def relayed(base_url: str, api_key: str, *, name: str, socket: Path) -> HttpApi:
        (folder / api_key).symlink_to(socket)
        return HttpApi(base_url, api_key, name=name, socket=folder / "relay")

    llamacpp_process.__dict__["HttpApi"] = relayed
    sys.argv = ["luthier", *command]
    app()


if __name__ == "__main__":
    if sys.argv[2:]:
        luthier(Path(sys.argv[1]), sys.argv[2:])
    else:
        asyncio.run(relay(Path(sys.argv[1])))
