"""What the official clients send by themselves, and what OpenAI refuses of it."""

import time

import openai
import pytest
from openai.lib._parsing._completions import parse_chat_completion
from pydantic import BaseModel

from luthier.api.errors import error_response
from luthier.core.errors import InvalidRequest, RateLimited, Unavailable
from luthier.domain.response_items import messages
from luthier.engines.echo import Echo
from luthier.engines.http_api import ContextExceeded
from luthier.engines.json_schema import check_schema
from luthier.engines.pool import FACTORIES
from tests.conftest import serving

MODEL = "smollm2-135m-instruct"
USER = {"role": "user", "content": "hello"}
LOGPROBS = "message.output_text.logprobs"
OPEN = {"type": "object", "properties": {"at": {"type": "string"}}}
UNUSABLE = {"type": "object", "not": {"required": ["at"]}}


def calls(*ids):
    made = [{"id": i, "type": "function", "function": {"name": "look", "arguments": "{}"}} for i in ids]
    return {"role": "assistant", "content": None, "tool_calls": made}


def result(call_id):
    return {"role": "tool", "tool_call_id": call_id, "content": "a tree"}


def call_item(call_id):
    return {"type": "function_call", "call_id": call_id, "name": "look", "arguments": "{}"}


def output_item(call_id):
    return {"type": "function_call_output", "call_id": call_id, "output": "a tree"}


class Said(BaseModel):
    """What the echo says of a format."""

    echo: str


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")  # the client's own, of its own type
def test_answers_that_python_parsed_come_back(client):
    first = client.chat.completions.parse(model=MODEL, messages=[USER], response_format=Said)
    assert first.choices[0].message.parsed == Said(echo="hello")
    again = client.chat.completions.parse(
        model=MODEL, messages=[USER, first.choices[0].message, USER], response_format=Said
    )
    assert again.choices[0].message.parsed == Said(echo="hello")


def test_calls_that_python_parsed_come_back(client):
    tool = openai.pydantic_function_tool(Said, name="look")
    asked = {"model": MODEL, "messages": [USER], "tools": [tool], "tool_choice": "required"}
    plain = client.chat.completions.create(**asked)
    plain.choices[0].message.tool_calls[0].function.arguments = '{"echo": "x"}'
    first = parse_chat_completion(response_format=openai.omit, input_tools=[tool], chat_completion=plain)
    message = first.choices[0].message
    assert message.tool_calls[0].function.parsed_arguments == Said(echo="x")
    talk = [USER, message, result(message.tool_calls[0].id)]
    assert client.chat.completions.create(model=MODEL, messages=talk, tools=[tool]).choices[0].message.content


def test_what_a_client_parsed_is_not_kept(client, http):
    said = {**calls("call_1"), "parsed": None}
    said["tool_calls"][0]["function"]["parsed_arguments"] = {"a": 1}
    body = {"model": MODEL, "messages": [USER, said, result("call_1")], "store": True}
    kept = http.post("/chat/completions", json=body).json()["id"]
    stored = http.get(f"/chat/completions/{kept}/messages").json()["data"][1]
    assert stored["tool_calls"][0]["function"] == {"name": "look", "arguments": "{}"}
    assert "parsed" not in stored


def test_items_that_nodes_client_parsed_come_back(http):
    text = {"type": "output_text", "text": "a", "annotations": [], "parsed": {"a": 1}}
    items = [
        {"type": "message", "role": "assistant", "content": [text]},
        {**call_item("call_1"), "parsed_arguments": {"a": 1}},
        output_item("call_1"),
        USER,
    ]
    assert http.post("/responses", json={"model": MODEL, "input": items}).json()["status"] == "completed"


@pytest.mark.parametrize(
    ("tool", "strict"),
    [
        ({"parameters": OPEN}, True),
        ({"parameters": OPEN, "strict": None}, True),
        ({"parameters": OPEN, "strict": False}, False),
        ({"parameters": None}, True),
        ({"parameters": UNUSABLE}, False),
        ({"parameters": UNUSABLE, "strict": True}, True),
    ],
)
def test_functions_of_responses_are_strict_where_they_can_be(http, tool, strict):
    asked = {"model": MODEL, "input": "look", "tools": [{"type": "function", "name": "look", **tool}]}
    assert http.post("/responses", json=asked).json()["tools"][0]["strict"] is strict


@pytest.mark.parametrize(
    ("talk", "param", "words"),
    [
        ([USER, result("call_1")], "messages.[1].role", "must be a response to a preceeding message"),
        (
            [USER, calls("call_1"), USER, result("call_1")],
            "messages.[2].role",
            "did not have response messages: call_1",
        ),
        ([USER, calls("call_1")], "messages", "did not have response messages: call_1"),
        (
            [USER, calls("call_1", "call_2", "call_3"), result("call_2"), USER],
            "messages.[3].role",
            "did not have response messages: call_1, call_3",
        ),
        ([USER, calls("call_1"), result("call_2")], "messages.[2].tool_call_id", "'call_2' not found in 'tool_calls'"),
        ([USER, calls("call_1"), result("call_1"), USER, result("call_1")], "messages.[4].role", "preceeding message"),
    ],
)
def test_calls_and_their_results_go_together(client, talk, param, words):
    with pytest.raises(openai.BadRequestError, match=words) as refused:
        client.chat.completions.create(model=MODEL, messages=talk)
    assert refused.value.param == param


