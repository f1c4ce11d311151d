"""One engine for each base, made when it is first asked for. What is built in registers as any other."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from luthier.core.errors import InvalidRequest
from luthier.core.machine import memory_bytes
from luthier.data.base_folder import BaseFolder
from luthier.engines.base import Engine
from luthier.engines.echo import Echo
from luthier.engines.llamacpp import LlamaCpp
from luthier.engines.openai import OpenAI

ELSEWHERE: Final = frozenset({"vllm", "openai"})  # engines that a setting says more of than the name

FolderOf = Callable[[str], BaseFolder]


@dataclass(frozen=True)
class Wanted:
    """An engine that is to be made; only one that reads the base asks for its folder.

    `where`: what the setting says after the engine's name, such as an URL. `adapters`: the folder they lie below.
    """

    base: str
    folder_of: FolderOf
    where: str
    adapters: Path
    api_key: str

    @property
    def folder(self) -> BaseFolder:
        """The base's files."""
        return self.folder_of(self.base)


EngineFactory = Callable[[Wanted], Engine]


def _vllm(wanted: Wanted) -> Engine:
    from luthier.engines.vllm import Vllm

    return Vllm(wanted.folder, wanted.where, adapters=wanted.adapters, api_key=wanted.api_key)


def _openai(wanted: Wanted) -> Engine:
    url, _, model = wanted.where.partition("#")
    return OpenAI(model or wanted.base, base_url=url, api_key=wanted.api_key or "none")


FACTORIES: Final[dict[str, EngineFactory]] = {
    "llamacpp": lambda wanted: LlamaCpp(wanted.folder),
    "vllm": _vllm,
    "openai": _openai,
    "echo": lambda _wanted: Echo(),
}


class EnginePool:
    """Engines by base name, for one event loop: the one that asks them also closes them.

    `engine` is the setting, `NAME` or `NAME:WHERE`; `engines` are those of bases that another one serves. `memory`: the
    bytes that engines may take of this machine, by default half of it; one that is at work is not ended for another.
    """

    def __init__(
        self,
        engine: str,
        folder_of: FolderOf,
        *,
        engines: Mapping[str, str] | None = None,
        adapters: Path = Path(),
        engine_api_key: str = "",
        memory: int | None = None,
        factories: Mapping[str, EngineFactory] = FACTORIES,
    ) -> None:
        self._of = dict(engines or {})
        for setting in (engine, *self._of.values()):
            name, _, where = setting.partition(":")
            if name not in factories:
                raise InvalidRequest(f'setting engine: there is no "{name}"; known are {", ".join(sorted(factories))}')
            if bool(where) != (name in ELSEWHERE):
                raise InvalidRequest(
                    f'setting engine: "{setting}" will not do; give vllm:URL, of a running vLLM, vllm:FOLDER, of a '
                    "Python environment that has it, or openai:URL; the other engines are their names alone"
                )
        self._engine = engine
        self._folder_of = folder_of
        self._adapters = adapters
        self._api_key = engine_api_key
        self._factories = factories
        self._memory = memory or memory_bytes() // 2
        self._engines: dict[str, Engine] = {}  # the one asked longest ago first

    def get(self, base: str) -> Engine:
        """The engine of a base, about to be asked: where memory is short, those asked longest ago make room for it.

        Errors: what its factory raises for a base that is not there or cannot be served.
        """
        engine = self._engines.pop(base, None) or self._made(base)
        self._engines[base] = engine
        self._make_room(engine)
        return engine

    def _made(self, base: str) -> Engine:
        name, _, where = self._of.get(base, self._engine).partition(":")
        return self._factories[name](Wanted(base, self._folder_of, where, self._adapters, self._api_key))

    def _make_room(self, engine: Engine) -> None:
        awake = [other for other in self._engines.values() if other.awake and other is not engine]
        taken = engine.memory_bytes + sum(other.memory_bytes for other in awake)
        for other in awake:
            if taken <= self._memory:
                return
            other.rest()
            taken -= 0 if other.awake else other.memory_bytes

    def tunes(self, base: str) -> bool:
        """Whether models tuned from a base could be served."""
        return not self._of.get(base, self._engine).startswith("openai:")

    def __len__(self) -> int:
        return len(self._engines)

    async def close(self) -> None:
        """Stop all engines."""
        engines, self._engines = list(self._engines.values()), {}
        await asyncio.gather(*(engine.close() for engine in engines))
