"""Legacy completions: several prompts, `best_of`, `echo`, log-probabilities of the prompt itself."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, Final

from luthier.core.json import Json, JsonObject
from luthier.engines import bodies
from luthier.engines.asking import Asker, Question, Wire
from luthier.engines.base import Adapter
from luthier.engines.vocabulary import texts_of

CERTAIN: Final = 1e4  # added to a logit: no other token is ever so likely

Prompt = str | list[int]


async def answer(asker: Asker, body: JsonObject, adapter: Adapter | None, opening: str) -> JsonObject:
    """The whole answer. `opening` is the token that a prompt without tokens goes on from: a model needs one."""
    prompts = prompts_of(body["prompt"])
    wanted, tried = _counts(body)
    top = body.get("logprobs")
    top = top if isinstance(top, int) else None
    generates = body.get("max_tokens") != 0
    asked = body if tried == wanted or top is not None else {**body, "logprobs": 0}
    choices: list[JsonObject] = []
    used: list[Wire] = []
    for number, prompt in enumerate(prompts):
        echoed = await _echo(asker, prompt, top, adapter, opening) if body.get("echo") else _Echo("", None)
        if generates:
            question = Question(bodies.text(asked, await _wire(asker, prompt, adapter, opening)), tried)
            found, usages = await asker.ask([question], adapter)
            used += usages
            found = sorted(found, key=_mean_logprob, reverse=True)[:wanted] if tried > wanted else found
        else:
            found = [{"text": "", "logprobs": None, "finish_reason": "length"}] * wanted
            used.append(_unused(await _ids(asker, prompt, adapter, opening)))
        for place, choice in enumerate(found):
            logprobs = _with_echo(echoed, choice, top) if top is not None else None
            choices.append(
                {
                    "text": echoed.text + choice["text"],
                    "index": number * wanted + place,
                    "logprobs": logprobs,
                    "finish_reason": choice["finish_reason"],
                }
            )
    return {"choices": list(choices), "usage": bodies.usage(used, len(prompts))}


async def chunks(
    asker: Asker, body: JsonObject, adapter: Adapter | None, opening: str
) -> AsyncGenerator[JsonObject, None]:
    """The answer's chunks, usage last. `opening` as in `answer`."""
    prompts = prompts_of(body["prompt"])
    wanted, _ = _counts(body)
    top = body.get("logprobs")
    top = top if isinstance(top, int) else None
    offsets: dict[int, int] = {}
    questions: list[Question] = []
    for number, prompt in enumerate(prompts):
        asked = await _wire(asker, prompt, adapter, opening)
        questions.append(Question(bodies.text(body, asked), wanted, number * wanted))
        if body.get("echo"):
            echoed = await _echo(asker, prompt, top, adapter, opening)
            for index in range(number * wanted, (number + 1) * wanted):
                logprobs = bodies.text_logprobs(echoed.scored, 0, top) if top is not None else None
                offsets[index] = _length(echoed.scored)
                yield _chunk(index, echoed.text, logprobs, None)
    used: dict[int, Wire] = {}  # by the choice, for they end in any order
    async with aclosing(asker.stream(questions, adapter)) as pieces:
        async for choice, usage in pieces:
            index, offset = choice["index"], offsets.get(choice["index"], 0)
            logprobs = bodies.text_logprobs(choice["logprobs"], offset, top) if top is not None else None
            offsets[index] = offset + _length(choice["logprobs"])  # text may be held back whose tokens are told
            yield _chunk(index, choice["text"], logprobs, choice["finish_reason"])
            if usage:
                used[index] = usage
    yield {"choices": [], "usage": bodies.usage([used[index] for index in sorted(used)], len(prompts))}


def prompts_of(prompt: Json) -> list[Prompt]:
    """A text, texts, token ids or lists of them, as a list of prompts."""
    if isinstance(prompt, str):
        return [prompt]
    given: list[Any] = prompt if isinstance(prompt, list) else []
    return [given] if given and isinstance(given[0], int) else given


