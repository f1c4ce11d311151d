"""What is metered where nothing came of a question."""

import asyncio

import pytest
from sqlalchemy import select

from luthier.core.errors import InvalidRequest
from luthier.core.projects import Caller
from luthier.core.settings import Settings
from luthier.domain import inference
from luthier.domain.platform import open_platform
from luthier.engines.echo import Echo
from luthier.engines.pool import FACTORIES
from luthier.store.schema import usage
from tests.databases import database_url

MODEL = "smollm2-135m-instruct"
BODY = {"messages": [{"role": "user", "content": "a b c"}]}


class Odd(Echo):
    """Refuses streams, and never answers otherwise."""

    async def answer(self, endpoint, body, adapter):
        await asyncio.Event().wait()

    async def stream(self, endpoint, body, adapter):
        raise InvalidRequest("no")
        yield


@pytest.fixture
def platform(tmp_path, monkeypatch):
    monkeypatch.setitem(FACTORIES, "odd", lambda wanted: Odd())
    opened = open_platform(Settings(data=tmp_path, engine="odd", database_url=database_url(tmp_path)))
    yield opened
    opened.close()


@pytest.fixture
def caller(platform):
    project = platform.project
    return Caller(project.id, project.organization_id, project.organization, "key_x", frozenset({"infer"}))


def metered(platform, story):
    async def told():
        await story
        await asyncio.get_running_loop().shutdown_default_executor()  # rows are written by its threads

    asyncio.run(told())
    with platform.database.read() as connection:
        return [tuple(row) for row in connection.execute(select(usage.c.endpoint, usage.c.output_tokens))]


def test_a_stream_that_the_engine_refuses_is_none(platform, caller):
    async def story():
        with pytest.raises(InvalidRequest, match="no"):
            await anext(inference.chunks(platform, caller, "chat/completions", MODEL, BODY))

    assert metered(platform, story()) == []


def test_a_refusal_in_pieces_is_put_together():
    assembly = inference.Assembly()
    for delta in ({"role": "assistant", "content": ""}, {"refusal": "I can"}, {"refusal": "not.", "tool_calls": None}):
        assembly.add({"choices": [{"index": 0, "delta": delta, "finish_reason": None}]})
    [choice] = assembly.whole()["choices"]
    said = {"role": "assistant", "content": None, "refusal": "I cannot.", "annotations": []}
    assert choice["message"] == said


def test_an_answer_that_is_left_was_a_request(platform, caller):
    async def story():
        asked = inference.answer(platform, caller, "chat/completions", MODEL, BODY)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asked, 0.3)

    assert metered(platform, story()) == [("chat/completions", 0)]
