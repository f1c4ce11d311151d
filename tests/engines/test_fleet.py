"""Which adapters a server starts with, when it grows, and when it rests: servers that are none, so no time passes."""

import asyncio
from types import SimpleNamespace

import pytest

from luthier.core.errors import Unavailable
from luthier.core.patience import PATIENT
from luthier.engines import llamacpp_fleet, slots
from luthier.engines.base import Adapter, Elsewhere
from luthier.engines.gguf_header import GgufHeader
from luthier.engines.llamacpp_fleet import Fleet, Plan
from luthier.engines.pool import EnginePool

HEADER = GgufHeader("llama", 2, 256, 2, 1, kv_bytes_per_token=10)


class Server:
    """A server that is none."""

    def __init__(self, files):
        self.files = files
        self.alive = True
        self.api = SimpleNamespace()

    async def close(self):
        self.alive = False


@pytest.fixture
def fleet(tmp_path, monkeypatch):
    """A fleet of such servers; each adapter takes ten bytes, and `adapter_bytes` is room for one."""
    model = tmp_path / "m.gguf"
    model.write_bytes(b"x" * 100)
    made = Fleet(model, HEADER, Plan(slots=4, most_slots=16, context_tokens=256, adapter_bytes=10))
    made.starts, made.hold = [], asyncio.Event()
    made.hold.set()

    async def start(model, files, **options):
        await made.hold.wait()
        made.starts.append(Server(files))
        return made.starts[-1]

    async def converted(adapter):
        return adapter.path, 10

    monkeypatch.setattr(llamacpp_fleet.LlamaServer, "start", start)
    monkeypatch.setattr(made, "_converted", converted)
    return made


def adapters(folder, *names):
    made = [Adapter(name, folder / name) for name in names]
    for adapter in made:
        adapter.path.write_text("")
    return made


async def settle():
    for _ in range(20):
        await asyncio.sleep(0)


async def asked(fleet, adapter):
    async with fleet.place(adapter) as place:
        return place.lora


def test_who_starts_a_server_finds_his_adapter_in_it(fleet, tmp_path):
    """A, B and A again wait, and both do not fit: B's start must not take A for its own."""
    a, b = adapters(tmp_path, "a", "b")

    async def story():
        fleet.hold.clear()
        waiting = [asyncio.create_task(asked(fleet, one)) for one in (a, b, a)]
        await settle()
        fleet.hold.set()
        return await asyncio.gather(*waiting)

    assert asyncio.run(story()) == [[{"id": 0, "scale": 1.0}]] * 3


def test_a_model_deleted_while_it_waits_is_said_to_be(fleet, tmp_path):
    a, gone = adapters(tmp_path, "a", "gone")

    async def story():
        fleet.hold.clear()
        first, second = (asyncio.create_task(asked(fleet, one)) for one in (a, gone))
        await settle()
        gone.path.unlink()
        fleet.hold.set()
        await first
        await second

    with pytest.raises(Unavailable, match="was deleted"):
        asyncio.run(story())


def test_it_grows_for_those_who_can_wait_too(fleet, monkeypatch):
    monkeypatch.setattr(slots, "LINGER_S", 0.0)

    async def stay():
        PATIENT.set(True)
        async with fleet.place(None):
            await asyncio.Event().wait()

    async def story():
        tasks = []
        for _ in range(6):
            tasks.append(asyncio.create_task(stay()))
            await settle()
        total = fleet._current.slots.total
        for task in tasks:
            task.cancel()
        await settle()
        return total

    assert asyncio.run(story()) == 16


def test_it_rests_unless_it_is_asked_and_wakes_again(fleet):
    async def story():
        async with fleet.place(None):
            fleet.rest()
            assert fleet.awake
        fleet.rest()
        assert not fleet.awake
        await settle()
        assert not fleet.starts[0].alive
        await asked(fleet, None)
        return len(fleet.starts)

    assert asyncio.run(story()) == 2
    assert fleet.memory_bytes == 100 + 4 * 256 * 10


class Heavy(Elsewhere):
    """An engine of 40 bytes that is awake from its first question on; `busy` ones do not rest."""

    memory_bytes = 40

    def __init__(self):
        self.awake = self.busy = False

    def rest(self):
        self.awake = self.busy


def test_engines_asked_longest_ago_make_room():
    pool = EnginePool("heavy", lambda base: None, memory=100, factories={"heavy": lambda wanted: Heavy()})

    def ask(base):
        pool.get(base).awake = True
        return {name for name in "abcd" if name in pool._engines and pool._engines[name].awake}

    assert ask("a") | ask("b") == {"a", "b"}
    ask("a")
    assert ask("c") == {"a", "c"}  # b was asked longest ago
    pool.get("a").busy = True
    assert ask("d") == {"a", "d"}
    pool.get("d").busy = True
    assert ask("b") == {"a", "b", "d"}  # none of the two can go: better slow than broken
    pool.get("a").busy = pool.get("d").busy = False
    assert ask("b") == {"b", "d"}  # now one can
