"""Two projects: whatever one asks with the other's ids is answered as if those did not exist.

Every operation of the app's own document is walked twice, with ids of the other project and with ids of nobody: the two
answers are the same but for the id itself, and so is what the database is asked on the way: whoever measures the time
learns nothing. An operation that is new here fails until `BODIES` has what it wants.
"""

import inspect
import json
import re
from dataclasses import replace

import httpx2
import openai
import pytest
from sqlalchemy import Engine, event

from tests.conftest import serving
from tests.contract import objects
from tests.contract.fuzz import MAKERS
from tools.compatibility import document

# What an operation needs beside its path to get as far as looking for the object.
BODIES = {
    "updateEval": {"name": "mine now"},
    "createEvalRun": {"data_source": {"type": "jsonl", "source": {"type": "file_content", "content": [{"item": {}}]}}},
    "updateChatCompletion": {"metadata": {}},
    "completeUpload": {"part_ids": ["part_x"]},
    "updateWebhookEndpoint": {"name": "mine now"},
    "testWebhookEndpoint": {"event_type": "batch.completed"},
    "createFineTuningCheckpointPermission": {"project_ids": ["proj_x"]},
}


def job(**more):
    return {"model": objects.BASE, "training_file": "file-x", **more}


def judge(model):
    """A grader that asks a model."""
    asked = [{"role": "user", "content": "good?"}]
    return {"grader": {"type": "score_model", "name": "x", "model": model, "input": asked}, "model_sample": "hi"}


def lines(source):
    return {"data_source": {"type": "jsonl", "source": source}}


def asked(model):
    template = {"type": "template", "template": objects.HELLO}
    source = {"type": "file_content", "content": [{"item": {"x": "x"}}]}
    return {"data_source": {"type": "completions", "source": source, "model": model, "input_messages": template}}


# Ids in bodies: the operation, the body with an id in it, and whose. `{…}` in a path is an id of the asker's own.
NAMED = [
    ("/fine_tuning/jobs", lambda given: job(training_file=given), "file_id"),
    ("/fine_tuning/jobs", lambda given, file_id: job(training_file=file_id, validation_file=given), "file_id"),
    ("/fine_tuning/jobs", lambda given, file_id: job(training_file=file_id, model=given), "model"),
    ("/responses", lambda given: {"model": objects.BASE, "input": "hi", "previous_response_id": given}, "response_id"),
    ("/responses", lambda given: {"model": given, "input": "hi"}, "model"),
    ("/responses/input_tokens", lambda given: {"model": given, "input": "hi"}, "model"),
    (
        "/responses/input_tokens",
        lambda given: {"model": objects.BASE, "input": "hi", "previous_response_id": given},
        "response_id",
    ),
    ("/chat/completions", lambda given: {"model": given, "messages": objects.HELLO}, "model"),
    ("/completions", lambda given: {"model": given, "prompt": "hi"}, "model"),
    ("/embeddings", lambda given: {"model": given, "input": "hi"}, "model"),
    ("/model_aliases", lambda given: {"name": "mine", "model": given}, "model"),
    ("/fine_tuning/alpha/graders/run", judge, "model"),
    ("/evals/{eval_id}/runs", lambda given: lines({"type": "file_id", "id": given}), "file_id"),
    ("/evals/{eval_id}/runs", asked, "model"),
]
# Accepted whosever the file is, for OpenAI's batches fail later.
LATER = [
    (
        "/batches",
        lambda given: {"input_file_id": given, "endpoint": "/v1/embeddings", "completion_window": "24h"},
        "file_id",
    )
]
# The organisation's own objects are every administrator's; a key without `admin` gets no further than a 403.
ORGANISATION = "/v1/organization/"


def operations():
    """Method, path template and id of every operation of a project."""
    for path, item in document()["paths"].items():
        for method, operation in item.items():
            if path.startswith("/v1/") and not path.startswith(ORGANISATION):
                yield pytest.param(
                    method.upper(), path.removeprefix("/v1"), operation["operationId"], id=f"{method} {path}"
                )


def cases(*, with_ids):
    return [case for case in operations() if ("{" in case.values[1]) == with_ids]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("data"), background=False) as running:
        yield running


