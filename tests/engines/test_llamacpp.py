"""llama.cpp in its child process, on a tiny random model; numbers against transformers'."""

import asyncio
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import aclosing
from dataclasses import replace

import numpy as np
import pytest
from tokenizers import Tokenizer

from luthier.core.errors import InvalidRequest, Unavailable
from luthier.data.base_folder import BaseFolder
from luthier.engines import lora_gguf, texts
from luthier.engines.base import Adapter
from luthier.engines.gguf_header import read_header
from luthier.engines.llamacpp import LlamaCpp
from luthier.engines.llamacpp_process import LlamaServer
from tests.engines.asked import COLOUR, HELLO
from tests.engines.conftest import PLAN
from tests.engines.gguf_files import reference_logprobs, write_adapter
from tests.patience import PATIENCE_S

# llama.cpp keeps keys and values in 16 bits; the adapters here move log-probabilities by whole numbers.
TOLERANCE = 0.02
TEXT = "the quick brown fox"


async def logprobs(engine, adapter=None, text=TEXT):
    body = {"prompt": text, "echo": True, "logprobs": 1, "max_tokens": 0}
    answer = await engine.answer("completions", body, adapter)
    return np.array(answer["choices"][0]["logprobs"]["token_logprobs"][1:])


def ids_of(base, text=TEXT):
    return Tokenizer.from_file(str(base.tokenizer)).encode(text, add_special_tokens=False).ids


@pytest.fixture(scope="module")
def adapters(base, tmp_path_factory):
    folder = tmp_path_factory.mktemp("adapters")
    return [Adapter(f"m{n}", write_adapter(base, folder / f"m{n}", seed=n)) for n in range(3)]


def test_the_base_answers_as_in_transformers(engine, run, base):
    assert np.abs(run(logprobs(engine)) - reference_logprobs(base, ids_of(base))).max() < TOLERANCE


def test_adapters_answer_as_in_transformers(engine, run, base, adapters):
    for adapter in adapters[:2]:
        expected = reference_logprobs(base, ids_of(base), adapter.path)
        assert np.abs(run(logprobs(engine, adapter)) - expected).max() < TOLERANCE
        assert np.abs(reference_logprobs(base, ids_of(base)) - expected).max() > 50 * TOLERANCE


def test_without_their_permutation_q_and_k_would_be_wrong(base, run, tmp_path, monkeypatch):
    monkeypatch.setattr(lora_gguf, "PERMUTED", frozenset())
    adapter = Adapter("wrong", write_adapter(base, tmp_path / "wrong", seed=0))
    engine = LlamaCpp(base, plan=PLAN)
    try:
        found = run(logprobs(engine, adapter))
    finally:
        run(engine.close())
    assert np.abs(found - reference_logprobs(base, ids_of(base), adapter.path)).max() > 5 * TOLERANCE


def test_rank_stabilised_adapters_keep_their_scale(base, engine, run, tmp_path):
    adapter = Adapter("rs", write_adapter(base, tmp_path / "rs", seed=5, alpha=4, use_rslora=True))
    same = write_adapter(base, tmp_path / "same", seed=5, alpha=8)  # 4 / sqrt(4) = 8 / 4
    assert np.abs(run(logprobs(engine, adapter)) - reference_logprobs(base, ids_of(base), same)).max() < TOLERANCE


def test_no_answer_is_made_of_another_models_cached_prompt(engine, run, adapters):
    """llama.cpp keeps prompts in its slots; the same text under another adapter must be computed anew."""
    fresh = {a.id if a else None: run(logprobs(engine, a)) for a in (None, *adapters[:2])}
    for adapter in (adapters[0], None, adapters[1], None, adapters[0], None, None, adapters[1]):
        found = run(logprobs(engine, adapter))
        assert np.abs(found - fresh[adapter.id if adapter else None]).max() < TOLERANCE


def test_a_new_adapter_fails_no_running_stream(base, run, adapters):
    async def story():
        engine = LlamaCpp(base, plan=PLAN)
        long = {**HELLO, "max_tokens": 150, "logit_bias": {"2": -100}}
        said = []
        async with aclosing(engine.stream("chat/completions", long, None)) as chunks:
            async for chunk in chunks:
                said.append(chunk)
                if len(said) == 3:
                    new = asyncio.create_task(engine.answer("chat/completions", HELLO, adapters[0]))
        await new
        assert engine._fleet._current.slots.total == 1  # the sooner it answered
        twice = await engine.answer("chat/completions", {**HELLO, "n": 2}, adapters[0])
        assert len(twice["choices"]) == 2
        await engine.close()
        return said

    said = run(story())
    assert said[-1]["usage"]["completion_tokens"] == 150
    assert said[-2]["choices"][0]["finish_reason"] == "length"


def test_who_has_to_wait_gets_more_slots(base, run):
    async def story():
        engine = LlamaCpp(base, plan=replace(PLAN, slots=1, most_slots=4))
        long = {**HELLO, "max_tokens": 100, "logit_bias": {"2": -100}}
        answers = await asyncio.gather(*(engine.answer("chat/completions", long, None) for _ in range(4)))
        await asyncio.wait(engine._fleet._tasks)
        assert engine._fleet._current.slots.total == 4
        answers.append(await engine.answer("chat/completions", long, None))
        await engine.close()
        return answers

    assert [answer["usage"]["completion_tokens"] for answer in run(story())] == [100] * 5


