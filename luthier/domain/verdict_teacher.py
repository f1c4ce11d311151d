"""The teacher among a verdict's contenders: a model that the settings name. Where it fails, it is left out."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from anyio import fail_after, sleep

from luthier.core.errors import InvalidRequest, LuthierError, RateLimited, Unavailable
from luthier.core.json import JsonObject
from luthier.core.settings import Settings
from luthier.engines.openai import OpenAI

LONGEST_S: Final = 45.0  # for one answer, repetitions included: the verdict's lease is held on between questions only
PAUSES_S: Final = (1.0, 4.0, 16.0)  # before a teacher that is busy or away is asked again

Answering = Callable[[str, JsonObject], Awaitable[JsonObject]]
"""How a model of this server answers."""


class TeacherFailed(Exception):
    """Why the teacher is left out, in words."""


async def ask_teacher(settings: Settings, model: str, body: JsonObject, here: Answering) -> JsonObject:
    """Its answer, from its own server where settings have one, with all that is read of it. Errors: `TeacherFailed`."""
    if settings.teacher_url is None:
        return await _ask(here, model, body)
    engine = OpenAI(model, base_url=settings.teacher_url, api_key=settings.teacher_api_key or "none")

    async def there(_: str, asked: JsonObject) -> JsonObject:
        return await engine.answer("chat/completions", asked, None)

    try:
        return _readable(await _ask(there, model, body))
    finally:
        await engine.close()


async def _ask(answering: Answering, model: str, body: JsonObject) -> JsonObject:
    try:
        with fail_after(LONGEST_S):
            for pause_s in PAUSES_S:
                try:
                    return await answering(model, body)
                except (RateLimited, Unavailable):
                    await sleep(pause_s)
                except InvalidRequest as error:  # models that think allow no other temperature than their own
                    if error.param != "temperature" or "temperature" not in body:
                        raise
                    body = {key: value for key, value in body.items() if key != "temperature"}
            return await answering(model, body)
    except TimeoutError as error:
        raise TeacherFailed(f"it did not answer within {LONGEST_S:.0f} s") from error
    except LuthierError as error:
        raise TeacherFailed(error.message) from error


def _readable(given: JsonObject) -> JsonObject:
    choices, usage = given.get("choices"), given.get("usage")
    choice = choices[0] if isinstance(choices, list) and choices else None
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(choice, dict) or not isinstance(message, dict) or not isinstance(usage, dict):
        raise TeacherFailed("its answer is no chat completion with its usage")
    whole: JsonObject = {"finish_reason": None, **choice, "message": {"content": None, **message}}
    return {"choices": [whole], "usage": {"prompt_tokens": 0, "completion_tokens": 0, **usage}}
