"""Responses: made whole, streamed or in the background, kept, continued, ended. Knows no HTTP and no engine."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import Any, Final, cast

import structlog

from luthier.core.errors import InvalidRequest, LuthierError, NotFound, RateLimited, Unavailable
from luthier.core.ids import new_id, response_of
from luthier.core.json import Json, JsonObject
from luthier.core.lists import Page, PageQuery, page_of
from luthier.core.projects import Caller
from luthier.core.responses import FINAL, ResponseStatus, StoredResponse
from luthier.domain import inference
from luthier.domain.platform import Platform
from luthier.domain.response_events import ResponseBuilder
from luthier.domain.response_items import input_items, messages
from luthier.domain.webhooks import event_items
from luthier.engines.json_schema import can_follow
from luthier.store import responses

LEASE_S: Final = 30.0
BEAT_S: Final = 5.0
LONGEST_TALK: Final = 1000  # responses in a row: a guard, not a wish
REFERENCE: Final = "item_reference"  # also without its type
CODES: Final = {InvalidRequest: "invalid_prompt", RateLimited: "rate_limit_exceeded"}  # of failures; OpenAI's
INTERRUPTED: Final = "The server stopped before the response was finished. Ask again."

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class ResponseRequest:
    """What to answer. `shown` are the fields that the response repeats, `body` the chat's but its messages."""

    model: str
    input: Json
    body: JsonObject
    shown: JsonObject
    instructions: str | None = None
    previous_response_id: str | None = None
    store: bool = True
    with_logprobs: bool = False


@dataclass(frozen=True)
class _Begun:
    """A response that was checked and can be asked for."""

    request: ResponseRequest
    items: list[JsonObject]
    body: JsonObject
    builder: ResponseBuilder


def is_strict(strict: bool | None, parameters: JsonObject | None) -> bool:
    """Whether a function's calls follow its schema; where the request does not say, they do if they can."""
    return can_follow(parameters or {}) if strict is None else strict


async def create(platform: Platform, caller: Caller, request: ResponseRequest) -> JsonObject:
    """The whole response."""
    begun = await _begin(platform, caller, request)
    async with aclosing(_events(platform, caller, begun)) as events:
        async for _ in events:
            pass
    return dict(begun.builder.response)


async def stream(platform: Platform, caller: Caller, request: ResponseRequest) -> AsyncGenerator[JsonObject, None]:
    """The response's events. What is kept is there before the last event is."""
    begun = await _begin(platform, caller, request)
    async with aclosing(_events(platform, caller, begun)) as events:
        async for event in events:
            yield event


async def start(platform: Platform, caller: Caller, request: ResponseRequest) -> JsonObject:
    """A response that goes on by itself: `queued` now, to be looked up later."""
    begun = await _begin(platform, caller, request)
    response = begun.builder.response
    response["status"] = "queued"
    queued = dict(response)
    row = _row(caller.project_id, begun)
    await asyncio.to_thread(_keep, platform, row, LEASE_S)
    platform.background.start(row.id, _run(platform, caller, begun))
    return queued


async def get(platform: Platform, project_id: str, response_id: str) -> StoredResponse:
    """A kept response. One whose process died is failed. Errors: `NotFound`."""
    return await asyncio.to_thread(_get, platform, project_id, response_id)


async def cancel(platform: Platform, project_id: str, response_id: str) -> JsonObject:
    """End a response that runs in the background. Errors: `NotFound`; `InvalidRequest` for any other."""
    row = await get(platform, project_id, response_id)
    if not row.answer.get("background"):
        raise InvalidRequest(
            "Cannot cancel a synchronous response: only those with 'background' run on by themselves.",
            code="invalid_value",
            param="response_id",
        )
    if row.status not in FINAL:
        await asyncio.to_thread(_end, platform, row, "cancelled", {**row.answer, "status": "cancelled"})
        platform.background.cancel(response_id)
    return (await get(platform, project_id, response_id)).answer


async def delete(platform: Platform, project_id: str, response_id: str) -> None:
    """Delete a kept response. Errors: `NotFound`."""
    if not await asyncio.to_thread(responses.remove, platform.database, project_id, response_id):
        raise _missing(response_id)
    platform.background.cancel(response_id)


def sweep(platform: Platform) -> None:
    """End those whose process died, so that who waits for their webhook is told."""
    for project_id, response_id in responses.abandoned(platform.database, now=platform.database.now()):
        with suppress(NotFound):
            _get(platform, project_id, response_id)


