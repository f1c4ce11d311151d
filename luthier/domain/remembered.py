"""A memory of what models answered: the same weights are asked the same question once."""

from __future__ import annotations

import asyncio
import hashlib
import json
from http import HTTPStatus
from weakref import WeakValueDictionary

from anyio import CancelScope

from luthier.core.errors import NotFound
from luthier.core.json import JsonObject
from luthier.core.projects import Caller
from luthier.domain import models
from luthier.domain.asking import Answer, Ask, patiently
from luthier.domain.platform import Platform
from luthier.store import answers


class Remembering:
    """An `Ask` that keeps its answers, over restarts too.

    Only good answers are kept. Who wants another answer asks with another seed.
    """

    def __init__(self, platform: Platform, ask: Ask) -> None:
        self._platform = platform
        self._ask = ask
        self._asking: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def __call__(self, caller: Caller, endpoint: str, body: JsonObject) -> Answer:
        """The answer, out of the memory where it is there."""
        key = await asyncio.to_thread(self._key, caller.project_id, endpoint, body)
        if key is None:
            return await patiently(self._ask, caller, endpoint, body)
        lock = self._asking.setdefault(key, asyncio.Lock())
        async with lock:  # the same question at the same time waits for the first one's answer
            known = await asyncio.to_thread(answers.get, self._platform.database, key)
            if known is not None:
                return Answer(HTTPStatus.OK, "", known)
            answer = await patiently(self._ask, caller, endpoint, body)
            if answer.status_code == HTTPStatus.OK:
                with CancelScope(shield=True):  # what was answered is kept, whatever ends the run
                    await asyncio.to_thread(self._keep, key, answer.body)
            return answer

    def _keep(self, key: str, answer: JsonObject) -> None:
        database = self._platform.database
        answers.keep(database, key, answer, now=int(database.now()))

    def _key(self, project_id: str, endpoint: str, body: JsonObject) -> str | None:
        try:
            resolved = models.resolve(self._platform, project_id, str(body.get("model")))
        except NotFound:
            return None
        weights = [self._platform.bases.source(resolved.base).sha256, resolved.base]
        question = [project_id, endpoint, *weights, resolved.tuned and resolved.tuned.id, {**body, "model": ""}]
        return hashlib.sha256(json.dumps(question, sort_keys=True).encode()).hexdigest()
