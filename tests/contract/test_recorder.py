"""The recorder itself: what it lets pass, and what it finds wrong. An answer that it cannot read is wrong too."""

import json

import pytest

from tests.contract.recorder import EVENTS, JSON, Recorder

ENVELOPE = {"error": {"message": "m", "type": "invalid_request_error", "param": None, "code": None}}
CHOICE = {"text": "a", "index": 0, "logprobs": None, "finish_reason": None}
PIECE = {"id": "cmpl-1", "object": "text_completion", "created": 1, "model": "m", "choices": [CHOICE]}
MODELS = ("GET", "/v1/models", 200)
TEXTS = ("POST", "/v1/completions", 200)


def said(*documents):
    return "".join(f"data: {json.dumps(document)}\n\n" for document in documents) + "data: [DONE]\n\n"


def heard(request, media, body):
    """What the recorder finds wrong, and what it takes for exercised."""
    recorder = Recorder()
    recorder.record(*request, media, body.encode())
    return recorder.violations, recorder.exercised


@pytest.mark.parametrize(
    ("request_", "media", "body"),
    [
        (MODELS, JSON, json.dumps({"object": "list", "data": []})),
        (TEXTS, EVENTS, said(PIECE, {**PIECE, "usage": None})),
        (TEXTS, EVENTS, said(PIECE, ENVELOPE)),
        (("GET", "/v1/files/file-1/content", 200), "application/octet-stream", ""),
        (("HEAD", "/v1/models", 200), JSON, ""),
        (("HEAD", "/v1/nowhere", 404), JSON, ""),
        (("GET", "/v1/nowhere", 404), JSON, json.dumps(ENVELOPE)),
        (("POST", "/v1/completions", 499), "", ""),
        (("GET", "/v1/model_aliases", 200), JSON, "{}"),
    ],
)
def test_what_is_as_documented_or_not_documented_passes(request_, media, body):
    assert heard(request_, media, body)[0] == []


@pytest.mark.parametrize(
    ("request_", "media", "body", "words"),
    [
        (MODELS, JSON, "", "it is empty"),
        (MODELS, JSON, "{", "no JSON"),
        (MODELS, JSON, json.dumps({"object": "list"}), "'data' is a required property"),
        (MODELS, "text/plain", "", "it is text/plain, not application/json"),
        (MODELS, "", "", "it is of no type, not application/json"),
        (MODELS, EVENTS, said({}), "it is text/event-stream, not application/json"),
        (TEXTS, EVENTS, said(), "it is empty"),
        (TEXTS, EVENTS, said(PIECE, {**PIECE, "object": "text"}), "at 'object'"),
        (TEXTS, JSON, json.dumps(PIECE), "at 'choices/0/finish_reason'"),
        (("GET", "/v1/models/m", 404), JSON, "{}", "'error' is a required property"),
        (("GET", "/v1/models/m", 404), "text/plain", "Not Found", "it is text/plain, not application/json"),
        (("GET", "/v1/nowhere", 404), JSON, json.dumps({"detail": "Not Found"}), "'error' is a required property"),
        (("PUT", "/v1/models", 405), "", "", "it is of no type"),
        (("GET", "/v1/files/file-1/content", 404), "application/octet-stream", "", "not application/json"),
        (("GET", "/v1/model_aliases", 500), JSON, json.dumps(ENVELOPE), "status 500"),
    ],
)
def test_what_is_not_is_a_violation(request_, media, body, words):
    [violation] = heard(request_, media, body)[0]
    assert words in violation


def test_successes_of_documented_operations_are_exercised():
    assert heard(MODELS, JSON, "")[1] == {("GET", "/models")}
    assert heard(("GET", "/v1/models", 401), JSON, json.dumps(ENVELOPE))[1] == set()
    assert heard(("GET", "/v1/nowhere", 200), JSON, "")[1] == set()