async def list_input(platform: Platform, project_id: str, response_id: str, query: PageQuery) -> Page[JsonObject]:
    """All that a response was made of, earlier turns included that are still there.

    Errors: `NotFound`, `InvalidRequest` for the cursor.
    """
    row = await get(platform, project_id, response_id)
    turns, _ = await asyncio.to_thread(_turns, platform, project_id, row.previous_response_id)
    return page_of(_items(turns) + row.input, query, "item")


async def count_input_tokens(platform: Platform, caller: Caller, request: ResponseRequest) -> int:
    """Tokens of what the model would read."""
    who = await inference.target(platform, caller.project_id, request.model)
    _, body = await _chat(platform, caller, request)
    return len(await who.engine.tokenize(body, who.adapter))


async def _begin(platform: Platform, caller: Caller, request: ResponseRequest) -> _Begun:
    items, body = await _chat(platform, caller, request)
    who = await inference.target(platform, caller.project_id, request.model)
    response: dict[str, Any] = {
        "id": new_id("response"),
        "object": "response",
        "created_at": int(time.time()),
        "status": "in_progress",
        "completed_at": None,
        "error": None,
        "incomplete_details": None,
        "instructions": request.instructions,
        "model": who.model,
        "output": [],
        "previous_response_id": request.previous_response_id,
        "reasoning": {"effort": None, "summary": None},
        "service_tier": "default",
        "store": request.store,
        "truncation": "disabled",
        **request.shown,
    }
    return _Begun(request, items, body, ResponseBuilder(response, with_logprobs=request.with_logprobs))


async def _chat(platform: Platform, caller: Caller, request: ResponseRequest) -> tuple[list[JsonObject], JsonObject]:
    """What is put in now, and the chat that it continues. Errors: `InvalidRequest` for an item that is there twice."""
    items = input_items(await asyncio.to_thread(_referred, platform, caller.project_id, request.input))
    before = await asyncio.to_thread(_talk, platform, caller.project_id, request.previous_response_id)
    seen = {item["id"] for item in before}
    for item in items:
        if item["id"] in seen:  # a list's cursor is an id
            raise InvalidRequest(
                f"Duplicate item found with id {item['id']}. Remove duplicate items from your input and try again.",
                param="input",
            )
        seen.add(item["id"])
    chat = messages([*before, *items], request.instructions)
    if not chat:
        raise InvalidRequest("Missing required parameter: 'input'.", code="missing_required_parameter", param="input")
    return items, {**request.body, "messages": list[Json](chat)}


async def _events(platform: Platform, caller: Caller, begun: _Begun) -> AsyncGenerator[JsonObject, None]:
    """Everything that happens to a response, and its row at the end. A refusal before the first chunk is raised."""
    builder, request = begun.builder, begun.request
    given = inference.chunks(platform, caller, "chat/completions", request.model, begun.body, metered_as="responses")
    async with aclosing(given) as chunks:
        first = await anext(chunks)
        for event in [*builder.begin(), *builder.take(first)]:
            yield event
        try:
            async for chunk in chunks:
                for event in builder.take(chunk):
                    yield event
            ending = list(builder.finish())
        except LuthierError as error:
            ending = list(builder.fail(error.message, _code(error)))
    if request.store and not builder.response.get("background"):
        await asyncio.to_thread(_keep, platform, _row(caller.project_id, begun))
    for event in ending:
        yield event


async def _run(platform: Platform, caller: Caller, begun: _Begun) -> None:
    """Make a response in the background, held under a lease; its end is told to webhooks."""
    builder, row = begun.builder, _row(caller.project_id, begun)
    holding = asyncio.ensure_future(_hold(platform, row.id, asyncio.current_task()))
    try:
        running = {**builder.response, "status": "in_progress"}
        await asyncio.to_thread(responses.move, platform.database, row.id, "in_progress", running)
        async with aclosing(_events(platform, caller, begun)) as events:
            async for _ in events:
                pass
    except LuthierError as error:
        list(builder.fail(error.message, _code(error)))
    except Exception:  # the task's edge: the response fails in words, the traceback is logged
        log.exception("background response failed unexpectedly", response=row.id)
        list(builder.fail(f"{row.id} failed due to an internal error; the server's log tells it.", "server_error"))
    finally:
        holding.cancel()
    final = dict(builder.response)
    await asyncio.to_thread(_end, platform, row, cast("ResponseStatus", final["status"]), final)


