"""One llama.cpp server in a child process, from the parent's side: start, end. Knows no bodies and no adapters' ids."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from contextlib import suppress
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from luthier.core.errors import Unavailable
from luthier.core.ids import random_text
from luthier.engines.child import Child
from luthier.engines.http_api import HttpApi
from luthier.engines.llamacpp_child import ServerSpec

# Threads that wait for each other spin for some 10 µs, then sleep. Spinning on, as is the default, beside a training on
# two cores a reply of 15 tokens took 27 s and not 1; sleeping at once, one stream alone made 67 tokens/s and not 105.
PATIENCE: Final = {"GOMP_SPINCOUNT": "3000"}


class LlamaServer:
    """A running child. `api` speaks to it, through a file of ours; only whoever has its random key can."""

    def __init__(self, child: Child, api: HttpApi, place: Path) -> None:
        self._child = child
        self._place = place
        self.api = api

    @staticmethod
    async def start(
        model: str, adapters: list[str], *, slots: int, context_tokens: int, embeds: bool = False
    ) -> LlamaServer:
        """Start a child and wait until it serves. Errors: `Unavailable` with its last words."""
        if find_spec("xllamacpp") is None:
            raise Unavailable("the wheel of llama.cpp is missing; install it with: pip install xllamacpp")
        place = Path(tempfile.mkdtemp(prefix="luthier-llamacpp-"))
        spec = ServerSpec(model, adapters, slots, context_tokens, random_text(40), str(place / "llamacpp.sock"), embeds)
        child = await Child.start([sys.executable, "-m", "luthier.engines.llamacpp_child"], PATIENCE)
        serves = False
        try:
            serves = await _serves(child, spec)
        finally:
            if not serves:  # it ended, or we are cancelled
                await child.close()
                shutil.rmtree(place, ignore_errors=True)
        if not serves:
            raise Unavailable(f"llama.cpp cannot serve this model; its last words: {child.last_words}")
        api = HttpApi("http://llamacpp", spec.api_key, name="llama.cpp", socket=Path(spec.socket))
        return LlamaServer(child, api, place)

    @property
    def alive(self) -> bool:
        """Whether the child runs, as far as is known."""
        return self._child.alive

    @property
    def pid(self) -> int:
        """The child's number among processes."""
        return self._child.pid

    async def close(self) -> None:
        """End the child at once."""
        await self._child.close()
        shutil.rmtree(self._place, ignore_errors=True)


async def _serves(child: Child, spec: ServerSpec) -> bool:
    """True once the child serves, False when it ended instead."""
    with suppress(ConnectionError):  # it ended before it read
        await child.tell(json.dumps(asdict(spec)))
    while line := await child.line():
        with suppress(ValueError):  # a line of another's, such as a debugger's when it ends itself
            return bool(json.loads(line)["address"])
    return False
