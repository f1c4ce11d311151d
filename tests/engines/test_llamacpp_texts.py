"""What llama.cpp says: tokens, texts, several choices, log-probabilities, embeddings; on a tiny random model."""

import asyncio
import math
from contextlib import aclosing

import numpy as np
import pytest

from luthier.core.errors import InvalidRequest
from luthier.engines import texts
from tests.engines.asked import COLOUR, HELLO, TEXT, TOLERANCE, ids_of
from tests.engines.gguf_files import reference_logprobs
from tests.patience import PATIENCE_S


def test_tokens_are_the_trainers(engine, run, base):
    ids = run(engine.tokenize(HELLO, None))
    rendered = "<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\n"
    assert ids == ids_of(base, rendered)


def test_a_prompt_longer_than_the_context_is_refused_in_openais_words(engine, run):
    body = {"messages": [{"role": "user", "content": "x" * 1100}]}
    with pytest.raises(InvalidRequest, match="maximum context length is 1024 tokens") as refused:
        run(engine.answer("chat/completions", body, None))
    assert (refused.value.code, refused.value.param) == ("context_length_exceeded", "messages")


def test_tokens_that_are_none_of_the_models_are_refused(engine, run):
    async def story(stream, **more):
        body = {"prompt": [999_999], "max_tokens": 2, **more}
        if not stream:
            return await engine.answer("completions", body, None)
        async with aclosing(engine.stream("completions", body, None)) as chunks:
            return [chunk async for chunk in chunks]

    for stream in (False, True):
        for more in ({}, {"n": 2}, {"echo": True}):
            with pytest.raises(InvalidRequest, match="tokens that this model does not know") as refused:
                run(story(stream, **more))
            assert refused.value.param == "prompt"
    with pytest.raises(InvalidRequest) as refused:
        run(engine.answer("embeddings", {"input": [999_999]}, None))
    assert refused.value.param == "input"


def test_a_stream_says_what_an_answer_says(engine, run):
    async def story():
        whole = await engine.answer("chat/completions", HELLO, None)
        async with aclosing(engine.stream("chat/completions", HELLO, None)) as chunks:
            return whole, [chunk async for chunk in chunks]

    whole, chunks = run(story())
    pieces = [chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks[:-1]]
    assert "".join(pieces) == whole["choices"][0]["message"]["content"]
    assert chunks[-1]["usage"]["completion_tokens"] == whole["usage"]["completion_tokens"]


def test_choices_follow_their_seed(engine, run):
    body = {**HELLO, "temperature": 1, "n": 3, "seed": 4}
    one, two = (run(engine.answer("chat/completions", body, None)) for _ in range(2))
    texts = [choice["message"]["content"] for choice in one["choices"]]
    assert texts == [choice["message"]["content"] for choice in two["choices"]]
    assert len(set(texts)) == 3
    assert [choice["index"] for choice in one["choices"]] == [0, 1, 2]
    assert (
        one["usage"]["prompt_tokens"] == run(engine.answer("chat/completions", HELLO, None))["usage"]["prompt_tokens"]
    )
    assert one["usage"]["completion_tokens"] > 8


def test_logprobs_in_chats(engine, run):
    # A model of random weights says bytes that are no text; the schema keeps it to letters.
    spoken = {**HELLO, "max_tokens": 400, "response_format": COLOUR, "logprobs": True}
    choice = run(engine.answer("chat/completions", {**spoken, "top_logprobs": 2}, None))["choices"][0]
    tokens = choice["logprobs"]["content"]
    assert "".join(t["token"] for t in tokens) == choice["message"]["content"]
    assert bytes(b for t in tokens for b in t["bytes"]).decode() == choice["message"]["content"]
    assert all(set(t) == {"token", "logprob", "bytes", "top_logprobs"} and len(t["top_logprobs"]) == 2 for t in tokens)
    assert all(t["top_logprobs"][0]["logprob"] >= t["logprob"] for t in tokens)
    bare = run(engine.answer("chat/completions", spoken, None))["choices"][0]["logprobs"]["content"]
    assert [t["top_logprobs"] for t in bare] == [[]] * len(bare)