async def _wire(asker: Asker, prompt: Prompt, adapter: Adapter | None, opening: str) -> Json:
    """The prompt as it is sent. Of an empty text llama.cpp makes no choices, and of several it never says so."""
    return prompt if prompt and isinstance(prompt, str) else list(await _ids(asker, prompt, adapter, opening))


async def _ids(asker: Asker, prompt: Prompt, adapter: Adapter | None, opening: str) -> list[int]:
    if not isinstance(prompt, str):
        return prompt
    return await asker.ids_of(prompt, adapter) or await asker.ids_of(opening, adapter)


def _chunk(index: int, text: str, logprobs: Json, reason: Json) -> JsonObject:
    return {"choices": [{"text": text, "index": index, "logprobs": logprobs, "finish_reason": reason}]}


def _length(told: Wire | None) -> int:
    """How many characters the tokens are that were told of."""
    return sum(len(token["token"]) for token in told["content"]) if told else 0


def _counts(body: JsonObject) -> tuple[int, int]:
    """Choices wanted of each prompt, and choices tried."""
    wanted = body.get("n") or 1
    assert isinstance(wanted, int)
    tried = body.get("best_of")
    return wanted, max(wanted, tried) if isinstance(tried, int) else wanted


def _mean_logprob(choice: Wire) -> float:
    tokens = (choice["logprobs"] or {"content": []})["content"]
    return sum(token["logprob"] for token in tokens) / len(tokens) if tokens else 0.0


class _Echo:
    """A prompt's text, and how likely each of its tokens was."""

    def __init__(self, text: str, scored: Wire | None) -> None:
        self.text = text
        self.scored = scored


async def _echo(asker: Asker, prompt: Prompt, top: int | None, adapter: Adapter | None, opening: str) -> _Echo:
    if isinstance(prompt, str) and top is None:
        return _Echo(prompt, None)
    ids = await _ids(asker, prompt, adapter, opening)
    tokens = texts_of(await asker.bytes_of(ids))
    text = prompt if isinstance(prompt, str) else "".join(tokens)
    if top is None:
        return _Echo(text, None)
    return _Echo(text, {"content": await _score(asker, ids, _within(text, tokens), top, adapter)})


def _within(text: str, tokens: list[str]) -> list[str]:
    """The tokens' texts without what stands before the text: the token that begins all texts, and a first space."""
    joined = "".join(tokens)
    before = len(joined) - len(text) if joined.endswith(text) else 0
    shown: list[str] = []
    for token in tokens:
        shown.append(token[before:])
        before = max(0, before - len(token))
    return shown


async def _score(asker: Asker, ids: list[int], tokens: list[str], top: int, adapter: Adapter | None) -> list[Wire]:
    """Log-probabilities of given tokens. The first has none, nor one that ends inside a character: engines tell none.

    Engines tell how likely they thought what they said before any bias, so they are made to say each token by a bias.
    The prompt so far is in their cache: a token costs one step.
    """
    scored: list[Wire] = [{"token": tokens[0], "logprob": None, "top_logprobs": []}]
    for at in range(1, len(ids)):
        body: JsonObject = {
            "prompt": list(ids[:at]),
            "logit_bias": {str(ids[at]): CERTAIN},
            "max_tokens": 1,
            "temperature": 0,
            "logprobs": max(1, top),
        }
        [choice], _ = await asker.ask([Question(body)], adapter)
        told = (choice["logprobs"] or {"content": []})["content"] or [{"logprob": None, "top_logprobs": []}]
        scored.append({**told[0], "token": tokens[at]})
    return scored


def _with_echo(echoed: _Echo, choice: Wire, top: int) -> JsonObject | None:
    said = (choice["logprobs"] or {"content": []})["content"]
    before = echoed.scored["content"] if echoed.scored else []
    return bodies.text_logprobs({"content": [*before, *said]}, 0, top)


def _unused(ids: list[int]) -> Wire:
    return {"prompt_tokens": len(ids), "completion_tokens": 0, "prompt_tokens_details": {"cached_tokens": 0}}
