"""vLLM's CPU build as a child, on a tiny model that was really trained: `make test-vllm`. One server for nearly all."""

import asyncio
import json
import os
import shutil
import signal
from contextlib import aclosing, suppress
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from luthier.core.errors import InvalidRequest, JobFailed, Unavailable
from luthier.domain.certify import compare
from luthier.engines.base import Adapter
from luthier.engines.http_call import calling
from luthier.engines.llamacpp import LlamaCpp
from luthier.engines.vllm import Vllm
from luthier.engines.vllm_server import Own
from tests.domain.brought import bring_family, trained
from tests.engines.asked import COLOUR, HELLO, TOOL
from tests.engines.test_llamacpp import logprobs

pytestmark = pytest.mark.vllm
HOME = Path(__file__).parents[2] / ".venv-vllm"
LONG = {**HELLO, "max_tokens": 200, "logit_bias": {"2": -100}}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("tuned")


@pytest.fixture(scope="module")
def tuned(place):
    """A base's folder, and a run on it; vLLM's attention wants heads of 32 numbers."""
    with pytest.MonkeyPatch.context() as patch:
        _, folder, _ = bring_family(place, "smollm", patch, hidden_size=64, head_dim=32)
    return folder, trained(place / "runs/job", folder)


@pytest.fixture(scope="module")
def run():
    with asyncio.Runner() as runner:
        yield runner.run


@pytest.fixture(scope="module")
def engine(place, tuned, run):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
        # So small a model is too coarse in bfloat16, which vLLM takes where the machine has it, for what is measured.
        usual = Own._arguments
        patch.setattr(Own, "_arguments", lambda self, socket: [*usual(self, socket), "--dtype", "float32"])
        made = Vllm(tuned[0], str(HOME), adapters=place / "runs")
        run(made.answer("chat/completions", HELLO, None))
        yield made
    run(made.close())


@pytest.fixture(scope="module")
def adapters(place, tuned):
    """The run's own, and one that says the opposite."""
    return [Adapter("job", tuned[1].adapter), changed(tuned[1], place / "runs/other", sign=-1)]


def changed(run, path, *, sign=1, swap=None):
    """A copy of the run's adapter: its change turned around, or two modules under each other's names."""
    shutil.copytree(run.adapter, path, ignore=shutil.ignore_patterns("adapter.gguf"))
    tensors = load_file(path / "adapter_model.safetensors")
    if swap is not None:
        names = {name: name.replace(swap[0], "?").replace(swap[1], swap[0]).replace("?", swap[1]) for name in tensors}
        tensors = {names[name]: tensor for name, tensor in tensors.items()}
    turned = {name: tensor * sign if "lora_B" in name else tensor for name, tensor in tensors.items()}
    save_file(turned, path / "adapter_model.safetensors")
    return Adapter(path.name, path)


def said(answer):
    return answer["choices"][0]["message"]["content"]


def test_the_certificate_passes_through_it(engine, run, tuned, adapters):
    folder, made = tuned
    probe, template = json.loads(made.probe.read_text()), folder.template.read_text()
    certificate = run(compare(engine, adapters[0], probe, template))
    print(certificate)
    assert (certificate.compared, certificate.replies, certificate.differed) == (12, 3, 3)
    base = run(compare(engine, None, json.loads(folder.probe.read_text()), template))
    assert base.compared > 0


def test_the_certificate_names_what_is_served_wrongly(engine, run, tuned, place):
    folder, made = tuned
    wrong = changed(made, place / "runs/wrong", swap=("gate_proj", "up_proj"))
    with pytest.raises(JobFailed, match=r"Not applied as trained: gate_proj, up_proj\."):
        run(compare(engine, wrong, json.loads(made.probe.read_text()), folder.template.read_text()))


def test_base_and_adapters_answer_at_once_as_each_alone(engine, run, adapters):
    async def together(which):
        return [said(a) for a in await asyncio.gather(*(engine.answer("chat/completions", LONG, w) for w in which))]

    which = [None, *adapters]
    alone = [run(together([one]))[0] for one in which]
    assert len(set(alone)) == 3
    assert run(together(which * 3)) == alone * 3


def test_it_is_as_sure_as_llamacpp(engine, run, tuned, adapters):
    llamacpp = LlamaCpp(tuned[0])
    try:
        for adapter in (None, *adapters):
            found, expected = run(logprobs(engine, adapter)), run(logprobs(llamacpp, adapter))
            assert len(found) == len(expected)
            assert np.abs(found - expected).max() < 0.1  # bfloat16 there, halves of 16 bits here
    finally:
        run(llamacpp.close())


def test_a_stream_says_what_an_answer_says(engine, run, adapters):
    async def story():
        body = {**LONG, "n": 2, "seed": 3, "temperature": 1}
        whole = await engine.answer("chat/completions", body, adapters[0])
        async with aclosing(engine.stream("chat/completions", body, adapters[0])) as chunks:
            return whole, [chunk async for chunk in chunks]

    whole, chunks = run(story())
    for index in (0, 1):
        mine = [c["choices"][0] for c in chunks[:-1] if c["choices"][0]["index"] == index]
        text = "".join(choice["delta"].get("content") or "" for choice in mine)
        assert text == whole["choices"][index]["message"]["content"]
        assert [c["finish_reason"] for c in mine if c["finish_reason"]] == [whole["choices"][index]["finish_reason"]]
    assert len(chunks) > 20
    assert chunks[-1]["usage"] == {
        **whole["usage"],
        "prompt_tokens_details": chunks[-1]["usage"]["prompt_tokens_details"],
    }
    assert whole["usage"]["completion_tokens"] == 400


