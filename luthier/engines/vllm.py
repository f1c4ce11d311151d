"""The engine for GPUs: a vLLM server, adapters chosen per request. Knows one base, no projects.

vLLM gets the token ids that the trainer's tokenizer makes of the trainer's template. It asks the plugin of
`plugins/vllm` for an adapter that it does not know; the adapter's name is its place below the folder of adapters.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from luthier.core.errors import InvalidRequest, Unavailable
from luthier.core.json import Json, JsonObject
from luthier.data.base_folder import BaseFolder
from luthier.engines.asking import Question, Wire
from luthier.engines.base import Adapter, Elsewhere
from luthier.engines.completing import Completing
from luthier.engines.http_api import ContextExceeded
from luthier.engines.merging import all_of, merged
from luthier.engines.vllm_server import Own, Remote, Serving
from luthier.engines.vocabulary import Vocabulary

if TYPE_CHECKING:
    from tokenizers import Tokenizer

PATH: Final = "/completions"
GREEDY: Final = 1e-5  # a temperature below it is none, to vLLM
_OTHERS: Final = frozenset({"prompt", "max_tokens", "preserved_tokens", "grammar", "repeat_last_n"})  # said otherwise


class Vllm(Elsewhere, Completing):
    """An `Engine`. `where` is the URL of a running server, or the folder of an environment to start one from."""

    def __init__(self, base: BaseFolder, where: str, *, adapters: Path, api_key: str = "") -> None:
        self._server = Remote(where, api_key) if "://" in where else Own(Path(where), base, adapters)
        super().__init__(base, VllmAsker(base, self._server, adapters))

    async def close(self) -> None:
        await self._server.close()


class VllmAsker:
    """An `Asker` that speaks llama.cpp's words on this side and vLLM's on the other."""

    def __init__(self, base: BaseFolder, server: Remote | Own, adapters: Path) -> None:
        from tokenizers import Tokenizer

        facts = base.read_facts()
        self._server = server
        self._adapters = adapters
        self._file = base.tokenizer
        self._vocabulary: Vocabulary | None = None
        self._tokenizer: Tokenizer = Tokenizer.from_file(str(base.tokenizer))
        self._bos = self._ids_of_tokens([facts.bos_token] if facts.adds_bos and facts.bos_token else [])
        self._stops = self._ids_of_tokens([facts.eos_token, *facts.stop_tokens])
        self._anchor = self._tokenizer.encode("a", add_special_tokens=False).ids
        self._anchored = len(self._tokenizer.decode(self._anchor))

    async def ask(self, questions: Sequence[Question], adapter: Adapter | None) -> tuple[list[Wire], list[Wire]]:
        serving = await self._server.serving()
        questions = [part for question in questions for part in _apart(question)]
        with self._refused(adapter):
            answers = await all_of([serving.api.post(PATH, self._body(q, adapter, serving)) for q in questions])
        choices = [
            self._choice(choice, question.first)
            for question, answer in zip(questions, answers, strict=True)
            for choice in _wires(answer["choices"])
        ]
        return choices, [_usage(answer["usage"]) for answer in answers]

    async def stream(
        self, questions: Sequence[Question], adapter: Adapter | None
    ) -> AsyncGenerator[tuple[Wire, Wire | None], None]:
        serving = await self._server.serving()
        streams = [self._pieces(part, adapter, serving) for question in questions for part in _apart(question)]
        async with aclosing(merged(streams)) as pieces:
            async for piece in pieces:
                yield piece

    async def ids_of(self, text: str, adapter: Adapter | None) -> list[int]:
        return self._encoded(text)

    async def bytes_of(self, ids: Sequence[int]) -> list[bytes]:
        if self._vocabulary is None:
            self._vocabulary = await asyncio.to_thread(Vocabulary, self._file)
        return self._vocabulary.bytes_of(ids)

    async def _pieces(
        self, question: Question, adapter: Adapter | None, serving: Serving
    ) -> AsyncGenerator[tuple[Wire, Wire | None], None]:
        """The last piece waits for the usage, which comes after it."""
        body = self._body(question, adapter, serving)
        body |= {"stream": True, "stream_options": {"include_usage": True}}
        running, last = question.count, Wire()
        with self._refused(adapter):
            async with aclosing(serving.api.stream(PATH, body)) as events:
                async for event in events:
                    for choice in _wires(event["choices"]):
                        last = self._choice(choice, question.first)
                        running -= last["finish_reason"] is not None
                        if running:
                            yield last, None
                    if not event["choices"]:
                        yield last, _usage(event["usage"])

    def _body(self, question: Question, adapter: Adapter | None, serving: Serving) -> JsonObject:
        """vLLM's body. Errors: `ContextExceeded`."""
        asked, prompt = question.body, question.body["prompt"]
        ids = prompt if isinstance(prompt, list) else list[Json](self._encoded(str(prompt)))
        room = serving.context_tokens - len(ids)
        if room < 1:
            raise ContextExceeded(len(ids), serving.context_tokens)
        limit = asked["max_tokens"]
        body: JsonObject = {name: value for name, value in asked.items() if name not in _OTHERS}
        body |= {
            "model": serving.model if adapter is None else self._name(adapter),
            "prompt": ids,
            "n": question.count,
            "max_tokens": min(limit, room) if isinstance(limit, int) and limit >= 0 else room,
            "stop_token_ids": list[Json](self._stops),
            "return_tokens_as_token_ids": True,
            "skip_special_tokens": "preserved_tokens" not in asked,
        }
        if "grammar" in asked:
            body["structured_outputs"] = {"grammar": asked["grammar"]}
        return body

    def _encoded(self, text: str) -> list[int]:
        return [*self._bos, *self._tokenizer.encode(text, add_special_tokens=False).ids]

    def _ids_of_tokens(self, tokens: Sequence[str]) -> list[int]:
        found = [self._tokenizer.token_to_id(token) for token in tokens]
        return [token_id for token_id in found if token_id is not None]

    def _name(self, adapter: Adapter) -> str:
        return adapter.path.relative_to(self._adapters).as_posix()

    @contextmanager
    def _refused(self, adapter: Adapter | None) -> Iterator[None]:
        """An adapter that vLLM does not get is no mistake of who asks."""
        try:
            yield
        except InvalidRequest as error:
            if adapter is None or not ("does not exist" in error.message or "could not be loaded" in error.message):
                raise
            raise Unavailable(
                f"vLLM cannot load the adapter {adapter.path}: {error.message} It needs the plugin luthier-vllm, "
                f"LUTHIER_ADAPTERS={self._adapters} (as its machine sees that folder), "
                "VLLM_ALLOW_RUNTIME_LORA_UPDATING=1 and a --max-lora-rank as large as the adapter's; see docs/vllm.md"
            ) from error

    def _choice(self, choice: Wire, first: int) -> Wire:
        """A choice in llama.cpp's words. The token that ends an answer is not part of it."""
        told, content = choice.get("logprobs"), []
        for token, logprob, top in zip(*(told[key] for key in _TOLD), strict=True) if told else ():
            ranked = sorted(top.items(), key=lambda item: item[1], reverse=True)
            likely = [self._token(other, chance) for other, chance in ranked]
            content.append({**self._token(token, logprob), "top_logprobs": likely})
        if content and choice["finish_reason"] == "stop" and not isinstance(choice.get("stop_reason"), str):
            content.pop()
        return {
            "index": first + choice["index"],
            "text": choice["text"],
            "logprobs": {"content": content} if told else None,
            "finish_reason": choice["finish_reason"],
        }

    def _token(self, told: str, logprob: float) -> Wire:
        """A token that vLLM names `token_id:7`. One that is part of a character has no bytes by itself."""
        ids = [*self._anchor, int(told.removeprefix("token_id:"))]  # a first token would lose its space
        text = self._tokenizer.decode(ids, skip_special_tokens=False)[self._anchored :]
        return {"token": text, "logprob": logprob, "bytes": None if "\ufffd" in text else list(text.encode())}


def _apart(question: Question) -> list[Question]:
    """vLLM gives several choices only where they are drawn, so those that are not are asked for one by one."""
    temperature = question.body.get("temperature")
    if question.count == 1 or not isinstance(temperature, int | float) or temperature >= GREEDY:
        return [question]
    return [Question(question.body, 1, question.first + at) for at in range(question.count)]


_TOLD: Final = ("tokens", "token_logprobs", "top_logprobs")


def _wires(choices: Json) -> list[Wire]:
    return [choice for choice in choices if isinstance(choice, dict)] if isinstance(choices, list) else []


def _usage(used: Json) -> Wire:
    """vLLM leaves the details out where nothing was cached."""
    assert isinstance(used, dict)
    return {**used, "prompt_tokens_details": used.get("prompt_tokens_details") or {"cached_tokens": 0}}
