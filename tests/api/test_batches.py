import json
import time

import openai
import pytest

from luthier.domain import batches
from luthier.domain.batch_input import ENDPOINTS
from luthier.store.schema import batches as rows
from tests.conftest import serving
from tests.contract.recorder import DOCUMENT
from tests.patience import PATIENCE_S

CHAT = "/v1/chat/completions"
MODEL = "smollm2-135m-instruct"


def request(custom_id, content="hi", **changes):
    body = {"model": MODEL, "messages": [{"role": "user", "content": content}], **changes}
    return {"custom_id": custom_id, "method": "POST", "url": CHAT, "body": body}


def upload(client, *requests):
    content = "\n".join(json.dumps(request) for request in requests)
    return client.files.create(file=("in.jsonl", content.encode()), purpose="batch").id


def create(client, file_id, **changes):
    wanted = {"endpoint": CHAT, "completion_window": "24h", "input_file_id": file_id, **changes}
    return client.batches.create(**wanted)


def finished(client, batch_id):
    under_way = {"validating", "in_progress", "finalizing", "cancelling"}
    end = time.monotonic() + PATIENCE_S
    while (batch := client.batches.retrieve(batch_id)).status in under_way:
        assert time.monotonic() < end, batch
        time.sleep(0.05)
    return batch


def results(client, file_id):
    return [json.loads(line) for line in client.files.content(file_id).text.splitlines()]


def test_a_new_batch(client):
    batch = create(client, "file-none", metadata={"customer_id": "user_123456789"})
    assert batch.id.startswith("batch_")
    assert (batch.object, batch.status, batch.endpoint) == ("batch", "validating", CHAT)
    assert batch.metadata == {"customer_id": "user_123456789"}
    assert batch.expires_at == batch.created_at + 86_400
    assert (batch.request_counts.total, batch.usage.total_tokens) == (0, 0)
    assert "model" not in batch.to_dict()


def test_a_file_that_is_not_there_fails_the_batch(server):
    batch = finished(server.client, create(server.client, "file-none").id)
    (error,) = batch.errors.data
    organization = server.platform.project.organization_id
    assert error.message == f"Cannot find file file-none, or organization {organization} does not have access to it."
    assert (batch.status, error.code, error.param, error.line) == ("failed", "invalid_request", "file_id", None)
    assert batch.failed_at is not None
    assert batch.completed_at is None


def test_bad_lines_are_named(client):
    lines = [{k: v for k, v in request("a").items() if k != gone} for gone in ("custom_id", "method", "url", "body")]
    batch = finished(client, create(client, upload(client, *lines)).id)
    assert [(e.code, e.param, e.line) for e in batch.errors.data] == [
        ("missing_required_parameter", "custom_id", 1),
        ("missing_required_parameter", "method", 2),
        ("missing_required_parameter", "url", 3),
        ("missing_required_parameter", "body", 4),
    ]


def test_a_line_that_is_no_json_passes_the_upload_and_fails_the_batch(client):
    content = json.dumps(request("valid")).encode() + b"\n{invalid json here"
    file = client.files.create(file=("in.jsonl", content), purpose="batch")
    (error,) = finished(client, create(client, file.id).id).errors.data
    assert (error.code, error.line, error.message) == (
        "invalid_json_line",
        2,
        "This line is not parseable as valid JSON.",
    )


@pytest.mark.parametrize("content", [b"", b"{malformed json"])
def test_a_file_without_any_request_is_refused_when_it_is_uploaded(client, content):
    with pytest.raises(openai.BadRequestError, match="JSONL format"):
        client.files.create(file=("in.jsonl", content), purpose="batch")


def test_what_the_server_answers_a_batch_may_ask(server):
    operations = server.app.openapi()["paths"]
    openais = DOCUMENT["components"]["schemas"]["CreateBatchRequest"]["properties"]["endpoint"]["enum"]
    answered = {path for path in openais if "post" in operations.get(path, {})}
    assert set(ENDPOINTS) == answered, "name the new endpoint in core/batches.py and domain/batch_input.py"


@pytest.mark.parametrize(
    ("changes", "message", "param", "code"),
    [
        (
            {"endpoint": "/v1/invalid/endpoint"},
            "Invalid value: '/v1/invalid/endpoint'. Supported values are: '/v1/chat/completions', '/v1/completions', "
            "'/v1/embeddings' and '/v1/responses'.",
            "endpoint",
            "invalid_value",
        ),
        ({"completion_window": "48h"}, "Invalid value: '48h'. Supported values are: '24h'.", None, "invalid_value"),
        (
            {"metadata": {"tags": ["a", "b"]}},
            "Invalid type for 'metadata.tags': expected a string, but got an array instead.",
            "metadata.tags",
            "invalid_type",
        ),
        ({"extra_body": {"priority": 1}}, "Unknown parameter: 'priority'.", "priority", "unknown_parameter"),
        (
            {"output_expires_after": {"anchor": "created_at", "seconds": 60}},
            "Invalid 'output_expires_after.seconds': integer below minimum value. Expected a value >= 3600, but got 60 "
            "instead.",
            "output_expires_after.seconds",
            "integer_below_min_value",
        ),
    ],
)
def test_what_is_refused(client, changes, message, param, code):
    with pytest.raises(openai.BadRequestError) as refused:
        create(client, "file-none", **changes)
    assert (refused.value.body["message"], refused.value.code) == (message, code)
    assert refused.value.param == (param or "completion_window")


