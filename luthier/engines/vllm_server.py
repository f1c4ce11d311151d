"""A vLLM server of one base: a running one, or a child in an environment of its own. Knows no bodies.

The child listens on a socket in a folder that only we can enter, and wants a random key besides. It runs through
`plugins/vllm`, which also tells it where adapters lie.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from luthier.core.errors import LuthierError, Unavailable
from luthier.core.ids import random_text
from luthier.core.machine import memory_bytes
from luthier.core.run import AdapterShape
from luthier.data.base_folder import BaseFolder
from luthier.engines.child import Child
from luthier.engines.http_api import HttpApi, Unreachable

ADAPTERS_AT_ONCE: Final = 32  # in a batch; a further one waits until one of them is idle
LOOK_EVERY_S: Final = 0.5
GIB: Final = 1 << 30


@dataclass(frozen=True)
class Serving:
    """A server that answers, and what it says of itself: its name for the base, and how much it reads."""

    api: HttpApi
    model: str
    context_tokens: int


class Remote:
    """A server that somebody else runs at an URL."""

    def __init__(self, url: str, api_key: str) -> None:
        self._url = url
        self._api = HttpApi(url.rstrip("/"), api_key, name=f"vLLM at {url}")
        self._serving: Serving | None = None

    async def serving(self) -> Serving:
        """The server. Errors: `Unavailable`."""
        if self._serving is None:
            try:
                self._serving = await _asked(self._api)
            except LuthierError as error:
                raise Unavailable(
                    f"{error.message}. The setting names the server vllm:{self._url}; is it running, does the address "
                    "end in /v1, and is its key in the setting engine_api_key?"
                ) from error
        return self._serving

    async def close(self) -> None:
        """Nothing of it is ours."""


class Own:
    """A child of ours, started with the first question, and anew when it died. `home` is its Python environment."""

    def __init__(self, home: Path, base: BaseFolder, adapters: Path) -> None:
        self._home = home.expanduser()
        self._base = base
        self._adapters = adapters
        self._place: Path | None = None
        self._child: Child | None = None
        self._started: asyncio.Task[Serving] | None = None

    async def serving(self) -> Serving:
        """The server, started if need be. Errors: `Unavailable`."""
        if self._started is None or (self._started.done() and not (self._child and self._child.alive)):
            self._started = asyncio.create_task(self._start())
        return await asyncio.shield(self._started)  # it takes a minute: who gives up leaves it to those who come next

    async def close(self) -> None:
        """End it."""
        if self._started is not None:
            self._started.cancel()
            await asyncio.wait([self._started])
        await self._end()

    async def _end(self) -> None:
        if self._child is not None:
            await self._child.close()
        if self._place is not None:
            shutil.rmtree(self._place, ignore_errors=True)
        self._child, self._place = None, None

    async def _start(self) -> Serving:
        await self._end()
        python = self._home / "bin/python"
        if not python.exists():
            raise Unavailable(f"there is no Python environment in {self._home}. {_mend(self._home)}")
        self._place, key = Path(tempfile.mkdtemp(prefix="luthier-vllm-")), random_text(40)
        socket = self._place / "socket"
        environment = {
            "VLLM_API_KEY": key,
            "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1",  # without it vLLM asks no plugin for adapters
            "LUTHIER_ADAPTERS": str(self._adapters),
            "VLLM_NO_USAGE_STATS": "1",
            "HF_HUB_OFFLINE": "1",
            # Of CPUs alone. Its own choice is nearly all of the memory, whoever else needs some.
            "VLLM_CPU_KVCACHE_SPACE": os.environ.get("VLLM_CPU_KVCACHE_SPACE", str(max(1, memory_bytes() // 8 // GIB))),
        }
        self._child = await Child.start([str(python), "-m", "luthier_vllm", *self._arguments(socket)], environment)
        api = HttpApi("http://vllm/v1", key, name="vLLM", socket=socket)
        while self._child.alive:
            try:
                return await _asked(api)
            except Unreachable:
                await asyncio.sleep(LOOK_EVERY_S)
        complaints = self._child.complaints
        await self._end()
        mend = _mend(self._home) if "No module" in complaints else "docs/vllm.md tells what to do about it."
        raise Unavailable(f"vLLM did not start; it said: {complaints.rstrip('.')}. {mend}")

    def _arguments(self, socket: Path) -> list[str]:
        name, shape = self._base.read_facts().name, AdapterShape()
        served = ["--model", str(self._base.hf), "--served-model-name", name, "--uds", str(socket)]
        loras = ["--enable-lora", "--max-loras", str(ADAPTERS_AT_ONCE), "--max-lora-rank", str(shape.rank)]
        # OpenAI's sampling, not the model's own; the grammars of `json_schema.py` and `tool_calls.py`.
        words = ["--generation-config", "vllm", "--structured-outputs-config.backend", "guidance"]
        return [*served, *loras, *words, "--max-model-len", "auto", "--enable-prompt-tokens-details"]


async def _asked(api: HttpApi) -> Serving:
    listed: Any = await api.get("/models")
    base: dict[str, Any] = next(iter(listed.get("data", ())), {})
    if "max_model_len" not in base:
        raise Unavailable("what answers there is not vLLM: it does not tell how long a context it serves")
    return Serving(api, base["id"], base["max_model_len"])


def _mend(home: Path) -> str:
    return (
        f"Install vLLM and Luthier's plugin for it there: python3 -m venv {home} && "
        f"{home}/bin/pip install vllm ./plugins/vllm (the latter in Luthier's repository; see docs/vllm.md)"
    )