@pytest.fixture(scope="module")
def theirs(server):
    """An id of each kind in the first project."""
    ids = {name: make(server) for name, make in MAKERS.items()}
    granted = server.client.fine_tuning.checkpoints.permissions.create(
        ids["checkpoint"], project_ids=[server.platform.project.id]
    )
    ids["run_id"] = objects.eval_run(server, ids["eval_id"])
    item = objects.output_item(server, ids["eval_id"], ids["run_id"])
    return ids | {"permission_id": granted.data[0].id, "output_item_id": item}


def key_of(server, name):
    """A key of another project, for everything."""
    made = server.http.post("/organization/projects", json={"name": name}).json()["id"]
    scopes = {"name": "all", "scopes": ["read", "tune", "infer", "admin"]}
    return server.http.post(f"/organization/projects/{made}/api_keys", json=scopes).json()["value"]


@pytest.fixture(scope="module")
def statements():
    """What the database was asked, but for what is noted at its own time: keys' use, and usage."""
    found = []

    def note(connection, cursor, statement, *_):
        if "api_keys" not in statement and not statement.startswith(("BEGIN", "INSERT INTO usage")):
            found.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    yield found
    event.remove(Engine, "before_cursor_execute", note)


def sender(server, key, statements):
    """Sends requests with a key; the answers' `extensions` have what the database was asked."""

    def send(method, path, body=None):
        headers = {"authorization": f"Bearer {key}"}
        given = {"files": {"data": b"x"}} if path.endswith("/parts") else {"json": body}
        statements.clear()
        answer = server.http.request(method, path, headers=headers, **given)
        answer.extensions["statements"] = [*statements]
        return answer

    return send


@pytest.fixture(scope="module")
def stranger(server, statements):
    """Of a project that has nothing."""
    return sender(server, key_of(server, "strangers"), statements)


@pytest.fixture(scope="module")
def key(server):
    return key_of(server, "owners")


@pytest.fixture(scope="module")
def owner(server, key, statements):
    """Of a project that has `mine`."""
    return sender(server, key, statements)


@pytest.fixture(scope="module")
def mine(server, key):
    """Things of a third project."""
    client = openai.OpenAI(base_url=server.url, api_key=key, max_retries=0)
    http = httpx2.Client(base_url=server.url, headers={"authorization": f"Bearer {key}"})
    with client, http:
        own = replace(server, client=client, http=http)
        kinds = ("file_id", "upload_id", "fine_tuning_job_id", "completion_id", "response_id", "eval_id")
        ids = {name: MAKERS[name](own) for name in kinds}
        return ids | {"run_id": objects.eval_run(own, ids["eval_id"])}


def nobodys(name):
    """An id of the same form that nobody has."""
    return re.sub(r"[0-9A-Za-z]{8}$", "00000000", name)


def filled(path, ids):
    return re.sub(r"{(\w+)(?::path)?}", lambda found: ids[found[1]], path)


@pytest.mark.parametrize(("method", "path", "operation"), cases(with_ids=True))
def test_what_another_project_has_is_not_there(server, theirs, stranger, method, path, operation):
    nobody = {name: nobodys(given) for name, given in theirs.items()}
    body = BODIES.get(operation)
    seen = stranger(method, filled(path, theirs), body)
    unseen = stranger(method, filled(path, nobody), body)
    assert_alike(seen, theirs, unseen, nobody, {404})


@pytest.mark.parametrize(
    ("method", "path", "operation"), [case for case in cases(with_ids=True) if case.values[1].count("{") > 1]
)
def test_nor_is_it_below_ones_own(server, theirs, mine, owner, method, path, operation):
    """Another's run in an eval of one's own, and the like."""
    for name in re.findall(r"{(\w+)", path)[1:]:
        given, nobody = theirs[name], nobodys(theirs[name])
        place = {"checkpoint": "ft:mine:acme::00000000"} | mine
        seen, unseen = (owner(method, filled(path, theirs | place | {name: i})) for i in (given, nobody))
        assert_alike(seen, theirs, unseen, {name: nobody}, {404})