def test_lists_are_newest_first_and_paged(client):
    made = [create(client, "file-none").id for _ in range(3)]
    page = client.batches.list(limit=2)
    assert [batch.id for batch in page.data] == made[:0:-1]
    assert page.has_more
    assert page.get_next_page().data[0].id == made[0]


def test_batches_that_are_not_there(client):
    for call in (client.batches.retrieve, client.batches.cancel):
        with pytest.raises(openai.NotFoundError, match="No batch found with id 'batch_none'"):
            call("batch_none")


@pytest.mark.parametrize("status", ["completed", "failed", "expired", "finalizing"])
def test_what_has_ended_is_not_cancelled(idle, status):
    made = create(idle.client, "file-none")
    stand(idle, made.id, status)
    with pytest.raises(openai.ConflictError) as refused:
        idle.client.batches.cancel(made.id)
    assert refused.value.body["message"] == f"Cannot cancel a batch with status '{status}'."
    assert (refused.value.code, refused.value.param) == (None, None)


@pytest.mark.parametrize("status", ["cancelling", "cancelled"])
def test_what_is_cancelled_may_be_cancelled_again(idle, status):
    made = create(idle.client, "file-none")
    assert idle.client.batches.cancel(made.id).status == "cancelling"
    stand(idle, made.id, status)
    assert idle.client.batches.cancel(made.id).status == status


@pytest.fixture(scope="module")
def idle(tmp_path_factory):
    """A server that runs no batches."""
    with serving(tmp_path_factory.mktemp("idle"), background=False) as running:
        yield running


def stand(server, batch_id, status):
    with server.platform.database.transaction() as connection:
        connection.execute(rows.update().where(rows.c.id == batch_id).values(status=status))


def test_chats_are_answered_as_a_client_would_be(client):
    asked = {f"request-{n}": f"word {n}" for n in range(20)}
    lines = [request(name, text) for name, text in asked.items()]
    lines += [request("too-hot", temperature=3), request("odd", oddity=1), request("kept", "keep me", store=True)]
    batch = finished(client, create(client, upload(client, *lines), metadata={"k": "v"}).id)
    assert (batch.status, batch.errors, batch.model) == ("completed", None, MODEL)
    assert batch.created_at <= batch.in_progress_at <= batch.finalizing_at <= batch.completed_at <= batch.expires_at
    counts = batch.request_counts
    assert (counts.total, counts.completed, counts.failed) == (23, 21, 2)
    answers = {r["custom_id"]: r["response"] for r in results(client, batch.output_file_id)}
    said = {name: answer["body"]["choices"][0]["message"]["content"] for name, answer in answers.items()}
    assert said == {**asked, "kept": "keep me"}
    assert all(answer["status_code"] == 200 and answer["request_id"].startswith("req_") for answer in answers.values())
    assert answers["kept"]["body"]["id"] in [chat.id for chat in client.chat.completions.list()]
    refused = {r["custom_id"]: r["response"] for r in results(client, batch.error_file_id)}
    assert {name: (r["status_code"], r["body"]["error"]["param"]) for name, r in refused.items()} == {
        "too-hot": (400, "temperature"),
        "odd": (400, "oddity"),
    }
    spent = [answer["body"]["usage"] for answer in answers.values()]
    assert batch.usage.input_tokens == sum(usage["prompt_tokens"] for usage in spent) > 0
    assert batch.usage.output_tokens == sum(usage["completion_tokens"] for usage in spent) > 0
    assert batch.usage.total_tokens == batch.usage.input_tokens + batch.usage.output_tokens


def test_output_files_are_files(client):
    expiry = {"anchor": "created_at", "seconds": 7200}
    batch = finished(client, create(client, upload(client, request("a")), output_expires_after=expiry).id)
    file = client.files.retrieve(batch.output_file_id)
    assert (file.purpose, file.filename) == ("batch_output", f"{batch.id}_output.jsonl")
    assert file.expires_at == file.created_at + 7200
    assert batch.error_file_id is None


@pytest.mark.parametrize(
    ("endpoint", "body", "answer"),
    [
        ("/v1/completions", {"prompt": "once upon"}, lambda body: body["choices"][0]["text"] == "once upon"),
        ("/v1/embeddings", {"input": ["one", "two"]}, lambda body: len(body["data"]) == 2),
        ("/v1/responses", {"instructions": "Say hello."}, lambda body: body["status"] == "completed"),
    ],
)
def test_other_endpoints(client, endpoint, body, answer):
    line = {"custom_id": "a", "method": "POST", "url": endpoint, "body": {"model": MODEL, **body}}
    batch = finished(client, create(client, upload(client, line), endpoint=endpoint).id)
    (result,) = results(client, batch.output_file_id)
    assert answer(result["response"]["body"])


def test_requests_of_a_batch_do_not_count_against_the_rate(tmp_path):
    with serving(tmp_path, requests_per_minute=10) as server:
        made = create(server.client, upload(server.client, *(request(f"c{n}") for n in range(30))))
        end = time.monotonic() + 100  # at 10 a minute the last 20 would take 120
        while batches.get(server.platform.database, server.platform.project.id, made.id).status != "completed":
            assert time.monotonic() < end
            time.sleep(0.05)
        assert server.client.batches.retrieve(made.id).request_counts.completed == 30
