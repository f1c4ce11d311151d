"""The embedded engine: llama.cpp on this machine, adapters chosen per request. Knows one base, no projects."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final

from luthier.core.errors import InvalidRequest
from luthier.core.json import Json, JsonObject
from luthier.core.machine import memory_bytes
from luthier.data.base_folder import BaseFolder
from luthier.data.template import ChatTemplate
from luthier.engines import llamacpp_bodies as bodies
from luthier.engines import llamacpp_text as texts
from luthier.engines.base import Adapter, Endpoint
from luthier.engines.gguf_header import GgufHeader, read_header
from luthier.engines.llamacpp_asking import Asker, Question, Wire
from luthier.engines.llamacpp_fleet import Fleet, Plan
from luthier.engines.tool_calls import notation_of

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


class LlamaCpp:
    """An `Engine`. Its servers start with the first request; all calls come from one event loop."""

    def __init__(self, base: BaseFolder, *, plan: Plan | None = None) -> None:
        header = read_header(base.gguf)
        plan = plan or plan_for(header, memory_bytes())
        self._template = ChatTemplate.of(base)
        self._notation = notation_of(base.template.read_text() if self._template.knows_tools else "")
        self._fleet = Fleet(base.gguf, header, plan)
        self._asker = Asker(self._fleet)
        embedding = Plan(FEW_SLOTS, FEW_SLOTS, min(plan.context_tokens, EMBEDDED_TOKENS), 0)
        self._embedding_fleet = Fleet(base.gguf, header, embedding, embeds=True)
        self._embedder = Asker(self._embedding_fleet)

    async def answer(self, endpoint: Endpoint, body: JsonObject, adapter: Adapter | None) -> JsonObject:
        match endpoint:
            case "chat/completions":
                return await self._chat(body, adapter)
            case "completions":
                return await texts.answer(self._asker, body, adapter)
            case "embeddings":
                return await self._embed(body, adapter)

    async def stream(
        self, endpoint: Endpoint, body: JsonObject, adapter: Adapter | None
    ) -> AsyncGenerator[JsonObject, None]:
        chunks = self._chunks if endpoint == "chat/completions" else self._text_chunks
        async with aclosing(chunks(body, adapter)) as answer:
            async for chunk in answer:
                yield chunk

    async def tokenize(self, body: JsonObject, adapter: Adapter | None) -> list[int]:
        prompt, _ = bodies.rendered(body, self._template)
        return await texts.ids_of(self._asker, prompt, adapter)

    async def close(self) -> None:
        await asyncio.gather(self._fleet.close(), self._embedding_fleet.close())

    async def _chat(self, body: JsonObject, adapter: Adapter | None) -> JsonObject:
        chat, question = self._question(body)
        choices, used = await self._asker.ask([question], adapter)
        answered = [bodies.ChatReader(chat, choice["index"]).message(choice) for choice in choices]
        return {"choices": list(answered), "usage": bodies.usage(used, 1)}

    async def _chunks(self, body: JsonObject, adapter: Adapter | None) -> AsyncGenerator[JsonObject, None]:
        chat, question = self._question(body)
        readers = [bodies.ChatReader(chat, index) for index in range(question.count)]
        used: list[Wire] = []
        async with aclosing(self._asker.stream([question], adapter)) as pieces:
            async for choice, usage in pieces:
                for delta in readers[choice["index"]].deltas(choice):
                    yield {"choices": [delta]}
                if usage:
                    used.append(usage)
        yield {"choices": [], "usage": bodies.usage(used, 1)}

    def _text_chunks(self, body: JsonObject, adapter: Adapter | None) -> AsyncGenerator[JsonObject, None]:
        return texts.chunks(self._asker, body, adapter)

    def _question(self, body: JsonObject) -> tuple[bodies.Chat, Question]:
        chat = bodies.chat(body, self._template, self._notation)
        count = body.get("n")
        return chat, Question(chat.body, count if isinstance(count, int) else 1)

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