def test_adapters_over_the_budget_go_and_come_back(base, run, adapters):
    async def story():
        engine = LlamaCpp(base, plan=replace(PLAN, adapter_bytes=1))
        first = await logprobs(engine, adapters[0])
        await logprobs(engine, adapters[1])
        again = await logprobs(engine, adapters[0])
        await engine.close()
        return first, again

    first, again = run(story())
    assert np.abs(first - again).max() < TOLERANCE


def test_more_adapters_at_once_than_the_budget_holds_take_turns(base, run, adapters, monkeypatch):
    many = [Adapter(f"{adapter.id}.{n}", adapter.path) for n in range(4) for adapter in adapters]
    started = []
    start = LlamaServer.start

    async def counted(model, files, **options):
        started.append(len(files))
        return await start(model, files, **options)

    monkeypatch.setattr(LlamaServer, "start", counted)

    async def story():
        size = lora_gguf.adapter_gguf(adapters[0].path, read_header(base.gguf)).stat().st_size
        engine = LlamaCpp(base, plan=replace(PLAN, slots=1, most_slots=1, adapter_bytes=3 * size))
        answers = await asyncio.gather(*(engine.answer("chat/completions", HELLO, one) for one in many))
        await engine.close()
        return answers

    assert all(answer["usage"]["completion_tokens"] for answer in run(story()))
    assert max(started) == 3
    assert len(started) <= 1 + len(many) // 3  # the first may start before the others have asked


def test_an_adapter_that_was_deleted_is_forgotten(base, run, tmp_path):
    async def story():
        engine = LlamaCpp(base, plan=PLAN)
        gone, stays = (Adapter(f"{n}", write_adapter(base, tmp_path / f"{n}", seed=n)) for n in range(2))
        await engine.answer("chat/completions", HELLO, gone)
        shutil.rmtree(gone.path)
        answer = await engine.answer("chat/completions", HELLO, stays)
        await engine.close()
        return answer

    assert run(story())["usage"]["completion_tokens"] > 0


def test_leaving_a_stream_frees_its_slot(base, run):
    async def story():
        engine = LlamaCpp(base, plan=replace(PLAN, slots=1, most_slots=1))
        endless = {**HELLO, "max_tokens": 240, "logit_bias": {"2": -100}}
        for _ in range(3):
            async with aclosing(engine.stream("chat/completions", endless, None)) as chunks:
                await anext(chunks)
        waiting = asyncio.create_task(engine.answer("chat/completions", endless, None))
        await asyncio.sleep(0.05)
        waiting.cancel()
        answer = await asyncio.wait_for(engine.answer("chat/completions", HELLO, None), timeout=30)
        await engine.close()
        return answer

    assert run(story())["usage"]["completion_tokens"] <= 8


def test_a_child_that_died_is_replaced(base, run):
    async def story():
        engine = LlamaCpp(base, plan=PLAN)
        before = await engine.answer("chat/completions", HELLO, None)
        os.kill(engine._fleet._current.server.pid, signal.SIGKILL)
        after = await engine.answer("chat/completions", HELLO, None)
        await engine.close()
        return before, after

    before, after = run(story())
    assert before["choices"] == after["choices"]


def test_a_child_dies_with_its_parent(base):
    code = (
        "import asyncio, os, signal, sys\n"
        "from luthier.engines.llamacpp_process import LlamaServer\n"
        "async def main():\n"
        "    server = await LlamaServer.start(sys.argv[1], [], slots=1, context_tokens=256)\n"
        "    print(server.pid, flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "asyncio.run(main())\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(base.gguf)], stdout=subprocess.PIPE, check=False)
    child = int(done.stdout)
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline and _runs(child):
        time.sleep(0.05)
    assert not _runs(child)


def _runs(pid):
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_model_that_cannot_be_served_says_why(base, run, tmp_path):
    broken = BaseFolder(tmp_path / "broken")
    broken.path.mkdir()
    for name in ("template.jinja", "facts.json"):
        (broken.path / name).write_bytes((base.path / name).read_bytes())
    broken.gguf.write_bytes(base.gguf.read_bytes()[:9000])
    engine = LlamaCpp(broken, plan=PLAN)
    with pytest.raises(Unavailable, match="last words: .*model"):
        run(engine.answer("chat/completions", HELLO, None))
    run(engine.close())
    broken.gguf.write_bytes(b"GGML")
    with pytest.raises(Unavailable, match="not a GGUF model"):
        LlamaCpp(broken, plan=PLAN)


def test_a_child_that_aborts_says_why(run, tmp_path, monkeypatch):
    """ggml has a debugger print where it was, and that goes to the output where the address is expected."""
    aborting = tmp_path / "python"
    aborting.write_text("#!/bin/sh\necho '[New LWP 12]'\necho 'GGML_ASSERT(even) failed' >&2\nkill -ABRT $$\n")
    aborting.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(aborting))
    with pytest.raises(Unavailable, match=r"last words: GGML_ASSERT\(even\) failed"):
        run(LlamaServer.start("model.gguf", [], slots=1, context_tokens=256))


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
