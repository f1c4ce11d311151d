"""Any server elsewhere that speaks OpenAI's API: a company's gateway, a teacher. Knows its name for the model only."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from datetime import date
from typing import Final

from luthier.core.errors import InvalidRequest
from luthier.core.json import JsonObject
from luthier.engines.base import Adapter, Elsewhere, Endpoint
from luthier.engines.http_api import HttpApi

NUMBERS: Final[JsonObject] = {"encoding_format": "float"}


class OpenAI(Elsewhere):
    """An `Engine` that passes bodies on. It serves no adapters of ours: they would have to be there already."""

    def __init__(self, model: str, *, base_url: str, api_key: str) -> None:
        self._model = model
        self._api = HttpApi(base_url.rstrip("/"), api_key, name=base_url)

    async def answer(self, endpoint: Endpoint, body: JsonObject, adapter: Adapter | None) -> JsonObject:
        asked = self._addressed(body, adapter)
        return await self._api.post(f"/{endpoint}", asked if endpoint != "embeddings" else {**asked, **NUMBERS})

    def stream(self, endpoint: Endpoint, body: JsonObject, adapter: Adapter | None) -> AsyncGenerator[JsonObject, None]:
        streamed: JsonObject = {"stream": True, "stream_options": {"include_usage": True}}
        return self._api.stream(f"/{endpoint}", self._addressed(body, adapter) | streamed)

    async def tokenize(self, body: JsonObject, adapter: Adapter | None, today: date | None = None) -> list[int]:
        """Nothing: a remote server does not tell."""
        return []

    async def close(self) -> None:
        return

    def _addressed(self, body: JsonObject, adapter: Adapter | None) -> JsonObject:
        if adapter is not None:
            raise InvalidRequest(
                "This model's engine is a server elsewhere, which cannot load adapters; tuned models need the engine "
                "llamacpp or vllm.",
                code="unsupported_value",
                param="model",
            )
        return {**body, "model": self._model}
