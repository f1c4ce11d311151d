"""Chat completions: asked, and kept where the request says `store`. Knows no HTTP and no engine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass

from luthier.core.chats import StoredChat
from luthier.core.errors import NotFound
from luthier.core.json import Json, JsonObject
from luthier.core.lists import Page, PageQuery, page_of
from luthier.core.projects import Caller
from luthier.domain import inference
from luthier.domain.legacy_functions import as_functions, as_tools
from luthier.domain.platform import Platform
from luthier.store import stored_chats
from luthier.store.database import Database


@dataclass(frozen=True)
class ChatRequest:
    """A chat to be continued. `metadata` goes with the answer that is kept."""

    model: str
    body: JsonObject
    store: bool = False
    metadata: dict[str, str] | None = None

    @property
    def legacy(self) -> bool:
        """Whether it names functions, as chats of old do."""
        return "functions" in self.body

    @property
    def engine_body(self) -> JsonObject:
        """What an engine is asked."""
        return as_tools(self.body) if self.legacy else self.body

    @property
    def names(self) -> str:
        """Whose names of `inference.FIELDS` its refusal is told in."""
        return "functions" if self.legacy else "chat/completions"

    def said(self, answer: JsonObject) -> JsonObject:
        """An answer or chunk in the form that was asked for."""
        return as_functions(answer) if self.legacy else answer


async def create(platform: Platform, caller: Caller, request: ChatRequest) -> JsonObject:
    """The whole answer."""
    with inference.refusing_by(request.names):
        given = await inference.answer(platform, caller, "chat/completions", request.model, request.engine_body)
    answer = request.said(given)
    if request.metadata is not None:
        answer["metadata"] = dict[str, Json](request.metadata)
    if request.store:
        await asyncio.to_thread(_keep, platform.database, caller.project_id, request, answer)
    return answer


def stream(platform: Platform, caller: Caller, request: ChatRequest) -> AsyncGenerator[JsonObject, None]:
    """The answer's chunks, the usage in the last. What is stored is there before the last chunk is."""
    given = inference.chunks(platform, caller, "chat/completions", request.model, request.engine_body)
    return _said(platform, caller, request, given) if request.store or request.legacy else given


async def _said(
    platform: Platform, caller: Caller, request: ChatRequest, given: AsyncGenerator[JsonObject, None]
) -> AsyncGenerator[JsonObject, None]:
    assembly = inference.Assembly() if request.store else None
    with inference.refusing_by(request.names):
        async with aclosing(given) as chunks:
            async for chunk in chunks:
                if assembly is not None:
                    assembly.add(chunk)
                    if not chunk["choices"]:
                        whole = request.said(assembly.whole())
                        await asyncio.to_thread(_keep, platform.database, caller.project_id, request, whole)
                yield request.said(chunk)


def get(database: Database, project_id: str, chat_id: str) -> StoredChat:
    """A stored chat. Errors: `NotFound`."""
    chat = stored_chats.get(database, project_id, chat_id)
    if chat is None:
        raise _missing(chat_id)
    return chat


def list_page(
    database: Database, project_id: str, query: PageQuery, *, model: str | None, metadata: Mapping[str, str]
) -> Page[StoredChat]:
    """Stored chats."""
    return stored_chats.list_page(database, project_id, query, model=model, metadata=metadata)


def set_metadata(database: Database, project_id: str, chat_id: str, metadata: dict[str, str] | None) -> StoredChat:
    """Replace a stored chat's metadata. Errors: `NotFound`."""
    chat = stored_chats.set_metadata(database, project_id, chat_id, metadata or {})
    if chat is None:
        raise _missing(chat_id)
    return chat


def delete(database: Database, project_id: str, chat_id: str) -> None:
    """Delete a stored chat. Errors: `NotFound`."""
    if not stored_chats.remove(database, project_id, chat_id):
        raise _missing(chat_id)


def list_messages(database: Database, project_id: str, chat_id: str, query: PageQuery) -> Page[JsonObject]:
    """What was asked in a stored chat, as messages with ids. Errors: `NotFound`, `InvalidRequest` for the cursor."""
    chat = get(database, project_id, chat_id)
    messages = [_with_id(chat, number, message) for number, message in enumerate(chat.messages)]
    return page_of(messages, query, "message")


def _with_id(chat: StoredChat, number: int, message: JsonObject) -> JsonObject:
    content = message.get("content")
    parts: Json = content if isinstance(content, list) else None
    shown: JsonObject = {"name": None, "refusal": None, **message}
    return {**shown, "id": f"{chat.id}-{number}", "content": None if parts else content, "content_parts": parts}


def _keep(database: Database, project_id: str, request: ChatRequest, answer: JsonObject) -> None:
    messages = request.body["messages"]
    assert isinstance(messages, list)
    created = answer["created"]
    assert isinstance(created, int)
    chat = StoredChat(
        id=str(answer["id"]),
        project_id=project_id,
        created_at=created,
        model=str(answer["model"]),
        metadata=request.metadata or {},
        messages=[message for message in messages if isinstance(message, dict)],
        answer=answer,
    )
    stored_chats.add(database, chat)


def _missing(chat_id: str) -> NotFound:
    return NotFound(f"Chat completion {chat_id} not found", code="not_found", param="id")