def test_several_calls_are_answered_in_any_order(client):
    talk = [
        USER,
        calls("call_1", "call_2"),
        result("call_2"),
        result("call_1"),
        calls("call_3"),
        result("call_3"),
        USER,
    ]
    assert client.chat.completions.create(model=MODEL, messages=talk).choices[0].message.content == "hello"


@pytest.mark.parametrize("items", [[USER, call_item("call_1"), USER], [USER, call_item("call_1")]])
def test_a_call_of_a_response_wants_its_output(client, items):
    with pytest.raises(openai.BadRequestError, match="No tool output found for function call call_1") as refused:
        client.responses.create(model=MODEL, input=items)
    assert refused.value.param == "input"


def test_a_call_of_an_earlier_response_wants_its_output(client):
    tool = {"type": "function", "name": "look", "parameters": OPEN}
    first = client.responses.create(model=MODEL, input="look", tools=[tool], tool_choice="required")
    with pytest.raises(openai.BadRequestError, match="No tool output found for function call"):
        client.responses.create(model=MODEL, input="on", previous_response_id=first.id)
    given = [output_item(first.output[0].call_id)]
    assert client.responses.create(model=MODEL, input=given, previous_response_id=first.id).status == "completed"


def test_an_output_may_come_after_more_text():
    """As some models speak: the call first, then why."""
    said = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "I look"}]}
    assert len(messages([call_item("call_1"), said, output_item("call_1")], None)) == 3


@pytest.mark.parametrize("stream", [False, True])
def test_metadata_is_for_what_is_stored(client, stream):
    with pytest.raises(openai.BadRequestError, match="only allowed when 'store' is enabled") as refused:
        client.chat.completions.create(model=MODEL, messages=[USER], metadata={"a": "b"}, stream=stream)
    assert refused.value.param == "metadata"
    assert client.chat.completions.create(model=MODEL, messages=[USER], metadata={}).choices


@pytest.mark.parametrize("value", ["", "null"])
@pytest.mark.parametrize("path", ["/fine_tuning/jobs", "/chat/completions"])
def test_lists_take_metadata_null_as_clients_send_it(http, path, value):
    """Node's client sends `metadata=`."""
    assert http.get(path, params={"metadata": value}).status_code == 200
    assert http.get(path, params={"metadata": "x"}).status_code == 400


@pytest.mark.parametrize("purpose", ["assistants", "batch", "fine-tune", "vision", "user_data", "evals"])
def test_uploads_have_every_purpose_of_files(client, http, purpose):
    content = b'{"item": {"a": 1}}\n'
    upload = client.uploads.create(filename="a.jsonl", purpose=purpose, bytes=len(content), mime_type="text/jsonl")
    part = client.uploads.parts.create(upload.id, data=content)
    completed = http.post(f"/uploads/{upload.id}/complete", json={"part_ids": [part.id]}).json()
    assert completed["file"]["purpose"] == purpose  # `evals` is not in the answer's type


def test_log_probabilities_are_shown_where_they_are_asked_for(client):
    made = client.responses.create(model=MODEL, input="hi you", include=[LOGPROBS])
    assert made.output[0].content[0].logprobs
    assert client.responses.retrieve(made.id).output[0].content[0].logprobs == []
    assert client.responses.retrieve(made.id, include=[LOGPROBS]).output == made.output
    after = client.responses.create(model=MODEL, input="on", previous_response_id=made.id)
    plain = client.responses.input_items.list(after.id, order="asc").data
    assert plain[1].content[0].logprobs == []
    full = client.responses.input_items.list(after.id, order="asc", include=[LOGPROBS]).data
    assert full[1].content[0].logprobs == made.output[0].content[0].logprobs


class Refusing(Echo):
    """Refuses as llama.cpp does, or as something ails it; where it is asked to wait, it says a word first."""

    async def stream(self, endpoint, body, adapter):
        said = str(body.get("prompt") or body["messages"][-1]["content"])
        async for chunk in super().stream(endpoint, {**body, "response_format": None}, adapter):
            if "wait" not in said:
                break
            yield chunk
        self._refuse(said, body)

    async def answer(self, endpoint, body, adapter):
        self._refuse(str(body.get("prompt") or body.get("input") or body["messages"][-1]["content"]), body)

    def _refuse(self, said, body):
        if "schema" in said:
            check_schema(body["response_format"]["json_schema"]["schema"], param="response_format")
        if "call" in said:
            message = "Invalid value for 'tool_choice': no function named 'y' was specified in the 'tools' parameter."
            raise InvalidRequest(message, code="invalid_value", param="tool_choice")
        if "long" in said:
            raise ContextExceeded(9000, 8192)
        if "fast" in said:
            raise RateLimited("the teacher says no", retry_after_s=0.2)
        raise Unavailable("it is down")