def test_logprobs_in_chats(engine, run, adapters):
    body = {**HELLO, "max_tokens": 40, "logprobs": True, "top_logprobs": 2}
    choice = run(engine.answer("chat/completions", body, adapters[0]))["choices"][0]
    tokens = choice["logprobs"]["content"]
    assert "".join(t["token"] for t in tokens) == choice["message"]["content"]
    assert all(t["bytes"] == list(t["token"].encode()) and len(t["top_logprobs"]) == 2 for t in tokens)
    assert all(t["top_logprobs"][0]["logprob"] >= t["logprob"] for t in tokens)


def test_a_chat_ends_where_it_is_told_to(engine, run, adapters):
    whole = run(engine.answer("chat/completions", LONG, adapters[0]))
    text = said(whole)
    cut = run(engine.answer("chat/completions", {**LONG, "stop": [text[2:4]]}, adapters[0]))
    assert (said(cut), cut["choices"][0]["finish_reason"]) == (text[: text.index(text[2:4])], "stop")
    unlimited = {name: value for name, value in LONG.items() if name != "max_tokens"}
    full = run(engine.answer("chat/completions", unlimited, None))
    assert (full["usage"]["total_tokens"], full["choices"][0]["finish_reason"]) == (512, "length")
    with pytest.raises(InvalidRequest, match="maximum context length is 512 tokens"):
        run(engine.answer("chat/completions", {"messages": [{"role": "user", "content": "z " * 600}]}, None))


def test_several_choices_without_chance_are_alike(engine, run):
    """vLLM itself refuses them; a prompt is counted once."""
    one = run(engine.answer("chat/completions", HELLO, None))
    three = run(engine.answer("chat/completions", {**HELLO, "n": 3}, None))
    assert [choice["index"] for choice in three["choices"]] == [0, 1, 2]
    assert {choice["message"]["content"] for choice in three["choices"]} == {said(one)}
    assert three["usage"]["prompt_tokens"] == one["usage"]["prompt_tokens"]
    assert three["usage"]["completion_tokens"] == 3 * one["usage"]["completion_tokens"]


def test_answers_follow_schemas_and_calls_are_made(engine, run):
    answer = run(engine.answer("chat/completions", {**HELLO, "max_tokens": 300, "response_format": COLOUR}, None))
    assert json.loads(said(answer))["colour"] in ("red", "green")
    asked = {**HELLO, "max_tokens": 300, "tools": [TOOL], "tool_choice": "required", "parallel_tool_calls": False}
    choice = run(engine.answer("chat/completions", asked, None))["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    assert json.loads(choice["message"]["tool_calls"][0]["function"]["arguments"])["colour"] in ("red", "green")


def test_several_prompts_the_best_of_several(engine, run):
    body = {"prompt": ["the quick", [70, 71]], "n": 2, "best_of": 3, "max_tokens": 4, "logprobs": 0, "seed": 1}
    answer = run(engine.answer("completions", body, None))
    assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2, 3]
    first, second = (np.mean(c["logprobs"]["token_logprobs"]) for c in answer["choices"][:2])
    assert first >= second


def test_leaving_ends_the_generation(engine, run):
    async def story():
        async with aclosing(engine.stream("chat/completions", LONG, None)) as chunks:
            await anext(chunks)
            async with aclosing(engine.stream("chat/completions", LONG, None)) as others:
                await anext(others)
                assert await running(engine) == 2
        await asyncio.sleep(1)  # 200 tokens take longer
        return await running(engine)

    assert run(story()) == 0


async def running(engine):
    async with calling("http://vllm/metrics", {}, None, engine._server._place / "socket") as call:
        told = (await call.rest()).decode()
    [line] = [x for x in told.splitlines() if x.startswith("vllm:num_requests_running")]
    return float(line.split()[-1])


def test_an_adapter_that_is_not_there_is_refused_clearly(engine, run, place, tuned):
    shutil.copytree(tuned[1].adapter, place / "outside")
    for adapter in (Adapter("gone", place / "runs/gone"), Adapter("out", place / "runs/../outside")):
        with pytest.raises(Unavailable, match="does not exist.*luthier-vllm"):
            run(engine.answer("chat/completions", HELLO, adapter))
    (place / "runs/bare").mkdir()
    (place / "runs/bare/adapter_config.json").write_text("{}")
    with pytest.raises(Unavailable, match="could not be loaded"):
        run(engine.answer("chat/completions", HELLO, Adapter("bare", place / "runs/bare")))


def test_nobody_else_can_ask(engine, run):
    async def ask():
        async with calling("http://vllm/v1/models", {}, None, engine._server._place / "socket") as call:
            return call.status

    assert run(ask()) == 401
    assert engine._server._place.stat().st_mode & 0o077 == 0
    with pytest.raises(InvalidRequest, match="no embeddings"):
        run(engine.answer("embeddings", {"input": "x"}, None))


def test_a_server_that_died_is_started_anew_and_ends_with_all_of_its_processes(engine, run, adapters):
    before = run(engine.answer("chat/completions", HELLO, adapters[0]))
    os.killpg(engine._server._child.pid, signal.SIGKILL)
    while engine._server._child.alive:
        run(asyncio.sleep(0.05))
    assert run(engine.answer("chat/completions", HELLO, adapters[0]))["choices"] == before["choices"]
    group = engine._server._child.pid
    assert len(members(group)) > 1
    run(engine.close())
    run(asyncio.sleep(1))
    assert members(group) == []


def members(group):
    """The processes of a group that run."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, _, its = stat.read_text().rpartition(")")[2].split()[:3]
            found += [stat] if int(its) == group and state != "Z" else []
    return found
