"""OpenAI's endpoints on bare completions: chats are rendered and answers are read here. Knows no server, no process."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import date

from luthier.core.errors import InvalidRequest
from luthier.core.json import JsonObject
from luthier.data.base_folder import BaseFolder
from luthier.data.template import ChatTemplate
from luthier.engines import bodies, texts
from luthier.engines.asking import Asker, Question, Wire
from luthier.engines.base import Adapter, Endpoint
from luthier.engines.tool_calls import notation_of


class Completing:
    """What engines have in common that complete texts: all of an `Engine` but `close`."""

    def __init__(self, base: BaseFolder, asker: Asker) -> None:
        self._template = ChatTemplate.of(base)
        self._notation = notation_of(base.template.read_text() if self._template.knows_tools else "")
        self._asker = asker
        facts = base.read_facts()
        self._opening = facts.bos_token or facts.eos_token

    async def answer(self, endpoint: Endpoint, body: JsonObject, adapter: Adapter | None) -> JsonObject:
        match endpoint:
            case "chat/completions":
                return await self._chat(body, adapter)
            case "completions":
                return await texts.answer(self._asker, body, adapter, self._opening)
            case "embeddings":
                return await self._embed(body, adapter)

    def stream(self, endpoint: Endpoint, body: JsonObject, adapter: Adapter | None) -> AsyncGenerator[JsonObject, None]:
        if endpoint == "chat/completions":
            return self._chunks(body, adapter)
        return texts.chunks(self._asker, body, adapter, self._opening)

    async def tokenize(self, body: JsonObject, adapter: Adapter | None, today: date | None = None) -> list[int]:
        prompt, _ = bodies.rendered(body, self._template.on(today))
        return await self._asker.ids_of(prompt, adapter)

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

    def _question(self, body: JsonObject) -> tuple[bodies.Chat, Question]:
        chat = bodies.chat(body, self._template, self._notation)
        count = body.get("n")
        return chat, Question(chat.body, count if isinstance(count, int) else 1)

    async def _embed(self, body: JsonObject, adapter: Adapter | None) -> JsonObject:
        raise InvalidRequest(
            "This model's engine gives no embeddings; ask a base model that llama.cpp serves.",
            code="unsupported_value",
            param="model",
        )
