"""Chats through the official client, over the engine that echoes."""

import json

import openai
import pytest

from tests.conftest import KEY, serving

MODEL = "smollm2-135m-instruct"
HELLO = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hello there you"}]
TOOL = {
    "type": "function",
    "function": {"name": "look", "parameters": {"type": "object", "properties": {"at": {"type": "string"}}}},
}


@pytest.fixture
def lenient(server):
    """The client as users have it: its strict types know stored messages of the assistant alone."""
    with openai.OpenAI(base_url=server.url, api_key=KEY, max_retries=0) as client:
        yield client


def test_an_answer_is_whole(client):
    answer = client.chat.completions.create(model=MODEL, messages=HELLO)
    assert answer.id.startswith("chatcmpl-")
    assert answer.model == MODEL
    assert answer.choices[0].message.content == "hello there you"
    assert answer.choices[0].message.refusal is None
    assert answer.choices[0].finish_reason == "stop"
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (3, 3)
    assert answer.usage.prompt_tokens_details.cached_tokens == 0
    assert answer.service_tier == "default"
    assert answer.system_fingerprint.startswith("fp_")


def test_a_stream_says_the_same_in_pieces(client):
    chunks = list(
        client.chat.completions.create(model=MODEL, messages=HELLO, stream=True, stream_options={"include_usage": True})
    )
    *said, last = chunks
    assert said[0].choices[0].delta.role == "assistant"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in said) == "hello there you"
    assert [chunk.choices[0].finish_reason for chunk in said] == [None] * (len(said) - 1) + ["stop"]
    assert len({(chunk.id, chunk.created, chunk.object) for chunk in chunks}) == 1
    assert all(chunk.usage is None for chunk in said)
    assert last.choices == []
    assert last.usage.total_tokens == 6


def test_a_stream_ends_with_done_and_without_usage_unless_asked(http):
    body = {"model": MODEL, "messages": HELLO, "stream": True}
    with http.stream("POST", "/chat/completions", json=body) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        events = [line for line in response.iter_lines() if line]
    assert events[-1] == "data: [DONE]"
    assert all("usage" not in json.loads(event[6:]) for event in events[:-1])


def test_an_alias_answers_as_its_base(tmp_path):
    with serving(tmp_path, aliases={"gpt-4o-mini": MODEL}) as server:
        answer = server.client.chat.completions.create(model="gpt-4o-mini", messages=HELLO)
    assert answer.model == MODEL


def test_choices_stops_and_limits(client):
    answer = client.chat.completions.create(model=MODEL, messages=HELLO, n=3, max_completion_tokens=2)
    assert [(c.index, c.message.content, c.finish_reason) for c in answer.choices] == [
        (i, "hello there", "length") for i in range(3)
    ]
    answer = client.chat.completions.create(model=MODEL, messages=HELLO, stop=[" there"])
    assert answer.choices[0].message.content == "hello"


def test_logprobs(client):
    answer = client.chat.completions.create(model=MODEL, messages=HELLO, logprobs=True, top_logprobs=1)
    tokens = answer.choices[0].logprobs.content
    assert [t.token for t in tokens] == ["hello", " there", " you"]
    assert tokens[0].top_logprobs[0].token == "hello"


def test_tools(client):
    answer = client.chat.completions.create(model=MODEL, messages=HELLO, tools=[TOOL], tool_choice="required")
    assert answer.choices[0].finish_reason == "tool_calls"
    assert answer.choices[0].message.tool_calls[0].function.name == "look"
    assert answer.choices[0].message.content is None


def test_a_talk_with_tools_goes_on_as_clients_send_it(client):
    """With the pieces of a stream put together, index and all, and the result as OpenAI's cookbook has it."""
    call = {"id": "call_1", "index": 0, "type": "function", "function": {"name": "look", "arguments": "{}"}}
    result = {"role": "tool", "tool_call_id": "call_1", "name": "look", "content": "a tree"}
    talk = [*HELLO, {"role": "assistant", "content": None, "tool_calls": [call]}, result]
    assert client.chat.completions.create(model=MODEL, messages=talk, tools=[TOOL]).choices[0].message.content


@pytest.mark.parametrize("stream", [False, True])
def test_functions_are_tools_of_old(client, stream):
    answer = client.chat.completions.create(
        model=MODEL, messages=HELLO, functions=[TOOL["function"]], function_call={"name": "look"}, stream=stream
    )
    choices = [chunk.choices[0] for chunk in answer] if stream else answer.choices
    said = [choice.delta for choice in choices] if stream else [choices[0].message]
    assert [s.function_call.name for s in said if s.function_call] == ["look"]
    assert not any(s.tool_calls for s in said)
    assert choices[-1].finish_reason == "function_call"


@pytest.mark.parametrize("asked", [{}, {"tools": [TOOL], "tool_choice": "required"}], ids=["nothing", "call"])
@pytest.mark.parametrize("said", ["", "hello there"])
def test_what_is_stored_of_a_stream_is_as_without(client, asked, said):
    kept = []
    for stream in (False, True):
        messages = [{"role": "user", "content": said}]
        made = client.chat.completions.create(model=MODEL, messages=messages, store=True, stream=stream, **asked)
        kept.append(client.chat.completions.retrieve({chunk.id for chunk in made}.pop() if stream else made.id))
    assert kept[0].choices == kept[1].choices
    assert kept[0].choices[0].message.content == (None if asked else said)