@pytest.mark.parametrize(("path", "body", "kind"), NAMED)
def test_nor_is_it_in_bodies(theirs, mine, owner, path, body, kind):
    own = {name: mine[name] for name in inspect.signature(body).parameters if name in mine}
    given, nobody = theirs[kind], nobodys(theirs[kind])
    seen, unseen = (owner("POST", filled(path, mine), body(i, **own)) for i in (given, nobody))
    assert_alike(seen, theirs, unseen, {kind: nobody}, {200} if "graders" in path else {400, 404})


@pytest.mark.parametrize(("path", "body", "kind"), LATER)
def test_nor_is_it_where_it_is_looked_for_later(theirs, owner, path, body, kind):
    given, nobody = theirs[kind], nobodys(theirs[kind])
    seen, unseen = (owner("POST", path, body(i)) for i in (given, nobody))
    made = {"mine": seen.json()["id"]}, {"mine": unseen.json()["id"]}
    assert_alike(seen, theirs | made[0], unseen, {kind: nobody} | made[1], {200})


@pytest.mark.parametrize("kind", ["name", "model"])
def test_a_name_that_another_project_has_is_free(theirs, owner, kind):
    made = ({"name": name, "model": objects.BASE} for name in (theirs[kind], "fresh-name"))
    taken, fresh = (owner("POST", "/model_aliases", body) for body in made)
    assert_alike(taken, theirs, fresh, {"name": "fresh-name"}, {200})


@pytest.mark.parametrize(
    ("method", "path", "operation"), [case for case in cases(with_ids=False) if case.values[0] == "GET"]
)
def test_lists_show_nothing_of_it(server, theirs, stranger, method, path, operation):
    listed = stranger("GET", path)
    assert listed.status_code == 200, listed.text
    assert server.http.get(path).json()["data"], "the first project has nothing to hide here"
    assert not [given for given in theirs.values() if given in listed.text]
    if operation not in {"listModels", "listWebhookEventTypes"}:
        assert listed.json()["data"] == []
        assert not listed.json().get("has_more")
        assert_cursors_tell_nothing(stranger, path, theirs)


@pytest.mark.parametrize(
    "path",
    [
        "/fine_tuning/jobs/{fine_tuning_job_id}/events",
        "/fine_tuning/jobs/{fine_tuning_job_id}/checkpoints",
        "/chat/completions/{completion_id}/messages",
        "/responses/{response_id}/input_items",
        "/evals/{eval_id}/runs",
        "/evals/{eval_id}/runs/{run_id}/output_items",
    ],
)
def test_nor_do_lists_below_ones_own(theirs, mine, owner, path):
    assert_cursors_tell_nothing(owner, filled(path, mine), theirs)


def assert_cursors_tell_nothing(stranger, path, theirs):
    for given in theirs.values():
        seen, unseen = (stranger("GET", f"{path}?after={i}") for i in (given, nobodys(given)))
        assert_alike(seen, theirs, unseen, {"": nobodys(given)}, {200, 400, 404})


@pytest.mark.parametrize(
    ("path", "name", "kind"),
    [("/webhook_deliveries", "webhook_endpoint_id", "webhook_endpoint_id"), ("/chat/completions", "model", "model")],
)
def test_nor_do_filters(theirs, stranger, path, name, kind):
    given = theirs[kind]
    seen, unseen = (stranger("GET", f"{path}?{name}={i}") for i in (given, nobodys(given)))
    assert_alike(seen, theirs, unseen, {"": nobodys(given)}, {200, 404})


def test_all_of_it_is_still_there(server, theirs):
    for path in ("files/{file_id}", "fine_tuning/jobs/{fine_tuning_job_id}", "models/{model}", "batches/{batch_id}"):
        assert server.http.get(filled(path, theirs)).status_code == 200


def assert_alike(seen, theirs, unseen, nobody, statuses):
    """The two answers say the same, and the database was asked the same."""
    assert seen.status_code == unseen.status_code
    assert seen.status_code in statuses, seen.text
    assert blurred(seen, theirs) == blurred(unseen, nobody)
    assert seen.extensions["statements"] == unseen.extensions["statements"]


def blurred(answer, ids):
    """The answer's words without the ids that were asked for."""
    text = re.sub(r'"(created_at|execution_time)": [\d.]+', "", json.dumps(answer.json()))
    for given in sorted(ids.values(), key=len, reverse=True):
        text = text.replace(given, "ID")
    return text
