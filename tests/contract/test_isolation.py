"""Two projects: whatever one asks with the other's ids is answered as if those did not exist.

Every operation of the app's own document is walked twice, with ids of the other project and with ids of nobody: the two
answers are the same but for the id itself. An operation that is new here fails until `BODIES` has what it wants.
"""

import json
import re

import pytest

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
# Ids in bodies: the operation, the body, where the id goes, and whose.
NAMED = [
    ("POST", "/fine_tuning/jobs", {"model": objects.BASE}, "training_file", "file_id"),
    ("POST", "/fine_tuning/jobs", {"training_file": "file-x"}, "model", "model"),
    ("POST", "/responses", {"model": objects.BASE, "input": "hi"}, "previous_response_id", "response_id"),
    ("POST", "/responses", {"input": "hi"}, "model", "model"),
    ("POST", "/chat/completions", {"messages": objects.HELLO}, "model", "model"),
    ("POST", "/completions", {"prompt": "hi"}, "model", "model"),
    ("POST", "/embeddings", {"input": "hi"}, "model", "model"),
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


@pytest.fixture(scope="module")
def stranger(server):
    """Sends requests with a key of another project that may do everything."""
    made = server.http.post("/organization/projects", json={"name": "strangers"}).json()["id"]
    scopes = {"name": "all", "scopes": ["read", "tune", "infer", "admin"]}
    key = server.http.post(f"/organization/projects/{made}/api_keys", json=scopes).json()["value"]

    def send(method, path, body=None):
        headers = {"authorization": f"Bearer {key}"}
        if path.endswith("/parts"):
            return server.http.request(method, path, files={"data": b"x"}, headers=headers)
        return server.http.request(method, path, json=body, headers=headers)

    return send


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
    assert (seen.status_code, unseen.status_code) == (404, 404), seen.text
    assert blurred(seen, theirs) == blurred(unseen, nobody)


@pytest.mark.parametrize(("method", "path", "body", "field", "kind"), NAMED)
def test_nor_is_it_in_bodies(theirs, stranger, method, path, body, field, kind):
    seen = stranger(method, path, {**body, field: theirs[kind]})
    unseen = stranger(method, path, {**body, field: nobodys(theirs[kind])})
    assert seen.status_code == unseen.status_code
    assert seen.status_code in {400, 404}, seen.text
    assert blurred(seen, theirs) == blurred(unseen, {kind: nobodys(theirs[kind])})


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
        for given in theirs.values():  # a cursor tells nothing either
            seen, unseen = stranger("GET", f"{path}?after={given}"), stranger("GET", f"{path}?after={nobodys(given)}")
            assert (seen.status_code, blurred(seen, theirs)) == (
                unseen.status_code,
                blurred(unseen, {"": nobodys(given)}),
            )


def test_nor_do_filters(theirs, stranger):
    given = theirs["webhook_endpoint_id"]
    seen, unseen = (stranger("GET", f"/webhook_deliveries?webhook_endpoint_id={e}") for e in (given, nobodys(given)))
    assert (seen.status_code, unseen.status_code) == (404, 404)
    assert blurred(seen, theirs) == blurred(unseen, {"": nobodys(given)})


def test_all_of_it_is_still_there(server, theirs):
    for path in ("files/{file_id}", "fine_tuning/jobs/{fine_tuning_job_id}", "models/{model}", "batches/{batch_id}"):
        assert server.http.get(filled(path, theirs)).status_code == 200


def blurred(answer, ids):
    """The answer's words without the ids that were asked for."""
    text = json.dumps(answer.json())
    for given in sorted(ids.values(), key=len, reverse=True):
        text = text.replace(given, "ID")
    return text