def test_usage_counts_each_prompt_once_in_whatever_order_choices_end(run):
    class Asked:
        async def stream(self, _questions, _adapter):
            for index in (0, 2, 1, 3):
                used = {"prompt_tokens": 3 if index < 2 else 900, "completion_tokens": 1}
                used["prompt_tokens_details"] = {"cached_tokens": 0 if index % 2 == 0 else 1}
                yield {"index": index, "text": "x", "logprobs": None, "finish_reason": "stop"}, used

    async def story():
        body = {"prompt": ["abc", "d" * 900], "n": 2}
        async with aclosing(texts.chunks(Asked(), body, None, "<|endoftext|>")) as chunks:
            return [chunk async for chunk in chunks][-1]["usage"]

    usage = run(story())
    assert (usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"]) == (903, 4, 907)
    assert usage["prompt_tokens_details"] == {"cached_tokens": 0}


def test_offsets_in_a_stream_count_what_was_told_of(run):
    class Asked:
        async def stream(self, _questions, _adapter):
            used = {"prompt_tokens": 1, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 0}}
            for token, text, reason in (("Hel", "", None), ("lo", "Hello", None), ("!", "!", "stop")):
                content = [{"token": token, "logprob": -1.0, "bytes": list(token.encode()), "top_logprobs": []}]
                choice = {"index": 0, "text": text, "logprobs": {"content": content}, "finish_reason": reason}
                yield choice, used if reason else None

    async def story():
        async with aclosing(texts.chunks(Asked(), {"prompt": "x", "logprobs": 0}, None, "<|endoftext|>")) as chunks:
            return [chunk["choices"][0]["logprobs"]["text_offset"] async for chunk in chunks if chunk["choices"]]

    assert run(story()) == [[0], [3], [5]]


def test_a_stop_text_hides_no_token(engine, run, base):
    """llama.cpp tells of tokens under the text that it sends just then."""
    letters = {str(token): 50 for token in ids_of(base, "abcdefgh")}
    body = {"prompt": TEXT, "max_tokens": 12, "temperature": 0, "logprobs": 1, "logit_bias": letters}

    async def told(**more):
        whole = await engine.answer("completions", {**body, **more}, None)
        async with aclosing(engine.stream("completions", {**body, **more}, None)) as chunks:
            pieces = [c["choices"][0] async for c in chunks if c["choices"]]
        [choice] = whole["choices"]
        assert "".join(piece["text"] for piece in pieces) == choice["text"]
        streamed = [piece["logprobs"] for piece in pieces if piece["logprobs"]]
        for name in ("tokens", "token_logprobs", "text_offset"):
            assert [one for logprobs in streamed for one in logprobs[name]] == choice["logprobs"][name]
        assert choice["logprobs"]["tokens"] == list(choice["text"])
        assert choice["logprobs"]["text_offset"] == list(range(len(choice["text"])))
        return choice

    free = run(told())
    text, logprobs = free["text"], free["logprobs"]["token_logprobs"]
    for stop in (text[2:4] + "?", text[9:] + "?", text[:6], text[8:11]):
        found = run(told(stop=[stop]))
        assert found["text"] == text.partition(stop)[0]
        changed = np.subtract(found["logprobs"]["token_logprobs"], logprobs[: len(found["text"])])
        assert np.abs(changed).max(initial=0) < TOLERANCE


def test_several_prompts_the_best_of_several(engine, run):
    body = {"prompt": [TEXT, [70, 71]], "n": 2, "best_of": 3, "max_tokens": 4, "logprobs": 0, "seed": 1}
    answer = run(engine.answer("completions", body, None))
    assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2, 3]
    first, second = (np.mean(c["logprobs"]["token_logprobs"]) for c in answer["choices"][:2])
    assert first >= second
    assert answer["usage"]["prompt_tokens"] == len(TEXT) + 2
    assert 12 < answer["usage"]["completion_tokens"] <= 24


