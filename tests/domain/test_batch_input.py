import io
import json

import pytest

from luthier.domain import batch_input
from luthier.domain.batch_input import check, read

CHAT = "/v1/chat/completions"
BODY = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


def line(custom_id="a", **changes):
    item = {"custom_id": custom_id, "method": "POST", "url": CHAT, "body": BODY, **changes}
    return json.dumps({key: value for key, value in item.items() if value is not ...})


def checked(*lines, endpoint=CHAT, beat=lambda: None):
    data = io.BytesIO("\n".join(lines).encode())
    return check(data, endpoint, knows_model=lambda name: name in {"m", "other"}, beat=beat)


def test_a_good_input():
    beats = []
    lines = [line("a"), "", line("b"), line("c") + "\n"]
    found = checked(*lines, beat=lambda: beats.append(1))
    assert (found.total, found.model, found.errors) == (3, "m", [])
    assert len(beats) == 3
    requests = list(read(io.BytesIO("\n".join(lines).encode()), CHAT))
    assert [(r.line, r.custom_id) for r in requests] == [(1, "a"), (3, "b"), (4, "c")]
    assert requests[0].body == BODY


URL = "The URL provided for this request does not match the batch endpoint."
JSON = "This line is not parseable as valid JSON."
STREAM = "Chat Completions: Streaming is not supported in the Batch API."
DUPLICATE = (
    "The custom_id 'fine' for this request is a duplicate of another request. "
    "The custom_id parameter must be unique for each request in a batch."
)
MISMATCH = (
    "The model 'other' for this request does not match the rest of the batch. "
    "Each batch must contain requests for a single model."
)


@pytest.mark.parametrize(
    ("bad", "code", "message", "param"),
    [
        ("{invalid json here", "invalid_json_line", JSON, None),
        ("[1]", "invalid_json_line", JSON, None),
        ("[" * 100_000, "invalid_json_line", JSON, None),
        (line(custom_id=...), "missing_required_parameter", "Missing required parameter: 'custom_id'.", "custom_id"),
        (line(method=...), "missing_required_parameter", "Missing required parameter: 'method'.", "method"),
        (line(url=...), "missing_required_parameter", "Missing required parameter: 'url'.", "url"),
        (line(body=...), "missing_required_parameter", "Missing required parameter: 'body'.", "body"),
        (line(custom_id=1), "invalid_type", "Invalid type for 'custom_id': expected a string.", "custom_id"),
        (line(body=[]), "invalid_type", "Invalid type for 'body': expected an object.", "body"),
        (line(priority=1), "unknown_parameter", "Unknown parameter: 'priority'.", "priority"),
        (line(method="GET"), "invalid_method", "The method of every request in a batch must be 'POST'.", "method"),
        (line(url="/v1/embeddings"), "invalid_url", URL, "url"),
        (line(body={**BODY, "stream": True}), "streaming_unsupported", STREAM, "body.stream"),
        (line(body={"messages": []}), "invalid_request", "Model parameter is required.", "body.model"),
        (line(body={"model": "m"}), "invalid_request", "Messages parameter is required.", "body.messages"),
        (
            line(body={**BODY, "model": "none"}),
            "model_not_found",
            "The provided model 'none' is not supported by the Batch API.",
            "body.model",
        ),
        (line(body={**BODY, "model": "other"}), "mismatched_model", MISMATCH, "body.model"),
        (line("fine"), "duplicate_custom_id", DUPLICATE, "custom_id"),
    ],
)
def test_a_bad_line_is_named(bad, code, message, param):
    (error,) = checked(line("fine"), bad, line("after")).errors
    assert (error.code, error.message, error.param, error.line) == (code, message, param, 2)


def test_a_response_in_the_background_would_have_no_answer():
    """What is queued at once is not what it will be."""
    asked = {"model": "m", "input": "hi", "background": True}
    (error,) = checked(line(url="/v1/responses", body=asked), endpoint="/v1/responses").errors
    assert (error.code, error.param, error.line) == ("unsupported_value", "body.background", 1)
    assert not checked(line(url="/v1/responses", body=asked | {"background": False}), endpoint="/v1/responses").errors


def test_a_response_may_do_without_input():
    for more in ({"instructions": "Say hello."}, {"previous_response_id": "resp_a"}):
        asked = line(url="/v1/responses", body={"model": "m", **more})
        assert checked(asked, endpoint="/v1/responses").errors == []
    (error,) = checked(line(url="/v1/responses", body={"input": "hi"}), endpoint="/v1/responses").errors
    assert error.param == "body.model"


def test_every_bad_line_is_named_up_to_a_limit(monkeypatch):
    assert [e.line for e in checked("{", line("a"), "{").errors] == [1, 3]
    monkeypatch.setattr(batch_input, "MAX_ERRORS", 2)
    assert [e.line for e in checked("{", "{", "{").errors] == [1, 2]


def test_half_a_surrogate_pair_does_not_break_the_error():
    (error,) = checked(line(body={"model": "\ud800", "messages": []})).errors
    assert error.code == "model_not_found"
    assert "\\ud800" in error.message


def test_an_empty_input():
    (error,) = checked("", "  ").errors
    assert (error.code, error.line) == ("empty_file", None)


def test_too_many_requests(monkeypatch):
    monkeypatch.setattr(batch_input, "MAX_REQUESTS", 2)
    assert checked(line("a"), line("b")).errors == []
    (error,) = checked(line("a"), line("b"), line("c")).errors
    assert error.code == "too_many_tasks"


def test_a_line_that_is_too_long_is_refused_and_the_next_one_read(monkeypatch):
    monkeypatch.setattr(batch_input, "MAX_LINE_BYTES", 500)
    long = line("long", body={**BODY, "user": "x" * 2000})
    found = checked(line("a"), long, "{", line("b"))
    assert [(e.code, e.line) for e in found.errors] == [("invalid_request", 2), ("invalid_json_line", 3)]


@pytest.mark.parametrize(("endpoint", "needed"), [("/v1/completions", "prompt"), ("/v1/embeddings", "input")])
def test_what_each_endpoint_needs(endpoint, needed):
    (error,) = checked(line(url=endpoint, body={"model": "m"}), endpoint=endpoint).errors
    assert (error.message, error.param) == (f"{needed.capitalize()} parameter is required.", f"body.{needed}")
    assert checked(line(url=endpoint, body={"model": "m", needed: "x"}), endpoint=endpoint).errors == []
