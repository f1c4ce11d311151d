"""llama.cpp servers of one base, so that adapters come and go while streams run. Knows processes, no bodies.

llama.cpp loads adapters only when it starts. A new adapter therefore starts a new server beside the old one; new
requests go to the new one, the old one answers what it has begun, and ends. A server that died is replaced likewise,
and so is one whose slots are too few: it starts with few, for llama.cpp touches the memory of all of them first, and
beside a busy one with as few as it can. Until such a one has grown, what finds it busy may go to an old one.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import structlog

from luthier.core.errors import LuthierError, Unavailable
from luthier.core.json import Json
from luthier.engines.base import Adapter
from luthier.engines.gguf_header import GgufHeader
from luthier.engines.http_api import HttpApi
from luthier.engines.llamacpp_process import LlamaServer
from luthier.engines.slots import Slots

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Plan:
    """How a base is served on this machine: `slots` requests at once, `most_slots` once requests have to wait."""

    slots: int
    most_slots: int
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
        self.lost = False

    @property
    def usable(self) -> bool:
        return self.server.alive and not self.lost

    def serves(self, adapter: Adapter | None, count: int) -> bool:
        """Whether it can answer `count` choices of the adapter at once."""
        return self.usable and self.slots.total >= count and (adapter is None or adapter.id in self.places)

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
        self._model_bytes = model.stat().st_size
        self._header = header
        self._embeds = embeds
        self._adapters: OrderedDict[str, tuple[Path, int]] = OrderedDict()  # id -> file and size, oldest use first
        self._waited: Counter[str] = Counter()  # ids of adapters that requests wait for
        self._current: _Generation | None = None
        self._retired: list[_Generation] = []  # they answer what they have begun, oldest first
        self._starting = asyncio.Lock()
        self._growing: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def place(self, adapter: Adapter | None, count: int = 1) -> AsyncIterator[Place]:
        """`count` slots, at most `plan.slots`, of a server that knows the adapter.

        Errors: `Unavailable` when none can be started, `InvalidRequest` for an adapter that cannot be served.
        """
        generation = await self._serving(adapter, count)
        generation.users += 1
        try:
            self._grow_if_busy(count)
            async with generation.slots.take(count):
                yield Place(generation.server.api, generation.lora(adapter))
        finally:
            generation.users -= 1
            self._end_if_done(generation)

    def report_lost(self, place: Place) -> None:
        """A server that takes no requests is not asked again."""
        for generation in self._living():
            generation.lost = generation.lost or generation.server.api is place.api

    @property
    def memory_bytes(self) -> int:
        """What the newest server takes, or a first one would: the model, keys and values of its slots, adapters."""
        current = self._current
        slots = current.slots.total if current else self.plan.slots
        loaded = [self._adapters[name][1] for name in (current.places if current else ()) if name in self._adapters]
        return self._model_bytes + slots * self.plan.context_tokens * self._header.kv_bytes_per_token + sum(loaded)

    @property
    def awake(self) -> bool:
        """Whether there is a server."""
        return bool(self._living()) or self._starting.locked()

    def rest(self) -> None:
        """End servers that nobody asks; the next question starts one anew."""
        current = self._current
        if current is not None and not current.users and not self._starting.locked():
            self._current = None
            self._run(current.server.close())

    async def close(self) -> None:
        """End all servers at once."""
        if self._growing is not None:
            self._growing.cancel()
        living = self._living()
        self._current = None
        self._retired.clear()
        for generation in living:
            self._run(generation.server.close())
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _serving(self, adapter: Adapter | None, count: int) -> _Generation:
        await self._keep(adapter)
        if (fitting := self._fitting(adapter, count)) is not None:
            return fitting
        if self._growing is not None:
            self._growing.cancel()  # it would hold up what has nobody else to go to
        with self._waiting(adapter):
            async with self._starting:
                if (fitting := self._fitting(adapter, count)) is not None:  # who waited before us started it for us too
                    return fitting
                await self._keep(adapter)  # another start may have let it go
                busy = any(generation.usable and generation.users for generation in self._living())
                return await self._start(count if busy else self.plan.slots, adapter)

    @contextmanager
    def _waiting(self, adapter: Adapter | None) -> Iterator[None]:
        """Meanwhile no start lets the adapter go for one that nobody waits for."""
        waited = [adapter.id] if adapter else []
        self._waited.update(waited)
        try:
            yield
        finally:
            self._waited -= Counter(waited)

    async def _keep(self, adapter: Adapter | None) -> None:
        """The adapter is the one used last."""
        if adapter is not None:
            self._adapters[adapter.id] = self._adapters.get(adapter.id) or await self._converted(adapter)
            self._adapters.move_to_end(adapter.id)

    async def _converted(self, adapter: Adapter) -> tuple[Path, int]:
        from luthier.engines.lora_gguf import adapter_gguf

        file = await asyncio.to_thread(adapter_gguf, adapter.path, self._header)
        return file, file.stat().st_size

    async def _start(self, slots: int, adapter: Adapter | None = None) -> _Generation:
        """A server that knows `adapter` and others of late, in the place of the one before."""
        for name in [name for name, (file, _) in self._adapters.items() if not file.exists()]:
            del self._adapters[name]  # its model was deleted; llama.cpp would not start
        asked = [adapter.id] if adapter else []
        if not all(name in self._adapters for name in asked):
            raise Unavailable("the model was deleted while it was being loaded")
        # Then those that are waited for, as they stand in line; then the ones used last.
        waited = filter(self._adapters.get, self._waited)
        wanted = list(dict.fromkeys([*asked, *waited, *reversed(self._adapters)]))
        sizes = accumulate(self._adapters[name][1] for name in wanted)
        names = wanted[: max(1, sum(size <= self.plan.adapter_bytes for size in sizes))]
        files = [str(self._adapters[name][0]) for name in names]
        for name in set(wanted).difference(names, self._waited):
            del self._adapters[name]
        server = await LlamaServer.start(
            str(self._model), files, slots=slots, context_tokens=self.plan.context_tokens, embeds=self._embeds
        )
        old, self._current = self._current, _Generation(server, names, slots)
        if old is not None:
            self._retired.append(old)
            self._end_if_done(old)
        return self._current

    def _fitting(self, adapter: Adapter | None, count: int) -> _Generation | None:
        current = self._current
        if current is None or not current.serves(adapter, count):
            return None
        if self._should_grow(current, count):
            for old in self._retired:
                if old.serves(adapter, count) and old.slots.free >= count:
                    return old
        return current

    def _living(self) -> list[_Generation]:
        return [*self._retired, *([self._current] if self._current else ())]

    def _grow_if_busy(self, count: int) -> None:
        """Start a server with more slots beside the current one; meanwhile that one answers on."""
        current = self._current
        if current is not None and self._should_grow(current, count) and not self._starting.locked():
            self._growing = self._run(self._grown(current))

    def _should_grow(self, generation: _Generation, count: int) -> bool:
        short = generation.slots.free < count or generation.slots.crowded
        return short and generation.slots.total < self.plan.most_slots

    async def _grown(self, generation: _Generation) -> None:
        async with self._starting:
            if generation is self._current and generation.usable:
                try:
                    await self._start(self.plan.most_slots)
                except LuthierError as error:
                    log.warning("no more slots: llama.cpp did not start with them", error=error.message)

    def _end_if_done(self, generation: _Generation) -> None:
        if generation in self._retired and not generation.users:
            self._retired.remove(generation)
            # In a task of its own: whoever left last may be cancelled, and must not wait.
            self._run(generation.server.close())

    def _run(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
