"""Questions to llama.cpp's completion endpoint: one prompt, several choices, whole or streamed. Knows no chat."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing, contextmanager
from pathlib import Path
from typing import Any, Final

from luthier.core.errors import InvalidRequest
from luthier.core.json import Json, JsonObject
from luthier.engines.asking import Question, Wire
from luthier.engines.base import Adapter
from luthier.engines.held_tokens import HeldTokens
from luthier.engines.http_api import Unreachable
from luthier.engines.llamacpp_fleet import Fleet
from luthier.engines.merging import all_of, merged
from luthier.engines.vocabulary import Vocabulary, unknown_tokens

COMPLETIONS: Final = "/v1/completions"
_UNKNOWN_TOKENS: Final = "Prompt contains invalid tokens"  # llama.cpp's words


class FleetAsker:
    """An `Asker` of the fleet. A server that takes no request is replaced, and the request sent once more."""

    def __init__(self, fleet: Fleet, tokenizer: Path) -> None:
        self._fleet = fleet
        self._tokenizer = tokenizer
        self._vocabulary: Vocabulary | None = None

    async def ask(self, questions: Sequence[Question], adapter: Adapter | None) -> tuple[list[Wire], list[Wire]]:
        """All choices, by their numbers, and the usage of each choice or, where `count` is 1, of its question."""
        if all(question.count == 1 and not _holds(question) for question in questions):
            answers = await all_of([self.post(COMPLETIONS, question.body, adapter) for question in questions])
            choices = [{**answer["choices"][0], "index": q.first} for q, answer in zip(questions, answers, strict=True)]
            return choices, [answer["usage"] for answer in answers]
        # Of several choices llama.cpp counts the tokens of the first alone; in a stream it counts each. Of a whole
        # answer it leaves out as many tokens as it makes of the stop text, however many that was said with.
        gathered: dict[int, Wire] = {}
        used: list[Wire] = []
        async with aclosing(self.stream(questions, adapter)) as stream:
            async for choice, usage in stream:
                so_far = gathered.setdefault(choice["index"], {**choice, "text": "", "logprobs": None})
                so_far["text"] += choice["text"]
                so_far["finish_reason"] = choice["finish_reason"]
                if choice["logprobs"]:
                    content = (so_far["logprobs"] or {"content": []})["content"]
                    so_far["logprobs"] = {"content": content + choice["logprobs"]["content"]}
                if usage:
                    used.append(usage)
        return [gathered[index] for index in sorted(gathered)], used

    def stream(
        self, questions: Sequence[Question], adapter: Adapter | None
    ) -> AsyncGenerator[tuple[Wire, Wire | None], None]:
        """Pieces of choices, each with its choice's usage when it is the last."""
        return merged([self._pieces(part, adapter) for part in self._split(questions)])

    def _split(self, questions: Sequence[Question]) -> list[Question]:
        """No question larger than the slots. Its seeds go on where the last part's end, as llama.cpp counts them."""
        most = self._fleet.plan.slots
        parts: list[Question] = []
        for question in questions:
            for start in range(0, question.count, most):
                body, seed = question.body, question.body.get("seed")
                if isinstance(seed, int) and start:
                    body = {**body, "seed": seed + start}
                parts.append(Question(body, min(most, question.count - start), question.first + start))
        return parts

    async def post(self, path: str, body: JsonObject, adapter: Adapter | None) -> Wire:
        """The answer of an endpoint."""
        with _refused(body):
            async with self._fleet.place(adapter) as place:
                try:
                    return await place.api.post(path, {**body, "lora": place.lora})
                except Unreachable:
                    self._fleet.report_lost(place)
            async with self._fleet.place(adapter) as place:
                return await place.api.post(path, {**body, "lora": place.lora})

    async def ids_of(self, text: str, adapter: Adapter | None) -> list[int]:
        """The tokens that llama.cpp makes of a prompt."""
        answer = await self.post("/tokenize", {"content": text, "add_special": True, "parse_special": True}, adapter)
        ids: Any = answer["tokens"]
        return list(ids)

    async def bytes_of(self, ids: Sequence[int]) -> list[bytes]:
        """The bytes of each token."""
        return (await self._words()).bytes_of(ids)

    async def _words(self) -> Vocabulary:
        """Read when it is first asked for: most questions need none."""
        if self._vocabulary is None:
            self._vocabulary = await asyncio.to_thread(Vocabulary, self._tokenizer)
        return self._vocabulary

    async def _pieces(
        self, question: Question, adapter: Adapter | None
    ) -> AsyncGenerator[tuple[Wire, Wire | None], None]:
        asked: dict[str, Json] = {**question.body, "n": question.count, "stream": True}
        told = _Told(question.first, await self._words() if _holds(question) else None)
        with _refused(question.body):
            async with self._fleet.place(adapter, question.count) as place:
                try:
                    async with aclosing(place.api.stream(COMPLETIONS, {**asked, "lora": place.lora})) as events:
                        async for event in events:
                            yield told.of(event)
                    return
                except Unreachable:
                    self._fleet.report_lost(place)
            async with (
                self._fleet.place(adapter, question.count) as place,
                aclosing(place.api.stream(COMPLETIONS, {**asked, "lora": place.lora})) as events,
            ):
                async for event in events:
                    yield told.of(event)


class _Told:
    """Events as pieces of choices; with `words`, each tells the tokens of its text."""

    def __init__(self, first: int, words: Vocabulary | None) -> None:
        self._first = first
        self._words = words
        self._held: dict[int, HeldTokens] = {}

    def of(self, event: Wire) -> tuple[Wire, Wire | None]:
        """The piece of an event."""
        choice = event["choices"][0]
        choice["index"] += self._first
        if self._words is not None:
            choice = self._held.setdefault(choice["index"], HeldTokens(self._words)).told(choice)
        return choice, event.get("usage")


def _holds(question: Question) -> bool:
    """Whether tokens are told of that a stop text may hold back."""
    return "stop" in question.body and "logprobs" in question.body


@contextmanager
def _refused(body: JsonObject) -> Iterator[None]:
    """llama.cpp does not say where the tokens stand that it does not know."""
    try:
        yield
    except InvalidRequest as error:
        if error.message == _UNKNOWN_TOKENS:
            raise unknown_tokens("prompt" if "prompt" in body else "input") from error
        raise
