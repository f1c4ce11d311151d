"""Questions from inside the server, in a caller's name. Knows no HTTP and no engine: a question goes out by
the `Ask` that is given, as if a client had sent it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from anyio import sleep

from luthier.core.json import JsonObject
from luthier.core.projects import Caller

# A server that is busy or down is asked again, for a minute; then its refusal is the answer.
BUSY: Final = frozenset({429, 503})
RETRY_AFTER_S: Final = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)


@dataclass(frozen=True)
class Answer:
    """What a request was answered, as on the wire."""

    status_code: int
    request_id: str
    body: JsonObject


Ask = Callable[[Caller, str, JsonObject], Awaitable[Answer]]
"""Sends a body to an endpoint in a caller's name; what goes wrong is an answer too, by its status."""


async def patiently(ask: Ask, caller: Caller, endpoint: str, body: JsonObject) -> Answer:
    """The answer of a server that may be busy for a while."""
    for pause_s in RETRY_AFTER_S:
        answer = await ask(caller, endpoint, body)
        if answer.status_code not in BUSY:
            return answer
        await sleep(pause_s)
    return await ask(caller, endpoint, body)
