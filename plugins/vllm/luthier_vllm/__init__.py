"""Finds Luthier's adapters for vLLM, which asks for each that it does not know: no adapter is ever pushed.

An adapter's name is its place below the folder that `LUTHIER_ADAPTERS` names: the folder `runs` of Luthier's data, here
or on a mount. What stands there is complete and never changes, so an adapter is found by name alone.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from vllm.lora.request import LoRARequest
from vllm.lora.resolver import LoRAResolver, LoRAResolverRegistry


class Adapters(LoRAResolver):
    """Adapters below a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder.resolve()

    async def resolve_lora(self, base_model_name: str, lora_name: str) -> LoRARequest | None:
        path = (self._folder / lora_name).resolve()
        if not (path.is_relative_to(self._folder) and (path / "adapter_config.json").is_file()):
            return None
        return LoRARequest(lora_name, number_of(lora_name), str(path))


def number_of(name: str) -> int:
    """The number that vLLM's caches know an adapter by: no other adapter ever has it."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:7]) + 1


def register() -> None:
    """What vLLM calls in each of its processes."""
    if folder := os.environ.get("LUTHIER_ADAPTERS"):
        LoRAResolverRegistry.register_resolver("luthier", Adapters(Path(folder)))
