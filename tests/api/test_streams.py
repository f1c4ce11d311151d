"""Streams that are left, that fail, and what each request is metered as."""

import json
import time

import pytest

from luthier.core.errors import Unavailable
from luthier.engines.echo import Echo
from luthier.engines.pool import FACTORIES
from luthier.store import usage
from tests.conftest import serving

MODEL = "smollm2-135m-instruct"
WORDS = {"model": MODEL, "messages": [{"role": "user", "content": "a b c d e f g h i j k l m n o p"}]}


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
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def rows(server):
    project = server.platform.project.id
    return usage.list_all(server.platform.database, project, start=0, end=2**40)


def test_a_left_stream_stops_the_engine(slow, engine):
    before = engine.stopped, engine.spoken
    with slow.http.stream("POST", "/chat/completions", json={**WORDS, "stream": True}) as response:
        next(response.iter_lines())
    wait_for(lambda: engine.stopped == before[0] + 1)
    assert engine.spoken - before[1] < 16


def test_a_left_answer_stops_the_engine(slow, engine):
    before = engine.stopped, engine.spoken
    with pytest.raises(Exception, match="timed out"):
        slow.http.post("/chat/completions", json=WORDS, timeout=0.2)
    wait_for(lambda: engine.stopped == before[0] + 1)
    assert engine.spoken - before[1] < 16


def test_pieces_leave_as_they_come(slow):
    arrivals = []
    with slow.http.stream("POST", "/chat/completions", json={**WORDS, "stream": True}) as response:
        arrivals = [time.monotonic() for line in response.iter_lines() if line]
    assert arrivals[-1] - arrivals[0] > 0.5


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
