"""`/v1/chat/completions`."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse, Response

from luthier.api.auth import Inferrer, Reader, ThePlatform
from luthier.api.invalid import validate
from luthier.api.json_route import JsonRoute
from luthier.api.streams import STREAMED, answered, data_events, event_stream
from luthier.api.wire.base import Deleted, Ordered, filtered_by_metadata
from luthier.api.wire.chat import ChatQuery, CreateChat, UpdateChat, stored_answer
from luthier.core.json import Json, JsonObject
from luthier.domain import chats
from luthier.domain.chats import ChatRequest

router = APIRouter(prefix="/chat/completions", tags=["chat"], route_class=JsonRoute)


@router.post("", operation_id="createChatCompletion", responses=STREAMED)
async def create(request: Request, platform: ThePlatform, caller: Inferrer, body: CreateChat) -> Response:
    """Continue a chat."""
    asked = ChatRequest(body.model, body.to_body(), bool(body.store), body.metadata)
    if body.stream:
        chunks = chats.stream(platform, caller, asked)
        return await event_stream(request, data_events(chunks, include_usage=body.include_usage))
    return await answered(request, chats.create(platform, caller, asked))


@router.get("", operation_id="listChatCompletions", openapi_extra=filtered_by_metadata(ChatQuery))
def list_chats(request: Request, platform: ThePlatform, caller: Reader) -> JSONResponse:
    """List stored chats, oldest first; `metadata[k]=v` filters."""
    given = request.query_params.multi_items()
    metadata = {name[9:-1]: value for name, value in given if name.startswith("metadata[") and name.endswith("]")}
    none = [("metadata", ""), ("metadata", "null")]  # how clients send null
    rest = {name: value for name, value in given if not name.startswith("metadata[") and (name, value) not in none}
    query = validate(ChatQuery, rest)
    page = chats.list_page(platform.database, caller.project_id, query.wanted, model=query.model, metadata=metadata)
    return JSONResponse(_listed([stored_answer(chat) for chat in page.items], page.has_more))


@router.get("/{completion_id}", operation_id="getChatCompletion")
def retrieve(platform: ThePlatform, caller: Reader, completion_id: str) -> JSONResponse:
    """One stored chat."""
    return JSONResponse(stored_answer(chats.get(platform.database, caller.project_id, completion_id)))


@router.post("/{completion_id}", operation_id="updateChatCompletion")
def update(platform: ThePlatform, caller: Inferrer, completion_id: str, body: UpdateChat) -> JSONResponse:
    """Replace a stored chat's metadata."""
    chat = chats.set_metadata(platform.database, caller.project_id, completion_id, body.metadata)
    return JSONResponse(stored_answer(chat))


@router.delete("/{completion_id}", operation_id="deleteChatCompletion")
def delete(platform: ThePlatform, caller: Inferrer, completion_id: str) -> Deleted:
    """Delete a stored chat."""
    chats.delete(platform.database, caller.project_id, completion_id)
    return Deleted(id=completion_id, object="chat.completion.deleted")


@router.get("/{completion_id}/messages", operation_id="getChatCompletionMessages")
def messages(
    platform: ThePlatform, caller: Reader, completion_id: str, query: Annotated[Ordered, Query()]
) -> JSONResponse:
    """What was asked in a stored chat."""
    page = chats.list_messages(platform.database, caller.project_id, completion_id, query.wanted)
    return JSONResponse(_listed(page.items, page.has_more))


def _listed(data: list[JsonObject], has_more: bool) -> JsonObject:
    """A page. OpenAI's schema has text at both ends, so an empty page says ""."""
    ends: list[Json] = [data[0]["id"], data[-1]["id"]] if data else ["", ""]
    items: list[Json] = list(data)
    return {"object": "list", "data": items, "first_id": ends[0], "last_id": ends[1], "has_more": has_more}
