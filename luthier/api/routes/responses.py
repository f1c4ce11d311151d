"""`/v1/responses`."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated, cast

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse, Response

from luthier.api.auth import Inferrer, Reader, ThePlatform
from luthier.api.json_route import JsonRoute
from luthier.api.streams import STREAMED, answered, event_stream
from luthier.api.wire.base import UNSUPPORTED, X_UNSUPPORTED, Deleted
from luthier.api.wire.responses import CountTokens, CreateResponse, ItemQuery, RetrieveQuery, included
from luthier.core.errors import InvalidRequest
from luthier.core.json import Json, JsonObject
from luthier.domain import responses

router = APIRouter(prefix="/responses", tags=["responses"], route_class=JsonRoute)


@router.post("", operation_id="createResponse", responses=STREAMED)
async def create(request: Request, platform: ThePlatform, caller: Inferrer, body: CreateResponse) -> Response:
    """Answer."""
    asked = body.to_request()
    if body.background:
        return JSONResponse(await responses.start(platform, caller, asked))
    if body.stream:
        return await event_stream(request, _named_events(responses.stream(platform, caller, asked)))
    return await answered(request, responses.create(platform, caller, asked))


@router.post("/input_tokens", operation_id="Getinputtokencounts")
async def count(platform: ThePlatform, caller: Inferrer, body: CountTokens) -> JSONResponse:
    """How many tokens a model would read."""
    tokens = await responses.count_input_tokens(platform, caller, body.to_request())
    return JSONResponse({"object": "response.input_tokens", "input_tokens": tokens})


@router.post("/compact", operation_id="Compactconversation", openapi_extra={X_UNSUPPORTED: True})
async def compact(_caller: Inferrer) -> Response:
    """Refused: no model here makes such summaries."""
    raise InvalidRequest(
        "This server does not compact conversations; send the turns that matter as 'input', or go on from a response "
        "by 'previous_response_id'.",
        code=UNSUPPORTED,
    )


@router.get("/{response_id}", operation_id="getResponse")
async def retrieve(
    platform: ThePlatform, caller: Reader, response_id: str, query: Annotated[RetrieveQuery, Query()]
) -> JSONResponse:
    """One kept response."""
    kept = await responses.get(platform, caller.project_id, response_id)
    output = cast("list[JsonObject]", kept.answer["output"])
    return JSONResponse({**kept.answer, "output": included(output, query.include)})


@router.delete("/{response_id}", operation_id="deleteResponse")
async def delete(platform: ThePlatform, caller: Inferrer, response_id: str) -> Deleted:
    """Delete a kept response."""
    await responses.delete(platform, caller.project_id, response_id)
    return Deleted(id=response_id, object="response")


@router.post("/{response_id}/cancel", operation_id="cancelResponse")
async def cancel(platform: ThePlatform, caller: Inferrer, response_id: str) -> JSONResponse:
    """End a response that runs in the background."""
    return JSONResponse(await responses.cancel(platform, caller.project_id, response_id))


@router.get("/{response_id}/input_items", operation_id="listInputItems")
async def input_items(
    platform: ThePlatform, caller: Reader, response_id: str, query: Annotated[ItemQuery, Query()]
) -> JSONResponse:
    """What a response was made of."""
    page = await responses.list_input(platform, caller.project_id, response_id, query.wanted)
    ends: list[Json] = [page.items[0]["id"], page.items[-1]["id"]] if page.items else ["", ""]
    listed = {"object": "list", "data": included(page.items, query.include), "has_more": page.has_more}
    return JSONResponse({**listed, "first_id": ends[0], "last_id": ends[1]})


async def _named_events(events: AsyncGenerator[JsonObject, None]) -> AsyncGenerator[bytes, None]:
    """Events with their names, which are their types; there is no `[DONE]`."""
    async with aclosing(events) as given:
        async for event in given:
            yield f"event: {event['type']}\ndata: {json.dumps(event, ensure_ascii=False)}\n\n".encode()
