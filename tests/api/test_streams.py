"""Streams that are left, that fail, and what each request is metered as."""

import http.client
import json
import time

import pytest
from sqlalchemy import select

from luthier.core.errors import Unavailable
from luthier.core.usage import Usage
from luthier.engines.echo import Echo
from luthier.engines.pool import FACTORIES
from luthier.store.rows import columns, listed, reader
from luthier.store.schema import usage
from tests.conftest import KEY, serving
from tests.patience import PATIENCE_S

MODEL = "smollm2-135m-instruct"
WORDS = {"model": MODEL, "messages": [{"role": "user", "content": "a b c d e f g h i j k l m n o p"}]}
# Ten seconds of the slow engine: whoever leaves is gone long before.
LONG = {"model": MODEL, "messages": [{"role": "user", "content": "word " * 200}]}


class Slow(Echo):
    """Takes its time, says when it was stopped, and breaks at a word."""

    def __init__(self):
        super().__init__(pause_s=0.05)
        self.spoken = self.stopped = 0

    async def stream(self, endpoint, body, adapter):
        try:
            async for chunk in super().stream(endpoint, body, adapter):
                self.spoken += 1
                yield chunk
                if "BREAK" in str(chunk["choices"]):
                    raise Unavailable("the engine broke")
        finally:
            self.stopped += 1

    async def answer(self, endpoint, body, adapter):
        whole = [chunk async for chunk in self.stream(endpoint, body, adapter)]
        return {**(await super().answer(endpoint, body, adapter)), "usage": whole[-1]["usage"]}


@pytest.fixture(scope="module")
def engine():
    return Slow()


@pytest.fixture(scope="module")
def slow(engine, tmp_path_factory):
    FACTORIES["slow"] = lambda _wanted: engine
    with serving(tmp_path_factory.mktemp("data"), engine="slow") as running:
        yield running
    del FACTORIES["slow"]


def wait_for(condition):
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def rows(server):
    mine = usage.c.project_id == server.platform.project.id
    statement = select(*columns(usage, Usage)).where(mine).order_by(usage.c.pk)
    return listed(server.platform.database, statement, reader(Usage))


def test_a_left_stream_stops_the_engine(slow, engine):
    before = engine.stopped, engine.spoken
    with slow.http.stream("POST", "/chat/completions", json={**LONG, "stream": True}) as response:
        next(response.iter_lines())
    wait_for(lambda: engine.stopped == before[0] + 1)
    assert engine.spoken - before[1] < 200


def test_a_left_answer_stops_the_engine(slow, engine):
    before = engine.stopped, engine.spoken
    url = slow.http.base_url
    connection = http.client.HTTPConnection(url.host, url.port)
    headers = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}
    connection.request("POST", "/v1/chat/completions", json.dumps(LONG), headers)
    wait_for(lambda: engine.spoken > before[1])
    connection.close()
    wait_for(lambda: engine.stopped == before[0] + 1)
    assert engine.spoken - before[1] < 200


def test_pieces_leave_as_they_come(slow, engine):
    before = engine.stopped, engine.spoken
    with slow.http.stream("POST", "/chat/completions", json={**LONG, "stream": True}) as response:
        lines = filter(None, response.iter_lines())
        heard = [next(lines) for _ in range(3)]
        assert engine.spoken - before[1] < 200
    assert [json.loads(line[6:])["choices"][0]["delta"].get("content") for line in heard] == ["", "word", " word"]
    wait_for(lambda: engine.stopped == before[0] + 1)


def test_an_engine_that_breaks_in_mid_stream_says_so_in_the_stream(slow):
    body = {**WORDS, "stream": True, "messages": [{"role": "user", "content": "one BREAK two"}]}
    with slow.http.stream("POST", "/chat/completions", json=body) as response:
        assert response.status_code == 200
        events = [line[6:] for line in response.iter_lines() if line]
    assert json.loads(events[-2])["error"]["message"] == "the engine broke"
    assert json.loads(events[-2])["error"]["type"] == "server_error"


def test_each_request_is_metered_once(server):
    before = len(rows(server))
    server.client.chat.completions.create(**WORDS)
    list(server.client.chat.completions.create(**WORDS, stream=True))
    server.client.completions.create(model=MODEL, prompt="a b")
    server.client.embeddings.create(model=MODEL, input="a b c", encoding_format="float")
    wait_for(lambda: len(rows(server)) == before + 4)
    made = sorted((row.endpoint, row.input_tokens, row.output_tokens) for row in rows(server)[before:])
    assert made == [
        ("chat/completions", 16, 16),
        ("chat/completions", 16, 16),
        ("completions", 2, 2),
        ("embeddings", 3, 0),
    ]
    assert {row.model for row in rows(server)[before:]} == {MODEL}
    assert all(row.key_id.startswith("key_") for row in rows(server))