def test_json_schema(client):
    kind = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}}
    answer = client.chat.completions.create(model=MODEL, messages=HELLO, response_format=kind)
    assert json.loads(answer.choices[0].message.content) == {"echo": "hello there you"}


def test_content_in_parts(client):
    parts = [{"type": "text", "text": "one "}, {"type": "text", "text": "two"}]
    answer = client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": parts}])
    assert answer.choices[0].message.content == "one two"


@pytest.mark.parametrize(
    ("changes", "code", "param"),
    [
        ({"model": "nobody"}, "model_not_found", "model"),
        ({"messages": []}, "empty_array", "messages"),
        ({"messages": [{"role": "king", "content": "x"}]}, "invalid_value", "messages[0].role"),
        ({"colour": 1}, "unknown_parameter", "colour"),
        ({"temperature": 3}, "decimal_above_max_value", "temperature"),
        ({"temperature": "hot"}, "invalid_type", "temperature"),
        ({"n": 129}, "integer_above_max_value", "n"),
        ({"max_completion_tokens": 2**31}, "integer_above_max_value", "max_completion_tokens"),
        ({"top_logprobs": 2}, "invalid_value", "top_logprobs"),
        ({"stream_options": {"include_usage": True}}, "invalid_value", "stream_options"),
        ({"tool_choice": "auto"}, "invalid_value", "tool_choice"),
        ({"tools": [{"type": "custom", "custom": {"name": "x"}}]}, "unsupported_value", "tools[0].type"),
        ({"response_format": {"type": "json_object"}}, "invalid_value", "messages"),
        ({"audio": {"voice": "alloy", "format": "wav"}}, "unsupported_value", "audio"),
        ({"modalities": ["text", "audio"]}, "unsupported_value", "modalities[1]"),
        ({"service_tier": "flex"}, "unsupported_value", "service_tier"),
        ({"web_search_options": {}}, "unsupported_value", "web_search_options"),
        ({"prediction": {"type": "content", "content": "x"}}, "unsupported_value", "prediction"),
        ({"reasoning_effort": "high"}, "unsupported_value", "reasoning_effort"),
        ({"verbosity": "low"}, "unsupported_value", "verbosity"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:"}}]}]},
            "unsupported_value",
            "messages[0].content[0].type",
        ),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(http, changes, code, param):
    response = http.post("/chat/completions", json={"model": MODEL, "messages": HELLO, **changes})
    error = response.json()["error"]
    assert (response.status_code, error["code"], error["param"]) == (404 if param == "model" else 400, code, param)


def test_a_refused_stream_is_an_error_and_no_stream(client):
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="nobody", messages=HELLO, stream=True)


class TestStored:
    """What `store` keeps."""

    @pytest.mark.parametrize("stream", [False, True])
    def test_kept_changed_and_deleted(self, client, lenient, stream):
        made = client.chat.completions.create(
            model=MODEL, messages=HELLO, store=True, metadata={"topic": "greeting"}, stream=stream
        )
        chat_id = [chunk.id for chunk in made][-1] if stream else made.id
        chat = client.chat.completions.retrieve(chat_id)
        assert chat.choices[0].message.content == "hello there you"
        assert chat.choices[0].finish_reason == "stop"
        assert chat.usage.total_tokens == 6
        assert chat.metadata == {"topic": "greeting"}
        assert client.chat.completions.update(chat_id, metadata={"topic": "other"}).metadata == {"topic": "other"}
        asked = lenient.chat.completions.messages.list(chat_id)
        assert [(m.id, m.content) for m in asked] == [(f"{chat_id}-{i}", m["content"]) for i, m in enumerate(HELLO)]
        assert client.chat.completions.delete(chat_id).deleted
        with pytest.raises(openai.NotFoundError):
            client.chat.completions.retrieve(chat_id)

    def test_lists_by_metadata_and_page(self, client):
        made = [
            client.chat.completions.create(model=MODEL, messages=HELLO, store=True, metadata={"run": "7", "n": str(n)})
            for n in range(3)
        ]
        pages = client.chat.completions.list(metadata={"run": "7"}, limit=2)
        assert pages.has_more
        assert [chat.id for chat in pages] == [chat.id for chat in made]
        assert [c.id for c in client.chat.completions.list(metadata={"run": "7", "n": "1"})] == [made[1].id]
        assert next(c.id for c in client.chat.completions.list(metadata={"run": "7"}, order="desc")) == made[2].id
        assert client.chat.completions.list(model="other").data == []

    @pytest.mark.parametrize("order", ["asc", "desc"])
    def test_all_of_a_list_may_be_deleted_as_it_is_read(self, client, order):
        asked = {"model": MODEL, "messages": HELLO, "store": True, "metadata": {"run": f"gone {order}"}}
        made = [client.chat.completions.create(**asked).id for _ in range(5)]
        read = []
        for chat in client.chat.completions.list(metadata=asked["metadata"], limit=2, order=order):
            client.chat.completions.delete(chat.id)
            read.append(chat.id)
        assert read == made[:: 1 if order == "asc" else -1]

    def test_messages_page(self, client, lenient):
        made = client.chat.completions.create(model=MODEL, messages=HELLO, store=True)
        page = lenient.chat.completions.messages.list(made.id, limit=1)
        assert page.has_more
        assert [m.role for m in page] == ["system", "user"]

    def test_what_is_not_stored_is_not_there(self, client):
        made = client.chat.completions.create(model=MODEL, messages=HELLO)
        with pytest.raises(openai.NotFoundError):
            client.chat.completions.retrieve(made.id)
