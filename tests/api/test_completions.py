"""Legacy completions and embeddings, over the engine that echoes."""

import base64
import struct

import openai
import pytest

from tests.conftest import KEY

MODEL = "smollm2-135m-instruct"


@pytest.fixture
def lenient(server):
    """The client as users have it: its strict types know no piece of a text without a reason to end."""
    with openai.OpenAI(base_url=server.url, api_key=KEY, max_retries=0) as client:
        yield client


def test_a_text_goes_on(client):
    answer = client.completions.create(model=MODEL, prompt="one two", max_tokens=5)
    assert answer.id.startswith("cmpl-")
    assert answer.choices[0].text == "one two"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.total_tokens == 4


def test_several_prompts_and_choices(client):
    answer = client.completions.create(model=MODEL, prompt=["one", "two"], n=2)
    assert [(c.index, c.text) for c in answer.choices] == [(0, "one"), (1, "one"), (2, "two"), (3, "two")]


def test_tokens_as_prompt_and_echo(client):
    assert client.completions.create(model=MODEL, prompt=[4, 5], echo=True).choices[0].text == "4 5 4 5"


def test_streaming(lenient):
    chunks = list(
        lenient.completions.create(model=MODEL, prompt="one two", stream=True, stream_options={"include_usage": True})
    )
    assert "".join(chunk.choices[0].text for chunk in chunks if chunk.choices) == "one two"
    assert chunks[-1].usage.total_tokens == 4


@pytest.mark.parametrize(
    ("changes", "code", "param"),
    [
        ({"suffix": "end"}, "unsupported_value", "suffix"),
        ({"best_of": 1, "n": 2}, "invalid_value", "best_of"),
        ({"best_of": 2, "stream": True}, "invalid_value", "best_of"),
        ({"logprobs": 6}, "integer_above_max_value", "logprobs"),
        ({"prompt": [2**32 + 70]}, "integer_above_max_value", "prompt[0]"),
        ({"max_tokens": 2**32 + 3}, "integer_above_max_value", "max_tokens"),
        ({"logit_bias": {"4294967366": 100}}, "invalid_value", "logit_bias.4294967366"),
        ({"prompt": None}, "unsupported_value", "prompt"),
        ({"messages": []}, "unknown_parameter", "messages"),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(http, changes, code, param):
    error = http.post("/completions", json={"model": MODEL, "prompt": "x", **changes}).json()["error"]
    assert (error["code"], error["param"]) == (code, param)


def test_embeddings_as_numbers_and_packed(client, http):
    answer = client.embeddings.create(model=MODEL, input=["one", "two"], encoding_format="float")
    assert [len(item.embedding) for item in answer.data] == [8, 8]
    assert answer.data[0].embedding != answer.data[1].embedding
    body = {"model": MODEL, "input": ["one", "two"], "encoding_format": "base64"}
    packed = http.post("/embeddings", json=body).json()["data"][1]["embedding"]
    assert list(struct.unpack("<8f", base64.b64decode(packed))) == answer.data[1].embedding


def test_dimensions_are_refused(http):
    error = http.post("/embeddings", json={"model": MODEL, "input": "x", "dimensions": 3}).json()["error"]
    assert (error["code"], error["param"]) == ("unsupported_value", "dimensions")