@pytest.fixture(scope="module")
def refusing(tmp_path_factory):
    FACTORIES["refusing"] = lambda _wanted: Refusing()
    with serving(tmp_path_factory.mktemp("data"), engine="refusing") as running:
        yield running
    del FACTORIES["refusing"]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/chat/completions", {"messages": [{"role": "user", "content": "long"}]}, "messages"),
        ("/completions", {"prompt": "long"}, "prompt"),
        ("/responses", {"input": "long"}, "input"),
    ],
)
def test_too_long_a_prompt_is_named_as_it_was_sent(refusing, path, body, param, stream):
    refused = refusing.http.post(path, json={"model": MODEL, "stream": stream, **body})
    error = refused.json()["error"]
    assert (refused.status_code, error["code"], error["param"]) == (400, "context_length_exceeded", param)
    assert error["message"].endswith(
        f"However, your {param} resulted in 9000 tokens. Please reduce the length of the {param}."
    )


def test_too_long_a_text_to_embed_is_an_input(refusing):
    error = refusing.http.post("/embeddings", json={"model": MODEL, "input": "long"}).json()["error"]
    assert error["param"] == "input"


def test_a_schema_is_named_as_it_was_sent(refusing):
    form = {"type": "json_schema", "name": "x", "schema": UNUSABLE}
    asked = {"model": MODEL, "input": "schema", "text": {"format": form}}
    error = refusing.http.post("/responses", json=asked).json()["error"]
    assert (error["code"], error["param"]) == ("invalid_json_schema", "text.format.schema")
    assert error["message"].startswith("Invalid schema for 'text.format.schema': at '/not'")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("old", [False, True])
def test_a_function_is_named_as_it_was_sent(refusing, old, stream):
    function = {"name": "x"}
    tools = {"tools": [{"type": "function", "function": function}], "tool_choice": "auto"}
    asked = {"functions": [function], "function_call": {"name": "y"}} if old else tools
    body = {"model": MODEL, "messages": [{"role": "user", "content": "call"}], "stream": stream, **asked}
    error = refusing.http.post("/chat/completions", json=body).json()["error"]
    choice, given = ("function_call", "functions") if old else ("tool_choice", "tools")
    assert error["param"] == choice
    said = f"Invalid value for '{choice}': no function named 'y' was specified in the '{given}' parameter."
    assert error["message"] == said


@pytest.mark.parametrize(
    ("said", "code"), [("long", "invalid_prompt"), ("fast", "rate_limit_exceeded"), ("down", "server_error")]
)
@pytest.mark.parametrize("begun", ["", "wait "])
def test_failed_responses_say_why(refusing, said, code, begun):
    made = refusing.client.responses.create(model=MODEL, input=begun + said, background=True)
    made = finished(refusing.client, made)
    assert (made.status, made.error.code) == ("failed", code)


def finished(client, made):
    until = time.monotonic() + 20
    while made.status in ("queued", "in_progress") and time.monotonic() < until:
        time.sleep(0.02)
        made = client.responses.retrieve(made.id)
    return made


def test_nobody_goes_on_from_what_is_not_finished(tmp_path):
    FACTORIES["slow"] = lambda _wanted: Echo(pause_s=0.2)
    try:
        with serving(tmp_path, engine="slow") as server:
            first = server.client.responses.create(model=MODEL, input="a b c", background=True)
            with pytest.raises(openai.BadRequestError, match="wait until it is completed") as refused:
                server.client.responses.create(model=MODEL, input="on", previous_response_id=first.id)
            assert refused.value.param == "previous_response_id"
            assert finished(server.client, first).output_text == "a b c"
            assert server.client.responses.create(model=MODEL, input="on", previous_response_id=first.id).output
    finally:
        del FACTORIES["slow"]


def test_who_is_refused_for_haste_is_told_when_to_come_back(tmp_path):
    with serving(tmp_path, requests_per_minute=1) as server:
        server.http.get("/models")
        refused = server.http.get("/models")
    assert refused.status_code == 429
    assert 50 < int(refused.headers["retry-after"]) <= 60
    assert refused.headers["x-ratelimit-limit-requests"] == "1"
    assert refused.headers["x-ratelimit-remaining-requests"] == "0"
    assert 50 < float(refused.headers["x-ratelimit-reset-requests"].removesuffix("s")) <= 60
    assert refused.headers["openai-organization"] == "acme"


def test_nobody_is_told_to_come_back_too_early():
    headers = error_response(RateLimited("slow down", retry_after_s=0.2004)).headers
    assert (headers["retry-after"], headers["retry-after-ms"]) == ("1", "201")
