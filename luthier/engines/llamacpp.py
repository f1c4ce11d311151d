"""The embedded engine: llama.cpp on this machine, adapters chosen per request. Knows one base, no projects."""

from __future__ import annotations

import asyncio
from typing import Final

from luthier.core.errors import InvalidRequest
from luthier.core.json import Json, JsonObject
from luthier.core.machine import memory_bytes
from luthier.data.base_folder import BaseFolder
from luthier.engines.base import Adapter
from luthier.engines.completing import Completing
from luthier.engines.gguf_header import GgufHeader, read_header
from luthier.engines.llamacpp_asking import FleetAsker
from luthier.engines.llamacpp_fleet import Fleet, Plan

FEW_SLOTS: Final = 4
MANY_SLOTS: Final = 16
EMBEDDED_TOKENS: Final = 2048  # a text is embedded in one piece, whose attention needs memory by its square


def plan_for(header: GgufHeader, memory: int) -> Plan:
    """Slots of the model's whole context in an eighth of the memory; of less, where not even a few fit.

    SmolLM2-135M on two cores: 4, 8 and 16 slots of 8,192 tokens start in 0.9, 1.7 and 3.7 s, and make 113, 123 and 127
    to 164 tokens/s of 16 streams.
    """
    fitting = memory // 8 // (header.context_tokens * header.kv_bytes_per_token)
    most = max(FEW_SLOTS, min(MANY_SLOTS, fitting))
    context_tokens = min(header.context_tokens, memory // 8 // (most * header.kv_bytes_per_token))
    return Plan(FEW_SLOTS, most, max(256, context_tokens // 256 * 256), adapter_bytes=memory // 16)


class LlamaCpp(Completing):
    """An `Engine`. Its servers start with the first request; all calls come from one event loop."""

    def __init__(self, base: BaseFolder, *, plan: Plan | None = None) -> None:
        header = read_header(base.gguf)
        plan = plan or plan_for(header, memory_bytes())
        self._fleet = Fleet(base.gguf, header, plan)
        super().__init__(base, FleetAsker(self._fleet, base.tokenizer))
        embedding = Plan(FEW_SLOTS, FEW_SLOTS, min(plan.context_tokens, EMBEDDED_TOKENS), 0)
        self._embedding_fleet = Fleet(base.gguf, header, embedding, embeds=True)
        self._embedder = FleetAsker(self._embedding_fleet, base.tokenizer)

    @property
    def memory_bytes(self) -> int:
        return self._fleet.memory_bytes

    @property
    def awake(self) -> bool:
        return self._fleet.awake or self._embedding_fleet.awake

    def rest(self) -> None:
        self._fleet.rest()
        self._embedding_fleet.rest()

    async def close(self) -> None:
        await asyncio.gather(self._fleet.close(), self._embedding_fleet.close())

    async def _embed(self, body: JsonObject, adapter: Adapter | None) -> JsonObject:
        if adapter is not None:
            raise InvalidRequest(
                "Tuned models give no embeddings; ask their base model.", code="unsupported_value", param="model"
            )
        answer = await self._embedder.post("/v1/embeddings", {"input": body["input"]}, None)
        used = answer["usage"]
        vectors = [{"object": "embedding", "index": d["index"], "embedding": d["embedding"]} for d in answer["data"]]
        return {
            "object": "list",
            "data": list[Json](vectors),
            "usage": {"prompt_tokens": used["prompt_tokens"], "total_tokens": used["total_tokens"]},
        }
