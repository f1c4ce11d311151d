"""One engine for each base, made when it is first asked for. What is built in registers as any other."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from luthier.core.errors import InvalidRequest
from luthier.data.base_folder import BaseFolder
from luthier.engines.base import Engine
from luthier.engines.echo import Echo
from luthier.engines.llamacpp import LlamaCpp

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


FACTORIES: Final[dict[str, EngineFactory]] = {
    "llamacpp": lambda wanted: LlamaCpp(wanted.folder),
    "vllm": _vllm,
    "echo": lambda _wanted: Echo(),
}


class EnginePool:
    """Engines by base name, for one event loop: the one that asks them also closes them.

    `engine` is the setting, `NAME` or `NAME:WHERE`; `engines` are those of bases that another one serves.
    """

    def __init__(
        self,
        engine: str,
        folder_of: FolderOf,
        *,
        engines: Mapping[str, str] | None = None,
        adapters: Path = Path(),
        vllm_api_key: str = "",
        factories: Mapping[str, EngineFactory] = FACTORIES,
    ) -> None:
        self._of = dict(engines or {})
        for setting in (engine, *self._of.values()):
            name, _, where = setting.partition(":")
            if name not in factories:
                raise InvalidRequest(f'setting engine: there is no "{name}"; known are {", ".join(sorted(factories))}')
            if bool(where) != (name == "vllm"):
                raise InvalidRequest(
                    f'setting engine: "{setting}" will not do; give vllm:URL, of a running vLLM, or vllm:FOLDER, of a '
                    "Python environment that has it; the other engines are their names alone"
                )
        self._engine = engine
        self._folder_of = folder_of
        self._adapters = adapters
        self._api_key = vllm_api_key
        self._factories = factories
        self._engines: dict[str, Engine] = {}

    def get(self, base: str) -> Engine:
        """The engine of a base. Errors: what its factory raises for a base that is not there or cannot be served."""
        if base not in self._engines:
            name, _, where = self._of.get(base, self._engine).partition(":")
            wanted = Wanted(base, self._folder_of, where, self._adapters, self._api_key)
            self._engines[base] = self._factories[name](wanted)
        return self._engines[base]

    def __len__(self) -> int:
        return len(self._engines)

    async def close(self) -> None:
        """Stop all engines."""
        engines, self._engines = list(self._engines.values()), {}
        await asyncio.gather(*(engine.close() for engine in engines))
