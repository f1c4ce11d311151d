"""Responses through the official client, over the engine that echoes."""

import time

import openai
import pytest

from luthier.core.responses import StoredResponse
from luthier.domain import responses
from luthier.domain.response_events import ResponseBuilder
from luthier.engines.echo import Echo
from luthier.engines.pool import FACTORIES
from luthier.store import responses as rows
from tests.conftest import serving
from tests.notify.conftest import an_endpoint, receiver  # noqa: F401  # a fixture
from tests.patience import PATIENCE_S

MODEL = "smollm2-135m-instruct"
TOOL = {
    "type": "function",
    "name": "look",
    "description": "looks",
    "strict": True,
    "parameters": {"type": "object", "properties": {"at": {"type": "string"}}, "required": ["at"]},
}


def test_a_text_is_answered(client):
    response = client.responses.create(model=MODEL, input="hello there", instructions="Be brief.")
    assert response.id.startswith("resp_")
    assert response.status == "completed"
    assert response.output_text == "hello there"
    assert response.output[0].id.startswith("msg_")
    assert response.instructions == "Be brief."
    assert (response.usage.input_tokens, response.usage.output_tokens, response.usage.total_tokens) == (2, 2, 4)
    assert response.error is None


def test_a_stream_tells_of_each_step(client):
    events = list(client.responses.create(model=MODEL, input="hello there", stream=True))
    assert [event.type for event in events] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert "".join(event.delta for event in events if event.type.endswith("text.delta")) == "hello there"
    assert events[-1].response.output_text == "hello there"
    assert client.responses.retrieve(events[-1].response.id).output_text == "hello there"


def test_talks_go_on(client):
    first = client.responses.create(model=MODEL, input="one")
    second = client.responses.create(model=MODEL, input="two", previous_response_id=first.id)
    assert second.previous_response_id == first.id
    items = client.responses.input_items.list(second.id, order="asc").data
    assert [(item.role, item.content[0].text) for item in items] == [
        ("user", "one"),
        ("assistant", "one"),
        ("user", "two"),
    ]
    page = client.responses.input_items.list(second.id, limit=2)
    assert page.has_more
    assert [item.content[0].text for item in page] == ["two", "one", "one"]
    with pytest.raises(openai.BadRequestError, match="Previous response"):
        client.responses.create(model=MODEL, input="x", previous_response_id="resp_none")


def test_a_talk_whose_beginning_was_deleted_shows_what_is_left(client):
    first = client.responses.create(model=MODEL, input="one")
    second = client.responses.create(model=MODEL, input="two", previous_response_id=first.id)
    third = client.responses.create(model=MODEL, input="three", previous_response_id=second.id)
    client.responses.delete(first.id)
    assert [item.content[0].text for item in client.responses.input_items.list(second.id).data] == ["two"]
    assert len(client.responses.input_items.list(third.id).data) == 3
    said = f"Response {second.id} continues {first.id}, which was deleted"
    for previous in (second, third):
        with pytest.raises(openai.BadRequestError, match=said) as refused:
            client.responses.create(model=MODEL, input="x", previous_response_id=previous.id)
        assert refused.value.param == "previous_response_id"


@pytest.mark.parametrize("stream", [False, True])
def test_functions_are_called_and_their_results_taken(client, stream):
    asked = {"model": MODEL, "input": "look there", "tools": [TOOL], "tool_choice": "required"}
    if stream:
        events = list(client.responses.create(**asked, stream=True))
        kinds = [event.type for event in events]
        assert "response.function_call_arguments.delta" in kinds
        done = next(event for event in events if event.type == "response.function_call_arguments.done")
        assert (done.name, done.arguments) == ("look", "{}")
        response = events[-1].response
    else:
        response = client.responses.create(**asked)
    [call] = response.output
    assert (call.type, call.name, call.arguments) == ("function_call", "look", "{}")
    given = {"type": "function_call_output", "call_id": call.call_id, "output": "a tree"}
    after = client.responses.create(model=MODEL, input=[given], previous_response_id=response.id, tools=[TOOL])
    assert after.output_text == "look there"
    with pytest.raises(openai.BadRequestError, match="No tool call found"):
        client.responses.create(model=MODEL, input=[{**given, "call_id": "call_other"}])


