"""llama.cpp servers of one base, so that adapters come and go while streams run. Knows processes, no bodies.

llama.cpp loads adapters only when it starts. A new adapter therefore starts a new server beside the old one; new
requests go to the new one, the old one answers what it has begun, and ends. A server that died is replaced likewise.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from luthier.core.json import Json
from luthier.engines.base import Adapter
from luthier.engines.gguf_header import GgufHeader
from luthier.engines.http_api import HttpApi
from luthier.engines.llamacpp_process import LlamaServer
from luthier.engines.lora_gguf import adapter_gguf
from luthier.engines.slots import Slots


@dataclass(frozen=True)
class Plan:
    """How a base is served on this machine."""

    slots: int
    context_tokens: int  # of each slot
    adapter_bytes: int  # adapters in memory together


@dataclass(frozen=True)
class Place:
    """A server to ask, and the `lora` to send with each request."""

    api: HttpApi
    lora: Json


class _Generation:
    """A server, the adapters that it knows, and who is asking it."""

    def __init__(self, server: LlamaServer, adapters: list[str], slots: int) -> None:
        self.server = server
        self.places = {name: place for place, name in enumerate(adapters)}
        self.slots = Slots(slots)
        self.users = 0
        self.retired = False
        self.lost = False

    @property
    def usable(self) -> bool:
        return self.server.alive and not self.lost

    def lora(self, adapter: Adapter | None) -> Json:
        """llama.cpp keeps a slot's cached prompt when `lora` is empty, whichever adapter made it: so name one at 0."""
        if adapter is not None:
            return [{"id": self.places[adapter.id], "scale": 1.0}]
        return [{"id": 0, "scale": 0.0}] if self.places else []


class Fleet:
    """Hands out places. All calls come from one event loop."""

    def __init__(self, model: Path, header: GgufHeader, plan: Plan, *, embeds: bool = False) -> None:
        self.plan = plan
        self._model = model
        self._header = header
        self._embeds = embeds
        self._adapters: OrderedDict[str, tuple[Path, int]] = OrderedDict()  # id -> file and size, oldest use first
        self._current: _Generation | None = None
        self._starting = asyncio.Lock()
        self._closing: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def place(self, adapter: Adapter | None, count: int = 1) -> AsyncIterator[Place]:
        """`count` slots of a server that knows the adapter. Errors: `Unavailable`, `InvalidRequest` for the adapter."""
        generation = await self._knowing(adapter)
        generation.users += 1
        try:
            async with generation.slots.take(count):
                yield Place(generation.server.api, generation.lora(adapter))
        finally:
            generation.users -= 1
            self._end_if_done(generation)

    def report_lost(self, place: Place) -> None:
        """A server that takes no requests is not asked again."""
        if self._current is not None and self._current.server.api is place.api:
            self._current.lost = True

    async def close(self) -> None:
        """End all servers at once."""
        if self._current is not None:
            self._retire(self._current, at_once=True)
            self._current = None
        if self._closing:
            await asyncio.wait(self._closing)

    async def _knowing(self, adapter: Adapter | None) -> _Generation:
        if adapter is not None and adapter.id not in self._adapters:
            file = await asyncio.to_thread(adapter_gguf, adapter.path, self._header)
            self._adapters[adapter.id] = (file, file.stat().st_size)
        if adapter is not None:
            self._adapters.move_to_end(adapter.id)
        if (current := self._fitting(adapter)) is not None:
            return current
        async with self._starting:
            if (current := self._fitting(adapter)) is not None:  # who waited before us started it for us too
                return current
            self._evict()
            names = list(self._adapters)
            server = await LlamaServer.start(
                str(self._model),
                [str(file) for file, _ in self._adapters.values()],
                slots=self.plan.slots,
                context_tokens=self.plan.context_tokens,
                embeds=self._embeds,
            )
            old, self._current = self._current, _Generation(server, names, self.plan.slots)
            if old is not None:
                self._retire(old)
            return self._current

    def _fitting(self, adapter: Adapter | None) -> _Generation | None:
        current = self._current
        if current is None or not current.usable or (adapter is not None and adapter.id not in current.places):
            return None
        return current

    def _evict(self) -> None:
        """Forget the adapters that were not used for longest, until the rest fits; the newest stays."""
        while len(self._adapters) > 1 and sum(size for _, size in self._adapters.values()) > self.plan.adapter_bytes:
            self._adapters.popitem(last=False)

    def _retire(self, generation: _Generation, *, at_once: bool = False) -> None:
        generation.retired = True
        if at_once:
            generation.users = 0
        self._end_if_done(generation)

    def _end_if_done(self, generation: _Generation) -> None:
        # In a task of its own: whoever left last may be cancelled, and must not wait.
        if generation.retired and generation.users <= 0:
            task = asyncio.create_task(generation.server.close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)