def _code(error: LuthierError) -> str:
    return next((CODES[kind] for kind in type(error).__mro__ if kind in CODES), "server_error")


async def _hold(platform: Platform, response_id: str, work: asyncio.Task[Any] | None) -> None:
    while True:
        await asyncio.sleep(BEAT_S)
        with suppress(Unavailable):
            if not await asyncio.to_thread(_beat, platform, response_id) and work:
                work.cancel()  # cancelled or deleted through another process


def _beat(platform: Platform, response_id: str) -> bool:
    return responses.hold(platform.database, response_id, lease_until=platform.database.now() + LEASE_S)


def _keep(platform: Platform, row: StoredResponse, lease_s: float = 0.0) -> None:
    responses.add(platform.database, row, lease_until=platform.database.now() + lease_s)


def _end(platform: Platform, row: StoredResponse, status: ResponseStatus, answer: JsonObject) -> None:
    items = event_items(platform, row.project_id, f"response.{status}", {"id": row.id})
    responses.move(platform.database, row.id, status, answer, outbox_items=items)


def _get(platform: Platform, project_id: str, response_id: str) -> StoredResponse:
    row = responses.get(platform.database, project_id, response_id)
    if row is None:
        raise _missing(response_id)
    if row.status in FINAL:
        return row
    if responses.abandoned(platform.database, now=platform.database.now(), response_id=row.id):
        error: JsonObject = {"code": "server_error", "message": INTERRUPTED}
        _end(platform, row, "failed", {**row.answer, "status": "failed", "error": error})
        return _get(platform, project_id, response_id)
    return row


def _turns(platform: Platform, project_id: str, response_id: str | None) -> tuple[list[StoredResponse], str | None]:
    """A response and those before it, oldest first; and the id of the one at which they end because it is gone."""
    turns: list[StoredResponse] = []
    while response_id is not None and len(turns) < LONGEST_TALK:
        try:
            row = _get(platform, project_id, response_id)
        except NotFound:
            break
        turns.insert(0, row)
        response_id = row.previous_response_id
    else:
        response_id = None
    return turns, response_id


def _items(turns: list[StoredResponse]) -> list[JsonObject]:
    """What was put in, and what came out."""
    return [item for row in turns for item in [*row.input, *cast("list[JsonObject]", row.answer["output"])]]


def _talk(platform: Platform, project_id: str, response_id: str | None) -> list[JsonObject]:
    """Items of a response that is to be continued, and of all before it.

    Errors: `InvalidRequest` when one of them is gone, or is not finished.
    """
    turns, gone = _turns(platform, project_id, response_id)
    if gone is not None:
        message = f"Previous response with id '{gone}' not found."
        if turns:
            message = (
                f"Response {turns[0].id} continues {gone}, which was deleted; put the turns that matter into 'input'."
            )
        raise InvalidRequest(message, code="previous_response_not_found", param="previous_response_id")
    for row in turns:
        if row.status not in FINAL:
            raise InvalidRequest(
                f"Previous response with id '{row.id}' is {row.status}: wait until it is completed.",
                code="invalid_value",
                param="previous_response_id",
            )
    return _items(turns)


def _referred(platform: Platform, project_id: str, given: Json) -> Json:
    """What was put in, with the items of kept responses in place of references to them. Errors: `NotFound`."""
    if not isinstance(given, list):
        return given
    return [
        _item(platform, project_id, str(item["id"]))
        if isinstance(item, dict) and item.get("type", REFERENCE) == REFERENCE
        else item
        for item in given
    ]


def _item(platform: Platform, project_id: str, item_id: str) -> JsonObject:
    row = responses.get(platform.database, project_id, response_of(item_id))
    for item in cast("list[JsonObject]", row.answer["output"]) if row else []:
        if item["id"] == item_id:
            return item
    raise NotFound(
        f"Item with id '{item_id}' not found. Items are found that a response put out which was kept ('store').",
        param="input",
    )


def _row(project_id: str, begun: _Begun) -> StoredResponse:
    response = begun.builder.response
    return StoredResponse(
        id=response["id"],
        project_id=project_id,
        created_at=response["created_at"],
        status=response["status"],
        previous_response_id=begun.request.previous_response_id,
        input=begun.items,
        answer=dict(response),
    )


def _missing(response_id: str) -> NotFound:
    return NotFound(f"Response with id '{response_id}' not found.", code="not_found", param="response_id")