def test_an_answer_that_is_cut_is_incomplete(client):
    response = client.responses.create(model=MODEL, input=" ".join("x" * 20), max_output_tokens=16)
    assert response.status == "incomplete"
    assert response.incomplete_details.reason == "max_output_tokens"
    assert response.output[0].status == "incomplete"


def test_json_and_logprobs(client):
    form = {"type": "json_schema", "name": "x", "schema": {"type": "object"}, "strict": True}
    response = client.responses.create(model=MODEL, input="hi", text={"format": form})
    assert response.output_text == '{"echo": "hi"}'
    response = client.responses.create(
        model=MODEL, input="hi you", include=["message.output_text.logprobs"], top_logprobs=1
    )
    assert [t.token for t in response.output[0].content[0].logprobs] == ["hi", " you"]


def test_what_is_not_stored_and_what_is_deleted_is_gone(client):
    for response in (client.responses.create(model=MODEL, input="x", store=False),):
        with pytest.raises(openai.NotFoundError):
            client.responses.retrieve(response.id)
    response = client.responses.create(model=MODEL, input="x", metadata={"a": "b"})
    assert client.responses.retrieve(response.id).metadata == {"a": "b"}
    client.responses.delete(response.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(response.id)


def test_answers_come_back_as_input(client):
    first = client.responses.create(model=MODEL, input="one")
    talk = [{"role": "user", "content": "one"}, *(item.to_dict() for item in first.output)]
    talk.append({"role": "user", "content": [{"type": "input_text", "text": "two"}]})
    assert client.responses.create(model=MODEL, input=talk).output_text == "two"


def test_an_item_may_be_there_only_once(client):
    first = client.responses.create(model=MODEL, input="one")
    reference = {"type": "item_reference", "id": first.output[0].id}
    again = {"role": "user", "content": "two", "id": "msg_mine"}
    for asked in (
        {"input": [reference, {"role": "user", "content": "two"}], "previous_response_id": first.id},
        {"input": [reference, first.output[0].to_dict()]},
        {"input": [again, again]},
    ):
        with pytest.raises(openai.BadRequestError, match="Duplicate item found with id msg_") as refused:
            client.responses.create(model=MODEL, **asked)
        assert refused.value.param == "input"


@pytest.mark.parametrize("kind", [{"type": "item_reference"}, {}])
def test_items_of_earlier_answers_are_referred_to(client, kind):
    """As the Vercel AI SDK sends its earlier turns."""
    first = client.responses.create(model=MODEL, input="one")
    again = client.responses.create(model=MODEL, input="look", tools=[TOOL], tool_choice="required")
    [call] = again.output
    talk = [
        {"role": "user", "content": "one"},
        {**kind, "id": first.output[0].id},
        {**kind, "id": call.id},
        {"type": "function_call_output", "call_id": call.call_id, "output": "a tree"},
        {"role": "user", "content": "two"},
    ]
    second = client.responses.create(model=MODEL, input=talk)
    kept = client.responses.input_items.list(second.id, order="asc").data
    assert kept[1].content[0].text == "one"
    assert kept[2].call_id == call.call_id
    client.responses.delete(first.id)
    with pytest.raises(openai.NotFoundError, match=f"Item with id '{first.output[0].id}' not found"):
        client.responses.create(model=MODEL, input=talk)


def test_what_is_to_be_included_may_be_said_when_looking(client):
    response = client.responses.create(model=MODEL, input="one")
    wanted = ["message.output_text.logprobs"]
    assert client.responses.retrieve(response.id, include=wanted).id == response.id
    assert client.responses.input_items.list(response.id, include=wanted).data


def test_input_tokens(client):
    assert client.responses.input_tokens.count(model=MODEL, input="hello").object == "response.input_tokens"


@pytest.mark.parametrize(
    ("changes", "code", "param"),
    [
        ({"model": "nobody"}, "model_not_found", "model"),
        ({"input": None}, "missing_required_parameter", "input"),
        ({"colour": 1}, "unknown_parameter", "colour"),
        ({"max_output_tokens": 3}, "integer_below_min_value", "max_output_tokens"),
        ({"tools": [{"type": "web_search"}]}, "unsupported_value", "tools[0].type"),
        ({"tools": [{"type": "function"}]}, "missing_required_parameter", "tools[0].name"),
        ({"tool_choice": {"type": "mcp"}}, "unsupported_value", "tool_choice.type"),
        ({"tool_choice": "required"}, "invalid_value", "tool_choice"),
        ({"conversation": "conv_1"}, "unsupported_value", "conversation"),
        ({"prompt": {"id": "pmpt_1"}}, "unsupported_value", "prompt"),
        ({"truncation": "auto"}, "unsupported_value", "truncation"),
        ({"reasoning": {"effort": "high"}}, "unsupported_value", "reasoning.effort"),
        ({"background": True, "stream": True}, "unsupported_value", "stream"),
        ({"background": True, "store": False}, "invalid_value", "store"),
        ({"input": [{"type": "reasoning", "id": "x"}]}, "unsupported_value", "input[0].type"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]},
            "unsupported_value",
            "input[0].content[0].type",
        ),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(http, changes, code, param):
    response = http.post("/responses", json={"model": MODEL, "input": "x", **changes})
    error = response.json()["error"]
    assert (response.status_code, error["code"], error["param"]) == (404 if param == "model" else 400, code, param)


def test_compacting_is_refused_by_name(client):
    with pytest.raises(openai.BadRequestError, match="previous_response_id") as refused:
        client.responses.compact(model=MODEL, input="a b")
    assert refused.value.code == "unsupported_value"


@pytest.fixture(scope="module")
def slow(tmp_path_factory):
    FACTORIES["dawdling"] = lambda _wanted: Dawdling()
    with serving(tmp_path_factory.mktemp("data"), engine="dawdling", webhook_private_hosts=True) as running:
        yield running
    del FACTORIES["dawdling"]


def test_a_background_response_is_queued_and_completes(slow):
    response = slow.client.responses.create(model=MODEL, input="a b", background=True)
    assert response.status == "queued"
    assert wait(slow, response.id).output_text == "a b"


def test_a_background_response_is_cancelled(slow):
    response = slow.client.responses.create(model=MODEL, input=" ".join("x" * 500), background=True)
    assert slow.client.responses.cancel(response.id).status == "cancelled"
    time.sleep(0.2)
    assert slow.client.responses.retrieve(response.id).status == "cancelled"
    assert slow.client.responses.cancel(response.id).status == "cancelled"


def test_other_responses_cannot_be_cancelled(slow):
    response = slow.client.responses.create(model=MODEL, input="a")
    with pytest.raises(openai.BadRequestError, match="synchronous"):
        slow.client.responses.cancel(response.id)


def test_a_background_response_that_its_server_left_has_failed(slow):
    response = slow.client.responses.create(model=MODEL, input="a", background=True)
    left = wait(slow, response.id).to_dict()
    row = StoredResponse(
        id="resp_left",
        project_id=slow.platform.project.id,
        created_at=1,
        status="in_progress",
        previous_response_id=None,
        input=[],
        answer={**left, "id": "resp_left", "status": "in_progress", "output": []},
    )
    rows.add(slow.platform.database, row, lease_until=time.time() - 1)
    failed = slow.client.responses.retrieve("resp_left")
    assert (failed.status, failed.error.code) == ("failed", "server_error")


def test_webhooks_hear_of_a_background_responses_end(slow, receiver):  # noqa: F811
    sent = slow.platform.database
    an_endpoint(slow.platform, receiver.url, ["response.completed"])
    response = slow.client.responses.create(model=MODEL, input="a", background=True)
    wait(slow, response.id)
    with sent.read() as connection:
        told = connection.exec_driver_sql("SELECT payload FROM outbox WHERE event_type = 'response.completed'")
        assert response.id in str(told.all())


class Dawdling(Echo):
    """Says a word in 10 ms."""

    def __init__(self):
        super().__init__(pause_s=0.01)


def wait(server, response_id):
    deadline = time.monotonic() + PATIENCE_S
    while (response := server.client.responses.retrieve(response_id)).status in ("queued", "in_progress"):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return response


def test_the_sweeper_ends_what_its_server_left(slow):
    """Nobody has to look at it first."""
    platform = slow.platform
    row = StoredResponse(
        "resp_alone", platform.project.id, 1, "in_progress", None, [], {"id": "resp_left", "output": []}
    )
    rows.add(platform.database, row, lease_until=time.time() - 1)
    responses.sweep(platform)
    assert rows.get(platform.database, platform.project.id, row.id).status == "failed"


def test_log_probabilities_of_text_that_is_held_back_are_not_lost():
    builder = ResponseBuilder({"id": "resp_x", "output": []}, with_logprobs=True)
    tokens = [{"token": text, "logprob": -1.0, "bytes": [], "top_logprobs": []} for text in ("<", "b", ">")]
    told = []
    for text, token in zip(("", "<b", ">"), tokens, strict=True):
        logprobs = {"content": [token], "refusal": None}
        choice = {"index": 0, "delta": {"content": text}, "logprobs": logprobs, "finish_reason": None}
        told += builder.take({"choices": [choice]})
    list(builder.finish())
    assert [t["token"] for t in builder.response["output"][0]["content"][0]["logprobs"]] == ["<", "b", ">"]
    assert [event["delta"] for event in told if event["type"] == "response.output_text.delta"] == ["<b", ">"]


def built(*deltas, reason="stop"):
    """The events after the first two, and the response, of an engine that streams these deltas."""
    builder = ResponseBuilder({"id": "resp_x", "output": []}, with_logprobs=False)
    told = []
    for delta in deltas:
        told += builder.take({"choices": [{"index": 0, "delta": delta, "finish_reason": None}]})
    told += builder.take({"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]})
    return [*told, *builder.finish()], builder.response


def piece(index, arguments, **beginning):
    function = {"arguments": arguments, **({"name": beginning.pop("name")} if beginning else {})}
    return {"tool_calls": [{"index": index, **beginning, "function": function}]}


def test_calls_come_in_pieces():
    """As OpenAI and most servers stream them: the id and the name first, then arguments alone."""
    events, response = built(
        {"content": "I look.", "tool_calls": None},
        piece(0, "", id="call_a", name="look"),
        piece(0, '{"at":'),
        piece(0, ' "x"}'),
        piece(1, "", id="call_b", name="wait"),
        piece(1, "{}"),
        reason="tool_calls",
    )
    assert [(item["type"], item["status"]) for item in response["output"]] == [
        ("message", "completed"),
        ("function_call", "completed"),
        ("function_call", "completed"),
    ]
    calls = response["output"][1:]
    assert [(call["call_id"], call["name"], call["arguments"]) for call in calls] == [
        ("call_a", "look", '{"at": "x"}'),
        ("call_b", "wait", "{}"),
    ]
    of_calls = [event for event in events if event["type"].startswith("response.function_call_arguments")]
    assert [(event["output_index"], event.get("delta"), event.get("arguments")) for event in of_calls] == [
        (1, '{"at":', None),
        (1, ' "x"}', None),
        (1, None, '{"at": "x"}'),
        (2, "{}", None),
        (2, None, "{}"),
    ]


def test_a_call_that_is_cut_is_incomplete():
    _, response = built(piece(0, '{"at', id="call_a", name="look"), reason="length")
    assert (response["status"], response["output"][0]["status"]) == ("incomplete", "incomplete")


def test_whole_calls_may_share_an_index():
    _, response = built(piece(0, "{}", id="call_a", name="look"), piece(0, "{}", id="call_b", name="look"))
    assert [call["call_id"] for call in response["output"]] == ["call_a", "call_b"]


def test_an_answer_that_is_filtered_is_incomplete():
    events, response = built({"content": "no"}, reason="content_filter")
    assert events[-1]["type"] == "response.incomplete"
    assert (response["status"], response["incomplete_details"]) == ("incomplete", {"reason": "content_filter"})


def test_a_refusal_is_told():
    events, response = built({"content": "Well."}, {"refusal": "I can"}, {"refusal": "not."})
    [message] = response["output"]
    assert [part.get("text") or part["refusal"] for part in message["content"]] == ["Well.", "I cannot."]
    told = [(event["content_index"], event["type"]) for event in events if "refusal" in event["type"]]
    assert told == [(1, "response.refusal.delta")] * 2 + [(1, "response.refusal.done")]
