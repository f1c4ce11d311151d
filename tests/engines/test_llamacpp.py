"""llama.cpp in its child process, on a tiny random model; numbers against transformers'."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import aclosing
from dataclasses import replace

import numpy as np
import pytest

from luthier.core.errors import Unavailable
from luthier.data.base_folder import BaseFolder
from luthier.engines import lora_gguf
from luthier.engines.base import Adapter
from luthier.engines.gguf_header import read_header
from luthier.engines.llamacpp import LlamaCpp
from luthier.engines.llamacpp_process import LlamaServer
from tests.engines.asked import HELLO, TEXT, TOLERANCE, ids_of
from tests.engines.conftest import PLAN
from tests.engines.gguf_files import reference_logprobs, write_adapter
from tests.patience import PATIENCE_S


async def logprobs(engine, adapter=None, text=TEXT):
    body = {"prompt": text, "echo": True, "logprobs": 1, "max_tokens": 0}
    answer = await engine.answer("completions", body, adapter)
    return np.array(answer["choices"][0]["logprobs"]["token_logprobs"][1:])


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


def test_a_child_dies_with_its_parent_and_leaves_no_socket(base):
    code = (
        "import asyncio, os, signal, sys\n"
        "from luthier.engines.llamacpp_process import LlamaServer\n"
        "async def main():\n"
        "    server = await LlamaServer.start(sys.argv[1], [], slots=1, context_tokens=256)\n"
        "    print(server.pid, flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "asyncio.run(main())\n"
    )
    with tempfile.TemporaryDirectory() as folder:  # a socket's path has room for 107 bytes: pytest's own are long
        command = [sys.executable, "-c", code, str(base.gguf)]
        environment = {**os.environ, "TMPDIR": folder}
        done = subprocess.run(command, stdout=subprocess.PIPE, check=False, env=environment)
        child = int(done.stdout)
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline and _runs(child):
            time.sleep(0.05)
        assert not _runs(child)
        assert os.listdir(folder) == []


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
