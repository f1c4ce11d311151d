"""`/v1/completions` and `/v1/embeddings`."""

from __future__ import annotations

import base64
import struct
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from luthier.api.auth import Inferrer, ThePlatform
from luthier.api.json_route import JsonRoute
from luthier.api.streams import STREAMED, answered, data_events, event_stream
from luthier.api.wire.completions import CreateCompletion, CreateEmbedding
from luthier.core.json import JsonObject
from luthier.core.projects import Caller
from luthier.domain import inference
from luthier.domain.platform import Platform

router = APIRouter(tags=["completions"], route_class=JsonRoute)


@router.post("/completions", operation_id="createCompletion", responses=STREAMED)
async def create(request: Request, platform: ThePlatform, caller: Inferrer, body: CreateCompletion) -> Response:
    """Continue a text."""
    asked = body.to_body()
    if body.stream:
        chunks = inference.chunks(platform, caller, "completions", body.model, asked)
        return await event_stream(request, data_events(chunks, include_usage=body.include_usage))
    return await answered(request, inference.answer(platform, caller, "completions", body.model, asked))


@router.post("/embeddings", operation_id="createEmbedding")
async def embed(request: Request, platform: ThePlatform, caller: Inferrer, body: CreateEmbedding) -> Response:
    """Vectors of texts."""
    return await answered(request, _embedded(platform, caller, body))


async def _embedded(platform: Platform, caller: Caller, body: CreateEmbedding) -> JsonObject:
    answer = await inference.embeddings(platform, caller, body.model, body.to_body())
    if body.encoding_format == "base64":
        given: Any = answer["data"]
        answer["data"] = [{**item, "embedding": _packed(item["embedding"])} for item in given]
    return answer


def _packed(vector: list[float]) -> str:
    """Little-endian 32-bit floats in base64, as OpenAI's clients unpack them."""
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