def test_an_empty_prompt_goes_on_from_the_first_token(engine, run):
    """llama.cpp gives no tokens to it, and several choices never end."""

    async def story():
        body = {"prompt": ["", "ab"], "max_tokens": 3, "seed": 1, "logit_bias": {"2": -100}}
        several = await engine.answer("completions", {**body, "n": 2, "echo": True, "logprobs": 0}, None)
        best = await engine.answer("completions", {**body, "best_of": 2}, None)
        async with aclosing(engine.stream("completions", {**body, "n": 2}, None)) as chunks:
            streamed = [chunk async for chunk in chunks]
        unsaid = await engine.answer("completions", {"prompt": "", "max_tokens": 0, "echo": True}, None)
        return several, best, streamed[-1], unsaid

    several, best, last, unsaid = run(asyncio.wait_for(story(), PATIENCE_S))
    assert [len(choice["logprobs"]["tokens"]) for choice in several["choices"]] == [4, 4, 5, 5]
    assert several["choices"][0]["logprobs"]["tokens"][0] == ""  # the token that nobody wrote
    assert (several["usage"]["prompt_tokens"], several["usage"]["completion_tokens"]) == (3, 12)
    assert (len(best["choices"]), best["usage"]["completion_tokens"]) == (2, 12)
    assert last["usage"]["completion_tokens"] == 12
    assert (unsaid["choices"][0]["text"], unsaid["usage"]["prompt_tokens"]) == ("", 1)


def test_echo_in_a_stream(engine, run, base):
    async def story():
        letters = {str(token): 50 for token in ids_of(base, "abcdefgh")}
        body = {"prompt": "abc", "echo": True, "max_tokens": 3, "logprobs": 1, "seed": 3, "logit_bias": letters}
        whole = await engine.answer("completions", body, None)
        async with aclosing(engine.stream("completions", body, None)) as chunks:
            return whole["choices"][0], [c["choices"][0] async for c in chunks if c["choices"]]

    whole, pieces = run(story())
    assert whole["text"].startswith("abc")
    assert "".join(piece["text"] for piece in pieces) == whole["text"]
    offsets = [o for piece in pieces if piece["logprobs"] for o in piece["logprobs"]["text_offset"]]
    assert offsets == whole["logprobs"]["text_offset"]


def test_an_echo_tells_of_every_token(engine, run, base):
    """The tiny base's tokens are bytes; of a character's, llama.cpp tells no log-probability but the last one's."""
    text = "a日b<|im_end|>c"
    ids = ids_of(base, text)
    body = {"echo": True, "logprobs": 0, "max_tokens": 0}
    [choice] = run(engine.answer("completions", {**body, "prompt": text}, None))["choices"]
    assert run(engine.answer("completions", {**body, "prompt": ids}, None))["choices"] == [choice]
    told = choice["logprobs"]
    assert choice["text"] == text
    assert told["tokens"] == ["a", "", "", "日", "b", "<|im_end|>", "c"]
    assert told["text_offset"] == [0, 1, 1, 1, 2, 3, 13]
    assert [logprob is None for logprob in told["token_logprobs"]] == [True, True, False, False, False, False, False]
    expected = reference_logprobs(base, ids)
    found = zip(told["token_logprobs"][1:], expected, strict=True)
    assert max(abs(logprob - true) for logprob, true in found if logprob is not None) < TOLERANCE


def test_embeddings_are_unit_vectors(engine, run):
    answer = run(engine.answer("embeddings", {"input": ["one", "two two"]}, None))
    vectors = [item["embedding"] for item in answer["data"]]
    assert [math.isclose(np.linalg.norm(v), 1, abs_tol=1e-3) for v in vectors] == [True, True]
    assert vectors[0] != vectors[1]
    assert answer["usage"]["prompt_tokens"] == len("one") + len("two two")


def test_a_text_that_is_too_long_to_embed_is_the_askers_fault(engine, run):
    with pytest.raises(InvalidRequest, match="your input resulted in 3000 tokens") as refused:
        run(engine.answer("embeddings", {"input": ["a" * 3000]}, None))
    assert (refused.value.code, refused.value.param) == ("context_length_exceeded", "input")
