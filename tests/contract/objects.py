"""One of each thing that an id can name, made on a server without its background work. Each function returns the id."""

import json

from luthier.core.evals import OutputItem
from luthier.core.ids import new_id, random_text
from luthier.core.models import TunedModel
from luthier.domain import webhooks
from luthier.store import eval_runs, models, outbox
from tests.api import test_files as files

BASE = "smollm2-135m-instruct"
HELLO = [{"role": "user", "content": "hi"}]


def file(server):
    return files.upload(server.client).id


def upload(server):
    """A begun upload of four bytes."""
    made = server.client.uploads.create(bytes=4, filename="a.jsonl", mime_type="text/jsonl", purpose="assistants")
    return made.id


def job(server):
    return server.client.fine_tuning.jobs.create(model=BASE, training_file=file(server)).id


def tuned(server):
    """A tuned model, of a job that has ended."""
    job_id = job(server)
    server.client.fine_tuning.jobs.cancel(job_id)
    name, project = f"ft:{BASE}:acme:suffix:{job_id[-8:]}", server.platform.project.id
    model = TunedModel(f"model_{job_id}", name, project, job_id, BASE, "0" * 64, f"{job_id}/adapter", 7, None)
    with server.platform.database.transaction() as connection:
        models.add(connection, model)
    return name


def alias(server):
    """A name of the project's own for a base."""
    name = f"alias-{random_text(8)}"
    for _ in range(2):
        server.http.post("/model_aliases", json={"name": name, "model": BASE})
    return name


def chat(server):
    """A stored chat."""
    return server.client.chat.completions.create(model=BASE, messages=HELLO, store=True).id


def response(server):
    return server.client.responses.create(model=BASE, input="hi").id


def background(server):
    """A response in the background."""
    return server.client.responses.create(model=BASE, input="hi", background=True).id


def batch(server):
    line = {"custom_id": "1", "method": "POST", "url": "/v1/embeddings", "body": {"model": BASE, "input": "x"}}
    made = files.upload(server.client, json.dumps(line).encode(), purpose="batch")
    created = server.client.batches.create(input_file_id=made.id, endpoint="/v1/embeddings", completion_window="24h")
    return created.id


def project(server):
    """A project of the organisation beside the server's own."""
    return server.http.post("/organization/projects", json={"name": "other"}).json()["id"]


def key(server, project_id):
    """A project's key."""
    made = server.http.post(f"/organization/projects/{project_id}/api_keys", json={"name": "k"})
    return made.json()["id"]


def admin_key(server):
    return server.http.post("/organization/admin_api_keys", json={"name": "k"}).json()["id"]


def tested(server):
    """An eval."""
    criterion = {"type": "string_check", "name": "x", "input": "{{item.x}}", "reference": "x", "operation": "eq"}
    config = {"type": "custom", "item_schema": {"type": "object"}}
    return server.http.post("/evals", json={"data_source_config": config, "testing_criteria": [criterion]}).json()["id"]


def eval_run(server, eval_id=None):
    """A run that waits."""
    rows = {"type": "file_content", "content": [{"item": {"x": "x"}}]}
    made = {"data_source": {"type": "jsonl", "source": rows}}
    return server.http.post(f"/evals/{eval_id or tested(server)}/runs", json=made).json()["id"]


def output_item(server, eval_id, run_id):
    """A row of a run that waits: graded as if somebody worked on it."""
    database = server.platform.database
    sample = {"input": [], "output": [], "finish_reason": "stop", "model": "", "error": None, "temperature": 1.0}
    usage = {"total_tokens": 0, "completion_tokens": 0, "prompt_tokens": 0, "cached_tokens": 0}
    sample |= {"top_p": 1.0, "seed": 0, "max_completion_tokens": 0, "usage": usage}
    run = eval_runs.get(database, server.platform.project.id, eval_id, run_id)
    result = {"name": "x", "score": 1.0, "passed": True, "sample": None}
    item = OutputItem(
        new_id("output_item"), run_id, eval_id, run.project_id, 1, 1, {"x": "x"}, "pass", [result], sample
    )
    assert eval_runs.record(database, run, item)
    return item.id


def delivery(server):
    """A webhook to such an endpoint, which is due."""
    made = endpoint(server)
    platform = server.platform
    items = webhooks.event_items(platform, platform.project.id, "batch.completed", {"id": "batch_x"})
    with platform.database.transaction() as connection:
        outbox.insert_items(connection, items)
    return next(item.id for item in items if item.payload["endpoint_id"] == made)


def endpoint(server):
    """A webhook endpoint at an address that nobody has."""
    made = {"name": "x", "url": "https://example.invalid/hook", "event_types": ["batch.completed"]}
    return server.http.post("/webhook_endpoints", json=made).json()["id"]
