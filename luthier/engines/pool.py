"""One engine for each base, made when it is first asked for. What is built in registers as any other."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Final

from luthier.core.errors import InvalidRequest
from luthier.data.base_folder import BaseFolder
from luthier.engines.base import Engine
from luthier.engines.echo import Echo
from luthier.engines.llamacpp import LlamaCpp

FolderOf = Callable[[str], BaseFolder]
EngineFactory = Callable[[str, FolderOf], Engine]
"""Makes the engine of a base; only an engine that reads the base asks for its folder."""

FACTORIES: Final[dict[str, EngineFactory]] = {
    "llamacpp": lambda base, folder_of: LlamaCpp(folder_of(base)),
    "echo": lambda _base, _folder_of: Echo(),
}


class EnginePool:
    """Engines by base name, for one event loop: the one that asks them also closes them."""

    def __init__(self, engine: str, folder_of: FolderOf, factories: Mapping[str, EngineFactory] = FACTORIES) -> None:
        if engine not in factories:
            raise InvalidRequest(f'setting engine: there is no "{engine}"; known are {", ".join(sorted(factories))}')
        self._factory = factories[engine]
        self._folder_of = folder_of
        self._engines: dict[str, Engine] = {}

    def get(self, base: str) -> Engine:
        """The engine of a base. Errors: what its factory raises for a base that is not there or cannot be served."""
        if base not in self._engines:
            self._engines[base] = self._factory(base, self._folder_of)
        return self._engines[base]

    def __len__(self) -> int:
        return len(self._engines)

    async def close(self) -> None:
        """Stop all engines."""
        engines, self._engines = list(self._engines.values()), {}
        await asyncio.gather(*(engine.close() for engine in engines))
