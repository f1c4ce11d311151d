"""JSON that is well formed and cannot be sent back: half of a surrogate pair, numbers that JSON does not have."""

import json
import time

import openai
import pytest
from fastapi.routing import APIRoute

from luthier.api.app import ROUTERS
from luthier.api.json_route import JsonRoute
from luthier.core.errors import InvalidRequest, JobFailed
from luthier.data.chats import DataFile, read_examples
from luthier.store import models
from tests.api.test_files import upload

MODEL = "smollm2-135m-instruct"
USER = {"role": "user", "content": "hi"}
EVAL = (
    '{"name": %s, "data_source_config": {"type": "custom", "item_schema": {"type": "object"}}, "testing_criteria": '
    '[{"type": "string_check", "name": "a", "input": "a", "reference": "a", "operation": "eq"}]}'
)
CHAT = '{"model": %s, "messages": [{"role": "user", "content": "hi"}]}'


def post(http, path, body):
    return http.post(path, content=body.encode(), headers={"content-type": "application/json"})


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/evals", EVAL % r'"\ud83d"'),
        ("/evals", EVAL.replace('{"type": "object"}', '{"type": "object", "maximum": %s}') % ('"a"', "NaN")),
        ("/chat/completions", CHAT % r'"\ud83d"'),
        ("/chat/completions", CHAT.replace("hi", r"\udca9") % f'"{MODEL}"'),
        ("/responses", r'{"model": "smollm2-135m-instruct", "input": "\ud83d"}'),
        ("/responses", '{"model": "smollm2-135m-instruct", "input": "hi", "temperature": 1e999}'),
        ("/completions", r'{"model": "smollm2-135m-instruct", "prompt": "hi", "user": "\ud83d"}'),
        ("/embeddings", r'{"model": "smollm2-135m-instruct", "input": "\ud83d"}'),
        ("/fine_tuning/jobs", r'{"model": "smollm2-135m-instruct", "training_file": "\ud83d"}'),
        ("/fine_tuning/alpha/graders/validate", '{"grader": {"type": "python", "name": "a", "source": Infinity}}'),
        ("/uploads", r'{"filename": "\ud83d", "purpose": "batch", "bytes": 1, "mime_type": "a"}'),
        ("/batches", r'{"input_file_id": "\ud83d", "endpoint": "/v1/responses", "completion_window": "24h"}'),
        ("/model_aliases", r'{"alias": "\ud83d", "model": "a"}'),
        ("/webhook_endpoints", r'{"name": "\ud83d", "url": "https://a.example", "event_types": ["batch.failed"]}'),
        ("/organization/projects", r'{"name": "\ud83d"}'),
    ],
)
def test_what_cannot_be_sent_back_is_refused(http, path, body):
    refused = post(http, path, body)
    assert refused.status_code == 400, refused.text
    assert refused.json()["error"]["message"].startswith("We could not parse the JSON body of your request.")
    assert refused.json()["error"]["type"] == "invalid_request_error"
    for listed in ("/evals", "/fine_tuning/jobs", "/batches", "/webhook_endpoints", "/chat/completions"):
        assert http.get(listed).status_code == 200


def test_whole_pairs_pass(http):
    said = post(http, "/chat/completions", CHAT.replace("hi", r"\ud83d\udca9") % f'"{MODEL}"')
    assert said.json()["choices"][0]["message"]["content"] == "\N{PILE OF POO}"


def test_every_operation_with_a_body_reads_it_so():
    reading = [
        route for router in ROUTERS for route in router.routes if isinstance(route, APIRoute) and route.body_field
    ]
    assert len(reading) > 20
    assert [route.path for route in reading if not isinstance(route, JsonRoute)] == []


def test_no_query_of_the_database_breaks_of_it(server):
    with pytest.raises(InvalidRequest, match="cannot keep this text"):
        models.is_taken(server.platform.database, "\ud83d")


def test_a_batch_goes_on_past_such_a_line(client, http):
    bodies = [{"model": MODEL, "messages": [{**USER, "content": text}]} for text in ("hi", "\ud83d", "ho")]
    bodies.append({**bodies[0], "temperature": float("nan")})
    requests = [
        {"custom_id": custom_id, "method": "POST", "url": "/v1/chat/completions", "body": body}
        for custom_id, body in zip(["0", "1\ud83d", "2", "3"], bodies, strict=True)
    ]
    lines = map(json.dumps, requests)
    file = client.files.create(file=("in.jsonl", "\n".join(lines).encode()), purpose="batch")
    batch = client.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")
    until = time.monotonic() + 20
    while batch.status not in ("completed", "failed") and time.monotonic() < until:
        time.sleep(0.05)
        batch = client.batches.retrieve(batch.id)
    assert (batch.status, batch.request_counts.completed, batch.request_counts.failed) == ("completed", 2, 2)
    refused = [json.loads(line) for line in client.files.content(batch.error_file_id).text.splitlines()]
    assert [(line["custom_id"], line["response"]["status_code"]) for line in refused] == [
        ("1\ud83d", 400),
        ("3", 400),
    ]
    assert http.get("/batches").status_code == 200


def test_a_batch_of_a_model_that_cannot_be_is_told_its_line(client):
    lines = [
        {
            "custom_id": model,
            "method": "POST",
            "url": "/v1/chat/completions",
            "body": {"model": model, "messages": [USER]},
        }
        for model in (MODEL, "\ud83d")
    ]
    file = client.files.create(file=("in.jsonl", "\n".join(map(json.dumps, lines)).encode()), purpose="batch")
    batch = client.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")
    until = time.monotonic() + 20
    while batch.status != "failed" and time.monotonic() < until:
        time.sleep(0.05)
        batch = client.batches.retrieve(batch.id)
    assert [(error.line, error.code) for error in batch.errors.data] == [(2, "invalid_value")]


@pytest.mark.parametrize("bad", [r'"\ud83d"', r'"\udca9\ud83d"', "NaN"])
def test_a_training_line_is_named(client, tmp_path, bad):
    good = json.dumps({"messages": [USER, {"role": "assistant", "content": "ho"}]})
    content = (good + "\n" + good.replace('"ho"', bad)).encode()
    with pytest.raises(openai.BadRequestError, match="Line 2"):
        upload(client, content)
    path = tmp_path / "data.jsonl"
    path.write_bytes(content)
    with pytest.raises(JobFailed, match="Example 2"):
        list(read_examples(DataFile(path, "training", "file-abc"), "supervised"))
