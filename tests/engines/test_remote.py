"""The engine that asks another server, against a server of ours."""

import asyncio
import sys
from contextlib import aclosing

import pytest

from luthier.core.errors import InvalidRequest, Unavailable
from luthier.core.settings import Settings
from luthier.domain.platform import open_platform
from luthier.engines.base import Adapter
from luthier.engines.openai import OpenAI
from luthier.engines.pool import EnginePool
from tests.conftest import KEY
from tests.tiny import make_base

BODY = {"messages": [{"role": "user", "content": "hello there"}]}


def ask(url, question, key=KEY):
    async def story():
        engine = OpenAI("smollm2-135m-instruct", base_url=url, api_key=key)
        try:
            return await question(engine)
        finally:
            await engine.close()

    return asyncio.run(story())


def test_answers_and_streams(server):
    async def both(engine):
        async with aclosing(engine.stream("chat/completions", BODY, None)) as chunks:
            return await engine.answer("chat/completions", BODY, None), [chunk async for chunk in chunks]

    answer, chunks = ask(server.url, both)
    assert answer["choices"][0]["message"]["content"] == "hello there"
    assert "".join(c["choices"][0]["delta"].get("content", "") for c in chunks[:-1]) == "hello there"
    assert chunks[-1]["usage"]["total_tokens"] == 4


def test_refusals_keep_their_words(server):
    with pytest.raises(InvalidRequest, match="colour") as refused:
        ask(server.url, lambda engine: engine.answer("chat/completions", {**BODY, "colour": 1}, None))
    assert (refused.value.code, refused.value.param) == ("unknown_parameter", "colour")


def test_a_wrong_key_and_a_server_that_is_away(server):
    with pytest.raises(Unavailable, match="401"):
        ask(server.url, lambda engine: engine.answer("chat/completions", BODY, None), key="wrong")
    with pytest.raises(Unavailable, match="cannot be reached"):
        ask("http://127.0.0.1:1/v1", lambda engine: engine.answer("chat/completions", BODY, None))


def test_adapters_are_refused(server, tmp_path):
    with pytest.raises(InvalidRequest, match="cannot load adapters"):
        ask(server.url, lambda engine: engine.answer("chat/completions", BODY, Adapter("m", tmp_path)))


def ask_vllm(where, tmp_path, **settings):
    base = make_base(tmp_path / "tiny")
    pool = EnginePool("echo", lambda _name: base, engines={"tiny": f"vllm:{where}"}, **settings)

    async def story():
        try:
            return await pool.get("tiny").answer("chat/completions", BODY, None)
        finally:
            await pool.close()

    return asyncio.run(story())


def test_vllm_where_there_is_none(server, tmp_path):
    with pytest.raises(Unavailable, match=r"no Python environment in .*/none\..*pip install vllm"):
        ask_vllm(tmp_path / "none", tmp_path)
    (home := tmp_path / "bare/bin").mkdir(parents=True)
    (home / "python").symlink_to(sys.executable)
    with pytest.raises(Unavailable, match=r"No module named luthier_vllm.*pip install vllm"):
        ask_vllm(tmp_path / "bare", tmp_path / "other")
    with pytest.raises(Unavailable, match=r"cannot be reached.*is it running"):
        ask_vllm("http://127.0.0.1:1/v1", tmp_path / "away")
    with pytest.raises(Unavailable, match=r"401.*engine_api_key"):
        ask_vllm(server.url, tmp_path / "locked", engine_api_key="wrong")
    with pytest.raises(Unavailable, match="is not vLLM"):
        ask_vllm(server.url, tmp_path / "strange", engine_api_key=KEY)


def test_settings_of_engines_that_will_not_do(tmp_path):
    for engines, words in (({}, ""), ({"a": "vllm"}, "give vllm:URL"), ({"a": "echo:here"}, "their names alone")):
        engine = "echo" if engines else "vllm"
        with pytest.raises(InvalidRequest, match=words or "give vllm:URL"):
            EnginePool(engine, lambda _name: pytest.fail("never asked"), engines=engines)
    with pytest.raises(InvalidRequest, match="setting engines: no base model is named nobody"):
        open_platform(Settings(data=tmp_path, engine="echo", engines={"nobody": "echo"}))


def test_the_pool_has_one_engine_a_base():
    pool = EnginePool("echo", lambda _name: pytest.fail("the echo needs no files"))
    assert pool.get("a") is pool.get("a")
    assert pool.get("a") is not pool.get("b")
    asyncio.run(pool.close())
    with pytest.raises(InvalidRequest, match="known are echo, llamacpp, openai, vllm"):
        EnginePool("magic", lambda _name: pytest.fail("never asked"))
